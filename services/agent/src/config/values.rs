//! Values of flags that have a form of their own.

use std::ffi::OsString;

/// What a restart may change (`--reconfiguration_policy`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReconfigurationPolicy {
    Equal,
    Additive,
    Any,
}

impl ReconfigurationPolicy {
    /// As the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Additive => "additive",
            Self::Any => "any",
        }
    }
}

/// What becomes of the tasks of the agent before (`--recover`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Recover {
    Reconnect,
    Cleanup,
}

impl Recover {
    /// As the flag has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Reconnect => "reconnect",
            Self::Cleanup => "cleanup",
        }
    }
}

/// Flags that are on or off.
pub(super) const SWITCHES: [&str; 11] = [
    "authenticate_http_executors",
    "cgroups_enable_cfs",
    "cgroups_limit_swap",
    "disallow_sharing_agent_ipc_namespace",
    "disallow_sharing_agent_pid_namespace",
    "docker_kill_orphans",
    "enforce_container_disk_quota",
    "gc_non_executor_container_sandboxes",
    "hostname_lookup",
    "strict",
    "switch_user",
];

/// Arguments in which `--no-<flag>`, as Mesos has it, is written as `--<flag>=false`.
pub fn mesos_forms(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let form = |argument: OsString| {
        let off = argument.to_str().and_then(|text| text.strip_prefix("--no-"));
        match off.filter(|flag| SWITCHES.contains(flag) || super::foreign::is_switch(flag)) {
            Some(flag) => format!("--{flag}=false").into(),
            None => argument,
        }
    };
    arguments.map(form).collect()
}

pub(super) const MB: u64 = 1024 * 1024;
pub(super) const GB: u64 = 1024 * MB;

/// Parses a size as Mesos writes it: a number and `B`, `KB`, `MB`, `GB` or `TB`, each 1024 times the one before.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| format!("'{text}' does not begin with a whole number"))?;
    let factor = match unit.trim() {
        "B" | "" => 1,
        "KB" => 1024,
        "MB" => MB,
        "GB" => GB,
        "TB" => 1024 * GB,
        other => return Err(format!("unknown unit '{other}' in '{text}': use B, KB, MB, GB or TB")),
    };
    number.checked_mul(factor).ok_or_else(|| format!("'{text}' is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!((parse_bytes("2GB"), parse_bytes("10B"), parse_bytes("0")), (Ok(2 * GB), Ok(10), Ok(0)));
        assert!(
            parse_bytes("1.5GB").is_err()
                && parse_bytes("1PB").is_err()
                && parse_bytes("99999999999TB").is_err()
        );
    }
}

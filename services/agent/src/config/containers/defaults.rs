//! Flags about containers that do not ask for anything themselves, and about what none may ask for.

use std::path::{Path, PathBuf};

use clap::Args;
use meshos_proto::{json::from_json, mesos::v1 as pb};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    Error,
    config::values::parse_bytes,
    containerizer::{
        container::DnsSetup,
        oci::seccomp,
        runtimes::defaults::{ByNetwork, Defaults, DnsDefaults},
    },
};

/// What containers get unasked. JSON stands in the flag, or in a file that it names (`/path` or `file:///path`).
#[derive(Args, Clone, Debug, Default)]
pub struct DefaultsConfig {
    /// The `ContainerInfo` of tasks and executors that have none, as JSON.
    #[arg(long = "default_container_info", env = "MESOS_DEFAULT_CONTAINER_INFO", value_name = "JSON")]
    pub default_container_info: Option<String>,
    /// Name servers by network: `{"mesos":[{"network_mode":"CNI","network_name":"n","dns":{"nameservers":["10.0.0.1"]}}],
    /// "docker":[{"network_mode":"BRIDGE","dns":{…}},{"network_mode":"USER","network_name":"n","dns":{…}}]}`; without a
    /// name: for all others.
    #[arg(long = "default_container_dns", env = "MESOS_DEFAULT_CONTAINER_DNS", value_name = "JSON")]
    pub default_container_dns: Option<String>,
    /// Size of a container's own `/dev/shm` where its task does not say; needs `--isolation=namespaces/ipc`.
    #[arg(long = "default_container_shm_size", env = "MESOS_DEFAULT_CONTAINER_SHM_SIZE", value_parser = parse_bytes, value_name = "BYTES")]
    pub default_container_shm_size: Option<u64>,
    /// Refuse containers that ask to share the machine's IPC.
    #[arg(long = "disallow_sharing_agent_ipc_namespace", env = "MESOS_DISALLOW_SHARING_AGENT_IPC_NAMESPACE", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub disallow_sharing_agent_ipc_namespace: bool,
    /// Refuse containers that ask to see the machine's processes.
    #[arg(long = "disallow_sharing_agent_pid_namespace", env = "MESOS_DISALLOW_SHARING_AGENT_PID_NAMESPACE", default_value_t = false, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub disallow_sharing_agent_pid_namespace: bool,
    /// Capabilities of containers whose task does not say, `{"capabilities":["NET_RAW"]}`; needs
    /// `--isolation=linux/capabilities`.
    #[arg(long = "effective_capabilities", env = "MESOS_EFFECTIVE_CAPABILITIES", value_name = "JSON")]
    pub effective_capabilities: Option<String>,
    /// What a container may ever have; tasks may not ask for more. Needs `--isolation=linux/capabilities`.
    #[arg(long = "bounding_capabilities", env = "MESOS_BOUNDING_CAPABILITIES", value_name = "JSON")]
    pub bounding_capabilities: Option<String>,
    /// Seccomp profiles in the form of Docker's, for tasks that name one; needs `--isolation=linux/seccomp`.
    #[arg(long = "seccomp_config_dir", env = "MESOS_SECCOMP_CONFIG_DIR", value_name = "DIR")]
    pub seccomp_config_dir: Option<PathBuf>,
    /// The profile, in that directory, of containers and processes whose task names none.
    #[arg(long = "seccomp_profile_name", env = "MESOS_SECCOMP_PROFILE_NAME", value_name = "FILE")]
    pub seccomp_profile_name: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Dns {
    #[serde(default)]
    mesos: Vec<OfNetwork>,
    #[serde(default)]
    docker: Vec<OfNetwork>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OfNetwork {
    network_mode: String,
    network_name: Option<String>,
    dns: DnsSetup,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Capabilities {
    #[serde(default)]
    capabilities: Vec<String>,
}

impl DefaultsConfig {
    /// The flags as `/flags` shows them.
    pub(in crate::config) fn flags(&self) -> Vec<(&'static str, String)> {
        let mut flags = vec![
            ("disallow_sharing_agent_ipc_namespace", self.disallow_sharing_agent_ipc_namespace.to_string()),
            ("disallow_sharing_agent_pid_namespace", self.disallow_sharing_agent_pid_namespace.to_string()),
        ];
        let optional = [
            ("bounding_capabilities", self.bounding_capabilities.clone()),
            ("default_container_dns", self.default_container_dns.clone()),
            ("default_container_info", self.default_container_info.clone()),
            ("default_container_shm_size", self.default_container_shm_size.map(|size| format!("{size}B"))),
            ("effective_capabilities", self.effective_capabilities.clone()),
            ("seccomp_config_dir", shown(self.seccomp_config_dir.as_deref())),
            ("seccomp_profile_name", shown(self.seccomp_profile_name.as_deref())),
        ];
        flags.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        flags
    }

    /// What the flags mean.
    ///
    /// # Errors
    /// JSON that is none, or says what cannot be.
    pub(in crate::config) fn read(&self) -> Result<Defaults, Error> {
        Ok(Defaults {
            container: flag("default_container_info", self.default_container_info.as_deref(), container)?,
            dns: flag("default_container_dns", self.default_container_dns.as_deref(), dns)?
                .unwrap_or_default(),
            shm_size: self.default_container_shm_size,
            effective_capabilities: flag(
                "effective_capabilities",
                self.effective_capabilities.as_deref(),
                capabilities,
            )?,
            bounding_capabilities: flag(
                "bounding_capabilities",
                self.bounding_capabilities.as_deref(),
                capabilities,
            )?,
            seccomp_dir: self.seccomp_config_dir.clone(),
            seccomp_profile: self.seccomp_profile()?,
            own_pids: self.disallow_sharing_agent_pid_namespace,
            own_ipc: self.disallow_sharing_agent_ipc_namespace,
        })
    }

    /// The file that holds where tasks name none.
    fn seccomp_profile(&self) -> Result<Option<PathBuf>, Error> {
        let Some(name) = &self.seccomp_profile_name else { return Ok(None) };
        let failed = |reason| Error::Flag { flag: "seccomp_profile_name", reason };
        let dir = self.seccomp_config_dir.as_ref();
        let path = dir.ok_or_else(|| failed("it needs --seccomp_config_dir".to_owned()))?.join(name);
        seccomp::read(&path, None).map_err(failed)?;
        Ok(Some(path))
    }
}

fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

/// Reads a flag's text, or the file that it names.
fn flag<T>(
    flag: &'static str,
    text: Option<&str>,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, Error> {
    let Some(text) = text else { return Ok(None) };
    let failed = |reason| Error::Flag { flag, reason };
    let path = text.strip_prefix("file://").or_else(|| text.starts_with('/').then_some(text));
    let content =
        |path| std::fs::read_to_string(path).map_err(|error| format!("cannot read {path}: {error}"));
    let text = path.map_or_else(|| Ok(text.to_owned()), content).map_err(failed)?;
    read(&text).map(Some).map_err(failed)
}

fn json<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

fn container(text: &str) -> Result<Box<pb::ContainerInfo>, String> {
    let info: pb::ContainerInfo = from_json(&json(text)?).map_err(|error| error.to_string())?;
    match info.r#type() {
        pb::container_info::Type::Mesos => Ok(Box::new(info)),
        pb::container_info::Type::Docker => Err("its type must be MESOS".to_owned()),
    }
}

fn capabilities(text: &str) -> Result<Vec<String>, String> {
    let named = json::<Capabilities>(text)?.capabilities.into_iter().map(|name| {
        let known = pb::capability_info::Capability::from_str_name(&name)
            .filter(|known| *known != pb::capability_info::Capability::Unknown);
        known.map(|_| format!("CAP_{name}")).ok_or_else(|| format!("'{name}' is no capability"))
    });
    named.collect()
}

fn dns(text: &str) -> Result<DnsDefaults, String> {
    let read: Dns = json(text)?;
    let mut defaults = DnsDefaults::default();
    for of in read.mesos {
        of.dns.check()?;
        match of.network_mode.as_str() {
            "CNI" => add(&mut defaults.cni, of)?,
            mode => return Err(format!("the network mode '{mode}' of mesos is not CNI")),
        }
    }
    for of in read.docker {
        of.dns.check()?;
        match (of.network_mode.as_str(), &of.network_name) {
            ("USER", _) => add(&mut defaults.user, of)?,
            ("BRIDGE", None) if defaults.bridge.is_none() => defaults.bridge = Some(of.dns),
            ("BRIDGE", None) => return Err("the network mode BRIDGE is given twice".to_owned()),
            ("BRIDGE", Some(_)) => return Err("the network mode BRIDGE has no network_name".to_owned()),
            (mode, _) => {
                return Err(format!("the network mode '{mode}' of docker is neither BRIDGE nor USER"));
            }
        }
    }
    Ok(defaults)
}

fn add(networks: &mut ByNetwork, of: OfNetwork) -> Result<(), String> {
    let before = match of.network_name.clone() {
        Some(name) => networks.named.insert(name, of.dns),
        None => networks.others.replace(of.dns),
    };
    match (before, of.network_name) {
        (None, _) => Ok(()),
        (Some(_), Some(name)) => Err(format!("the network '{name}' is given twice")),
        (Some(_), None) => Err("the networks without a name are given twice".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(change: impl FnOnce(&mut DefaultsConfig)) -> Result<Defaults, String> {
        let mut flags = DefaultsConfig::default();
        change(&mut flags);
        flags.read().map_err(|error| error.to_string())
    }

    #[test]
    fn name_servers_are_those_of_the_network() {
        let text = r#"{"mesos": [{"network_mode": "CNI", "dns": {"nameservers": ["10.0.0.9"], "search": ["a.b"]}}],
            "docker": [{"network_mode": "BRIDGE", "dns": {"nameservers": ["10.0.0.1"]}},
                {"network_mode": "USER", "network_name": "n", "dns": {"nameservers": ["10.0.0.2"], "options": ["rotate"]}}]}"#;
        let dns = read(|flags| flags.default_container_dns = Some(text.to_owned())).unwrap().dns;
        let first = |dns: Option<DnsSetup>| dns.map(|dns| dns.nameservers[0].clone());
        assert_eq!(first(dns.bridge.clone()).as_deref(), Some("10.0.0.1"));
        assert_eq!((first(dns.user.of("n")).as_deref(), dns.user.of("m")), (Some("10.0.0.2"), None));
        assert_eq!(dns.cni.of("any").unwrap().resolv_conf(), "search a.b\nnameserver 10.0.0.9\n");
        let bridge = r#"{"network_mode": "BRIDGE", "dns": {}}"#;
        for bad in [
            "x".to_owned(),
            "/no/such".to_owned(),
            r#"{"docker": [{"network_mode": "HOST", "dns": {}}]}"#.to_owned(),
            r#"{"mesos": [{"network_mode": "USER", "dns": {}}]}"#.to_owned(),
            r#"{"mesos": [{"network_mode": "CNI", "dns": {"nameservers": ["a\nb"]}}]}"#.to_owned(),
            format!(r#"{{"docker": [{bridge}, {bridge}]}}"#),
        ] {
            let error = read(|flags| flags.default_container_dns = Some(bad.clone())).unwrap_err();
            assert!(error.contains("--default_container_dns"), "{bad}: {error}");
        }
    }

    #[test]
    fn capabilities_and_containers_are_read() {
        let given = read(|flags| {
            flags.bounding_capabilities = Some(r#"{"capabilities": ["NET_RAW", "CHOWN"]}"#.to_owned());
            flags.default_container_info = Some(
                r#"{"type": "MESOS", "volumes": [{"container_path": "/a", "host_path": "/b", "mode": "RO"}]}"#
                    .to_owned(),
            );
        })
        .unwrap();
        assert_eq!(given.bounding_capabilities.unwrap(), ["CAP_NET_RAW", "CAP_CHOWN"]);
        assert_eq!(given.container.unwrap().volumes[0].container_path, "/a");
        let bad =
            read(|flags| flags.effective_capabilities = Some(r#"{"capabilities": ["FLY"]}"#.to_owned()));
        assert!(bad.unwrap_err().contains("'FLY' is no capability"));
        let docker = read(|flags| flags.default_container_info = Some(r#"{"type": "DOCKER"}"#.to_owned()));
        assert!(docker.unwrap_err().contains("must be MESOS"));
    }
}

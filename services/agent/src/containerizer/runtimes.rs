//! Which kinds of containers the operator has switched on: `--containerizers`, `--isolation`, `--image_providers`.

pub mod defaults;

use std::path::PathBuf;

use defaults::Defaults;

/// What this agent may run.
#[derive(Clone, Debug, PartialEq)]
pub struct Runtimes {
    /// In the order in which they are asked: `docker`, `mesos`.
    pub containerizers: Vec<String>,
    /// As given, aliases resolved.
    pub isolators: Vec<String>,
    pub image_providers: Vec<String>,
    /// There is a directory of CNI networks.
    pub cni: bool,
    /// Where an image sees the sandbox.
    pub sandbox_directory: PathBuf,
    pub defaults: Defaults,
}

impl Default for Runtimes {
    /// Plain processes alone, as without any flag.
    fn default() -> Self {
        Self {
            containerizers: vec!["mesos".to_owned()],
            isolators: Vec::new(),
            image_providers: Vec::new(),
            cni: false,
            sandbox_directory: PathBuf::from("/mnt/mesos/sandbox"),
            defaults: Defaults::default(),
        }
    }
}

impl Runtimes {
    /// Reads `--containerizers`.
    ///
    /// # Errors
    /// Names what is not known.
    pub fn parse_containerizers(text: &str) -> Result<Vec<String>, String> {
        let names: Vec<_> = list(text).collect();
        match names.iter().find(|name| !matches!(name.as_str(), "mesos" | "docker")) {
            Some(name) => {
                Err(format!("unknown or unsupported containerizer '{name}': known are docker and mesos"))
            }
            None if names.is_empty() => {
                Err("no containerizer is named: use mesos, docker or both".to_owned())
            }
            None => Ok(names),
        }
    }

    /// Reads `--isolation`; what upstream adds by itself is added.
    #[must_use]
    pub fn parse_isolators(text: &str) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in list(text) {
            match name.as_str() {
                "process" => names.extend(["posix/cpu", "posix/mem"].map(str::to_owned)),
                "cgroups" => names.extend(["cgroups/cpu", "cgroups/mem"].map(str::to_owned)),
                "posix/disk" => names.push("disk/du".to_owned()),
                "filesystem/linux" => names.extend(
                    ["filesystem/linux", "volume/host_path", "volume/sandbox_path", "volume/image"]
                        .map(str::to_owned),
                ),
                _ => names.push(name),
            }
        }
        names
    }

    /// Whether a containerizer is on.
    #[must_use]
    pub fn has(&self, containerizer: &str) -> bool {
        self.containerizers.iter().any(|name| name == containerizer)
    }

    /// Why a task of this type cannot be run, as the agent is set up.
    ///
    /// # Errors
    /// In Mesos's words, and what to switch on.
    pub fn require_containerizer(&self, containerizer: &str, what: &str) -> Result<(), String> {
        if self.has(containerizer) {
            return Ok(());
        }
        let on = self.containerizers.join(",");
        Err(format!(
            "None of the enabled containerizers ({on}) could create a container for the provided \
             TaskInfo/ExecutorInfo message: {what} needs the {containerizer} containerizer \
             (--containerizers={on},{containerizer})"
        ))
    }

    /// Whether all of these isolators are on.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn require_isolators(&self, isolators: &[&str], what: &str) -> Result<(), String> {
        let missing: Vec<_> =
            isolators.iter().filter(|name| !self.isolators.iter().any(|on| on == *name)).copied().collect();
        match missing.is_empty() {
            true => Ok(()),
            false => Err(format!("{what} needs --isolation={} on this agent", missing.join(","))),
        }
    }

    /// Whether the operator limits the rights of all, of plain processes as well.
    #[must_use]
    pub fn confines(&self) -> bool {
        let is_on = |isolator: &str| self.isolators.iter().any(|name| name == isolator);
        let Defaults { effective_capabilities, bounding_capabilities, seccomp_profile, .. } = &self.defaults;
        let capabilities = effective_capabilities.is_some() || bounding_capabilities.is_some();
        capabilities && is_on("linux/capabilities") || seccomp_profile.is_some() && is_on("linux/seccomp")
    }

    /// Whether images are run without the Docker Engine.
    ///
    /// # Errors
    /// Names what is missing.
    pub fn require_images(&self) -> Result<(), String> {
        if !self.image_providers.iter().any(|name| name == "docker") {
            return Err("an image in a container of type MESOS needs --image_providers=docker on this agent"
                .to_owned());
        }
        let isolators = ["filesystem/linux", "docker/runtime"];
        self.require_isolators(&isolators, "an image in a container of type MESOS")
    }
}

/// The names in a list.
pub(crate) fn list(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(Runtimes::parse_containerizers("docker, mesos").unwrap(), ["docker", "mesos"]);
        assert!(Runtimes::parse_containerizers("docker,rkt").unwrap_err().contains("'rkt'"));
        assert!(Runtimes::parse_containerizers(" ,").is_err());
        let plain = Runtimes::default();
        let refused = plain.require_containerizer("docker", "a container of type DOCKER").unwrap_err();
        assert!(refused.contains("--containerizers=mesos,docker"), "{refused}");
        assert!(plain.require_images().unwrap_err().contains("--image_providers=docker"));
        let isolators = Runtimes::parse_isolators("filesystem/linux");
        let images = Runtimes { image_providers: vec!["docker".to_owned()], isolators, ..plain };
        assert!(images.require_images().unwrap_err().contains("--isolation=docker/runtime"));
        assert!(images.require_isolators(&["volume/host_path"], "a volume").is_ok());
    }
}

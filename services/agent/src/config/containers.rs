//! Flags about containers that are more than processes: who runs them, and how the Docker Engine is reached.

mod defaults;

use std::{path::PathBuf, time::Duration};

use clap::Args;
use meshos_mesh::config::parse_duration;

use crate::containerizer::runtimes::{Runtimes, list};
pub use defaults::DefaultsConfig;

/// Which containers the agent runs.
#[derive(Args, Clone, Debug)]
pub struct ContainerConfig {
    /// Who runs containers, separated by commas: `mesos` is meshos itself, `docker` the Docker Engine.
    #[arg(long, env = "MESOS_CONTAINERIZERS", default_value = "mesos", value_name = "LIST")]
    pub containerizers: String,
    /// Kinds of images that run without the Docker Engine: `docker`. Needs `--isolation=filesystem/linux,docker/runtime`.
    #[arg(long = "image_providers", env = "MESOS_IMAGE_PROVIDERS", value_name = "LIST")]
    pub image_providers: Option<String>,
    /// Where a container with an image sees its sandbox.
    #[arg(
        long = "sandbox_directory",
        env = "MESOS_SANDBOX_DIRECTORY",
        default_value = "/mnt/mesos/sandbox",
        value_name = "DIR"
    )]
    pub sandbox_directory: PathBuf,
    /// Configurations of CNI networks; absent: containers of type MESOS are in the machine's network.
    #[arg(long = "network_cni_config_dir", env = "MESOS_NETWORK_CNI_CONFIG_DIR", value_name = "DIR")]
    pub network_cni_config_dir: Option<PathBuf>,
    /// CNI plugins: directories, separated by `:`.
    #[arg(long = "network_cni_plugins_dir", env = "MESOS_NETWORK_CNI_PLUGINS_DIR", value_name = "DIRS")]
    pub network_cni_plugins_dir: Option<String>,
    /// The Docker Engine's socket; absent: `DOCKER_HOST`, or /var/run/docker.sock.
    #[arg(long = "docker_socket", env = "MESOS_DOCKER_SOCKET", value_name = "PATH")]
    pub docker_socket: Option<String>,
    /// Credentials for registries, as in `.docker/config.json`, or `file://` and the path of it. Absent:
    /// `.docker/config.json` in the agent's home.
    #[arg(long = "docker_config", env = "MESOS_DOCKER_CONFIG", value_name = "JSON")]
    pub docker_config: Option<String>,
    /// How long an ended container is kept in the Docker Engine.
    #[arg(long = "docker_remove_delay", env = "MESOS_DOCKER_REMOVE_DELAY", default_value = "6hrs", value_parser = parse_duration)]
    pub docker_remove_delay: Duration,
    /// End containers of this agent in the Docker Engine that it does not know of any more.
    #[arg(long = "docker_kill_orphans", env = "MESOS_DOCKER_KILL_ORPHANS", default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub docker_kill_orphans: bool,
    /// Between the stop signal and SIGKILL for a container whose task has no kill policy; 0: the executors' grace
    /// period.
    #[arg(long = "docker_stop_timeout", env = "MESOS_DOCKER_STOP_TIMEOUT", default_value = "0secs", value_parser = parse_duration)]
    pub docker_stop_timeout: Duration,
    #[command(flatten)]
    pub defaults: DefaultsConfig,
}

impl Default for ContainerConfig {
    /// As without any flag.
    fn default() -> Self {
        Self {
            containerizers: "mesos".to_owned(),
            image_providers: None,
            sandbox_directory: PathBuf::from("/mnt/mesos/sandbox"),
            network_cni_config_dir: None,
            network_cni_plugins_dir: None,
            docker_socket: None,
            docker_config: None,
            docker_remove_delay: Duration::from_secs(6 * 3600),
            docker_kill_orphans: true,
            docker_stop_timeout: Duration::ZERO,
            defaults: DefaultsConfig::default(),
        }
    }
}

impl ContainerConfig {
    /// What is switched on, with this `--isolation`.
    ///
    /// # Errors
    /// A containerizer that is not known.
    pub fn runtimes(&self, isolation: Option<&str>) -> Result<Runtimes, String> {
        Ok(Runtimes {
            containerizers: Runtimes::parse_containerizers(&self.containerizers)?,
            isolators: Runtimes::parse_isolators(isolation.unwrap_or_default()),
            image_providers: list(self.image_providers.as_deref().unwrap_or_default()).collect(),
            cni: self.network_cni_config_dir.is_some() && self.network_cni_plugins_dir.is_some(),
            sandbox_directory: self.sandbox_directory.clone(),
            ..Runtimes::default()
        })
    }

    /// The flags as `/flags` shows them, without secrets.
    pub(super) fn flags(&self) -> Vec<(&'static str, String)> {
        let duration = |duration: Duration| format!("{}secs", duration.as_secs_f64());
        let mut flags = vec![
            ("containerizers", self.containerizers.clone()),
            ("docker_kill_orphans", self.docker_kill_orphans.to_string()),
            ("docker_remove_delay", duration(self.docker_remove_delay)),
            ("docker_stop_timeout", duration(self.docker_stop_timeout)),
            ("sandbox_directory", self.sandbox_directory.display().to_string()),
        ];
        let optional = [
            ("docker_socket", self.docker_socket.clone()),
            ("image_providers", self.image_providers.clone()),
            (
                "network_cni_config_dir",
                self.network_cni_config_dir.as_ref().map(|dir| dir.display().to_string()),
            ),
            ("network_cni_plugins_dir", self.network_cni_plugins_dir.clone()),
        ];
        flags.extend(optional.into_iter().filter_map(|(name, value)| value.map(|value| (name, value))));
        flags.extend(self.defaults.flags());
        flags
    }
}

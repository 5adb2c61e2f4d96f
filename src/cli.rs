//! The command line.

use std::{ffi::OsStr, path::PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};
use meshos_allocator::AllocatorArgs;
use meshos_app_scheduler::MarathonArgs;
use meshos_gateway::GatewayArgs;
use meshos_lb_controller::{LbArgs, MarathonLbArgs, deploy::DeployArgs};
use meshos_mesh::{
    config::{MeshArgs, TlsArgs},
    telemetry::LogFormat,
};
use meshos_registry::RegistryArgs;

/// Runs a whole data centre as if it were one machine.
#[derive(Parser, Debug)]
#[command(name = "meshos", version, about)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// How logs are written to standard error.
    #[arg(long, env = "MESHOS_LOG_FORMAT", global = true, default_value = "text")]
    pub(crate) log_format: LogFormat,
    /// Directory that logs are written into as well; the agent shows its own as `/slave/log`, the gateway as
    /// `/master/log`.
    #[arg(long = "log_dir", env = "MESOS_LOG_DIR", global = true, value_name = "DIR")]
    pub(crate) log_dir: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// A real cluster for one machine, in one process.
    Local(LocalArgs),
    /// Who is in the cluster.
    Registry(ServiceArgs<RegistryArgs>),
    /// Who gets what: offers, frameworks, tasks.
    Allocator(ServiceArgs<AllocatorArgs>),
    /// Keeps apps running.
    AppScheduler(Box<ServiceArgs<MarathonArgs>>),
    /// Publishes apps through HAProxy.
    LbController(Box<ServiceArgs<LbArgs>>),
    /// Publishes apps of a Marathon through HAProxy, with the command line of marathon-lb.
    #[command(visible_alias = "poll")]
    Sse(Box<MarathonLbArgs>),
    /// Works with the load balancer.
    #[command(subcommand)]
    Lb(LbCommand),
    /// One node.
    Agent(Box<AgentArgs>),
    /// The HTTP APIs.
    Gateway(ServiceArgs<GatewayArgs>),
    /// Parent of an agent's tasks; agents start it themselves.
    #[command(hide = true)]
    Supervisor(SupervisorArgs),
}

impl Command {
    /// Name of the service in traces.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Local(_) => "meshos",
            Self::Registry(_) => "registry",
            Self::Allocator(_) => "allocator",
            Self::AppScheduler(_) => "app-scheduler",
            Self::LbController(_) => "lb-controller",
            Self::Sse(_) => "lb-controller",
            Self::Lb(_) => "lb",
            Self::Agent(_) => "agent",
            Self::Gateway(_) => "gateway",
            Self::Supervisor(_) => "supervisor",
        }
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum LbCommand {
    /// Replaces an app by a new version of it without a failed request (blue/green).
    Deploy(Box<DeployArgs>),
}

/// A service of the control plane that runs alone.
#[derive(Args, Debug)]
pub(crate) struct ServiceArgs<A: Args> {
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
    #[command(flatten)]
    pub(crate) service: A,
}

#[derive(Args, Debug)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    pub(crate) config: meshos_agent::Config,
    #[command(flatten)]
    pub(crate) tls: TlsArgs,
}

#[derive(Args, Debug)]
pub(crate) struct SupervisorArgs {
    /// Working directory of the agent.
    #[arg(long)]
    pub(crate) dir: PathBuf,
}

/// Further settings of the services come from their environment variables.
#[derive(Args, Clone, Debug)]
pub(crate) struct LocalArgs {
    /// Where everything durable lies.
    #[arg(long, env = "MESHOS_DATA_DIR", default_value = ".meshos", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Number of agents.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000), value_name = "N")]
    pub(crate) agents: u16,
    /// Address of the Mesos API.
    #[arg(long, default_value = "127.0.0.1:5050", value_name = "HOST:PORT")]
    pub(crate) mesos_listen: String,
    /// Address of the Marathon API.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "HOST:PORT")]
    pub(crate) marathon_listen: String,
    /// Address of the first agent's API; further agents take the next free ports.
    #[arg(long, default_value = "127.0.0.1:5051", value_name = "HOST:PORT")]
    pub(crate) agent_listen: String,
    /// Resources of an agent, e.g. `cpus:4;mem:8192`; the n-th for the n-th agent. What is not named is detected.
    #[arg(long, value_name = "RESOURCES")]
    pub(crate) resources: Vec<String>,
    /// Attributes of an agent, e.g. `rack:r1;ssd:true`; the n-th for the n-th agent.
    #[arg(long, value_name = "ATTRIBUTES")]
    pub(crate) attributes: Vec<String>,
    /// Run the load balancer's controller as well.
    #[arg(long)]
    pub(crate) lb: bool,
    /// Leave a service out. Without the app-scheduler this is a Mesos cluster only.
    #[arg(long, value_name = "SERVICE", value_parser = ["app-scheduler"])]
    pub(crate) without: Vec<String>,
    /// Leave the tasks running when the cluster stops.
    #[arg(long)]
    pub(crate) keep_tasks: bool,
    /// File that this process writes its log into.
    #[arg(skip)]
    pub(crate) log_file: Option<PathBuf>,
}

/// A service's settings as the environment alone gives them.
///
/// # Errors
/// Names the variable whose value cannot be read.
pub(crate) fn from_environment<A: Args>() -> anyhow::Result<A> {
    from_environment_and::<A>(&[])
}

/// As [`from_environment`], with arguments that go before it.
///
/// # Errors
/// As there.
pub(crate) fn from_environment_and<A: Args>(arguments: &[&OsStr]) -> anyhow::Result<A> {
    let command = A::augment_args(clap::Command::new("meshos").no_binary_name(true).disable_help_flag(true));
    let matches = command.try_get_matches_from(arguments)?;
    Ok(A::from_arg_matches(&matches)?)
}

/// All variables that some flag reads.
pub(crate) fn known_variables() -> Vec<String> {
    let cli = Cli::command();
    let arguments = cli.get_arguments().chain(cli.get_subcommands().flat_map(clap::Command::get_arguments));
    arguments.filter_map(clap::Arg::get_env).map(|name| name.to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_of_ours_has_a_variable_of_a_known_prefix() {
        for name in known_variables() {
            let ours = ["MESHOS_", "MESOS_", "MARATHON_"].iter().any(|prefix| name.starts_with(prefix));
            assert!(ours, "{name}");
        }
    }
}

//! Settings of the allocator.

use std::{collections::BTreeSet, time::Duration};

use clap::Args;
use meshos_mesh::config::parse_duration;
use meshos_proto::{
    json,
    mesos::v1::{DomainInfo, WeightInfo},
};
use meshos_types::{Milli, Quantities, RoleName, role::check_role};

use crate::{Error, service::Whitelist};

/// Settings with the names that they have in Mesos.
#[derive(Args, Clone, Debug)]
pub struct AllocatorArgs {
    /// Offers that are not answered for this long are rescinded; absent: never.
    #[arg(long = "offer_timeout", env = "MESOS_OFFER_TIMEOUT", value_parser = parse_duration, value_name = "DURATION")]
    pub offer_timeout: Option<Duration>,
    /// Declined resources are hidden from the framework for at least this long. Offers themselves are made at
    /// once, not on a timer.
    #[arg(long = "allocation_interval", env = "MESOS_ALLOCATION_INTERVAL", default_value = "1secs",
          value_parser = parse_duration, value_name = "DURATION")]
    pub allocation_interval: Duration,
    /// Completed frameworks that are remembered.
    #[arg(
        long = "max_completed_frameworks",
        env = "MESOS_MAX_COMPLETED_FRAMEWORKS",
        default_value_t = 50,
        value_name = "NUMBER"
    )]
    pub max_completed_frameworks: usize,
    /// Completed tasks that are remembered of each framework.
    #[arg(
        long = "max_completed_tasks_per_framework",
        env = "MESOS_MAX_COMPLETED_TASKS_PER_FRAMEWORK",
        default_value_t = 1000,
        value_name = "NUMBER"
    )]
    pub max_completed_tasks_per_framework: usize,
    /// Unreachable tasks that are remembered of each framework.
    #[arg(
        long = "max_unreachable_tasks_per_framework",
        env = "MESOS_MAX_UNREACHABLE_TASKS_PER_FRAMEWORK",
        default_value_t = 1000,
        value_name = "NUMBER"
    )]
    pub max_unreachable_tasks_per_framework: usize,
    /// Smallest resources worth an offer: sets of `name:quantity;…`, of which any one suffices, separated by `|`.
    #[arg(
        long = "min_allocatable_resources",
        env = "MESOS_MIN_ALLOCATABLE_RESOURCES",
        default_value = "cpus:0.01|mem:32",
        value_name = "SETS"
    )]
    pub min_allocatable_resources: String,
    /// Offer agents with GPUs only to frameworks with the capability GPU_RESOURCES.
    #[arg(long = "filter_gpu_resources", env = "MESOS_FILTER_GPU_RESOURCES", default_value_t = true,
          action = clap::ArgAction::Set, value_name = "BOOL")]
    pub filter_gpu_resources: bool,
    /// Resources that do not count towards a framework's fair share, separated by commas.
    #[arg(
        long = "fair_sharing_excluded_resource_names",
        env = "MESOS_FAIR_SHARING_EXCLUDED_RESOURCE_NAMES",
        value_delimiter = ',',
        value_name = "NAMES"
    )]
    pub fair_sharing_excluded_resource_names: Vec<String>,
    /// Whether frameworks and their tasks may run as the user root.
    #[arg(long = "root_submissions", env = "MESOS_ROOT_SUBMISSIONS", default_value_t = true,
          action = clap::ArgAction::Set, value_name = "BOOL")]
    pub root_submissions: bool,
    /// Whether each framework has metrics of its own, under `master/frameworks/<name>/<id>/`.
    #[arg(long = "publish_per_framework_metrics", env = "MESOS_PUBLISH_PER_FRAMEWORK_METRICS", default_value_t = true,
          action = clap::ArgAction::Set, value_name = "BOOL")]
    pub publish_per_framework_metrics: bool,
    /// After a change of leader, frameworks and agents have at least this long to come back.
    #[arg(long = "agent_reregister_timeout", env = "MESOS_AGENT_REREGISTER_TIMEOUT", default_value = "10mins",
          value_parser = parse_duration, value_name = "DURATION")]
    pub agent_reregister_timeout: Duration,
    /// With quotas: offers wait after a change of leader until this part of the agents is back.
    #[arg(long = "allocator_agent_recovery_factor", env = "MESOS_ALLOCATOR_AGENT_RECOVERY_FACTOR", default_value_t = 0.8,
          value_parser = parse_part, value_name = "FACTOR")]
    pub allocator_agent_recovery_factor: f64,
    /// With quotas: offers wait for that no longer than this.
    #[arg(long = "allocator_recovery_timeout", env = "MESOS_ALLOCATOR_RECOVERY_TIMEOUT", default_value = "10mins",
          value_parser = parse_duration, value_name = "DURATION")]
    pub allocator_recovery_timeout: Duration,
    /// Who is served next among roles: the one with the lowest fair share, or any by chance, as their weights have it.
    #[arg(long = "role_sorter", env = "MESOS_ROLE_SORTER", default_value = "drf", value_name = "SORTER")]
    pub role_sorter: Sorter,
    /// The same among the frameworks of a role.
    #[arg(
        long = "framework_sorter",
        env = "MESOS_FRAMEWORK_SORTER",
        default_value = "drf",
        value_name = "SORTER"
    )]
    pub framework_sorter: Sorter,
    /// Roles that frameworks may have, separated by commas; absent: any.
    #[arg(long = "roles", env = "MESOS_ROLES", value_delimiter = ',', value_name = "ROLES")]
    pub roles: Vec<String>,
    /// Weights of roles where operators have not set any yet: `role=weight`, separated by commas.
    #[arg(long = "weights", env = "MESOS_WEIGHTS", value_delimiter = ',', value_name = "WEIGHTS")]
    pub weights: Vec<String>,
    /// File with the host names of the agents that are offered, one a line; read again every 5 s. Absent: all are.
    #[arg(long = "whitelist", env = "MESOS_WHITELIST", value_name = "FILE")]
    pub whitelist: Option<String>,
    /// IP address of the Mesos API that frameworks are told in `master_info`.
    #[arg(long = "advertise_ip", env = "MESOS_ADVERTISE_IP", default_value = "127.0.0.1", value_name = "IP")]
    pub advertise_ip: std::net::Ipv4Addr,
    /// Port of the Mesos API that frameworks are told in `master_info`.
    #[arg(
        long = "advertise_port",
        env = "MESOS_ADVERTISE_PORT",
        default_value_t = 5050,
        value_name = "PORT"
    )]
    pub advertise_port: u16,
    /// Fault domain of the allocator, as JSON: `{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}`. Agents
    /// in other regions are offered only to frameworks that are aware of regions.
    #[arg(long = "domain", env = "MESOS_DOMAIN", value_name = "JSON")]
    pub domain: Option<String>,
    /// Take no agents without a fault domain.
    #[arg(long = "require_agent_domain", env = "MESOS_REQUIRE_AGENT_DOMAIN", default_value_t = false,
          action = clap::ArgAction::Set, value_name = "BOOL")]
    pub require_agent_domain: bool,
    /// Host name that frameworks are told in `master_info`; the IP address when absent.
    #[arg(long = "hostname", env = "MESOS_HOSTNAME", value_name = "NAME")]
    pub hostname: Option<String>,
}

/// Who is served next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sorter {
    Drf,
    Random,
}

/// A number from 0 to 1.
fn parse_part(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(part) if (0.0..=1.0).contains(&part) => Ok(part),
        _ => Err(format!("'{text}' is not a number from 0 to 1")),
    }
}

impl Default for AllocatorArgs {
    fn default() -> Self {
        Self {
            offer_timeout: None,
            allocation_interval: Duration::from_secs(1),
            max_completed_frameworks: 50,
            max_completed_tasks_per_framework: 1000,
            max_unreachable_tasks_per_framework: 1000,
            min_allocatable_resources: "cpus:0.01|mem:32".to_owned(),
            filter_gpu_resources: true,
            fair_sharing_excluded_resource_names: Vec::new(),
            root_submissions: true,
            publish_per_framework_metrics: true,
            agent_reregister_timeout: Duration::from_secs(600),
            allocator_agent_recovery_factor: 0.8,
            allocator_recovery_timeout: Duration::from_secs(600),
            role_sorter: Sorter::Drf,
            framework_sorter: Sorter::Drf,
            roles: Vec::new(),
            weights: Vec::new(),
            whitelist: None,
            advertise_ip: std::net::Ipv4Addr::LOCALHOST,
            advertise_port: 5050,
            hostname: None,
            domain: None,
            require_agent_domain: false,
        }
    }
}

impl AllocatorArgs {
    /// The parsed form of `--min_allocatable_resources`.
    ///
    /// # Errors
    /// [`Error::Setting`] says which part is wrong.
    pub fn min_allocatable(&self) -> Result<Vec<Quantities>, Error> {
        self.min_allocatable_resources.split('|').map(|set| self.quantities(set)).collect()
    }

    /// The parsed form of `--domain`.
    ///
    /// # Errors
    /// [`Error::Setting`] says what is wrong.
    pub fn parsed_domain(&self) -> Result<Option<DomainInfo>, Error> {
        let Some(text) = &self.domain else { return Ok(None) };
        let fault = |problem: String| Error::Setting { flag: "domain", value: text.clone(), problem };
        let value = json::parse(text.as_bytes()).map_err(|error| fault(error.to_string()))?;
        json::from_json(&value).map(Some).map_err(|error| fault(error.to_string()))
    }

    /// The parsed form of `--roles`.
    ///
    /// # Errors
    /// [`Error::Setting`] names the role that is none.
    pub fn listed_roles(&self) -> Result<BTreeSet<RoleName>, Error> {
        let parsed = self.roles.iter().map(|role| {
            let fault =
                |problem: String| Error::Setting { flag: "roles", value: self.roles.join(","), problem };
            check_role(role).map_err(|error| fault(error.to_string()))?;
            Ok(RoleName::new(role.as_str()))
        });
        parsed.collect()
    }

    /// The parsed form of `--weights`.
    ///
    /// # Errors
    /// [`Error::Setting`] says which part is wrong.
    pub fn initial_weights(&self) -> Result<Vec<WeightInfo>, Error> {
        let parsed = self.weights.iter().map(|item| {
            let fault = || Error::Setting {
                flag: "weights",
                value: self.weights.join(","),
                problem: format!("'{item}' is not 'role=weight' with a weight above 0"),
            };
            let (role, weight) = item.split_once('=').ok_or_else(fault)?;
            let weight: f64 = weight.trim().parse().map_err(|_| fault())?;
            let right = weight.is_finite() && weight > 0.0 && check_role(role).is_ok();
            right.then(|| WeightInfo { weight, role: Some(role.to_owned()) }).ok_or_else(fault)
        });
        parsed.collect()
    }

    fn quantities(&self, set: &str) -> Result<Quantities, Error> {
        let fault = |problem: String| Error::Setting {
            flag: "min_allocatable_resources",
            value: self.min_allocatable_resources.clone(),
            problem,
        };
        let mut parsed = Quantities::new();
        for item in set.split(';') {
            let Some((name, quantity)) = item.split_once(':') else {
                return Err(fault(format!("'{item}' is not 'name:quantity'")));
            };
            let quantity = quantity.trim().parse::<f64>().map_err(|error| fault(error.to_string()))?;
            let quantity = Milli::from_f64(quantity).map_err(|error| fault(error.to_string()))?;
            parsed.add_one(&name.trim().into(), quantity);
        }
        Ok(parsed)
    }
}

/// What one replica needs to start.
#[derive(Clone, Debug)]
pub struct Config {
    /// Address that the gRPC server listens on.
    pub listen: String,
    /// Address that others reach it at; the listening address when absent.
    pub advertise: Option<String>,
    /// Name of this replica.
    pub instance: String,
    /// Time to live of its leases.
    pub lease_ttl: Duration,
    pub args: AllocatorArgs,
}

impl Config {
    /// Whether all settings can be used.
    ///
    /// # Errors
    /// [`Error::Setting`] names the one that cannot.
    pub fn check(&self) -> Result<(), Error> {
        self.args.parsed_domain()?;
        self.args.listed_roles()?;
        self.args.initial_weights()?;
        Whitelist::new(&self.args).read()?;
        self.args.min_allocatable().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_weights_are_read_and_faults_are_named() {
        let strings = |items: &[&str]| items.iter().map(ToString::to_string).collect::<Vec<_>>();
        let args = AllocatorArgs {
            roles: strings(&["eng", "eng/web"]),
            weights: strings(&["eng=2", "ops=0.5"]),
            ..AllocatorArgs::default()
        };
        assert_eq!(args.listed_roles().unwrap().len(), 2);
        let weights = args.initial_weights().unwrap();
        let weights: Vec<_> = weights.iter().map(|info| (info.role(), info.weight)).collect();
        assert_eq!(weights, [("eng", 2.0), ("ops", 0.5)]);
        for odd in ["eng", "eng=x", "eng=0", "eng=-1", "/=1", "eng=inf"] {
            let args = AllocatorArgs { weights: strings(&[odd]), ..AllocatorArgs::default() };
            assert!(args.initial_weights().unwrap_err().to_string().contains(odd));
        }
        let args = AllocatorArgs { roles: strings(&["-x"]), ..AllocatorArgs::default() };
        assert!(args.listed_roles().unwrap_err().to_string().contains("-x"));
        assert!(parse_part("0.5").is_ok() && parse_part("1.1").is_err() && parse_part("x").is_err());
    }

    #[test]
    fn the_least_worth_an_offer_is_read_and_faults_are_named() {
        let args = AllocatorArgs::default();
        let sets = args.min_allocatable().unwrap();
        assert_eq!(sets.len(), 2);
        assert_eq!(sets[0].get("cpus"), Milli(10));
        assert_eq!(args.parsed_domain().unwrap(), None);
        let text = r#"{"fault_domain":{"region":{"name":"r"},"zone":{"name":"z"}}}"#;
        let args = AllocatorArgs { domain: Some(text.to_owned()), ..args };
        assert_eq!(args.parsed_domain().unwrap().unwrap().fault_domain.unwrap().zone.name, "z");
        let args = AllocatorArgs { domain: Some("{".to_owned()), ..args };
        assert!(args.parsed_domain().unwrap_err().to_string().contains("domain"));
        let args = AllocatorArgs { min_allocatable_resources: "cpus".to_owned(), ..args };
        assert!(args.min_allocatable().unwrap_err().to_string().contains("'cpus' is not 'name:quantity'"));
    }
}

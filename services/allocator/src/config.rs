//! Settings of the allocator.

use std::time::Duration;

use clap::Args;
use meshos_mesh::config::parse_duration;
use meshos_proto::{json, mesos::v1::DomainInfo};
use meshos_types::{Milli, Quantities};

use crate::Error;

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
    /// Host name that frameworks are told in `master_info`; the IP address when absent.
    #[arg(long = "hostname", env = "MESOS_HOSTNAME", value_name = "NAME")]
    pub hostname: Option<String>,
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
            advertise_ip: std::net::Ipv4Addr::LOCALHOST,
            advertise_port: 5050,
            hostname: None,
            domain: None,
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
        self.args.min_allocatable().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

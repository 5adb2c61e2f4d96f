//! Settings of the core.

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::MasterInfo;
use meshos_types::{Milli, Quantities, RoleName};

/// Settings of the core; times in milliseconds.
#[derive(Clone, Debug)]
pub struct CoreConfig {
    /// Told to frameworks; its id begins the ids of frameworks and offers.
    pub master: MasterInfo,
    /// Begin of this leader's term, Unix time.
    pub elected_at_ms: u64,
    pub offer_timeout_ms: Option<u64>,
    /// Shortest time that a declined offer stays away.
    pub min_filter_ms: u64,
    pub max_completed_frameworks: usize,
    pub max_completed_tasks: usize,
    pub max_unreachable_tasks: usize,
    /// Resources that contain none of these sets are not worth an offer.
    pub min_allocatable: Vec<Quantities>,
    pub filter_gpus: bool,
    pub excluded_from_shares: BTreeSet<String>,
    pub root_submissions: bool,
    /// Whether each framework has metrics of its own.
    pub framework_metrics: bool,
    /// Frameworks that were connected to the last leader have at least this long to come back.
    pub comeback_ms: u64,
    /// With quotas: offers wait after a change of leader until this part of the agents is back, or for so long.
    pub recovery_factor: f64,
    pub recovery_ms: u64,
    /// Whether agents must have a fault domain.
    pub require_agent_domain: bool,
    /// Roles that frameworks may have; empty: any.
    pub roles: BTreeSet<RoleName>,
    /// Whether chance decides who is served next, among roles, and among the frameworks of a role.
    pub random_roles: bool,
    pub random_frameworks: bool,
}

impl Default for CoreConfig {
    /// Those of the service, for a leader without a name.
    fn default() -> Self {
        Self {
            master: MasterInfo::default(),
            elected_at_ms: 0,
            offer_timeout_ms: None,
            min_filter_ms: 1_000,
            max_completed_frameworks: 50,
            max_completed_tasks: 1000,
            max_unreachable_tasks: 1000,
            min_allocatable: vec![
                [("cpus", Milli(10))].into_iter().collect(),
                [("mem", Milli::whole(32))].into_iter().collect(),
            ],
            filter_gpus: true,
            excluded_from_shares: BTreeSet::new(),
            root_submissions: true,
            framework_metrics: true,
            comeback_ms: 600_000,
            recovery_factor: 0.8,
            recovery_ms: 600_000,
            require_agent_domain: false,
            roles: BTreeSet::new(),
            random_roles: false,
            random_frameworks: false,
        }
    }
}

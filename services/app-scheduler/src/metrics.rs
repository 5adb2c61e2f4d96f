//! Marathon's metric names.

use meshos_mesh::Metrics as Registry;
use meshos_proto::{
    meshos::apps::v1::Condition,
    mesos::v1::scheduler::{Call, call},
};
use prometheus::{IntCounter, IntGauge};

use crate::{core::Reply, error::Refusal, view::View};

/// All metrics of this service.
#[derive(Clone, Debug)]
pub struct Metrics {
    apps: IntGauge,
    deployments: IntGauge,
    groups: IntGauge,
    killing: IntGauge,
    started: IntCounter,
    dismissed: IntCounter,
    running: IntGauge,
    staged: IntGauge,
    launched: IntCounter,
    offers: IntCounter,
    used: IntCounter,
    declined: IntCounter,
    revives: IntCounter,
    suppresses: IntCounter,
}

impl Metrics {
    /// Registers them.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        Self {
            apps: registry.gauge("marathon_apps_active_gauge", "Apps"),
            deployments: registry.gauge("marathon_deployments_active_gauge", "Deployments that run"),
            groups: registry.gauge("marathon_groups_active_gauge", "Groups"),
            killing: registry
                .gauge("marathon_instances_inflight_kills_gauge", "Instances that are being killed"),
            started: registry.counter("marathon_deployments_counter", "Deployments started"),
            dismissed: registry.counter(
                "marathon_deployments_dismissed_counter",
                "Deployments refused because too many run",
            ),
            running: registry.gauge("marathon_instances_running_gauge", "Instances that run"),
            staged: registry
                .gauge("marathon_instances_staged_gauge", "Instances that are placed and do not run yet"),
            launched: registry.counter("marathon_tasks_launched_counter", "Tasks launched"),
            offers: registry.counter("marathon_mesos_offers_incoming_counter", "Offers received"),
            used: registry.counter("marathon_mesos_offers_used_counter", "Offers accepted"),
            declined: registry.counter("marathon_mesos_offers_declined_counter", "Offers declined"),
            revives: registry.counter("marathon_mesos_calls_revive_counter", "Calls for offers"),
            suppresses: registry.counter("marathon_mesos_calls_suppress_counter", "Calls for no offers"),
        }
    }

    pub(crate) fn state(&self, view: &View) {
        let (apps, deployments, groups) = view.sizes();
        let set = |gauge: &IntGauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.apps, apps);
        set(&self.deployments, deployments);
        set(&self.groups, groups);
        set(&self.killing, view.in_condition(Condition::Killing));
        set(&self.running, view.in_condition(Condition::Running));
        let staged = [Condition::Provisioned, Condition::Staging, Condition::Starting];
        set(&self.staged, staged.map(|condition| view.in_condition(condition)).iter().sum());
    }

    pub(crate) fn deployments_started(&self, count: u64) {
        self.started.inc_by(count);
    }

    /// What became of a request.
    pub(crate) fn answered(&self, reply: &Result<Reply, Refusal>) {
        if matches!(reply, Err(Refusal::TooManyDeployments(_))) {
            self.dismissed.inc();
        }
    }

    pub(crate) fn offers(&self, count: usize) {
        self.offers.inc_by(count as u64);
    }

    pub(crate) fn called(&self, sent: &Call) {
        match sent.r#type() {
            call::Type::Revive => self.revives.inc(),
            call::Type::Suppress => self.suppresses.inc(),
            call::Type::Decline => {
                self.declined
                    .inc_by(sent.decline.as_ref().map_or(0, |decline| decline.offer_ids.len() as u64));
            }
            call::Type::Accept => {
                let accept = sent.accept.iter();
                self.used.inc_by(accept.clone().map(|accept| accept.offer_ids.len() as u64).sum());
                let tasks =
                    accept.flat_map(|accept| &accept.operations).filter_map(|one| one.launch.as_ref());
                self.launched.inc_by(tasks.map(|launch| launch.task_infos.len() as u64).sum());
            }
            _ => {}
        }
    }
}

//! The metrics of agents, frameworks, resources and roles, as they are now.

use meshos_proto::meshos::registry::v1::AgentState;
use meshos_types::{Milli, Quantities};

use super::{
    figures,
    show::{Metrics, size, value},
};
use crate::core::{Agent, Core, Framework, framework::Connection};

impl Core {
    pub(super) fn agent_metrics(&self, metrics: &mut Metrics) {
        let mut put = |name: &str, wanted: &dyn Fn(&Agent) -> bool| {
            let count = self.agents.values().filter(|agent| wanted(agent)).count();
            metrics.insert(format!("master/slaves_{name}"), size(count));
        };
        put("connected", &|agent| agent.link.is_some());
        put("disconnected", &|agent| agent.link.is_none() && agent.heard);
        put("active", &Agent::is_active);
        put("inactive", &|agent| !agent.is_active() && agent.heard);
        put("unreachable", &|agent| agent.state == AgentState::Unreachable);
    }

    pub(super) fn framework_metrics(&self, metrics: &mut Metrics) {
        let connected = size(self.streams.len());
        let away = |framework: &&Framework| framework.connection == Connection::Disconnected;
        let away = size(self.frameworks.values().filter(away).count());
        for (name, value) in
            [("connected", connected), ("active", connected), ("disconnected", away), ("inactive", away)]
        {
            metrics.insert(format!("master/frameworks_{name}"), value);
        }
        let live = self.frameworks.values().map(|known| (&known.info, &known.figures, known.is_connected()));
        let over = self.completed.iter().map(|(_, known)| (&known.info, &known.figures, false));
        for (info, figures, subscribed) in live.chain(over) {
            if let Some(principal) = &info.principal {
                for suffix in ["received", "processed"] {
                    let name = format!("frameworks/{principal}/messages_{suffix}");
                    *metrics.entry(name).or_default() += value(figures.calls.sum());
                }
            }
            if self.config.framework_metrics {
                let id = info.id.as_ref().map_or("", |id| id.value.as_str());
                let prefix = figures::prefix(&info.name, id);
                figures.show(&prefix, metrics);
                metrics.insert(format!("{prefix}subscribed"), f64::from(u8::from(subscribed)));
            }
        }
        if self.config.framework_metrics {
            for (id, framework) in self.frameworks.iter() {
                let prefix = figures::prefix(&framework.info.name, id.as_str());
                for role in &framework.roles {
                    let suppressed = f64::from(u8::from(framework.suppressed.contains(role)));
                    metrics.insert(format!("{prefix}roles/{role}/suppressed"), suppressed);
                }
            }
        }
    }

    pub(super) fn resource_metrics(&self, metrics: &mut Metrics) {
        let mut sums = Sums::default();
        for agent in self.agents.values() {
            sums.total.0.add(&agent.total.non_revocable().scalars());
            sums.total.1.add(&agent.total.revocable().scalars());
            sums.used.0.add(&agent.used.non_revocable().scalars());
            sums.used.1.add(&agent.used.revocable().scalars());
            sums.offered.add(&agent.offered.scalars());
        }
        for name in ["cpus", "gpus", "mem", "disk"] {
            let kinds = [("", &sums.total.0, &sums.used.0), ("_revocable", &sums.total.1, &sums.used.1)];
            for (suffix, total, used) in kinds {
                let (total, used) = (total.get(name), used.get(name));
                let percent = if total == Milli::ZERO { 0.0 } else { used.to_f64() / total.to_f64() };
                for (kind, value) in
                    [("total", total.to_f64()), ("used", used.to_f64()), ("percent", percent)]
                {
                    metrics.insert(format!("master/{name}{suffix}_{kind}"), value);
                }
            }
        }
        for name in ["cpus", "mem", "disk"] {
            let total = sums.total.0.get(name).saturating_add(sums.total.1.get(name));
            let used = sums.used.0.get(name).saturating_add(sums.used.1.get(name));
            let held = used.saturating_add(sums.offered.get(name));
            metrics.insert(format!("allocator/mesos/resources/{name}/total"), total.to_f64());
            metrics.insert(format!("allocator/mesos/resources/{name}/offered_or_allocated"), held.to_f64());
        }
    }

    pub(super) fn role_metrics(&self, metrics: &mut Metrics) {
        self.quotas.metrics(metrics);
        for (role, share) in self.shares.role_shares() {
            metrics.insert(format!("allocator/mesos/roles/{role}/shares/dominant"), share);
        }
        for framework in self.frameworks.values() {
            for role in &framework.roles {
                metrics.entry(format!("allocator/mesos/offer_filters/roles/{role}/active")).or_default();
            }
            for role in framework.filters.roles() {
                let name = format!("allocator/mesos/offer_filters/roles/{role}/active");
                *metrics.entry(name).or_default() += 1.0;
            }
        }
    }
}

/// What agents have, use and are offered; the second of a pair is what is revocable.
#[derive(Default)]
struct Sums {
    total: (Quantities, Quantities),
    used: (Quantities, Quantities),
    offered: Quantities,
}

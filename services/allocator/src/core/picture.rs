//! The whole picture that a reader of Watch begins with. The core only notes what is to be shown, which shares what is
//! large with the core and takes moments; the messages are made elsewhere, part by part.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;
use meshos_proto::{
    meshos::{
        allocator::v1::{Agent as AgentView, Master, Snapshot, TaskPlace},
        registry::v1::AgentState,
    },
    mesos::v1 as pb,
};
use meshos_types::{AgentId, Format, Resources};
use prost::Message;

use super::{
    AgentKey, Core,
    agent::{About, Agent},
    offers::Offer,
    publish::{completed_view, executor_view, framework_view},
    record::Record,
};

/// Bytes of one part, about; far below what a message may have.
const PART: usize = 1024 * 1024;

/// What the core held at one moment.
#[derive(Debug)]
pub struct Picture {
    /// What is small, or few.
    head: Snapshot,
    agents: Vec<AgentPicture>,
    /// Their places in the list.
    places: HashMap<AgentKey, usize, FixedState>,
    tasks: Vec<(Arc<Record>, TaskPlace)>,
    offers: Vec<(String, AgentKey, Offer)>,
}

/// What is shown of an agent.
#[derive(Debug)]
pub(super) struct AgentPicture {
    id: AgentId,
    about: Arc<About>,
    unavailability: Option<pb::Unavailability>,
    total: Resources,
    used: Resources,
    offered: Resources,
    /// The rest of the message.
    rest: AgentView,
}

impl AgentPicture {
    pub(super) fn of(agent: &Agent) -> Self {
        Self {
            id: agent.id.clone(),
            about: Arc::clone(&agent.about),
            unavailability: agent.unavailability,
            total: agent.total.clone(),
            used: agent.used.clone(),
            offered: agent.offered.clone(),
            rest: AgentView {
                active: agent.is_active(),
                connected: agent.link.is_some(),
                registered_at_ms: agent.registered_at_ms,
                reregistered_at_ms: agent.reregistered_at_ms,
                recovered: agent.is_admitted() && agent.link.is_none() && !agent.heard,
                unreachable: agent.state == AgentState::Unreachable,
                unreachable_at_ms: match agent.state {
                    AgentState::Unreachable => agent.unreachable_at_ms,
                    _ => 0,
                },
                gone: agent.state == AgentState::Gone,
                gone_at_ms: agent.gone_at_ms,
                ..AgentView::default()
            },
        }
    }

    pub(super) fn message(&self) -> AgentView {
        let (format, about) = (Format::PostRefinement, &self.about);
        AgentView {
            info: Some(pb::AgentInfo {
                id: Some(self.id.to_proto()),
                resources: about.resources.to_vec(),
                ..about.info.clone()
            }),
            version: about.version.clone(),
            endpoint: about.endpoint.clone(),
            capabilities: about.capabilities.clone(),
            total: self.total.to_proto(format),
            used: self.used.to_proto(format),
            offered: self.offered.to_proto(format),
            ..self.rest.clone()
        }
    }
}

impl Core {
    /// Everything. Call it after [`Core::settle`], so that no change lies between it and the changes after.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let live = self.frameworks.values().map(framework_view);
        let completed = self.completed.iter().map(|(_, completed)| completed_view(completed));
        let mut tasks = Vec::new();
        let mut show = |task: &Arc<Record>, place| tasks.push((Arc::clone(task), place));
        for framework in self.frameworks.values() {
            let ledger = &framework.ledger;
            ledger.completed.iter().for_each(|(_, task)| show(task, TaskPlace::Completed));
            ledger.unreachable.iter().for_each(|(_, task)| show(task, TaskPlace::Unreachable));
            ledger.live.values().for_each(|entry| show(&entry.task, TaskPlace::Live));
        }
        for (_, completed) in self.completed.iter() {
            completed.tasks.iter().for_each(|(_, task)| show(task, TaskPlace::Completed));
        }
        let head = Snapshot {
            master: Some(Master {
                info: Some(self.config.master.clone()),
                started_at_ms: self.config.elected_at_ms,
                elected_at_ms: self.config.elected_at_ms,
            }),
            frameworks: live.chain(completed).collect(),
            roles: self.role_settings.keys().filter_map(|role| self.role_view(role)).collect(),
            executors: self.executors.iter().map(executor_view).collect(),
            operations: self.operations.values().map(|operation| operation.view()).collect(),
            ..Snapshot::default()
        };
        let offers = self.offers.values();
        Picture {
            head,
            agents: self.agents.values().map(AgentPicture::of).collect(),
            places: self.agents.all_keys().enumerate().map(|(place, key)| (key, place)).collect(),
            tasks,
            offers: offers
                .map(|offer| (self.offers.text(offer.number), offer.agent(), offer.clone()))
                .collect(),
        }
    }

    /// The picture as one message.
    #[cfg(test)]
    pub(crate) fn snapshot(&self) -> Snapshot {
        let mut parts = self.picture().parts();
        let mut whole = parts.next().unwrap_or_default();
        for part in parts {
            whole.agents.extend(part.agents);
            whole.frameworks.extend(part.frameworks);
            whole.executors.extend(part.executors);
            whole.operations.extend(part.operations);
            whole.tasks.extend(part.tasks);
            whole.offers.extend(part.offers);
            whole.more = part.more;
        }
        whole
    }
}

impl Picture {
    /// The messages, made one by one; all but the last say that there is more. What is small and comes once stands in
    /// the first, agents come before tasks and offers.
    pub fn parts(self) -> impl Iterator<Item = Snapshot> + Send {
        let Self { mut head, agents, places, tasks, offers } = self;
        let mut frameworks = std::mem::take(&mut head.frameworks).into_iter().peekable();
        let mut executors = std::mem::take(&mut head.executors).into_iter().peekable();
        let mut operations = std::mem::take(&mut head.operations).into_iter().peekable();
        let offer = move |agents: &[AgentPicture], (id, agent, offer): (String, AgentKey, Offer)| {
            let agent = agents.get(*places.get(&agent)?)?;
            let message = offer.message(id, &agent.about, Format::PostRefinement, true);
            Some(pb::Offer { unavailability: agent.unavailability, ..message })
        };
        let (mut tasks, mut offers) = (tasks.into_iter().peekable(), offers.into_iter().peekable());
        let (mut head, mut shown, mut done) = (Some(head), 0, false);
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let mut part = head.take().unwrap_or_default();
            let mut bytes = part.encoded_len();
            while let Some(agent) = agents.get(shown).filter(|_| bytes < PART) {
                let agent = agent.message();
                bytes += agent.encoded_len();
                part.agents.push(agent);
                shown += 1;
            }
            while let Some(framework) = frameworks.next_if(|_| bytes < PART) {
                bytes += framework.encoded_len();
                part.frameworks.push(framework);
            }
            while let Some((task, place)) = tasks.next_if(|_| bytes < PART) {
                let task = task.packed(place);
                bytes += task.task.len();
                part.tasks.push(task);
            }
            while let Some(next) = offers.next_if(|_| bytes < PART) {
                if let Some(offer) = offer(&agents, next) {
                    bytes += offer.encoded_len();
                    part.offers.push(offer);
                }
            }
            while let Some(executor) = executors.next_if(|_| bytes < PART) {
                bytes += executor.encoded_len();
                part.executors.push(executor);
            }
            while let Some(operation) = operations.next_if(|_| bytes < PART) {
                bytes += operation.encoded_len();
                part.operations.push(operation);
            }
            part.more = shown < agents.len()
                || frameworks.peek().is_some()
                || tasks.peek().is_some()
                || offers.peek().is_some()
                || executors.peek().is_some()
                || operations.peek().is_some();
            done = !part.more;
            Some(part)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::tests::harness::Harness;

    #[test]
    fn parts_hold_everybody_once_and_fit() {
        let mut cluster = Harness::new();
        let info = |number: usize| format!("attribute:{number}-{}", "x".repeat(PART / 400));
        for number in 0..1000 {
            let mut record =
                crate::core::tests::harness::record(&format!("s{number}"), AgentState::Connected);
            record.endpoint = info(number);
            cluster.input(crate::core::Input::RegistryChanged(Box::new(record)));
        }
        let parts: Vec<Snapshot> = cluster.core.picture().parts().collect();
        assert!(parts.len() >= 2);
        assert!(parts.iter().all(|part| part.encoded_len() < PART + PART / 8));
        let (last, others) = parts.split_last().unwrap();
        assert!(!last.more && others.iter().all(|part| part.more));
        assert!(parts[0].master.is_some() && parts[1].master.is_none());
        let shown: std::collections::BTreeSet<&str> =
            parts.iter().flat_map(|part| &part.agents).map(|agent| agent.endpoint.as_str()).collect();
        assert_eq!(shown.len(), 1000);
    }

    #[test]
    fn an_empty_cluster_is_one_part() {
        let parts: Vec<Snapshot> = Harness::new().core.picture().parts().collect();
        assert_eq!((parts.len(), parts[0].more), (1, false));
    }
}

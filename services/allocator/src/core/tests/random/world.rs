//! Frameworks, agents and a reader around the core, and what steps do to them.

#![allow(deprecated, reason = "single-role frameworks use the field `role`")]

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::{
    meshos::{
        allocator::v1::{ExecutorEnded, Reregister},
        registry::v1::AgentState,
    },
    mesos::v1::{
        self as pb, TaskState,
        scheduler::{Call, call},
    },
};
use meshos_types::task_state::frees_resources;

use super::{
    AGENTS, FRAMEWORKS, Step, TOTAL, Under,
    node::{Node, hear_command},
    view::View,
};
use crate::core::{
    CoreConfig, FrameworkId, Input, StreamId,
    tests::{
        executors::{custom, default_executor, group, with_executor},
        harness::*,
        operations::{messages, plain},
    },
};

pub(super) struct World {
    pub(super) cluster: Harness,
    pub(super) nodes: Vec<Node>,
    pub(super) frameworks: Vec<Option<(FrameworkId, StreamId)>>,
    /// Offers that each framework believes to hold, by what it was told.
    pub(super) held: Vec<BTreeMap<String, pb::Offer>>,
    /// Everything that was ever launched.
    pub(super) accepted: BTreeSet<(String, String)>,
    pub(super) view: View,
    pub(super) next_task: usize,
    /// Offers that there were after the last step.
    pub(super) offered_before: BTreeSet<String>,
}

pub(super) fn agent_name(index: usize) -> String {
    format!("s{index}")
}

impl World {
    pub(super) fn new() -> Self {
        let mut cluster = Harness::with(CoreConfig { max_completed_frameworks: 2, ..config() });
        for agent in 0..AGENTS {
            let known = record(&agent_name(agent), AgentState::Connected);
            cluster.input(Input::RegistryChanged(Box::new(known)));
        }
        Self {
            cluster,
            nodes: (0..AGENTS).map(|_| Node { total: plain(TOTAL), ..Node::default() }).collect(),
            frameworks: vec![None; FRAMEWORKS],
            held: vec![BTreeMap::new(); FRAMEWORKS],
            accepted: BTreeSet::new(),
            view: View::default(),
            next_task: 0,
            offered_before: BTreeSet::new(),
        }
    }

    pub(super) fn run(&mut self, step: Step) {
        match step {
            Step::AgentUp(agent) => self.agent_up(agent),
            Step::AgentDown(agent) => {
                if let Some(link) = self.nodes[agent].link.take() {
                    self.cluster.input(Input::AgentUnlinked { link });
                }
            }
            Step::AgentState(agent, state) => {
                self.cluster.input(Input::RegistryChanged(Box::new(record(&agent_name(agent), state))));
            }
            Step::Subscribe(framework) => self.subscribe(framework),
            Step::Close(framework) => {
                if let Some((_, stream)) = &self.frameworks[framework] {
                    let stream = stream.clone();
                    self.held[framework].clear();
                    self.cluster.input(Input::StreamClosed { stream });
                }
            }
            Step::Accept { framework, offer, cpus, count, under } => {
                self.accept((framework, offer), (cpus, count), under);
            }
            Step::ExecutorEnds(executor) => self.executor_ends(executor),
            Step::Decline { framework, offer, seconds } => {
                if let Some(offer) = self.take_held(framework, offer) {
                    let decline = call::Decline {
                        offer_ids: vec![offer.id],
                        filters: Some(pb::Filters { refuse_seconds: Some(seconds.into()) }),
                    };
                    self.call(framework, |call| Call { decline: Some(decline), ..call }, call::Type::Decline);
                }
            }
            Step::Revive(framework) => self.call(framework, |call| call, call::Type::Revive),
            Step::Suppress(framework) => self.call(framework, |call| call, call::Type::Suppress),
            Step::Update { task, state } => self.update(task, state),
            Step::Acknowledge { task } => self.acknowledge(task),
            Step::Teardown(framework) => {
                if let Some((id, _)) = self.frameworks[framework].clone() {
                    let _ = self.cluster.try_input(Input::Teardown { framework: id });
                }
            }
            Step::Reserve { .. }
            | Step::Unreserve { .. }
            | Step::OperatorReserves { .. }
            | Step::Quota { .. }
            | Step::Weight { .. } => self.run_operator(step),
            Step::Wait(ms) => self.cluster.advance(ms.into()),
        }
        self.hear();
    }

    pub(super) fn agent_up(&mut self, agent: usize) {
        let node = &self.nodes[agent];
        let report = Reregister {
            tasks: node.tasks.values().cloned().collect(),
            frameworks: node.infos.values().cloned().collect(),
            executors: node.executors.values().cloned().collect(),
            total: messages(&node.total),
            ..report(&agent_name(agent), TOTAL)
        };
        self.nodes[agent].link = Some(self.cluster.link(report));
    }

    pub(super) fn subscribe(&mut self, framework: usize) {
        let mut wanted = info(&format!("f{framework}"));
        wanted.failover_timeout = Some(f64::from(u8::try_from(framework).unwrap()) * 10.0);
        wanted.role = [None, Some("eng/web"), Some("eng")][framework].map(str::to_owned);
        wanted.id = self.frameworks[framework].as_ref().map(|(id, _)| id.to_proto());
        let stream = self.cluster.subscribe_any(wanted);
        self.held[framework].clear();
        let first = self.cluster.events[&stream][0].clone();
        self.frameworks[framework] =
            first.subscribed.map(|subscribed| (FrameworkId::from(subscribed.framework_id), stream));
    }

    pub(super) fn call(&mut self, framework: usize, fill: impl FnOnce(Call) -> Call, kind: call::Type) {
        if let Some((id, stream)) = self.frameworks[framework].clone() {
            // Refused when the framework is away or removed.
            let _ = self.cluster.try_call(&stream, fill(call(&id, kind)));
        }
    }

    pub(super) fn take_held(&mut self, framework: usize, offer: usize) -> Option<pb::Offer> {
        let held = &mut self.held[framework];
        let id = held.keys().nth(offer % held.len().max(1))?.clone();
        held.remove(&id)
    }

    pub(super) fn accept(
        &mut self,
        (framework, offer): (usize, usize),
        (cpus, count): (u8, u8),
        under: Under,
    ) {
        let Some(offer) = self.take_held(framework, offer) else { return };
        let tasks = (0..count).map(|_| {
            self.next_task += 1;
            // Without cpus the task is not valid; with many it may not fit.
            let task = task(&format!("t{}", self.next_task), &offer.agent_id.value, &format!("cpus:{cpus}"));
            match under {
                Under::Command | Under::Group => task,
                Under::Custom(takes) => with_executor(task, custom("custom", &format!("cpus:0.{takes}"))),
            }
        });
        let tasks: Vec<_> = tasks.collect();
        let id = FrameworkId::from(&offer.framework_id);
        let executor = pb::ExecutorInfo {
            resources: resources("cpus:0.1;mem:32;disk:1"),
            ..default_executor(&id, "default")
        };
        let operation = match under {
            Under::Group => group(executor, tasks),
            _ => launch(tasks),
        };
        let operations = vec![operation];
        let accept = call::Accept { offer_ids: vec![offer.id], operations, filters: None };
        self.call(framework, |call| Call { accept: Some(accept), ..call }, call::Type::Accept);
    }

    /// The n-th task of any agent.
    pub(super) fn nth(&self, task: usize) -> Option<(usize, (String, String))> {
        let all = self.nodes.iter().enumerate();
        let all: Vec<_> =
            all.flat_map(|(at, node)| node.tasks.keys().map(move |key| (at, key.clone()))).collect();
        all.get(task % all.len().max(1)).cloned()
    }

    /// The n-th executor of any agent ends, if its agent can say so.
    fn executor_ends(&mut self, executor: usize) {
        let all = self.nodes.iter().enumerate();
        let all: Vec<_> =
            all.flat_map(|(at, node)| node.executors.keys().map(move |key| (at, key.clone()))).collect();
        let Some((at, key)) = all.get(executor % all.len().max(1)).cloned() else { return };
        self.nodes[at].executors.remove(&key);
        if let Some(link) = self.nodes[at].link {
            let ended = ExecutorEnded {
                framework_id: Some(pb::FrameworkId { value: key.0 }),
                executor_id: Some(pb::ExecutorId { value: key.1 }),
                wait_status: 9,
            };
            self.cluster.input(Input::ExecutorEnded { link, ended });
        }
    }

    pub(super) fn update(&mut self, task: usize, state: TaskState) {
        let Some((at, key)) = self.nth(task) else { return };
        let Some(known) = self.nodes[at].tasks.get_mut(&key) else { return };
        if frees_resources(known.state()) {
            return;
        }
        known.state = state.into();
        known.status_update_state = Some(state.into());
        known.status_update_uuid = Some(vec![1; 16].into());
        if let Some(link) = self.nodes[at].link {
            self.cluster.update(link, &FrameworkId::new(key.0), &key.1, state, 1);
        }
    }

    pub(super) fn acknowledge(&mut self, task: usize) {
        let Some((at, key)) = self.nth(task) else { return };
        let of = |f: &&(FrameworkId, StreamId)| f.0.as_str() == key.0;
        let Some((id, stream)) = self.frameworks.iter().flatten().find(of).cloned() else { return };
        let acknowledge = call::Acknowledge {
            agent_id: pb::AgentId { value: agent_name(at) },
            task_id: pb::TaskId { value: key.1 },
            uuid: vec![1; 16].into(),
        };
        let acknowledge = Call { acknowledge: Some(acknowledge), ..call(&id, call::Type::Acknowledge) };
        let _ = self.cluster.try_call(&stream, acknowledge);
    }

    /// Frameworks, agents and the reader take in what they were sent.
    pub(super) fn hear(&mut self) {
        for (framework, held) in self.frameworks.iter().zip(&mut self.held) {
            let Some((_, stream)) = framework else { continue };
            for event in self.cluster.events.remove(stream).unwrap_or_default() {
                for offer in event.offers.into_iter().flat_map(|offers| offers.offers) {
                    held.insert(offer.id.value.clone(), offer);
                }
                if let Some(rescind) = event.rescind {
                    held.remove(&rescind.offer_id.value);
                }
            }
            if self.cluster.closed.contains(stream) {
                held.clear();
            }
        }
        for node in &mut self.nodes {
            let Some(link) = node.link else { continue };
            for command in self.cluster.commands.remove(&link).unwrap_or_default() {
                hear_command(node, command, &mut self.accepted);
            }
            if self.cluster.closed_links.contains(&link) {
                node.link = None;
                self.cluster.input(Input::AgentUnlinked { link });
            }
        }
        for change in std::mem::take(&mut self.cluster.changes) {
            self.view.apply(change.body.unwrap());
        }
    }
}

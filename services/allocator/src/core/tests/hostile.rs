//! Calls and reports with arbitrary content: nothing panics, and the books stay right.

mod arbitrary;

use std::{collections::BTreeMap, fmt::Debug};

use meshos_proto::{
    meshos::{
        allocator::v1::{ExecutorEnded, FrameworkMessage, OperationUpdate, Reregister, StatusUpdate},
        registry::v1::{self as registry, AgentState},
    },
    mesos::v1::{
        self as pb,
        framework_info::{Capability, capability::Type as CapabilityType},
        offer::{Operation, operation::Type},
        scheduler::{Call, call},
    },
};
use proptest::prelude::*;

use self::arbitrary::Arbitrary;
use super::{
    executors::{custom, default_executor, group, with_executor},
    operations::{operation, reserved, volume},
    random::{recount, view::View},
};
use crate::core::{tests::harness::*, *};

const TOTAL: &str = "cpus:4;mem:1000;disk:100;ports:[31000-31009];gpus:1;cpus(eng):1";

/// A cluster with two agents and two frameworks, and a reader.
struct Scene {
    cluster: Harness,
    links: Vec<LinkId>,
    frameworks: Vec<(FrameworkId, StreamId)>,
    view: View,
}

fn about(name: &str) -> pb::FrameworkInfo {
    use CapabilityType::{
        GpuResources, MultiRole, PartitionAware, ReservationRefinement, RevocableResources, SharedResources,
    };
    let all =
        [MultiRole, PartitionAware, ReservationRefinement, SharedResources, RevocableResources, GpuResources];
    let capabilities = all.map(|kind| Capability { r#type: Some(kind.into()) }).to_vec();
    let roles = ["eng", "ops"].map(str::to_owned).to_vec();
    pb::FrameworkInfo { capabilities, roles, ..info(name) }
}

fn capable(agent: &str) -> Reregister {
    use pb::agent_info::{Capability, capability::Type};
    let capability = |kind: Type| Capability { r#type: Some(kind.into()) };
    let capabilities = vec![capability(Type::AgentOperationFeedback), capability(Type::TaskResourceLimits)];
    Reregister { capabilities, ..report(agent, TOTAL) }
}

impl Scene {
    fn new() -> Self {
        let mut cluster = Harness::new();
        let links = ["s1", "s2"].map(|agent| {
            cluster.input(Input::RegistryChanged(Box::new(record(agent, AgentState::Connected))));
            cluster.link(capable(agent))
        });
        let frameworks = ["a", "b"].map(|name| cluster.subscribe(about(name)));
        Self { cluster, links: links.to_vec(), frameworks: frameworks.to_vec(), view: View::default() }
    }

    /// An outstanding offer of the framework.
    fn offer(&self, framework: &FrameworkId) -> Option<pb::Offer> {
        let offers = self.cluster.core.snapshot().offers;
        offers.into_iter().find(|offer| offer.framework_id.value == framework.as_str())
    }

    /// A call that would be good, if nobody spoilt it.
    fn good(&self, framework: &FrameworkId, number: usize) -> Option<Call> {
        let offer = self.offer(framework)?;
        let role = offer.allocation_info.as_ref()?.role.clone()?;
        let agent = offer.agent_id.value.clone();
        let task = |id: String| task(&id, &agent, "cpus:0.5;mem:10");
        let own = default_executor(framework, "default");
        let operations: Vec<Operation> = vec![
            operation(Type::Reserve, &reserved("cpus:0.5;disk:10", &role)),
            operation(Type::Create, &volume("disk:5", &role, "v1")),
            launch(vec![
                task(format!("t{number}")),
                with_executor(task(format!("u{number}")), custom("e", "cpus:0.1")),
            ]),
            group(own, vec![task(format!("g{number}")), task(format!("h{number}"))]),
            operation(Type::Unreserve, &reserved("cpus:0.5", &role)),
            operation(Type::Destroy, &volume("disk:5", &role, "v1")),
        ];
        let filters = Some(pb::Filters { refuse_seconds: Some(1.0) });
        let accept = call::Accept { offer_ids: vec![offer.id], operations, filters };
        Some(Call { accept: Some(accept), ..call(framework, call::Type::Accept) })
    }

    fn next_call(&mut self, any: &mut Arbitrary, number: usize) -> Input {
        let (framework, stream) = self.frameworks[any.below(2)].clone();
        let good = if any.chance(60) { self.good(&framework, number) } else { None };
        let call = match good {
            Some(good) => any.spoilt(&good),
            None => any.any(),
        };
        let stays = any.chance(95);
        let framework_id = if stays { Some(framework.to_proto()) } else { call.framework_id.clone() };
        let call = Box::new(Call { framework_id, ..call });
        if call.r#type() == call::Type::Subscribe {
            return Input::Subscribe { stream: format!("hostile-{number}"), call };
        }
        Input::Call { stream, call, traceparent: String::new() }
    }

    fn next_message(&mut self, any: &mut Arbitrary) -> Input {
        let link = self.links[any.below(2)];
        match any.below(6) {
            0 => Input::StatusUpdate { link, update: Box::new(any.any::<StatusUpdate>()) },
            1 => Input::OperationUpdate { link, update: Box::new(any.any::<OperationUpdate>()) },
            2 => Input::ExecutorEnded { link, ended: any.any::<ExecutorEnded>() },
            3 => Input::MessageToFramework { link, message: Box::new(any.any::<FrameworkMessage>()) },
            4 => Input::RegistryChanged(Box::new(any.any::<registry::Agent>())),
            _ => {
                let report = match any.chance(50) {
                    true => any.any(),
                    false => any.spoilt(&self.cluster.report_with("s1", TOTAL, &[])),
                };
                self.links[0] = self.cluster.link(report);
                Input::Tick
            }
        }
    }

    /// What a reader makes of the changes is what there is.
    fn check_view(&mut self) {
        for change in std::mem::take(&mut self.cluster.changes) {
            self.view.apply(change.body.unwrap());
        }
        let snapshot = View::of(self.cluster.core.snapshot());
        if self.view != snapshot {
            // A number that is none differs from itself.
            same(&self.view.agents, &snapshot.agents);
            same(&self.view.frameworks, &snapshot.frameworks);
            same(&self.view.tasks, &snapshot.tasks);
            same(&self.view.offers, &snapshot.offers);
            same(&self.view.executors, &snapshot.executors);
            same(&self.view.operations, &snapshot.operations);
        }
    }
}

fn same<K: Debug, V: Debug>(ours: &BTreeMap<K, V>, theirs: &BTreeMap<K, V>) {
    let show = |entry: (&K, &V)| format!("{entry:?}");
    let (ours, theirs): (Vec<_>, Vec<_>) =
        (ours.iter().map(show).collect(), theirs.iter().map(show).collect());
    let differs = ours.iter().zip(&theirs).find(|(ours, theirs)| ours != theirs);
    assert!(differs.is_none() && ours.len() == theirs.len(), "{differs:#?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn hostile_calls_leave_the_books_right(seed in any::<u64>()) {
        let (mut scene, mut any) = (Scene::new(), Arbitrary::new(seed));
        for number in 0..30 {
            let input = scene.next_call(&mut any, number);
            // Refused or not: the answer is not what matters.
            let _ = scene.cluster.try_input(input);
            scene.cluster.advance(if any.chance(20) { 2_000 } else { 0 });
            let snapshot = scene.cluster.core.snapshot();
            for agent in &snapshot.agents {
                recount::check_agent(agent, &snapshot);
            }
            scene.check_view();
            let _ = scene.cluster.core.metrics();
        }
    }

    #[test]
    fn hostile_agents_do_no_harm_to_the_process(seed in any::<u64>()) {
        let (mut scene, mut any) = (Scene::new(), Arbitrary::new(seed));
        for number in 0..30 {
            let input = if any.chance(50) {
                scene.next_message(&mut any)
            } else {
                scene.next_call(&mut any, number)
            };
            let _ = scene.cluster.try_input(input);
            scene.cluster.advance(if any.chance(20) { 2_000 } else { 0 });
            scene.check_view();
        }
    }
}

//! S2: a cluster where everything is offered, and a few things change.

use meshos_allocator::core::Input;
use meshos_proto::{
    meshos::allocator::v1::StatusUpdate,
    mesos::v1::{
        self as pb, TaskState,
        offer::{Operation, operation},
        scheduler::call,
    },
};

use super::{
    RESOURCES,
    clock::Times,
    cluster::{Cluster, NOW},
};

const AGENTS: [usize; 4] = [1_000, 10_000, 20_000, 50_000];
const FRAMEWORKS: usize = 200;
/// A change costs the same whatever the size; what is left is caches that are outgrown.
const GROWTH: f64 = 6.0;
/// Changes together, and how often.
const CHANGES: [(usize, usize); 4] = [(0, 1000), (1, 2000), (100, 50), (1000, 9)];

pub(super) fn rows(most: usize, show: &impl Fn(&str)) -> anyhow::Result<()> {
    let mut small = Vec::new();
    for agents in AGENTS.into_iter().filter(|agents| *agents <= most) {
        let mut cluster = Cluster::new();
        cluster.add_agents(agents, RESOURCES)?;
        for _ in 0..FRAMEWORKS {
            cluster.add_framework("role")?;
        }
        cluster.settle();
        for (at, (changes, repeated)) in CHANGES.into_iter().enumerate() {
            let (mut decision, mut messages) = declines(&mut cluster, changes, repeated)?;
            let name = format!("S2 {agents} agents, {changes} declined");
            show(&decision.row(&format!("{name}: decision"), changes));
            show(&messages.row(&format!("{name}: messages"), changes));
            let p50 = decision.p50_us();
            if agents == AGENTS[0] {
                small.push(p50);
            } else if changes > 0 {
                let growth = p50 / small[at];
                anyhow::ensure!(growth < GROWTH, "{name}: {growth:.1} times what it takes with few agents");
                show(&format!("| {name}: as with {} agents | × {growth:.2} |", AGENTS[0]));
            }
        }
        show(&launches(&mut cluster, 1000)?.row(&format!("S2 {agents} agents, one launch (ACCEPT, RUNNING, acknowledged, FINISHED, acknowledged), messages included"), 1));
    }
    Ok(())
}

/// Offers are declined, so many in a turn.
fn declines(cluster: &mut Cluster, changes: usize, repeated: usize) -> anyhow::Result<(Times, Times)> {
    let (mut decision, mut messages) = (Times::default(), Times::default());
    for _ in 0..repeated {
        let inputs = (0..changes).map(|_| Ok(Cluster::decline(&cluster.take_any()?)));
        let inputs: Vec<Input> = inputs.collect::<anyhow::Result<_>>()?;
        decision.add(|| -> anyhow::Result<()> {
            for input in inputs {
                cluster.core.handle(input, NOW)?;
            }
            cluster.core.decide(NOW);
            Ok(())
        })?;
        let outcome = messages.add(|| cluster.core.outcome());
        cluster.hear(outcome);
    }
    Ok((decision, messages))
}

/// A task lives, in six turns.
fn launches(cluster: &mut Cluster, repeated: usize) -> anyhow::Result<Times> {
    let mut times = Times::default();
    for number in 0..repeated {
        let (framework, offer) = cluster.take_any()?;
        let task_id = pb::TaskId { value: format!("task-{number}") };
        let mut inputs = vec![accept(framework, &offer, &task_id)];
        for (state, uuid) in [(TaskState::TaskRunning, 1), (TaskState::TaskFinished, 2)] {
            let uuid = bytes::Bytes::from(vec![uuid; 16]);
            inputs.push(update(framework, &offer, &task_id, (state, &uuid)));
            inputs.push(Cluster::call(framework, call::Type::Acknowledge, |call| {
                let (agent_id, task_id) = (offer.agent_id.clone(), task_id.clone());
                call.acknowledge = Some(call::Acknowledge { agent_id, task_id, uuid });
            }));
        }
        let outcomes = times.add(|| -> anyhow::Result<Vec<_>> {
            let mut outcomes = Vec::with_capacity(inputs.len());
            for input in inputs {
                cluster.core.handle(input, NOW)?;
                outcomes.push(cluster.core.settle(NOW));
            }
            Ok(outcomes)
        })?;
        outcomes.into_iter().for_each(|outcome| cluster.hear(outcome));
    }
    Ok(times)
}

fn accept(framework: usize, offer: &pb::Offer, task_id: &pb::TaskId) -> Input {
    let scalar = |name: &str, value: f64| pb::Resource {
        name: name.to_owned(),
        r#type: pb::value::Type::Scalar.into(),
        scalar: Some(pb::value::Scalar { value }),
        ..pb::Resource::default()
    };
    let task = pb::TaskInfo {
        name: task_id.value.clone(),
        task_id: task_id.clone(),
        agent_id: offer.agent_id.clone(),
        resources: vec![scalar("cpus", 1.0), scalar("mem", 64.0)],
        command: Some(pb::CommandInfo { value: Some("true".to_owned()), ..pb::CommandInfo::default() }),
        ..pb::TaskInfo::default()
    };
    let launch = Operation {
        r#type: Some(operation::Type::Launch.into()),
        launch: Some(operation::Launch { task_infos: vec![task] }),
        ..Operation::default()
    };
    Cluster::call(framework, call::Type::Accept, |call| {
        let offer_ids = vec![offer.id.clone()];
        call.accept = Some(call::Accept { offer_ids, operations: vec![launch], filters: None });
    })
}

fn update(
    framework: usize,
    offer: &pb::Offer,
    task_id: &pb::TaskId,
    (state, uuid): (TaskState, &bytes::Bytes),
) -> Input {
    let status = pb::TaskStatus {
        task_id: task_id.clone(),
        state: state.into(),
        source: Some(pb::task_status::Source::Executor.into()),
        agent_id: Some(offer.agent_id.clone()),
        uuid: Some(uuid.clone()),
        ..pb::TaskStatus::default()
    };
    let link =
        offer.agent_id.value.rsplit('S').next().and_then(|number| number.parse().ok()).unwrap_or_default();
    let update = StatusUpdate {
        framework_id: Some(Cluster::framework_id(framework)),
        status: Some(status),
        latest_state: state.into(),
        ..StatusUpdate::default()
    };
    Input::StatusUpdate { link, update: Box::new(update) }
}

//! Random histories against a slow, obvious recount.

mod node;
mod operators;
pub(crate) mod recount;
pub(crate) mod view;
mod world;

use meshos_proto::{meshos::registry::v1::AgentState, mesos::v1::TaskState};
use proptest::prelude::*;

use self::world::World;

const AGENTS: usize = 3;
const FRAMEWORKS: usize = 3;
/// Roles that get quotas and weights.
const ROLES: [&str; 3] = ["*", "eng", "idle"];
const TOTAL: &str = "cpus:4;mem:1000;disk:100;ports:[31000-31009];cpus(eng):1";

#[derive(Clone, Debug)]
enum Step {
    AgentUp(usize),
    AgentDown(usize),
    AgentState(usize, AgentState),
    Subscribe(usize),
    Close(usize),
    Accept { framework: usize, offer: usize, cpus: u8, count: u8, under: Under },
    ExecutorEnds(usize),
    Decline { framework: usize, offer: usize, seconds: u8 },
    Revive(usize),
    Suppress(usize),
    Update { task: usize, state: TaskState },
    Acknowledge { task: usize },
    Teardown(usize),
    Reserve { framework: usize, offer: usize, cpus: u8 },
    Unreserve { framework: usize, offer: usize },
    OperatorReserves { agent: usize, cpus: u8 },
    Quota { role: usize, guarantee: u8, limit: Option<u8> },
    Weight { role: usize, weight: u8 },
    Wait(u32),
}

/// Whose executor runs the tasks of an ACCEPT.
#[derive(Clone, Copy, Debug)]
enum Under {
    Command,
    /// Takes so many tenths of a cpu.
    Custom(u8),
    Group,
}

fn under() -> impl Strategy<Value = Under> {
    prop_oneof![3 => Just(Under::Command), 1 => (1..3_u8).prop_map(Under::Custom), 1 => Just(Under::Group)]
}

fn step() -> impl Strategy<Value = Step> {
    let (agent, framework) = (0..AGENTS, 0..FRAMEWORKS);
    let state = prop::sample::select(vec![
        AgentState::Connected,
        AgentState::Disconnected,
        AgentState::Unreachable,
        AgentState::Gone,
        AgentState::Removed,
    ]);
    let task_state = prop::sample::select(vec![
        TaskState::TaskRunning,
        TaskState::TaskKilling,
        TaskState::TaskFinished,
        TaskState::TaskFailed,
    ]);
    prop_oneof![
        4 => agent.clone().prop_map(Step::AgentUp),
        1 => agent.clone().prop_map(Step::AgentDown),
        2 => (agent, state).prop_map(|(agent, state)| Step::AgentState(agent, state)),
        4 => framework.clone().prop_map(Step::Subscribe),
        1 => framework.clone().prop_map(Step::Close),
        8 => (framework.clone(), 0..9_usize, 0..4_u8, 0..4_u8, under())
            .prop_map(|(framework, offer, cpus, count, under)| Step::Accept { framework, offer, cpus, count, under }),
        1 => (0..9_usize).prop_map(Step::ExecutorEnds),
        3 => (framework.clone(), 0..9_usize, 0..9_u8)
            .prop_map(|(framework, offer, seconds)| Step::Decline { framework, offer, seconds }),
        1 => framework.clone().prop_map(Step::Revive),
        1 => framework.clone().prop_map(Step::Suppress),
        6 => (0..50_usize, task_state).prop_map(|(task, state)| Step::Update { task, state }),
        5 => (0..50_usize).prop_map(|task| Step::Acknowledge { task }),
        1 => framework.clone().prop_map(Step::Teardown),
        3 => (framework.clone(), 0..9_usize, 1..3_u8)
            .prop_map(|(framework, offer, cpus)| Step::Reserve { framework, offer, cpus }),
        2 => (framework, 0..9_usize).prop_map(|(framework, offer)| Step::Unreserve { framework, offer }),
        1 => (0..AGENTS, 1..4_u8).prop_map(|(agent, cpus)| Step::OperatorReserves { agent, cpus }),
        2 => (0..ROLES.len(), 0..6_u8, prop::option::of(0..6_u8))
            .prop_map(|(role, guarantee, limit)| Step::Quota { role, guarantee, limit }),
        1 => (0..ROLES.len(), 1..4_u8).prop_map(|(role, weight)| Step::Weight { role, weight }),
        2 => (1..20_000_u32).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_given_twice_and_nothing_is_lost(steps in prop::collection::vec(step(), 1..80)) {
        let mut world = World::new();
        world.hear();
        for step in steps {
            world.run(step);
            world.check();
        }
    }
}

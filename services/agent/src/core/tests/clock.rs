//! The machine's clock jumps. Timers go by a clock that never does; only timestamps show it.

use super::*;

const DAY: Duration = Duration::from_secs(86_400);

fn limited(seconds: i64) -> pb::TaskInfo {
    let limit = pb::DurationInfo { nanoseconds: seconds * 1_000_000_000 };
    pb::TaskInfo { max_completion_time: Some(limit), ..task("t") }
}

#[test]
fn a_jump_while_the_agent_runs_ends_nothing_and_sends_nothing() {
    let mut scene = Scene::new();
    scene.run(limited(60));
    let sent = scene.sent.len();
    for unix in [DAY * 10_000, Duration::ZERO] {
        let effects = scene.core.handle(Input::Timer, Now { elapsed: scene.time, unix });
        assert!(effects.is_empty(), "{effects:?}");
    }
    scene.drain();
    assert!(scene.sent.len() > sent && scene.signals.is_empty());
    scene.wait(Duration::from_secs(60));
    assert_eq!(scene.signals.len(), 1, "when its time has come");
}

#[test]
fn a_clock_that_went_back_over_a_restart_gives_a_task_its_whole_time_again() {
    let mut scene = Scene::new();
    let container = scene.run(limited(60));
    scene.drain();
    scene.wait(Duration::from_secs(50));
    // At the beginning of 1970.
    let mut scene = scene.restart(vec![Recovered { container_id: container, pid: 42, exit: None }]);
    scene.link();
    scene.wait(Duration::from_secs(59));
    assert!(scene.signals.is_empty());
    scene.wait(Duration::from_secs(1));
    assert_eq!(scene.signals.len(), 1);
}

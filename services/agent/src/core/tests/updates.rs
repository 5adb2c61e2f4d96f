use super::*;

#[test]
fn mesos_c35_starting_running_and_finished_come_in_order_each_after_the_acknowledgement_of_the_one_before() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.exit(&container, ExitStatus::Code(0));
    assert_eq!(scene.sent.len(), 1, "only the oldest update is on its way");
    assert_eq!(scene.sent[0].latest_state(), TaskState::TaskStarting);
    assert_eq!(scene.drain(), [TaskState::TaskStarting, TaskState::TaskRunning, TaskState::TaskFinished]);
    assert_eq!(scene.last().message(), "Command exited with status 0");
    assert_eq!(scene.state("t"), None, "the terminal acknowledgement removes the task");
    assert_eq!(scene.cleaned, [container]);
}

#[test]
fn a_status_says_who_where_and_when() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.acknowledge();
    let status = scene.last();
    assert_eq!(status.source(), pb::task_status::Source::Executor);
    assert_eq!(status.uuid.as_ref().map(Bytes::len), Some(16));
    assert_eq!(status.timestamp, Some(1_000_000.0));
    assert_eq!(status.executor_id.unwrap().value, "t");
    assert_eq!(status.agent_id.unwrap().value, "a-S0");
    let place = status.container_status.unwrap();
    assert_eq!((place.container_id.unwrap().value, place.executor_pid), (container, Some(42)));
    assert_eq!(place.network_infos[0].ip_addresses[0].ip_address(), "10.0.0.1");
    assert_eq!(scene.sent[0].traceparent, "00-aa-bb-01");
}

#[test]
fn mesos_c36_an_unacknowledged_update_comes_again_after_10_20_40_seconds_up_to_10_minutes() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    let mut delays = vec![];
    let mut last = scene.time;
    while scene.time < seconds(10_000) {
        let sent = scene.sent.len();
        scene.wait(seconds(1));
        if scene.sent.len() > sent {
            delays.push((scene.time - last).as_secs());
            last = scene.time;
        }
    }
    assert_eq!(delays[..8], [10, 20, 40, 80, 160, 320, 600, 600]);
    assert_eq!(LAST_RETRY, seconds(600));
    assert!(scene.sent.iter().all(|update| update.status == scene.sent[0].status), "the identical update");
}

#[test]
fn updates_wait_while_there_is_no_link_and_start_anew_with_the_next() {
    let mut scene = Scene::new();
    scene.run(task("t"));
    scene.wait(seconds(100));
    scene.input(Input::LinkDown);
    let sent = scene.sent.len();
    scene.wait(seconds(1000));
    assert_eq!(scene.sent.len(), sent, "nothing is sent without a link");
    scene.link();
    assert_eq!(scene.sent.len(), sent + 1);
    scene.wait(seconds(10));
    assert_eq!(scene.sent.len(), sent + 2, "delays begin small again");
}

#[test]
fn mesos_c46_a_status_other_than_zero_is_a_failure_in_the_words_of_mesos() {
    let mut scene = Scene::new();
    let container = scene.run(task("t"));
    scene.exit(&container, ExitStatus::Code(1));
    assert_eq!(scene.drain().last(), Some(&TaskState::TaskFailed));
    assert_eq!(scene.last().message(), "Command exited with status 1");
    assert_eq!(scene.last().reason, None);
}

#[test]
fn mesos_c38_an_id_may_be_used_again_after_the_terminal_acknowledgement() {
    let mut scene = Scene::new();
    for _ in 0..2 {
        let container = scene.run(task("t"));
        scene.exit(&container, ExitStatus::Code(0));
        assert_eq!(scene.drain().len(), 3);
    }
    assert_eq!(scene.launched.len(), 2);
}

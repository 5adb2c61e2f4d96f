//! An agent process that is killed at any moment, again and again: every task is either running and known, or reported
//! as ended once, with its own exit status. `MESHOS_TEST_AGENT_KILLS` says how often (30 by default).
//!
//! This program is the agent and its supervisor as well, so it has no test harness.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test of the real machine"
)]

#[path = "never_lost/executor.rs"]
mod executor;
#[path = "agent/fakes.rs"]
#[allow(dead_code, unreachable_pub, reason = "shared with the tests of an agent in this process")]
mod fakes;
#[path = "never_lost/images.rs"]
mod images;
#[path = "never_lost/kinds.rs"]
mod kinds;
#[path = "never_lost/node.rs"]
mod node;
#[path = "../../../crates/testing/src/ports.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests of all services")]
mod ports;

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use fakes::task;
use meshos_proto::mesos::v1::{self as pb, TaskState};
use node::{Ends, Node};

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("an_agent_killed_at_any_moment_loses_nothing", an_agent_killed_at_any_moment_loses_nothing),
    (
        "executors_groups_and_containers_survive_kills_at_any_moment",
        kinds::executors_groups_and_containers_survive_kills_at_any_moment,
    ),
    (
        "containers_with_an_image_survive_kills_at_any_moment_and_leave_nothing_behind",
        images::containers_with_an_image_survive_kills_at_any_moment,
    ),
    ("tasks_outlive_agent_and_supervisor_together", tasks_outlive_agent_and_supervisor_together),
    (
        "a_machine_that_lost_power_reports_its_tasks_as_ended",
        a_machine_that_lost_power_reports_its_tasks_as_ended,
    ),
    (
        "a_checkpoint_cut_short_is_read_and_a_damaged_one_stops_the_start",
        a_checkpoint_cut_short_is_read_and_a_damaged_one_stops_the_start,
    ),
    (
        "a_clean_up_ends_what_ran_and_the_next_agent_says_so",
        a_clean_up_ends_what_ran_and_the_next_agent_says_so,
    ),
    (
        "a_full_disk_fails_new_tasks_and_keeps_the_old_ones",
        a_full_disk_fails_new_tasks_and_keeps_the_old_ones,
    ),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["supervisor", "--dir", dir] => return meshos_agent::supervisor::main(Path::new(dir)),
        ["agent", work_dir, registry, recovery, isolation, port] => {
            let place = (*registry, port.parse().unwrap());
            return node::be_an_agent(work_dir, place, (recovery, isolation));
        }
        ["executor"] => return executor::be_an_executor(),
        _ => {}
    }
    if arguments.iter().any(|argument| argument == "--list") {
        TESTS.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| if exact { name == f.as_str() } else { name.contains(f.as_str()) })
    };
    let mut failed = 0;
    for (name, test) in TESTS.iter().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {} ({:.2?})", if passed { "ok" } else { "FAILED" }, started.elapsed());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// How often the agent is killed.
fn rounds() -> u64 {
    std::env::var("MESHOS_TEST_AGENT_KILLS").map_or(30, |text| text.parse().unwrap())
}

fn run(test: impl AsyncFnOnce(&mut Node)) {
    run_in(tempfile::tempdir().unwrap(), test);
}

fn run_in(dir: tempfile::TempDir, test: impl AsyncFnOnce(&mut Node)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut node = Node::new(dir).await;
        test(&mut node).await;
        node.end().await;
    });
}

/// Says that it ran, how often, then ends with this code.
fn command(code: usize, pause: &str) -> String {
    format!("echo $$ >> ../../../../../../../../ran-$MESOS_EXECUTOR_ID; {pause} exit {code}")
}

/// Serves a file that comes after as many milliseconds as its directory says; the address.
fn slow_files() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = |mut stream: TcpStream| {
        let mut line = String::new();
        let _ = BufReader::new(&stream).read_line(&mut line);
        let wait = line.split('/').nth(1).and_then(|text| text.parse().ok()).unwrap_or_default();
        std::thread::sleep(Duration::from_millis(wait));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfile");
    };
    // Until this program ends.
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream));
        }
    });
    address
}

/// Small numbers that look random and are the same each time.
fn dice(seed: &mut u64, sides: u64) -> u64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) % sides
}

fn an_agent_killed_at_any_moment_loses_nothing() {
    let rounds = rounds();
    run(async |node| {
        // Limited by cgroups where that is permitted.
        node.isolation = "cgroups/cpu,cgroups/mem";
        let (mut seed, mut launched, mut killed) = (7, BTreeMap::new(), 0_u32);
        let mut ends = Ends::default();
        let files = slow_files();
        for round in 0..rounds {
            node.start();
            let mut link = node.link().await;
            ends.reregistered(&link.reregister);
            for number in 0..4_usize {
                let id = format!("t{round}-{number}");
                let pause = ["", "sleep 0.03;", "sleep 0.4;", "test -s file &&"][number];
                let code = usize::try_from(dice(&mut seed, 5)).unwrap();
                launched.insert(id.clone(), code);
                let mut info = task(&id, &command(code, pause));
                if number == 3 {
                    // On its way when the agent is killed.
                    let value = format!("http://{files}/{}/file", dice(&mut seed, 60));
                    let uri = pb::command_info::Uri { value, ..Default::default() };
                    info.command.as_mut().unwrap().uris = vec![uri];
                }
                link.launch(vec![info]).await;
                if dice(&mut seed, 8) == 0 {
                    link.kill(&id).await;
                    killed += 1;
                }
            }
            // As far as it gets in up to 60 ms.
            let moment = Duration::from_micros(dice(&mut seed, 60_000));
            let _ = tokio::time::timeout(moment, ends.take(&mut link, || false)).await;
            node.kill();
        }
        node.start();
        let mut link = node.link().await;
        ends.reregistered(&link.reregister);
        let all = link.reregister.tasks.len();
        ends.take_all(&mut link).await;
        let mut never_seen = 0;
        for (id, code) in &launched {
            let runs = node.runs(id);
            assert!(runs <= 1, "{id} ran {runs} times");
            let Some(end) = ends.of(id) else {
                // The command never reached the agent: the allocator, which knows what the agent reports, says so.
                assert_eq!(runs, 0, "{id} ran and nobody knows");
                never_seen += 1;
                continue;
            };
            match end.state() {
                TaskState::TaskFinished => assert_eq!((runs, *code), (1, 0), "{id}"),
                TaskState::TaskFailed => {
                    assert_eq!(
                        (runs, end.message()),
                        (1, format!("Command exited with status {code}").as_str()),
                        "{id}"
                    );
                }
                TaskState::TaskKilled | TaskState::TaskLost => {}
                other => panic!("{id}: {other:?}"),
            }
        }
        println!(
            "{rounds} kills, {} tasks, {killed} killed, {never_seen} never launched, {all} at the last start",
            launched.len()
        );
        assert!(node.left_over().is_empty(), "{:?}", node.left_over());
        kinds::nothing_is_left(node);
    });
}

fn tasks_outlive_agent_and_supervisor_together() {
    run(async |node| {
        node.start();
        let mut link = node.link().await;
        link.launch(vec![task("stays", &command(3, "while [ ! -e go ]; do sleep 0.02; done;"))]).await;
        link.until(TaskState::TaskRunning).await;
        node.kill();
        node.kill_supervisor();
        node.start();
        let mut link = node.link().await;
        let tasks: Vec<_> = link.reregister.tasks.iter().map(pb::Task::state).collect();
        assert_eq!((tasks, node.runs("stays")), (vec![TaskState::TaskRunning], 1));
        node.touch("stays", "go");
        let mut ends = Ends::default();
        ends.take_all(&mut link).await;
        let end = ends.of("stays").unwrap();
        assert_eq!(end.message(), "Command ended while nobody watched it: its exit status is not known");
        assert_eq!((end.state(), node.runs("stays")), (TaskState::TaskFailed, 1));
    });
}

fn a_machine_that_lost_power_reports_its_tasks_as_ended() {
    run(async |node| {
        node.start();
        let mut link = node.link().await;
        link.launch(vec![task("t", &command(0, "sleep 1000;"))]).await;
        link.until(TaskState::TaskRunning).await;
        node.lose_power();
        node.start();
        let mut link = node.link().await;
        let mut ends = Ends::default();
        ends.take_all(&mut link).await;
        let end = ends.of("t").unwrap();
        assert_eq!(
            (end.state(), end.reason()),
            (TaskState::TaskFailed, pb::task_status::Reason::ExecutorTerminated)
        );
        assert_eq!(node.runs("t"), 1, "it was not started again");
    });
}

fn a_checkpoint_cut_short_is_read_and_a_damaged_one_stops_the_start() {
    run(async |node| {
        node.start();
        let mut link = node.link().await;
        link.launch(vec![task("a", &command(0, "sleep 1000;")), task("b", &command(0, "sleep 1000;"))]).await;
        link.until(TaskState::TaskRunning).await;
        link.until(TaskState::TaskRunning).await;
        node.kill();
        let whole = node.checkpoint();
        node.write_checkpoint(&whole[..whole.len() - 3]);
        node.start();
        let link = node.link().await;
        assert_eq!(link.reregister.tasks.len(), 2);
        node.kill();
        let mut damaged = node.checkpoint();
        let at = damaged.windows(4).position(|window| window == b"m-S0").unwrap();
        damaged[at] ^= 0x20;
        node.write_checkpoint(&damaged);
        let (code, said) = node.start_in_vain();
        assert!(code != 0 && said.contains("are damaged"), "{said}");
        assert_eq!(node.checkpoint(), damaged, "nothing was lost by the try");
        node.start_leniently();
        let mut link = node.link().await;
        assert_eq!(link.reregister.tasks.len(), 2, "what could be read is there");
        for id in ["a", "b"] {
            link.kill(id).await;
        }
        let mut ends = Ends::default();
        ends.take_all(&mut link).await;
        assert_eq!(ends.of("a").unwrap().state(), TaskState::TaskKilled);
    });
}

/// `--recover=cleanup`.
fn a_clean_up_ends_what_ran_and_the_next_agent_says_so() {
    run(async |node| {
        node.isolation = "cgroups/cpu,cgroups/mem";
        node.start();
        let mut link = node.link().await;
        link.launch(vec![task("a", &command(0, "trap '' TERM; while true; do sleep 0.02; done;"))]).await;
        link.until(TaskState::TaskRunning).await;
        let (code, said) = node.clean_up();
        assert!(code != 0 && said.contains("used by another agent"), "{said}");
        assert_eq!(node.runs("a"), 1);
        node.kill();
        assert!(!node.left_over().is_empty(), "it runs on without an agent");
        let (code, said) = node.clean_up();
        assert_eq!((code, node.left_over()), (0, vec![]), "{said}");
        node.start();
        let mut link = node.link().await;
        let mut ends = Ends::default();
        ends.take_all(&mut link).await;
        let end = ends.of("a").unwrap();
        assert_eq!((end.state(), node.runs("a")), (TaskState::TaskFailed, 1));
        kinds::nothing_is_left(node);
    });
}

/// Needs the right to mount a small file system.
fn a_full_disk_fails_new_tasks_and_keeps_the_old_ones() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=4m,mode=0755", "tmpfs"])
        .arg(dir.path())
        .stderr(std::process::Stdio::null())
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        println!("skipped: nothing may be mounted here");
        return;
    }
    let mount = dir.path().to_owned();
    run_in(dir, async |node| {
        node.start();
        let mut link = node.link().await;
        link.launch(vec![task("old", &command(4, "while [ ! -e go ]; do sleep 0.02; done;"))]).await;
        link.until(TaskState::TaskRunning).await;
        node.fill_disk();
        // The last page of the checkpoint may have room for some more.
        let mut refused = None;
        for number in 0..100 {
            link.launch(vec![task(&format!("new{number}"), "true")]).await;
            let end = loop {
                let status = link.update().await.status.unwrap();
                link.acknowledge(&status).await;
                if meshos_types::task_state::is_terminal(status.state()) {
                    break status;
                }
            };
            if end.state() == TaskState::TaskFailed {
                refused = Some(end);
                break;
            }
        }
        let refused = refused.expect("no task is started that a restart would forget");
        assert_eq!(refused.reason(), pb::task_status::Reason::ContainerLaunchFailed, "{refused:?}");
        node.free_disk();
        link.launch(vec![task("later", &command(0, ""))]).await;
        link.until(TaskState::TaskFinished).await;
        node.kill();
        node.start();
        let mut link = node.link().await;
        node.touch("old", "go");
        let mut ends = Ends::default();
        ends.take_all(&mut link).await;
        assert_eq!(ends.of("old").unwrap().message(), "Command exited with status 4");
    });
    let unmounted = std::process::Command::new("umount").arg("-l").arg(&mount).status().unwrap();
    assert!(unmounted.success());
    let _ = std::fs::remove_dir(mount);
}

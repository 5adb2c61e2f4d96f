//! The random kills with all that an agent runs beside plain tasks: executors of the framework with many tasks each, task
//! groups, containers of the API.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use meshos_proto::{
    meshos::allocator::v1::{ShutdownExecutor, allocator_message::Body},
    mesos::v1::{self as pb, TaskState, executor_info},
};
use serde_json::{Value, json};

use super::{
    dice,
    fakes::{LinkEnd, PATIENCE, framework_id, task},
    node::{Ends, Node},
    rounds, run,
};

/// Rounds that one executor lives for.
const EACH: u64 = 5;

/// What was launched.
#[derive(Default)]
struct Launched {
    /// Tasks, with whether they may end by themselves.
    tasks: BTreeMap<String, bool>,
    executors: Vec<String>,
    containers: Vec<Value>,
}

fn executor(id: &str) -> pb::ExecutorInfo {
    let program = std::env::current_exe().unwrap().display().to_string();
    let command = pb::CommandInfo {
        shell: Some(false),
        value: Some(program),
        arguments: vec!["executor".to_owned(), "executor".to_owned()],
        ..pb::CommandInfo::default()
    };
    pb::ExecutorInfo {
        executor_id: pb::ExecutorId { value: id.to_owned() },
        framework_id: Some(framework_id()),
        command: Some(command),
        ..pb::ExecutorInfo::default()
    }
}

/// For the executor of the framework: `ends`: at once.
fn for_executor(id: &str, executor_id: &str, ends: bool) -> pb::TaskInfo {
    pb::TaskInfo {
        executor: Some(executor(executor_id)),
        command: None,
        data: ends.then(|| bytes::Bytes::from_static(b"ends")),
        ..task(id, "")
    }
}

/// One of a group, whose sandbox lies two levels below the group's.
fn of_group(id: &str, pause: &str) -> pb::TaskInfo {
    task(id, &format!("echo $$ >> ../../../../../../../../../../ran-{id}; {pause}"))
}

impl Launched {
    async fn round(&mut self, link: &LinkEnd, round: u64, seed: &mut u64) {
        let executor_id = format!("e{}", round / EACH);
        for number in 0..2_u64 {
            let id = format!("x{round}-{number}");
            link.launch(vec![for_executor(&id, &executor_id, number == 0)]).await;
            if number == 1 && dice(seed, 2) == 0 {
                link.kill(&id).await;
            }
            self.tasks.insert(id, number == 0);
        }
        self.executors.push(executor_id);
        let ids = [format!("g{round}-0"), format!("g{round}-1")];
        let members = vec![of_group(&ids[0], "true"), of_group(&ids[1], "sleep 0.1")];
        let played = pb::ExecutorInfo {
            r#type: Some(executor_info::Type::Default as i32),
            command: None,
            ..executor(&format!("p{round}"))
        };
        link.launch_group(members, played).await;
        if dice(seed, 8) == 0 {
            link.kill(&ids[1]).await;
        }
        self.tasks.extend(ids.map(|id| (id, true)));
    }

    /// A container of the API with one below it, as far as the agent lives to start them.
    fn containers(&mut self, node: &Node, round: u64) {
        let own = json!({"value": format!("s{round}")});
        let below = json!({"value": format!("n{round}"), "parent": own});
        let launch = |id: &Value, command: &str| {
            json!({"type": "LAUNCH_CONTAINER", "launch_container":
                {"container_id": id, "command": {"value": command}, "resources": []}})
        };
        let _ = call(node, &launch(&own, "exec sleep 1000"));
        let _ = call(node, &launch(&below, "exec sleep 1000"));
        self.containers.push(own);
    }
}

/// The status of an answer of the agent's API.
fn call(node: &Node, call: &Value) -> std::io::Result<u16> {
    let text = call.to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", node.port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "POST /api/v1 HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\nConnection: close\r\n\
         Content-Length: {}\r\n\r\n{text}",
        text.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

pub(crate) fn executors_groups_and_containers_survive_kills_at_any_moment() {
    run(async |node| {
        node.isolation = "cgroups/cpu,cgroups/mem";
        let (mut seed, mut launched, mut ends) = (11, Launched::default(), Ends::default());
        for round in 0..rounds() {
            node.start();
            let mut link = node.link().await;
            ends.reregistered(&link.reregister);
            launched.round(&link, round, &mut seed).await;
            let moment = Duration::from_micros(dice(&mut seed, 80_000));
            let took = tokio::time::timeout(moment, ends.take(&mut link, || false));
            let _ = took.await;
            if dice(&mut seed, 3) == 0 {
                // On a thread of its own: the agent is killed meanwhile.
                std::thread::scope(|scope| {
                    scope.spawn(|| launched.containers(node, round));
                    std::thread::sleep(Duration::from_micros(dice(&mut seed, 30_000)));
                    node.signal_agent();
                });
            }
            node.kill();
        }
        node.start();
        let mut link = node.link().await;
        ends.reregistered(&link.reregister);
        end_all(&launched, &link).await;
        ends.take_all(&mut link).await;
        for (id, by_itself) in &launched.tasks {
            let runs = node.runs(id);
            assert!(runs <= 1, "{id} ran {runs} times");
            let Some(end) = ends.of(id) else {
                assert_eq!(runs, 0, "{id} ran and nobody knows");
                continue;
            };
            match end.state() {
                TaskState::TaskFinished => assert_eq!((runs, *by_itself), (1, true), "{id}"),
                // An executor or a group that was ended takes its tasks with it.
                TaskState::TaskKilled | TaskState::TaskLost | TaskState::TaskFailed | TaskState::TaskGone => {
                }
                other => panic!("{id}: {other:?}"),
            }
        }
        let finished = ends.count(TaskState::TaskFinished);
        println!("{} kills, {} tasks, {finished} finished", rounds(), launched.tasks.len());
        for container_id in &launched.containers {
            // Not found: it never was launched.
            let kill = json!({"type": "KILL_CONTAINER", "kill_container": {"container_id": container_id}});
            assert!(matches!(call(node, &kill).unwrap(), 200 | 404));
            let wait = json!({"type": "WAIT_CONTAINER", "wait_container": {"container_id": container_id}});
            let known = call(node, &wait).unwrap() == 200;
            let remove =
                json!({"type": "REMOVE_CONTAINER", "remove_container": {"container_id": container_id}});
            assert!(!known || call(node, &remove).unwrap() == 200);
        }
        nothing_is_left(node);
    });
}

async fn end_all(launched: &Launched, link: &LinkEnd) {
    for (id, _) in launched.tasks.iter().filter(|(_, by_itself)| !**by_itself) {
        link.kill(id).await;
    }
    for id in &launched.executors {
        let shutdown = ShutdownExecutor {
            framework_id: Some(framework_id()),
            executor_id: Some(pb::ExecutorId { value: id.clone() }),
        };
        link.command(Body::ShutdownExecutor(shutdown)).await;
    }
}

pub(crate) fn nothing_is_left(node: &Node) {
    let started = Instant::now();
    loop {
        let (processes, cgroups) = (node.left_over(), node.left_cgroups());
        if processes.is_empty() && cgroups.is_empty() {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{processes:?} {cgroups:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

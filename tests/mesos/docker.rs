//! Tasks that the Docker Engine runs: line 78, and what users see of them. Needs a Docker engine and
//! `debian:bookworm-slim`; `MESHOS_TEST_SKIP_DOCKER=1` leaves these tests out.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use meshos_testing::{Local, LocalCluster, ports::ports};
use serde_json::{Value, json};

use crate::{
    images::{FILL, in_memory},
    support::{Framework, cluster, cluster_of, eventually, info, task},
};

fn skipped() -> bool {
    std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some()
}

fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The engine's containers of a framework; removed at the end whatever happens.
struct Containers(String);

impl Containers {
    fn of(framework: &Framework) -> Self {
        Self(format!("label=meshos.framework_id={}", framework.id))
    }

    fn names(&self) -> Vec<String> {
        docker(&["ps", "--all", "--filter", &self.0, "--format", "{{.Names}}"])
            .lines()
            .map(str::to_owned)
            .collect()
    }

    /// None are left, or become so.
    fn are_gone(&self) {
        eventually("the last container's removal", || match self.names() {
            names if names.is_empty() => Ok(()),
            names => Err(names),
        });
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for name in self.names() {
            docker(&["rm", "--force", "--volumes", &name]);
        }
    }
}

fn start(cluster: &LocalCluster) -> Local {
    cluster.start_with(|command| {
        command.env("MESOS_CONTAINERIZERS", "docker,mesos").env("MESOS_DOCKER_REMOVE_DELAY", "0secs");
    })
}

/// A task in the base image; `more` replaces and adds fields of `docker`.
fn in_docker(offer: &Value, id: &str, command: &str, more: Value) -> Value {
    let mut task = task(offer, id, command);
    let mut docker = json!({"image": "debian:bookworm-slim"});
    let Value::Object(more) = more else { panic!("fields are an object: {more}") };
    docker.as_object_mut().unwrap().extend(more);
    task["container"] = json!({"type": "DOCKER", "docker": docker});
    task
}

fn bridge(host_port: u16) -> Value {
    json!({"network": "BRIDGE", "port_mappings": [{"host_port": host_port, "container_port": 8080}]})
}

/// A cluster whose agent has two ports to give, which nobody else takes.
fn with_two_ports(dir: &Path) -> (LocalCluster, [u16; 2]) {
    let [first, second] = ports();
    let all = format!("cpus:1;mem:1024;disk:1024;ports:[{first}-{first},{second}-{second}]");
    (cluster_of(dir, &all), [first, second])
}

fn with_port(mut task: Value, port: u16) -> Value {
    let ports =
        json!({"name": "ports", "type": "RANGES", "ranges": {"range": [{"begin": port, "end": port}]}});
    task["resources"].as_array_mut().unwrap().push(ports);
    task
}

/// Answers `hello` to everybody.
const SERVER: &str = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 9, \
                      ReuseAddr => 1) or die; while ($c = $s->accept) { <$c>; print $c \"HTTP/1.0 200 \
                      OK\\r\\n\\r\\nhello\"; close($c) }'";

#[test]
fn mesos_c78_a_port_must_be_the_tasks_own_and_then_leads_into_the_container() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (cluster, [port, other]) = with_two_ports(dir.path());
    let meshos = start(&cluster);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let containers = Containers::of(&framework);
    let offer = framework.offer();
    framework.launch(&offer, &[with_port(in_docker(&offer, "outside", SERVER, bridge(port)), other)]);
    let failed = framework.until("outside", "TASK_FAILED");
    assert_eq!(
        (failed["message"].as_str(), failed["reason"].as_str()),
        (
            Some(format!("Port [{port}] not included in resources").as_str()),
            Some("REASON_CONTAINER_LAUNCH_FAILED")
        )
    );
    let offer = framework.offer();
    framework.launch(&offer, &[with_port(in_docker(&offer, "inside", SERVER, bridge(port)), port)]);
    let running = framework.until("inside", "TASK_RUNNING");
    let network = &running["container_status"]["network_infos"][0];
    assert_eq!(network["name"], "bridge", "{running}");
    let address = network["ip_addresses"][0]["ip_address"].as_str().unwrap().to_owned();
    eventually("the server", || {
        let mut connection = TcpStream::connect(("127.0.0.1", port)).map_err(|error| error.to_string())?;
        connection.write_all(b"GET / HTTP/1.0\r\n\r\n").map_err(|error| error.to_string())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).map_err(|error| error.to_string())?;
        if answer.ends_with("hello") { Ok(()) } else { Err(answer) }
    });
    let shown = meshos.agents[0].get("/containers").unwrap().json();
    assert_eq!(
        shown[0]["status"]["network_infos"][0]["ip_addresses"][0]["ip_address"],
        json!(address),
        "{shown}"
    );
    assert!(shown[0]["statistics"]["mem_rss_bytes"].as_f64().unwrap() > 0.0, "{shown}");
    framework.kill("inside");
    let killed = framework.until("inside", "TASK_KILLED");
    assert!(killed["message"].as_str().unwrap().starts_with("Container exited with status"), "{killed}");
    containers.are_gone();
    assert!(meshos.terminate().success());
}

#[test]
fn a_docker_task_has_its_sandbox_its_variables_and_checks_from_inside() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meshos = start(&cluster(dir.path(), "cpus:1"));
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let containers = Containers::of(&framework);
    let offer = framework.offer();
    let command = "echo $MESOS_TASK_ID $MESOS_SANDBOX $MESOS_CONTAINER_NAME; echo $0 > kept; touch /tmp/well; \
                   while ! test -e $MESOS_SANDBOX/end; do sleep 0.1; done; exit 3";
    let parameters = json!([{"key": "workdir", "value": "/mnt/mesos/sandbox"}]);
    let mut well = in_docker(&offer, "well", command, json!({"parameters": parameters}));
    let check = json!({"value": "test -e /tmp/well && ! test -e /mnt/mesos/sandbox/ill"});
    well["health_check"] = json!({"type": "COMMAND", "command": check, "delay_seconds": 0, "interval_seconds": 0.1,
        "grace_period_seconds": 0, "consecutive_failures": 100});
    framework.launch(&offer, &[well]);
    let healthy = loop {
        let status = framework.acked();
        if status.get("healthy").is_some() {
            break status;
        }
        assert_ne!(status["state"], "TASK_FAILED", "{status}");
    };
    assert_eq!(healthy["healthy"], true, "{healthy}");
    let id = healthy["container_status"]["container_id"]["value"].as_str().unwrap();
    let sandbox = sandbox(dir.path(), "well");
    let said = std::fs::read_to_string(sandbox.join("stdout")).unwrap();
    assert_eq!(said, format!("well /mnt/mesos/sandbox mesos-{id}\n"));
    assert!(sandbox.join("kept").exists());
    std::fs::write(sandbox.join("ill"), "").unwrap();
    loop {
        let status = framework.acked();
        if status["healthy"] == false {
            break;
        }
    }
    std::fs::write(sandbox.join("end"), "").unwrap();
    let failed = framework.until("well", "TASK_FAILED");
    assert_eq!(failed["message"], "Container exited with status 3");
    containers.are_gone();
    assert!(meshos.terminate().success());
}

/// The sandbox of a task's newest run.
pub(crate) fn sandbox(data: &Path, task: &str) -> std::path::PathBuf {
    let slaves = data.join("data/agent-0/slaves");
    let agent = std::fs::read_dir(slaves).unwrap().flatten().next().unwrap().path();
    let framework = std::fs::read_dir(agent.join("frameworks")).unwrap().flatten().next().unwrap().path();
    std::fs::canonicalize(framework.join(format!("executors/{task}/runs/latest"))).unwrap()
}

#[test]
fn what_is_not_switched_on_or_not_known_is_said() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start();
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[in_docker(&offer, "off", "true", json!({}))]);
    let failed = framework.until("off", "TASK_FAILED");
    let message = failed["message"].as_str().unwrap();
    assert!(
        message.starts_with("None of the enabled containerizers (mesos) could create a container"),
        "{message}"
    );
    assert!(message.contains("--containerizers=mesos,docker"), "{message}");
    assert!(meshos.terminate().success());

    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start_with(|command| {
        command
            .env("MESOS_CONTAINERIZERS", "docker,mesos")
            .env("MESOS_DOCKER_SOCKET", "/no/such/docker.sock");
    });
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut restart = in_docker(&offer, "away", "true", json!({}));
    restart["container"]["docker"]["parameters"] = json!([{"key": "env", "value": "A=b"}]);
    // Plain tasks go on.
    framework.launch(&offer, &[restart, task(&offer, "plain", "exit 0")]);
    let mut messages = std::collections::BTreeMap::new();
    while messages.len() < 2 {
        let status = framework.acked();
        if matches!(status["state"].as_str(), Some("TASK_FAILED" | "TASK_FINISHED")) {
            let id = status["task_id"]["value"].as_str().unwrap().to_owned();
            messages.insert(id, status["message"].as_str().unwrap_or_default().to_owned());
        }
    }
    assert!(messages["away"].contains("/no/such/docker.sock"), "{messages:?}");
    assert_eq!(messages["plain"], "Command exited with status 0");
    let state = meshos.agents[0].get("/state").unwrap().json();
    assert!(state["containerizer_troubles"][0].as_str().unwrap().contains("/no/such/docker.sock"), "{state}");
    assert!(meshos.terminate().success());
}

/// A network and a volume of the engine; gone when this is dropped.
struct Named(String);

impl Named {
    fn create() -> Self {
        let name = format!("meshos-test-c78-{}", std::process::id());
        docker(&["network", "create", &name]);
        Self(name)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        docker(&["network", "rm", &self.0]);
        docker(&["volume", "rm", "--force", &self.0]);
    }
}

/// Answers what it is sent, once it is asked.
const ECHO: &str = "exec perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalPort => 8053, Proto => \"udp\") or die; \
                    while ($s->recv($m, 99)) { $s->send(\"udp $m\") }'";

#[test]
fn networks_volumes_and_drivers_are_those_of_the_engine() {
    if skipped() {
        return;
    }
    let named = Named::create();
    let dir = tempfile::tempdir().unwrap();
    let (cluster, [port, _]) = with_two_ports(dir.path());
    let meshos = start(&cluster);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let containers = Containers::of(&framework);
    let offer = framework.offer();
    let alone =
        in_docker(&offer, "alone", "ls /sys/class/net | grep -c eth; exit 0", json!({"network": "NONE"}));
    let ports = json!([{"host_port": port, "container_port": 8053, "protocol": "udp"}]);
    let mut user = in_docker(&offer, "user", ECHO, json!({"network": "USER", "port_mappings": ports}));
    user["container"]["network_infos"] = json!([{"name": named.0}]);
    let driven = json!([{"mode": "RW", "container_path": "/data", "source": {"type": "DOCKER_VOLUME",
        "docker_volume": {"driver": "local", "name": named.0,
            "driver_options": {"parameter": [{"key": "type", "value": "tmpfs"}, {"key": "device", "value": "tmpfs"}]}}}}]);
    let mut volume = in_docker(&offer, "volume", "stat -f -c %T /data; echo kept > /data/file", json!({}));
    volume["container"]["volumes"] = driven.clone();
    framework.launch(&offer, &[alone, with_port(user, port), volume]);
    let mut seen = std::collections::BTreeMap::new();
    while seen.len() < 3 {
        let status = framework.acked();
        let (id, state) = (status["task_id"]["value"].as_str().unwrap(), status["state"].as_str().unwrap());
        assert!(!matches!(state, "TASK_FAILED" | "TASK_LOST"), "{status}");
        let last = if id == "user" { "TASK_RUNNING" } else { "TASK_FINISHED" };
        if state == last {
            seen.insert(id.to_owned(), status.clone());
        }
    }
    let said = |task: &str| std::fs::read_to_string(sandbox(dir.path(), task).join("stdout")).unwrap();
    assert_eq!((said("alone").as_str(), said("volume").as_str()), ("0\n", "tmpfs\n"));
    assert_eq!(
        docker(&["volume", "inspect", "--format", "{{.Driver}} {{.Options.type}}", &named.0]),
        "local tmpfs"
    );
    let network = &seen["user"]["container_status"]["network_infos"][0];
    assert_eq!(network["name"], json!(named.0), "{network}");
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    eventually("the server", || {
        socket.send_to(b"hello", ("127.0.0.1", port)).map_err(|error| error.to_string())?;
        let mut answer = [0; 99];
        let length = socket.recv(&mut answer).map_err(|error| error.to_string())?;
        if &answer[..length] == b"udp hello" { Ok(()) } else { Err(format!("{:?}", &answer[..length])) }
    });
    framework.kill("user");
    framework.until("user", "TASK_KILLED");

    // What the engine says of a driver that it does not have, and of arguments for an image without an entrypoint.
    let offer = framework.offer();
    let mut unknown = in_docker(&offer, "unknown", "true", json!({}));
    unknown["container"]["volumes"] = driven;
    unknown["container"]["volumes"][0]["source"]["docker_volume"]["driver"] = json!("no-such-driver");
    let mut arguments = in_docker(&offer, "arguments", "", json!({}));
    arguments["command"] = json!({"shell": false, "arguments": ["/bin/echo", "a  b", "c"]});
    framework.launch(&offer, &[unknown, arguments]);
    let mut messages = std::collections::BTreeMap::new();
    while messages.len() < 2 {
        let status = framework.acked();
        if matches!(status["state"].as_str(), Some("TASK_FAILED" | "TASK_FINISHED")) {
            let id = status["task_id"]["value"].as_str().unwrap().to_owned();
            messages.insert(id, (status["message"].clone(), status["reason"].clone()));
        }
    }
    assert!(messages["unknown"].0.as_str().unwrap().contains("no-such-driver"), "{messages:?}");
    assert_eq!(messages["unknown"].1, "REASON_CONTAINER_LAUNCH_FAILED");
    assert_eq!(said("arguments"), "a  b c\n");
    containers.are_gone();
    assert!(meshos.terminate().success());
}

#[test]
fn a_volume_in_memory_is_the_same_with_docker() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meshos = start(&cluster(dir.path(), "cpus:1"));
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let containers = Containers::of(&framework);
    for id in ["first", "second"] {
        let offer = framework.offer();
        let mut task = in_docker(&offer, id, &format!("ls -A /scratch; {FILL}"), json!({}));
        task["container"]["volumes"] = in_memory("2m");
        framework.launch(&offer, &[task]);
        framework.until(id, "TASK_FINISHED");
        let said = std::fs::read_to_string(sandbox(dir.path(), id).join("stdout")).unwrap();
        assert_eq!(said, "tmpfs\n2048\n700\nfits\nfull\n1\n");
    }
    // A plain process sees the machine's files: there is no place for it.
    for (id, kind, size, said) in
        [("hostile", "DOCKER", "50%", "'50%'"), ("plain", "MESOS", "2m", "--isolation=filesystem/linux")]
    {
        let offer = framework.offer();
        let mut task = in_docker(&offer, id, "true", json!({}));
        task["container"]["type"] = json!(kind);
        task["container"]["volumes"] = in_memory(size);
        framework.launch(&offer, &[task]);
        let failed = framework.until(id, "TASK_FAILED");
        assert!(failed["message"].as_str().unwrap().contains(said), "{failed}");
    }
    containers.are_gone();
    assert!(meshos.terminate().success());
}

/// An executor in perl: it runs one task, which ends when there is a file `end` in the sandbox.
const EXECUTOR: &str = r#"
    sub ask {
        my $s = IO::Socket::INET->new($ENV{MESOS_AGENT_ENDPOINT}) or die $!;
        my ($f, $e) = @ENV{"MESOS_FRAMEWORK_ID", "MESOS_EXECUTOR_ID"};
        my $b = "{\"framework_id\":{\"value\":\"$f\"},\"executor_id\":{\"value\":\"$e\"},$_[0]}";
        print $s "POST /api/v1/executor HTTP/1.1\r\nHost: agent\r\nContent-Type: application/json\r\n" .
            "Accept: application/json\r\nContent-Length: " . length($b) . "\r\n\r\n$b";
        return $s;
    }
    sub report {
        my ($t, $state, $uuid) = @_;
        my $s = ask("\"type\":\"UPDATE\",\"update\":{\"status\":{\"task_id\":{\"value\":\"$t\"},\"state\":\"$state\"," .
            "\"source\":\"SOURCE_EXECUTOR\",\"uuid\":\"$uuid\",\"message\":\"from inside $ENV{MESOS_CONTAINER_NAME}\"}}");
        sysread($s, my $answer, 99);
    }
    my $s = ask("\"type\":\"SUBSCRIBE\",\"subscribe\":{\"unacknowledged_tasks\":[],\"unacknowledged_updates\":[]}");
    my $said = "";
    while ($said !~ /"LAUNCH"/ || $said !~ /"task_id":\{"value":"([^"]+)"/) { sysread($s, $said, 4096, length($said)) or die; }
    my ($t) = $said =~ /"task_id":\{"value":"([^"]+)"/;
    report($t, "TASK_RUNNING", "AAECAwQFRgeICQoLDA0ODw==");
    while (! -e "/mnt/mesos/sandbox/end") { select(undef, undef, undef, 0.05); }
    report($t, "TASK_FINISHED", "AQECAwQFRgeICQoLDA0ODw==");
    while (sysread($s, my $b, 4096)) {}
"#;

fn executor_in_docker(image: &str) -> Value {
    json!({"executor_id": {"value": "e"}, "name": "an executor",
        "command": {"value": format!("exec perl -MIO::Socket::INET -e '{EXECUTOR}'")},
        "container": {"type": "DOCKER", "docker": {"image": image}}})
}

#[test]
fn an_executor_in_a_container_of_the_engine_runs_its_tasks() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meshos = start(&cluster(dir.path(), "cpus:1"));
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut task = task(&offer, "inside", "");
    task.as_object_mut().unwrap().remove("command");
    task["executor"] = executor_in_docker("debian:bookworm-slim");
    framework.launch(&offer, &[task]);
    let running = framework.until("inside", "TASK_RUNNING");
    let container = running["container_status"]["container_id"]["value"].as_str().unwrap();
    let name = format!("mesos-{container}");
    assert_eq!(running["message"], format!("from inside {name}"), "{running}");
    assert_eq!(docker(&["inspect", "--format", "{{.State.Running}}", &name]), "true");
    std::fs::write(sandbox(dir.path(), "e").join("end"), "").unwrap();
    framework.until("inside", "TASK_FINISHED");
    framework.tell("SHUTDOWN", json!({"executor_id": {"value": "e"}, "agent_id": running["agent_id"]}));
    eventually("its container is gone", || {
        match docker(&["ps", "--all", "--quiet", "--filter", &format!("name={name}")]) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        }
    });
    assert!(meshos.terminate().success());
}

/// The registry is slower than an executor may be.
#[test]
fn no_executor_is_late_while_its_image_is_pulled() {
    if skipped() {
        return;
    }
    let registry = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let image = format!("{}/slow:1", registry.local_addr().unwrap());
    std::thread::spawn(move || {
        // The first one waits: three times as long as an executor has.
        let mut wait = Duration::from_secs(3);
        while let Ok((mut connection, _)) = registry.accept() {
            std::thread::sleep(std::mem::take(&mut wait));
            let _ = connection
                .write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let meshos = cluster(dir.path(), "cpus:1").start_with(|command| {
        command
            .env("MESOS_CONTAINERIZERS", "docker,mesos")
            .env("MESOS_EXECUTOR_REGISTRATION_TIMEOUT", "1secs");
    });
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let mut task = task(&offer, "waits", "");
    task.as_object_mut().unwrap().remove("command");
    task["executor"] = executor_in_docker(&image);
    framework.launch(&offer, &[task]);
    let failed = framework.until("waits", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LAUNCH_FAILED", "{failed}");
    assert!(failed["message"].as_str().unwrap().contains("Failed to pull the image"), "{failed}");
    assert!(meshos.terminate().success());
}

/// The agent is killed while containers are made, run and end. Each task ends as it did, or never ran.
#[test]
fn docker_tasks_outlive_an_agent_that_is_killed_at_any_moment_and_leave_nothing_behind() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let cluster = cluster(dir.path(), "cpus:4");
    let mut meshos = start(&cluster);
    let mut framework =
        Framework::subscribe(&meshos.mesos, &info(json!({"checkpoint": true, "failover_timeout": 600})));
    let containers = Containers::of(&framework);
    let id = framework.id.clone();
    for (round, delay) in [0, 150, 300, 450, 700, 1200].into_iter().enumerate() {
        let offer = framework.offer();
        let name = |kind: &str| format!("{kind}-{round}");
        let lines = "i=0; while test $i -lt 100; do echo $i; i=$((i+1)); sleep 0.01; done; exit 7";
        framework.launch(
            &offer,
            &[
                in_docker(
                    &offer,
                    &name("long"),
                    "exec sleep 1000",
                    json!({"parameters": [{"key": "init", "value": "true"}]}),
                ),
                in_docker(&offer, &name("lines"), lines, json!({})),
                in_docker(&offer, &name("quick"), "exit 0", json!({})),
            ],
        );
        std::thread::sleep(Duration::from_millis(delay));
        meshos.kill_9();
        meshos = start(&cluster);
        let again = info(json!({"id": {"value": id}, "checkpoint": true, "failover_timeout": 600}));
        framework = Framework::subscribe(&meshos.mesos, &again);
        let expected = [
            ("long", "TASK_RUNNING", ""),
            ("lines", "TASK_FAILED", "Container exited with status 7"),
            ("quick", "TASK_FINISHED", "Container exited with status 0"),
        ];
        for (kind, state, message) in expected {
            let status = known_as(&mut framework, &name(kind), state);
            let lost = matches!(
                status["state"].as_str(),
                Some("TASK_DROPPED" | "TASK_LOST" | "TASK_UNKNOWN" | "TASK_GONE")
            );
            assert!(lost || status["state"] == state, "{kind} after {delay} ms: {status}");
            if !lost && state != "TASK_RUNNING" {
                assert_eq!(status["message"], message, "{kind} after {delay} ms");
            }
            if kind == "lines" && status["state"] == "TASK_FAILED" {
                let said = std::fs::read_to_string(sandbox(dir.path(), &name(kind)).join("stdout")).unwrap();
                let all: String = (0..100).map(|line| format!("{line}\n")).collect();
                assert_eq!(said, all, "after {delay} ms");
            }
            if kind == "long" && status["state"] == "TASK_RUNNING" {
                framework.kill(&name(kind));
                framework.until(&name(kind), "TASK_KILLED");
            }
        }
    }
    containers.are_gone();
    assert!(meshos.terminate().success());
}

/// Waits until the cluster says that a task is in a state, or that it never will be.
fn known_as(framework: &mut Framework, task: &str, state: &str) -> Value {
    const OVER: [&str; 7] = [
        "TASK_FINISHED",
        "TASK_FAILED",
        "TASK_KILLED",
        "TASK_DROPPED",
        "TASK_LOST",
        "TASK_GONE",
        "TASK_UNKNOWN",
    ];
    loop {
        framework.tell("RECONCILE", json!({"tasks": [{"task_id": {"value": task}}]}));
        while let Some(event) = framework.next_within("UPDATE", Duration::from_millis(300)) {
            let status = event["update"]["status"].clone();
            framework.acknowledge(&status);
            let now = status["state"].as_str().unwrap_or_default();
            if status["task_id"]["value"] == task && (now == state || OVER.contains(&now)) {
                return status;
            }
        }
    }
}

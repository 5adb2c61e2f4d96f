//! Tasks with an image that the agent runs itself: secrets, what the operator gives and refuses, who looks in, and images
//! that go. Needs root, a Docker engine for its archive of `debian:bookworm-slim`; `MESHOS_TEST_SKIP_DOCKER=1` leaves
//! these tests out.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use meshos_testing::{Local, LocalCluster};
use serde_json::{Value, json};

use crate::{
    containers::{encode, post, read_until, session},
    docker::sandbox,
    support::{Framework, cluster, eventually, info, task},
};

const IMAGE: &str = "debian:bookworm-slim";

fn skipped() -> bool {
    let uid = Command::new("id").arg("-u").output().unwrap().stdout;
    std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some() || uid != b"0\n"
}

/// An agent that finds the image in a directory.
fn start(dir: &Path, cluster: &LocalCluster, more: &[(&str, &str)]) -> Local {
    let archives = dir.join("archives");
    let archive = archives.join(format!("{IMAGE}.tar"));
    if !archive.exists() {
        std::fs::create_dir_all(&archives).unwrap();
        assert!(
            Command::new("docker").args(["save", "-o"]).arg(&archive).arg(IMAGE).status().unwrap().success()
        );
    }
    let isolation = "cgroups,filesystem/linux,docker/runtime,volume/secret,linux/capabilities,linux/seccomp,namespaces/ipc";
    cluster.start_with(|command| {
        command
            .env("MESOS_ISOLATION", isolation)
            .env("MESOS_IMAGE_PROVIDERS", "docker")
            .env("MESOS_DOCKER_REGISTRY", archives)
            .envs(more.iter().copied());
    })
}

fn in_image(offer: &Value, id: &str, command: &str, more: Value) -> Value {
    let mut task = task(offer, id, command);
    task["container"] =
        json!({"type": "MESOS", "mesos": {"image": {"type": "DOCKER", "docker": {"name": IMAGE}}}});
    let Value::Object(more) = more else { panic!("fields are an object: {more}") };
    task["container"].as_object_mut().unwrap().extend(more);
    task
}

fn secret(text: &str) -> Value {
    json!({"type": "VALUE", "value": {"data": encode(text)}})
}

#[test]
fn secrets_reach_the_container_and_the_operator_says_what_it_may() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let capabilities = r#"{"capabilities": ["CHOWN", "DAC_OVERRIDE", "SETGID", "SETUID", "NET_RAW"]}"#;
    let given = [("MESOS_BOUNDING_CAPABILITIES", capabilities), ("MESOS_DEFAULT_CONTAINER_SHM_SIZE", "2MB")];
    let meshos = start(dir.path(), &cluster(dir.path(), "cpus:1"), &given);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let line = "echo $KEY; cat /run/own/key file; grep CapBnd /proc/self/status; df /dev/shm | tail -1 | awk '{print $2}'";
    let volume = |path: &str, text: &str| json!({"mode": "RO", "container_path": path, "source": {"type": "SECRET", "secret": secret(text)}});
    let volumes = json!([volume("/run/own/key", "psst\n"), volume("file", "mum\n")]);
    let mut own = in_image(&offer, "own", line, json!({"volumes": volumes}));
    let variable = json!({"name": "KEY", "type": "SECRET", "secret": secret("hush")});
    own["command"]["environment"] = json!({"variables": [variable]});
    framework.launch(&offer, &[own]);
    let finished = framework.until("own", "TASK_FINISHED");
    assert!(!finished.to_string().contains("hush"));
    // Nobody who reads the state learns them.
    let encoded = |text: &str| secret(text)["value"]["data"].as_str().unwrap().to_owned();
    for (api, path) in [(&meshos.mesos, "/tasks"), (&meshos.mesos, "/state"), (&meshos.agents[0], "/state")] {
        let text = api.get(path).unwrap().text();
        assert!(text.contains("\"own\""), "{text}");
        assert!(!["psst\n", "mum\n", "hush"].iter().any(|value| text.contains(&encoded(value))), "{text}");
    }
    let said = std::fs::read_to_string(sandbox(dir.path(), "own").join("stdout")).unwrap();
    assert_eq!(said, "hush\npsst\nmum\nCapBnd:\t00000000000020c3\n2048\n");
    eventually("its secrets go with it", || {
        match std::fs::read_dir(dir.path().join("data/agent-0/oci")).unwrap().count() {
            0 => Ok(()),
            left => Err(left),
        }
    });

    let offer = framework.offer();
    let wants = json!({"linux_info": {"effective_capabilities": {"capabilities": ["SYS_ADMIN"]}}});
    framework.launch(&offer, &[in_image(&offer, "wants", "true", wants)]);
    let failed = framework.until("wants", "TASK_FAILED");
    assert!(failed["message"].as_str().unwrap().contains("CAP_SYS_ADMIN is not among"), "{failed}");
    // A plain process may no more than that either.
    let offer = framework.offer();
    framework.launch(&offer, &[task(&offer, "plain", "grep CapBnd /proc/self/status")]);
    framework.until("plain", "TASK_FINISHED");
    let said = std::fs::read_to_string(sandbox(dir.path(), "plain").join("stdout")).unwrap();
    assert_eq!(said, "CapBnd:\t00000000000020c3\n");
    assert!(meshos.terminate().success());
}

/// Everything that readers of the agent and of the master may ask for.
fn told(meshos: &Local) -> Vec<(String, String)> {
    let mut told = Vec::new();
    for (who, api) in [("master", &meshos.mesos), ("agent", &meshos.agents[0])] {
        for path in ["/state", "/tasks", "/frameworks", "/containers", "/flags"] {
            told.push((format!("{who} {path}"), api.get(path).unwrap().text()));
        }
        for kind in ["GET_STATE", "GET_TASKS", "GET_EXECUTORS", "GET_FRAMEWORKS", "GET_CONTAINERS"] {
            let answer = api.json("POST", "/api/v1", &json!({"type": kind})).unwrap();
            told.push((format!("{who} {kind}"), answer.text()));
        }
    }
    told
}

#[test]
fn nobody_who_looks_learns_the_secrets_of_an_executor() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let local = cluster(dir.path(), "cpus:1").with(&["--log_dir", logs.to_str().unwrap()]);
    let meshos = start(dir.path(), &local, &[]);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    let variable = |name: &str, text: &str| json!({"name": name, "type": "SECRET", "secret": secret(text)});
    let auth = r#"{"auths": {"registry.invalid": {"auth": "aHVzaC1hdXRoOng="}}}"#;
    let mut task = task(&offer, "t", "");
    task.as_object_mut().unwrap().remove("command");
    task["executor"] = json!({"executor_id": {"value": "e"}, "name": "an executor",
        "command": {"value": "echo ready; exec sleep 1000", "environment": {"variables": [variable("KEY", "hush-env")]}},
        "container": {"type": "MESOS",
            "mesos": {"image": {"type": "DOCKER", "docker": {"name": IMAGE, "config": secret(auth)}, "cached": true}},
            "volumes": [{"mode": "RO", "container_path": "/run/key",
                "source": {"type": "SECRET", "secret": secret("hush-file")}}]}});
    let check = json!({"value": "true", "environment": {"variables": [variable("CHECK", "hush-check")]}});
    task["health_check"] = json!({"type": "COMMAND", "command": check});
    framework.launch(&offer, &[task]);
    // Its sandbox says that it runs; the task is queued for it, as it never asks.
    eventually("the executor runs", || {
        let agents = dir.path().join("data/agent-0/slaves");
        let runs =
            std::process::Command::new("find").arg(agents).args(["-name", "stdout", "-size", "+0"]).output();
        if runs.unwrap().stdout.is_empty() { Err(()) } else { Ok(()) }
    });
    let secrets = ["hush-env", "hush-file", "hush-check", auth].map(|text| {
        let encoded = secret(text)["value"]["data"].as_str().unwrap().to_owned();
        (text, encoded)
    });
    let assert_hidden = |told: Vec<(String, String)>| {
        for (what, text) in told {
            for (plain, encoded) in &secrets {
                let is_there = text.contains(plain) || text.contains(encoded.as_str());
                assert!(!is_there && !text.contains("aHVzaC1hdXRoOng"), "{what} tells {plain}: {text}");
            }
        }
    };
    eventually("the executor is known to both", || {
        let shown = told(&meshos);
        let known =
            |what: &str| shown.iter().any(|(name, text)| name == what && text.contains("an executor"));
        let both = known("master GET_EXECUTORS") && known("agent GET_EXECUTORS") && known("agent /state");
        if both { Ok(()) } else { Err(shown) }
    });
    assert_hidden(told(&meshos));
    framework.tell("SHUTDOWN", json!({"executor_id": {"value": "e"}, "agent_id": offer["agent_id"]}));
    framework.next("FAILURE");
    assert_hidden(told(&meshos));
    assert!(meshos.terminate().success());
    let files = std::fs::read_dir(&logs).unwrap().flatten();
    assert_hidden(
        files.map(|file| ("log".to_owned(), std::fs::read_to_string(file.path()).unwrap())).collect(),
    );
}

/// Docker's own profile says what is allowed; this one what is not.
const PROFILE: &str = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
    {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13},
    {"names": ["uname"], "action": "SCMP_ACT_ERRNO"}]}"#;

#[test]
fn a_seccomp_profile_of_the_operators_holds_for_a_container_and_whoever_looks_in() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let profiles = dir.path().join("profiles/strict");
    std::fs::create_dir_all(&profiles).unwrap();
    std::fs::write(profiles.join("own.json"), PROFILE).unwrap();
    std::fs::write(profiles.join("broken.json"), "{").unwrap();
    let given = [("MESOS_SECCOMP_CONFIG_DIR", dir.path().join("profiles").display().to_string())];
    let given: Vec<_> = given.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let meshos = start(dir.path(), &cluster(dir.path(), "cpus:1"), &given);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let profile = |name: &str| json!({"linux_info": {"seccomp": {"profile_name": name}}});
    let offer = framework.offer();
    let line = "mkdir /x || echo refused; uname -a || echo refused; mount -t tmpfs x /mnt 2>/dev/null || echo refused; \
                touch ready; exec sleep 1000";
    framework.launch(&offer, &[in_image(&offer, "own", line, profile("strict/own.json"))]);
    let running = framework.until("own", "TASK_RUNNING");
    let place = sandbox(dir.path(), "own");
    eventually("it tried", || if place.join("ready").exists() { Ok(()) } else { Err(()) });
    // What the kernel refuses without a capability is refused still.
    assert_eq!(std::fs::read_to_string(place.join("stdout")).unwrap(), "refused\nrefused\nrefused\n");
    let said = std::fs::read_to_string(place.join("stderr")).unwrap();
    assert!(
        said.contains("mkdir: cannot create directory '/x': Permission denied")
            || said.contains("mkdir: cannot create directory \u{2018}/x\u{2019}: Permission denied"),
        "{said}"
    );
    let id = json!({"value": "looking", "parent": {"value": running["container_status"]["container_id"]["value"]}});
    let mut stream = session(&meshos.agents[0], &id, "mkdir /y || echo refused", Value::Null);
    assert_eq!(read_until(&mut stream, "STDOUT", ""), "refused\n");
    framework.kill("own");
    framework.until("own", "TASK_KILLED");
    let refused = [
        ("missing", "missing.json", "No such file"),
        ("broken", "strict/broken.json", "cannot be used"),
        ("outside", "../own.json", "no name of"),
    ];
    for (id, name, reason) in refused {
        let offer = framework.offer();
        framework.launch(&offer, &[in_image(&offer, id, "true", profile(name))]);
        let failed = framework.until(id, "TASK_FAILED");
        assert!(failed["message"].as_str().unwrap().contains(reason), "{failed}");
    }
    assert!(meshos.terminate().success());
}

/// A volume of the driver `tmpfs`, as Marathon's external volumes become one.
pub(crate) fn in_memory(size: &str) -> Value {
    json!([{"mode": "RW", "container_path": "/scratch", "source": {"type": "DOCKER_VOLUME",
        "docker_volume": {"driver": "tmpfs", "name": "scratch", "driver_options": {"parameter": [
            {"key": "size", "value": size}, {"key": "mode", "value": "0700"}]}}}}])
}

/// Says what it is, how large, whose; and whether more fits in than may.
pub(crate) const FILL: &str = "stat -f -c %T /scratch; df --output=size /scratch | tail -1 | tr -d ' '; \
    stat -c %a /scratch; head -c 1000000 /dev/zero > /scratch/fits && echo fits; \
    head -c 2000000 /dev/zero > /scratch/more 2>/dev/null || echo full; grep -c ' /scratch tmpfs.*nosuid,nodev' /proc/mounts";

#[test]
fn a_volume_in_memory_is_limited_and_gone_afterwards() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meshos = start(dir.path(), &cluster(dir.path(), "cpus:1"), &[]);
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let mounts = || std::fs::read_to_string("/proc/mounts").unwrap();
    for id in ["first", "second"] {
        let offer = framework.offer();
        let line = format!("ls -A /scratch; {FILL}");
        framework.launch(&offer, &[in_image(&offer, id, &line, json!({"volumes": in_memory("2m")}))]);
        framework.until(id, "TASK_FINISHED");
        // Nothing of the one before is in it, and nothing shows on the machine.
        let said = std::fs::read_to_string(sandbox(dir.path(), id).join("stdout")).unwrap();
        assert_eq!(said, "tmpfs\n2048\n700\nfits\nfull\n1\n");
        assert!(!mounts().contains("/scratch"), "{}", mounts());
    }
    // What is in it is the container's memory, of which there are 32 MB.
    let offer = framework.offer();
    let line = "head -c 100000000 /dev/zero > /scratch/all";
    framework.launch(&offer, &[in_image(&offer, "much", line, json!({"volumes": in_memory("1g")}))]);
    let failed = framework.until("much", "TASK_FAILED");
    assert_eq!(failed["reason"], "REASON_CONTAINER_LIMITATION_MEMORY", "{failed}");
    let offer = framework.offer();
    let broken = json!({"volumes": in_memory("2m,mode=4777")});
    framework.launch(&offer, &[in_image(&offer, "hostile", "true", broken)]);
    let failed = framework.until("hostile", "TASK_FAILED");
    assert!(failed["message"].as_str().unwrap().contains("'2m,mode=4777'"), "{failed}");
    assert!(meshos.terminate().success());
}

/// The unpacked layers of an agent's images.
fn layers(dir: &Path) -> usize {
    let store: PathBuf = dir.join("data/agent-0/store/docker/layers");
    std::fs::read_dir(store).map_or(0, Iterator::count)
}

#[test]
fn who_looks_in_has_a_terminal_and_pruned_images_go_when_nobody_runs() {
    if skipped() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let meshos = start(dir.path(), &cluster(dir.path(), "cpus:1"), &[]);
    let agent = &meshos.agents[0];
    let mut framework = Framework::subscribe(&meshos.mesos, &info(json!({})));
    let offer = framework.offer();
    framework.launch(&offer, &[in_image(&offer, "t", "touch /root/mark ready; exec sleep 1000", json!({}))]);
    let running = framework.until("t", "TASK_RUNNING");
    let parent = running["container_status"]["container_id"]["value"].as_str().unwrap();
    eventually(
        "it is ready",
        || if sandbox(dir.path(), "t").join("ready").exists() { Ok(()) } else { Err(()) },
    );
    let id = json!({"value": "looking", "parent": {"value": parent}});
    let tty = json!({"type": "MESOS", "tty_info": {"window_size": {"rows": 33, "columns": 101}}});
    let look = "stty size; test -t 0 && ls /root; pwd; ls /proc | grep -c ^1$; hostname; exit 5";
    let mut stream = session(agent, &id, look, tty);
    let said = read_until(&mut stream, "STDOUT", "");
    let lines: Vec<_> = said.split("\r\n").collect();
    assert_eq!(lines[..4], ["33 101", "mark", "/mnt/mesos/sandbox", "1"], "{said}");
    let ended = post(agent, "WAIT_NESTED_CONTAINER", json!({"container_id": id})).json();
    assert_eq!(ended["wait_nested_container"]["exit_status"], 5 << 8);

    let prune = |excluded: Value| {
        let call = json!({"type": "PRUNE_IMAGES", "prune_images": {"excluded_images": excluded}});
        assert_eq!(agent.json("POST", "/api/v1", &call).unwrap().status, 200);
        layers(dir.path())
    };
    assert!(prune(json!([])) > 0, "a container runs in it");
    framework.kill("t");
    framework.until("t", "TASK_KILLED");
    let image = json!([{"type": "DOCKER", "docker": {"name": IMAGE}}]);
    assert!(prune(image) > 0, "it is excluded");
    // The container is forgotten a moment after its end was told.
    eventually("the image goes", || if prune(json!([])) == 0 { Ok(()) } else { Err(()) });
    assert!(meshos.terminate().success());
}

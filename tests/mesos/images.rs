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
    let isolation = "cgroups,filesystem/linux,docker/runtime,volume/secret,linux/capabilities,namespaces/ipc";
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

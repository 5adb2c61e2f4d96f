//! Containers with their own root file system on the real machine: the conformance suite, volumes, what they may not do,
//! networks. Needs root, overlayfs and a Debian root file system (`scripts/base-image` makes one); what cannot run says
//! so in a line. This program is the supervisor as well, so it has no test harness.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test of the real machine"
)]

#[path = "oci/escapes.rs"]
mod escapes;
#[path = "oci/images.rs"]
mod images;
#[path = "oci/inside.rs"]
mod inside;
#[path = "oci/kills.rs"]
mod kills;
#[path = "oci/networks.rs"]
mod networks;
#[path = "oci/node.rs"]
mod node;
#[path = "../../../crates/testing/src/ports.rs"]
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "shared with the tests of all services")]
mod ports;
#[path = "oci/volumes.rs"]
mod volumes;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use meshos_agent::{
    containerizer::{ContainerSpec, Containerizer, ExitStatus, conformance, container::ImageCommand},
    supervisor,
};
use node::{Node, code, in_image, output, setup, wait_until};

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("containers_with_an_image_conform", containers_with_an_image_conform),
    ("containers_on_the_machines_files_conform", containers_on_the_machines_files_conform),
    ("plain_processes_conform_as_well", plain_processes_conform_as_well),
    ("an_image_says_what_runs", an_image_says_what_runs),
    ("a_container_has_its_own_world", a_container_has_its_own_world),
    ("sigterm_ends_what_does_not_handle_it_and_the_rest_handles_it", sigterm_ends_what_does_not_handle_it),
    ("users_are_those_of_the_image", users_are_those_of_the_image),
    ("figures", figures),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["supervisor", "--dir", dir] => return supervisor::main(Path::new(dir)),
        ["agent", dir] => return kills::be_an_agent(Path::new(dir)),
        _ => {}
    }
    if arguments.iter().any(|argument| argument == "--list") {
        tests().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let filters: Vec<_> = arguments.iter().filter(|argument| !argument.starts_with('-')).collect();
    let exact = arguments.iter().any(|argument| argument == "--exact");
    let wanted = |name: &str| {
        filters.is_empty()
            || filters.iter().any(|f| if exact { name == f.as_str() } else { name.contains(f.as_str()) })
    };
    if let Err(reason) = node::permitted() {
        println!("containers cannot run here: {reason}");
        return ExitCode::SUCCESS;
    }
    node::leave_the_machines_network();
    let mut failed = 0;
    for (name, test) in tests().filter(|(name, _)| wanted(name)) {
        let started = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(test)).is_ok();
        failed += usize::from(!passed);
        println!("test {name} ... {} ({:.2?})", if passed { "ok" } else { "FAILED" }, started.elapsed());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tests() -> impl Iterator<Item = &'static Test> {
    let parts =
        [TESTS, escapes::TESTS, images::TESTS, inside::TESTS, volumes::TESTS, networks::TESTS, kills::TESTS];
    parts.into_iter().flatten()
}

fn containers_with_an_image_conform() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let wrapped = node::Wrapped { containerizer, setup: setup("debian") };
        conformance::run(Arc::new(wrapped), &node.sandboxes()).await;
    });
}

fn containers_on_the_machines_files_conform() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let setup = meshos_agent::containerizer::ContainerSetup { image: None, ..setup("") };
        let wrapped = node::Wrapped { containerizer, setup };
        conformance::run(Arc::new(wrapped), &node.sandboxes()).await;
    });
}

fn plain_processes_conform_as_well() {
    let node = Node::new();
    node.agent(async |containerizer| {
        conformance::run(containerizer, &node.sandboxes()).await;
    });
}

fn an_image_says_what_runs() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut spec = in_image("says", "", &node.sandboxes());
        spec.program = String::new();
        spec.environment.clear();
        let container = spec.container.as_mut().unwrap();
        container.image.as_mut().unwrap().name = "echo".to_owned();
        container.command = ImageCommand { arguments: vec!["given".to_owned()], ..ImageCommand::default() };
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        assert_eq!(output(&spec, "stdout"), "/somewhere/new of-image given\n");
    });
}

fn a_container_has_its_own_world() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let command = "echo pid $$; ls /proc | grep -c '^[0-9]'; pwd; echo $MESOS_SANDBOX; cat /etc/debian_version; \
                       ls /dev | sort | tr '\\n' ' '; echo; echo written > /root/file && cat /root/file; \
                       cat /proc/self/cgroup | head -1 | grep -c meshos; df /dev/shm | tail -1 | awk '{print $2}'; hostname; \
                       stat -f -c %T /; grep -c . /etc/resolv.conf > /dev/null && echo names; echo out >> /dev/stdout";
        let mut spec = in_image("world", command, &node.sandboxes());
        spec.environment.insert("MESOS_SANDBOX".to_owned(), "/mnt/mesos/sandbox".to_owned());
        let container = spec.container.as_mut().unwrap();
        container.linux.shm_size = Some(1 << 20);
        container.hostname = Some("own-name".to_owned());
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        let text = output(&spec, "stdout");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!((lines[0], lines[2], lines[3]), ("pid 1", "/mnt/mesos/sandbox", "/mnt/mesos/sandbox"), "{text}");
        assert!(lines[1].parse::<u32>().unwrap() < 6, "{text}");
        assert!(lines[4].starts_with("12"), "{text}");
        let devices = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero";
        let expected: Vec<_> = devices.split(' ').filter(|name| *name != "core").collect();
        assert_eq!(lines[5].split_whitespace().collect::<Vec<_>>(), expected, "{text}");
        assert_eq!(lines[6..], ["written", "0", "1024", "own-name", "overlayfs", "names", "out"], "{text}");
        assert!(!Path::new("/root/file").exists());
    });
}

fn sigterm_ends_what_does_not_handle_it() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        for (name, command, status) in [
            ("deaf", "touch ready; exec sleep 1000", ExitStatus::Signal(15)),
            (
                "polite",
                "trap 'exit 7' TERM; touch ready; while true; do sleep 0.05; done",
                ExitStatus::Code(7),
            ),
        ] {
            let spec = in_image(name, command, &node.sandboxes());
            node::start(&containerizer, &spec).await;
            wait_until("it runs", || spec.sandbox.join("ready").exists());
            containerizer.signal(name, 15).await.unwrap();
            assert_eq!(conformance::ended(&mut events, name).await.status, status);
            containerizer.cleanup(name).await.unwrap();
        }
    });
}

fn users_are_those_of_the_image() {
    let node = Node::new();
    node.passable();
    node.agent(async |containerizer| {
        let command = "id -u; id -g; touch mine; grep CapEff /proc/self/status";
        for (name, user, image, uid) in [
            ("named", Some("www-data"), "debian", "33"),
            ("numbered", Some("1234:5"), "debian", "1234"),
            ("images", Some("root"), "echo", "65534"),
        ] {
            let mut spec = in_image(name, command, &node.sandboxes());
            spec.user = user.map(str::to_owned);
            spec.container.as_mut().unwrap().image.as_mut().unwrap().name = image.to_owned();
            assert_eq!(node::run(&containerizer, &spec).await, code(0), "{name} {}", output(&spec, "stderr"));
            let text = output(&spec, "stdout");
            assert_eq!(text.lines().next(), Some(uid), "{text}");
            assert!(text.contains("CapEff:\t0000000000000000"), "{text}");
        }
        let spec =
            ContainerSpec { user: Some("no-such".to_owned()), ..in_image("none", "true", &node.sandboxes()) };
        let error = containerizer.prepare(&spec).await.unwrap_err().to_string();
        assert!(error.contains("user 'no-such' is neither in the image nor a number"), "{error}");
        containerizer.cleanup("none").await.unwrap();
    });
}

/// Not judged: how long a start takes, from `prepare` to the program.
fn figures() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut times = Vec::new();
        for number in 0..50 {
            let spec = in_image(&format!("f{number}"), "exec sleep 1000", &node.sandboxes());
            let started = Instant::now();
            node::start(&containerizer, &spec).await;
            times.push(started.elapsed());
        }
        times.sort_unstable();
        let mut events = containerizer.events();
        let started = Instant::now();
        for number in 0..50 {
            containerizer.signal(&format!("f{number}"), 9).await.unwrap();
        }
        let mut left = 50;
        while left > 0 {
            let ended = futures::StreamExt::next(&mut events).await.unwrap();
            containerizer.cleanup(&ended.container_id).await.unwrap();
            left -= 1;
        }
        println!(
            "start p50 {:.1?}, p90 {:.1?}; 50 stopped in {:.1?}",
            times[25],
            times[45],
            started.elapsed()
        );
    });
}

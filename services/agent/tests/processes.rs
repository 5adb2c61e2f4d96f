//! Real processes: the supervisor, and the containerizer on top of it. This program is the supervisor as well
//! (`supervisor --dir DIR`), so it has no test harness: the supervisor must not have other threads.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test of the real machine"
)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use meshos_agent::{
    containerizer::{
        ContainerSpec, Containerizer, Exit, ExitStatus, Limits, SharedContainerizer,
        conformance::{self, ended, shell},
        process::{CgroupSettings, ProcessContainerizer, Settings, SupervisorProgram},
    },
    fetcher, supervisor,
};
use meshos_mesh::Env;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

#[path = "processes/needs.rs"]
mod needs;
#[path = "processes/supervising.rs"]
mod supervising;

const PATIENCE: Duration = Duration::from_secs(20);

type Test = (&'static str, fn());

const TESTS: &[Test] = &[
    ("the_process_containerizer_conforms", the_process_containerizer_conforms),
    ("it_conforms_with_cgroups_as_well", it_conforms_with_cgroups_as_well),
    ("it_conforms_with_cgroups_of_version_2", it_conforms_with_cgroups_of_version_2),
    ("processes_that_hide_are_found_by_their_cgroup", processes_that_hide_are_found_by_their_cgroup),
    ("exit_codes_wait_for_the_next_agent", exit_codes_wait_for_the_next_agent),
    (
        "a_thousand_processes_start_quickly_and_all_ends_are_told",
        a_thousand_processes_start_quickly_and_all_ends_are_told,
    ),
    ("a_kill_reaches_the_whole_tree", a_kill_reaches_the_whole_tree),
    ("what_a_task_leaves_behind_is_ended", what_a_task_leaves_behind_is_ended),
    ("an_upgrade_keeps_the_children", an_upgrade_keeps_the_children),
    ("children_of_a_supervisor_that_died_are_taken_over", children_of_a_supervisor_that_died_are_taken_over),
    ("there_is_one_supervisor", there_is_one_supervisor),
    ("nothing_is_inherited", nothing_is_inherited),
    (
        "a_name_without_a_slash_is_looked_for_on_the_tasks_path",
        a_name_without_a_slash_is_looked_for_on_the_tasks_path,
    ),
    ("memory_over_the_limit_is_told", memory_over_the_limit_is_told),
    ("a_task_runs_as_its_user", a_task_runs_as_its_user),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [command, flag, dir] = arguments.as_slice()
        && command == "supervisor"
        && flag == "--dir"
    {
        return supervisor::main(Path::new(dir));
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
    TESTS.iter().chain(needs::TESTS).chain(supervising::TESTS)
}

/// A directory with a supervisor, which ends with it.
struct Node {
    dir: tempfile::TempDir,
    settings: Settings,
}

impl Node {
    fn new() -> Self {
        Self::with_cgroups(false)
    }

    fn with_cgroups(enabled: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let supervisor_dir = dir.path().join("supervisor");
        let program = SupervisorProgram {
            program: std::env::current_exe().unwrap(),
            ..SupervisorProgram::this_program(&supervisor_dir)
        };
        let root = format!("meshos-test-{}", std::process::id());
        let cgroups = CgroupSettings { enabled, max_pids: Some(200), ..CgroupSettings::all(&root) };
        let fetcher = fetcher::Settings::below(dir.path());
        let settings = Settings { supervisor_dir, program, cgroups, switch_user: true, fetcher };
        Self { dir, settings }
    }

    /// Removes the cgroup of all containers, which is empty by now.
    fn remove_cgroups(&self) {
        for controller in ["cpu", "memory", "pids", ""] {
            let _ = std::fs::remove_dir(
                Path::new("/sys/fs/cgroup").join(controller).join(&self.settings.cgroups.root),
            );
        }
    }

    fn sandboxes(&self) -> PathBuf {
        self.dir.path().join("sandboxes")
    }

    /// The supervisor's process id, from the lock that it holds.
    fn supervisor(&self) -> Option<i32> {
        let dir = self.settings.supervisor_dir.display().to_string();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.into_iter().find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).into_owned();
            line.contains(&dir) && line.contains("supervisor")
        })
    }

    /// Runs `agent` with a containerizer, as an agent process would, and lets it go as if it had been killed.
    fn agent<F: Future<Output = T>, T>(&self, agent: impl FnOnce(Arc<ProcessContainerizer>) -> F) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(async {
            let env = Env::in_memory();
            agent(Arc::new(ProcessContainerizer::open(&env, &self.settings))).await
        });
        drop(runtime);
        result
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Children first, while their supervisor can be asked for them.
        self.agent(async |containerizer| {
            let mut events = containerizer.events();
            for container in containerizer.recover().await.unwrap() {
                let id = &container.container_id;
                if container.exit.is_none() {
                    containerizer.signal(id, 9).await.unwrap();
                    ended(&mut events, id).await;
                }
                containerizer.cleanup(id).await.unwrap();
            }
            containerizer.stop().await;
        });
        wait_until("the supervisor ends", || self.supervisor().is_none());
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

async fn start(containerizer: &ProcessContainerizer, spec: &ContainerSpec) -> u32 {
    containerizer.prepare(spec).await.unwrap();
    containerizer.launch(spec).await.unwrap()
}

fn lives(pid: u32) -> bool {
    // A zombie has ended, though nobody has taken it away yet.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn code(code: i32) -> Exit {
    Exit { status: ExitStatus::Code(code), out_of_memory: false }
}

fn output(spec: &ContainerSpec, file: &str) -> String {
    std::fs::read_to_string(spec.sandbox.join(file)).unwrap()
}

fn the_process_containerizer_conforms() {
    let node = Node::new();
    node.agent(async |containerizer| {
        conformance::run(containerizer as SharedContainerizer, &node.sandboxes()).await;
    });
}

/// Where cgroups are not permitted this is the test before once more.
fn it_conforms_with_cgroups_as_well() {
    let node = Node::with_cgroups(true);
    node.agent(async |containerizer| {
        conformance::run(containerizer as SharedContainerizer, &node.sandboxes()).await;
    });
    node.remove_cgroups();
}

/// Where version 2 is mounted, if it is: with its controllers, or without them beside version 1.
fn version_2() -> Option<&'static Path> {
    let places = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(Path::new);
    let place = places.into_iter().find(|place| place.join("cgroup.controllers").exists());
    let permitted = place.is_some() && nix::unistd::geteuid().is_root();
    if !permitted {
        println!("there are no cgroups of version 2 here, or they are not permitted");
    }
    place.filter(|_| permitted)
}

impl Node {
    fn on(hierarchy: &Path) -> Self {
        let mut node = Self::with_cgroups(true);
        node.settings.cgroups.hierarchy = hierarchy.to_owned();
        node.settings.cgroups.root = format!("meshos-test-v2-{}", std::process::id());
        node
    }

    /// The cgroup of all containers is empty by now.
    fn leave(self) {
        let root = self.settings.cgroups.hierarchy.join(&self.settings.cgroups.root);
        drop(self);
        std::fs::remove_dir(root).unwrap();
    }
}

fn it_conforms_with_cgroups_of_version_2() {
    let Some(hierarchy) = version_2() else { return };
    let node = Node::on(hierarchy);
    node.agent(async |containerizer| {
        conformance::run(containerizer as SharedContainerizer, &node.sandboxes()).await;
    });
    node.leave();
}

/// In a session of its own and no descendant of the task any more: only the cgroup knows that it belongs to it.
fn processes_that_hide_are_found_by_their_cgroup() {
    let Some(hierarchy) = version_2() else { return };
    let node = Node::on(hierarchy);
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let hides = "setsid sh -c '(sleep 1000 & echo $! > pid.new; mv pid.new pid) &'; sleep 1000";
        let spec = shell("hides", hides, &node.sandboxes());
        start(&containerizer, &spec).await;
        wait_until("it hides", || spec.sandbox.join("pid").exists());
        let pid: u32 = output(&spec, "pid").trim().parse().unwrap();
        assert!(lives(pid));
        let group = hierarchy.join(&node.settings.cgroups.root).join("hides/cgroup.procs");
        assert!(std::fs::read_to_string(group).unwrap().lines().any(|line| line == pid.to_string()));
        containerizer.signal("hides", 9).await.unwrap();
        ended(&mut events, "hides").await;
        wait_until("the hidden one has ended", || !lives(pid));
        containerizer.cleanup("hides").await.unwrap();
    });
    node.leave();
}

fn exit_codes_wait_for_the_next_agent() {
    let node = Node::new();
    let pid = node.agent(async |containerizer| {
        let dir = node.sandboxes();
        start(&containerizer, &shell("goes", "while [ ! -e go ]; do sleep 0.02; done; exit 5", &dir)).await;
        start(&containerizer, &shell("stays", "while true; do sleep 1; done", &dir)).await
    });
    std::fs::write(node.sandboxes().join("goes/go"), "").unwrap();
    for _ in 0..2 {
        node.agent(async |containerizer| {
            let mut events = containerizer.events();
            assert_eq!(ended(&mut events, "goes").await, code(5));
            let mut found = containerizer.recover().await.unwrap();
            found.sort_by(|a, b| a.container_id.cmp(&b.container_id));
            assert_eq!((found[0].exit, found[1].exit, found[1].pid), (Some(code(5)), None, pid));
        });
    }
    assert!(lives(pid));
}

fn a_thousand_processes_start_quickly_and_all_ends_are_told() {
    const COUNT: usize = 1000;
    let node = Node::new();
    node.agent(async |containerizer| {
        let dir = node.sandboxes();
        let mut events = containerizer.events();
        let started = Instant::now();
        let launches = (0..COUNT).map(|n| {
            let (containerizer, spec) =
                (Arc::clone(&containerizer), shell(&format!("c{n}"), "exec sleep 60", &dir));
            async move { start(&containerizer, &spec).await }
        });
        let pids: Vec<_> = futures::StreamExt::collect(futures::stream::StreamExt::buffer_unordered(
            futures::stream::iter(launches),
            16,
        ))
        .await;
        let rate = COUNT as f64 / started.elapsed().as_secs_f64();
        println!("{rate:.0} starts a second");
        assert!(pids.iter().all(|pid| lives(*pid)));
        // An idle machine with two processors does 700; others may be busy beside this test.
        assert!(rate > 100.0, "{rate:.0} starts a second");
        for n in 0..COUNT {
            containerizer.signal(&format!("c{n}"), 9).await.unwrap();
        }
        let mut left = COUNT;
        while left > 0 {
            let event =
                tokio::time::timeout(PATIENCE, futures::StreamExt::next(&mut events)).await.unwrap().unwrap();
            assert_eq!(event.exit.status, ExitStatus::Signal(9));
            containerizer.cleanup(&event.container_id).await.unwrap();
            left -= 1;
        }
        assert!(containerizer.recover().await.unwrap().is_empty());
    });
}

fn a_kill_reaches_the_whole_tree() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        // One child in the group, one in a session of its own.
        let command = "sleep 100 & echo $! >> pids; setsid sleep 100 & echo $! >> pids; touch ready; wait";
        let spec = shell("tree", command, &node.sandboxes());
        start(&containerizer, &spec).await;
        wait_until("the children run", || spec.sandbox.join("ready").exists());
        let pids: Vec<u32> = output(&spec, "pids").lines().map(|pid| pid.parse().unwrap()).collect();
        wait_until("the second has its own session", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[1])).unwrap();
            stat.split_whitespace().nth(5) == Some(pids[1].to_string().as_str())
        });
        containerizer.signal("tree", 15).await.unwrap();
        ended(&mut events, "tree").await;
        wait_until("all have ended", || pids.iter().all(|pid| !lives(*pid)));
    });
}

fn what_a_task_leaves_behind_is_ended() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let spec = shell("leaves", "sleep 100 & echo $! > pid; exit 0", &node.sandboxes());
        start(&containerizer, &spec).await;
        assert_eq!(ended(&mut events, "leaves").await, code(0));
        let pid: u32 = output(&spec, "pid").trim().parse().unwrap();
        wait_until("the rest has ended", || !lives(pid));
    });
}

fn an_upgrade_keeps_the_children() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let dir = node.sandboxes();
        let mut events = containerizer.events();
        let spec = shell("stays", "while [ ! -e go ]; do sleep 0.02; done; exit 9", &dir);
        let pid = start(&containerizer, &spec).await;
        start(&containerizer, &shell("went", "exit 4", &dir)).await;
        ended(&mut events, "went").await;
        let before = node.supervisor();
        let program = std::env::current_exe().unwrap();
        containerizer.upgrade_supervisor(&program).await.unwrap();
        let refused = containerizer.upgrade_supervisor(Path::new("/no/such/program")).await;
        assert!(refused.unwrap_err().to_string().contains("No such file"));
        let mut found = containerizer.recover().await.unwrap();
        found.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        assert_eq!((found[0].pid, found[0].exit, found[1].exit), (pid, None, Some(code(4))));
        assert_eq!(node.supervisor(), before, "the same process, another program");
        std::fs::write(spec.sandbox.join("go"), "").unwrap();
        assert_eq!(ended(&mut events, "stays").await, code(9), "it is still the parent: it knows the status");
    });
}

fn children_of_a_supervisor_that_died_are_taken_over() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let dir = node.sandboxes();
        let mut events = containerizer.events();
        let pid = start(&containerizer, &shell("stays", "while true; do sleep 1; done", &dir)).await;
        start(&containerizer, &shell("went", "exit 4", &dir)).await;
        ended(&mut events, "went").await;
        let before = node.supervisor().unwrap();
        kill(Pid::from_raw(before), Signal::SIGKILL).unwrap();
        let mut found = containerizer.recover().await.unwrap();
        assert_ne!(node.supervisor(), Some(before));
        found.sort_by(|a, b| a.container_id.cmp(&b.container_id));
        assert_eq!((found[0].pid, found[0].exit, found[1].exit), (pid, None, Some(code(4))));
        assert!(lives(pid));
        containerizer.signal("stays", 9).await.unwrap();
        assert_eq!(ended(&mut events, "stays").await.status, ExitStatus::Unknown);
    });
}

fn there_is_one_supervisor() {
    let node = Node::new();
    node.agent(async |containerizer| {
        assert!(containerizer.recover().await.unwrap().is_empty());
    });
    let program = std::env::current_exe().unwrap();
    let dir = &node.settings.supervisor_dir;
    let second = std::process::Command::new(program).args(["supervisor", "--dir"]).arg(dir).output().unwrap();
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another supervisor serves"));
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(dir).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o700);
}

fn nothing_is_inherited() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let command =
            "env; ls -l /proc/self/fd | wc -l; grep SigIgn /proc/self/status; grep SigBlk /proc/self/status";
        let mut spec = shell("env", command, &node.sandboxes());
        spec.environment.insert("OWN".to_owned(), "a b".to_owned());
        start(&containerizer, &spec).await;
        assert_eq!(ended(&mut events, "env").await, code(0));
        let text = output(&spec, "stdout");
        let names: Vec<_> =
            text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
        // The shell adds the last two itself.
        assert!(
            names.iter().all(|name| ["OWN", "PATH", "PWD", "SHLVL", "_", "OLDPWD"].contains(name)),
            "{text}"
        );
        assert!(text.contains("OWN=a b\n"));
        let mask = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            // Above are real-time signals; the C library keeps the first of them to itself.
            u64::from_str_radix(line.trim(), 16).unwrap() & 0x7fff_ffff
        };
        assert_eq!((mask("SigIgn:"), mask("SigBlk:")), (0, 0), "{text}");
        // The header line, standard input, output, error, and the directory that ls reads.
        assert!(text.lines().any(|line| line.trim() == "5"), "{text}");
    });
}

fn a_name_without_a_slash_is_looked_for_on_the_tasks_path() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let spec = ContainerSpec {
            program: "sh".to_owned(),
            argument_zero: "my-name".to_owned(),
            arguments: vec!["-c".to_owned(), "echo $0".to_owned()],
            ..shell("path", "", &node.sandboxes())
        };
        start(&containerizer, &spec).await;
        assert_eq!(ended(&mut events, "path").await, code(0));
        assert_eq!(output(&spec, "stdout"), "my-name\n");
        let spec =
            ContainerSpec { program: "no-such-program".to_owned(), ..shell("nopath", "", &node.sandboxes()) };
        containerizer.prepare(&spec).await.unwrap();
        let error = containerizer.launch(&spec).await.unwrap_err().to_string();
        assert!(error.contains("cannot execute 'no-such-program': No such file or directory"), "{error}");
    });
}

/// Where cgroups are not permitted there is no limit to exceed.
fn memory_over_the_limit_is_told() {
    let node = Node::with_cgroups(true);
    let procs = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"]
        .map(|dir| Path::new(dir).join(&node.settings.cgroups.root));
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let limits = Limits { cpus: 0.1, memory: 32 * 1024 * 1024, ..Limits::default() };
        // A string that doubles until it does not fit.
        let command = "x=0123456789abcdef; while true; do x=$x$x; done";
        let spec = ContainerSpec { limits, ..shell("eats", command, &node.sandboxes()) };
        if !procs.iter().any(|dir| dir.exists()) {
            println!("cgroups are not permitted here");
            return;
        }
        start(&containerizer, &spec).await;
        let exit = ended(&mut events, "eats").await;
        assert_eq!((exit.status, exit.out_of_memory), (ExitStatus::Signal(9), true));
        containerizer.cleanup("eats").await.unwrap();
        assert!(procs.iter().all(|dir| !dir.join("eats").exists()), "the cgroup is removed");
    });
    let cpu = Path::new("/sys/fs/cgroup/cpu").join(&node.settings.cgroups.root);
    drop(node);
    for dir in [&procs[0], &procs[1], &cpu] {
        let _ = std::fs::remove_dir(dir);
    }
}

/// Only root can become another user.
fn a_task_runs_as_its_user() {
    if !nix::unistd::geteuid().is_root() {
        println!("not root");
        return;
    }
    let node = Node::new();
    // The sandbox lies in a directory of root's: it must be passable.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(node.dir.path(), open).unwrap();
    node.agent(async |containerizer| {
        let mut events = containerizer.events();
        let spec = ContainerSpec {
            user: Some("nobody".to_owned()),
            ..shell("user", "id -un; touch mine", &node.sandboxes())
        };
        start(&containerizer, &spec).await;
        let exit = ended(&mut events, "user").await;
        assert_eq!(
            (exit, output(&spec, "stdout").as_str()),
            (code(0), "nobody\n"),
            "{}",
            output(&spec, "stderr")
        );
        let spec = ContainerSpec {
            user: Some("no-such-user".to_owned()),
            ..shell("nouser", "true", &node.sandboxes())
        };
        let error = containerizer.prepare(&spec).await.unwrap_err().to_string();
        assert!(error.contains("user 'no-such-user' does not exist on this node"), "{error}");
    });
}

//! What a container, its image or its sandbox might try.

use std::{fs, os::unix::fs::symlink, path::Path};

use meshos_agent::containerizer::{
    ContainerSpec, Containerizer,
    container::{LinuxSetup, MountSetup, MountSource},
    tmpfs::Tmpfs,
};

use crate::{
    Test,
    node::{self, Node, code, in_image, output},
};

pub(crate) const TESTS: &[Test] = &[
    ("system_calls_that_lead_out_are_refused", system_calls_that_lead_out_are_refused),
    ("what_tells_of_the_machine_is_hidden", what_tells_of_the_machine_is_hidden),
    ("links_in_an_image_lead_nowhere", links_in_an_image_lead_nowhere),
    ("links_in_a_sandbox_are_not_followed", links_in_a_sandbox_are_not_followed),
    ("the_machines_program_is_not_seen", the_machines_program_is_not_seen),
    ("rights_are_those_that_were_asked_for", rights_are_those_that_were_asked_for),
];

fn system_calls_that_lead_out_are_refused() {
    let node = Node::new();
    node.agent(async |containerizer| {
        // By number: the wrappers of the C library are not in question. Each is one that the kernel would carry out for
        // root, or refuse with another error.
        let script = r#"
            my %calls = (mount => [165, "none", "/mnt", "tmpfs", 0, 0], umount2 => [166, "/proc", 2],
                ptrace => [101, 16, 1, 0, 0], reboot => [169, 0, 0, 0, 0], unshare => [272, 0x20000],
                setns => [308, 0, 0], keyctl => [250, 0, -3, 0], add_key => [248, "user", "a", "b", 1, -3],
                bpf => [321, 0, 0, 0], open_by_handle_at => [304, 0, 0, 0], init_module => [175, 0, 0, ""],
                settimeofday => [164, 0, 0], swapon => [167, "/x", 0], pivot_root => [155, "/", "/"],
                clone_newuser => [56, 0x10000000, 0, 0, 0, 0], io_uring_setup => [425, 1, 0],
                perf_event_open => [298, 0, 0, 0, 0, 0], mknod => [133, "/dev/sda", 0x6180, 0x800],
                mknod_here => [133, "/root/sda", 0x6180, 0x800], fsopen => [430, "tmpfs", 0]);
            for my $name (sort keys %calls) {
                my ($number, @arguments) = @{$calls{$name}};
                my $done = syscall($number, @arguments);
                exit 0 if $name eq "clone_newuser" && $done == 0;
                print "$name ", ($done == -1 ? $!+0 : "done"), "\n";
            }
            print "clone3 ", (syscall(435, 0, 0) == -1 ? $!+0 : "done"), "\n";
        "#;
        let mut spec = in_image("calls", "", &node.sandboxes());
        spec.program = "/usr/bin/perl".to_owned();
        spec.argument_zero = "perl".to_owned();
        spec.arguments = vec!["-e".to_owned(), script.to_owned()];
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        let text = output(&spec, "stdout");
        assert_eq!(text.lines().count(), 21, "{text}");
        for line in text.lines() {
            // EPERM; ENOSYS makes C libraries go on with clone.
            let expected = if line.starts_with("clone3") { "38" } else { "1" };
            assert_eq!(line.split_once(' ').unwrap().1, expected, "{line}");
        }
    });
}

fn what_tells_of_the_machine_is_hidden() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let command = "cat /proc/kcore /proc/keys 2> /dev/null | wc -c; ls /sys/firmware | wc -l; \
            for f in /proc/sys/kernel/domainname /proc/sys/vm/drop_caches /sys/class/net/lo/mtu; do \
            (echo x > $f) 2>&1 | grep -o 'Read-only file system\\|Permission denied'; done; \
            ls -d /proc/1/root/home /proc/1/cwd > /dev/null && echo own; \
            grep -c ' /work\\| /var/lib/docker\\| /home' /proc/self/mountinfo; \
            (echo 1 > /sys/fs/cgroup/pids/pids.max) 2>&1 | grep -c 'Read-only'; \
            grep CapBnd /proc/self/status; ls /proc/1/task | wc -l; kill -0 2 2>/dev/null || echo alone";
        let spec = in_image("hidden", command, &node.sandboxes());
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        let text = output(&spec, "stdout");
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[..2], ["0", "0"], "{text}");
        assert!(lines[2..5].iter().all(|line| *line == "Read-only file system"), "{text}");
        assert_eq!((lines[5], lines[6], lines[8]), ("own", "0", "CapBnd:\t00000000a00425fb"), "{text}");
    });
}

/// A layer whose `/etc`, `/proc`, `/dev` and volume targets are links to the machine.
fn links_in_an_image_lead_nowhere() {
    let node = Node::new();
    let outside = node.path().join("outside");
    let layer = node.path().join("layer");
    for dir in [&outside, &layer, &layer.join("srv")] {
        fs::create_dir(dir).unwrap();
    }
    let dots = format!("../../../../../../../../../..{}", outside.display());
    symlink(node.path().join("other"), layer.join("srv/other")).unwrap();
    symlink(&dots, layer.join("srv/dots")).unwrap();
    symlink("/proc/1/root", layer.join("srv/magic")).unwrap();
    symlink("../../../../elsewhere/mnt", layer.join("mnt")).unwrap();
    fs::create_dir(layer.join("etc")).unwrap();
    symlink(node.path().join("elsewhere/hosts"), layer.join("etc/hosts")).unwrap();
    symlink("/proc/self/exe", layer.join("etc/resolv.conf")).unwrap();
    let volume = node.path().join("volume");
    fs::create_dir(&volume).unwrap();
    fs::write(volume.join("data"), "volume").unwrap();
    node.agent(async |containerizer| {
        let mut spec =
            in_image("links", "cat /srv/volume/data /srv/dots/data; cat /etc/hosts", &node.sandboxes());
        let container = spec.container.as_mut().unwrap();
        container.image.as_mut().unwrap().name = layer.display().to_string();
        for target in ["/srv/dots/deep/er", "/srv/other/volume"] {
            container.mounts.push(MountSetup {
                source: MountSource::Host(volume.clone()),
                container_path: target.into(),
                read_only: false,
            });
        }
        // A magic link as a place of one of the container's own files.
        containerizer.prepare(&spec).await.unwrap();
        let error = containerizer.launch(&spec).await.unwrap_err().to_string();
        assert!(error.contains("/etc/resolv.conf"), "{error}");
        containerizer.cleanup("links").await.unwrap();
        fs::remove_file(layer.join("etc/resolv.conf")).unwrap();
        spec.arguments[1] = "cat /srv/other/volume/data /srv/dots/deep/er/data; cat /etc/hosts".to_owned();
        assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
        let text = output(&spec, "stdout");
        assert!(text.starts_with("volumevolume") && text.contains("localhost"), "{text}");
        // Over /proc and over the root nothing is mounted.
        for target in ["/proc/sys", "/proc/self/fd", "/srv/magic/tmp", "/srv/root"] {
            let _ = symlink("/", layer.join("srv/root"));
            let mut spec = in_image("over", "true", &node.sandboxes());
            let container = spec.container.as_mut().unwrap();
            container.image.as_mut().unwrap().name = layer.display().to_string();
            let source = MountSource::Host(volume.clone());
            container.mounts.push(MountSetup { source, container_path: target.into(), read_only: false });
            containerizer.prepare(&spec).await.unwrap();
            let error = containerizer.launch(&spec).await.unwrap_err().to_string();
            assert!(error.contains(target), "{error}");
            containerizer.cleanup("over").await.unwrap();
        }
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was made outside");
    assert!(!node.path().join("other").exists() && !node.path().join("elsewhere").exists());
    assert_eq!(fs::read_dir(&volume).unwrap().count(), 1);
}

fn links_in_a_sandbox_are_not_followed() {
    let node = Node::new();
    let outside = node.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    node.agent(async |containerizer| {
        for (name, source, target) in [
            ("source", MountSource::Sandbox("trap".into()), "/data"),
            ("file", MountSource::Sandbox("file".into()), "/data"),
            ("target", MountSource::Tmpfs(Tmpfs::default()), "trap/deep"),
            (
                "parent",
                MountSource::Parent { sandbox: node.sandboxes().join("parent"), path: "trap".into() },
                "/data",
            ),
        ] {
            let mut spec = in_image(name, "true", &node.sandboxes());
            fs::create_dir_all(&spec.sandbox).unwrap();
            symlink(&outside, spec.sandbox.join("trap")).unwrap();
            symlink(outside.join("secret"), spec.sandbox.join("file")).unwrap();
            let mount = MountSetup { source, container_path: target.into(), read_only: false };
            spec.container.as_mut().unwrap().mounts.push(mount);
            let failed = match containerizer.prepare(&spec).await {
                Ok(()) => containerizer.launch(&spec).await.unwrap_err(),
                Err(error) => error,
            };
            assert!(failed.to_string().contains(target), "{failed}");
            containerizer.cleanup(name).await.unwrap();
        }
    });
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}

/// A program that is a link to the process's own: before the execution that is the agent's.
fn the_machines_program_is_not_seen() {
    let node = Node::new();
    node.agent(async |containerizer| {
        let spec =
            ContainerSpec { program: "/proc/self/exe".to_owned(), ..in_image("exe", "", &node.sandboxes()) };
        containerizer.prepare(&spec).await.unwrap();
        let error = containerizer.launch(&spec).await.unwrap_err().to_string();
        assert!(error.contains("/proc/self/exe"), "{error}");
        containerizer.cleanup("exe").await.unwrap();
    });
}

fn rights_are_those_that_were_asked_for() {
    let node = Node::new();
    node.passable();
    let names = |names: &[&str]| Some(names.iter().map(|name| (*name).to_owned()).collect());
    node.agent(async |containerizer| {
        let command = "grep 'CapEff\\|CapBnd\\|Seccomp:\\|NoNewPrivs' /proc/self/status";
        let cases = [
            ("default", LinuxSetup::default(), None, "00000000a00425fb", "2"),
            (
                "raw",
                LinuxSetup { effective_capabilities: names(&["CAP_NET_RAW"]), ..LinuxSetup::default() },
                Some("nobody"),
                "0000000000002000",
                "2",
            ),
            (
                "unconfined",
                LinuxSetup { seccomp_unconfined: true, ..LinuxSetup::default() },
                None,
                "00000000a00425fb",
                "0",
            ),
        ];
        for (name, linux, user, effective, seccomp) in cases {
            let mut spec = in_image(name, command, &node.sandboxes());
            spec.user = user.map(str::to_owned);
            spec.container.as_mut().unwrap().linux = linux;
            assert_eq!(node::run(&containerizer, &spec).await, code(0), "{}", output(&spec, "stderr"));
            let text = output(&spec, "stdout");
            assert!(text.contains(&format!("CapEff:\t{effective}")), "{name}: {text}");
            assert!(text.contains(&format!("Seccomp:\t{seccomp}")), "{name}: {text}");
        }
        assert!(Path::new("/proc/self/status").exists());
    });
}

use super::*;

fn v(version: Version) -> Vec<(String, String)> {
    let cgroups = Cgroups { version, cfs: false, max_pids: Some(100), limit_swap: true };
    let limits = Limits { cpus: 0.5, cpus_limit: Some(1.5), memory: 64 * MB, memory_limit: None };
    let knobs = cgroups.knobs("c", &limits).into_iter();
    knobs.map(|(path, value)| (path.display().to_string(), value)).collect()
}

#[test]
fn the_numbers_are_those_of_mesos() {
    let text = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|(path, value)| ((*path).to_owned(), (*value).to_owned())).collect()
    };
    let v1 =
        Version::V1 { cpu: Some("/cpu".into()), memory: Some("/mem".into()), pids: Some("/pids".into()) };
    let want = [
        ("/pids/c/pids.max", "100"),
        ("/cpu/c/cpu.shares", "512"),
        ("/cpu/c/cpu.cfs_period_us", "100000"),
        ("/cpu/c/cpu.cfs_quota_us", "150000"),
        ("/mem/c/memory.soft_limit_in_bytes", "67108864"),
        ("/mem/c/memory.limit_in_bytes", "67108864"),
        ("/mem/c/memory.memsw.limit_in_bytes", "67108864"),
    ];
    assert_eq!(v(v1), text(&want));
    let v2 = Version::V2 { root: "/r".into(), cpu: true, memory: true, pids: true };
    let want = [
        ("/r/c/pids.max", "100"),
        ("/r/c/cpu.weight", "50"),
        ("/r/c/cpu.max", "150000 100000"),
        ("/r/c/memory.low", "67108864"),
        ("/r/c/memory.max", "67108864"),
    ];
    assert_eq!(v(v2), text(&want));
}

#[test]
fn small_requests_get_the_least_that_works() {
    let limits = Limits { cpus: 0.001, memory: MB, ..Limits::default() };
    assert_eq!(memory(&limits), (MIN_MEMORY, Some(MIN_MEMORY)));
    assert_eq!(quota(&limits, true), Some(Some(MIN_QUOTA)));
    assert_eq!(quota(&limits, false), None);
    let endless = Limits { cpus_limit: Some(f64::INFINITY), memory_limit: Some(u64::MAX), ..limits };
    assert_eq!((quota(&endless, false), memory(&endless).1), (Some(None), None));
}

#[test]
fn a_directory_that_is_no_hierarchy_is_refused_with_a_reason() {
    let dir = tempfile::tempdir().unwrap();
    let settings = CgroupSettings { hierarchy: dir.path().into(), ..CgroupSettings::all("meshos") };
    assert!(Cgroups::detect(&settings).unwrap_err().contains("is no cgroup hierarchy"));
}

/// A directory that looks like cgroups of version 2 with their controllers.
fn like_v2() -> (tempfile::TempDir, CgroupSettings) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("cgroup.controllers"), "cpu io memory pids\n").unwrap();
    let settings =
        CgroupSettings { hierarchy: dir.path().into(), max_pids: Some(100), ..CgroupSettings::all("meshos") };
    fs::create_dir(dir.path().join("meshos")).unwrap();
    for place in ["", "meshos"] {
        fs::write(dir.path().join(place).join("cgroup.subtree_control"), "cpu memory pids\n").unwrap();
    }
    (dir, settings)
}

#[test]
fn version_2_is_recognised_written_and_read() {
    let (dir, settings) = like_v2();
    let cgroups = Cgroups::detect(&settings).unwrap();
    assert_eq!((cgroups.kind().as_str(), cgroups.limits_memory()), ("v2 cpu, memory, pids", true));
    let limits =
        Limits { cpus: 2.0, cpus_limit: Some(f64::INFINITY), memory: 64 * MB, memory_limit: Some(128 * MB) };
    cgroups.make("c", &limits).unwrap();
    let group = dir.path().join("meshos/c");
    let read = |name: &str| fs::read_to_string(group.join(name)).unwrap();
    let values = ["pids.max", "cpu.weight", "cpu.max", "memory.low", "memory.max"].map(read);
    assert_eq!(values, ["100", "200", "max 100000", "67108864", "134217728"]);
    assert_eq!(cgroups.procs("c"), [group.join("cgroup.procs").display().to_string()]);

    // Less memory is not taken away, more is given.
    cgroups.resize("c", &Limits { memory: 32 * MB, memory_limit: None, ..limits }).unwrap();
    assert_eq!((read("memory.low"), read("memory.max")), ("33554432".to_owned(), "134217728".to_owned()));
    cgroups.resize("c", &Limits { memory_limit: Some(u64::MAX), ..limits }).unwrap();
    assert_eq!(read("memory.max"), "max");

    assert!(!cgroups.out_of_memory("c"));
    for (kills, expected) in [(0, false), (2, true)] {
        let events = format!("low 0\nhigh 0\nmax 7\noom 3\noom_kill {kills}\noom_group_kill 0\n");
        fs::write(group.join("memory.events"), events).unwrap();
        assert_eq!(cgroups.out_of_memory("c"), expected);
    }
}

#[test]
fn without_controllers_version_2_tracks_processes() {
    let (dir, settings) = like_v2();
    for place in ["", "meshos"] {
        // What is written there changes nothing, as where the kernel refuses it.
        let file = dir.path().join(place).join("cgroup.subtree_control");
        fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/null", file).unwrap();
    }
    let cgroups = Cgroups::detect(&settings).unwrap();
    assert_eq!(
        (cgroups.kind().as_str(), cgroups.limits_memory()),
        ("v2, processes are tracked and not limited", false)
    );
    cgroups.make("c", &Limits { cpus: 1.0, memory: MB, ..Limits::default() }).unwrap();
    assert_eq!(fs::read_dir(dir.path().join("meshos/c")).unwrap().count(), 0, "no limit is written");
    assert!(!cgroups.out_of_memory("c"));
    cgroups.remove("c").unwrap();
    assert!(!dir.path().join("meshos/c").exists());
}

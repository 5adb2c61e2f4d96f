use super::*;

fn draft(parameters: &[(&str, &str)]) -> Draft {
    let mut draft = Draft::default();
    for (key, value) in parameters {
        apply(&mut draft, key, value).unwrap();
    }
    draft
}

fn refused(key: &str, value: &str) -> String {
    apply(&mut Draft::default(), key, value).unwrap_err()
}

#[test]
fn options_land_where_the_engine_looks_for_them() {
    let draft = draft(&[
        ("env", "A=b"),
        ("label", "x=y=z"),
        ("label", "bare"),
        ("user", "1000:10"),
        ("workdir", "/srv"),
        ("entrypoint", "/bin/cat"),
        ("volume", "/host:/in:ro"),
        ("volume", "/anonymous"),
        ("cap-add", "NET_ADMIN"),
        ("cap-add", "SYS_TIME"),
        ("ulimit", "nofile=10:20"),
        ("tmpfs", "/run:size=1m,noexec"),
        ("shm-size", "64m"),
        ("memory-swap", "-1"),
        ("cpus", "1.5"),
        ("sysctl", "net.core.somaxconn=10"),
        ("log-driver", "json-file"),
        ("log-opt", "max-size=1m"),
        ("network-alias", "db"),
        ("ip", "10.1.0.5"),
        ("device", "/dev/null:/dev/x:r"),
        ("publish", "127.0.0.1:81:80/udp"),
        ("read-only", "true"),
        ("init", ""),
        ("no-healthcheck", ""),
        ("gpus", "all"),
        ("net", "none"),
    ]);
    let (body, host) = (&draft.body, &draft.host);
    assert_eq!(body.env.as_deref(), Some(&["A=b".to_owned()][..]));
    assert_eq!(body.labels.as_ref().unwrap()["x"], "y=z");
    assert_eq!(body.labels.as_ref().unwrap()["bare"], "");
    assert_eq!((body.user.as_deref(), body.working_dir.as_deref()), (Some("1000:10"), Some("/srv")));
    assert_eq!(body.entrypoint.as_deref(), Some(&["/bin/cat".to_owned()][..]));
    assert_eq!(draft.binds, ["/host:/in:ro"]);
    assert_eq!(body.volumes.as_ref().unwrap(), &["/anonymous"]);
    assert_eq!(host.cap_add.as_ref().unwrap().len(), 2);
    assert_eq!(host.ulimits.as_ref().unwrap()[0].hard, Some(20));
    assert_eq!(host.tmpfs.as_ref().unwrap()["/run"], "size=1m,noexec");
    assert_eq!((host.shm_size, host.memory_swap), (Some(64 << 20), Some(-1)));
    assert_eq!(host.nano_cpus, Some(1_500_000_000));
    assert_eq!(host.log_config.as_ref().unwrap().config.as_ref().unwrap()["max-size"], "1m");
    assert_eq!(draft.endpoint.aliases.as_ref().unwrap(), &["db"]);
    assert_eq!(draft.endpoint.ipam_config.as_ref().unwrap().ipv4_address.as_deref(), Some("10.1.0.5"));
    let device = &host.devices.as_ref().unwrap()[0];
    assert_eq!(device.cgroup_permissions.as_deref(), Some("r"));
    let binding = &host.port_bindings.as_ref().unwrap()["80/udp"].as_ref().unwrap()[0];
    assert_eq!((binding.host_ip.as_deref(), binding.host_port.as_deref()), (Some("127.0.0.1"), Some("81")));
    assert_eq!((host.readonly_rootfs, host.init), (Some(true), Some(true)));
    assert_eq!(body.healthcheck.as_ref().unwrap().test.as_ref().unwrap(), &["NONE"]);
    assert_eq!(host.device_requests.as_ref().unwrap()[0].count, Some(-1));
}

#[test]
fn what_the_agent_decides_is_refused_and_what_nobody_knows_is_named() {
    for (key, why) in REFUSED {
        let text = refused(key, "x");
        assert!(text.contains(&format!("'{key}'")) && text.contains(why), "{text}");
    }
    assert!(refused("no-such-option", "").contains("'no-such-option'"));
    for (key, value) in [
        ("ulimit", "nofile"),
        ("ulimit", "nofile=20:10"),
        ("memory", "lots"),
        ("cpus", "-1"),
        ("device", "/a:/b:/c:/d"),
        ("sysctl", "x"),
        ("init", "perhaps"),
        ("publish", "1-9:1-9"),
        ("cpu-shares", "1.5"),
        ("cgroupns", "other"),
    ] {
        assert!(refused(key, value).contains(&format!("'{key}'")), "{key}={value}");
    }
}

#[test]
fn sizes_have_the_units_of_docker() {
    for (text, size) in
        [("10", 10), ("1k", 1024), ("1.5m", 3 << 19), ("2G", 2 << 30), ("1kb", 1024), ("1MiB", 1 << 20)]
    {
        assert_eq!(bytes(text), Ok(size), "{text}");
    }
}

use super::*;

/// What the kernel would answer: programs are run one after another, as it does.
fn answer(programs: &[BpfProgram], call: i64, arguments: [u64; 6]) -> u32 {
    let mut data = u32::try_from(call).unwrap().to_ne_bytes().to_vec();
    let arch: u32 = if ARCH == "x86_64" { 0xc000_003e } else { 0xc000_00b7 };
    data.extend(arch.to_ne_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_ne_bytes()));
    let word = |at: u32| u32::from_ne_bytes(data[at as usize..at as usize + 4].try_into().unwrap());
    // Killing is a negative number to the kernel, and the lowest wins.
    programs.iter().map(|program| run(program, word)).min_by_key(|answer| answer.cast_signed()).unwrap()
}

/// Only what filters are made of.
fn run(program: &[sock_filter], word: impl Fn(u32) -> u32) -> u32 {
    let (mut at, mut value) = (0_usize, 0_u32);
    loop {
        let one = &program[at];
        let jump = |is: bool| usize::from(if is { one.jt } else { one.jf });
        at += 1;
        match one.code {
            0x20 => value = word(one.k),
            0x54 => value &= one.k,
            0x05 => at += one.k as usize,
            0x15 => at += jump(value == one.k),
            0x25 => at += jump(value > one.k),
            0x35 => at += jump(value >= one.k),
            0x06 => return one.k,
            other => panic!("instruction {other:#x}"),
        }
    }
}

const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;

fn errno(number: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | number.cast_unsigned()
}

fn programs(text: &str, capabilities: Option<u64>) -> Result<Vec<BpfProgram>, String> {
    Profile::parse(text)?.programs(&Machine { capabilities, kernel: (6, 1) })
}

#[test]
fn what_is_not_allowed_is_refused_as_the_profile_says() {
    let made = programs(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "archMap": [], "comment": "x", "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null},
            {"name": "uname", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
            {"names": ["mount"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["openat2"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "7.0"}},
            {"names": ["getpid"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1},
            {"names": ["kill"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#,
        Some(0),
    )
    .unwrap();
    let of = |call| answer(&made, call, [0; 6]);
    for call in [libc::SYS_read, libc::SYS_write, libc::SYS_ptrace, libc::SYS_getpid] {
        assert_eq!(of(call), ALLOWED, "{call}");
    }
    for call in [libc::SYS_uname, libc::SYS_mount, libc::SYS_openat2] {
        assert_eq!(of(call), errno(38), "{call}");
    }
    assert_eq!((of(libc::SYS_clone3), of(libc::SYS_kill)), (errno(1), libc::SECCOMP_RET_KILL_PROCESS));
}

#[test]
fn what_is_forbidden_is_refused_whoever_calls_it() {
    let made = programs(
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["personality"], "action": "SCMP_ACT_TRAP",
                "args": [{"index": 0, "value": 4294967295, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_TRAP", "args": [{"index": 0, "value": 100, "op": "SCMP_CMP_GT"}]}]}"#,
        None,
    )
    .unwrap();
    let of = |call, first| answer(&made, call, [first, 0, 0, 0, 0, 0]);
    assert_eq!((of(libc::SYS_mkdirat, 0), of(libc::SYS_read, 0)), (errno(libc::EPERM), ALLOWED));
    assert_eq!(of(libc::SYS_personality, 7), ALLOWED);
    for first in [8, 101, u64::MAX] {
        assert_eq!(of(libc::SYS_personality, first), libc::SECCOMP_RET_TRAP, "{first}");
    }
    if ARCH == "x86_64" {
        assert_eq!(of(libc::SYS_mkdirat | 0x4000_0000, 0), errno(libc::ENOSYS));
    }
}

#[test]
fn what_is_named_with_the_default_action_is_not_allowed_by_that() {
    let made = programs(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
            {"names": ["ptrace", "mount"], "action": "SCMP_ACT_ERRNO"},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
            {"names": ["read"], "action": "SCMP_ACT_ALLOW"}]}"#,
        None,
    )
    .unwrap();
    for call in [libc::SYS_ptrace, libc::SYS_mount, libc::SYS_write] {
        assert_eq!(answer(&made, call, [0; 6]), errno(libc::EPERM), "{call}");
    }
    assert_eq!(answer(&made, libc::SYS_read, [0; 6]), ALLOWED);
    // All but the last can be added where the profile does not allow the call that adds filters.
    let (_, others) = made.split_last().unwrap();
    assert_eq!(answer(others, libc::SYS_seccomp, [0; 6]), ALLOWED);
}

#[test]
fn what_is_no_profile_is_said() {
    for bad in [
        "",
        "[]",
        "{}",
        r#"{"defaultAction": "ALLOW"}"#,
        r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}]}]}"#,
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": -1, "op": "SCMP_CMP_EQ"}]}]}"#,
    ] {
        assert!(programs(bad, None).is_err(), "{bad}");
    }
    let argument = r#"{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}"#;
    let rule = format!(r#"{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{argument}]}}"#);
    let many = vec![rule; 3000].join(",");
    let text = format!(r#"{{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{many}]}}"#);
    assert!(programs(&text, None).is_err(), "no program is that long");
}

#[test]
fn kernels_have_numbers() {
    for (text, numbers) in
        [("6.1.0-18-amd64", (6, 1)), ("4.8", (4, 8)), ("5", (5, 0)), ("", (0, 0)), ("x.y", (0, 0))]
    {
        assert_eq!(version(text), numbers, "{text}");
    }
}

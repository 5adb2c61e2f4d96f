//! `linux_info` and `tty_info` of containers of type MESOS.

use std::path::{Component, Path, PathBuf};

use meshos_proto::mesos::v1::{self as pb, linux_info::IpcMode};

use crate::containerizer::{container::LinuxSetup, runtimes::Runtimes};

const MB: u64 = 1024 * 1024;

/// Whether this says no more than what holds for a plain process, too.
pub(super) fn is_plain(info: &pb::LinuxInfo) -> bool {
    *info == pb::LinuxInfo { share_cgroups: info.share_cgroups, ..pb::LinuxInfo::default() }
}

#[allow(deprecated, reason = "frameworks of old still set it")]
pub(super) fn setup(runtimes: &Runtimes, info: &pb::ContainerInfo) -> Result<LinuxSetup, String> {
    let linux = info.linux_info.clone().unwrap_or_default();
    // The older field of the same meaning.
    let effective = linux.effective_capabilities.as_ref().or(linux.capability_info.as_ref());
    let setup = LinuxSetup {
        effective_capabilities: effective.map(capabilities).transpose()?,
        bounding_capabilities: linux.bounding_capabilities.as_ref().map(capabilities).transpose()?,
        share_pid_namespace: linux.share_pid_namespace.unwrap_or_default(),
        seccomp_unconfined: linux
            .seccomp
            .as_ref()
            .is_some_and(|seccomp| seccomp.unconfined.unwrap_or_default()),
        seccomp_profile: profile(runtimes, linux.seccomp.as_ref())?,
        shm_size: linux.shm_size.map(|megabytes| u64::from(megabytes) * MB),
        share_ipc_namespace: linux.ipc_mode() == IpcMode::ShareParent,
        terminal: info.tty_info.is_some(),
        privileged: false,
    };
    if setup.share_ipc_namespace && setup.shm_size.is_some() {
        return Err(
            "shm_size cannot be set for a container that shares the IPC namespace above it".to_owned()
        );
    }
    let capable = setup.effective_capabilities.is_some() || setup.bounding_capabilities.is_some();
    let wanted = [
        (capable, "linux/capabilities", "a set of capabilities"),
        (linux.seccomp.is_some(), "linux/seccomp", "a setting of seccomp"),
        (linux.share_pid_namespace.is_some(), "namespaces/pid", "a setting of the PID namespace"),
        (
            linux.ipc_mode.is_some() || linux.shm_size.is_some(),
            "namespaces/ipc",
            "a setting of IPC or /dev/shm",
        ),
    ];
    let mut wanted = wanted.iter().filter(|(is, ..)| *is);
    wanted.try_for_each(|(_, isolator, what)| runtimes.require_isolators(&[isolator], what))?;
    with_defaults(runtimes, setup)
}

/// The file that is asked for: a path in the operator's directory, as upstream has it.
fn profile(runtimes: &Runtimes, asked: Option<&pb::SeccompInfo>) -> Result<Option<PathBuf>, String> {
    let Some(name) = asked.and_then(|asked| asked.profile_name.as_deref()) else { return Ok(None) };
    if asked.and_then(|asked| asked.unconfined).unwrap_or_default() {
        return Err("'profile_name' is given even though 'unconfined' is true".to_owned());
    }
    runtimes.require_isolators(&["linux/seccomp"], "a seccomp profile")?;
    let dir = runtimes.defaults.seccomp_dir.as_ref();
    let dir = dir.ok_or("a seccomp profile needs --seccomp_config_dir on this agent")?;
    let is_broken = |part: Component<'_>| !matches!(part, Component::Normal(_));
    match name.is_empty() || name.contains('\0') || Path::new(name).components().any(is_broken) {
        true => Err(format!("'{}' is no name of a seccomp profile", name.escape_debug())),
        false => Ok(Some(dir.join(name))),
    }
}

/// What the operator gives where nothing is asked for, unless more was asked for than he gives to anybody.
fn with_defaults(runtimes: &Runtimes, setup: LinuxSetup) -> Result<LinuxSetup, String> {
    let defaults = &runtimes.defaults;
    if setup.share_pid_namespace && defaults.own_pids {
        return Err("Sharing agent pid namespace with a container is not allowed".to_owned());
    }
    if setup.share_ipc_namespace && defaults.own_ipc {
        return Err("Sharing agent IPC namespace with a container is not allowed".to_owned());
    }
    let is_on = |isolator: &str| runtimes.require_isolators(&[isolator], "").is_ok();
    let given = |of: &Option<Vec<String>>| of.clone().filter(|_| is_on("linux/capabilities"));
    let most = given(&defaults.bounding_capabilities);
    let asked = [&setup.effective_capabilities, &setup.bounding_capabilities];
    if let Some(most) = &most
        && let Some(beyond) = asked.into_iter().flatten().flatten().find(|name| !most.contains(name))
    {
        let most = most.join(", ");
        return Err(format!("the capability {beyond} is not among those that this agent gives: {most}"));
    }
    let shm_size = defaults.shm_size.filter(|_| is_on("namespaces/ipc") && !setup.share_ipc_namespace);
    let profile = defaults.seccomp_profile.clone().filter(|_| is_on("linux/seccomp"));
    let setup = LinuxSetup {
        shm_size: setup.shm_size.or(shm_size),
        seccomp_profile: setup.seccomp_profile.or(profile).filter(|_| !setup.seccomp_unconfined),
        effective_capabilities: setup.effective_capabilities.or(given(&defaults.effective_capabilities)),
        bounding_capabilities: setup.bounding_capabilities.or(most),
        ..setup
    };
    if let (Some(effective), Some(bounding)) = (&setup.effective_capabilities, &setup.bounding_capabilities)
        && let Some(beyond) = effective.iter().find(|name| !bounding.contains(name))
    {
        return Err(format!("the effective capability {beyond} is not among the bounding capabilities"));
    }
    Ok(setup)
}

fn capabilities(info: &pb::CapabilityInfo) -> Result<Vec<String>, String> {
    let names = info.capabilities.iter().map(|number| {
        let known = pb::capability_info::Capability::try_from(*number).ok();
        let known = known.filter(|known| *known != pb::capability_info::Capability::Unknown);
        known
            .map(|known| format!("CAP_{}", known.as_str_name()))
            .ok_or_else(|| format!("{number} is no capability"))
    });
    names.collect()
}

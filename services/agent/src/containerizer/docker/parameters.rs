//! Options of `docker run` as frameworks give them, put into what the engine's API takes.

mod values;

use std::collections::HashMap;

use bollard::models::{
    ContainerCreateBody, DeviceMapping, DeviceRequest, EndpointSettings, HealthConfig, HostConfig,
    HostConfigCgroupnsModeEnum, HostConfigLogConfig,
};

use values::{bytes, device, flag, float, number, pair, publish, ulimit};

/// A container on its way to the engine.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Draft {
    pub(super) body: ContainerCreateBody,
    pub(super) host: HostConfig,
    pub(super) endpoint: EndpointSettings,
    /// `-v` that were given as options.
    pub(super) binds: Vec<String>,
}

/// What the agent itself decides.
const REFUSED: [(&str, &str); 14] = [
    ("a", "the agent reads the container's output"),
    ("attach", "the agent reads the container's output"),
    ("cidfile", "the agent names its containers"),
    ("d", "the agent starts its containers"),
    ("detach", "the agent starts its containers"),
    ("detach-keys", "nobody is attached"),
    ("env-file", "the file would be one of the agent: use env"),
    ("label-file", "the file would be one of the agent: use label"),
    ("name", "the agent names its containers"),
    ("platform", "the image decides about it"),
    ("pull", "use force_pull_image"),
    ("restart", "the framework decides what runs again"),
    ("rm", "the agent removes its containers"),
    ("sig-proxy", "nobody is attached"),
];

/// Puts one option in.
///
/// # Errors
/// It is not known, refused, or its value is wrong.
pub(super) fn apply(draft: &mut Draft, key: &str, value: &str) -> Result<(), String> {
    if let Some((_, why)) = REFUSED.iter().find(|(name, _)| *name == key) {
        return Err(format!("the parameter '{key}' of a Docker container is refused: {why}"));
    }
    let known = of_program(draft, key, value)
        .or_else(|| of_resources(&mut draft.host, key, value))
        .or_else(|| of_host(&mut draft.host, key, value))
        .or_else(|| of_network(draft, key, value));
    match known {
        Some(Ok(())) => Ok(()),
        Some(Err(reason)) => Err(format!("the parameter '{key}' of a Docker container: {reason}")),
        None => Err(format!(
            "the parameter '{key}' of a Docker container is not supported: it is no option of docker run that this \
             agent knows"
        )),
    }
}

type Applied = Option<Result<(), String>>;

/// What the program is and sees.
fn of_program(draft: &mut Draft, key: &str, value: &str) -> Applied {
    let text = || Some(value.to_owned());
    let body = &mut draft.body;
    match key {
        "env" | "e" => body.env.get_or_insert_default().push(value.to_owned()),
        "label" | "l" => {
            let (name, value) = value.split_once('=').unwrap_or((value, ""));
            body.labels.get_or_insert_default().insert(name.to_owned(), value.to_owned());
        }
        "user" | "u" => body.user = text(),
        "workdir" | "w" => body.working_dir = text(),
        "hostname" | "h" => body.hostname = text(),
        "domainname" => body.domainname = text(),
        "entrypoint" => body.entrypoint = Some(vec![value.to_owned()]),
        "stop-signal" => body.stop_signal = text(),
        "stop-timeout" => return Some(number(value).map(|seconds| body.stop_timeout = Some(seconds))),
        "tty" | "t" => return Some(flag(value).map(|on| body.tty = Some(on))),
        "interactive" | "i" => return Some(flag(value).map(|on| body.open_stdin = Some(on))),
        "expose" => body.exposed_ports.get_or_insert_default().push(values::with_protocol(value)),
        "no-healthcheck" => {
            let none = HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() };
            return Some(flag(value).map(|on| body.healthcheck = on.then_some(none)));
        }
        "volume" | "v" => {
            if values::is_anonymous(value) {
                body.volumes.get_or_insert_default().push(value.to_owned());
            } else {
                draft.binds.push(value.to_owned());
            }
        }
        _ => return None,
    }
    Some(Ok(()))
}

/// What it may use.
fn of_resources(host: &mut HostConfig, key: &str, value: &str) -> Applied {
    let set = |place: &mut Option<i64>, value: Result<i64, String>| value.map(|value| *place = Some(value));
    Some(match key {
        "memory" | "m" => set(&mut host.memory, bytes(value)),
        "memory-reservation" => set(&mut host.memory_reservation, bytes(value)),
        "memory-swap" => set(&mut host.memory_swap, if value == "-1" { Ok(-1) } else { bytes(value) }),
        "memory-swappiness" => set(&mut host.memory_swappiness, number(value)),
        "shm-size" => set(&mut host.shm_size, bytes(value)),
        "cpu-shares" | "c" => set(&mut host.cpu_shares, number(value)),
        "cpu-quota" => set(&mut host.cpu_quota, number(value)),
        "cpu-period" => set(&mut host.cpu_period, number(value)),
        "cpu-rt-period" => set(&mut host.cpu_realtime_period, number(value)),
        "cpu-rt-runtime" => set(&mut host.cpu_realtime_runtime, number(value)),
        "cpus" => set(&mut host.nano_cpus, float(value).map(values::nano)),
        "cpuset-cpus" => {
            host.cpuset_cpus = Some(value.to_owned());
            Ok(())
        }
        "cpuset-mems" => {
            host.cpuset_mems = Some(value.to_owned());
            Ok(())
        }
        "pids-limit" => set(&mut host.pids_limit, number(value)),
        "oom-score-adj" => set(&mut host.oom_score_adj, number(value)),
        "oom-kill-disable" => flag(value).map(|on| host.oom_kill_disable = Some(on)),
        "blkio-weight" => number(value).map(|weight| host.blkio_weight = u16::try_from(weight).ok()),
        "ulimit" => ulimit(value).map(|limit| host.ulimits.get_or_insert_default().push(limit)),
        "gpus" => values::gpus(value).map(|gpus: DeviceRequest| {
            host.device_requests.get_or_insert_default().push(gpus);
        }),
        _ => return None,
    })
}

/// What of the machine it sees.
fn of_host(host: &mut HostConfig, key: &str, value: &str) -> Applied {
    let text = || Some(value.to_owned());
    let list = |place: &mut Option<Vec<String>>| place.get_or_insert_default().push(value.to_owned());
    match key {
        "privileged" => return Some(flag(value).map(|on| host.privileged = Some(on))),
        "read-only" => return Some(flag(value).map(|on| host.readonly_rootfs = Some(on))),
        "init" => return Some(flag(value).map(|on| host.init = Some(on))),
        "cap-add" => list(&mut host.cap_add),
        "cap-drop" => list(&mut host.cap_drop),
        "group-add" => list(&mut host.group_add),
        "security-opt" => list(&mut host.security_opt),
        "device-cgroup-rule" => list(&mut host.device_cgroup_rules),
        "volumes-from" => list(&mut host.volumes_from),
        "volume-driver" => host.volume_driver = text(),
        "pid" => host.pid_mode = text(),
        "ipc" => host.ipc_mode = text(),
        "uts" => host.uts_mode = text(),
        "userns" => host.userns_mode = text(),
        "cgroup-parent" => host.cgroup_parent = text(),
        "cgroupns" => {
            let mode = match value {
                "host" => Ok(HostConfigCgroupnsModeEnum::HOST),
                "private" => Ok(HostConfigCgroupnsModeEnum::PRIVATE),
                other => Err(format!("'{other}' is neither host nor private")),
            };
            return Some(mode.map(|mode| host.cgroupns_mode = Some(mode)));
        }
        "runtime" => host.runtime = text(),
        "device" => {
            return Some(device(value).map(|device: DeviceMapping| {
                host.devices.get_or_insert_default().push(device);
            }));
        }
        "tmpfs" => {
            let (path, options) = value.split_once(':').unwrap_or((value, ""));
            host.tmpfs.get_or_insert_default().insert(path.to_owned(), options.to_owned());
        }
        "sysctl" => return Some(insert(host.sysctls.get_or_insert_default(), value)),
        "storage-opt" => return Some(insert(host.storage_opt.get_or_insert_default(), value)),
        "annotation" => return Some(insert(host.annotations.get_or_insert_default(), value)),
        "log-driver" => log_config(host).typ = text(),
        "log-opt" => return Some(insert(log_config(host).config.get_or_insert_default(), value)),
        _ => return None,
    }
    Some(Ok(()))
}

/// How it reaches the world.
fn of_network(draft: &mut Draft, key: &str, value: &str) -> Applied {
    let list = |place: &mut Option<Vec<String>>| place.get_or_insert_default().push(value.to_owned());
    let host = &mut draft.host;
    match key {
        // Looked at when the container was checked.
        "net" | "network" => {}
        "network-alias" | "net-alias" => list(&mut draft.endpoint.aliases),
        "ip" => draft.endpoint.ipam_config.get_or_insert_default().ipv4_address = Some(value.to_owned()),
        "ip6" => draft.endpoint.ipam_config.get_or_insert_default().ipv6_address = Some(value.to_owned()),
        "mac-address" => draft.endpoint.mac_address = Some(value.to_owned()),
        "link" => list(&mut host.links),
        "dns" => list(&mut host.dns),
        "dns-search" => list(&mut host.dns_search),
        "dns-opt" | "dns-option" => list(&mut host.dns_options),
        "add-host" => list(&mut host.extra_hosts),
        "publish-all" | "P" => return Some(flag(value).map(|on| host.publish_all_ports = Some(on))),
        "publish" | "p" => {
            return Some(publish(value).map(|(port, binding)| {
                let ports = host.port_bindings.get_or_insert_default();
                ports.entry(port).or_default().get_or_insert_default().push(binding);
            }));
        }
        _ => return None,
    }
    Some(Ok(()))
}

fn log_config(host: &mut HostConfig) -> &mut HostConfigLogConfig {
    host.log_config.get_or_insert_default()
}

fn insert(map: &mut HashMap<String, String>, value: &str) -> Result<(), String> {
    let (name, value) = pair(value)?;
    map.insert(name, value);
    Ok(())
}

#[cfg(test)]
mod tests;

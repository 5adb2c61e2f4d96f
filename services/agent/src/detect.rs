//! What the machine has: resources that were not given by flags, addresses, names.

use std::{
    fs,
    net::{IpAddr, UdpSocket},
    path::Path,
    process::Stdio,
    time::Duration,
};

use meshos_proto::{json, mesos::v1 as pb};
use meshos_types::{
    Format, RoleName, attributes::Attributes, parse_attributes, parse_resources, resources::Resources,
};
use nix::{
    sys::statvfs::statvfs,
    unistd::{SysconfVar, sysconf},
};
use tokio::{process::Command, time::timeout};

use crate::{Config, Error, http::Firewall};

const MB: u64 = 1024 * 1024;
const GB: u64 = 1024 * MB;
/// What finds the address ends by then, or never will.
const DISCOVERY: Duration = Duration::from_secs(30);

/// What this node offers.
#[derive(Clone, Debug)]
pub(crate) struct Detected {
    pub(crate) resources: Resources,
    pub(crate) attributes: Attributes,
    pub(crate) domain: Option<pb::DomainInfo>,
}

/// The address to listen on.
pub(crate) async fn ip(config: &Config) -> Result<IpAddr, Error> {
    let Some(program) = &config.ip_discovery_command else { return Ok(config.ip) };
    let bad = |reason: String| Error::Flag { flag: "ip_discovery_command", reason };
    let output =
        Command::new(program).stdin(Stdio::null()).stderr(Stdio::inherit()).kill_on_drop(true).output();
    let output = timeout(DISCOVERY, output).await;
    let output =
        output.map_err(|_| bad(format!("{} did not end within {DISCOVERY:?}", program.display())))?;
    let output = output.map_err(|error| bad(format!("{}: {error}", program.display())))?;
    if !output.status.success() {
        return Err(bad(format!("{} ended with {}", program.display(), output.status)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim()
        .parse()
        .map_err(|_| bad(format!("{} printed '{}', which is no address", program.display(), text.trim())))
}

/// The endpoints that are closed.
pub(crate) fn firewall(config: &Config) -> Result<Firewall, Error> {
    let Some(rules) = &config.firewall_rules else { return Ok(Firewall::default()) };
    let rules = content(rules).map_err(|error| error.to_string()).and_then(|text| Firewall::parse(&text));
    rules.map_err(|reason| Error::Flag { flag: "firewall_rules", reason })
}

/// Reads the flags and fills in what they leave out.
pub(crate) fn detect(config: &Config) -> Result<Detected, Error> {
    let bad = |flag: &'static str| {
        move |error: &dyn std::fmt::Display| Error::Flag { flag, reason: error.to_string() }
    };
    let role = RoleName::parse(&config.default_role).map_err(|e| bad("default_role")(&e))?;
    let text = content(config.resources.as_deref().unwrap_or_default()).map_err(|e| bad("resources")(&e))?;
    let mut given = parse_resources(&text, &role).map_err(|e| bad("resources")(&e))?;
    let missing = |name: &str| !given.names.contains(name);
    let mut found = Vec::new();
    if missing("cpus") {
        found.push(format!("cpus:{}", cpus()));
    }
    if missing("mem") {
        found.push(format!("mem:{}", memory_mb()));
    }
    if missing("disk") {
        found.push(format!("disk:{}", disk_mb(&config.work_dir)));
    }
    if missing("ports") {
        found.push("ports:[31000-32000]".to_owned());
    }
    let found = parse_resources(&found.join(";"), &role).map_err(|e| bad("resources")(&e))?;
    given.resources.extend(found.resources);
    let text =
        content(config.attributes.as_deref().unwrap_or_default()).map_err(|e| bad("attributes")(&e))?;
    let attributes = parse_attributes(&text).map_err(|e| bad("attributes")(&e))?;
    let domain = config.domain.as_deref().map(domain).transpose();
    let domain = domain.map_err(|reason| Error::Flag { flag: "domain", reason })?;
    Ok(Detected { resources: given.resources, attributes, domain })
}

impl Detected {
    /// The agent as the others know it.
    pub(crate) fn agent_info(&self, hostname: &str, port: u16) -> pb::AgentInfo {
        pb::AgentInfo {
            hostname: hostname.to_owned(),
            port: Some(i32::from(port)),
            resources: self.resources.to_proto(Format::PostRefinement),
            attributes: self.attributes.to_proto(),
            id: None,
            domain: self.domain.clone(),
        }
    }
}

fn domain(text: &str) -> Result<pb::DomainInfo, String> {
    let text = content(text).map_err(|error| error.to_string())?;
    let value = json::parse(text.as_bytes()).map_err(|error| error.to_string())?;
    json::from_json(&value).map_err(|error| error.to_string())
}

/// The text itself, or that of the file that it names.
fn content(text: &str) -> std::io::Result<String> {
    match text.strip_prefix("file://") {
        Some(path) => fs::read_to_string(path),
        None => Ok(text.to_owned()),
    }
}

/// Processors that are online.
pub(crate) fn cpus() -> u64 {
    let online = sysconf(SysconfVar::_NPROCESSORS_ONLN).ok().flatten();
    online.and_then(|count| u64::try_from(count).ok()).unwrap_or(1)
}

/// Total and free memory in bytes.
pub(crate) fn memory() -> Option<(u64, u64)> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = |name: &str| -> Option<u64> {
        let value = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(value.trim().trim_end_matches("kB").trim().parse::<u64>().ok()? * 1024)
    };
    Some((line("MemTotal:")?, line("MemFree:")?))
}

/// What is left for tasks: all but 1 GB, or half of little.
fn memory_mb() -> u64 {
    match memory() {
        Some((total, _)) if total >= 2 * GB => (total - GB) / MB,
        Some((total, _)) => total / 2 / MB,
        None => GB / MB,
    }
}

/// What is left for tasks: all but 5 GB, or half of little.
fn disk_mb(work_dir: &Path) -> u64 {
    match statvfs(work_dir).ok().map(|stat| stat.blocks() * stat.fragment_size()) {
        Some(total) if total >= 10 * GB => (total - 5 * GB) / MB,
        Some(total) => total / 2 / MB,
        None => 10 * GB / MB,
    }
}

/// Load over the last 1, 5 and 15 minutes.
pub(crate) fn load() -> [f64; 3] {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split_whitespace().map(|number| number.parse().unwrap_or_default());
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

/// Name of the machine.
pub(crate) fn hostname() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "localhost".to_owned())
}

/// The address that packets to other machines leave from. Nothing is sent.
pub(crate) fn outward_ip() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resources(text: &str) -> Result<Detected, Error> {
        let dir = tempfile::tempdir().unwrap();
        detect(&Config { resources: Some(text.to_owned()), ..Config::new(vec![], dir.path()) })
    }

    #[test]
    fn what_is_given_is_not_detected() {
        let found = resources("cpus:3;mem:0;ports:[1-2]").unwrap();
        let object = meshos_types::render::resources_object(&found.resources);
        assert_eq!(
            (&object["cpus"], &object["mem"], &object["ports"]),
            (&3.0.into(), &0.0.into(), &"[1-2]".into())
        );
        assert!(object["disk"].as_f64().unwrap() > 0.0);
        let info = found.agent_info("node", 5051);
        assert!(info.resources.iter().all(|resource| resource.name != "mem"));
    }

    #[test]
    fn roles_and_custom_resources_are_taken_and_the_rest_is_detected() {
        let found = resources("cpus(foo):2;mem(foo):2048;cpus(*):2;mem(*):6144;slots:3;zones:{a,b}").unwrap();
        let text = found.resources.to_string();
        for part in ["cpus(static: foo):2", "mem:6144", "slots:3", "zones:{a, b}", "ports:[31000-32000]"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert_eq!(found.resources.scalar("cpus"), meshos_types::Milli::whole(4));
    }

    #[test]
    fn a_bad_flag_is_named() {
        assert!(resources("cpus").unwrap_err().to_string().starts_with("--resources: "));
    }
}

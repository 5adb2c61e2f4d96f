//! Files of `/etc` that are each container's own.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use crate::containerizer::container::{Hidden, MountSetup, MountSource};

/// The machine's own, where a container has its network.
const MACHINES_RESOLV_CONF: &str = "/etc/resolv.conf";

/// What the files tell.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    /// None: the machine's.
    pub(super) hostname: Option<&'a str>,
    /// The first one is the container's in each network.
    pub(super) addresses: &'a [IpAddr],
    /// Empty: the machine's.
    pub(super) resolv_conf: &'a str,
    /// The container is in the machine's network.
    pub(super) shares_network: bool,
}

fn hosts(names: &Names<'_>) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    if let Some(hostname) = names.hostname {
        let loopback = [IpAddr::from([127, 0, 0, 1])];
        let addresses = if names.addresses.is_empty() { &loopback[..] } else { names.addresses };
        for address in addresses {
            // Writing to a text does not fail.
            let _ = writeln!(text, "{address}\t{hostname}");
        }
    }
    text
}

/// Writes the files; where they are, and where in the container they belong.
pub(super) fn write(dir: &Path, names: &Names<'_>) -> Result<Vec<(PathBuf, &'static str)>, String> {
    let mut files = Vec::new();
    let mut add = |name: &str, place, text: String| -> io::Result<()> {
        let path = dir.join(name);
        fs::write(&path, text)?;
        files.push((path, place));
        Ok(())
    };
    let mut all = || -> io::Result<()> {
        let machines_hosts = names.shares_network && names.hostname.is_none();
        let text = if machines_hosts { fs::read_to_string("/etc/hosts").ok() } else { None };
        add("hosts", "/etc/hosts", text.unwrap_or_else(|| hosts(names)))?;
        if let Some(hostname) = names.hostname {
            add("hostname", "/etc/hostname", format!("{hostname}\n"))?;
        }
        let resolv_conf = match names.resolv_conf {
            "" => fs::read_to_string(MACHINES_RESOLV_CONF).unwrap_or_default(),
            given => given.to_owned(),
        };
        add("resolv.conf", MACHINES_RESOLV_CONF, resolv_conf)
    };
    all().map_err(|error| format!("cannot write in {}: {error}", dir.display()))?;
    Ok(files)
}

/// Where a container's secret is, by its number among the volumes.
pub(super) fn secret(dir: &Path, number: usize) -> PathBuf {
    dir.join(format!("secret-{number}"))
}

/// Writes the secrets among a container's volumes, for its user alone. The directory is closed to all others.
pub(super) fn write_secrets(
    dir: &Path,
    mounts: &[MountSetup],
    owner: Option<(u32, u32)>,
) -> Result<(), String> {
    for (number, mount) in mounts.iter().enumerate() {
        let MountSource::Secret(Hidden(content)) = &mount.source else { continue };
        let write = || -> io::Result<()> {
            let mut options = fs::OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o400).open(secret(dir, number))?;
            file.write_all(content)?;
            owner.map_or(Ok(()), |(uid, gid)| std::os::unix::fs::fchown(&file, Some(uid), Some(gid)))
        };
        write().map_err(|error| {
            format!("cannot provide the volume {}: {error}", mount.container_path.display())
        })?;
    }
    Ok(())
}

/// Whether a name can be that of a machine.
pub(super) fn check_hostname(name: &str) -> Result<(), String> {
    let harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match !name.is_empty() && name.len() <= 63 && name.chars().all(harmless) {
        true => Ok(()),
        false => Err(format!("'{name}' cannot be the name of a machine")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_knows_its_own_name() {
        let dir = tempfile::tempdir().unwrap();
        let addresses = ["10.1.2.3", "fd00::2"].map(|text| text.parse().unwrap());
        let names = Names {
            hostname: Some("web"),
            addresses: &addresses,
            resolv_conf: "nameserver 10.1.2.1\n",
            shares_network: false,
        };
        let files = write(dir.path(), &names).unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(read("hosts").ends_with("10.1.2.3\tweb\nfd00::2\tweb\n"));
        assert_eq!(
            (read("hostname").as_str(), read("resolv.conf").as_str()),
            ("web\n", "nameserver 10.1.2.1\n")
        );
        let places: Vec<_> = files.iter().map(|(_, place)| *place).collect();
        assert_eq!(places, ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"]);
    }

    #[test]
    fn names_have_no_lines() {
        assert!(check_hostname("web-1.example").is_ok());
        for bad in ["", "a\nb", "a b", &"x".repeat(64)] {
            assert!(check_hostname(bad).is_err(), "{bad}");
        }
    }
}

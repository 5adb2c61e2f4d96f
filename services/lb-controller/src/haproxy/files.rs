//! The directory that HAProxy reads and the controller writes.
//!
//! ```text
//! head.cfg          global settings, statistics, ports of virtual hosts
//! apps/<app>.cfg    the services of one app
//! maps/*.map        virtual hosts and app ids
//! certs/            certificates of the HTTPS port, and their list
//! applied           what the running worker was started with, as a digest
//! check/            what is being looked at before it is published
//! *.sock            of HAProxy's worker and master, and of the controller
//! ```
//!
//! Writes are small, and replace a file at once or not at all.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use crate::core::rules::Map;

#[derive(Clone, Debug)]
pub struct Files {
    dir: PathBuf,
}

impl Files {
    /// Makes the directories.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn open(dir: &Path) -> io::Result<Self> {
        let dir = std::path::absolute(dir)?;
        if dir.as_os_str().len() > LONGEST_DIR {
            let message = format!("its path is longer than {LONGEST_DIR} bytes: sockets in it have no room");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        for part in ["apps", "maps", "certs", "check"] {
            fs::create_dir_all(dir.join(part))?;
        }
        let files = Self { dir };
        for map in Map::ALL {
            if !files.map(map).exists() {
                fs::write(files.map(map), "")?;
            }
        }
        if !files.state().exists() {
            fs::write(files.state(), EMPTY_STATE)?;
        }
        Ok(files)
    }

    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    #[must_use]
    pub fn head(&self) -> PathBuf {
        self.dir.join("head.cfg")
    }

    #[must_use]
    pub fn apps(&self) -> PathBuf {
        self.dir.join("apps")
    }

    #[must_use]
    pub fn map(&self, map: Map) -> PathBuf {
        self.dir.join("maps").join(map.file())
    }

    #[must_use]
    pub fn certs(&self) -> PathBuf {
        self.dir.join("certs")
    }

    #[must_use]
    pub fn check(&self) -> PathBuf {
        self.dir.join("check")
    }

    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.dir.join("server.state")
    }

    #[must_use]
    pub fn applied(&self) -> PathBuf {
        self.dir.join("applied")
    }

    #[must_use]
    pub fn stats_socket(&self) -> PathBuf {
        self.dir.join("stats.sock")
    }

    #[must_use]
    pub fn master_socket(&self) -> PathBuf {
        self.dir.join("master.sock")
    }

    #[must_use]
    pub fn controller_socket(&self) -> PathBuf {
        self.dir.join("controller.sock")
    }

    #[must_use]
    pub fn pid(&self) -> PathBuf {
        self.dir.join("haproxy.pid")
    }

    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.dir.join("haproxy.log")
    }

    /// The file of an app or deployment group.
    #[must_use]
    pub fn unit(&self, unit: &str) -> PathBuf {
        self.apps().join(unit_file(unit))
    }

    /// Writes or removes (empty text) the file of a unit.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn write_unit(&self, unit: &str, text: &str) -> io::Result<()> {
        let file = self.unit(unit);
        if !text.is_empty() {
            return replace(&file, format!("# {unit}\n{text}").as_bytes());
        }
        match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The texts of all units as they lie there.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn read_units(&self) -> io::Result<BTreeMap<String, String>> {
        let mut units = BTreeMap::new();
        for entry in fs::read_dir(self.apps())? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "cfg") {
                continue;
            }
            let text = fs::read_to_string(&path)?;
            let named = text.split_once('\n').and_then(|(first, rest)| {
                let unit = first.strip_prefix("# ")?.to_owned();
                Some((unit, rest.to_owned()))
            });
            match named {
                Some((unit, text)) if self.unit(&unit) == path => units.insert(unit, text),
                // Nobody's: HAProxy would read it.
                _ => {
                    fs::remove_file(&path)?;
                    None
                }
            };
        }
        Ok(units)
    }

    /// # Errors
    /// When that is not possible.
    pub fn write_map(&self, map: Map, entries: &BTreeMap<String, String>) -> io::Result<()> {
        let lines: String = entries.iter().map(|(key, value)| format!("{key} {value}\n")).collect();
        replace(&self.map(map), lines.as_bytes())
    }

    /// # Errors
    /// When it cannot be read.
    pub fn read_map(&self, map: Map) -> io::Result<BTreeMap<String, String>> {
        let text = fs::read_to_string(self.map(map))?;
        let entries = text.lines().filter_map(|line| line.split_once(' '));
        Ok(entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
    }

    /// Forgets states of servers: an older one must not win over the configuration.
    pub fn clear_state(&self) -> io::Result<()> {
        replace(&self.state(), EMPTY_STATE.as_bytes())
    }
}

/// What the path of a Unix socket leaves, with the suffix that HAProxy gives it for a moment.
const LONGEST_DIR: usize = 75;
/// A state file without servers.
const EMPTY_STATE: &str = "1\n";

/// Longest name of a file, without its end.
const LONGEST: usize = 200;

fn unit_file(unit: &str) -> String {
    let name = unit.trim_start_matches('/').replace('/', "_");
    if name.len() <= LONGEST {
        return format!("{name}.cfg");
    }
    format!("{}-{:016x}.cfg", &name[..LONGEST], digest(unit.as_bytes()))
}

/// FNV-1a: names and compares texts; nobody's safety depends on it.
#[must_use]
pub fn digest(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Writes a file as a whole: readers see the old one or the new one.
///
/// # Errors
/// When that is not possible.
pub fn replace(file: &Path, content: &[u8]) -> io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    fs::write(&new, content)?;
    fs::rename(&new, file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        let long = format!("/{}", "x".repeat(600));
        for unit in ["/a/b", "/a-b", &long] {
            files.write_unit(unit, &format!("backend {}\n", &unit[1..4])).unwrap();
        }
        fs::write(files.apps().join("stray.cfg"), "backend x\n").unwrap();
        let units = files.read_units().unwrap();
        assert_eq!((units.len(), units["/a/b"].as_str()), (3, "backend a/b\n"));
        assert!(!files.apps().join("stray.cfg").exists());
        files.write_unit("/a/b", "").unwrap();
        files.write_unit("/a/b", "").unwrap();
        assert_eq!(files.read_units().unwrap().len(), 2);
        let entries = [("a.test/".to_owned(), "b".to_owned())].into();
        files.write_map(Map::Paths, &entries).unwrap();
        assert_eq!(files.read_map(Map::Paths).unwrap(), entries);
    }
}

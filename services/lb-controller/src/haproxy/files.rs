//! The directory that HAProxy reads and the controller writes.
//!
//! ```text
//! head.cfg          global settings, statistics, ports of virtual hosts
//! apps/<number>.cfg the services of some apps
//! maps/*.map        virtual hosts and app ids
//! certs/            certificates of the HTTPS port, and their list
//! applied           what the running worker was started with, as a digest
//! check/            what is being looked at before it is published
//! *.sock            of HAProxy's worker and master, and of the controller
//! ```
//!
//! Writes are small, and replace a file at once or not at all. Apps share files because HAProxy, when it reloads, passes
//! the names of all of them on in one variable, which has room for some thousand.

use std::{
    collections::BTreeMap,
    fs::{self, Permissions},
    io,
    os::unix::fs::PermissionsExt,
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
        // Keys of certificates, hashes of passwords.
        for part in ["apps", "certs", "check"] {
            fs::set_permissions(dir.join(part), Permissions::from_mode(0o700))?;
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

    /// For names alone: nothing is made.
    #[must_use]
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
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

    /// The file that a unit (an app or deployment group) shares with others.
    fn shard(&self, number: u64) -> PathBuf {
        self.apps().join(format!("{number:03x}.cfg"))
    }

    /// Writes, or removes (empty text), the texts of units.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn write_units<'a>(&self, texts: impl IntoIterator<Item = (&'a str, &'a str)>) -> io::Result<()> {
        let mut by_shard: BTreeMap<u64, Vec<(&str, &str)>> = BTreeMap::new();
        for (unit, text) in texts {
            by_shard.entry(digest(unit.as_bytes()) % SHARDS).or_default().push((unit, text));
        }
        for (number, texts) in by_shard {
            let mut units = self.read_shard(number)?;
            for (unit, text) in texts {
                match text {
                    "" => units.remove(unit),
                    text => units.insert(unit.to_owned(), text.to_owned()),
                };
            }
            self.write_shard(number, &units)?;
        }
        Ok(())
    }

    fn write_shard(&self, number: u64, units: &BTreeMap<String, String>) -> io::Result<()> {
        let path = self.shard(number);
        if !units.is_empty() {
            return replace(&path, joined(units).as_bytes());
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn read_shard(&self, number: u64) -> io::Result<BTreeMap<String, String>> {
        match fs::read(self.shard(number)) {
            // What is not ours is written over.
            Ok(bytes) => Ok(std::str::from_utf8(&bytes).ok().and_then(parted).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeMap::new()),
            Err(error) => Err(error),
        }
    }

    /// The text of a unit as it lies there; empty: none.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_unit(&self, unit: &str) -> io::Result<String> {
        let mut units = self.read_shard(digest(unit.as_bytes()) % SHARDS)?;
        Ok(units.remove(unit).unwrap_or_default())
    }

    /// The texts of all units as they lie there. Files that hold anything else are removed: HAProxy would read them.
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
            let bytes = fs::read(&path)?;
            let found = std::str::from_utf8(&bytes).ok().and_then(parted);
            let at_home = |unit: &String| self.shard(digest(unit.as_bytes()) % SHARDS) == path;
            match found.filter(|found| found.keys().all(at_home)) {
                Some(found) => units.extend(found),
                None => fs::remove_file(&path)?,
            }
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

/// Files that all apps share. Their names take less than the 128 KiB that one variable may have.
const SHARDS: u64 = 1024;

/// Units in one text: before each stand its length and name, so that nothing in it can be taken for another one.
fn joined(units: &BTreeMap<String, String>) -> String {
    units.iter().map(|(unit, text)| format!("# {} {unit}\n{text}\n", text.len())).collect()
}

/// The reverse of [`joined`]; none for any other text.
fn parted(mut text: &str) -> Option<BTreeMap<String, String>> {
    let mut units = BTreeMap::new();
    while !text.is_empty() {
        let (first, rest) = text.strip_prefix("# ")?.split_once('\n')?;
        let (length, unit) = first.split_once(' ')?;
        let (of_unit, rest) = rest.split_at_checked(length.parse().ok()?)?;
        units.insert(unit.to_owned(), of_unit.to_owned());
        text = rest.strip_prefix('\n')?;
    }
    Some(units)
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
    fn the_names_of_all_files_fit_into_one_variable() {
        let longest = LONGEST_DIR + "/apps/000.cfg;".len();
        assert!(longest * (usize::try_from(SHARDS).unwrap() + 1) < 128 * 1024);
    }

    #[test]
    fn units_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path()).unwrap();
        // A text may say what it likes.
        let texts = [("/a/b", "backend a\n# 3 /c\nx"), ("/a-b", "backend b\n\n"), ("/c", "backend c\n")];
        files.write_units(texts).unwrap();
        fs::write(files.apps().join("stray.cfg"), "backend x\n").unwrap();
        fs::write(files.apps().join("bytes.cfg"), b"\xff\xfe").unwrap();
        fs::write(files.apps().join("other.cfg"), "# 10 /c\nbackend d\n\n").unwrap();
        let units = files.read_units().unwrap();
        let wanted = texts.map(|(unit, text)| (unit.to_owned(), text.to_owned()));
        assert_eq!(units, wanted.into());
        assert!(!files.apps().join("stray.cfg").exists() && !files.apps().join("other.cfg").exists());
        files.write_units([("/a/b", "")]).unwrap();
        files.write_units([("/a/b", "")]).unwrap();
        assert_eq!(
            (files.read_units().unwrap().len(), files.read_unit("/c").unwrap().as_str()),
            (2, "backend c\n")
        );
        assert_eq!(files.read_unit("/a/b").unwrap(), "");
        let entries = [("a.test/".to_owned(), "b".to_owned())].into();
        files.write_map(Map::Paths, &entries).unwrap();
        assert_eq!(files.read_map(Map::Paths).unwrap(), entries);
    }
}

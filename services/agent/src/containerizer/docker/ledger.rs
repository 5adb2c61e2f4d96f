//! What an agent knows of its containers while the engine does not answer: a directory for each, which outlives the
//! agent. It lies in the work directory, so that agents that share an engine tell their containers apart.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::containerizer::{Exit, ExitStatus};

/// What is written down of one container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) container_id: String,
    /// It was started.
    pub(super) pid: Option<u32>,
    pub(super) exit: Option<Exit>,
    /// When it was forgotten, since the Unix epoch: the engine's container is to be removed.
    pub(super) forgotten: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Ledger {
    dir: PathBuf,
    owner: String,
}

impl Ledger {
    /// `fresh` names the owner of an agent that is new.
    pub(super) fn open(work_dir: &Path, fresh: &str) -> io::Result<Self> {
        let dir = work_dir.join("docker");
        fs::create_dir_all(dir.join("containers"))?;
        // It tells what tasks wrote.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o700))?;
        let path = dir.join("owner");
        let known = fs::read_to_string(&path).map(|text| text.trim().to_owned()).unwrap_or_default();
        let owner = if known.is_empty() { fresh.to_owned() } else { known };
        write(&path, &owner)?;
        Ok(Self { dir, owner })
    }

    /// The label that all containers of this agent have.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    fn of(&self, container_id: &str) -> PathBuf {
        self.dir.join("containers").join(container_id)
    }

    /// Where it is written down how much of the output was taken.
    pub(super) fn output(&self, container_id: &str) -> PathBuf {
        self.of(container_id).join("output")
    }

    /// A container is about to be made.
    pub(super) fn begin(&self, container_id: &str) -> io::Result<()> {
        fs::create_dir_all(self.of(container_id))
    }

    pub(super) fn started(&self, container_id: &str, pid: u32) -> io::Result<()> {
        write(&self.of(container_id).join("pid"), &pid.to_string())
    }

    pub(super) fn ended(&self, container_id: &str, exit: Exit) -> io::Result<()> {
        write(&self.of(container_id).join("exit"), &exit_text(exit))
    }

    /// Nobody asks for it any more. One that is not known is none.
    pub(super) fn forget(&self, container_id: &str, now: Duration) -> io::Result<()> {
        match self.of(container_id).is_dir() {
            true => write(&self.of(container_id).join("forgotten"), &now.as_secs().to_string()),
            false => Ok(()),
        }
    }

    /// The engine has it no more.
    pub(super) fn remove(&self, container_id: &str) {
        let _ = fs::remove_dir_all(self.of(container_id));
    }

    pub(super) fn entry(&self, container_id: &str) -> Option<Entry> {
        let dir = self.of(container_id);
        let read = |name: &str| fs::read_to_string(dir.join(name)).ok();
        dir.is_dir().then(|| Entry {
            container_id: container_id.to_owned(),
            pid: read("pid").and_then(|text| text.trim().parse().ok()),
            exit: read("exit").and_then(|text| parse_exit(&text)),
            forgotten: read("forgotten")
                .map(|text| Duration::from_secs(text.trim().parse().unwrap_or_default())),
        })
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let names = fs::read_dir(self.dir.join("containers")).into_iter().flatten().flatten();
        let mut names: Vec<_> = names.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names.iter().filter_map(|name| self.entry(name)).collect()
    }
}

/// Whole or not at all.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text)?;
    fs::rename(new, path)
}

fn exit_text(exit: Exit) -> String {
    let memory = if exit.out_of_memory { " memory" } else { "" };
    match exit.status {
        ExitStatus::Code(code) => format!("code {code}{memory}"),
        ExitStatus::Signal(signal) => format!("signal {signal}{memory}"),
        ExitStatus::Unknown => format!("unknown 0{memory}"),
    }
}

fn parse_exit(text: &str) -> Option<Exit> {
    let mut words = text.split_whitespace();
    let (kind, number) = (words.next()?, words.next()?.parse().ok()?);
    let status = match kind {
        "code" => ExitStatus::Code(number),
        "signal" => ExitStatus::Signal(number),
        _ => ExitStatus::Unknown,
    };
    Some(Exit { status, out_of_memory: words.next().is_some() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_there_for_the_next_agent() {
        let dir = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(dir.path(), "first").unwrap();
        for name in ["a", "b"] {
            ledger.begin(name).unwrap();
        }
        ledger.started("b", 7).unwrap();
        ledger.ended("b", Exit { status: ExitStatus::Code(3), out_of_memory: true }).unwrap();
        ledger.forget("b", Duration::from_secs(9)).unwrap();
        ledger.forget("never", Duration::ZERO).unwrap();
        let again = Ledger::open(dir.path(), "second").unwrap();
        assert_eq!(again.owner(), "first");
        let entries = again.entries();
        assert_eq!(entries[0], Entry { container_id: "a".to_owned(), ..Entry::default() });
        assert_eq!((entries[1].pid, entries[1].forgotten), (Some(7), Some(Duration::from_secs(9))));
        assert_eq!(entries[1].exit, Some(Exit { status: ExitStatus::Code(3), out_of_memory: true }));
        again.remove("a");
        assert_eq!(again.entries().len(), 1);
    }

    #[test]
    fn ends_are_read_as_they_were_written() {
        for status in [ExitStatus::Code(0), ExitStatus::Signal(9), ExitStatus::Unknown] {
            let exit = Exit { status, out_of_memory: false };
            assert_eq!(parse_exit(&exit_text(exit)), Some(exit));
        }
    }
}

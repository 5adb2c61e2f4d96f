//! The file of hosts whose agents are offered (Mesos `--whitelist`).

use std::{collections::BTreeSet, fs, time::Duration};

use tokio::time::sleep;
use tracing::{info, warn};

use super::owner::{OwnerHandle, Request};
use crate::{Error, config::AllocatorArgs, core::Input};

/// The file is read this often.
const AGAIN: Duration = Duration::from_secs(5);
/// A longer file is none of hosts.
const MOST_BYTES: u64 = 16 * 1024 * 1024;

/// Hosts that are listed; none: there is no list, all are.
type Hosts = Option<BTreeSet<String>>;

/// Where the list is.
#[derive(Clone, Debug)]
pub(crate) struct Whitelist(Option<String>);

impl Whitelist {
    /// As the flag says it: `*` or nothing stand for all hosts.
    pub(crate) fn new(args: &AllocatorArgs) -> Self {
        let path = args.whitelist.as_deref().filter(|path| *path != "*" && !path.is_empty());
        Self(path.map(|path| path.strip_prefix("file://").unwrap_or(path).to_owned()))
    }

    /// What the file says now.
    ///
    /// # Errors
    /// [`Error::Setting`] says why it cannot be read.
    pub(crate) fn read(&self) -> Result<Hosts, Error> {
        let Some(path) = &self.0 else { return Ok(None) };
        let fault = |problem: String| Error::Setting { flag: "whitelist", value: path.clone(), problem };
        let size = fs::metadata(path).map_err(|error| fault(error.to_string()))?.len();
        if size > MOST_BYTES {
            return Err(fault(format!("the file has {size} bytes, at most {MOST_BYTES} are read")));
        }
        let text = fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        Ok(Some(text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()))
    }

    /// Tells the owner of every change. A file that cannot be read changes nothing.
    pub(super) async fn follow(self, mut known: Hosts, owner: OwnerHandle) {
        if self.0.is_none() {
            return;
        }
        loop {
            sleep(AGAIN).await;
            let this = self.clone();
            let hosts = match tokio::task::spawn_blocking(move || this.read()).await {
                Ok(Ok(hosts)) => hosts,
                Ok(Err(error)) => {
                    warn!(%error, "whitelist stays as it was");
                    continue;
                }
                Err(_) => continue,
            };
            if hosts == known {
                continue;
            }
            info!(hosts = hosts.as_ref().map(BTreeSet::len), "whitelist changed");
            known.clone_from(&hosts);
            if owner.send(Request::Input(Input::Whitelist(hosts))).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_stand_one_a_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hosts");
        let list = |whitelist: Option<String>| {
            Whitelist::new(&AllocatorArgs { whitelist, ..AllocatorArgs::default() })
        };
        assert_eq!(list(None).read().unwrap(), None);
        assert_eq!(list(Some("*".to_owned())).read().unwrap(), None);
        let named = list(Some(format!("file://{}", path.display())));
        assert!(named.read().unwrap_err().to_string().contains("whitelist"));
        fs::write(&path, "one\n\n two \n").unwrap();
        assert_eq!(named.read().unwrap().unwrap(), ["one", "two"].map(String::from).into());
        fs::write(&path, "").unwrap();
        assert_eq!(named.read().unwrap(), Some(BTreeSet::new()), "an empty list has no hosts");
    }
}

//! What the gateway says of itself where Mesos's master speaks of itself.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use meshos_proto::mesos::v1::{Address, MasterInfo, VersionInfo};
use serde_json::{Value, json};

use crate::{Config, service::Identity};

/// The version of the Mesos API that is spoken; clients switch features on by it.
pub(super) const VERSION: &str = "1.12.0";

/// Identity, version and flags.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(super) identity: Identity,
    pub(super) cluster: Option<String>,
    /// Most event streams of operators at a time.
    pub(super) event_streams: usize,
    /// The log that is shown as a file.
    pub(super) log: Option<PathBuf>,
    /// Where logs are, by Mesos's names.
    pub(super) logs: Vec<(&'static str, String)>,
}

impl About {
    pub(crate) fn new(identity: Identity, config: &Config) -> Self {
        let event_streams = config.max_operator_event_stream_subscribers;
        let dir = config.log_file.as_deref().and_then(Path::parent);
        let logs = [("log_dir", dir), ("external_log_file", config.external_log_file.as_deref())];
        let logs = logs.into_iter().filter_map(|(name, path)| Some((name, path?.display().to_string())));
        Self {
            identity,
            cluster: config.cluster.clone(),
            event_streams,
            log: config.external_log_file.clone().or_else(|| config.log_file.clone()),
            logs: logs.collect(),
        }
    }

    /// `master@ip:port`
    pub(super) fn pid(&self) -> String {
        format!("master@{}:{}", self.identity.ip, self.identity.port)
    }

    /// `GET /version`
    pub(super) fn version(&self) -> Value {
        let info = version_info();
        json!({
            "version": info.version, "build_date": info.build_date, "build_time": info.build_time,
            "build_user": info.build_user,
        })
    }

    /// Settings by Mesos's names, as far as they mean something here.
    pub(super) fn flags(&self) -> BTreeMap<String, String> {
        let mut flags: BTreeMap<_, _> = [
            "authenticate_agents",
            "authenticate_frameworks",
            "authenticate_http_frameworks",
            "authenticate_http_readonly",
            "authenticate_http_readwrite",
        ]
        .into_iter()
        .map(|name| (name.to_owned(), "false".to_owned()))
        .collect();
        flags.insert("max_operator_event_stream_subscribers".to_owned(), self.event_streams.to_string());
        flags.insert("hostname".to_owned(), self.identity.hostname.clone());
        flags.insert("ip".to_owned(), self.identity.ip.to_string());
        flags.insert("port".to_owned(), self.identity.port.to_string());
        flags.extend(self.logs.iter().map(|(name, path)| ((*name).to_owned(), path.clone())));
        flags.extend(self.cluster.clone().map(|name| ("cluster".to_owned(), name)));
        flags
    }

    /// The master as clients reach it: through this gateway.
    pub(super) fn master(&self, info: &MasterInfo) -> MasterInfo {
        let port = self.identity.port;
        let address = Address {
            hostname: Some(self.identity.hostname.clone()),
            ip: Some(self.identity.ip.to_string()),
            port: i32::from(port),
        };
        MasterInfo {
            // The first octet stands in the lowest byte.
            ip: u32::from_le_bytes(self.identity.ip.octets()),
            port: u32::from(port),
            pid: Some(self.pid()),
            hostname: Some(self.identity.hostname.clone()),
            version: Some(VERSION.to_owned()),
            address: Some(address),
            ..info.clone()
        }
    }
}

/// `GET_VERSION`
pub(super) fn version_info() -> VersionInfo {
    VersionInfo {
        version: VERSION.to_owned(),
        build_date: Some("1970-01-01 00:00:00 UTC".to_owned()),
        build_time: Some(0.0),
        build_user: Some("meshos".to_owned()),
        ..Default::default()
    }
}

#[cfg(test)]
impl About {
    /// For tests: the addresses of the golden captures.
    pub(super) fn test() -> Self {
        let identity =
            Identity { hostname: "127.0.0.1".to_owned(), ip: std::net::Ipv4Addr::LOCALHOST, port: 5050 };
        Self { identity, cluster: None, event_streams: 1000, log: None, logs: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_packed_as_mesos_packs_it() {
        let master = About::test().master(&MasterInfo::default());
        assert_eq!((master.ip, master.port), (16_777_343, 5050));
        assert_eq!(master.pid.as_deref(), Some("master@127.0.0.1:5050"));
    }
}

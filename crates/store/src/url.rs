//! Store addresses, as `--store` takes them.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;

use crate::SharedStore;
use crate::embedded::Embedded;
use crate::error::{Error, Result};
use crate::etcd::{Etcd, EtcdOptions};

/// A store address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreUrl {
    /// `embedded:<dir>`
    Embedded(PathBuf),
    /// `etcd://host:port,host:port`; each as `host:port`.
    Etcd(Vec<String>),
}

/// Reads `embedded:<dir>` or `etcd://host:port,host:port`.
pub fn parse_url(url: &str) -> Result<StoreUrl> {
    let bad = |why: String| Err(Error::BadUrl { url: url.to_owned(), why });
    if let Some(dir) = url.strip_prefix("embedded:") {
        if dir.is_empty() {
            return bad("the directory is missing".to_owned());
        }
        return Ok(StoreUrl::Embedded(PathBuf::from(dir)));
    }
    let Some(hosts) = url.strip_prefix("etcd://") else {
        return bad("it starts neither with embedded: nor with etcd://".to_owned());
    };
    let mut endpoints = Vec::new();
    for endpoint in hosts.trim_end_matches('/').split(',').map(str::trim) {
        match endpoint.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0) => {
                endpoints.push(endpoint.to_owned());
            }
            _ => return bad(format!("{endpoint:?} is not host:port")),
        }
    }
    Ok(StoreUrl::Etcd(endpoints))
}

/// An open store.
pub struct Opened {
    pub store: SharedStore,
    /// Work that has to run beside the callers for as long as the store is used (the embedded store's leases);
    /// ends by itself after the last handle of the store is dropped.
    pub background: Option<BoxFuture<'static, ()>>,
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opened").field("store", &self.store).finish_non_exhaustive()
    }
}

/// Opens the store at an address with default options.
pub async fn open(url: &str) -> Result<Opened> {
    match parse_url(url)? {
        StoreUrl::Embedded(dir) => {
            let store = Embedded::open(dir)?;
            let background = store.run_leases().boxed();
            Ok(Opened { store: Arc::new(store), background: Some(background) })
        }
        StoreUrl::Etcd(endpoints) => {
            let store = Etcd::connect(&endpoints, EtcdOptions::default()).await?;
            Ok(Opened { store: Arc::new(store), background: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        assert_eq!(parse_url("embedded:.meshos/store"), Ok(StoreUrl::Embedded(".meshos/store".into())));
        assert_eq!(
            parse_url("etcd://a:2379,[::1]:2380"),
            Ok(StoreUrl::Etcd(vec!["a:2379".to_owned(), "[::1]:2380".to_owned()]))
        );
    }

    #[test]
    fn other_addresses_are_refused() {
        for url in
            ["", "embedded:", "etcd://", "etcd://a", "etcd://:1", "etcd://a:0", "etcd://a:b", "zk://a:2181"]
        {
            assert!(matches!(parse_url(url), Err(Error::BadUrl { .. })), "{url}");
        }
    }
}

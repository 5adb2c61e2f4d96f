//! Certificates of the HTTPS port, renewed while HAProxy runs.

use std::path::PathBuf;

use tracing::{info, warn};

use super::Driver;
use crate::{
    core::model::Problem,
    error::Error,
    haproxy::certs::{self, Pems},
};

#[derive(Debug, Default)]
pub(super) struct State {
    stamp: u64,
    /// What HAProxy has.
    applied: Vec<(String, String)>,
}

/// Where certificates are looked for when none are named, as in marathon-lb.
const DEFAULT: &str = "/etc/ssl/cert.pem";

impl Driver {
    fn certificate_paths(&self) -> Vec<PathBuf> {
        let given = self.config.args.ssl_certs.clone();
        let default = PathBuf::from(DEFAULT);
        if given.is_empty() && self.inline_certificates().is_empty() && is_certificate(&default) {
            return vec![default];
        }
        given
    }

    /// Texts of the variables HAPROXY_SSL_CERT, and HAPROXY_SSL_CERT0 and on where there is that one.
    fn inline_certificates(&self) -> Vec<String> {
        let variables = &self.config.haproxy_variables;
        let Some(first) = variables.get("HAPROXY_SSL_CERT") else { return Vec::new() };
        let more = (0..=100).filter_map(|index| variables.get(&format!("HAPROXY_SSL_CERT{index}")));
        std::iter::once(first).chain(more).cloned().collect()
    }

    /// Writes the certificates that there are at the begin; makes one when there is none.
    pub(super) fn load_certificates(&mut self) -> Result<(), Error> {
        let paths = self.certificate_paths();
        self.certificates.stamp = certs::stamp(&paths);
        let mut found = certs::read(&paths, &self.inline_certificates());
        found.retain(|(name, pem)| {
            let good = pem.contains("BEGIN CERTIFICATE") && pem.contains("PRIVATE KEY");
            if !good {
                warn!(certificate = name, "no certificate with its key");
            }
            good
        });
        if found.is_empty() {
            let name = "self-signed.pem";
            let old = std::fs::read_to_string(self.files.certs().join(name));
            let pem = match old {
                Ok(pem) if pem.contains("PRIVATE KEY") => pem,
                _ => certs::self_signed()?,
            };
            found.push((name.to_owned(), pem));
        }
        certs::write(&self.files, &found)
            .map_err(|source| Error::Directory { dir: self.files.certs(), source })?;
        self.certificates.applied = found;
        Ok(())
    }

    /// Gives HAProxy what changed. A certificate that it refuses stays as it was.
    pub(super) async fn renew_certificates(&mut self) {
        let paths = self.certificate_paths();
        let stamp = certs::stamp(&paths);
        if stamp == self.certificates.stamp || self.phase.is_reloading() {
            return;
        }
        self.certificates.stamp = stamp;
        let mut wanted = certs::read(&paths, &self.inline_certificates());
        if wanted.is_empty() {
            return;
        }
        let before: Pems = self.certificates.applied.iter().cloned().collect();
        let after: Pems = wanted.iter().cloned().collect();
        let refused = match certs::apply(&self.files, &before, &after).await {
            Ok(refused) => refused,
            Err(error) => {
                warn!(%error, "certificates cannot be changed, trying again");
                self.certificates.stamp = 0;
                return;
            }
        };
        self.own_problems.retain(|key, _| !key.starts_with("certificate "));
        for (name, message) in &refused {
            let problem = Problem::new("", "", format!("certificate {name}: {message}"));
            self.own_problems.insert(format!("certificate {name}"), problem);
        }
        wanted.retain_mut(|(name, pem)| match (refused.contains_key(name), before.get(name)) {
            (true, Some(old)) => {
                pem.clone_from(old);
                true
            }
            (true, None) => false,
            (false, _) => true,
        });
        if let Err(error) = certs::write(&self.files, &wanted) {
            warn!(%error, "certificates cannot be written");
        }
        info!(certificates = wanted.len(), refused = refused.len(), "certificates changed");
        self.certificates.applied = wanted;
        self.name_problems();
    }
}

/// Whether it can be used: others put bundles of authorities there.
fn is_certificate(path: &std::path::Path) -> bool {
    std::fs::read_to_string(path).is_ok_and(|text| text.contains("PRIVATE KEY"))
}

//! Settings that all services share, and the check for unknown ones.

use std::{path::PathBuf, time::Duration};

use clap::Args;

use crate::{SharedTransport, TransportError, transport};

/// How a service that runs alone meets the others.
#[derive(Args, Clone, Debug)]
pub struct MeshArgs {
    /// Where durable state lives: `etcd://host:port,host:port` or `embedded:<dir>`.
    #[arg(long, env = "MESHOS_STORE", value_name = "URL")]
    pub store: String,
    /// Address that the gRPC server listens on.
    #[arg(long, env = "MESHOS_LISTEN", default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub listen: String,
    /// Address that others reach it at; the listening address when absent.
    #[arg(long, env = "MESHOS_ADVERTISE", value_name = "HOST:PORT")]
    pub advertise: Option<String>,
    /// Name of this instance; random when absent.
    #[arg(long, env = "MESHOS_INSTANCE", value_name = "NAME")]
    pub instance: Option<String>,
    /// Time to live of leases. A leader that falls silent is replaced after it.
    #[arg(long, env = "MESHOS_LEASE_TTL", default_value = "2s", value_parser = parse_duration)]
    pub lease_ttl: Duration,
    #[command(flatten)]
    pub tls: TlsArgs,
}

/// TLS between services; all three files or none.
#[derive(Args, Clone, Debug, Default)]
pub struct TlsArgs {
    /// PEM file of the authority that signs every service's certificate.
    #[arg(long = "tls-ca", env = "MESHOS_TLS_CA", requires_all = ["certificate", "key"], value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file of this service's certificate chain.
    #[arg(long = "tls-cert", env = "MESHOS_TLS_CERT", requires_all = ["ca", "key"], value_name = "FILE")]
    pub certificate: Option<PathBuf>,
    /// PEM file of this service's key.
    #[arg(long = "tls-key", env = "MESHOS_TLS_KEY", requires_all = ["ca", "certificate"], value_name = "FILE")]
    pub key: Option<PathBuf>,
}

impl TlsArgs {
    /// TLS when files are given, plain TCP otherwise.
    ///
    /// # Errors
    /// [`TransportError::Tls`] names the file that cannot be used.
    pub fn transport(&self) -> Result<SharedTransport, TransportError> {
        match (&self.ca, &self.certificate, &self.key) {
            (Some(ca), Some(certificate), Some(key)) => transport::tls(&transport::TlsFiles {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => Ok(transport::tcp()),
        }
    }
}

/// Parses a duration as Mesos writes it: a number and `ns`, `us`, `ms`, `s`/`secs`, `mins`, `hrs`, `days` or
/// `weeks`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| format!("'{text}' does not begin with a number"))?;
    let seconds = match unit.trim() {
        "ns" => 1e-9,
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" | "sec" | "secs" => 1.0,
        "m" | "min" | "mins" => 60.0,
        "h" | "hr" | "hrs" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "week" | "weeks" => 604_800.0,
        other => {
            return Err(format!(
                "unknown unit '{other}' in '{text}': use ns, us, ms, secs, mins, hrs, days or weeks"
            ));
        }
    };
    Duration::try_from_secs_f64(number * seconds).map_err(|e| format!("'{text}': {e}"))
}

/// Names of variables that start with one of `prefixes` and are in neither list. A typo must stop the start.
#[must_use]
pub fn unknown_variables(
    variables: impl IntoIterator<Item = String>,
    prefixes: &[&str],
    known: impl Fn(&str) -> bool,
) -> Vec<String> {
    let ours = |name: &String| prefixes.iter().any(|prefix| name.starts_with(prefix));
    let mut unknown: Vec<_> = variables.into_iter().filter(ours).filter(|name| !known(name)).collect();
    unknown.sort();
    unknown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_mesos_writes_them() {
        assert_eq!(parse_duration("2secs"), Ok(Duration::from_secs(2)));
        assert_eq!(parse_duration("1.5mins"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert!(parse_duration("5parsecs").unwrap_err().contains("parsecs"));
        assert!(parse_duration("secs").is_err());
    }

    #[test]
    fn an_unknown_variable_of_ours_is_named() {
        let variables = ["PATH", "MESHOS_STOER", "MESHOS_STORE"].map(String::from);
        let unknown = unknown_variables(variables, &["MESHOS_"], |name| name == "MESHOS_STORE");
        assert_eq!(unknown, ["MESHOS_STOER"]);
    }
}

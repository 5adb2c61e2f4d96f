//! Endpoints that the operator has closed (`--firewall_rules`).

use std::collections::BTreeSet;

use serde::Deserialize;

/// Paths that answer 403, without the agent's prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Firewall {
    closed: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    disabled_endpoints: Option<Endpoints>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoints {
    paths: Vec<String>,
}

impl Firewall {
    /// Reads the flag's JSON.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let rules: Rules = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let paths = rules.disabled_endpoints.map(|endpoints| endpoints.paths).unwrap_or_default();
        if let Some(path) = paths.iter().find(|path| !path.starts_with('/')) {
            return Err(format!("the path '{path}' does not begin with '/'"));
        }
        Ok(Self { closed: paths.iter().map(|path| bare(path).to_owned()).collect() })
    }

    pub(super) fn closes(&self, path: &str) -> bool {
        self.closed.contains(path.trim_end_matches('/'))
    }
}

fn bare(path: &str) -> &str {
    path.strip_prefix("/slave(1)").unwrap_or(path).trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_paths_are_closed_under_both_names() {
        let rules = r#"{"disabled_endpoints":{"paths":["/files/browse","/slave(1)/state"]}}"#;
        let firewall = Firewall::parse(rules).unwrap();
        let closed = ["/files/browse", "/files/browse/", "/state", "/files/read", "/"];
        assert_eq!(closed.map(|path| firewall.closes(path)), [true, true, true, false, false]);
        assert_eq!(Firewall::parse("{}"), Ok(Firewall::default()));
        assert!(Firewall::parse(r#"{"disabled":1}"#).unwrap_err().contains("disabled"));
        assert!(Firewall::parse(r#"{"disabled_endpoints":{"paths":["x"]}}"#).is_err());
    }
}

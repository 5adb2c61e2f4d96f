//! Credentials for registries, from `.docker/config.json` in its forms.

use std::collections::BTreeMap;

use base64::Engine as _;
use bollard::auth::DockerCredentials;
use serde::Deserialize;

/// What Docker calls its own registry in such a file.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
const HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Credentials by registry.
#[derive(Default)]
pub(crate) struct Credentials(BTreeMap<String, Entry>);

/// Never shows a secret.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Credentials {
    /// Reads `{"auths":{…}}`, or the older `.dockercfg`, which has no `auths` around it.
    ///
    /// # Errors
    /// It is no JSON of that form; nothing of it is told.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, String> {
        let bad = || "the registry credentials are no JSON as in .docker/config.json".to_owned();
        let value: serde_json::Value = serde_json::from_slice(text).map_err(|_| bad())?;
        let serde_json::Value::Object(mut object) = value else { return Err(bad()) };
        let entries = match object.remove("auths") {
            Some(serde_json::Value::Object(auths)) => auths,
            // A file of helpers alone.
            None if object.values().any(|value| !value.is_object()) || object.contains_key("credHelpers") => {
                serde_json::Map::new()
            }
            None => object,
            Some(_) => return Err(bad()),
        };
        let entry =
            |(host, value)| serde_json::from_value(value).map(|entry| (host, entry)).map_err(|_| bad());
        entries.into_iter().map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Those for a registry; none: it is asked without.
    pub(crate) fn of(&self, registry: &str) -> Option<DockerCredentials> {
        let (key, entry) = self.0.iter().find(|(key, _)| is_of(key, registry))?;
        let (username, password) = match entry.auth.as_deref().filter(|auth| !auth.is_empty()) {
            Some(auth) => decode(auth)?,
            None => (entry.username.clone()?, entry.password.clone().unwrap_or_default()),
        };
        Some(DockerCredentials {
            username: Some(username),
            password: Some(password),
            serveraddress: Some(key.clone()),
            identitytoken: entry.identitytoken.clone(),
            registrytoken: entry.registrytoken.clone(),
            ..DockerCredentials::default()
        })
    }
}

fn decode(auth: &str) -> Option<(String, String)> {
    let bytes = base64::engine::general_purpose::STANDARD.decode(auth.trim()).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (username, password) = text.split_once(':')?;
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Whether a key of the file is about a registry: with or without scheme and path.
fn is_of(key: &str, registry: &str) -> bool {
    let is_hub = |host: &str| HUB_HOSTS.contains(&host);
    if key == DOCKER_HUB {
        return is_hub(registry);
    }
    let host = key.split_once("://").map_or(key, |(_, rest)| rest);
    let host = host.split('/').next().unwrap_or_default();
    host == registry || (is_hub(host) && is_hub(registry))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(text: &str, registry: &str) -> Option<String> {
        Credentials::parse(text.as_bytes()).unwrap().of(registry)?.username
    }

    #[test]
    fn credentials_are_found_by_registry() {
        // u:p
        let config = r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpw"},"r:5000":{"username":"v","password":"q"}}}"#;
        assert_eq!(user(config, "docker.io"), Some("u".to_owned()));
        assert_eq!(user(config, "r:5000"), Some("v".to_owned()));
        assert_eq!(user(config, "r"), None);
        assert_eq!(user(r#"{"https://quay.io/v2/":{"auth":"dTpw"}}"#, "quay.io"), Some("u".to_owned()));
        assert_eq!(user(r#"{"credsStore":"desktop"}"#, "quay.io"), None);
        assert_eq!(user(r#"{"auths":{"r":{"auth":"no base64"}}}"#, "r"), None);
        for bad in ["", "[]", r#"{"auths":3}"#, r#"{"auths":{"r":{"auth":3}}}"#] {
            assert!(Credentials::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let shown = format!("{:?}", Credentials::parse(config.as_bytes()).unwrap());
        assert!(!shown.contains("dTpw") && shown.contains("r:5000"), "{shown}");
    }
}

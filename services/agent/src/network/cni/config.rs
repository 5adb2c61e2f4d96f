//! Configurations of networks: the files of a directory, each a plugin or a list of plugins.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// A file may not be larger.
const LARGEST: u64 = 1024 * 1024;

/// A network: plugins that are called one after the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(in crate::network) struct NetworkList {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) plugins: Vec<Map<String, Value>>,
}

impl NetworkList {
    /// Reads `.conflist` (a list) or `.conf` and `.json` (one plugin).
    fn parse(text: &[u8]) -> Result<Self, String> {
        let mut object: Map<String, Value> =
            serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let text = |object: &Map<String, Value>, name: &str| {
            object.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (name, version) = (text(&object, "name"), text(&object, "cniVersion"));
        if name.is_empty() {
            return Err("it has no 'name'".to_owned());
        }
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins
                .into_iter()
                .map(|plugin| match plugin {
                    Value::Object(plugin) => Ok(plugin),
                    _ => Err("one of its 'plugins' is no object".to_owned()),
                })
                .collect::<Result<_, _>>()?,
            Some(_) => return Err("its 'plugins' are no list".to_owned()),
            None => vec![object],
        };
        let version = if version.is_empty() { "0.3.1".to_owned() } else { version };
        Ok(Self { name, version, plugins })
    }

    /// With what is asked for: ports are mapped by the standard plugin when none of the list can.
    pub(super) fn able_to(mut self, wanted: &Map<String, Value>) -> Self {
        let can = |plugin: &Map<String, Value>, name: &str| {
            plugin
                .get("capabilities")
                .and_then(|all| all.get(name))
                .and_then(Value::as_bool)
                .unwrap_or_default()
        };
        if wanted.contains_key("portMappings")
            && !self.plugins.iter().any(|plugin| can(plugin, "portMappings"))
        {
            let portmap = json!({"type": "portmap", "capabilities": {"portMappings": true}});
            self.plugins.extend(portmap.as_object().cloned());
        }
        self
    }

    /// Whether the plugins can be called.
    pub(super) fn check(&self) -> Result<(), String> {
        let bad = |reason: String| Err(format!("the network '{}': {reason}", self.name));
        if !matches!(self.version.as_str(), "0.3.0" | "0.3.1" | "0.4.0" | "1.0.0" | "1.1.0") {
            return bad(format!("version '{}' of CNI is not supported", self.version));
        }
        for plugin in &self.plugins {
            let name = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return bad(format!("'{name}' is no type of a plugin"));
            }
        }
        Ok(())
    }
}

/// The networks of these names.
pub(in crate::network) fn find(dir: Option<&Path>, names: &[String]) -> Result<Vec<NetworkList>, String> {
    let dir = dir.ok_or("this agent has no CNI networks (--network_cni_config_dir)")?;
    let all = read(dir)?;
    let find = |name: &String| {
        all.iter().find(|list| list.name == *name).cloned().ok_or_else(|| {
            format!("Unknown CNI network '{name}': no file in {} has that name", dir.display())
        })
    };
    names.iter().map(find).collect()
}

/// All networks of a directory; of two with one name the first file counts. One that cannot be read hurts no other.
fn read(dir: &Path) -> Result<Vec<NetworkList>, String> {
    let entries = fs::read_dir(dir)
        .map_err(|error| format!("cannot read the networks in {}: {error}", dir.display()))?;
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| {
        path.extension().is_some_and(|kind| kind == "conf" || kind == "json" || kind == "conflist")
    });
    paths.sort();
    let list = |path: &Path| -> Result<NetworkList, String> {
        let metadata = fs::metadata(path).map_err(|error| error.to_string())?;
        if !metadata.is_file() || metadata.len() > LARGEST {
            return Err("it is no file of a configuration".to_owned());
        }
        NetworkList::parse(&fs::read(path).map_err(|error| error.to_string())?)
    };
    Ok(paths
        .iter()
        .filter_map(|path| match list(path) {
            Ok(list) => Some(list),
            Err(reason) => {
                tracing::warn!(path = %path.display(), reason, "configuration of a network cannot be used");
                None
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_found_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).unwrap();
        write("10-a.conf", r#"{"name": "a", "type": "bridge", "cniVersion": "0.4.0"}"#);
        write("20-b.conflist", r#"{"name": "b", "plugins": [{"type": "bridge"}, {"type": "portmap"}]}"#);
        write("30-bad.json", "{");
        write("40-a.json", r#"{"name": "a", "type": "other"}"#);
        write("readme", "hello");
        let find = |names: &[&str]| {
            find(Some(dir.path()), &names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())
        };
        let found = find(&["b", "a"]).unwrap();
        assert_eq!((found[0].plugins.len(), found[0].version.as_str()), (2, "0.3.1"));
        assert_eq!(
            (found[1].plugins[0]["type"].as_str(), found[1].version.as_str()),
            (Some("bridge"), "0.4.0")
        );
        assert!(find(&["c"]).unwrap_err().contains("Unknown CNI network 'c'"));
    }

    #[test]
    fn ports_are_mapped_by_a_plugin_that_can() {
        let wanted = Map::from_iter([("portMappings".to_owned(), json!([]))]);
        let plain = NetworkList::parse(br#"{"name": "a", "type": "bridge"}"#).unwrap();
        assert_eq!(plain.clone().able_to(&Map::new()), plain);
        let able = plain.able_to(&wanted);
        assert_eq!(able.plugins[1]["type"], "portmap");
        assert_eq!(able.clone().able_to(&wanted), able);
    }

    #[test]
    fn a_plugin_is_a_name() {
        for name in ["../../bin/sh", "/bin/sh", ".", ""] {
            let text = json!({"name": "a", "type": name}).to_string();
            assert!(NetworkList::parse(text.as_bytes()).unwrap().check().is_err(), "{name}");
        }
        let old = NetworkList::parse(br#"{"name": "a", "type": "x", "cniVersion": "0.2.0"}"#).unwrap();
        assert!(old.check().unwrap_err().contains("0.2.0"));
    }
}

//! Forms of older clients, folded into the present ones.

mod networks;

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{
    AppUpdate, Container, ContainerType, Fetch, FetchList, NetworkMode, PortDefinition, PortDefinitionList,
    PortMapping, PortMappingList,
};

use super::{
    At,
    faults::{Faults, Field, field},
};

/// Suffixes of what the old form unpacked.
const ARCHIVES: [&str; 9] =
    [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip"];

/// Reads `ports`, `uris` and the older descriptions of networks.
pub(super) fn migrate(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    networks::migrate(update, (object, base), faults);
    if let Some(found) = field(object, base, "ports")
        && let Some(numbers) = numbers(&found, faults)
    {
        if field(object, base, "ipAddress").is_some() && !numbers.is_empty() {
            faults.invalid("/", "cannot specify both an IP address and port");
        }
        ports(update, &found, &numbers, faults);
    }
    if let Some(found) = field(object, base, "uris")
        && let Some(uris) = faults.string_list(&found)
    {
        match &update.fetch {
            Some(given) if !given.items.is_empty() && !uris.is_empty() => {
                faults.invalid(&found.path, "may not be set in conjunction with fetch");
            }
            Some(_) if uris.is_empty() => {}
            _ => update.fetch = Some(FetchList { items: uris.into_iter().map(fetch).collect() }),
        }
    }
}

fn numbers(found: &Field<'_>, faults: &mut Faults) -> Option<Vec<u16>> {
    let items = faults.list(found)?;
    Some(items.iter().filter_map(|item| faults.integer(item, u16::MAX)).collect())
}

fn ports(update: &mut AppUpdate, found: &Field<'_>, numbers: &[u16], faults: &mut Faults) {
    let fixed: Vec<u16> = numbers.iter().copied().filter(|number| *number != 0).collect();
    if fixed.iter().collect::<BTreeSet<_>>().len() < fixed.len() {
        faults.invalid(&found.path, "ports must be unique");
    }
    match &update.port_definitions {
        Some(given) => {
            let same =
                given.items.iter().map(|port| port.port).eq(numbers.iter().map(|number| u32::from(*number)));
            if !same {
                faults.invalid("/", "cannot specify both ports and port definitions");
            }
        }
        None if has_network(update) => mappings(update, numbers),
        None => {
            update.port_definitions = Some(PortDefinitionList { items: numbers.iter().map(port).collect() })
        }
    }
}

/// Whether it names another network than the host's.
fn has_network(update: &AppUpdate) -> bool {
    let networks = update.networks.iter().flat_map(|networks| &networks.items);
    networks.into_iter().any(|network| network.mode() != NetworkMode::Host)
}

/// In a network they are the service ports of mappings, where none are described.
fn mappings(update: &mut AppUpdate, numbers: &[u16]) {
    let plain = || Container { r#type: ContainerType::Mesos.into(), ..Default::default() };
    let mapping = |number: &u16| PortMapping {
        service_port: u32::from(*number),
        protocol: "tcp".to_owned(),
        ..Default::default()
    };
    let items = || PortMappingList { items: numbers.iter().map(mapping).collect() };
    update.container.get_or_insert_with(plain).port_mappings.get_or_insert_with(items);
}

fn port(number: &u16) -> PortDefinition {
    PortDefinition { port: u32::from(*number), protocol: "tcp".to_owned(), ..Default::default() }
}

fn fetch(uri: String) -> Fetch {
    let extract = ARCHIVES.iter().any(|suffix| uri.ends_with(suffix));
    Fetch { uri, extract, ..Default::default() }
}

#[cfg(test)]
mod tests {
    use crate::marathon::read::app;
    use serde_json::json;

    #[test]
    fn marathon_c15_ports_become_definitions() {
        let update = app(&json!({"ports": [0, 0]})).unwrap();
        let ports = update.port_definitions.unwrap().items;
        assert_eq!(ports.len(), 2);
        assert!(ports.iter().all(|port| port.port == 0 && port.protocol == "tcp" && port.name.is_none()));
        assert!(app(&json!({"ports": []})).unwrap().port_definitions.unwrap().items.is_empty());
    }

    #[test]
    fn ports_in_a_network_become_mappings() {
        let networks = json!([{"mode": "container/bridge"}]);
        let update = app(&json!({"cmd": "x", "ports": [10_001], "networks": networks})).unwrap();
        assert!(update.port_definitions.is_none());
        let mapping = &update.container.unwrap().port_mappings.unwrap().items[0];
        assert_eq!((mapping.service_port, mapping.container_port, mapping.host_port), (10_001, 0, None));
        let error = app(&json!({"ports": [1], "ipAddress": {}})).unwrap_err();
        assert_eq!(error.body["details"][0]["errors"][0], "cannot specify both an IP address and port");
    }

    #[test]
    fn marathon_c16_uris_become_fetches() {
        let update = app(&json!({"uris": ["http://h/x.tgz", "http://h/y.bin"]})).unwrap();
        let extract: Vec<_> = update.fetch.unwrap().items.iter().map(|fetch| fetch.extract).collect();
        assert_eq!(extract, [true, false]);
    }

    #[test]
    fn marathon_c18_old_and_new_forms_exclude_each_other() {
        let error = app(&json!({"ports": [1], "portDefinitions": [{"port": 2}]})).unwrap_err();
        assert_eq!(error.body["message"], "Object is not valid");
        assert_eq!(error.body["details"][0]["errors"][0], "cannot specify both ports and port definitions");
        assert!(app(&json!({"ports": [2], "portDefinitions": [{"port": 2}]})).is_ok());
        let error = app(&json!({"uris": ["u"], "fetch": [{"uri": "v"}]})).unwrap_err();
        assert_eq!(error.body["details"][0]["path"], "/uris");
        let error = app(&json!({"ports": [7, 7]})).unwrap_err();
        assert_eq!(error.body["details"][0]["errors"][0], "ports must be unique");
    }
}

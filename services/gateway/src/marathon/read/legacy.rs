//! Forms of older clients, folded into the present ones.

use std::collections::BTreeSet;

use meshos_proto::meshos::apps::v1::{AppUpdate, Fetch, FetchList, PortDefinition, PortDefinitionList};

use super::{
    At,
    faults::{Faults, Field, field},
};

/// Suffixes of what the old form unpacked.
const ARCHIVES: [&str; 9] =
    [".tar", ".tar.gz", ".tar.bz2", ".tar.xz", ".gz", ".tgz", ".tbz2", ".txz", ".zip"];

/// Reads `ports` and `uris`.
pub(super) fn migrate(update: &mut AppUpdate, (object, base): At<'_>, faults: &mut Faults) {
    if let Some(found) = field(object, base, "ports")
        && let Some(numbers) = numbers(&found, faults)
    {
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
        None => {
            update.port_definitions = Some(PortDefinitionList { items: numbers.iter().map(port).collect() })
        }
    }
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

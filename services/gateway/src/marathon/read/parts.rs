//! The parts of a definition.

use meshos_proto::meshos::apps::v1::{
    Constraint, ConstraintList, Fetch, FetchList, KillSelection, PortDefinition, PortDefinitionList,
    StringMap, UnreachableStrategy, UpgradeStrategyUpdate,
};
use meshos_types::Timestamp;

use super::faults::{Faults, Field, field};

const PROTOCOLS: [(&str, &str); 4] =
    [("tcp", "tcp"), ("udp", "udp"), ("udp,tcp", "udp,tcp"), ("tcp,udp", "udp,tcp")];

/// Unix time in milliseconds of an ISO 8601 time.
pub(super) fn version(found: &Field<'_>, faults: &mut Faults) -> Option<u64> {
    let text = faults.string(found)?;
    let millis = Timestamp::parse(&text).ok().and_then(|time| u64::try_from(time.millis()).ok());
    if millis.is_none() {
        faults.read(&found.path, "error.expected.date.isoformat");
    }
    millis
}

pub(super) fn ports(found: &Field<'_>, faults: &mut Faults) -> Option<PortDefinitionList> {
    let items = faults.list(found)?;
    Some(PortDefinitionList { items: items.iter().filter_map(|item| port(item, faults)).collect() })
}

fn port(found: &Field<'_>, faults: &mut Faults) -> Option<PortDefinition> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let number: Option<u16> = get("port").and_then(|port| faults.integer(&port, u16::MAX));
    let protocol = get("protocol").and_then(|word| protocol(&word, faults));
    Some(PortDefinition {
        port: u32::from(number.unwrap_or_default()),
        protocol: protocol.unwrap_or_else(|| "tcp".to_owned()),
        name: get("name").and_then(|name| faults.string(&name)),
        labels: get("labels").and_then(|map| labels(&map, faults)).unwrap_or_default().items,
    })
}

/// In its present form.
pub(super) fn protocol(found: &Field<'_>, faults: &mut Faults) -> Option<String> {
    faults.word(found, &PROTOCOLS).map(str::to_owned)
}

pub(super) fn labels(found: &Field<'_>, faults: &mut Faults) -> Option<StringMap> {
    let entries = faults.entries(found)?;
    let items = entries.iter().filter_map(|(name, value)| Some(((*name).to_owned(), faults.string(value)?)));
    Some(StringMap { items: items.collect() })
}

/// Variables with their values, and those whose value is a secret, with its name.
pub(super) fn environment(found: &Field<'_>, faults: &mut Faults) -> Option<(StringMap, StringMap)> {
    let (mut plain, mut secret) = (StringMap::default(), StringMap::default());
    for (name, value) in faults.entries(found)? {
        let reference = value.value.as_object().and_then(|object| field(object, &value.path, "secret"));
        match reference {
            Some(reference) => {
                let known = faults.text(&reference, 1, usize::MAX);
                secret.items.extend(known.map(|text| (name.to_owned(), text)));
            }
            None => plain.items.extend(faults.string(&value).map(|text| (name.to_owned(), text))),
        }
    }
    Some((plain, secret))
}

/// Sources of secrets by name.
pub(super) fn secrets(found: &Field<'_>, faults: &mut Faults) -> Option<StringMap> {
    let mut items = std::collections::BTreeMap::new();
    for (name, entry) in faults.entries(found)? {
        let Some(object) = faults.object(&entry) else { continue };
        match field(object, &entry.path, "source") {
            Some(source) => items.extend(faults.text(&source, 1, 1024).map(|text| (name.to_owned(), text))),
            None => faults.read(&format!("{}/source", entry.path), "error.path.missing"),
        }
    }
    Some(StringMap { items })
}

pub(super) fn fetch(found: &Field<'_>, faults: &mut Faults) -> Option<FetchList> {
    let items = faults.list(found)?;
    Some(FetchList { items: items.iter().filter_map(|item| fetch_one(item, faults)).collect() })
}

fn fetch_one(found: &Field<'_>, faults: &mut Faults) -> Option<Fetch> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let Some(uri) = get("uri") else {
        faults.read(&format!("{}/uri", found.path), "error.path.missing");
        return None;
    };
    Some(Fetch {
        uri: faults.text(&uri, 1, 1024)?,
        extract: get("extract").and_then(|flag| faults.boolean(&flag)).unwrap_or(true),
        executable: get("executable").and_then(|flag| faults.boolean(&flag)).unwrap_or(false),
        cache: get("cache").and_then(|flag| faults.boolean(&flag)).unwrap_or(false),
        dest_path: get("destPath").and_then(|path| faults.text(&path, 1, 1024)),
    })
}

pub(super) fn upgrade(found: &Field<'_>, faults: &mut Faults) -> Option<UpgradeStrategyUpdate> {
    let object = faults.object(found)?;
    let mut share =
        |name: &str| field(object, &found.path, name).and_then(|value| faults.number(&value, 0.0, 1.0));
    Some(UpgradeStrategyUpdate {
        minimum_health_capacity: share("minimumHealthCapacity"),
        maximum_over_capacity: share("maximumOverCapacity"),
    })
}

/// `//cmd`, a path of the agent's files, or nothing.
pub(super) fn executor(found: &Field<'_>, faults: &mut Faults) -> Option<String> {
    let text = faults.string(found)?;
    let path = text.strip_prefix('/').unwrap_or(&text);
    let fits = text.is_empty() || text == "//cmd" || path.split('/').all(|segment| !segment.is_empty());
    if !fits {
        faults.read(&found.path, "error.pattern");
    }
    Some(text)
}

pub(super) fn kill_selection(found: &Field<'_>, faults: &mut Faults) -> Option<KillSelection> {
    let text = faults.string(found)?;
    match text.to_uppercase().as_str() {
        "YOUNGEST_FIRST" => Some(KillSelection::YoungestFirst),
        "OLDEST_FIRST" => Some(KillSelection::OldestFirst),
        _ => {
            faults.read(&found.path, "error.unknown.enum.literal");
            None
        }
    }
}

/// `"disabled"` or the two times.
pub(super) fn unreachable(found: &Field<'_>, faults: &mut Faults) -> Option<UnreachableStrategy> {
    if let Some(word) = found.value.as_str() {
        if !word.eq_ignore_ascii_case("disabled") {
            faults.read(&found.path, "error.unknown.enum.literal");
        }
        return Some(UnreachableStrategy { disabled: true, ..Default::default() });
    }
    let object = faults.object(found)?;
    let mut seconds = |name: &str| {
        field(object, &found.path, name)
            .and_then(|value| faults.integer(&value, u64::MAX))
            .unwrap_or_default()
    };
    Some(UnreachableStrategy {
        disabled: false,
        inactive_after_s: seconds("inactiveAfterSeconds"),
        expunge_after_s: seconds("expungeAfterSeconds"),
    })
}

pub(super) fn constraints(found: &Field<'_>, faults: &mut Faults) -> Option<ConstraintList> {
    let mut items: Vec<Constraint> = Vec::new();
    for item in faults.list(found)? {
        // Upstream it is a set.
        items.extend(constraint(&item, faults).filter(|found| !items.contains(found)));
    }
    Some(ConstraintList { items })
}

fn constraint(found: &Field<'_>, faults: &mut Faults) -> Option<Constraint> {
    let words = faults.string_list(found)?;
    if !(2..=3).contains(&words.len()) {
        faults.invalid(&found.path, "Each constraint must have either 2 or 3 fields");
    }
    let mut words = words.into_iter();
    Some(Constraint { field: words.next()?, operator: words.next()?.to_uppercase(), value: words.next() })
}

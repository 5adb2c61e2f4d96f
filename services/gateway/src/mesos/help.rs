//! `GET /help`: what there is, as Markdown or JSON.

use std::collections::{BTreeMap, BTreeSet};

use http::StatusCode;
use serde_json::{Value, json};

use super::{not_found, routes::Route};
use crate::http::{Query, Reply};

/// `/help`, `/help/<process>` and `/help/<process>/<name>`; `path` is what follows `/help`.
pub(super) fn help(path: &str, query: &Query) -> Reply {
    let json_wanted = query.get("format") == Some("json");
    let path = path.trim_matches('/');
    let (process, name) = path.split_once('/').map_or((path, ""), |(process, name)| (process, name));
    if process.is_empty() {
        return if json_wanted { Reply::json(&all()) } else { markdown(index()) };
    }
    let Some(names) = processes().remove(process) else { return not_found() };
    if name.is_empty() {
        return if json_wanted {
            Reply::json(&described(process, &names))
        } else {
            markdown(list(process, &names))
        };
    }
    if !names.contains(name) {
        return not_found();
    }
    markdown(format!("### USAGE ###\n> /{process}/{name}\n"))
}

fn markdown(text: String) -> Reply {
    Reply::bytes(StatusCode::OK, "text/x-markdown", text)
}

/// Each process with the names of its endpoints, both in order.
fn processes() -> BTreeMap<&'static str, BTreeSet<&'static str>> {
    const OTHERS: [&str; 4] = ["files", "logging", "metrics", "system"];
    let mut found: BTreeMap<_, BTreeSet<_>> = OTHERS.map(|process| (process, BTreeSet::new())).into();
    found.insert("version", BTreeSet::new());
    for path in Route::paths().filter_map(|path| path.strip_prefix('/')) {
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match first {
            "help" | "version" => {}
            other if OTHERS.contains(&other) => {
                found.entry(other).or_default().extend((!rest.is_empty()).then_some(rest));
            }
            _ => drop(found.entry("master").or_default().insert(path)),
        }
    }
    found
}

fn index() -> String {
    let mut text = "## HELP\n".to_owned();
    let names: Vec<_> = processes().into_keys().collect();
    for name in &names {
        text.push_str(&format!("> [/{name}][{name}]\n"));
    }
    text.push('\n');
    for name in &names {
        text.push_str(&format!("[{name}]: help/{name}\n"));
    }
    text
}

fn list(process: &str, names: &BTreeSet<&str>) -> String {
    let mut text = format!("## `/{process}` ##\n");
    for name in names {
        text.push_str(&format!("> [/{process}/{name}][{process}/{name}]\n"));
    }
    text.push('\n');
    for name in names {
        text.push_str(&format!("[{process}/{name}]: {process}/{name}\n"));
    }
    text
}

fn all() -> Value {
    json!({"processes": processes().iter().map(|(process, names)| described(process, names)).collect::<Value>()})
}

fn described(process: &str, names: &BTreeSet<&str>) -> Value {
    let endpoints: Value = names.iter().map(|name| json!({"name": format!("/{name}"), "text": ""})).collect();
    json!({"id": process, "endpoints": endpoints})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(path: &str) -> (u16, String) {
        let reply = help(path, &Query::default());
        (reply.status.as_u16(), reply.body_text())
    }

    #[test]
    fn help_lists_processes_and_their_endpoints() {
        let (status, index) = text("");
        assert_eq!(status, 200);
        assert!(index.starts_with("## HELP\n> [/files][files]\n"), "{index}");
        assert!(index.contains("[master]: help/master\n"));
        let master = text("/master").1;
        assert!(master.starts_with("## `/master` ##\n> [/master/"), "{master}");
        for name in ["api/v1", "create-volumes", "maintenance/schedule", "state-summary", "teardown"] {
            assert!(master.contains(&format!("> [/master/{name}][master/{name}]\n")), "{name} in {master}");
        }
        assert!(text("/master/state").1.contains("/master/state"));
        assert!(text("/logging").1.contains("/logging/toggle"));
        assert_eq!((text("/nosuch").0, text("/master/nosuch").0), (404, 404));
        let json = help("", &Query::parse("format=json")).body_text();
        assert!(json.contains(r#"{"name":"/state","text":""}"#), "{json}");
    }
}

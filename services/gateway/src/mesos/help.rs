//! `GET /help`: what there is, as Markdown or JSON.

mod texts;

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
    match names.get(name) {
        Some(route) => markdown(usage(&format!("/{process}/{name}"), *route)),
        None => not_found(),
    }
}

fn usage(path: &str, route: Route) -> String {
    let (summary, description) = texts::of(route);
    format!(
        "### USAGE ###\n>        {path}\n\n### TL;DR; ###\n{summary}\n\n### DESCRIPTION ###\n{description}\n\n\
         ### AUTHENTICATION ###\nThis endpoint does not require authentication.\n"
    )
}

fn markdown(text: String) -> Reply {
    Reply::bytes(StatusCode::OK, "text/x-markdown", text)
}

/// Each process with its endpoints by name, both in order.
type Processes = BTreeMap<&'static str, BTreeMap<&'static str, Route>>;

fn processes() -> Processes {
    const OTHERS: [&str; 7] =
        ["allocator", "files", "logging", "metrics", "profiler", "registrar(1)", "system"];
    let mut found = Processes::new();
    for (path, route) in Route::all() {
        let path = path.trim_start_matches('/');
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        match first {
            "help" | "__processes__" => {}
            "version" => drop(found.entry("version").or_default().insert("", route)),
            other if OTHERS.contains(&other) => drop(found.entry(other).or_default().insert(rest, route)),
            _ => drop(found.entry("master").or_default().insert(path, route)),
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

fn list(process: &str, endpoints: &BTreeMap<&str, Route>) -> String {
    let names: BTreeSet<&str> = endpoints.keys().copied().filter(|name| !name.is_empty()).collect();
    let mut text = format!("## `/{process}` ##\n");
    for name in &names {
        text.push_str(&format!("> [/{process}/{name}][{process}/{name}]\n"));
    }
    text.push('\n');
    for name in &names {
        text.push_str(&format!("[{process}/{name}]: {process}/{name}\n"));
    }
    text
}

fn all() -> Value {
    json!({"processes": processes().iter().map(|(process, names)| described(process, names)).collect::<Value>()})
}

fn described(process: &str, endpoints: &BTreeMap<&str, Route>) -> Value {
    let one = |(name, route): (&&str, &Route)| {
        let path = format!("/{process}/{name}");
        json!({"name": format!("/{name}"), "text": usage(path.trim_end_matches('/'), *route)})
    };
    let endpoints: Value = endpoints.iter().map(one).collect();
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
        assert_eq!(index.trim_end(), include_str!("../../tests/golden/master_help.body").trim_end());
        let master = text("/master").1;
        assert!(master.starts_with("## `/master` ##\n> [/master/"), "{master}");
        for name in ["api/v1", "create-volumes", "maintenance/schedule", "state-summary", "teardown"] {
            assert!(master.contains(&format!("> [/master/{name}][master/{name}]\n")), "{name} in {master}");
        }
        let state = text("/master/state").1;
        assert!(state.starts_with("### USAGE ###\n>        /master/state\n\n### TL;DR; ###\n"), "{state}");
        assert!(text("/registrar(1)/registry").1.contains("Registry"));
        assert!(text("/logging").1.contains("/logging/toggle"));
        assert_eq!((text("/nosuch").0, text("/master/nosuch").0), (404, 404));
        let json = help("", &Query::parse("format=json")).body_text();
        let json: Value = serde_json::from_str(&json).unwrap();
        let master = json["processes"].as_array().unwrap().iter().find(|found| found["id"] == "master");
        let endpoints = master.unwrap()["endpoints"].as_array().unwrap();
        let state = endpoints.iter().find(|found| found["name"] == "/state").unwrap();
        assert!(state["text"].as_str().unwrap().contains("/master/state"), "{state}");
    }
}

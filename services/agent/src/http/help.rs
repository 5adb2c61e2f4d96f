//! `GET /help`: what there is, as Markdown or JSON.

use serde_json::{Value, json};

use super::{query::Query, reply::Reply};

/// Each process with its endpoints, both in order.
const PROCESSES: [(&str, &[&str]); 6] = [
    ("files", &["browse", "debug", "download", "read"]),
    ("logging", &["toggle"]),
    ("metrics", &["snapshot"]),
    (
        "slave(1)",
        &["api/v1", "api/v1/executor", "containers", "flags", "health", "monitor/statistics", "state"],
    ),
    ("system", &["stats.json"]),
    ("version", &[]),
];

/// `/help`, `/help/<process>` and `/help/<process>/<name>`; `path` is what follows `/help`.
pub(super) fn help(path: &str, query: &Query) -> Reply {
    let path = path.trim_matches('/');
    if path.is_empty() {
        return match query.get("format") {
            Some("json") => {
                let all: Value = PROCESSES.iter().map(|(process, names)| described(process, names)).collect();
                Reply::json(&json!({ "processes": all }), query)
            }
            _ => markdown(index()),
        };
    }
    let (process, name) = path.split_once('/').unwrap_or((path, ""));
    let Some((_, names)) = PROCESSES.iter().find(|(known, _)| *known == process) else {
        return Reply::not_found();
    };
    match name {
        "" => markdown(list(process, names)),
        name if names.contains(&name) => markdown(format!("### USAGE ###\n>        /{process}/{name}\n")),
        _ => Reply::not_found(),
    }
}

fn markdown(text: String) -> Reply {
    Reply::bytes("text/x-markdown", text)
}

fn index() -> String {
    let links = PROCESSES.iter().map(|(name, _)| format!("> [/{name}][{name}]\n"));
    let targets = PROCESSES.iter().map(|(name, _)| format!("[{name}]: help/{name}\n"));
    format!("## HELP\n{}\n{}", links.collect::<String>(), targets.collect::<String>())
}

fn list(process: &str, names: &[&str]) -> String {
    let links = names.iter().map(|name| format!("> [/{process}/{name}][{process}/{name}]\n"));
    let targets = names.iter().map(|name| format!("[{process}/{name}]: {process}/{name}\n"));
    format!("## `/{process}` ##\n{}\n{}", links.collect::<String>(), targets.collect::<String>())
}

fn described(process: &str, names: &[&str]) -> Value {
    let endpoints: Value =
        names.iter().map(|name| json!({ "name": format!("/{name}"), "text": "" })).collect();
    json!({ "id": process, "endpoints": endpoints })
}

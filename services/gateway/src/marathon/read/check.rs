//! `check`: what the agent finds out about a task without acting on it.

use meshos_proto::meshos::apps::v1::{
    CommandTaskCheck, HttpTaskCheck, TaskCheck, TcpTaskCheck, task_check::Kind,
};
use serde_json::{Map, Value};

use super::faults::{Faults, Field, field};

const ONE: &str = "Only one of http, tcp, or command may be specified";

/// None when it says nothing.
pub(super) fn read(found: &Field<'_>, faults: &mut Faults) -> Option<TaskCheck> {
    let object = faults.object(found)?;
    let get = |name: &str| field(object, &found.path, name);
    let mut kinds = Vec::new();
    kinds.extend(get("http").and_then(|http| read_http(&http, faults)).map(Kind::Http));
    kinds.extend(get("tcp").and_then(|tcp| read_tcp(&tcp, faults)).map(Kind::Tcp));
    kinds.extend(get("exec").and_then(|exec| read_command(&exec, faults)).map(Kind::Exec));
    let mut seconds = |name: &str, default: u64| {
        get(name).and_then(|value| faults.integer(&value, u64::MAX)).unwrap_or(default)
    };
    let (interval_s, timeout_s, delay_s) =
        (seconds("intervalSeconds", 60), seconds("timeoutSeconds", 20), seconds("delaySeconds", 15));
    if kinds.len() != 1 && !object.is_empty() {
        faults.invalid(&found.path, ONE);
    }
    Some(TaskCheck { kind: Some(kinds.pop()?), interval_s, timeout_s, delay_s })
}

type Ports = (Option<u32>, Option<u32>);

/// Index and number. The first port where nothing is said.
fn ports((object, base): (&Map<String, Value>, &str), faults: &mut Faults) -> Ports {
    let mut number =
        |name: &str| field(object, base, name).and_then(|found| faults.integer(&found, 65_535_u32));
    let (index, port) = (number("portIndex"), number("port"));
    (if port.is_none() { index.or(Some(0)) } else { index }, port)
}

fn read_http(found: &Field<'_>, faults: &mut Faults) -> Option<HttpTaskCheck> {
    let object = faults.object(found)?;
    let (port_index, port) = ports((object, &found.path), faults);
    let path = field(object, &found.path, "path").and_then(|path| faults.string(&path));
    let scheme = field(object, &found.path, "scheme");
    let https = scheme.and_then(|scheme| faults.word(&scheme, &[("HTTP", false), ("HTTPS", true)]));
    Some(HttpTaskCheck { port_index, port, path, https: https.unwrap_or_default() })
}

fn read_tcp(found: &Field<'_>, faults: &mut Faults) -> Option<TcpTaskCheck> {
    let object = faults.object(found)?;
    let (port_index, port) = ports((object, &found.path), faults);
    Some(TcpTaskCheck { port_index, port })
}

fn read_command(found: &Field<'_>, faults: &mut Faults) -> Option<CommandTaskCheck> {
    let object = faults.object(found)?;
    let command = faults.required(object, &found.path, "command")?;
    let object = faults.object(&command)?;
    let shell = field(object, &command.path, "shell").and_then(|shell| faults.text(&shell, 1, usize::MAX));
    let argv = field(object, &command.path, "argv").and_then(|argv| faults.string_list(&argv));
    if shell.is_none() && argv.as_ref().is_none_or(Vec::is_empty) {
        faults.read(&command.path, "error.path.missing");
    }
    Some(CommandTaskCheck { argv: argv.filter(|_| shell.is_none()).unwrap_or_default(), shell })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::marathon::read::app;

    fn check(value: Value) -> TaskCheck {
        app(&json!({"check": value})).unwrap().check.unwrap()
    }

    fn details(value: Value) -> Value {
        app(&json!({"check": value})).unwrap_err().body["details"].clone()
    }

    #[test]
    fn each_kind_has_its_fields_and_defaults() {
        let http = check(json!({"http": {"path": "/x", "scheme": "http"}, "intervalSeconds": 5}));
        let kind = HttpTaskCheck { port_index: Some(0), port: None, path: Some("/x".into()), https: false };
        let wanted = TaskCheck { kind: Some(Kind::Http(kind)), interval_s: 5, timeout_s: 20, delay_s: 15 };
        assert_eq!(http, wanted);
        let https = check(json!({"http": {"scheme": "HTTPS"}}));
        assert!(matches!(https.kind, Some(Kind::Http(http)) if http.https));
        let tcp = check(json!({"tcp": {"port": 80}}));
        assert_eq!(tcp.kind, Some(Kind::Tcp(TcpTaskCheck { port_index: None, port: Some(80) })));
        let shell = check(json!({"exec": {"command": {"shell": "true"}}}));
        let kind = CommandTaskCheck { shell: Some("true".into()), argv: Vec::new() };
        assert_eq!((shell.kind, shell.interval_s), (Some(Kind::Exec(kind)), 60));
        let argv = check(json!({"exec": {"command": {"argv": ["/bin/true", "x"]}}}));
        let kind = CommandTaskCheck { shell: None, argv: vec!["/bin/true".into(), "x".into()] };
        assert_eq!(argv.kind, Some(Kind::Exec(kind)));
        assert_eq!(app(&json!({"check": {}})).unwrap().check, None);
    }

    #[test]
    fn exactly_one_kind_is_wanted() {
        let one = json!([{"path": "/check", "errors": [ONE]}]);
        assert_eq!(details(json!({"tcp": {}, "http": {}})), one);
        assert_eq!(details(json!({"intervalSeconds": 5})), one);
        let strange = json!([{"path": "/check/http/scheme", "errors": ["error.unknown.enum.literal"]}]);
        assert_eq!(details(json!({"http": {"scheme": "FTP"}})), strange);
        let missing = json!([{"path": "/check/exec/command", "errors": ["error.path.missing"]}]);
        assert_eq!(details(json!({"exec": {}})), missing);
        assert_eq!(details(json!({"exec": {"command": {}}})), missing);
    }
}

//! Executors that frameworks gave.

use meshos_proto::{json::to_json, meshos::allocator::v1::Executor, mesos::v1::CommandInfo};
use serde_json::{Map, Value, json};

use super::resources_object;

/// In `/state` and `/frameworks`.
pub(super) fn executor(executor: &Executor) -> Value {
    let info = executor.info.clone().unwrap_or_default();
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    put("executor_id", json!(info.executor_id.value));
    put("name", json!(info.name()));
    put("framework_id", json!(info.framework_id.as_ref().map_or("", |id| &id.value)));
    put("command", command(&info.command.clone().unwrap_or_default()));
    put("resources", resources_object(&info.resources));
    let allocation = info.resources.first().and_then(|resource| resource.allocation_info.as_ref());
    if let Some(role) = allocation.and_then(|allocation| allocation.role.as_deref()) {
        put("role", json!(role));
    }
    if let Some(labels) = &info.labels {
        put("labels", labels.labels.iter().map(to_json).collect());
    }
    if info.r#type.is_some() {
        put("type", json!(info.r#type().as_str_name()));
    }
    put("slave_id", json!(executor.agent_id));
    Value::Object(object)
}

fn command(command: &CommandInfo) -> Value {
    let mut object = Map::new();
    let mut put = |key: &str, value: Value| object.insert(key.to_owned(), value);
    if let Some(shell) = command.shell {
        put("shell", json!(shell));
    }
    if let Some(value) = &command.value {
        put("value", json!(value));
    }
    put("argv", json!(command.arguments));
    if let Some(environment) = &command.environment {
        put("environment", to_json(environment));
    }
    let uris = command.uris.iter().map(|uri| json!({"value": uri.value, "executable": uri.executable()}));
    put("uris", uris.collect());
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::{json::from_json, mesos::v1::ExecutorInfo};

    #[test]
    fn an_executor_is_shown_with_its_command_and_where_it_runs() {
        let info: ExecutorInfo = from_json(&json!({
            "type": "DEFAULT", "executor_id": {"value": "e"}, "framework_id": {"value": "f"}, "name": "n",
            "command": {"value": "run", "uris": [{"value": "http://x/y"}]},
            "labels": {"labels": [{"key": "k"}]},
            "resources": [{"name": "cpus", "type": "SCALAR", "scalar": {"value": 0.5},
                "allocation_info": {"role": "eng"}}],
        }))
        .unwrap();
        let shown = executor(&Executor { info: Some(info), agent_id: "a".to_owned() });
        let wanted = json!({
            "executor_id": "e", "name": "n", "framework_id": "f",
            "command": {"value": "run", "argv": [], "uris": [{"value": "http://x/y", "executable": false}]},
            "resources": {"cpus": 0.5, "gpus": 0.0, "mem": 0.0, "disk": 0.0},
            "role": "eng", "labels": [{"key": "k"}], "type": "DEFAULT", "slave_id": "a",
        });
        assert_eq!(shown, wanted);
        let bare = executor(&Executor::default());
        assert_eq!(bare["command"], json!({"argv": [], "uris": []}));
    }
}

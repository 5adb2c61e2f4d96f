//! Groups as users send them.

use meshos_proto::meshos::apps::v1::{AppUpdateList, GroupUpdate, GroupUpdateList};
use serde_json::Value;

use super::{
    definition,
    faults::{Faults, Field, field},
    parts, path, strings,
};
use crate::marathon::error::ApiError;

/// Groups in groups, at most: more is no tree that anybody has, and would exhaust the stack.
const DEEPEST: usize = 64;

/// One group with all below it. `named`: its id is required.
pub(in crate::marathon) fn group(value: &Value, named: bool) -> Result<GroupUpdate, ApiError> {
    let mut faults = Faults::default();
    let update = one(&Field { path: String::new(), value }, 0, &mut faults);
    if named && update.id.is_none() {
        faults.read("/id", "error.path.missing");
    }
    faults.finish()?;
    Ok(update)
}

/// The body of `PATCH /v2/groups/{id}`.
pub(in crate::marathon) fn enforce_role(value: &Value) -> Result<bool, ApiError> {
    let mut faults = Faults::default();
    let body = faults.object(&Field { path: String::new(), value });
    let flag = body.and_then(|body| {
        let found = field(body, "", "enforceRole");
        if found.is_none() {
            faults.read("/enforceRole", "error.path.missing");
        }
        faults.boolean(&found?)
    });
    faults.finish()?;
    Ok(flag.unwrap_or_default())
}

fn one(body: &Field<'_>, depth: usize, faults: &mut Faults) -> GroupUpdate {
    let Some(object) = faults.object(body) else { return GroupUpdate::default() };
    let get = |name: &str| field(object, &body.path, name);
    if depth > DEEPEST {
        faults.read(&body.path, "error.maxLength");
        return GroupUpdate::default();
    }
    GroupUpdate {
        id: get("id").and_then(|id| path(&id, faults)),
        apps: get("apps").and_then(|apps| {
            let items = faults.list(&apps)?;
            Some(AppUpdateList { items: items.iter().map(|item| app(item, faults)).collect() })
        }),
        groups: get("groups").and_then(|groups| {
            let items = faults.list(&groups)?;
            Some(GroupUpdateList { items: items.iter().map(|item| child(item, depth, faults)).collect() })
        }),
        dependencies: get("dependencies").and_then(|list| {
            let items = faults.list(&list)?;
            Some(strings(items.iter().filter_map(|item| path(item, faults)).collect()))
        }),
        enforce_role: get("enforceRole").and_then(|flag| faults.boolean(&flag)),
        scale_by: get("scaleBy").and_then(|factor| faults.number(&factor, 0.0, f64::MAX)),
        version_ms: get("version").and_then(|version| parts::version(&version, faults)),
    }
}

fn app(item: &Field<'_>, faults: &mut Faults) -> meshos_proto::meshos::apps::v1::AppUpdate {
    let update = definition(item, faults);
    if update.id.is_none() && item.value.is_object() {
        faults.read(&format!("{}/id", item.path), "error.path.missing");
    }
    update
}

fn child(item: &Field<'_>, depth: usize, faults: &mut Faults) -> GroupUpdate {
    let update = one(item, depth + 1, faults);
    if update.id.is_none() && item.value.is_object() {
        faults.read(&format!("{}/id", item.path), "error.path.missing");
    }
    update
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn codes(value: Value) -> Value {
        group(&value, true).unwrap_err().body["details"].clone()
    }

    #[test]
    fn a_tree_is_read_with_paths_of_faults() {
        let value = json!({
            "id": "/g", "apps": [{"id": "a", "cmd": "x"}], "dependencies": ["../b"], "pods": [],
            "groups": [{"id": "h", "apps": [{"id": "b", "cmd": "x"}]}], "enforceRole": false,
        });
        let update = group(&value, true).unwrap();
        assert_eq!(update.apps.unwrap().items[0].id.as_deref(), Some("a"));
        assert_eq!(update.groups.unwrap().items[0].apps.as_ref().unwrap().items.len(), 1);
        assert_eq!((update.enforce_role, update.scale_by), (Some(false), None));
        let nested = codes(json!({"id": "/g", "groups": [{"id": "h", "apps": [{"cmd": "x"}]}]}));
        assert_eq!(nested, json!([{"path": "/groups(0)/apps(0)/id", "errors": ["error.path.missing"]}]));
        assert_eq!(codes(json!({}))[0]["path"], "/id");
        assert_eq!(codes(json!({"id": "/g", "scaleBy": -1}))[0]["errors"], json!(["error.min"]));
    }

    #[test]
    fn a_tree_has_a_greatest_depth() {
        let mut value = json!({"id": "x"});
        for _ in 0..100 {
            value = json!({"id": "x", "groups": [value]});
        }
        assert_eq!(codes(value)[0]["errors"], json!(["error.maxLength"]));
    }

    #[test]
    fn marathon_c60_a_patch_is_a_flag() {
        assert!(enforce_role(&json!({"enforceRole": true})).unwrap());
        assert_eq!(
            enforce_role(&json!({})).unwrap_err().body["details"][0]["errors"],
            json!(["error.path.missing"])
        );
    }
}

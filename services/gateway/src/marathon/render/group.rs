//! The tree of groups, as the apps' ids span it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{app, embed::Embeds, timestamp};
use crate::{http::Query, marathon::page::Page, views::Apps};

/// Which parts of groups are shown; the default holds only while no embed is given.
#[derive(Clone, Copy, Debug)]
pub(in crate::marathon) struct GroupEmbeds {
    groups: bool,
    apps: bool,
    app: Embeds,
}

impl GroupEmbeds {
    pub(in crate::marathon) fn of(query: &Query, now_ms: u64) -> Self {
        let default = query.get("embed").is_none();
        let has = |word: &str| {
            query.all("embed").any(|embed| embed == word || embed.starts_with(&format!("{word}.")))
        };
        Self {
            groups: default || has("group.groups"),
            apps: default || has("group.apps"),
            app: Embeds::of_group(query).at(now_ms),
        }
    }
}

/// The group `id` with all below it; none when there is no such group. The root is always there.
pub(in crate::marathon) fn group(apps: &Apps, id: &str, embeds: GroupEmbeds) -> Option<Value> {
    part_of_group(apps, id, embeds, Page::default())
}

/// The same with a part of its own apps and groups; those below are whole.
pub(in crate::marathon) fn part_of_group(
    apps: &Apps,
    id: &str,
    embeds: GroupEmbeds,
    page: Page,
) -> Option<Value> {
    let prefix = if id == "/" { "/".to_owned() } else { format!("{id}/") };
    let below = || {
        let from = apps.apps.range(prefix.clone()..);
        from.take_while(|(app, _)| app.starts_with(&prefix)).map(|(_, app)| app)
    };
    let groups_below = || {
        let from = apps.groups.range(prefix.clone()..).map(|(group, _)| &group[prefix.len()..]);
        let within = apps.groups.range(prefix.clone()..).take_while(|(group, _)| group.starts_with(&prefix));
        from.take(within.count()).filter(|rest| !rest.is_empty())
    };
    let record = apps.groups.get(id);
    if id != "/" && record.is_none() && below().next().is_none() && groups_below().next().is_none() {
        return None;
    }
    let version = below().map(|app| app.version_ms).chain(record.map(|record| record.version_ms)).max();
    let own = page.of_items(below().filter(|app| !app.id[prefix.len()..].contains('/')));
    let nested = below().filter_map(|app| app.id[prefix.len()..].split_once('/').map(|(child, _)| child));
    let children: BTreeSet<&str> =
        nested.chain(groups_below().filter_map(|rest| rest.split('/').next())).collect();
    let shown: Value =
        if embeds.apps { own.map(|found| app::info(apps, found, embeds.app)).collect() } else { json!([]) };
    let groups: Value = if embeds.groups {
        page.of_items(children.into_iter())
            .filter_map(|child| group(apps, &format!("{prefix}{child}"), embeds))
            .collect()
    } else {
        json!([])
    };
    let mut shown = json!({
        "id": id,
        "apps": shown,
        "groups": groups,
        "pods": [],
        "dependencies": record.map(|record| json!(record.dependencies)).unwrap_or_else(|| json!([])),
        "version": timestamp(version.unwrap_or_default()),
    });
    // The client of PyPI refuses groups with it: only those that have the setting show it.
    if record.is_some_and(|record| record.enforce_role) {
        shown["enforceRole"] = json!(true);
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::render::app::tests::minimal;
    use meshos_proto::meshos::apps::v1::Group;

    fn scene() -> Apps {
        let mut apps = Apps::default();
        for id in ["/a", "/g/b", "/g/h/c", "/gg/d"] {
            apps.apps.insert(id.to_owned(), minimal(id));
        }
        apps
    }

    fn shown(id: &str, query: &str) -> Option<Value> {
        group(&scene(), id, GroupEmbeds::of(&Query::parse(query), 0))
    }

    #[test]
    fn the_tree_follows_the_ids() {
        let root = shown("/", "").unwrap();
        assert_eq!(root["apps"].as_array().unwrap().len(), 1);
        let ids: Vec<_> =
            root["groups"].as_array().unwrap().iter().map(|group| group["id"].clone()).collect();
        assert_eq!(ids, ["/g", "/gg"]);
        assert_eq!(root["groups"][0]["groups"][0]["apps"][0]["id"], "/g/h/c");
        assert_eq!(shown("/g/h", "").unwrap()["apps"][0]["id"], "/g/h/c");
        assert_eq!(shown("/nosuch", ""), None);
    }

    #[test]
    fn an_empty_group_is_there_while_it_has_a_record() {
        let mut apps = scene();
        let record = Group {
            id: "/e/f".into(),
            dependencies: vec!["/g".into()],
            enforce_role: true,
            ..Default::default()
        };
        apps.groups.insert("/e/f".to_owned(), record);
        let embeds = GroupEmbeds::of(&Query::parse(""), 0);
        let empty = group(&apps, "/e/f", embeds).unwrap();
        assert_eq!((&empty["dependencies"], &empty["enforceRole"]), (&json!(["/g"]), &json!(true)));
        assert_eq!(group(&apps, "/e", embeds).unwrap()["groups"][0]["id"], "/e/f");
        assert_eq!(group(&apps, "/", embeds).unwrap()["groups"][0]["id"], "/e");
    }

    #[test]
    fn a_part_of_a_groups_own_apps_and_groups() {
        let page = Page::of(&Query::parse("limit=1&offset=1")).unwrap();
        let root = part_of_group(&scene(), "/", GroupEmbeds::of(&Query::parse(""), 0), page).unwrap();
        assert_eq!((&root["apps"], &root["groups"][0]["id"]), (&json!([]), &json!("/gg")));
        let page = Page::of(&Query::parse("limit=1")).unwrap();
        let root = part_of_group(&scene(), "/", GroupEmbeds::of(&Query::parse(""), 0), page).unwrap();
        assert_eq!((&root["apps"][0]["id"], root["groups"].as_array().unwrap().len()), (&json!("/a"), 1));
        assert_eq!(root["groups"][0]["groups"][0]["apps"][0]["id"], "/g/h/c", "those below are whole");
    }

    #[test]
    fn an_embed_drops_the_defaults() {
        let groups = shown("/", "embed=group.groups").unwrap();
        assert_eq!(groups["apps"], json!([]));
        assert_eq!(groups["groups"].as_array().unwrap().len(), 2);
        let counts = shown("/", "embed=group.apps&embed=group.apps.counts").unwrap();
        assert_eq!(counts["apps"][0]["tasksRunning"], 0);
        assert_eq!(counts["groups"], json!([]));
    }
}

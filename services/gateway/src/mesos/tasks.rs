//! `GET /tasks`

use meshos_proto::mesos::v1::FrameworkInfo;

use super::render::{
    self,
    writer::{self, Object},
};
use crate::{
    http::Query,
    views::{Cluster, cluster::Page},
};

/// Live, unreachable and completed tasks by the time of their first status, newest first unless `order=asc`.
/// A senseless `limit`, `offset` or `order` counts as not given.
pub(super) fn tasks(cluster: &Cluster, query: &Query) -> Vec<u8> {
    let page = page(query);
    let unknown = FrameworkInfo::default();
    let mut out = Vec::new();
    let mut object = Object::begin(&mut out);
    object.list("tasks", cluster.page(&page).into_iter(), |task, out| {
        let framework = cluster.frameworks.get(task.framework_id.value.as_str());
        let info = framework.and_then(|framework| framework.info.as_ref());
        writer::put(out, &render::task(task, info.unwrap_or(&unknown)));
    });
    object.end();
    out
}

fn page(query: &Query) -> Page<'_> {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    Page {
        framework: query.get("framework_id"),
        task: query.get("task_id"),
        ascending: query.get("order") == Some("asc"),
        offset: number("offset").unwrap_or(0),
        limit: number("limit").unwrap_or(100),
    }
}

/// Whether the page is rendered faster than the view can be copied.
pub(super) fn is_short(query: &Query) -> bool {
    page(query).limit <= 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::{assert_same, golden_cluster};
    use serde_json::Value;

    fn shown(query: &str) -> Value {
        serde_json::from_slice(&tasks(&golden_cluster(), &Query::parse(query))).unwrap()
    }

    fn ids(query: &str) -> Vec<String> {
        let found = shown(query);
        let list = found["tasks"].as_array().unwrap();
        list.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn mesos_c69_order_and_page_are_those_of_a_real_master() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_tasks.json")).unwrap();
        let ours = shown("");
        assert_same("tasks", &ours, &golden);
        let wanted: Vec<_> = golden["tasks"]
            .as_array()
            .unwrap()
            .iter()
            .map(|task| task["id"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(ids(""), wanted);
        assert_eq!(ids("limit=2&offset=1"), wanted[1..3]);
        assert_eq!(ids("order=asc&limit=1"), wanted[wanted.len() - 1..]);
        assert_eq!(ids("limit=x&order=y"), wanted);
        assert_eq!(ids("task_id=ok"), ["ok"]);
        assert_eq!(ids("framework_id=none"), [""; 0]);
        assert_eq!(ids("offset=99999999999999999999"), wanted);
    }
}

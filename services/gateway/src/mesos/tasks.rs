//! `GET /tasks`

use meshos_proto::mesos::v1::{FrameworkInfo, Task};
use serde_json::{Value, json};

use super::render;
use crate::{http::Query, views::Cluster};

/// Live, unreachable and completed tasks by the time of their first status, newest first unless `order=asc`.
/// A senseless `limit`, `offset` or `order` counts as not given.
pub(super) fn tasks(cluster: &Cluster, query: &Query) -> Value {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let (limit, offset) = (number("limit").unwrap_or(100), number("offset").unwrap_or(0));
    let framework = query.get("framework_id");
    let id = query.get("task_id");
    let wanted = |task: &&Task| {
        framework.is_none_or(|wanted| task.framework_id.value == wanted)
            && id.is_none_or(|wanted| task.task_id.value == wanted)
    };
    let mut found: Vec<&Task> = cluster.tasks().map(|(task, _)| task).filter(wanted).collect();
    found.sort_by(|a, b| first_status(a).total_cmp(&first_status(b)));
    if query.get("order") != Some("asc") {
        found.reverse();
    }
    let unknown = FrameworkInfo::default();
    let page = found.into_iter().skip(offset).take(limit).map(|task| {
        let info =
            cluster.frameworks.get(&task.framework_id.value).and_then(|framework| framework.info.as_ref());
        render::task(task, info.unwrap_or(&unknown))
    });
    json!({"tasks": page.collect::<Value>()})
}

fn first_status(task: &Task) -> f64 {
    task.statuses.first().map_or(0.0, |status| status.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::{assert_same, golden_cluster};

    fn ids(query: &str) -> Vec<String> {
        let found = tasks(&golden_cluster(), &Query::parse(query));
        let list = found["tasks"].as_array().unwrap();
        list.iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn mesos_c69_order_and_page_are_those_of_a_real_master() {
        let golden: Value =
            serde_json::from_str(include_str!("../../tests/golden/master_tasks.json")).unwrap();
        let ours = tasks(&golden_cluster(), &Query::default());
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

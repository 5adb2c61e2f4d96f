//! Tasks: listing and killing.

use http::StatusCode;
use meshos_proto::meshos::apps::v1::{App, Instance, KillTasksRequest, KillTasksResponse};
use meshos_types::{TaskId, TaskName, app_port, app_ports};
use serde_json::{Value, json};

use super::{
    Answer, Marathon, apps, client, deployment_result,
    error::ApiError,
    json_body, method_not_allowed,
    page::Page,
    read,
    render::task::{Shown, is_placed, state, task},
    routes::Route,
};
use crate::{
    client::Repeat,
    http::{Query, Reply, Request},
    views::Apps,
};

impl Marathon {
    pub(super) async fn answer_tasks(&self, route: &Route, request: &Request) -> Answer {
        match (route, request.verb().as_str()) {
            (Route::Tasks, "GET") if wants_text(request) => {
                self.read_text(|apps| plain(apps, apps.apps.values()))
            }
            (Route::AppTasks(id), "GET") if wants_text(request) => {
                self.read_text(|apps| plain(apps, apps.apps.get(id).into_iter()))
            }
            (Route::Tasks, "GET") => {
                let page = Page::of(&request.query)?;
                let listed = self.apps.read(|apps| all(apps, &request.query, page));
                Ok(Reply::json_text(listed.ok_or_else(ApiError::not_synced)?))
            }
            (Route::TasksDelete, "POST") => self.delete_tasks(request).await,
            (Route::AppTasks(id), "GET") => self.read(request, |apps| {
                if !apps.apps.contains_key(id) {
                    return Err(ApiError::no_app(id));
                }
                let page = Page::of(&request.query)?;
                Ok(json!({"tasks": page.of_items(tasks_of(apps, id)).collect::<Value>()}))
            }),
            (Route::GroupTasks(group), "GET") => self.read(request, |found| {
                let tasks = apps::below(found, group).flat_map(|app| tasks_of(found, &app.id));
                let page = Page::of(&request.query)?;
                Ok(json!({"tasks": page.of_items(tasks).collect::<Value>()}))
            }),
            (Route::AppTasks(id), "DELETE") => self.kill_app(id, request).await,
            (Route::AppTask { app, task }, "DELETE") => self.kill_one(app, task, request).await,
            _ => Err(method_not_allowed()),
        }
    }

    fn read_text(&self, render: impl FnOnce(&Apps) -> String) -> Answer {
        let text = self.apps.read(render).ok_or_else(ApiError::not_synced)?;
        Ok(Reply::text(StatusCode::OK, text))
    }

    async fn delete_tasks(&self, request: &Request) -> Answer {
        let ids = read::task_ids(&json_body(request)?)?;
        for id in &ids {
            let known_form = TaskName::of(&TaskId::new(id.as_str())).is_some();
            if !known_form {
                let text = format!("Invalid task id '{id}'. [taskId {id} no valid identifier]");
                return Err(ApiError::bad_request(text));
            }
        }
        let killed = self.kill(KillTasksRequest { task_ids: ids, ..Default::default() }, request).await?;
        Ok(killed_reply(&killed))
    }

    async fn kill_app(&self, id: &str, request: &Request) -> Answer {
        let host = request.query.get("host").filter(|host| *host != "*").map(str::to_owned);
        let call = KillTasksRequest { app_id: Some(id.to_owned()), host, ..Default::default() };
        Ok(killed_reply(&self.kill(call, request).await?))
    }

    async fn kill_one(&self, app: &str, id: &str, request: &Request) -> Answer {
        if TaskName::of(&TaskId::new(id)).is_none() {
            let is_app =
                self.apps.read(|apps| apps.apps.contains_key(app)).ok_or_else(ApiError::not_synced)?;
            return Err(if is_app { ApiError::no_task(id) } else { ApiError::no_app(app) });
        }
        // The leader knows whether it is there; what is known here may be older.
        let (app_id, task_ids) = (Some(app.to_owned()), vec![id.to_owned()]);
        let call = KillTasksRequest { app_id, task_ids, ..Default::default() };
        let killed = self.kill(call, request).await?;
        match (&killed.deployment, killed.instances.first()) {
            (Some(change), _) => Ok(deployment_result(StatusCode::OK, change)),
            (None, Some(instance)) => Ok(Reply::json(&json!({"task": task(instance, &[])}))),
            (None, None) => Err(ApiError::no_task(id)),
        }
    }

    /// `call` with the query's settings.
    async fn kill(&self, call: KillTasksRequest, request: &Request) -> Result<KillTasksResponse, ApiError> {
        let query = &request.query;
        let (scale, wipe, force) = (query.flag("scale"), query.flag("wipe"), query.flag("force"));
        if scale && wipe {
            return Err(ApiError::bad_request("You cannot use scale and wipe at the same time."));
        }
        let call = KillTasksRequest { scale, wipe, force, ..call };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).kill_tasks(call).await }
        });
        let killed = called.await?.into_inner();
        self.see(killed.revision).await;
        Ok(killed)
    }
}

/// The tasks that were chosen, or the deployment that kills them.
fn killed_reply(killed: &KillTasksResponse) -> Reply {
    match &killed.deployment {
        Some(change) => deployment_result(StatusCode::OK, change),
        None => {
            let placed = killed.instances.iter().filter(|found| is_placed(found));
            let tasks: Value = placed.map(|found| task(found, &[])).collect();
            Reply::json(&json!({"tasks": tasks}))
        }
    }
}

/// Whether the client asks for the text form, which older load balancers read.
pub(super) fn wants_text(request: &Request) -> bool {
    request.header("accept").is_some_and(|accept| super::media_type(accept) == "text/plain")
}

/// A line for each app and service port: `<id>\t<port>\t<host:port> <host:port> \n`.
fn plain<'a>(apps: &Apps, wanted: impl Iterator<Item = &'a App>) -> String {
    let mut text = String::new();
    for app in wanted {
        let name = app.id.trim_start_matches('/').replace('/', "_");
        let running: Vec<&Instance> =
            apps.instances_of(&app.id).filter(|i| state(i) == "TASK_RUNNING").collect();
        if app_ports(app).next().is_none() {
            let hosts: String = running.iter().map(|instance| format!("{} ", instance.host)).collect();
            text.push_str(&format!("{name}\t \t{hosts}\n"));
        }
        for (place, definition) in app_ports(app).enumerate() {
            let server = |instance: &&Instance| {
                let (host, port) = app_port::task_address(app, instance, place)?;
                Some(format!("{host}:{port} "))
            };
            let servers: String = running.iter().filter_map(server).collect();
            text.push_str(&format!("{name}\t{}\t{servers}\n", definition.service));
        }
    }
    text
}

fn tasks_of<'a>(apps: &'a Apps, id: &str) -> impl Iterator<Item = Value> + use<'a> {
    let placed = apps.instances_of(id).filter(|found| is_placed(found));
    placed.map(|found| task(found, apps.health_of(&found.id)))
}

/// All tasks, of one state when the query names some.
fn all(apps: &Apps, query: &Query, page: Page) -> String {
    // Other words say nothing, as upstream.
    let known = |word: &str| match word.to_lowercase().as_str() {
        "running" => Some("TASK_RUNNING"),
        "staging" => Some("TASK_STAGING"),
        _ => None,
    };
    let wanted: Vec<&str> = query.all("status").chain(query.all("status[]")).filter_map(known).collect();
    let fits = |instance: &&Instance| wanted.is_empty() || wanted.contains(&state(instance));
    let tasks = apps.instances().filter(|found| is_placed(found)).filter(fits);
    let shown = |instance: &'_ Instance| serde_json::to_string(&Shown::with_service_ports(apps, instance));
    // Nothing in it has a form that JSON does not have.
    let tasks: Vec<String> = page.of_items(tasks).filter_map(|instance| shown(instance).ok()).collect();
    format!("{{\"tasks\":[{}]}}", tasks.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::marathon::render::{app::tests::minimal, task::tests::running};
    use meshos_proto::meshos::apps::v1::{Delta, WatchResponse, watch_response::Body};

    #[test]
    fn the_text_form_has_a_line_for_each_service_port() {
        let bare = App { port_definitions: Vec::new(), ..minimal("/g/b") };
        let delta = Delta {
            apps: vec![minimal("/a"), bare],
            instances: vec![running("/a", "1"), running("/a", "2"), running("/g/b", "3")],
            ..Default::default()
        };
        let mut apps = Apps::default();
        apps.apply(WatchResponse { revision: 1, body: Some(Body::Delta(delta)) });
        assert_eq!(plain(&apps, apps.apps.values()), "a\t10000\th:31000 h:31000 \ng_b\t \th \n");
    }

    #[test]
    fn marathon_c45_tasks_by_status() {
        let staged = Instance { mesos_state: String::new(), ..running("/a", "2") };
        let waiting = Instance { agent_id: String::new(), ..running("/a", "3") };
        let delta = Delta {
            apps: vec![minimal("/a")],
            instances: vec![running("/a", "1"), staged, waiting],
            ..Default::default()
        };
        let mut apps = Apps::default();
        apps.apply(WatchResponse { revision: 1, body: Some(Body::Delta(delta)) });
        let states = |query: &str| -> Vec<String> {
            let query = Query::parse(query);
            let found: Value = serde_json::from_str(&all(&apps, &query, Page::of(&query).unwrap())).unwrap();
            let list = found["tasks"].as_array().unwrap();
            assert!(list.iter().all(|task| task["servicePorts"] == json!([10_000])));
            list.iter().map(|task| task["state"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(states(""), ["TASK_RUNNING", "TASK_STAGING"]);
        assert_eq!(states("status=staging"), ["TASK_STAGING"]);
        assert_eq!(states("status[]=running"), ["TASK_RUNNING"]);
        assert_eq!(states("status=nosuch"), ["TASK_RUNNING", "TASK_STAGING"]);
        assert_eq!(states("status=nosuch&status=running"), ["TASK_RUNNING"]);
    }
}

//! Apps: reading, creating, changing, removing.

use http::{Method, StatusCode, header};
use meshos_proto::meshos::apps::v1::{
    App, AppUpdate, ChangeResponse, CreateAppRequest, DeleteAppRequest, ListVersionsRequest,
    RestartAppRequest, UpdateAppsRequest,
};
use meshos_types::Timestamp;
use serde_json::{Value, json};

use super::{
    Answer, DEPLOYMENT_ID, Marathon, client, deployment_result,
    deployments::limits,
    error::ApiError,
    json_body, method_not_allowed,
    page::Page,
    read,
    render::{self, embed::Embeds, timestamp},
    routes::Route,
    selector::Selector,
};
use crate::{
    client::Repeat,
    http::{Query, Reply, Request},
    views::Apps,
};

impl Marathon {
    pub(super) async fn answer_apps(&self, route: &Route, request: &Request) -> Answer {
        match (route, request.verb().as_str()) {
            (Route::Apps, "GET") => {
                let embeds = Embeds::of_list(&request.query).at(self.env.clock.unix_ms());
                let listed = self.apps.read(|apps| list(apps, &request.query, embeds));
                Ok(Reply::json_text(listed.ok_or_else(ApiError::not_synced)??))
            }
            (Route::Apps, "POST") => self.create(request).await,
            (Route::Apps, "PUT" | "PATCH") => self.update_many(request).await,
            (Route::App(id), "GET") => {
                let embeds = Embeds::of_one(&request.query).at(self.env.clock.unix_ms());
                self.read(request, |apps| {
                    let app = apps.apps.get(id).ok_or_else(|| ApiError::no_app(id))?;
                    Ok(json!({"app": render::app::info(apps, app, embeds)}))
                })
            }
            (Route::App(id), "PUT" | "PATCH") => self.update_one(id, request).await,
            (Route::App(id), "DELETE") => self.delete(id, request).await,
            (Route::GroupApps(group), "GET") => {
                let embeds = Embeds::of_one(&request.query).at(self.env.clock.unix_ms());
                self.read(request, |apps| {
                    let page = Page::of(&request.query)?;
                    let found = page.of_items(below(apps, group));
                    let found = found.map(|app| render::app::info(apps, app, embeds));
                    Ok(json!({"*": found.collect::<Value>()}))
                })
            }
            (Route::Restart(id), "POST") => self.restart(id, request).await,
            (Route::Versions(id), "GET") => self.versions(id, &request.query).await,
            (Route::Version { app, version }, "GET") => self.version(app, version).await,
            _ => Err(method_not_allowed()),
        }
    }

    async fn create(&self, request: &Request) -> Answer {
        let mut update = read::app(&json_body(request)?)?;
        if update.id.is_none() {
            let details = json!([{"path": "/id", "errors": ["error.path.missing"]}]);
            return Err(ApiError::unprocessable(json!({"message": "Invalid JSON", "details": details})));
        }
        // Only an update may name a version.
        update.version_ms = None;
        let (force, limits) = (request.query.flag("force"), limits(&request.query)?);
        let call = CreateAppRequest { app: Some(update), force, limits };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).create_app(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        let app = change.apps.first().cloned().unwrap_or_default();
        self.tell_api_post(request, &app);
        let reply = Reply::json_with(StatusCode::CREATED, &render::app::created(&app, &change.deployment_id));
        Ok(self.located(reply, &app.id).set(DEPLOYMENT_ID, &change.deployment_id))
    }

    /// With the object's place: its id below the server's root.
    pub(super) fn located(&self, reply: Reply, id: &str) -> Reply {
        reply.set(header::LOCATION, &format!("http://{}{id}", self.identity.authority()))
    }

    async fn update_one(&self, id: &str, request: &Request) -> Answer {
        let update = read::app(&json_body(request)?)?;
        // The path's id wins over that of the body.
        let update = AppUpdate { id: Some(id.to_owned()), ..update };
        let change = self.update(vec![update], request).await?;
        change.apps.iter().for_each(|app| self.tell_api_post(request, app));
        let status = if change.created { StatusCode::CREATED } else { StatusCode::OK };
        let reply = deployment_result(status, &change);
        if change.created { Ok(self.located(reply, id)) } else { Ok(reply) }
    }

    async fn update_many(&self, request: &Request) -> Answer {
        let updates = read::apps(&json_body(request)?)?;
        let change = self.update(updates, request).await?;
        Ok(deployment_result(StatusCode::OK, &change))
    }

    async fn update(&self, apps: Vec<AppUpdate>, request: &Request) -> Result<ChangeResponse, ApiError> {
        let patch = request.method == Method::PATCH;
        let partial = patch || request.query.get("partialUpdate").is_none_or(|value| value == "true");
        let force = request.query.flag("force");
        let limits = limits(&request.query)?;
        let call = UpdateAppsRequest { apps, force, partial, create: !patch, limits };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).update_apps(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(change)
    }

    async fn delete(&self, id: &str, request: &Request) -> Answer {
        // Forced unless said otherwise.
        let force = request.query.get("force").is_none_or(|value| value == "true");
        let call = DeleteAppRequest { id: id.to_owned(), force };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).delete_app(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(deployment_result(StatusCode::OK, &change))
    }

    async fn restart(&self, id: &str, request: &Request) -> Answer {
        let (force, limits) = (request.query.flag("force"), limits(&request.query)?);
        let call = RestartAppRequest { id: id.to_owned(), force, limits };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).restart_app(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(deployment_result(StatusCode::OK, &change))
    }

    async fn versions(&self, id: &str, query: &Query) -> Answer {
        let page = Page::of(query)?;
        let versions = self.stored_versions(id).await?;
        let times: Value = page.of_items(versions.iter()).map(|app| timestamp(app.version_ms)).collect();
        Ok(Reply::json(&json!({"versions": times})))
    }

    async fn version(&self, id: &str, version: &str) -> Answer {
        let wanted = Timestamp::parse(version).map_err(|error| ApiError::illegal(error.to_string()))?;
        let versions = self.stored_versions(id).await?;
        let found = versions.iter().find(|app| i64::try_from(app.version_ms) == Ok(wanted.millis()));
        let app = found
            .ok_or_else(|| ApiError::not_found(format!("App '{id}' does not exist in version {version}")))?;
        Ok(Reply::json(&Value::Object(render::app::definition(app))))
    }

    async fn stored_versions(&self, id: &str) -> Result<Vec<App>, ApiError> {
        let call = ListVersionsRequest { app_id: id.to_owned() };
        let called = self.leader.call(Repeat::Safe, |channel| {
            let call = call.clone();
            async move { client(channel).list_versions(call).await }
        });
        Ok(called.await?.into_inner().versions)
    }
}

/// The apps that fit all filters.
fn list(apps: &Apps, query: &Query, embeds: Embeds) -> Result<Vec<u8>, ApiError> {
    let selector = query.get("label").map(|text| {
        Selector::parse(text).map_err(|reason| {
            ApiError::illegal(format!("Can not parse label selector {text}. Reason: {reason}"))
        })
    });
    let selector = selector.transpose()?;
    let lower = |name: &str| query.get(name).map(str::to_lowercase);
    let (id, cmd) = (lower("id"), lower("cmd"));
    let wanted = |app: &&App| {
        let of = |part: &Option<String>, text: &str| {
            part.as_ref().is_none_or(|part| text.to_lowercase().contains(part))
        };
        of(&id, &app.id)
            && (cmd.is_none() || app.cmd.as_ref().is_some_and(|text| of(&cmd, text)))
            && selector.as_ref().is_none_or(|selector| selector.matches(&app.labels))
    };
    let page = Page::of(query)?;
    let found = page.of_items(apps.apps.values().filter(wanted));
    let mut text = b"{\"apps\":[".to_vec();
    for (place, app) in found.enumerate() {
        if place > 0 {
            text.push(b',');
        }
        render::app::write_info(&mut text, apps, app, embeds);
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

/// The apps below a group.
pub(super) fn below<'a>(apps: &'a Apps, group: &str) -> impl Iterator<Item = &'a App> {
    let prefix = if group == "/" { "/".to_owned() } else { format!("{group}/") };
    let from = prefix.clone();
    apps.apps.range(from..).take_while(move |(id, _)| id.starts_with(&prefix)).map(|(_, app)| app)
}

#[cfg(test)]
mod tests {
    use meshos_proto::meshos::apps::v1::{
        Delta, HealthResult, InstanceHealth, WatchResponse, watch_response::Body,
    };

    use super::*;
    use crate::marathon::render::{app::tests::minimal, task::tests::running};

    fn ids(query: &str) -> Result<Vec<String>, ApiError> {
        let mut apps = Apps::default();
        for id in ["/a", "/g/b"] {
            apps.apps.insert(id.to_owned(), minimal(id));
        }
        let labelled = App { labels: [("tier".to_owned(), "db".to_owned())].into(), ..minimal("/c") };
        apps.apps.insert("/c".to_owned(), labelled);
        let query = Query::parse(query);
        let found = list(&apps, &query, Embeds::of_list(&query))?;
        let found: Value = serde_json::from_slice(&found).unwrap();
        Ok(found["apps"]
            .as_array()
            .unwrap()
            .iter()
            .map(|app| app["id"].as_str().unwrap().to_owned())
            .collect())
    }

    #[test]
    fn marathon_c46_c47_filters() {
        assert_eq!(ids("").unwrap(), ["/a", "/c", "/g/b"]);
        assert_eq!(ids("offset=1&limit=1").unwrap(), ["/c"]);
        assert_eq!(ids("limit=x").unwrap_err().status.as_u16(), 422);
        assert_eq!(ids("id=B").unwrap(), ["/g/b"]);
        assert_eq!(ids("cmd=SLEEP&id=a").unwrap(), ["/a"]);
        assert_eq!(ids("cmd=nosuch").unwrap(), [""; 0]);
        assert_eq!(ids("label=tier").unwrap(), ["/c"]);
        assert_eq!(ids("label=tier!%3Ddb").unwrap(), [""; 0]);
        let error = ids("label=a%3D%3D").unwrap_err();
        assert_eq!(error.status.as_u16(), 422);
        assert!(
            error.body["message"].as_str().unwrap().starts_with("Can not parse label selector a==. Reason: ")
        );
    }

    #[test]
    fn a_list_shows_an_app_as_it_is_shown_alone() {
        let health = InstanceHealth {
            instance_id: "a.instance-1".to_owned(),
            results: vec![HealthResult { alive: true, last_success_ms: 1, ..Default::default() }],
        };
        let mut apps = Apps::default();
        apps.apply(WatchResponse {
            revision: 1,
            body: Some(Body::Delta(Delta {
                apps: vec![minimal("/a")],
                instances: vec![running("/a", "1"), running("/a", "2")],
                health: vec![health],
                ..Default::default()
            })),
        });
        for text in ["", "embed=apps.tasks&embed=apps.taskStats", "embed=app.taskStats"] {
            let query = Query::parse(text);
            let embeds = Embeds::of_list(&query);
            let listed: Value = serde_json::from_slice(&list(&apps, &query, embeds).unwrap()).unwrap();
            let alone = render::app::info(&apps, &apps.apps["/a"], embeds);
            assert_eq!(listed["apps"], json!([alone]), "{text}");
            let older = text.contains("=app.");
            assert_eq!(alone.get("tasksStats").is_some(), text.contains("Stats") && !older);
        }
    }

    #[test]
    fn a_list_shows_the_newest_definition() {
        let mut apps = Apps::default();
        for cpus in [1.0, 2.0] {
            let delta = Delta { apps: vec![App { cpus, ..minimal("/a") }], ..Default::default() };
            apps.apply(WatchResponse { revision: 1, body: Some(Body::Delta(delta)) });
            for _ in 0..2 {
                let query = Query::parse("");
                let listed = list(&apps, &query, Embeds::of_list(&query)).unwrap();
                let listed: Value = serde_json::from_slice(&listed).unwrap();
                assert_eq!(listed["apps"][0]["cpus"].as_f64(), Some(cpus));
            }
        }
    }

    #[test]
    fn below_is_a_matter_of_segments() {
        let mut apps = Apps::default();
        for id in ["/g/b", "/gg/c", "/g"] {
            apps.apps.insert(id.to_owned(), minimal(id));
        }
        assert_eq!(below(&apps, "/g").map(|app| app.id.as_str()).collect::<Vec<_>>(), ["/g/b"]);
        assert_eq!(below(&apps, "/").count(), 3);
    }
}

//! Groups: reading, creating, changing, removing, versions.

use http::{Method, StatusCode};
use meshos_proto::meshos::apps::v1::{
    ChangeResponse, DeleteGroupRequest, GetGroupVersionRequest, ListGroupVersionsRequest,
    SetEnforceRoleRequest, UpdateGroupRequest,
};
use meshos_types::Timestamp;
use serde_json::{Value, json};

use super::{
    Answer, Marathon, client, deployment_result,
    deployments::limits,
    error::ApiError,
    json_value, method_not_allowed,
    page::Page,
    read,
    render::{
        self,
        deployment::steps,
        group::{GroupEmbeds, part_of_group},
        timestamp,
    },
    routes::Route,
};
use crate::{
    client::Repeat,
    http::{Query, Reply, Request},
    views::Apps,
};

impl Marathon {
    pub(super) async fn answer_groups(&self, route: &Route, request: &Request) -> Answer {
        match (route, request.verb().as_str()) {
            (Route::Group(id), "GET") => self.show_group(id, request),
            (Route::Group(id), "POST") => self.create_group(id, request).await,
            (Route::Group(id), "PUT") => self.put_group(id, request).await,
            (Route::Group(id), "PATCH") => self.patch_group(id, request).await,
            (Route::Group(id), "DELETE") => self.delete_group(id, request).await,
            (Route::GroupVersion { group, version }, "PUT") => {
                self.roll_back_group(group, version, request).await
            }
            (Route::GroupVersions(id), "GET") => self.group_versions(id, &request.query).await,
            (Route::GroupVersion { group, version }, "GET") => {
                self.group_version(group, version, request).await
            }
            _ => Err(method_not_allowed()),
        }
    }

    fn show_group(&self, id: &str, request: &Request) -> Answer {
        let embeds = GroupEmbeds::of(&request.query, self.env.clock.unix_ms());
        let page = Page::of(&request.query)?;
        if let Some(group) = id.strip_suffix("/apps") {
            let group = if group.is_empty() { "/" } else { group };
            let found = self.read(request, |apps| {
                let found = part_of_group(apps, group, embeds, page).ok_or_else(|| no_group(group));
                found.map(|mut group| group["apps"].take())
            });
            if found.is_ok() {
                return found;
            }
        }
        self.read(request, |apps| part_of_group(apps, id, embeds, page).ok_or_else(|| no_group(id)))
    }

    async fn create_group(&self, id: &str, request: &Request) -> Answer {
        let update = read::group(&json_value(request)?, id == "/")?;
        let call = UpdateGroupRequest {
            id: id.to_owned(),
            update: Some(update),
            force: request.query.flag("force"),
            create_only: true,
            dry_run: false,
            limits: limits(&request.query)?,
        };
        let change = self.update_group(call).await?;
        let reply = deployment_result(StatusCode::CREATED, &change);
        Ok(self.located(reply, &change.group_id))
    }

    async fn put_group(&self, id: &str, request: &Request) -> Answer {
        let update = read::group(&json_value(request)?, false)?;
        let dry_run = request.query.flag("dryRun");
        let call = UpdateGroupRequest {
            id: id.to_owned(),
            update: Some(update),
            force: request.query.flag("force"),
            create_only: false,
            dry_run,
            limits: limits(&request.query)?,
        };
        let change = self.update_group(call).await?;
        if dry_run {
            return Ok(Reply::json(&json!({"steps": steps(&change.steps)})));
        }
        Ok(deployment_result(StatusCode::OK, &change))
    }

    /// Older clients name the version in the path.
    async fn roll_back_group(&self, id: &str, version: &str, request: &Request) -> Answer {
        let call = UpdateGroupRequest {
            id: id.to_owned(),
            update: Some(read::group(&json!({"version": version}), false)?),
            force: request.query.flag("force"),
            limits: limits(&request.query)?,
            ..Default::default()
        };
        let change = self.update_group(call).await?;
        Ok(deployment_result(StatusCode::OK, &change))
    }

    async fn update_group(&self, call: UpdateGroupRequest) -> Result<ChangeResponse, ApiError> {
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).update_group(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(change)
    }

    async fn patch_group(&self, id: &str, request: &Request) -> Answer {
        let enforce_role = read::enforce_role(&json_value(request)?)?;
        let call = SetEnforceRoleRequest { id: id.to_owned(), enforce_role };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).set_enforce_role(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(Reply::empty(StatusCode::OK))
    }

    async fn delete_group(&self, id: &str, request: &Request) -> Answer {
        debug_assert_eq!(request.method, Method::DELETE);
        let call = DeleteGroupRequest { id: id.to_owned(), force: request.query.flag("force") };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).delete_group(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        Ok(deployment_result(StatusCode::OK, &change))
    }

    async fn group_versions(&self, id: &str, query: &Query) -> Answer {
        let page = Page::of(query)?;
        let call = ListGroupVersionsRequest { id: id.to_owned() };
        let called = self.leader.call(Repeat::Safe, |channel| {
            let call = call.clone();
            async move { client(channel).list_group_versions(call).await }
        });
        let versions = called.await?.into_inner().versions_ms;
        Ok(Reply::json(&page.of_items(versions.into_iter()).map(timestamp).collect::<Value>()))
    }

    async fn group_version(&self, id: &str, version: &str, request: &Request) -> Answer {
        let wanted = Timestamp::parse(version).map_err(|error| ApiError::illegal(error.to_string()))?;
        let version_ms = u64::try_from(wanted.millis()).unwrap_or_default();
        let call = GetGroupVersionRequest { id: id.to_owned(), version_ms };
        let called = self.leader.call(Repeat::Safe, |channel| {
            let call = call.clone();
            async move { client(channel).get_group_version(call).await }
        });
        let found = called.await?.into_inner();
        let apps = Apps::of(found.apps, found.groups);
        let embeds = GroupEmbeds::of(&request.query, self.env.clock.unix_ms());
        let mut shown = render::group::group(&apps, id, embeds).ok_or_else(|| no_group(id))?;
        shown["version"] = json!(timestamp(version_ms));
        Ok(Reply::json(&shown))
    }
}

fn no_group(id: &str) -> ApiError {
    ApiError::not_found(format!("Group '{id}' does not exist"))
}

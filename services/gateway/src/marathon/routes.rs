//! Paths of the Marathon API. Ids are greedy: `/v2/apps/a/b/c` is the app `/a/b/c`. Pure.

use crate::http::query::percent_decode;

/// What a path stands for. Ids are absolute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Apps,
    App(String),
    /// All apps below a group.
    GroupApps(String),
    Restart(String),
    AppTasks(String),
    GroupTasks(String),
    AppTask {
        app: String,
        task: String,
    },
    Versions(String),
    Version {
        app: String,
        version: String,
    },
    Tasks,
    TasksDelete,
    Deployments,
    /// Those that ended (beyond Marathon).
    FinishedDeployments,
    Deployment(String),
    Queue,
    QueueDelay(String),
    Group(String),
    GroupVersions(String),
    GroupVersion {
        group: String,
        version: String,
    },
    /// The web pages' place.
    Root,
    Info,
    Leader,
    Plugins,
    Plugin(String),
    Events,
    /// Tasks that load balancers are to let go of (beyond Marathon).
    Leaving,
    LetGo(String),
    /// The description of all this (beyond Marathon).
    OpenApi,
    Ping,
    Help,
    Logging,
    Metrics,
    Config,
    Prometheus,
    /// Part of Marathon's API, not of this version.
    NotThere(&'static str),
}

impl Route {
    /// The route of a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        let decoded = percent_decode(path);
        let segments: Vec<&str> = decoded.split('/').filter(|segment| !segment.is_empty()).collect();
        match segments.as_slice() {
            [] | ["ui"] if !path.starts_with("/ui/") => Some(Self::Root),
            ["ping"] => Some(Self::Ping),
            ["help"] => Some(Self::Help),
            ["logging"] => Some(Self::Logging),
            ["config"] => Some(Self::Config),
            ["metrics"] => Some(Self::Metrics),
            ["metrics", "prometheus"] => Some(Self::Prometheus),
            ["v2", rest @ ..] => Self::v2(rest),
            _ => None,
        }
    }

    fn v2(segments: &[&str]) -> Option<Self> {
        Some(match segments {
            ["apps", rest @ ..] => Self::apps(rest),
            ["tasks"] => Self::Tasks,
            ["tasks", "delete"] => Self::TasksDelete,
            ["deployments"] => Self::Deployments,
            ["deployments", "finished"] => Self::FinishedDeployments,
            ["deployments", id] => Self::Deployment((*id).to_owned()),
            ["queue"] => Self::Queue,
            ["queue", id @ .., "delay"] if !id.is_empty() => Self::QueueDelay(absolute(id)),
            ["groups", id @ .., "versions"] => Self::GroupVersions(absolute(id)),
            ["groups", id @ .., "versions", version] => {
                Self::GroupVersion { group: absolute(id), version: (*version).to_owned() }
            }
            ["groups", id @ ..] => Self::Group(absolute(id)),
            ["info"] => Self::Info,
            ["leader"] => Self::Leader,
            ["plugins"] => Self::Plugins,
            ["plugins", id, ..] => Self::Plugin((*id).to_owned()),
            ["events"] => Self::Events,
            ["leaving"] => Self::Leaving,
            ["leaving", id] => Self::LetGo((*id).to_owned()),
            ["openapi.json"] => Self::OpenApi,
            ["pods", ..] => Self::NotThere("pods"),
            _ => return None,
        })
    }

    fn apps(segments: &[&str]) -> Self {
        match segments {
            [] => Self::Apps,
            [group @ .., "*"] => Self::GroupApps(absolute(group)),
            [group @ .., "*", "tasks"] => Self::GroupTasks(absolute(group)),
            [app @ .., "restart"] if !app.is_empty() => Self::Restart(absolute(app)),
            [app @ .., "tasks"] if !app.is_empty() => Self::AppTasks(absolute(app)),
            [app @ .., "tasks", task] if !app.is_empty() => {
                Self::AppTask { app: absolute(app), task: (*task).to_owned() }
            }
            [app @ .., "versions"] if !app.is_empty() => Self::Versions(absolute(app)),
            [app @ .., "versions", version] if !app.is_empty() => {
                Self::Version { app: absolute(app), version: (*version).to_owned() }
            }
            app => Self::App(absolute(app)),
        }
    }

    /// Its template, for the names of spans.
    pub(super) fn template(&self) -> &'static str {
        match self {
            Self::Apps => "/v2/apps",
            Self::App(_) => "/v2/apps/{id}",
            Self::GroupApps(_) => "/v2/apps/{group}/*",
            Self::Restart(_) => "/v2/apps/{id}/restart",
            Self::AppTasks(_) => "/v2/apps/{id}/tasks",
            Self::GroupTasks(_) => "/v2/apps/{group}/*/tasks",
            Self::AppTask { .. } => "/v2/apps/{id}/tasks/{taskId}",
            Self::Versions(_) => "/v2/apps/{id}/versions",
            Self::Version { .. } => "/v2/apps/{id}/versions/{version}",
            Self::Tasks => "/v2/tasks",
            Self::TasksDelete => "/v2/tasks/delete",
            Self::Deployments => "/v2/deployments",
            Self::FinishedDeployments => "/v2/deployments/finished",
            Self::Deployment(_) => "/v2/deployments/{id}",
            Self::Queue => "/v2/queue",
            Self::QueueDelay(_) => "/v2/queue/{id}/delay",
            Self::Group(_) => "/v2/groups/{id}",
            Self::GroupVersions(_) => "/v2/groups/{id}/versions",
            Self::GroupVersion { .. } => "/v2/groups/{id}/versions/{version}",
            Self::Root => "/",
            Self::Info => "/v2/info",
            Self::Leader => "/v2/leader",
            Self::Plugins => "/v2/plugins",
            Self::Plugin(_) => "/v2/plugins/{id}/{path}",
            Self::Events => "/v2/events",
            Self::Leaving => "/v2/leaving",
            Self::LetGo(_) => "/v2/leaving/{id}",
            Self::OpenApi => "/v2/openapi.json",
            Self::Ping => "/ping",
            Self::Help => "/help",
            Self::Logging => "/logging",
            Self::Config => "/config",
            Self::Metrics => "/metrics",
            Self::Prometheus => "/metrics/prometheus",
            Self::NotThere(_) => "unsupported",
        }
    }
}

fn absolute(segments: &[&str]) -> String {
    format!("/{}", segments.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_greedy_and_slashes_do_not_count() {
        let app = Some(Route::App("/a/b".to_owned()));
        for path in ["/v2/apps/a/b", "/v2/apps//a/b", "/v2/apps/a%2Fb", "/v2/apps/%2fa%2fb", "/v2/apps/a/b/"]
        {
            assert_eq!(Route::of(path), app, "{path}");
        }
        assert_eq!(Route::of("/v2/apps"), Some(Route::Apps));
        assert_eq!(Route::of("/v2/apps/"), Some(Route::Apps));
        assert_eq!(Route::of("/v2/apps//a/restart"), Some(Route::Restart("/a".to_owned())));
        assert_eq!(Route::of("/v2/apps/a/b/tasks"), Some(Route::AppTasks("/a/b".to_owned())));
        let task = Route::AppTask { app: "/a".to_owned(), task: "t.1".to_owned() };
        assert_eq!(Route::of("/v2/apps/a/tasks/t.1"), Some(task));
        let version = Route::Version { app: "/a".to_owned(), version: "2026-01-01T00:00:00.000Z".to_owned() };
        assert_eq!(Route::of("/v2/apps/a/versions/2026-01-01T00%3A00%3A00.000Z"), Some(version));
        assert_eq!(Route::of("/v2/apps/g/*"), Some(Route::GroupApps("/g".to_owned())));
        assert_eq!(Route::of("/v2/apps/*"), Some(Route::GroupApps("/".to_owned())));
        assert_eq!(Route::of("/v2/queue//a/b/delay"), Some(Route::QueueDelay("/a/b".to_owned())));
        assert_eq!(Route::of("/v2/groups"), Some(Route::Group("/".to_owned())));
        assert_eq!(Route::of("/v2/apps/tasks"), Some(Route::App("/tasks".to_owned())));
    }

    #[test]
    fn other_paths_are_unknown() {
        assert_eq!(Route::of("/"), Some(Route::Root));
        for path in ["/ui/", "/v2", "/v2/nosuch", "/v3/apps", "/v2/deployments/a/b", "/v2/queue/delay"] {
            assert_eq!(Route::of(path), None, "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_path_is_read(path in "(/|[a-z%*.2fF])*") {
            let _ = Route::of(&path).map(|route| route.template());
        }
    }
}

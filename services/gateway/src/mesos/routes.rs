//! Paths of the Mesos API.

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Scheduler,
    Operator,
    State,
    StateSummary,
    Slaves,
    Frameworks,
    Tasks,
    Roles,
    Metrics,
    Health,
    Version,
    Flags,
    Redirect,
    SystemStats,
    Teardown,
}

/// Each route and its path below `/` and `/master`.
const ROUTES: [(&str, Route); 15] = [
    ("/api/v1/scheduler", Route::Scheduler),
    ("/api/v1", Route::Operator),
    ("/state", Route::State),
    ("/state-summary", Route::StateSummary),
    ("/slaves", Route::Slaves),
    ("/frameworks", Route::Frameworks),
    ("/tasks", Route::Tasks),
    ("/roles", Route::Roles),
    ("/metrics/snapshot", Route::Metrics),
    ("/health", Route::Health),
    ("/version", Route::Version),
    ("/flags", Route::Flags),
    ("/redirect", Route::Redirect),
    ("/system/stats.json", Route::SystemStats),
    ("/teardown", Route::Teardown),
];

impl Route {
    /// The route of a path; a trailing slash is allowed.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = path.strip_prefix("/master").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        let path = path.strip_suffix('/').unwrap_or(path);
        ROUTES.iter().find(|(known, _)| *known == path).map(|(_, route)| *route)
    }

    /// Its path, for the names of spans.
    pub(super) fn template(self) -> &'static str {
        ROUTES.iter().find(|(_, route)| *route == self).map_or("unknown", |(path, _)| path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_answers_bare_and_under_master() {
        for (path, route) in ROUTES {
            assert_eq!(Route::of(path), Some(route));
            assert_eq!(Route::of(&format!("/master{path}")), Some(route));
            assert_eq!(route.template(), path);
        }
        for unknown in ["/", "/master", "/nosuch", "/state.json", "/masterstate", "/redirect/x", "//state"] {
            assert_eq!(Route::of(unknown), None, "{unknown}");
        }
    }
}

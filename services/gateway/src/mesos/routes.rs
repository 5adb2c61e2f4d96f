//! Paths of the Mesos API, and the methods they take.

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Route {
    Scheduler,
    Operator,
    Explain,
    State,
    StateSummary,
    Slaves,
    Frameworks,
    Tasks,
    Roles,
    Quota,
    Weights,
    Reserve,
    Unreserve,
    CreateVolumes,
    DestroyVolumes,
    Teardown,
    MaintenanceStatus,
    MaintenanceSchedule,
    MachineDown,
    MachineUp,
    Metrics,
    Prometheus,
    Health,
    Version,
    Flags,
    Redirect,
    SystemStats,
    LoggingToggle,
    FilesBrowse,
    FilesRead,
    FilesDownload,
    FilesDebug,
    OfferConstraints,
    Registry,
    ProfilerStart,
    ProfilerStop,
    Processes,
    Help,
}

/// Each route and its path below `/` and `/master`.
const ROUTES: [(&str, Route); 38] = [
    ("/api/v1/scheduler", Route::Scheduler),
    ("/api/v1", Route::Operator),
    ("/api/meshos/v1/explain", Route::Explain),
    ("/state", Route::State),
    ("/state-summary", Route::StateSummary),
    ("/slaves", Route::Slaves),
    ("/frameworks", Route::Frameworks),
    ("/tasks", Route::Tasks),
    ("/roles", Route::Roles),
    ("/quota", Route::Quota),
    ("/weights", Route::Weights),
    ("/reserve", Route::Reserve),
    ("/unreserve", Route::Unreserve),
    ("/create-volumes", Route::CreateVolumes),
    ("/destroy-volumes", Route::DestroyVolumes),
    ("/teardown", Route::Teardown),
    ("/maintenance/status", Route::MaintenanceStatus),
    ("/maintenance/schedule", Route::MaintenanceSchedule),
    ("/machine/down", Route::MachineDown),
    ("/machine/up", Route::MachineUp),
    ("/metrics/snapshot", Route::Metrics),
    ("/metrics", Route::Prometheus),
    ("/health", Route::Health),
    ("/version", Route::Version),
    ("/flags", Route::Flags),
    ("/redirect", Route::Redirect),
    ("/system/stats.json", Route::SystemStats),
    ("/logging/toggle", Route::LoggingToggle),
    ("/files/browse", Route::FilesBrowse),
    ("/files/read", Route::FilesRead),
    ("/files/download", Route::FilesDownload),
    ("/files/debug", Route::FilesDebug),
    ("/allocator/offer_constraints_debug", Route::OfferConstraints),
    ("/registrar(1)/registry", Route::Registry),
    ("/profiler/start", Route::ProfilerStart),
    ("/profiler/stop", Route::ProfilerStop),
    ("/__processes__", Route::Processes),
    ("/help", Route::Help),
];

impl Route {
    /// The route of a path. As in Mesos, what follows an endpoint's path is the endpoint's too: some clients post
    /// to `/api/v1/operator`.
    pub(super) fn of(path: &str) -> Option<Self> {
        let path = below_master(path);
        let mut known = path;
        loop {
            if let Some((_, route)) = ROUTES.iter().find(|(path, _)| *path == known) {
                return (path == known || path == format!("{known}/") || route.takes_more())
                    .then_some(*route);
            }
            known = &known[..known.rfind('/')?];
        }
    }

    /// Whether longer paths are its own too.
    fn takes_more(self) -> bool {
        !matches!(self, Self::Redirect | Self::Prometheus)
    }

    /// The role in `/quota/<role>`, still percent-encoded; it may contain slashes.
    pub(super) fn quota_role(path: &str) -> Option<&str> {
        below_master(path).strip_prefix("/quota/").filter(|role| !role.is_empty())
    }

    /// What follows `/help`.
    pub(super) fn help_topic(path: &str) -> &str {
        below_master(path).strip_prefix("/help").unwrap_or_default()
    }

    /// Its path, for the names of spans.
    pub(super) fn template(self) -> &'static str {
        ROUTES.iter().find(|(_, route)| *route == self).map_or("unknown", |(path, _)| path)
    }

    /// All paths with their routes.
    pub(super) fn all() -> impl Iterator<Item = (&'static str, Self)> {
        ROUTES.iter().copied()
    }

    /// The methods it takes, in the order in which Mesos names them; none where Mesos does not look.
    pub(super) fn methods(self) -> &'static [&'static str] {
        match self {
            Self::Teardown
            | Self::Reserve
            | Self::Unreserve
            | Self::CreateVolumes
            | Self::DestroyVolumes
            | Self::MachineDown
            | Self::MachineUp => &["POST"],
            Self::Quota => &["GET", "POST", "DELETE"],
            Self::Weights => &["GET", "PUT"],
            Self::MaintenanceStatus | Self::Explain => &["GET"],
            Self::MaintenanceSchedule => &["GET", "POST"],
            _ => &[],
        }
    }
}

fn below_master(path: &str) -> &str {
    path.strip_prefix("/master").filter(|rest| rest.starts_with('/')).unwrap_or(path)
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
        for unknown in [
            "/",
            "/master",
            "/nosuch",
            "/state.json",
            "/masterstate",
            "/redirect/x",
            "//state",
            "/metrics/x",
            "",
        ] {
            assert_eq!(Route::of(unknown), None, "{unknown}");
        }
        assert_eq!(Route::of("/master/quota/a/b"), Some(Route::Quota));
        assert_eq!(Route::quota_role("/master/quota/a/b"), Some("a/b"));
        assert_eq!(Route::quota_role("/quota/"), None);
        assert_eq!(Route::of("/api/v1/operator"), Some(Route::Operator));
        assert_eq!(Route::of("/state/"), Some(Route::State));
        assert_eq!(Route::of("/help/master/state"), Some(Route::Help));
        assert_eq!(Route::help_topic("/help/master/state"), "/master/state");
    }
}

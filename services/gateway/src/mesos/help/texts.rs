//! What `/help/<process>/<endpoint>` says of each endpoint.

use super::super::routes::Route;

/// An endpoint, what it is for in a line, and how it is used.
type Text = (Route, &'static str, &'static str);

/// Summary and description of an endpoint.
pub(super) fn of(route: Route) -> (&'static str, &'static str) {
    let found = READS.iter().chain(&CHANGES).chain(&PROCESS).find(|(known, ..)| *known == route);
    found.map_or(("", ""), |(_, summary, description)| (summary, description))
}

const READS: [Text; 11] = [
    (
        Route::State,
        "Information about state of master.",
        "Returns 200 OK with the state of the cluster: its agents, frameworks, tasks and offers.",
    ),
    (
        Route::StateSummary,
        "Summary of agents, tasks, and registered frameworks in cluster.",
        "Returns 200 OK with agents and frameworks, and the numbers of their tasks by state.",
    ),
    (
        Route::Slaves,
        "Information about agents.",
        "Returns 200 OK with the agents that are registered.\n\nQuery parameters:\n\n\
         >        slave_id=VALUE       The id of the agent to show.",
    ),
    (
        Route::Frameworks,
        "Exposes the frameworks info.",
        "Returns 200 OK with the frameworks that are there and those that were.\n\nQuery parameters:\n\n\
         >        framework_id=VALUE   The id of the framework to show.",
    ),
    (
        Route::Tasks,
        "Lists tasks from all active frameworks.",
        "Lists known tasks by the time of their first status.\n\nQuery parameters:\n\n\
         >        limit=VALUE          Maximum number of tasks returned (default is 100).\n\
         >        offset=VALUE         Starts task list at offset.\n\
         >        order=(asc|desc)     Ascending or descending sort order (default is descending).\n\
         >        framework_id=VALUE   Only tasks of this framework.\n\
         >        task_id=VALUE        Only tasks of this id.",
    ),
    (
        Route::Roles,
        "Information about roles.",
        "Returns 200 OK with each role that is in use or configured: weight, quota, resources and frameworks.",
    ),
    (
        Route::MaintenanceStatus,
        "Retrieves the maintenance status of the cluster.",
        "Returns 200 OK with the machines that are drained or down.",
    ),
    (
        Route::OfferConstraints,
        "Returns debug information about offer constraints.",
        "Returns 200 OK with the suppressed roles of each framework, and the agents that its constraints exclude.",
    ),
    (
        Route::Registry,
        "Returns the current contents of the Registry in JSON.",
        "Returns 200 OK with what is durable: agents, weights and quota.",
    ),
    (
        Route::Explain,
        "Why a framework or a role got no offers.",
        "Returns 200 OK with the numbers of agents that were passed over, by reason.\n\nQuery parameters:\n\n\
         >        framework=VALUE      The id of a framework,\n>        role=VALUE           or a role.",
    ),
    (
        Route::Redirect,
        "Redirects to the leading Master.",
        "Returns 307 TEMPORARY REDIRECT to the leading master.",
    ),
];

const CHANGES: [Text; 12] = [
    (
        Route::Scheduler,
        "Endpoint for schedulers to make calls against the master.",
        "Returns 202 ACCEPTED if the call was accepted, and 200 OK with a stream of events for SUBSCRIBE.\n\nEvery \
         call but SUBSCRIBE carries the header `Mesos-Stream-Id` of its framework's stream.",
    ),
    (
        Route::Operator,
        "Endpoint for API calls against the master.",
        "Returns 200 OK with the call's response, and 202 ACCEPTED for calls that change resources of an agent.\n\n\
         SUBSCRIBE opens a stream of events.",
    ),
    (
        Route::Quota,
        "Gets or updates quota for roles.",
        "GET returns 200 OK with the quota of all roles. POST sets the quota of a role and returns 200 OK, 400 BAD \
         REQUEST if it has one, or 409 CONFLICT if the cluster cannot guarantee it. DELETE of `/quota/<role>` \
         removes it.",
    ),
    (
        Route::Weights,
        "Updates weights for the specified roles.",
        "GET returns 200 OK with the weights that are set. PUT takes a JSON array,\n\
         `[{\"role\": \"a\", \"weight\": 2.0}]`, and returns 200 OK when they are in force.",
    ),
    (
        Route::Reserve,
        "Reserve resources dynamically on a specific agent.",
        "Returns 202 ACCEPTED if the resources are reserved here; the agent follows. Returns 400 BAD REQUEST for \
         wrong fields, and 409 CONFLICT if the resources are in use.\n\nFields of the form:\n\n\
         >        slaveId=VALUE        The id of the agent.\n\
         >        resources=VALUE      A JSON array of resources with their reservations.\n\
         >        source=VALUE         What they were before, when a reservation is changed.",
    ),
    (
        Route::Unreserve,
        "Unreserve resources dynamically on a specific agent.",
        "Returns 202 ACCEPTED if the resources are unreserved here; the agent follows. Returns 400 BAD REQUEST for \
         wrong fields, and 409 CONFLICT if the resources are in use.\n\nFields of the form:\n\n\
         >        slaveId=VALUE        The id of the agent.\n\
         >        resources=VALUE      A JSON array of resources with their reservations.",
    ),
    (
        Route::CreateVolumes,
        "Create persistent volumes on reserved resources.",
        "Returns 202 ACCEPTED if the volumes are made here; the agent follows. Returns 400 BAD REQUEST for wrong \
         fields, and 409 CONFLICT if the resources are in use.\n\nFields of the form:\n\n\
         >        slaveId=VALUE        The id of the agent.\n\
         >        volumes=VALUE        A JSON array of disk resources with their volumes.",
    ),
    (
        Route::DestroyVolumes,
        "Destroy persistent volumes.",
        "Returns 202 ACCEPTED if the volumes are gone here; the agent follows. Returns 400 BAD REQUEST for wrong \
         fields, and 409 CONFLICT if a volume is in use.\n\nFields of the form:\n\n\
         >        slaveId=VALUE        The id of the agent.\n\
         >        volumes=VALUE        A JSON array of disk resources with their volumes.",
    ),
    (
        Route::Teardown,
        "Tears down a running framework by shutting down all tasks/executors and removing the framework.",
        "Returns 200 OK if the framework is removed, and 400 BAD REQUEST if it is not known.\n\nField of the \
         form:\n\n>        frameworkId=VALUE    The id of the framework.",
    ),
    (
        Route::MaintenanceSchedule,
        "Returns or updates the cluster's maintenance schedule.",
        "GET returns 200 OK with the schedule; POST replaces it by that of the body.",
    ),
    (
        Route::MachineDown,
        "Brings a set of machines down.",
        "Takes a JSON array of machines: `[{\"hostname\": \"h\", \"ip\": \"1.2.3.4\"}]`.",
    ),
    (
        Route::MachineUp,
        "Brings a set of machines back up.",
        "Takes a JSON array of machines: `[{\"hostname\": \"h\", \"ip\": \"1.2.3.4\"}]`.",
    ),
];

const PROCESS: [Text; 15] = [
    (Route::Health, "Health status of the Master.", "Returns 200 OK iff the master can answer at all."),
    (Route::Version, "Provides version information.", "Returns 200 OK with the version of the API."),
    (Route::Flags, "Exposes the master's flag configuration.", "Returns 200 OK with settings by name."),
    (
        Route::Metrics,
        "Provides a snapshot of the current metrics.",
        "Returns 200 OK with numbers by name.\n\nQuery parameters:\n\n\
         >        timeout=VALUE        Longest wait for those that others count, such as `5secs`.",
    ),
    (
        Route::Prometheus,
        "The metrics as Prometheus reads them.",
        "Returns 200 OK with the same numbers, their names prefixed by `mesos_`, and those of the gateway itself.",
    ),
    (Route::SystemStats, "Shows local system metrics.", "Returns 200 OK with load, processors and memory."),
    (
        Route::LoggingToggle,
        "Sets the logging verbosity level for a specified duration.",
        "Without parameters returns 200 OK with the level.\n\nQuery parameters:\n\n\
         >        level=VALUE          Verbosity level (e.g., 0, 1, 2, 3).\n\
         >        duration=VALUE       Duration to keep it (e.g., 10secs, 15mins).",
    ),
    (
        Route::FilesBrowse,
        "Returns a file listing for a directory.",
        "Query parameters:\n\n>        path=VALUE           The path of the directory to browse.",
    ),
    (
        Route::FilesRead,
        "Reads data from a file.",
        "Query parameters:\n\n>        path=VALUE           The path of the file.\n\
         >        offset=VALUE         Where to begin; -1 asks for the size.\n\
         >        length=VALUE         Bytes to read.",
    ),
    (
        Route::FilesDownload,
        "Returns the raw file contents for a given path.",
        "Query parameters:\n\n>        path=VALUE           The path of the file.",
    ),
    (
        Route::FilesDebug,
        "Returns the internal virtual path mapping.",
        "Returns 200 OK with paths by their names.",
    ),
    (
        Route::ProfilerStart,
        "Starts profiling.",
        "Returns 400 Bad Request: there is no profiler in this process. `perf` can be attached to it from outside.",
    ),
    (
        Route::ProfilerStop,
        "Stops profiling.",
        "Returns 400 Bad Request: there is no profiler in this process.",
    ),
    (
        Route::Processes,
        "Actors of this process, with the messages that wait for them.",
        "Returns 200 OK with an empty list: there are none here.",
    ),
    (
        Route::Help,
        "This text.",
        "`/help` lists processes, `/help/<process>` its endpoints.\n\nQuery parameters:\n\n\
         >        format=json          The same as JSON.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_endpoint_has_a_text() {
        for (path, route) in Route::all() {
            let (summary, description) = of(route);
            assert!(!summary.is_empty() && !description.is_empty(), "{path}");
        }
    }
}

//! The environment is checked as strictly as the flags: a typo must stop the start, and a variable of the
//! originals that means nothing here is named once.

use meshos_mesh::config::unknown_variables;

/// Prefixes of variables that are settings of ours.
const PREFIXES: [&str; 3] = ["MESHOS_", "MESOS_", "MARATHON_"];

/// Settings of Mesos and Marathon that have no meaning here: what they configured does not exist (ZooKeeper,
/// the replicated log, libprocess, launcher helpers).
const MEANINGLESS: &[&str] = &[
    "MARATHON_DISABLE_HA",
    "MARATHON_HA",
    "MARATHON_LEADER_ELECTION_BACKEND",
    "MARATHON_MASTER",
    "MARATHON_STORE_CACHE",
    "MARATHON_ZK",
    "MARATHON_ZK_COMPRESSION",
    "MARATHON_ZK_COMPRESSION_THRESHOLD",
    "MARATHON_ZK_CONNECTION_TIMEOUT",
    "MARATHON_ZK_MAX_NODE_SIZE",
    "MARATHON_ZK_SESSION_TIMEOUT",
    "MARATHON_ZK_TIMEOUT",
    "MESOS_AGENT_SUBSYSTEMS",
    "MESOS_ALLOCATOR",
    "MESOS_AUTHENTICATEE",
    "MESOS_AUTHENTICATION_BACKOFF_FACTOR",
    "MESOS_AUTHENTICATION_TIMEOUT_MAX",
    "MESOS_AUTHENTICATION_TIMEOUT_MIN",
    "MESOS_AUTHENTICATION_V0_TIMEOUT",
    "MESOS_CGROUPS_CPU_ENABLE_PIDS_AND_TIDS_COUNT",
    "MESOS_CGROUPS_DESTROY_TIMEOUT",
    "MESOS_CONTAINER_LOGGER",
    "MESOS_DOCKER",
    "MESOS_DOCKER_MESOS_IMAGE",
    "MESOS_HADOOP_HOME",
    "MESOS_INITIALIZE_DRIVER_LOGGING",
    "MESOS_LAUNCHER",
    "MESOS_LAUNCHER_DIR",
    "MESOS_LOGBUFSECS",
    "MESOS_LOGGING_LEVEL",
    "MESOS_LOG_AUTO_INITIALIZE",
    "MESOS_MASTER",
    "MESOS_MASTER_CONTENDER",
    "MESOS_MASTER_DETECTOR",
    "MESOS_MEMORY_PROFILING",
    "MESOS_NATIVE_JAVA_LIBRARY",
    "MESOS_NATIVE_LIBRARY",
    "MESOS_OFFER_CONSTRAINTS_RE2_MAX_MEM",
    "MESOS_OFFER_CONSTRAINTS_RE2_MAX_PROGRAM_SIZE",
    "MESOS_OVERSUBSCRIBED_RESOURCES_INTERVAL",
    "MESOS_PERF_DURATION",
    "MESOS_PERF_EVENTS",
    "MESOS_PERF_INTERVAL",
    "MESOS_QUIET",
    "MESOS_QUORUM",
    "MESOS_RECOVERY_AGENT_REMOVAL_LIMIT",
    "MESOS_REGISTRATION_BACKOFF_FACTOR",
    "MESOS_REGISTRY",
    "MESOS_REGISTRY_FETCH_TIMEOUT",
    "MESOS_REGISTRY_STORE_TIMEOUT",
    "MESOS_REGISTRY_STRICT",
    "MESOS_REVOCABLE_CPU_LOW_PRIORITY",
    "MESOS_RUNTIME_DIR",
    "MESOS_SYSTEMD_ENABLE_SUPPORT",
    "MESOS_SYSTEMD_RUNTIME_DIRECTORY",
    "MESOS_WEBUI_DIR",
    "MESOS_ZK",
    "MESOS_ZK_SESSION_TIMEOUT",
];

/// What a Mesos agent or Marathon gives to the tasks that it starts: meshos may itself be such a task.
const OF_TASKS: &[&str] = &[
    "MARATHON_SINGLE_INSTANCE_APP",
    "MESOS_AGENT_ENDPOINT",
    "MESOS_ALLOCATION_ROLE",
    "MESOS_CHECKPOINT",
    "MESOS_CONTAINER_IP",
    "MESOS_CONTAINER_NAME",
    "MESOS_DIRECTORY",
    "MESOS_EXECUTOR_AUTHENTICATION_TOKEN",
    "MESOS_EXECUTOR_ID",
    "MESOS_FRAMEWORK_ID",
    "MESOS_HTTP_COMMAND_EXECUTOR",
    "MESOS_SANDBOX",
    "MESOS_SLAVE_ID",
    "MESOS_SLAVE_PID",
    "MESOS_SUBSCRIPTION_BACKOFF_MAX",
    "MESOS_TASK_ID",
];

/// What the check found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Findings {
    pub(crate) unknown: Vec<String>,
    pub(crate) meaningless: Vec<String>,
}

/// Looks at the names of all variables that are set. `known` are the variables that flags read.
pub(crate) fn check(variables: impl IntoIterator<Item = String>, known: &[String]) -> Findings {
    let variables: Vec<String> = variables.into_iter().collect();
    let is_meaningless = |name: &str| MEANINGLESS.contains(&name);
    let mut meaningless: Vec<String> =
        variables.iter().filter(|name| is_meaningless(name)).cloned().collect();
    meaningless.sort();
    let unknown = unknown_variables(variables, &PREFIXES, |name| {
        is_meaningless(name)
            || OF_TASKS.contains(&name)
            || name.starts_with("MARATHON_APP_")
            || name.starts_with("MESHOS_TEST_")
            || known.iter().any(|known| known == name)
    });
    Findings { unknown, meaningless }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typos_are_found_and_settings_without_meaning_are_named() {
        let set =
            ["MESOS_ZK", "MESOS_WORK_DIR", "MESOS_WROK_DIR", "MESOS_TASK_ID", "MARATHON_APP_ID", "HOME"];
        let found = check(set.map(String::from), &["MESOS_WORK_DIR".to_owned()]);
        assert_eq!(found.unknown, ["MESOS_WROK_DIR"]);
        assert_eq!(found.meaningless, ["MESOS_ZK"]);
    }
}

//! The processes of tasks inside the agents' containers.

use std::collections::BTreeMap;

use crate::project::Project;

/// Prints `pid parent` of each process that carries the task id `$1` in its environment.
const LIST: &str = r#"
for dir in /proc/[0-9]*; do
    { tr '\0' '\n' <"$dir/environ" | grep -qxF "MESOS_TASK_ID=$1"; } 2>/dev/null || continue
    echo "${dir#/proc/} $(sed -n 's/^PPid:[[:space:]]*//p' "$dir/status" 2>/dev/null)"
done
exit 0"#;

/// Users that tasks run as. Only the same user sees a process's environment, and a container's root is no exception.
const USERS: [&str; 2] = ["root", "meshos"];

/// Process id, as the agent's container numbers it, of the first process of a task; its children do not count.
pub(crate) fn main_pid(project: &Project, agent: &str, task_id: &str) -> Option<u32> {
    let mut processes = BTreeMap::new();
    for user in USERS {
        let listed = project.compose(&["exec", "-T", "-u", user, agent, "sh", "-c", LIST, "sh", task_id]);
        processes.extend(listed.lines().filter_map(|line| {
            let (pid, parent) = line.split_once(' ')?;
            Some((pid.parse::<u32>().ok()?, parent.trim().parse::<u32>().ok()?))
        }));
    }
    processes.iter().find(|(_, parent)| !processes.contains_key(parent)).map(|(pid, _)| *pid)
}

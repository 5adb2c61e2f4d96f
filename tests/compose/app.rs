//! One app, as its users see it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;

use crate::{
    http::{Answer, get, send},
    processes::main_pid,
    project::Project,
    wait::wait_until,
};

/// A running task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Task {
    /// Name of the agent, which is its service in `compose.yaml` too.
    pub(crate) host: String,
    /// Process id inside the agent's container.
    pub(crate) pid: u32,
}

/// Running tasks by id.
pub(crate) type Tasks = BTreeMap<String, Task>;

/// An app of a cluster.
pub(crate) struct App<'a> {
    project: &'a Project,
    id: &'a str,
}

impl<'a> App<'a> {
    pub(crate) fn new(project: &'a Project, id: &'a str) -> Self {
        Self { project, id }
    }

    pub(crate) fn id(&self) -> &str {
        self.id
    }

    pub(crate) fn marathon(&self) -> &str {
        &self.project.marathon
    }

    /// `GET /v2/apps/{id}`, which always has to work.
    pub(crate) fn get(&self) -> Value {
        let answer = get(self.marathon(), &format!("/v2/apps/{}", self.id)).expect("the app is served");
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    }

    /// `PUT /v2/apps/{id}`, repeated while the API says 503 (a leader is being replaced) or 409 (the last change is
    /// still being carried out).
    pub(crate) fn put(&self, change: &Value) -> Answer {
        wait_until(&format!("PUT {change} is taken"), Duration::from_secs(60), || {
            let answer = send(self.marathon(), "PUT", &format!("/v2/apps/{}", self.id), change).ok()?;
            (answer.status != 503 && answer.status != 409).then_some(answer)
        })
    }

    /// The tasks that the API shows as running and that have a process.
    pub(crate) fn running_tasks(&self) -> Tasks {
        let app = self.get();
        let tasks = app["app"]["tasks"].as_array().into_iter().flatten();
        tasks
            .filter(|task| task["state"] == "TASK_RUNNING")
            .filter_map(|task| {
                let (id, host) = (task["id"].as_str()?, task["host"].as_str()?);
                let pid = main_pid(self.project, host, id)?;
                Some((id.to_owned(), Task { host: host.to_owned(), pid }))
            })
            .collect()
    }

    /// Waits until the running tasks are as `wanted`; returns them.
    pub(crate) fn wait_for_tasks(&self, what: &str, wanted: impl Fn(&Tasks) -> bool) -> Tasks {
        let mut last = Tasks::new();
        let limit = Duration::from_secs(90);
        wait_until(what, limit, || {
            last = self.running_tasks();
            wanted(&last).then(|| last.clone())
        })
    }

    /// Waits until no deployment runs.
    pub(crate) fn wait_for_deployments(&self) {
        wait_until("all deployments have ended", Duration::from_secs(90), || {
            (get(self.marathon(), "/v2/deployments").ok()?.json() == Value::Array(Vec::new())).then_some(())
        });
    }

    /// Waits until each task has written `text`, read through its agent's file endpoints.
    pub(crate) fn wait_for_output(&self, tasks: &Tasks, text: &str) {
        for (id, task) in tasks {
            self.wait_for_text(id, &task.host, text);
        }
    }

    /// The same for one task.
    pub(crate) fn wait_for_text(&self, id: &str, host: &str, text: &str) {
        let agent = self.project.address(host, 5051);
        wait_until(&format!("{id} writes {text:?}"), Duration::from_secs(30), || {
            let sandbox = sandbox(&agent, id)?;
            let listing = get(&agent, &format!("/files/browse?path={sandbox}")).ok()?.json();
            let files = listing.as_array()?;
            files.iter().find(|file| file["path"] == format!("{sandbox}/stdout"))?;
            let read = get(&agent, &format!("/files/read?path={sandbox}/stdout&offset=0")).ok()?.json();
            read["data"].as_str()?.contains(text).then_some(())
        });
    }
}

/// Directory of a task of an agent, found as every web page finds it.
fn sandbox(agent: &str, task_id: &str) -> Option<String> {
    let state = get(agent, "/state").ok()?.json();
    let mut executors =
        state["frameworks"].as_array()?.iter().flat_map(|framework| framework["executors"].as_array());
    let executor =
        executors.find_map(|executors| executors.iter().find(|executor| executor["id"] == task_id))?;
    executor["directory"].as_str().map(str::to_owned)
}

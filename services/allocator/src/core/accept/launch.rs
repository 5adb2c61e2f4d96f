//! LAUNCH and LAUNCH_GROUP.

use std::sync::Arc;

use meshos_proto::{
    meshos::allocator::v1::{Launch, allocator_message::Body},
    mesos::v1::{
        self as pb, TaskState,
        offer::{Operation, operation},
        task_status::Reason,
    },
};
use meshos_types::{
    Format, Resources, TaskId,
    secrets::{check_without_secrets, without_secrets},
};

use super::Taken;
use crate::core::{
    Core,
    account::Place,
    events::Verdict,
    ledger::Entry,
    record::Record,
    validate::{self, Checked, CheckedGroup, Given, TaskScene},
};

/// What an ACCEPT launches.
#[derive(Debug, Default)]
pub(super) struct Launches {
    tasks: Vec<pb::TaskInfo>,
    groups: Vec<(pb::ExecutorInfo, Vec<pb::TaskInfo>)>,
}

impl Launches {
    pub(super) fn is_empty(&self) -> bool {
        self.tasks.is_empty() && self.groups.is_empty()
    }
}

/// Reason and text of a refusal.
type Fault = (Reason, String);

impl Core {
    pub(super) fn launch(&mut self, taken: &mut Taken, operation: Operation, launches: &mut Launches) {
        if let Some(fault) = id_fault(&operation) {
            return self.fail_launch(taken, operation, (Reason::TaskInvalid, fault));
        }
        for mut task in operation.launch.unwrap_or_default().task_infos {
            match self.check_task(taken, &task) {
                Ok(Checked { resources, executor }) => {
                    taken.take(&resources);
                    if let Some(given) = executor {
                        task.executor = Some(self.enter_given(taken, given));
                    }
                    launches.tasks.push(self.enter_launched(&taken.place, task, resources));
                }
                Err((reason, message)) => {
                    let verdict = Verdict { state: TaskState::TaskError, reason, message };
                    self.refuse_task(&taken.place.framework, &task, &verdict);
                }
            }
        }
    }

    /// All tasks of the group, or none.
    pub(super) fn launch_group(
        &mut self,
        taken: &mut Taken,
        mut operation: Operation,
        launches: &mut Launches,
    ) {
        if let Some(fault) = id_fault(&operation) {
            return self.fail_launch(taken, operation, (Reason::TaskGroupInvalid, fault));
        }
        let checked = operation.launch_group.as_ref().map(|group| self.check_group(taken, group));
        let CheckedGroup { executor, resources } = match checked {
            Some(Ok(checked)) => checked,
            Some(Err(fault)) => return self.fail_launch(taken, operation, fault),
            None => return,
        };
        if resources.is_empty() {
            // A group of nobody starts no executor.
            return;
        }
        let tasks = operation.launch_group.take().map(|group| group.task_group.tasks).unwrap_or_default();
        let executor = self.enter_given(taken, executor);
        let mut launched = Vec::with_capacity(tasks.len());
        for (mut task, resources) in tasks.into_iter().zip(resources) {
            taken.take(&resources);
            task.executor = Some(executor.clone());
            launched.push(self.enter_launched(&taken.place, task, resources));
        }
        launches.groups.push((executor, launched));
    }

    fn fail_launch(&mut self, taken: &Taken, operation: Operation, (reason, message): Fault) {
        let verdict = Verdict { state: TaskState::TaskError, reason, message };
        self.fail_operation(&taken.place.framework, operation, &verdict);
    }

    fn scene<'a>(&'a self, taken: &'a Taken) -> Result<TaskScene<'a>, String> {
        let Place { agent, framework: id, role } = &taken.place;
        let (Some(framework), Some(agent)) = (self.frameworks.get(id), self.agents.get(agent)) else {
            return Err("Framework or agent is gone".to_owned());
        };
        let (executors, offered) = (&self.executors, &taken.rest);
        Ok(TaskScene { id, framework, agent, executors, role, offered })
    }

    fn check_task(&self, taken: &Taken, task: &pb::TaskInfo) -> Result<Checked, Fault> {
        validate::submitter(task, self.config.root_submissions)
            .map_err(|message| (Reason::TaskUnauthorized, message))?;
        let checked = self.scene(taken).and_then(|scene| validate::task(&scene, task));
        checked.map_err(|message| (Reason::TaskInvalid, message))
    }

    fn check_group(&self, taken: &Taken, group: &operation::LaunchGroup) -> Result<CheckedGroup, Fault> {
        let tasks = &group.task_group.tasks;
        for task in tasks {
            validate::submitter(task, self.config.root_submissions)
                .map_err(|message| (Reason::TaskGroupUnauthorized, message))?;
        }
        let checked = self.scene(taken).and_then(|scene| validate::group(&scene, tasks, &group.executor));
        checked.map_err(|message| (Reason::TaskGroupInvalid, message))
    }

    /// The executor of a launch is the leader's from now on, if it is new.
    fn enter_given(&mut self, taken: &mut Taken, given: Given) -> pb::ExecutorInfo {
        if let Some(resources) = given.takes {
            taken.take(&resources);
            self.enter_executor(taken.place.clone(), given.info.clone(), resources);
        }
        given.info
    }

    /// The task is the leader's from now on. Returns it as the agent gets it.
    fn enter_launched(
        &mut self,
        place: &Place,
        mut task: pb::TaskInfo,
        resources: Resources,
    ) -> pb::TaskInfo {
        task.resources = resources.allocate(&place.role).to_proto(Format::PostRefinement);
        let (agent, role) = (place.agent.clone(), place.role.clone());
        let record = Arc::new(Record::new(&Self::record_of(place, &task), agent.clone()));
        let entry = Entry { task: record, agent, role, resources, holds: false };
        self.enter_task(&place.framework, TaskId::from(&task.task_id), entry);
        task
    }

    fn record_of(place: &Place, task: &pb::TaskInfo) -> pb::Task {
        let executor = task.executor.as_ref();
        let command = task.command.as_ref().or_else(|| executor?.command.as_ref());
        let user = command.and_then(|command| command.user.clone());
        pb::Task {
            name: task.name.clone(),
            task_id: task.task_id.clone(),
            framework_id: place.framework.to_proto(),
            executor_id: executor.map(|executor| executor.executor_id.clone()),
            agent_id: place.agent.to_proto(),
            state: TaskState::TaskStaging.into(),
            resources: task.resources.clone(),
            labels: task.labels.clone(),
            discovery: task.discovery.clone(),
            container: task.container.clone().map(without_secrets),
            health_check: task.health_check.clone().map(check_without_secrets),
            kill_policy: task.kill_policy,
            // That of the framework is not told here, as Mesos does not.
            user,
            limits: task.limits.clone(),
            ..pb::Task::default()
        }
    }

    /// Single tasks in one command, each group in one of its own.
    pub(super) fn send_launches(&mut self, place: &Place, launches: Launches, traceparent: &str) {
        if launches.is_empty() {
            return;
        }
        let Some(link) = self.agents.get(&place.agent).and_then(|agent| agent.link) else { return };
        let framework = self.frameworks.get(&place.framework).map(|framework| framework.info.clone());
        let launch = |tasks, group_executor| {
            let (framework, traceparent) = (framework.clone(), traceparent.to_owned());
            Body::Launch(Launch { framework, tasks, traceparent, group_executor })
        };
        if !launches.tasks.is_empty() {
            self.command(link, launch(launches.tasks, None));
        }
        for (executor, tasks) in launches.groups {
            self.command(link, launch(tasks, Some(executor)));
        }
    }
}

/// Tasks are told of by their own updates: a launch has no id.
fn id_fault(operation: &Operation) -> Option<String> {
    let kind = operation.r#type().as_str_name();
    operation.id.is_some().then(|| format!("Operation {kind} must not have an 'id'"))
}

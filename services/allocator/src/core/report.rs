//! An agent links and reports everything it runs: how a new leader learns tasks, and how both sides agree again
//! after a break.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use meshos_proto::{
    meshos::{
        allocator::v1::{Kill, LinkAccepted, ShutdownFramework, TaskPlace, allocator_message::Body},
        registry::v1::AgentState,
    },
    mesos::v1::{self as pb, TaskState, task_status::Reason},
    packed::{self, Parts, Reregister},
};
use meshos_types::{AgentId, FrameworkId, Resources, TaskId, task_state::is_terminal};
use prost::Message;

use super::{
    Core, Effect, LinkId,
    agent::About,
    agents::report_id,
    constraints::fault_domain,
    events::{self, Verdict},
    interned::Held,
    ledger::Entry,
    record::Record,
    timers::Timer,
};

/// How long a link waits for the registry to show its agent.
const ADMISSION_MS: u64 = 5_000;

impl Core {
    /// A link was opened; it counts once the registry shows the agent as admitted.
    pub(super) fn agent_linked(&mut self, link: LinkId, report: Reregister) {
        let Some(id) = report_id(&report) else {
            return self.refuse_link(link, "Agent reports no id: it must register with the registry first");
        };
        if let Some(problem) = self.domain_problem(&report) {
            // It is not told: a new session with the registry, which a refusal leads to, would change nothing.
            tracing::warn!(agent_id = %id, problem, "agent is not taken");
            self.effects.push(Effect::CloseLink { link });
            return self.keep_out(&id);
        }
        match self.agents.get(&id) {
            Some(agent) if agent.state == AgentState::Gone => {
                self.refuse_link(link, "Agent has been marked gone");
            }
            Some(agent) if agent.is_admitted() => self.link_admitted(&id, link, report),
            _ => {
                self.waiting.insert(link, report);
                self.timers.set(self.now + ADMISSION_MS, Timer::Admission(link));
            }
        }
    }

    /// Why the agent's fault domain keeps it out (Mesos 1.9).
    fn domain_problem(&self, report: &Reregister) -> Option<&'static str> {
        let theirs = report.agent.as_ref().and_then(|info| fault_domain(info.domain.as_ref()));
        match (fault_domain(self.config.master.domain.as_ref()), theirs) {
            (_, None) if self.config.require_agent_domain => {
                Some("Agent has no fault domain, and --require_agent_domain is set: start it with --domain")
            }
            (None, Some(_)) => Some(
                "Agent has a fault domain, and the allocator has none: start the allocators with --domain, or the \
                 agent without",
            ),
            _ => None,
        }
    }

    fn link_admitted(&mut self, id: &AgentId, link: LinkId, report: Reregister) {
        let returned = self.adopt_agent(id, link, &report);
        self.command(link, Body::Accepted(LinkAccepted {}));
        let frameworks = self.adopt_frameworks(link, &report.frameworks);
        let mut reported = BTreeSet::new();
        for task in &report.tasks {
            let Some(task) = Parts::of(task) else {
                tracing::warn!(agent_id = %id, "agent reports a task that cannot be read");
                continue;
            };
            let of = frameworks.get(task.framework_id).cloned();
            let of = of.unwrap_or_else(|| FrameworkId::new(task.framework_id));
            if !self.frameworks.contains_key(&of) {
                continue;
            }
            let task_id = TaskId::new(task.task_id);
            reported.insert((of.clone(), task_id.clone()));
            self.adopt_task((&of, &task_id), id, &task, returned);
        }
        self.adopt_executors(id, report.executors);
        self.drop_unreported(id, &reported);
        self.adopt_operations(id, report.operations);
        self.resend_kills(id, link);
        if self.recovered.remove(id) {
            self.answer_late(id, returned);
        }
        self.touch_agent(id);
    }

    /// Takes over what the agent says of itself; whether its tasks had been declared unreachable.
    fn adopt_agent(&mut self, id: &AgentId, link: LinkId, report: &Reregister) -> bool {
        let total = match (report.total.is_empty(), &report.agent) {
            (true, Some(info)) => info.resources.clone(),
            _ => report.total.clone(),
        };
        let total = self.interned.list(total).resources.unwrap_or_else(|error| {
            tracing::warn!(agent_id = %id, error, "agent reports resources that are not valid");
            Resources::new()
        });
        let about = About::of_report(report, &mut self.interned);
        let now = self.now;
        let Some(agent) = self.agents.get_mut(id) else { return false };
        let old_link = agent.link.replace(link);
        let first = !agent.heard;
        agent.heard = true;
        agent.kept_out = false;
        let returned = std::mem::take(&mut agent.was_unreachable);
        if !first {
            agent.reregistered_at_ms = now;
        }
        let attributes_changed = agent.about.info.attributes != about.info.attributes;
        if *agent.about != about {
            agent.about = Arc::new(about);
        }
        if let Some(old) = old_link.filter(|old| *old != link) {
            self.links.remove(&old);
            self.effects.push(Effect::CloseLink { link: old });
        }
        self.links.insert(link, id.clone());
        // Offers were made of what the agent had before.
        self.rescind_of_agent(id);
        self.set_total(id, total);
        if attributes_changed {
            self.clear_filters_of_agent(id);
        }
        let (message, done) = match report.tasks.is_empty() && first {
            true => ("master/messages_register_slave", "master/slave_registrations"),
            false => ("master/messages_reregister_slave", "master/slave_reregistrations"),
        };
        self.counters.add(message, 1);
        self.counters.add(done, 1);
        self.note_free(id);
        returned
    }

    /// Takes over frameworks that are not known, and has removed ones shut down. Returns those that stay.
    fn adopt_frameworks(&mut self, link: LinkId, reported: &[Bytes]) -> BTreeSet<FrameworkId> {
        let mut staying = BTreeSet::new();
        for info in reported {
            let Some(id) = packed::framework_id(info).map(FrameworkId::new) else { continue };
            if self.removed.contains(&id) {
                let shutdown = ShutdownFramework { framework_id: Some(id.to_proto()) };
                self.command(link, Body::ShutdownFramework(shutdown));
                continue;
            }
            if !self.frameworks.contains_key(&id) {
                let Ok(info) = pb::FrameworkInfo::decode(info.clone()) else {
                    tracing::warn!(framework_id = %id, "agent reports a framework that cannot be read");
                    continue;
                };
                self.recover_framework(info);
            }
            staying.insert(id);
        }
        staying
    }

    /// Enters or corrects a reported task: the agent knows best.
    fn adopt_task(
        &mut self,
        (framework, task_id): (&FrameworkId, &TaskId),
        agent: &AgentId,
        task: &Parts<'_>,
        returned: bool,
    ) {
        let state = TaskState::try_from(task.state).unwrap_or_default();
        let live = self.frameworks.get(framework).and_then(|known| known.ledger.live.get(task_id));
        if live.is_some_and(|entry| entry.agent != *agent) {
            return self.end_double(framework, (agent, task_id), state);
        }
        // Whoever was told that it is lost or over must hear that it is not.
        let mut revived = returned;
        if live.is_some() {
            self.correct_task(framework, task_id, task);
        } else {
            // It was taken for lost, or its last acknowledgement has not reached the agent.
            revived |= self.forget_retired(framework, task_id) && !is_terminal(state);
            let Some(entry) = self.entry_of(framework, agent, task) else { return };
            self.enter_task(framework, task_id.clone(), entry);
        }
        if revived {
            let message = format!("Agent {agent} came back");
            let verdict = Verdict { state, reason: Reason::AgentReregistered, message };
            let status = events::status(task_id, Some(agent), &verdict, self.now);
            self.count_status(framework, &status);
            self.send(framework, events::update(status));
        }
    }

    /// While this agent was away its task was given up, and launched again elsewhere: that one stays.
    fn end_double(&mut self, framework: &FrameworkId, (agent, task): (&AgentId, &TaskId), state: TaskState) {
        tracing::warn!(agent_id = %agent, task_id = %task, framework_id = %framework, "a task of this id runs elsewhere");
        let link = self.agents.get(agent).and_then(|agent| agent.link);
        if let Some(link) = link.filter(|_| !is_terminal(state)) {
            let kill = Kill {
                framework_id: Some(framework.to_proto()),
                task_id: Some(task.to_proto()),
                kill_policy: None,
            };
            self.command(link, Body::Kill(kill));
        }
    }

    fn correct_task(&mut self, framework: &FrameworkId, task_id: &TaskId, reported: &Parts<'_>) {
        let known = self.frameworks.get(framework).and_then(|known| known.ledger.live.get(task_id));
        if known.is_some_and(|entry| entry.task.agrees(reported)) {
            return;
        }
        self.change_task(framework, task_id, |task| task.correct(reported));
    }

    fn entry_of(&mut self, framework: &FrameworkId, agent: &AgentId, task: &Parts<'_>) -> Option<Entry> {
        let known = self.frameworks.get(framework)?;
        let Held { resources, role } = self.interned.read(&task.resources).unwrap_or_else(|error| {
            // The task runs all the same: it is shown, and holds nothing.
            tracing::warn!(task_id = task.task_id, error, "task has resources that are not valid");
            Held::default()
        });
        let role = role.unwrap_or_else(|| known.default_role());
        let record = Arc::new(Record::reported(task, agent.clone()));
        Some(Entry { task: record, agent: agent.clone(), role, resources, holds: false })
    }

    /// Tasks that the agent does not know never reached it, or ended there for good.
    fn drop_unreported(&mut self, id: &AgentId, reported: &BTreeSet<(FrameworkId, TaskId)>) {
        let Some(agent) = self.agents.get(id) else { return };
        let missing: Vec<_> = agent.tasks.difference(reported).cloned().collect();
        for (framework, task) in missing {
            let Some(before) = self.live_state(&framework, &task) else { continue };
            if !is_terminal(before) {
                let Some(known) = self.frameworks.get(&framework) else { continue };
                let precise = match before {
                    TaskState::TaskStaging => TaskState::TaskDropped,
                    _ => TaskState::TaskGone,
                };
                let state = known.state_or_lost(precise);
                let message = format!("Task is unknown to agent {id}");
                let verdict = Verdict { state, reason: Reason::Reconciliation, message };
                self.judge_task(&framework, events::status(&task, Some(id), &verdict, self.now));
            }
            self.retire_task(&framework, &task, TaskPlace::Completed);
        }
    }

    fn resend_kills(&mut self, id: &AgentId, link: LinkId) {
        let Some(agent) = self.agents.get(id) else { return };
        for ((framework, task), kill_policy) in agent.kills.clone() {
            let (framework_id, task_id) = (Some(framework.to_proto()), Some(task.to_proto()));
            self.command(link, Body::Kill(Kill { framework_id, task_id, kill_policy }));
        }
    }

    /// A command for the agent at `link`.
    pub(super) fn command(&mut self, link: LinkId, command: Body) {
        self.effects.push(Effect::Command { link, command: Box::new(command) });
    }
}

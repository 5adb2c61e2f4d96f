//! What a leader does beside its state: answers, calls, checks.

use std::sync::Arc;

use meshos_proto::mesos::v1::scheduler::{Call, call};
use meshos_types::{TaskId, TaskName};
use tonic::Status;
use tracing::Span;

use super::Leading;
use crate::{
    core::{After, Input, Probe, ReadinessProbe, Reply},
    error::Refusal,
    service::{link::Sent, probe, spans},
};

impl Leading {
    /// Makes a health check beside the loop.
    pub(super) fn probe(&self, probe: Probe) {
        let (results, checks) = (self.probed.0.clone(), Arc::clone(&self.checks));
        let network = self.network.clone();
        self.env.tasks.spawn("app-scheduler-health-check", async move {
            let Ok(_room) = checks.acquire_owned().await else { return };
            let outcome = probe::run(network, &probe).await;
            // Nobody listens once the lead is lost.
            let _ = results.send(Input::Probed { probe: Box::new(probe), outcome }).await;
        });
    }

    /// As [`Self::probe`], for a readiness check.
    pub(super) fn readiness_probe(&self, probe: ReadinessProbe) {
        let (results, checks) = (self.probed.0.clone(), Arc::clone(&self.checks));
        let network = self.network.clone();
        self.env.tasks.spawn("app-scheduler-readiness-check", async move {
            let Ok(_room) = checks.acquire_owned().await else { return };
            let response = probe::readiness(network, &probe).await;
            // Nobody listens once the lead is lost.
            let _ = results.send(Input::ReadinessProbed { probe: Box::new(probe), response }).await;
        });
    }

    /// What waited for its records to be stored.
    pub(super) fn perform(&mut self, after: After) {
        match after {
            After::Call(call) => {
                let now = match leaving(&call) {
                    Some(instance) => self.farewells.hold(&instance, call),
                    None => Some(call),
                };
                self.send_all(now);
            }
            After::Launch { call, tasks } => self.send(call, spans::launch(&tasks)),
            After::Reply { token, reply } => {
                if let Some(answer) = self.answers.remove(&token) {
                    // A caller that has gone needs no answer.
                    let _ = answer.send(self.answered(reply));
                }
            }
        }
    }

    fn answered(&self, reply: Result<Reply, Refusal>) -> Result<Reply, Status> {
        self.metrics.answered(&reply);
        let mut reply = reply.map_err(|refusal| refusal.to_status())?;
        match &mut reply {
            Reply::Change(response) => response.revision = self.revision,
            Reply::Kill(response) => {
                response.revision = self.revision;
                if let Some(deployment) = &mut response.deployment {
                    deployment.revision = self.revision;
                }
            }
            Reply::Versions(_)
            | Reply::GroupVersions(_)
            | Reply::GroupVersion(_)
            | Reply::UnusedOffers(_) => {}
        }
        Ok(reply)
    }

    /// As [`Self::send`].
    pub(super) fn send_all(&mut self, calls: impl IntoIterator<Item = Call>) {
        for call in calls {
            self.send(call, Vec::new());
        }
    }

    /// Hands a call to the link. Without one it is left out: after the next subscription the core asks for the
    /// states of all tasks.
    pub(super) fn send(&mut self, call: Call, spans: Vec<Span>) {
        let Some(calls) = &self.calls else { return };
        self.metrics.called(&call);
        let acknowledge = call.r#type() == call::Type::Acknowledge;
        if !calls.send(Sent { call, spans }, acknowledge) {
            tracing::warn!("allocator does not take calls fast enough, subscribing again");
            self.calls = None;
            self.handle(Input::Disconnected);
        }
    }
}

/// The instance whose task the call kills.
fn leaving(call: &Call) -> Option<String> {
    let kill = call.kill.as_ref()?;
    let name = TaskName::of(&TaskId::new(kill.task_id.value.as_str()))?;
    Some(name.instance.as_str().to_owned())
}

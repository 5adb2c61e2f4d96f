//! Writes down what must survive before anything follows from it.

use tracing::error;

use super::Runner;
use crate::{
    checkpoint::{Change, Record},
    containerizer::ContainerSpec,
    core::{Effect, Input},
};

impl Runner {
    pub(super) fn apply(&mut self, effects: Vec<Effect>) {
        let rewritten = (self.unwritten.is_some() || self.checkpoint.is_large()) && self.rewrite();
        let mut records: Vec<Record> = Vec::new();
        let mut refused = Vec::new();
        for effect in effects {
            match effect {
                // The state that was written has it already.
                Effect::Record(_) if rewritten => {}
                Effect::Record(record) => records.push(*record),
                effect => {
                    self.write(&mut records);
                    match (effect, &self.unwritten) {
                        (Effect::Launch(spec), Some(error)) => refused.push(cannot_record(*spec, error)),
                        (effect, _) => self.carry_out(effect),
                    }
                }
            }
        }
        self.write(&mut records);
        // After the effects that came with the launch.
        for input in refused {
            self.input(input);
        }
    }

    /// Records are safe from the end of this process when this returns, unless it leaves a reason in `unwritten`.
    fn write(&mut self, records: &mut Vec<Record>) {
        let records = std::mem::take(records);
        // After a gap, records would mean something else.
        if records.is_empty() || self.unwritten.is_some() {
            return;
        }
        let lasting = records.iter().any(|record| matches!(record.change, Some(Change::Operation(_))));
        let written = self.checkpoint.append(&records);
        let written = if lasting { written.and_then(|()| self.checkpoint.sync()) } else { written };
        self.unwritten = complain(written);
    }

    /// Whether the whole state is in the checkpoint.
    fn rewrite(&mut self) -> bool {
        let failed = complain(self.checkpoint.rewrite(&self.core.records()));
        let rewritten = failed.is_none();
        // A checkpoint that was only to become shorter is still whole.
        if rewritten || self.unwritten.is_some() {
            self.unwritten = failed;
        }
        rewritten
    }
}

/// A task that a restart of the agent would know nothing of is not started.
fn cannot_record(spec: ContainerSpec, error: &str) -> Input {
    let reason = format!("the checkpoint cannot be written: {error}");
    Input::LaunchFailed { container_id: spec.container_id, reason }
}

/// The error's text.
fn complain(written: std::io::Result<()>) -> Option<String> {
    let error = written.err()?;
    error!(%error, "checkpoint cannot be written: a restart of the agent would forget what happens now");
    Some(error.to_string())
}

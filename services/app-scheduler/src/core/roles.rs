//! The roles that offers are wanted in: the default one, and those that groups insist on.

use meshos_proto::mesos::v1::scheduler::call;

use super::{Core, change::Batch};
use crate::framework;

impl Core {
    /// Tells the allocator of a role that no app had before. Called before anything asks for offers in it.
    pub(super) fn note_role(&mut self, role: &str) {
        if !role.is_empty() && self.roles.insert(role.to_owned()) {
            self.update_framework();
        }
    }

    /// Says which roles there are, if there is more than what SUBSCRIBE said.
    pub(super) fn update_framework(&mut self) {
        if !self.connected || self.roles.len() < 2 {
            return;
        }
        let info = framework::with_roles(&self.settings.args, self.framework_id.as_deref(), self.role_list());
        let mut call = self.call(call::Type::UpdateFramework);
        call.update_framework = Some(call::UpdateFramework { framework_info: info, ..Default::default() });
        self.out.now.push(call);
    }

    pub(super) fn role_list(&self) -> Vec<String> {
        self.roles.iter().cloned().collect()
    }

    pub(super) fn note_roles(&mut self, batch: &Batch) {
        for app in batch.edits.iter().filter_map(|edit| edit.new.as_ref()) {
            self.note_role(&app.role);
        }
    }
}

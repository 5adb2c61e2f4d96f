//! The roles that offers are wanted in: the default one, and those that groups insist on.

use meshos_proto::{meshos::apps::v1::Group, mesos::v1::scheduler::call};
use meshos_types::AppId;

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

    /// The role that the app's top-level group insists on. `group` finds the record of a group.
    pub(super) fn enforced_role<'a>(
        &self,
        app_id: &str,
        group: impl Fn(&str) -> Option<&'a Group>,
    ) -> Option<String> {
        let top = top_level_group(app_id)?;
        let insists =
            group(&format!("/{top}")).map_or_else(|| self.new_groups_insist(), |it| it.enforce_role);
        insists.then_some(top)
    }

    /// The record of a group that is made now.
    pub(super) fn new_group(&self, id: &AppId) -> Group {
        let enforce_role = self.new_groups_insist() && id.segments().count() == 1;
        Group { format: 1, id: id.as_str().to_owned(), enforce_role, ..Default::default() }
    }

    fn new_groups_insist(&self) -> bool {
        self.settings.args.new_group_enforce_role == "top"
    }

    pub(super) fn note_roles(&mut self, batch: &Batch) {
        for app in batch.edits.iter().filter_map(|edit| edit.new.as_ref()) {
            self.note_role(&app.role);
        }
    }
}

/// Name of the top-level group that the app is in, at any depth; none for one that is in the root.
pub(super) fn top_level_group(app_id: &str) -> Option<String> {
    let path = AppId::parse(app_id).ok()?;
    let mut segments = path.segments();
    let top = segments.next()?;
    segments.next().map(|_| top.to_owned())
}

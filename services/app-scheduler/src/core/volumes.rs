//! Which apps use which external volumes.

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{App, ExternalVolume, container_volume::Source};

use super::{Core, apps::Edit};
use crate::error::Refusal;

/// The volumes by name: the apps that use each of them, and whether they share it.
#[derive(Debug, Default)]
pub(super) struct VolumeUsers(BTreeMap<String, BTreeMap<String, bool>>);

impl VolumeUsers {
    pub(super) fn replace(&mut self, old: Option<&App>, new: Option<&App>) {
        for (app, volume) in old.into_iter().flat_map(|app| volumes(app).map(move |volume| (app, volume))) {
            if let Some(users) = self.0.get_mut(&volume.name) {
                users.remove(&app.id);
                if users.is_empty() {
                    self.0.remove(&volume.name);
                }
            }
        }
        for (app, volume) in new.into_iter().flat_map(|app| volumes(app).map(move |volume| (app, volume))) {
            self.0.entry(volume.name.clone()).or_default().insert(app.id.clone(), volume.shared);
        }
    }
}

fn volumes(app: &App) -> impl Iterator<Item = &ExternalVolume> {
    let all = app.container.iter().flat_map(|container| &container.volumes);
    all.filter_map(|volume| match &volume.source {
        Some(Source::External(external)) => Some(external),
        _ => None,
    })
}

impl Core {
    /// A volume that is not shared belongs to one app alone.
    pub(super) fn check_volumes(&self, edits: &[Edit]) -> Result<(), Refusal> {
        let edited: BTreeSet<&str> = edits.iter().map(|edit| edit.id.as_str()).collect();
        for app in edits.iter().filter_map(|edit| edit.new.as_ref()) {
            for volume in volumes(app) {
                let kept = self.volumes.0.get(&volume.name).into_iter().flatten();
                let kept = kept.filter(|(id, _)| !edited.contains(id.as_str()));
                let kept = kept.map(|(id, shared)| (id.as_str(), *shared));
                let new = edits.iter().filter_map(|edit| edit.new.as_ref()).flat_map(|other| {
                    let same = volumes(other).filter(|one| one.name == volume.name);
                    same.map(|one| (other.id.as_str(), one.shared))
                });
                let others =
                    kept.chain(new).filter(|(id, shared)| *id != app.id && !(volume.shared && *shared));
                let others: BTreeSet<&str> = others.map(|(id, _)| id).collect();
                if !others.is_empty() {
                    let others = others.into_iter().collect::<Vec<_>>().join(", ");
                    let text = format!(
                        "Volume name '{}' in {} conflicts with volume(s) of same name in app(s): {others}",
                        volume.name, app.id
                    );
                    return Err(Refusal::invalid("/", text));
                }
            }
        }
        Ok(())
    }
}

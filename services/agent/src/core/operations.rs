//! Operations on the agent's own resources: applied, written down, answered; and the directories of volumes.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use indexmap::IndexMap;
use meshos_proto::{
    meshos::allocator::v1::{ApplyOperation, OperationUpdate},
    mesos::v1::{self as pb, OperationState, resource::disk_info::source},
};
use meshos_types::{Format, Resource, Resources};
use tracing::{info, warn};

use super::{Core, Effect, record};
use crate::{
    checkpoint::{self, Change},
    reconfiguration::{basis, is_made},
};

/// Operations that are remembered, so that none is carried out twice.
const REMEMBERED: usize = 1024;

/// What became of operations.
#[derive(Debug, Default)]
pub(super) struct Operations {
    /// Not acknowledged by their frameworks yet.
    waiting: IndexMap<Bytes, OperationUpdate>,
    /// The last ones, with their outcome.
    recent: VecDeque<(Bytes, OperationUpdate)>,
}

impl Operations {
    pub(super) fn waiting(&self) -> Vec<OperationUpdate> {
        self.waiting.values().cloned().collect()
    }

    fn outcome(&self, uuid: &Bytes) -> Option<&OperationUpdate> {
        let recent = || self.recent.iter().find(|(known, _)| known == uuid).map(|(_, update)| update);
        self.waiting.get(uuid).or_else(recent)
    }

    fn remember(&mut self, uuid: &Bytes, update: OperationUpdate) {
        self.recent.push_back((uuid.clone(), update));
        if self.recent.len() > REMEMBERED {
            self.recent.pop_front();
        }
    }
}

/// The directory of a persistent volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct VolumeDirectory {
    pub(super) path: PathBuf,
    /// The root of a disk, which is not the agent's to remove.
    is_mount: bool,
}

/// Where a persistent volume lies (Mesos 1.7); none for any other resource.
pub(super) fn volume_of(work_dir: &Path, resource: &Resource) -> Option<VolumeDirectory> {
    let (id, role) = (resource.persistence_id()?, resource.reserved_role()?);
    // Ids become names of directories: one that leads elsewhere has no directory.
    meshos_types::ids::check_id("persistence ID", id).ok()?;
    let disk = resource.disk.as_ref()?;
    let source = disk.info().source.as_ref();
    let root = match disk.source_type() {
        Some(source::Type::Mount) => {
            let root = source?.mount.as_ref()?.root.as_ref()?;
            return Some(VolumeDirectory { path: PathBuf::from(root), is_mount: true });
        }
        Some(source::Type::Path) => work_dir.join(source?.path.as_ref()?.root.as_ref()?),
        _ => work_dir.to_owned(),
    };
    let path = root.join("volumes/roles").join(role.to_directory_name()).join(id);
    Some(VolumeDirectory { path, is_mount: false })
}

impl Core {
    pub(super) fn apply_operation(&mut self, apply: ApplyOperation) {
        if let Some(update) = self.operations.outcome(&apply.uuid).cloned() {
            // Told twice.
            return self.effects.push(Effect::SendOperation(Box::new(update)));
        }
        let (consumed, produced) =
            (Resources::from_proto(&apply.consumed), Resources::from_proto(&apply.produced));
        let (before, mut problem) = (self.total.clone(), None);
        match (consumed, produced) {
            (Ok(consumed), Ok(produced)) => {
                if !self.total.convert(&consumed.unallocated(), &produced.unallocated()) {
                    problem = Some(format!("the agent does not have {consumed}"));
                }
            }
            (Err(error), _) | (_, Err(error)) => problem = Some(error.to_string()),
        }
        if let Some(problem) = &problem {
            warn!(problem, "operation cannot be carried out");
        }
        let update = self.outcome_of(&apply, problem);
        let asked = update.status.as_ref().is_some_and(|status| status.operation_id.is_some());
        self.effects.push(record(Change::Operation(checkpoint::Operation {
            uuid: apply.uuid.clone(),
            total: self.total.to_proto(Format::PostRefinement),
            update: asked.then(|| update.clone()),
        })));
        self.change_volumes(&before);
        if asked {
            self.operations.waiting.insert(apply.uuid.clone(), update.clone());
        }
        self.operations.remember(&apply.uuid, update.clone());
        self.effects.push(Effect::SendOperation(Box::new(update)));
    }

    fn outcome_of(&self, apply: &ApplyOperation, problem: Option<String>) -> OperationUpdate {
        let operation_id = apply.operation.as_ref().and_then(|operation| operation.id.clone());
        let state = match problem {
            None => OperationState::OperationFinished,
            Some(_) => OperationState::OperationError,
        };
        let uuid = Bytes::copy_from_slice(self.rng.uuid().as_bytes());
        let status = pb::OperationStatus {
            uuid: operation_id.is_some().then_some(pb::Uuid { value: uuid }),
            operation_id,
            state: state.into(),
            message: problem,
            agent_id: self.agent_id.as_ref().map(Into::into),
            ..pb::OperationStatus::default()
        };
        OperationUpdate {
            framework_id: apply.framework_id.clone(),
            uuid: apply.uuid.clone(),
            status: Some(status),
        }
    }

    /// Directories for the volumes that there are now, none for those that were.
    fn change_volumes(&mut self, before: &Resources) {
        let directories = |resources: &Resources| -> Vec<VolumeDirectory> {
            let volumes = resources.iter().filter_map(|r| volume_of(&self.settings.work_dir, r));
            volumes.collect()
        };
        let (old, new) = (directories(before), directories(&self.total));
        for gone in old.iter().filter(|volume| !new.contains(volume)) {
            let VolumeDirectory { path, is_mount } = gone.clone();
            self.effects.push(Effect::RemoveVolume { path, is_mount });
        }
        for made in new.iter().filter(|volume| !old.contains(volume)) {
            self.effects.push(Effect::MakeVolume(made.path.clone()));
        }
    }

    pub(super) fn acknowledge_operation(&mut self, uuid: &Bytes) {
        if self.operations.waiting.shift_remove(uuid).is_some() {
            self.effects.push(record(Change::OperationAcknowledged(uuid.clone())));
        }
    }

    /// Frameworks that are shut down wait for nothing.
    pub(super) fn forget_operations(&mut self, framework: &str) {
        let of =
            |update: &OperationUpdate| update.framework_id.as_ref().is_some_and(|id| id.value == framework);
        let waiting = self.operations.waiting.iter().filter(|(_, update)| of(update));
        for uuid in waiting.map(|(uuid, _)| uuid.clone()).collect::<Vec<_>>() {
            self.acknowledge_operation(&uuid);
        }
    }

    /// Puts reservations and volumes of before on what the agent has now.
    pub(super) fn recover_operations(
        &mut self,
        total: Option<Vec<pb::Resource>>,
        waiting: IndexMap<Bytes, OperationUpdate>,
    ) {
        self.operations.waiting = waiting;
        let Some(total) = total else { return };
        let total = match Resources::from_proto(&total) {
            Ok(total) => total,
            Err(error) => return warn!(%error, "reservations of before cannot be read"),
        };
        self.put_back(&total);
        info!(total = %self.total, "reservations and volumes recovered");
    }

    /// Makes reservations and volumes again out of what the agent has now.
    pub(super) fn put_back(&mut self, total: &Resources) {
        for resource in total.iter().filter(|resource| is_made(resource)) {
            if self.total.convert(&basis(resource).into(), &resource.clone().into()) {
                self.effects
                    .extend(volume_of(&self.settings.work_dir, resource).map(|v| Effect::MakeVolume(v.path)));
            } else {
                warn!(%resource, "the agent does not have this any more, its reservation is dropped");
            }
        }
    }

    /// The records that give this state again.
    pub(super) fn operation_changes(&self) -> Vec<Change> {
        let total = || self.total.to_proto(Format::PostRefinement);
        let mut changes: Vec<_> = self
            .operations
            .waiting
            .iter()
            .map(|(uuid, update)| {
                let (uuid, update) = (uuid.clone(), Some(update.clone()));
                Change::Operation(checkpoint::Operation { uuid, total: total(), update })
            })
            .collect();
        if changes.is_empty() && self.total != self.settings.resources {
            changes.push(Change::Operation(checkpoint::Operation { total: total(), ..Default::default() }));
        }
        changes
    }
}

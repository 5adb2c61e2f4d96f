//! What runs in a container that is there: commands of checks, and whoever looks in.

use std::path::PathBuf;

use meshos_proto::meshos::agent::v1::SpawnRequest;

use super::{OciContainerizer, Prepared, enclosure, state::State};
use crate::containerizer::{ContainerSpec, Containerizer, ContainerizerError, Probe, ProbeOutcome};

impl OciContainerizer {
    /// Prepares a process that enters the namespaces of a running container.
    pub(super) async fn prepare_inside(
        &self,
        spec: &ContainerSpec,
        container_id: &str,
    ) -> Result<(), ContainerizerError> {
        // One without anything of its own is a plain process of the machine.
        let Some(state) = self.state(container_id).await else { return self.process.prepare(spec).await };
        let spec = entering(spec, &state);
        self.process.prepare_as(&spec, state.task_user()).await?;
        let request = self.request_inside(&spec, container_id, &state);
        let id = spec.container_id.clone();
        self.prepared().insert(id, Prepared { spec, request });
        Ok(())
    }

    /// Runs a check's command in its container.
    pub(super) async fn probe_inside(&self, probe: &Probe, spec: &ContainerSpec) -> ProbeOutcome {
        let Some(state) = self.state(&probe.container_id).await else {
            return ProbeOutcome::Failed("the container has ended".to_owned());
        };
        let request = self.request_inside(&entering(spec, &state), &probe.container_id, &state);
        self.process.run_request_beside(&probe.container_id, request, probe.timeout).await
    }

    fn request_inside(&self, spec: &ContainerSpec, container_id: &str, state: &State) -> SpawnRequest {
        let request = self.process.spawn_request_as(spec, state.task_user());
        let directory = spec.directory.as_ref().unwrap_or(&spec.sandbox);
        let inside = state.inside(directory).unwrap_or_else(|| PathBuf::from("/"));
        SpawnRequest {
            working_directory: inside.display().to_string(),
            enclosure: Some(enclosure::joining(container_id, state)),
            ..request
        }
    }
}

/// With the container's variables, and its own over them.
fn entering(spec: &ContainerSpec, state: &State) -> ContainerSpec {
    let mut environment = state.environment.clone();
    environment.extend(spec.environment.clone());
    if state.has_image {
        // A path of the machine, which is not seen inside.
        let own = state.inside(&spec.sandbox).map(|path| path.display().to_string());
        environment.extend(own.map(|path| ("MESOS_SANDBOX".to_owned(), path)));
    }
    ContainerSpec { environment, ..spec.clone() }
}

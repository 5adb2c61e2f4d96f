//! The rules of commands and containers, of tasks and of executors.

use meshos_proto::mesos::v1::{self as pb, container_info, environment, secret};

pub(super) fn environment(command: &pb::CommandInfo) -> Result<(), String> {
    use environment::variable::Type;
    for variable in command.environment.iter().flat_map(|environment| &environment.variables) {
        let name = &variable.name;
        let fault = match variable.r#type() {
            Type::Value if variable.secret.is_some() => "of type 'VALUE' must not have a secret set",
            Type::Value if variable.value.is_none() => "of type 'VALUE' must have a value set",
            Type::Secret if variable.value.is_some() => "of type 'SECRET' must not have a value set",
            Type::Secret if !variable.secret.as_ref().is_some_and(well_formed) => {
                "of type 'SECRET' must have a valid secret set"
            }
            Type::Unknown => "of type 'UNKNOWN' is not allowed",
            Type::Value | Type::Secret => continue,
        };
        return Err(format!("Environment variable '{name}' {fault}"));
    }
    Ok(())
}

fn well_formed(secret: &pb::Secret) -> bool {
    match secret.r#type() {
        secret::Type::Value => {
            secret.reference.is_none() && secret.value.as_ref().is_some_and(|value| !value.data.contains(&0))
        }
        secret::Type::Reference => secret.value.is_none() && secret.reference.is_some(),
        secret::Type::Unknown => false,
    }
}

pub(super) fn container(container: &pb::ContainerInfo) -> Result<(), String> {
    for volume in &container.volumes {
        let kinds = [volume.host_path.is_some(), volume.image.is_some(), volume.source.is_some()]
            .iter()
            .filter(|k| **k)
            .count();
        if kinds != 1 {
            return Err("Exactly one of 'host_path', 'image' or 'source' must be set for a volume".to_owned());
        }
        if volume.source.as_ref().is_some_and(|source| !source_matches(source)) {
            return Err("The sub-message of a volume's 'source' must match its 'type'".to_owned());
        }
    }
    if container.r#type() == container_info::Type::Docker {
        let Some(docker) = &container.docker else { return Err("DockerInfo 'docker' is not set".to_owned()) };
        if docker.parameters.iter().any(|parameter| parameter.key == "name") {
            return Err("Parameter in DockerInfo must not be 'name'".to_owned());
        }
    }
    Ok(())
}

fn source_matches(source: &pb::volume::Source) -> bool {
    use pb::volume::source::Type;
    match source.r#type() {
        Type::DockerVolume => source.docker_volume.is_some(),
        Type::HostPath => source.host_path.is_some(),
        Type::SandboxPath => source.sandbox_path.is_some(),
        Type::Secret => source.secret.is_some(),
        Type::CsiVolume => source.csi_volume.is_some(),
        Type::Unknown => false,
    }
}

/// Whether a container says that it shares, or does not share, the cgroups of its parent.
pub(super) fn share_cgroups(container: Option<&pb::ContainerInfo>) -> Option<bool> {
    container?.linux_info.as_ref()?.share_cgroups
}

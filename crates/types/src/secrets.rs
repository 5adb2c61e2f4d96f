//! What readers may see of secrets: that they are there.

use meshos_proto::mesos::v1 as pb;

/// The container without the values of its secrets. References stay: they say where a value is, not what.
#[must_use]
pub fn without_secrets(mut container: pb::ContainerInfo) -> pb::ContainerInfo {
    let pb::ContainerInfo { volumes, mesos, .. } = &mut container;
    let hide = |image: &mut pb::Image| {
        if let Some(secret) = image.docker.as_mut().and_then(|docker| docker.config.as_mut()) {
            secret.value = None;
        }
    };
    for volume in volumes {
        if let Some(secret) = volume.source.as_mut().and_then(|source| source.secret.as_mut()) {
            secret.value = None;
        }
        volume.image.iter_mut().for_each(hide);
    }
    mesos.iter_mut().filter_map(|mesos| mesos.image.as_mut()).for_each(hide);
    container
}

/// An executor without the values of its secrets.
#[must_use]
pub fn executor_without_secrets(mut info: pb::ExecutorInfo) -> pb::ExecutorInfo {
    info.command.iter_mut().for_each(hide_in_command);
    pb::ExecutorInfo { container: info.container.take().map(without_secrets), ..info }
}

/// A health check without the values of its command's secrets.
#[must_use]
pub fn check_without_secrets(mut check: pb::HealthCheck) -> pb::HealthCheck {
    check.command.iter_mut().for_each(hide_in_command);
    check
}

fn hide_in_command(command: &mut pb::CommandInfo) {
    let variables = command.environment.iter_mut().flat_map(|environment| &mut environment.variables);
    for secret in variables.filter_map(|variable| variable.secret.as_mut()) {
        secret.value = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUSH: &[u8] = b"hush-hush";

    fn secret() -> pb::Secret {
        let value = pb::secret::Value { data: HUSH.to_vec().into() };
        pb::Secret { r#type: Some(pb::secret::Type::Value.into()), value: Some(value), ..Default::default() }
    }

    fn command() -> pb::CommandInfo {
        let kind = pb::environment::variable::Type::Secret;
        let variable = pb::environment::Variable {
            name: "KEY".to_owned(),
            r#type: Some(kind.into()),
            secret: Some(secret()),
            ..Default::default()
        };
        let environment = pb::Environment { variables: vec![variable] };
        pb::CommandInfo { environment: Some(environment), ..Default::default() }
    }

    fn container() -> pb::ContainerInfo {
        let docker = pb::image::Docker { name: "i".to_owned(), config: Some(secret()), ..Default::default() };
        let image = pb::Image { docker: Some(docker), ..Default::default() };
        let source = pb::volume::Source { secret: Some(secret()), ..Default::default() };
        let volume = pb::Volume { image: Some(image.clone()), source: Some(source), ..Default::default() };
        let mesos = pb::container_info::MesosInfo { image: Some(image) };
        pb::ContainerInfo { volumes: vec![volume], mesos: Some(mesos), ..Default::default() }
    }

    fn tells(message: &impl prost::Message) -> bool {
        message.encode_to_vec().windows(HUSH.len()).any(|part| part == HUSH)
    }

    #[test]
    fn no_value_of_a_secret_is_left_anywhere() {
        let info =
            pb::ExecutorInfo { command: Some(command()), container: Some(container()), ..Default::default() };
        let check = pb::HealthCheck { command: Some(command()), ..Default::default() };
        assert!(tells(&info) && tells(&check) && tells(&container()));
        let shown = executor_without_secrets(info);
        assert!(
            !tells(&shown) && !tells(&check_without_secrets(check)) && !tells(&without_secrets(container()))
        );
        let variables = shown.command.unwrap().environment.unwrap().variables;
        assert!(variables[0].name == "KEY" && variables[0].secret.is_some(), "that there is one may be seen");
    }
}

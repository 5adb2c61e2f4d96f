//! Secrets from files: the values of variables, volumes and registry credentials that definitions name by reference
//! only. They are read when a task is launched and stand nowhere but in the call that launches it.

use std::path::{Component, Path, PathBuf};

use meshos_proto::mesos::v1::{
    ContainerInfo, Secret, TaskInfo,
    environment::{Variable, variable::Type},
    scheduler::Call,
    secret,
};
use tokio::io::AsyncReadExt;

/// Largest secret, in bytes.
const LARGEST: u64 = 64 * 1024;

/// A task that cannot be launched, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Missing {
    pub task_id: String,
    pub message: String,
}

/// Puts the values in. Tasks whose secrets cannot be read are taken out of the call.
pub(super) async fn resolve(dir: Option<&Path>, call: &mut Call) -> Vec<Missing> {
    let mut missing = Vec::new();
    let operations = call.accept.iter_mut().flat_map(|accept| &mut accept.operations);
    for launch in operations.filter_map(|operation| operation.launch.as_mut()) {
        if !launch.task_infos.iter_mut().any(has_secrets) {
            continue;
        }
        let mut kept = Vec::new();
        for mut task in std::mem::take(&mut launch.task_infos) {
            match fill(dir, &mut task).await {
                Ok(()) => kept.push(task),
                Err(message) => missing.push(Missing { task_id: task.task_id.value, message }),
            }
        }
        launch.task_infos = kept;
    }
    missing
}

fn has_secrets(task: &mut TaskInfo) -> bool {
    secret_variables(task).next().is_some() || container_secrets(task).next().is_some()
}

/// Those of volumes, and of what an image is pulled with.
fn container_secrets(task: &mut TaskInfo) -> impl Iterator<Item = &mut Secret> {
    let executor = task.executor.as_mut().and_then(|executor| executor.container.as_mut());
    task.container.as_mut().into_iter().chain(executor).flat_map(|container| {
        let ContainerInfo { volumes, mesos, .. } = container;
        let sources = volumes.iter_mut().filter_map(|volume| volume.source.as_mut());
        let image = mesos.as_mut().and_then(|mesos| mesos.image.as_mut()?.docker.as_mut());
        let config = image.and_then(|image| image.config.as_mut());
        sources.filter_map(|source| source.secret.as_mut()).chain(config)
    })
}

fn secret_variables(task: &mut TaskInfo) -> impl Iterator<Item = &mut Variable> {
    let executor = task.executor.as_mut().and_then(|executor| executor.command.as_mut());
    let commands = task.command.as_mut().into_iter().chain(executor);
    let variables = commands.filter_map(|command| command.environment.as_mut());
    variables.flat_map(|all| &mut all.variables).filter(|variable| variable.secret.is_some())
}

async fn fill(dir: Option<&Path>, task: &mut TaskInfo) -> Result<(), String> {
    for variable in secret_variables(task) {
        let secret = variable.secret.take().unwrap_or_default();
        variable.value = Some(value(dir, secret).await?);
        variable.r#type = Some(Type::Value.into());
    }
    for secret in container_secrets(task) {
        let data = value(dir, std::mem::take(secret)).await?.into();
        let value = Some(secret::Value { data });
        *secret = Secret { r#type: Some(secret::Type::Value.into()), reference: None, value };
    }
    Ok(())
}

async fn value(dir: Option<&Path>, secret: Secret) -> Result<String, String> {
    let name = secret.reference.unwrap_or_default().name;
    let dir = dir.ok_or("there is no directory of secrets: start the app-scheduler with --secrets_dir")?;
    read(dir, &name).await.map_err(|why| format!("the secret '{name}' cannot be read: {why}"))
}

/// The content of a file below the directory, without the line break at its end.
async fn read(dir: &Path, source: &str) -> Result<String, String> {
    let relative = Path::new(source);
    if source.is_empty() || !relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err("a source is the path of a file below the directory of secrets".to_owned());
    }
    // Links may lead from one file to another, but not out of the directory.
    let whole = canonical(&dir.join(relative)).await?;
    if !whole.starts_with(canonical(dir).await?) {
        return Err("it leads out of the directory of secrets".to_owned());
    }
    let file = tokio::fs::File::open(&whole).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    file.take(LARGEST + 1).read_to_string(&mut text).await.map_err(|error| error.to_string())?;
    if text.len() as u64 > LARGEST {
        return Err(format!("it has more than {LARGEST} bytes"));
    }
    if text.contains('\0') {
        return Err("it has a null byte, which no variable may have".to_owned());
    }
    Ok(text.strip_suffix('\n').unwrap_or(&text).to_owned())
}

async fn canonical(path: &Path) -> Result<PathBuf, String> {
    tokio::fs::canonicalize(path).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use meshos_proto::mesos::v1::{
        CommandInfo, Environment, Secret, TaskId,
        offer::{Operation, operation::Launch},
        scheduler::call::Accept,
        secret::Reference,
    };

    use super::*;

    fn task(id: &str, source: Option<&str>) -> TaskInfo {
        let reference = source.map(|name| Reference { name: name.into(), key: None });
        let secret = reference.map(|reference| Secret { reference: Some(reference), ..Default::default() });
        let variable = Variable { name: "A".into(), secret, ..Default::default() };
        let environment = Environment { variables: vec![variable] };
        TaskInfo {
            task_id: TaskId { value: id.into() },
            command: Some(CommandInfo { environment: Some(environment), ..Default::default() }),
            ..Default::default()
        }
    }

    fn call(tasks: Vec<TaskInfo>) -> Call {
        let launch = Operation { launch: Some(Launch { task_infos: tasks }), ..Default::default() };
        Call { accept: Some(Accept { operations: vec![launch], ..Default::default() }), ..Default::default() }
    }

    #[tokio::test]
    async fn values_come_from_files_below_the_directory_only() {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("secrets");
        std::fs::create_dir_all(dir.join("team")).unwrap();
        std::fs::write(dir.join("team/key"), "hunter2\n").unwrap();
        std::fs::write(outer.path().join("outside"), "x").unwrap();
        std::os::unix::fs::symlink("../outside", dir.join("out")).unwrap();
        std::os::unix::fs::symlink("team/key", dir.join("link")).unwrap();
        std::fs::write(dir.join("large"), "x".repeat(70_000)).unwrap();
        let sources = ["team/key", "link", "out", "../outside", "/etc/hostname", "nosuch", "large", ""];
        let mut tasks: Vec<_> = sources.iter().map(|source| task(source, Some(source))).collect();
        tasks.push(task("plain", None));
        let mut call = call(tasks);
        let missing = resolve(Some(&dir), &mut call).await;
        let missing: Vec<_> = missing.iter().map(|one| one.task_id.as_str()).collect();
        assert_eq!(missing, sources[2..]);
        let accept = call.accept.unwrap();
        let kept = &accept.operations[0].launch.as_ref().unwrap().task_infos;
        let value = |at: usize| {
            kept[at].command.as_ref().unwrap().environment.as_ref().unwrap().variables[0].value.clone()
        };
        assert_eq!((kept.len(), value(0), value(1)), (3, Some("hunter2".into()), Some("hunter2".into())));
        assert_eq!(value(2), None);
    }

    #[tokio::test]
    async fn volumes_and_pulls_get_theirs() {
        use meshos_proto::mesos::v1::{Image, Volume, container_info::MesosInfo, image, volume::Source};
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "hunter2").unwrap();
        let reference = Reference { name: "key".into(), key: None };
        let secret = Some(Secret { reference: Some(reference), ..Default::default() });
        let source = Some(Source { secret: secret.clone(), ..Default::default() });
        let docker = Some(image::Docker { config: secret, ..Default::default() });
        let container = ContainerInfo {
            volumes: vec![Volume { source, ..Default::default() }],
            mesos: Some(MesosInfo { image: Some(Image { docker, ..Default::default() }) }),
            ..Default::default()
        };
        let mut call = call(vec![TaskInfo { container: Some(container), ..task("a", None) }]);
        assert_eq!(resolve(Some(dir.path()), &mut call).await, []);
        let task = &mut call.accept.as_mut().unwrap().operations[0].launch.as_mut().unwrap().task_infos[0];
        let values: Vec<_> =
            container_secrets(task).map(|secret| secret.value.clone().unwrap().data).collect();
        assert_eq!(values, [&b"hunter2"[..], b"hunter2"]);
    }

    #[tokio::test]
    async fn without_a_directory_only_tasks_with_secrets_are_refused() {
        let mut call = call(vec![task("a", Some("x")), task("b", None)]);
        let missing = resolve(None, &mut call).await;
        assert_eq!(missing.len(), 1);
        assert!(missing[0].message.contains("--secrets_dir"), "{missing:?}");
    }
}

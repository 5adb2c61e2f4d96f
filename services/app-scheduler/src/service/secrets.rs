//! Secrets from files: the values of variables that definitions name by reference only. They are read when a task is
//! launched and stand nowhere but in the call that launches it.

use std::path::{Component, Path, PathBuf};

use meshos_proto::mesos::v1::{
    TaskInfo,
    environment::{Variable, variable::Type},
    scheduler::Call,
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
        if !launch.task_infos.iter_mut().any(|task| secret_variables(task).next().is_some()) {
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

fn secret_variables(task: &mut TaskInfo) -> impl Iterator<Item = &mut Variable> {
    let executor = task.executor.as_mut().and_then(|executor| executor.command.as_mut());
    let commands = task.command.as_mut().into_iter().chain(executor);
    let variables = commands.filter_map(|command| command.environment.as_mut());
    variables.flat_map(|all| &mut all.variables).filter(|variable| variable.secret.is_some())
}

async fn fill(dir: Option<&Path>, task: &mut TaskInfo) -> Result<(), String> {
    for variable in secret_variables(task) {
        let secret = variable.secret.take().and_then(|secret| secret.reference).unwrap_or_default();
        let dir =
            dir.ok_or("there is no directory of secrets: start the app-scheduler with --secrets_dir")?;
        let read = read(dir, &secret.name).await;
        let value = read.map_err(|why| format!("the secret '{}' cannot be read: {why}", secret.name))?;
        variable.r#type = Some(Type::Value.into());
        variable.value = Some(value);
    }
    Ok(())
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
    async fn without_a_directory_only_tasks_with_secrets_are_refused() {
        let mut call = call(vec![task("a", Some("x")), task("b", None)]);
        let missing = resolve(None, &mut call).await;
        assert_eq!(missing.len(), 1);
        assert!(missing[0].message.contains("--secrets_dir"), "{missing:?}");
    }
}

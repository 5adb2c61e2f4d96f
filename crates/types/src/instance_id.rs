//! Instance ids, and the task ids made from them (Marathon).

use crate::{
    app_id::AppId,
    ids::{IdError, TaskId, text_newtype},
};

/// Stands between the app's path and the unique part.
const MARK: &str = ".instance-";
/// The container name of an app's only task.
pub const APP_CONTAINER: &str = "_app";

text_newtype! {
    /// The id of an instance of an app or pod: `<path joined with _>.instance-<uuid>`. It stays the same when the
    /// instance is relaunched; each launch has its own task id.
    InstanceId
}

/// What a task id made from an instance id says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskName {
    /// The instance.
    pub instance: InstanceId,
    /// The container: `_app` for an app, else its name in the pod.
    pub container: String,
    /// Counts the launches of the instance, from 1.
    pub incarnation: u64,
}

impl InstanceId {
    /// The id of an instance of `app`; `unique` is a UUID.
    pub fn for_app(app: &AppId, unique: &str) -> Self {
        Self::new(format!("{}{MARK}{unique}", app.to_safe()))
    }

    /// Reads an instance id.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        let malformed = |expected| IdError::Malformed { kind: "InstanceId", text: text.to_owned(), expected };
        let (path, unique) =
            text.rsplit_once(MARK).ok_or_else(|| malformed("'<path>.instance-<uuid>' is wanted"))?;
        AppId::from_safe(path).map_err(|_| malformed("its first part is not a path"))?;
        if unique.is_empty() || !unique.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(malformed("a UUID is wanted after '.instance-'"));
        }
        Ok(Self::new(text))
    }

    /// The app or pod of the instance. None only for an id that [`Self::new`] took unchecked.
    pub fn app(&self) -> Option<AppId> {
        AppId::from_safe(self.as_str().rsplit_once(MARK)?.0).ok()
    }

    /// The part after `instance-`.
    pub fn unique(&self) -> &str {
        self.as_str().rsplit_once(MARK).map_or("", |(_, unique)| unique)
    }

    /// The task id of an app's launch number `incarnation` (from 1).
    pub fn task_id(&self, incarnation: u64) -> TaskId {
        self.container_task_id(APP_CONTAINER, incarnation)
    }

    /// The task id of a pod's container at launch number `incarnation` (from 1).
    pub fn container_task_id(&self, container: &str, incarnation: u64) -> TaskId {
        TaskId::new(format!("{self}.{container}.{incarnation}"))
    }
}

impl TaskName {
    /// Reads a task id made by [`InstanceId::task_id`] or [`InstanceId::container_task_id`]; none for any other.
    pub fn of(task: &TaskId) -> Option<Self> {
        let (rest, incarnation) = task.as_str().rsplit_once('.')?;
        let (instance, container) = rest.rsplit_once('.')?;
        Some(Self {
            instance: InstanceId::parse(instance).ok()?,
            container: container.to_owned(),
            incarnation: incarnation.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_say_where_they_come_from() {
        let app = AppId::parse("/a/b.c").unwrap();
        let instance = InstanceId::for_app(&app, "1b-2c");
        assert_eq!(instance.as_str(), "a_b.c.instance-1b-2c");
        assert_eq!(InstanceId::parse(instance.as_str()), Ok(instance.clone()));
        assert_eq!((instance.app(), instance.unique()), (Some(app), "1b-2c"));
        let task = instance.task_id(3);
        assert_eq!(task.as_str(), "a_b.c.instance-1b-2c._app.3");
        assert_eq!(
            TaskName::of(&task),
            Some(TaskName { instance, container: "_app".into(), incarnation: 3 })
        );
    }

    #[test]
    fn foreign_ids_are_refused() {
        for text in ["", "a", "a.instance-", "A.instance-1", "a.instance-x y"] {
            assert!(InstanceId::parse(text).is_err(), "{text}");
        }
        for text in ["a.instance-1", "x.y.1", "a.instance-1._app.x"] {
            assert_eq!(TaskName::of(&TaskId::new(text)), None, "{text}");
        }
    }
}

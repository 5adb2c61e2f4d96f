//! Pure: the app-scheduler's state as this controller knows it.

use std::collections::BTreeMap;

use meshos_proto::meshos::apps::v1::{App, Instance, WatchResponse, watch_response::Body};

/// Apps and their instances at one revision.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub revision: u64,
    pub apps: BTreeMap<String, App>,
    pub instances: BTreeMap<String, Instance>,
}

impl View {
    /// Brings the view to the revision of `response`.
    pub fn apply(&mut self, response: WatchResponse) {
        self.revision = response.revision;
        match response.body {
            Some(Body::Snapshot(snapshot)) => {
                self.apps = snapshot.apps.into_iter().map(|app| (app.id.clone(), app)).collect();
                self.instances = snapshot.instances.into_iter().map(|i| (i.id.clone(), i)).collect();
            }
            Some(Body::Delta(delta)) => {
                self.apps.extend(delta.apps.into_iter().map(|app| (app.id.clone(), app)));
                self.instances.extend(delta.instances.into_iter().map(|i| (i.id.clone(), i)));
                for id in &delta.removed_apps {
                    self.apps.remove(id);
                }
                for id in &delta.removed_instances {
                    self.instances.remove(id);
                }
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::meshos::apps::v1::{Delta, Snapshot};

    fn app(id: &str) -> App {
        App { id: id.to_owned(), ..App::default() }
    }

    #[test]
    fn a_snapshot_replaces_and_a_delta_changes() {
        let mut view = View::default();
        let snapshot = Snapshot { apps: vec![app("/a"), app("/b")], ..Snapshot::default() };
        view.apply(WatchResponse { revision: 5, body: Some(Body::Snapshot(snapshot)) });
        let delta = Delta { apps: vec![app("/c")], removed_apps: vec!["/a".into()], ..Delta::default() };
        view.apply(WatchResponse { revision: 6, body: Some(Body::Delta(delta)) });
        assert_eq!(view.apps.keys().collect::<Vec<_>>(), ["/b", "/c"]);
        let snapshot = Snapshot { apps: vec![app("/d")], ..Snapshot::default() };
        view.apply(WatchResponse { revision: 9, body: Some(Body::Snapshot(snapshot)) });
        assert_eq!((view.apps.len(), view.revision), (1, 9));
    }
}

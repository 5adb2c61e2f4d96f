//! From the old and the new definitions to the steps of a deployment (Marathon's DeploymentPlan).

use std::collections::{BTreeMap, BTreeSet};

use meshos_proto::meshos::apps::v1::{Action, ActionKind, App, Step};

/// One app before and after a change; none: not there.
#[derive(Clone, Copy, Debug)]
pub struct Change<'a> {
    pub old: Option<&'a App>,
    pub new: Option<&'a App>,
    /// Instances that a kill-and-scale request named.
    pub kill: &'a [String],
}

/// A dependency graph has a cycle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Dependency graph has cyclic dependencies.")]
pub struct Cycle;

/// All apps as they will be: a dependency counts although it does not change.
pub trait Graph {
    /// Ids of the apps that `app_id` depends on directly; a dependency on a group means all apps below it.
    fn dependencies(&self, app_id: &str) -> Vec<String>;
}

/// Whether the change needs new tasks.
pub fn config_changed(old: &App, new: &App) -> bool {
    let bare = |app: &App| App {
        instances: 0,
        version_ms: 0,
        last_scaling_at_ms: 0,
        last_config_change_at_ms: 0,
        // Upstream does not compare it.
        executor_resources: None,
        format: 0,
        ..app.clone()
    };
    bare(old) != bare(new)
}

/// The steps, without empty ones: what is removed, what is new (a step that does nothing, kept for clients), then
/// one step for each layer of dependencies, leaves first.
pub fn steps(changes: &[Change<'_>], graph: &dyn Graph) -> Result<Vec<Step>, Cycle> {
    let mut layers: BTreeMap<usize, Vec<Action>> = BTreeMap::new();
    let (mut stops, mut starts) = (Vec::new(), Vec::new());
    let mut depths = Depths { graph, known: BTreeMap::new(), open: BTreeSet::new() };
    for change in changes {
        if change.old.is_none()
            && let Some(new) = change.new
        {
            starts.push(action(ActionKind::StartApplication, &new.id, &[]));
        }
        match (change.old, change.new) {
            (Some(old), None) => stops.push(action(ActionKind::StopApplication, &old.id, &[])),
            (_, Some(new)) => {
                let depth = depths.of(&new.id)?;
                if let Some(kind) = layer_action(change) {
                    layers.entry(depth).or_default().push(action(kind, &new.id, change.kill));
                }
            }
            (None, None) => {}
        }
    }
    let steps = [stops, starts].into_iter().chain(layers.into_values());
    Ok(steps.filter(|actions| !actions.is_empty()).map(|actions| Step { actions }).collect())
}

fn action(kind: ActionKind, app_id: &str, kill: &[String]) -> Action {
    Action { kind: kind.into(), app_id: app_id.to_owned(), kill_instances: kill.to_vec() }
}

fn layer_action(change: &Change<'_>) -> Option<ActionKind> {
    match (change.old, change.new) {
        (None, Some(_)) => Some(ActionKind::ScaleApplication),
        (Some(old), Some(new)) => {
            let restarted = new.last_config_change_at_ms > old.last_config_change_at_ms;
            if (restarted || config_changed(old, new)) && new.instances > 0 {
                Some(ActionKind::RestartApplication)
            } else if restarted || old.instances != new.instances || !change.kill.is_empty() {
                Some(ActionKind::ScaleApplication)
            } else {
                None
            }
        }
        _ => None,
    }
}

/// Longest paths to a leaf.
struct Depths<'a> {
    graph: &'a dyn Graph,
    known: BTreeMap<String, usize>,
    /// On the path that is being followed.
    open: BTreeSet<String>,
}

impl Depths<'_> {
    fn of(&mut self, app_id: &str) -> Result<usize, Cycle> {
        if let Some(depth) = self.known.get(app_id) {
            return Ok(*depth);
        }
        // An own stack, not recursion: a user decides how long the chain of dependencies is.
        let mut stack = vec![(app_id.to_owned(), self.graph.dependencies(app_id), 0)];
        self.open.insert(app_id.to_owned());
        while let Some((id, left, depth)) = stack.last_mut() {
            if let Some(dependency) = left.pop() {
                if let Some(known) = self.known.get(&dependency) {
                    *depth = (*depth).max(known + 1);
                    continue;
                }
                if !self.open.insert(dependency.clone()) {
                    return Err(Cycle);
                }
                let next = self.graph.dependencies(&dependency);
                stack.push((dependency, next, 0));
                continue;
            }
            self.open.remove(id);
            self.known.insert(id.clone(), *depth);
            let depth = *depth;
            stack.pop();
            if let Some((_, _, parent)) = stack.last_mut() {
                *parent = (*parent).max(depth + 1);
            }
        }
        Ok(self.known.get(app_id).copied().unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Graph for BTreeMap<String, Vec<String>> {
        fn dependencies(&self, app_id: &str) -> Vec<String> {
            self.get(app_id).cloned().unwrap_or_default()
        }
    }

    fn app(id: &str, instances: u32, cmd: &str) -> App {
        App { id: id.into(), instances, cmd: Some(cmd.into()), ..Default::default() }
    }

    fn graph(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        let list = |to: &[&str]| to.iter().map(|t| (*t).to_owned()).collect();
        edges.iter().map(|(from, to)| ((*from).to_owned(), list(to))).collect()
    }

    fn text(steps: &[Step]) -> Vec<String> {
        let one = |a: &Action| format!("{} {}", &a.kind().as_str_name()["ACTION_KIND_".len()..], a.app_id);
        steps.iter().map(|s| s.actions.iter().map(one).collect::<Vec<_>>().join(", ")).collect()
    }

    fn change<'a>(old: Option<&'a App>, new: Option<&'a App>) -> Change<'a> {
        Change { old, new, kill: &[] }
    }

    #[test]
    fn marathon_c55_new_apps_start_in_the_order_of_their_dependencies() {
        let (db, svc, web) = (app("/p/db", 1, "a"), app("/p/svc", 1, "a"), app("/p/web", 1, "a"));
        let graph = graph(&[("/p/svc", &["/p/db"]), ("/p/web", &["/p/svc"])]);
        let changes = [change(None, Some(&web)), change(None, Some(&db)), change(None, Some(&svc))];
        assert_eq!(
            text(&steps(&changes, &graph).unwrap()),
            [
                "START_APPLICATION /p/web, START_APPLICATION /p/db, START_APPLICATION /p/svc",
                "SCALE_APPLICATION /p/db",
                "SCALE_APPLICATION /p/svc",
                "SCALE_APPLICATION /p/web",
            ]
        );
    }

    #[test]
    fn marathon_c23_only_instances_scale_and_everything_else_restarts() {
        let (old, more, other) = (app("/a", 1, "a"), app("/a", 3, "a"), app("/a", 3, "b"));
        let none = graph(&[]);
        let plan = |new: &App| text(&steps(&[change(Some(&old), Some(new))], &none).unwrap());
        assert_eq!(plan(&more), ["SCALE_APPLICATION /a"]);
        assert_eq!(plan(&other), ["RESTART_APPLICATION /a"]);
        assert!(plan(&old).is_empty());
        assert_eq!(plan(&App { instances: 0, ..other }), ["SCALE_APPLICATION /a"]);
        assert_eq!(plan(&App { last_config_change_at_ms: 5, ..old.clone() }), ["RESTART_APPLICATION /a"]);
        assert_eq!(text(&steps(&[change(Some(&old), None)], &none).unwrap()), ["STOP_APPLICATION /a"]);
    }

    #[test]
    fn layers_count_untouched_apps_and_group_dependencies() {
        // /w depends on the untouched /m, which depends on /d: the path to the leaf is two long.
        let (d, w) = (app("/d", 1, "a"), app("/w", 1, "a"));
        let (d2, w2) = (app("/d", 2, "a"), app("/w", 2, "a"));
        let graph = graph(&[("/w", &["/m"]), ("/m", &["/d"])]);
        let changes = [change(Some(&w), Some(&w2)), change(Some(&d), Some(&d2))];
        assert_eq!(text(&steps(&changes, &graph).unwrap()), ["SCALE_APPLICATION /d", "SCALE_APPLICATION /w"]);
    }

    #[test]
    fn marathon_c54_a_cycle_is_refused() {
        let a = app("/a", 1, "a");
        for edges in [graph(&[("/a", &["/b"]), ("/b", &["/c"]), ("/c", &["/a"])]), graph(&[("/a", &["/a"])])]
        {
            assert_eq!(steps(&[change(None, Some(&a))], &edges), Err(Cycle));
        }
        let diamond = graph(&[("/a", &["/b", "/c"]), ("/b", &["/d"]), ("/c", &["/d"])]);
        assert!(steps(&[change(None, Some(&a))], &diamond).is_ok());
    }
}

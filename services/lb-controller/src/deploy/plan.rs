//! Pure: the definition of the new app, and what to do next.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{DeployArgs, Error};

/// The deployment group that the definition names.
pub(super) fn group(app: &Value) -> Result<String, Error> {
    let labels = &app["labels"];
    if !app["id"].is_string() {
        return Err(Error::Missing("an id"));
    }
    if !labels["HAPROXY_DEPLOYMENT_ALT_PORT"].is_string() {
        return Err(Error::Missing("the label HAPROXY_DEPLOYMENT_ALT_PORT"));
    }
    let group = labels["HAPROXY_DEPLOYMENT_GROUP"].as_str().filter(|group| !group.is_empty());
    group.map(str::to_owned).ok_or(Error::Missing("the label HAPROXY_DEPLOYMENT_GROUP"))
}

/// Where the definition has its first service port.
const PORTS: [&str; 3] = [
    "/portDefinitions/0/port",
    "/container/portMappings/0/servicePort",
    "/container/docker/portMappings/0/servicePort",
];

/// The definition of the new app; `last` is the one that serves.
pub(super) fn next(
    mut app: Value,
    last: Option<&Value>,
    args: &DeployArgs,
    started_at: &str,
) -> Result<Value, Error> {
    let last_labels = last.map(|app| &app["labels"]);
    let last_colour = last_labels.and_then(|labels| labels["HAPROXY_DEPLOYMENT_COLOUR"].as_str());
    let colour = if last_colour == Some("blue") { "green" } else { "blue" };
    let path = PORTS.into_iter().find(|path| app.pointer(path).is_some());
    let port = path.and_then(|path| app.pointer_mut(path)).ok_or(Error::Missing("a service port"))?;
    let public = port.as_u64().filter(|port| *port != 0).ok_or(Error::Missing("a service port"))?;
    let alternative = app["labels"]["HAPROXY_DEPLOYMENT_ALT_PORT"].as_str().unwrap_or_default();
    let alternative: u64 = alternative
        .parse()
        .map_err(|_| Error::Arguments("HAPROXY_DEPLOYMENT_ALT_PORT is no port".to_owned()))?;
    let taken = |last: &Value| PORTS.into_iter().find_map(|path| last.pointer(path)?.as_u64());
    let own = if last.and_then(taken) == Some(public) { alternative } else { public };
    if let Some(port) = path.and_then(|path| app.pointer_mut(path)) {
        *port = json!(own);
    }
    let target = match last.and_then(|last| last["instances"].as_u64()) {
        Some(instances) => instances,
        None => app["instances"].as_u64().unwrap_or(1),
    };
    let first = if last.is_some() { args.initial_instances.min(target) } else { target };
    let id = app["id"].as_str().unwrap_or_default().to_owned();
    let id = if id.starts_with('/') { id } else { format!("/{id}") };
    for (name, value) in [
        ("HAPROXY_0_PORT", public.to_string()),
        ("HAPROXY_APP_ID", id.clone()),
        ("HAPROXY_DEPLOYMENT_COLOUR", colour.to_owned()),
        ("HAPROXY_DEPLOYMENT_STARTED_AT", started_at.to_owned()),
        ("HAPROXY_DEPLOYMENT_TARGET_INSTANCES", target.to_string()),
        ("HAPROXY_DEPLOYMENT_NEW_INSTANCES", args.new_instances.to_string()),
    ] {
        app["labels"][name] = json!(value);
    }
    app["id"] = json!(format!("{id}-{colour}"));
    app["instances"] = json!(first);
    Ok(app)
}

/// How many instances both sides shall have together.
pub(super) fn target(new: &Value) -> u64 {
    let label = new["labels"]["HAPROXY_DEPLOYMENT_TARGET_INSTANCES"].as_str();
    label.and_then(|label| label.parse().ok()).unwrap_or(1)
}

/// What Marathon and all load balancers say.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) old: u64,
    pub(super) new: u64,
    pub(super) target: u64,
    /// Servers that get requests: of the load balancer that has fewest.
    pub(super) ready: u64,
    /// Old tasks that no load balancer sends requests and that have none under way.
    pub(super) drained: Vec<String>,
    /// Old tasks that get nothing new.
    pub(super) draining: Vec<String>,
    /// There was no progress for too long.
    pub(super) overdue: bool,
}

impl Seen {
    pub(super) fn new(old: &Value, new: &Value, lbs: &[Value], overdue: bool) -> Self {
        let (mut idle, mut leaving): (Option<BTreeSet<String>>, BTreeSet<String>) = (None, BTreeSet::new());
        let mut ready = u64::MAX;
        for lb in lbs {
            let services = lb["services"].as_array().into_iter().flatten();
            let servers: Vec<&Value> =
                services.filter_map(|service| service["servers"].as_array()).flatten().collect();
            ready = ready.min(servers.iter().filter(|server| server["state"] == "ready").count() as u64);
            let of = |server: &&Value| server["instance"].as_str().unwrap_or_default().to_owned();
            let draining = servers.iter().copied().filter(|server| server["state"] == "draining");
            let here: BTreeSet<String> =
                draining.clone().filter(|server| server["sessions"] == 0).map(|server| of(&server)).collect();
            leaving.extend(draining.map(|server| of(&server)));
            idle = Some(idle.map_or(here.clone(), |before| before.intersection(&here).cloned().collect()));
        }
        let tasks = |instances: &BTreeSet<String>| -> Vec<String> {
            let tasks = old["tasks"].as_array().into_iter().flatten().filter_map(|task| task["id"].as_str());
            let instance = |task: &str| task.split("._app.").next().unwrap_or_default().to_owned();
            // A load balancer that knows Marathon's API alone names tasks.
            let named = |task: &&str| instances.contains(*task) || instances.contains(&instance(task));
            tasks.filter(named).map(str::to_owned).collect()
        };
        Self {
            old: old["instances"].as_u64().unwrap_or(0),
            new: new["instances"].as_u64().unwrap_or(0),
            target: target(new),
            ready: if ready == u64::MAX { 0 } else { ready },
            drained: tasks(&idle.unwrap_or_default()),
            draining: tasks(&leaving),
            overdue,
        }
    }
}

/// What to change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Next {
    /// Old tasks to end.
    pub(super) kill: Vec<String>,
    /// Instances that the new app gets.
    pub(super) scale: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Move(Next),
    /// The old app may go.
    Finish,
    /// Both stay.
    Split,
}

/// `split`: stop with so many new instances; 0: move all. `linear`: so many more at a time.
pub(super) fn step(seen: &Seen, split: u64, linear: Option<u64>) -> Step {
    let most = if split > 0 { split.min(seen.target) } else { seen.target };
    let least_old = seen.target - most;
    if split > 0 && seen.new >= most && seen.old <= least_old {
        return Step::Split;
    }
    // Nobody is ended before there are enough others.
    let mut kill = if seen.ready >= seen.target || seen.overdue { seen.drained.clone() } else { Vec::new() };
    if seen.overdue {
        kill.clone_from(&seen.draining);
    }
    kill.truncate(usize::try_from(seen.old.saturating_sub(least_old)).unwrap_or(usize::MAX));
    if least_old == 0 && seen.new >= seen.target && kill.len() as u64 >= seen.old {
        return Step::Finish;
    }
    let grown = match linear {
        Some(more) => seen.new + more,
        None => seen.new + seen.new.div_ceil(2).max(1),
    };
    let grown = if seen.new >= seen.old { most } else { grown.min(most) };
    let healthy = seen.ready + seen.draining.len() as u64 >= seen.old + seen.new;
    let scale = (grown > seen.new && healthy).then_some(grown);
    if kill.is_empty() && scale.is_none() { Step::Wait } else { Step::Move(Next { kill, scale }) }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Probe {
        #[command(flatten)]
        args: DeployArgs,
    }

    fn args(more: &[&str]) -> DeployArgs {
        Probe::try_parse_from([&["x", "-j", "app.json"], more].concat()).unwrap().args
    }

    fn app() -> Value {
        json!({
            "id": "web", "instances": 4, "portDefinitions": [{"port": 10000}],
            "labels": {"HAPROXY_DEPLOYMENT_GROUP": "web", "HAPROXY_DEPLOYMENT_ALT_PORT": "10001"},
        })
    }

    #[test]
    fn zdds_command_line_is_taken() {
        let given = args(&[
            "-m",
            "http://m:8080",
            "-l",
            "http://lb:9090",
            "-f",
            "-s",
            "5",
            "-w",
            "300",
            "-i",
            "2",
            "-n",
            "3",
            "--pre-kill-hook",
            "/hook",
            "--auth-credentials",
            "u:p",
            "--linear-increase",
            "2",
        ]);
        assert_eq!(
            (given.step_delay.as_secs(), given.max_wait.as_secs(), given.initial_instances),
            (5, 300, 2)
        );
        assert_eq!(args(&["-s", "100ms"]).step_delay.as_millis(), 100);
    }

    #[test]
    fn colours_and_ports_take_turns() {
        let blue = next(app(), None, &args(&[]), "1").unwrap();
        assert_eq!((&blue["id"], &blue["instances"]), (&json!("/web-blue"), &json!(4)));
        assert_eq!(blue["portDefinitions"][0]["port"], 10_000);
        let green = next(app(), Some(&blue), &args(&[]), "2").unwrap();
        assert_eq!((&green["id"], &green["instances"]), (&json!("/web-green"), &json!(1)));
        assert_eq!(green["portDefinitions"][0]["port"], 10_001);
        assert_eq!(green["labels"]["HAPROXY_0_PORT"], "10000");
        assert_eq!(green["labels"]["HAPROXY_DEPLOYMENT_TARGET_INSTANCES"], "4");
        let again = next(app(), Some(&green), &args(&[]), "3").unwrap();
        assert_eq!(
            (&again["id"], &again["portDefinitions"][0]["port"]),
            (&json!("/web-blue"), &json!(10_000))
        );
        assert!(matches!(group(&json!({"id": "x"})), Err(Error::Missing(_))));
    }

    /// Plays a deployment in which every new task is healthy at once.
    fn play(args: &DeployArgs, target: u64) -> (u64, u64, Step) {
        let (mut old, mut new) = (target, args.initial_instances.min(target));
        for _ in 0..100 {
            // As the load balancer drains.
            let draining = old.min(new).min((new + old).saturating_sub(target));
            let drained: Vec<String> = (0..draining).map(|task| format!("t{task}")).collect();
            let ready = old - draining + new;
            assert!(ready >= target, "{old} {new}");
            let seen =
                Seen { old, new, target, ready, drained: drained.clone(), draining: drained, overdue: false };
            match step(&seen, args.new_instances, args.linear_increase) {
                Step::Move(next) => {
                    old -= next.kill.len() as u64;
                    new = next.scale.unwrap_or(new);
                }
                Step::Wait => panic!("stuck at {old} {new}"),
                end => return (old, new, end),
            }
        }
        panic!("no end");
    }

    #[test]
    fn every_deployment_ends_and_capacity_never_falls() {
        for target in 1..20 {
            let (_, new, end) = play(&args(&[]), target);
            assert_eq!((new, end), (target, Step::Finish), "{target}");
            let (_, new, end) = play(&args(&["--linear-increase", "2"]), target);
            assert_eq!((new, end), (target, Step::Finish), "{target}");
        }
        assert_eq!(play(&args(&["-n", "3"]), 10), (7, 3, Step::Split));
    }

    #[test]
    fn a_busy_old_task_is_waited_for_and_ended_when_it_takes_too_long() {
        let busy = |overdue| Seen {
            old: 1,
            new: 1,
            target: 1,
            ready: 1,
            drained: Vec::new(),
            draining: vec!["t".into()],
            overdue,
        };
        assert_eq!(step(&busy(false), 0, None), Step::Wait);
        assert_eq!(step(&busy(true), 0, None), Step::Finish);
    }
}

//! The main job on the cluster of `compose.yaml`: every service in its own container, state in etcd.
//!
//! Needs a Docker engine and the images of `scripts/images`; `make test` sees to both. `MESHOS_TEST_SKIP_DOCKER=1` leaves
//! the test out and says so.

mod app;
mod http;
mod images;
mod processes;
mod project;
mod wait;

use std::{collections::BTreeMap, io::Write as _, time::Duration};

use serde_json::json;

use crate::{
    app::{App, Tasks},
    http::{get, send},
    project::Project,
    wait::wait_until,
};

const HELLO: &str = "while [ true ] ; do echo 'Hello Marathon' ; sleep 5 ; done";
const HELLO_AGAIN: &str = "while [ true ] ; do echo 'Hello again' ; sleep 5 ; done";

#[test]
fn the_main_job_works_and_outlives_both_leaders() {
    if std::env::var_os("MESHOS_TEST_SKIP_DOCKER").is_some() {
        // Not through a macro: the test harness would swallow it.
        let _ = writeln!(std::io::stderr(), "SKIPPED the compose test: MESHOS_TEST_SKIP_DOCKER is set");
        return;
    }
    let project = Project::start();
    let app = App::new(&project, "/basic-0");
    cluster_is_complete(&project);

    post_the_app(&app);
    let first = app.wait_for_tasks("the app runs", |tasks| tasks.len() == 1);
    app_is_visible_everywhere(&project, &app, &first);
    app.wait_for_output(&first, "Hello Marathon");

    scale(&app, 3);
    let three = app.wait_for_tasks("three run", |tasks| tasks.len() == 3);
    assert!(first.keys().all(|id| three.contains_key(id)), "scaling replaced {first:?}: {three:?}");

    let three = kill_one(&app, &three);
    let three = change_command(&app, &three);

    outlives(&project, &app, &three, Loss { service: "allocator", how: "stop" });
    outlives(&project, &app, &three, Loss { service: "app-scheduler", how: "kill" });

    scale(&app, 4);
    let four = app.wait_for_tasks("four run under the new leaders", |tasks| tasks.len() == 4);
    assert!(three.iter().all(|(id, task)| four.get(id) == Some(task)), "was {three:?}, is {four:?}");
    delete_the_app(&project, &app, &four);
    images::run_through_the_engine_of_the_machine(&project);

    // etcd was there all the time: whoever lost it asked too much of it.
    let log = project.compose(&["logs", "--no-color", "gateway"]);
    assert!(log.contains("gateway serves") && !log.contains("watch broke"), "{log}");
}

fn cluster_is_complete(project: &Project) {
    wait_until("two agents have joined", Duration::from_secs(90), || {
        let state = get(&project.mesos, "/state").ok()?.json();
        (state["activated_slaves"].as_f64() == Some(2.0)).then_some(())
    });
    wait_until("the Marathon API serves", Duration::from_secs(60), || {
        (get(&project.marathon, "/v2/apps").ok()?.status == 200).then_some(())
    });
}

fn post_the_app(app: &App<'_>) {
    let definition = json!({ "id": "basic-0", "cmd": HELLO, "cpus": 0.1, "mem": 10.0, "instances": 1 });
    let answer = send(app.marathon(), "POST", "/v2/apps", &definition).expect("POST /v2/apps is answered");
    assert_eq!(answer.status, 201, "{}", answer.text());
    let body = answer.json();
    assert_eq!(body["id"], "/basic-0");
    assert_eq!(body["tasksRunning"], 0);
    assert_eq!(body["backoffFactor"], 1.15);
    assert!(body["deployments"][0]["id"].is_string(), "{body}");
}

/// The task of `tasks` is in each list of both APIs.
fn app_is_visible_everywhere(project: &Project, app: &App<'_>, tasks: &Tasks) {
    let (id, _) = tasks.first_key_value().expect("one task");
    assert_eq!(app.get()["app"]["tasksRunning"], 1);

    let tasks = get(&project.marathon, "/v2/tasks").expect("/v2/tasks answers").json();
    assert_eq!(tasks["tasks"][0]["id"], id.as_str(), "{tasks}");
    let tasks = get(&project.mesos, "/tasks").expect("/tasks answers").json();
    assert_eq!(tasks["tasks"][0]["id"], id.as_str(), "{tasks}");
    assert_eq!(tasks["tasks"][0]["state"], "TASK_RUNNING", "{tasks}");

    let state = get(&project.mesos, "/state").expect("/state answers").json();
    assert_eq!(state["frameworks"][0]["tasks"][0]["id"], id.as_str(), "{state}");
    let frameworks = get(&project.mesos, "/frameworks").expect("/frameworks answers").json();
    assert_eq!(frameworks["frameworks"][0]["name"], "marathon", "{frameworks}");
    let agents = get(&project.mesos, "/slaves").expect("/slaves answers").json();
    assert_eq!(agents["slaves"].as_array().map(Vec::len), Some(2), "{agents}");
    let metrics = get(&project.mesos, "/metrics/snapshot").expect("/metrics/snapshot answers").json();
    assert_eq!(metrics["master/tasks_running"].as_f64(), Some(1.0), "{metrics}");
}

fn scale(app: &App<'_>, instances: usize) {
    let answer = app.put(&json!({ "instances": instances }));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Kills one task; returns the tasks once it was replaced.
fn kill_one(app: &App<'_>, tasks: &Tasks) -> Tasks {
    let (victim, _) = tasks.first_key_value().expect("tasks to choose from");
    let path = format!("/v2/apps/{}/tasks/{victim}", app.id());
    let answer = send(app.marathon(), "DELETE", &path, &json!(null)).expect("the kill is answered");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let now = app.wait_for_tasks("the killed task is replaced", |now| {
        now.len() == tasks.len() && !now.contains_key(victim)
    });
    assert!(
        tasks.keys().filter(|id| *id != victim).all(|id| now.contains_key(id)),
        "{tasks:?} became {now:?}"
    );
    now
}

/// Changes the command; returns the tasks once all run it.
fn change_command(app: &App<'_>, old: &Tasks) -> Tasks {
    let answer = app.put(&json!({ "cmd": HELLO_AGAIN }));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let new = app.wait_for_tasks("all tasks run the new command", |now| {
        now.len() == old.len() && old.keys().all(|id| !now.contains_key(id))
    });
    app.wait_for_output(&new, "Hello again");
    app.wait_for_deployments();
    new
}

/// The end of a leader.
struct Loss {
    service: &'static str,
    /// `stop` lets it say goodbye, `kill` does not.
    how: &'static str,
}

/// Takes the leader of a service away and checks that another instance leads while nobody notices.
fn outlives(project: &Project, app: &App<'_>, tasks: &Tasks, Loss { service, how }: Loss) {
    let leader = &project.leader(service).unwrap_or_else(|| panic!("no instance of {service} leads"));
    project.compose(&[how, leader]);
    wait_until(&format!("another {service} leads than {leader}"), Duration::from_secs(30), || {
        assert_eq!(&app.running_tasks(), tasks, "tasks changed while {leader} was away");
        project.leader(service).filter(|now| now != leader)
    });
    // The new leader has to have heard of the tasks as well; a task that it forgot would be gone or doubled by now.
    app.wait_for_tasks(&format!("the app is complete without {leader}"), |now| now == tasks);
    let state = wait_until("the Mesos API shows the tasks", Duration::from_secs(30), || {
        let state = get(&project.mesos, "/state").ok()?.json();
        let frameworks = state["frameworks"].as_array()?;
        let shown =
            frameworks.iter().flat_map(|framework| framework["tasks"].as_array().into_iter().flatten());
        let shown: BTreeMap<_, _> =
            shown.filter_map(|task| Some((task["id"].as_str()?, task["state"].as_str()?))).collect();
        let all = tasks.keys().all(|id| shown.get(id.as_str()) == Some(&"TASK_RUNNING"));
        (all && shown.len() == tasks.len()).then_some(state.clone())
    });
    assert_eq!(state["activated_slaves"].as_f64(), Some(2.0), "{state}");
}

fn delete_the_app(project: &Project, app: &App<'_>, tasks: &Tasks) {
    let answer = send(app.marathon(), "DELETE", &format!("/v2/apps/{}", app.id()), &json!(null))
        .expect("the deletion is answered");
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until("the app is gone", Duration::from_secs(60), || {
        let status = get(app.marathon(), &format!("/v2/apps/{}", app.id())).ok()?.status;
        (status == 404).then_some(())
    });
    for (id, task) in tasks {
        wait_until(&format!("{id} has ended"), Duration::from_secs(30), || {
            processes::main_pid(project, &task.host, id).is_none().then_some(())
        });
    }
}

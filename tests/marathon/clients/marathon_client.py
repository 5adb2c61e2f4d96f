"""Walks through every public method of the PyPI client `marathon`, unmodified.

Usage: marathon_client.py URL

Says `ok NAME` after each method that does what its documentation promises, and fails if one was left out. The client
knows no pods and no artifacts. Event subscriptions by callback ended with Marathon 1.5: these three methods have to
fail, loudly.
"""

import collections
import collections.abc
import inspect
import sys
import threading
import time

# The client was written for Pythons that had it there.
collections.Iterable = collections.abc.Iterable

from marathon import MarathonApp, MarathonClient, MarathonHttpError, NotFoundError
from marathon.exceptions import MarathonError
from marathon.models.app import MarathonHealthCheck
from marathon.models.constraint import MarathonConstraint
from marathon.models.group import MarathonGroup
from marathon.models.events import MarathonDeploymentSuccess, MarathonStatusUpdateEvent

URL = sys.argv[1]
PATIENCE = 60
client = MarathonClient(["http://127.0.0.1:1", URL])
done = set()


def ok(*names):
    for name in names:
        done.add(name)
        print(f"ok {name}", flush=True)


def until(what, found):
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise SystemExit(f"{what}: not after {PATIENCE} s")


def refused(call, error):
    try:
        call()
    except error as found:
        return found
    raise SystemExit(f"{call} was not refused")


def quiet():
    until("no deployment", lambda: client.list_deployments() == [])


def sleeper(**more):
    return MarathonApp(cmd="sleep 1000", cpus=0.1, mem=32, **more)


def follow(types, found):
    """Collects events on a stream of its own until the process ends."""

    def read():
        try:
            for event in client.event_stream(event_types=types):
                found.append(event)
        except MarathonError:
            pass

    threading.Thread(target=read, daemon=True).start()


def ids(app):
    return {task.id for task in client.list_tasks(app)}


def about():
    # The client asks for JSON.
    assert client.ping() == b'"pong"'
    ok("ping")
    info = client.get_info()
    assert info.name == "marathon" and info.version.startswith("1.") and info.leader, info
    assert info.marathon_config.ha and info.http_config.http_port, info
    ok("get_info")
    assert client.get_leader()["leader"] == info.leader
    ok("get_leader")
    assert "marathon.apps.active.gauge" in client.get_metrics()["gauges"]
    ok("get_metrics")


def apps():
    made = client.create_app("/web", sleeper(
        instances=2, labels={"tier": "front"}, env={"A": "1"}, constraints=[MarathonConstraint("hostname", "LIKE", ".*")],
        port_definitions=[{"port": 0, "name": "http", "protocol": "tcp"}],
    ))
    assert isinstance(made, MarathonApp) and made.id == "/web" and made.deployments, made
    ok("create_app")
    quiet()
    app = client.get_app("/web", embed_tasks=True, embed_counts=True, embed_task_stats=True)
    assert (app.instances, app.tasks_running, len(app.tasks)) == (2, 2, 2), app
    assert (app.labels["tier"], app.env["A"], app.constraints[0].operator) == ("front", "1", "LIKE")
    assert app.task_stats.total_summary.stats.counts.running == 2, app.task_stats
    refused(lambda: client.get_app("/none"), NotFoundError)
    ok("get_app")
    listed = client.list_apps(
        cmd="sleep", embed_tasks=True, embed_counts=True, embed_deployments=True, embed_readiness=True,
        embed_last_task_failure=True, embed_failures=True, embed_task_stats=True, app_id="we", label="tier==front")
    assert [app.id for app in listed] == ["/web"] and len(listed[0].tasks) == 2
    assert client.list_apps(label="tier!=front") == [] and client.list_apps(instances=3) == []
    ok("list_apps")
    assert {task.app_id for task in client.list_tasks()} == {"/web"} and len(ids("/web")) == 2
    ok("list_tasks")
    endpoints = client.list_endpoints()
    assert len(endpoints) == 2 and all(endpoint.app_id == "/web" and endpoint.task_port for endpoint in endpoints)
    ok("list_endpoints")


def changes():
    first = client.get_app("/web").version
    answer = client.update_app("/web", MarathonApp(cmd="sleep 2000"))
    assert answer["deploymentId"] and answer["version"], answer
    quiet()
    changed = client.get_app("/web")
    assert changed.cmd == "sleep 2000" and changed.version != first and changed.instances == 2
    ok("update_app")
    versions = client.list_versions("/web")
    assert {first, changed.version} <= set(versions), versions
    ok("list_versions")
    assert client.get_version("/web", first).cmd == "sleep 1000"
    ok("get_version")
    client.rollback_app("/web", first)
    quiet()
    assert client.get_app("/web").cmd == "sleep 1000"
    ok("rollback_app")
    before = ids("/web")
    assert client.restart_app("/web", force=True)["deploymentId"]
    until("other tasks", lambda: len(ids("/web")) == 2 and not ids("/web") & before)
    quiet()
    ok("restart_app")
    client.scale_app("/web", delta=1)
    until("three tasks", lambda: client.get_app("/web").tasks_running == 3)
    quiet()
    client.scale_app("/web", instances=2, force=True)
    quiet()
    ok("scale_app")
    both = [MarathonApp(id="/web", instances=1), sleeper(id="/other", instances=1)]
    assert client.update_apps(both)["deploymentId"]
    quiet()
    assert (len(ids("/web")), len(ids("/other"))) == (1, 1)
    ok("update_apps")
    assert client.delete_app("/other", force=True)["deploymentId"]
    refused(lambda: client.get_app("/other"), NotFoundError)
    quiet()
    ok("delete_app")


def kills():
    client.scale_app("/web", instances=3)
    quiet()
    victim = sorted(ids("/web"))[0]
    assert client.kill_task("/web", victim).id == victim
    until("a successor", lambda: len(ids("/web")) == 3 and victim not in ids("/web"))
    wiped = sorted(ids("/web"))[0]
    assert client.kill_task("/web", wiped, wipe=True).id == wiped
    until("a successor", lambda: len(ids("/web")) == 3 and wiped not in ids("/web"))
    ok("kill_task")
    until("three tasks", lambda: client.get_app("/web").tasks_running == 3)
    before = ids("/web")
    host = client.list_tasks("/web")[0].host
    assert {task.id for task in client.kill_tasks("/web", host=host)} == before
    until("three successors", lambda: len(ids("/web") - before) == 3 and not ids("/web") & before)
    until("three tasks", lambda: client.get_app("/web").tasks_running == 3)
    ok("kill_tasks")
    assert client.kill_given_tasks([])
    victims = sorted(ids("/web"))[:1]
    assert client.kill_given_tasks(victims, scale=True, force=True)
    quiet()
    assert client.get_app("/web").instances == 2
    assert "deploymentId" in client.kill_task("/web", sorted(ids("/web"))[0], scale=True)
    quiet()
    assert client.get_app("/web").instances == 1
    ok("kill_given_tasks")


def waiting():
    client.create_app("/huge", MarathonApp(cmd="x", cpus=1000, mem=32, instances=3))
    item = until("it waits", lambda: client.list_queue(embed_last_unused_offers=True))[0]
    assert (item.app.id, item.count, item.delay.overdue) == ("/huge", 3, True), item
    assert client.list_queue()[0].app.id == "/huge"
    ok("list_queue")
    client.reset_delay("/huge")
    refused(lambda: client.reset_delay("/web"), NotFoundError)
    ok("reset_delay")
    running = client.list_deployments()
    assert len(running) == 1 and running[0].affected_apps == ["/huge"] and running[0].steps, running
    ok("list_deployments")
    assert client.delete_deployment(running[0].id)["deploymentId"]
    until("it is undone", lambda: not client.list_apps(app_id="huge"))
    quiet()
    client.create_app("/huge", MarathonApp(cmd="x", cpus=1000, mem=32))
    assert client.delete_deployment(client.list_deployments()[0].id, force=True) == {}
    quiet()
    assert client.get_app("/huge").tasks_running == 0
    ok("delete_deployment")
    client.delete_app("/huge")
    quiet()


def groups():
    check = MarathonHealthCheck(protocol="COMMAND", command="true", interval_seconds=1, grace_period_seconds=5)
    group = MarathonGroup(id="/g", apps=[sleeper(id="/g/a", health_checks=[check])], groups=[
        MarathonGroup(id="/g/sub", apps=[sleeper(id="/g/sub/b")]),
    ])
    first = client.create_group(group)["version"]
    quiet()
    ok("create_group")
    assert [group.id for group in client.list_groups()] == ["/g"] and client.list_groups(id="/x") == []
    ok("list_groups")
    found = client.get_group("/g")
    assert ([app.id for app in found.apps], [group.id for group in found.groups]) == (["/g/a"], ["/g/sub"]), found
    ok("get_group")
    client.update_group("/g", MarathonGroup(id="/g", dependencies=["/web"]))
    quiet()
    assert client.get_group("/g").dependencies == ["/web"]
    ok("update_group")
    client.scale_group("/g", 2)
    quiet()
    assert [client.get_app(app).instances for app in ("/g/a", "/g/sub/b")] == [2, 2]
    ok("scale_group")
    client.rollback_group("/g", first)
    quiet()
    assert client.get_app("/g/a").instances == 1 and not client.get_group("/g").dependencies
    ok("rollback_group")
    assert client.delete_group("/g", force=True)["version"]
    refused(lambda: client.get_group("/g"), NotFoundError)
    quiet()
    ok("delete_group")


def subscriptions():
    for name, call in {
        "list_event_subscriptions": client.list_event_subscriptions,
        "create_event_subscription": lambda: client.create_event_subscription("http://localhost:1/"),
        "delete_event_subscription": lambda: client.delete_event_subscription("http://localhost:1/"),
    }.items():
        refused(call, MarathonHttpError)
        ok(name)


def events(successes, statuses):
    until("deployments were told", lambda: len(successes) >= 10)
    assert all(isinstance(event, MarathonDeploymentSuccess) and event.id for event in successes)
    running = [event for event in statuses if event.task_status == "TASK_RUNNING"]
    assert all(isinstance(event, MarathonStatusUpdateEvent) for event in statuses)
    assert {"/web", "/g/a", "/g/sub/b"} <= {event.app_id for event in running}, running
    ok("event_stream")


def leader():
    before = ids("/web")
    assert client.delete_leader() == {"message": "Leadership abdicated"}
    until("a leader", lambda: ids("/web") == before and client.get_leader()["leader"])
    client.scale_app("/web", instances=2)
    quiet()
    assert before < ids("/web")
    ok("delete_leader")


def main():
    successes, statuses = [], []
    follow([MarathonDeploymentSuccess], successes)
    follow(["status_update_event"], statuses)
    # Both streams are open once one says so.
    about()
    apps()
    changes()
    kills()
    waiting()
    groups()
    subscriptions()
    events(successes, statuses)
    leader()
    public = {name for name, _ in inspect.getmembers(MarathonClient, inspect.isfunction) if not name.startswith("_")}
    assert done == public, f"left out: {public - done}; unknown: {done - public}"
    print(f"all {len(done)} methods", flush=True)


main()

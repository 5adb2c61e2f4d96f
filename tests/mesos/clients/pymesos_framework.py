"""A small framework as people write them with pymesos: one command task, to its end, and what it is not for
declined. Usage: framework.py HOST:PORT. Prints a line for each thing that the test waits for."""

import os
import sys
from threading import Event, Thread

from addict import Dict
from pymesos import MesosOperatorMasterDriver, MesosSchedulerDriver, OperatorMaster, Scheduler


def say(*words):
    """One write for a line: two threads speak."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Watcher(OperatorMaster):
    """Sees what operators see."""

    def __init__(self):
        self.finished = Event()

    def taskAdded(self, task):
        say("operator added", task["task_id"]["value"])

    def taskUpdated(self, update):
        say("operator updated", update["state"])
        if update["state"] == "TASK_FINISHED":
            self.finished.set()


class WatcherDriver(MesosOperatorMasterDriver):
    subscribed = Event()

    def on_subscribed(self, info):
        self.subscribed.set()


def read(operator):
    """The calls that only read."""
    say("healthy", operator.getHealth()["get_health"]["healthy"])
    say("version", operator.getVersion()["get_version"]["version_info"]["version"])
    say("flags", len(operator.getFlags()["get_flags"]["flags"]) > 0)
    say("level", operator.getLoggingLevel()["get_logging_level"]["level"])
    frameworks = operator.getFrameworks()["get_frameworks"]["frameworks"]
    say("frameworks", *[f["framework_info"]["name"] for f in frameworks])
    tasks = operator.getState()["get_state"]["get_tasks"]
    say("state tasks", *[t["name"] for t in tasks["tasks"] + tasks["completed_tasks"]])
    say("tasks", len(operator.getTasks()["get_tasks"]["unreachable_tasks"]))
    say("agents", len(operator.getAgents()["get_agents"]["agents"]))
    say("roles", *[role["name"] for role in operator.getRoles()["get_roles"]["roles"]])
    say("executors", len(operator.getExecutors()["get_executors"]["executors"]))
    metrics = operator.getMetrics(1000000000)["get_metrics"]["metrics"]
    say("metric master/tasks_running", "master/tasks_running" in [m["name"] for m in metrics])
    say("master", operator.getMaster()["get_master"]["master_info"]["pid"].startswith("master@"))
    say("schedule", operator.getMaintenanceSchedule()["type"], operator.getMaintenanceStatus()["type"])


def change(operator):
    """The calls that change something, each seen by the next read."""
    operator.updateWeights([dict(role="eng", weight=2.0)])
    weights = operator.getWeights()["get_weights"]["weight_infos"]
    say("weights", *[word for w in weights for word in (w["role"], w["weight"])])
    cpus = [dict(name="cpus", type="SCALAR", scalar=dict(value=1))]
    operator.setQuota(dict(role="eng", guarantee=cpus, force=True))
    configs = operator.getQuota()["get_quota"]["status"]["configs"]
    say("quota", *[word for c in configs for word in (c["role"], c["limits"]["cpus"]["value"])])
    operator.removeQuota("eng")
    agent = operator.getAgents()["get_agents"]["agents"][0]["agent_info"]["id"]["value"]
    part = dict(name="cpus", type="SCALAR", scalar=dict(value=0.1), reservations=[dict(type="DYNAMIC", role="eng")])
    operator.reserveResources(agent, [part])
    agents = operator.getAgents()["get_agents"]["agents"]
    total = [a["total_resources"] for a in agents if a["agent_info"]["id"]["value"] == agent][0]
    say("reserved", any("reservations" in r for r in total))
    operator.unreserveResources(agent, [part])


class OneTask(Scheduler):
    def __init__(self, watcher, operator):
        self.launched = False
        self.watcher = watcher
        self.operator = operator

    def registered(self, driver, framework_id, master_info):
        say("registered", framework_id["value"])

    def resourceOffers(self, driver, offers):
        for offer in offers:
            cpus = sum(r.scalar.value for r in offer.resources if r.name == "cpus")
            if self.launched or cpus < 0.1:
                driver.declineOffer(offer.id, {"refuse_seconds": 60})
                say("declined")
                continue
            task = Dict()
            task.task_id.value = "from-pymesos"
            task.agent_id.value = offer.agent_id.value
            task.name = "from-pymesos"
            task.command.value = "echo hello; exit 0"
            task.resources = [
                dict(name="cpus", type="SCALAR", scalar={"value": 0.1}),
                dict(name="mem", type="SCALAR", scalar={"value": 32}),
            ]
            self.launched = True
            driver.launchTasks(offer.id, [task], {"refuse_seconds": 0})
            say("launched")

    def statusUpdate(self, driver, update):
        say("status", update.task_id.value, update.state)
        if update.state == "TASK_FINISHED":
            read(self.operator)
            change(self.operator)
            self.watcher.finished.wait(30)
            driver.stop()

    def error(self, driver, message):
        say("error", message)
        driver.stop()


def main():
    framework = Dict(user="root", name="from-pymesos", hostname="localhost")
    watcher = Watcher()
    operator = WatcherDriver(sys.argv[1], watcher)
    operator.start()
    if not operator.subscribed.wait(30):
        sys.exit("the operator was not subscribed within half a minute")
    driver = MesosSchedulerDriver(OneTask(watcher, operator), framework, sys.argv[1], use_addict=True)
    thread = Thread(target=driver.run, daemon=True)
    thread.start()
    thread.join(60)
    sys.exit("the driver did not stop within a minute" if thread.is_alive() else 0)


main()

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
            health = self.operator.getHealth()["get_health"]
            say("healthy", health["healthy"])
            frameworks = self.operator.getFrameworks()["get_frameworks"]["frameworks"]
            say("frameworks", *[f["framework_info"]["name"] for f in frameworks])
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

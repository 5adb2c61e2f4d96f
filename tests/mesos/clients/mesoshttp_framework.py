"""A small framework as people write them with mesoshttp: a task to its end, one that is killed, and what it is not for
declined. Usage: mesoshttp_framework.py URL. Prints a line for each thing that the test waits for."""

import os
import sys
from threading import Event, Thread

from mesoshttp.client import MesosClient

ROLE = "from-mesoshttp"
TASKS = {"short": "echo hello", "long": "sleep 1000"}


def say(*words):
    """One write for a line: two threads speak."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def scalar(name, value):
    return {"name": name, "type": "SCALAR", "scalar": {"value": value}, "allocation_info": {"role": ROLE}}


def task(name, agent):
    return {
        "name": name,
        "task_id": {"value": name},
        "agent_id": {"value": agent},
        "command": {"value": TASKS[name]},
        "resources": [scalar("cpus", 0.1), scalar("mem", 32)],
    }


class Framework:
    def __init__(self, url):
        self.client = MesosClient(mesos_urls=["http://127.0.0.1:1", url], frameworkName=ROLE, frameworkUser="root")
        self.client.set_role(ROLE)
        self.client.set_failover_timeout(60)
        self.driver = None
        self.launched = False
        self.ended = set()
        self.done = Event()
        self.client.on(MesosClient.SUBSCRIBED, self.subscribed)
        self.client.on(MesosClient.OFFERS, self.offers)
        self.client.on(MesosClient.UPDATE, self.update)
        self.client.on(MesosClient.ERROR, lambda message: say("error", message))

    def subscribed(self, driver):
        self.driver = driver
        say("subscribed", driver.frameworkId, self.client.get_master_info()["address"]["port"])

    def offers(self, offers):
        for offer in offers:
            if self.launched:
                offer.decline({"filters": {"refuse_seconds": 60}})
                say("declined")
                continue
            self.launched = True
            agent = offer.get_offer()["agent_id"]["value"]
            offer.accept([task(name, agent) for name in TASKS])
            say("launched")

    def update(self, update):
        status = update["status"]
        if "uuid" not in status:
            return
        name, state = status["task_id"]["value"], status["state"]
        say("status", name, state)
        if (name, state) == ("long", "TASK_RUNNING"):
            self.driver.kill(status["agent_id"]["value"], name)
        if state in ("TASK_FINISHED", "TASK_KILLED"):
            self.ended.add(name)
        if self.ended == set(TASKS):
            self.done.set()

    def nudge(self):
        """mesoshttp sees an event when the next one comes: answers to RECONCILE keep them coming."""
        while not self.done.wait(0.2):
            if self.driver:
                self.driver.reconcile([{"task_id": {"value": "none"}}])


def main():
    framework = Framework(sys.argv[1])
    Thread(target=framework.client.register, daemon=True).start()
    Thread(target=framework.nudge, daemon=True).start()
    if not framework.done.wait(60):
        sys.exit("the tasks did not end within a minute")
    framework.driver.tearDown()
    say("torn down")


main()

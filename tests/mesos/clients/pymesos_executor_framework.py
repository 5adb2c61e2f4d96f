"""A framework of pymesos with an executor of pymesos: three tasks, one after the other, in one process.
Usage: framework.py HOST:PORT. Prints a line for each thing that the test waits for."""

import os
import sys
from threading import Thread

from addict import Dict
from pymesos import MesosSchedulerDriver, Scheduler, decode_data, encode_data

EXECUTOR = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pymesos_executor.py")
TASKS = ["one", "two", "three"]


def resources(cpus, mem):
    return [
        dict(name="cpus", type="SCALAR", scalar={"value": cpus}),
        dict(name="mem", type="SCALAR", scalar={"value": mem}),
    ]


class WithExecutor(Scheduler):
    def __init__(self):
        self.todo = list(TASKS)
        self.busy = False

    def resourceOffers(self, driver, offers):
        for offer in offers:
            if self.busy or not self.todo:
                driver.declineOffer(offer.id, {"refuse_seconds": 0})
                continue
            executor = Dict()
            executor.executor_id.value = "worker"
            executor.name = "worker"
            executor.command.value = "exec %s %s" % (sys.executable, EXECUTOR)
            executor.resources = resources(0.1, 64)
            task = Dict()
            task.task_id.value = self.todo.pop(0)
            task.agent_id.value = offer.agent_id.value
            task.name = task.task_id.value
            task.executor = executor
            task.resources = resources(0.1, 32)
            self.busy = True
            driver.launchTasks(offer.id, [task], {"refuse_seconds": 0})

    def frameworkMessage(self, driver, executor_id, agent_id, message):
        print("message from", executor_id.value, decode_data(message).decode(), flush=True)
        driver.sendFrameworkMessage(executor_id, agent_id, encode_data(b"enough"))

    def statusUpdate(self, driver, update):
        print("status", update.task_id.value, update.state, update.get("message", ""), flush=True)
        print("executor of", update.task_id.value, update.executor_id.value, flush=True)
        if update.state == "TASK_FINISHED":
            self.busy = False
            if not self.todo:
                driver.stop()

    def error(self, driver, message):
        print("error", message, flush=True)
        driver.stop()


def main():
    framework = Dict(user="root", name="with-executor", hostname="localhost", checkpoint=True)
    driver = MesosSchedulerDriver(WithExecutor(), framework, sys.argv[1], use_addict=True)
    thread = Thread(target=driver.run, daemon=True)
    thread.start()
    thread.join(60)
    sys.exit("the driver did not stop within a minute" if thread.is_alive() else 0)


main()

"""An executor as people write them with pymesos: a task runs until the framework says that it is enough."""

from threading import Lock

from pymesos import Executor, MesosExecutorDriver, decode_data, encode_data


class Worker(Executor):
    def __init__(self):
        self.lock = Lock()
        self.tasks = []

    def registered(self, driver, executor_info, framework_info, agent_info):
        print("registered", executor_info["executor_id"]["value"], agent_info["hostname"], flush=True)

    def launchTask(self, driver, task):
        with self.lock:
            self.tasks.append(task)
        self.tell(driver, task, "TASK_RUNNING")
        driver.sendFrameworkMessage(encode_data(b"working on " + task["task_id"]["value"].encode()))

    def frameworkMessage(self, driver, message):
        print("message", decode_data(message).decode(), flush=True)
        with self.lock:
            task = self.tasks.pop()
        self.tell(driver, task, "TASK_FINISHED", decode_data(message).decode())

    def killTask(self, driver, task_id):
        self.tell(driver, dict(task_id=task_id), "TASK_KILLED")

    def tell(self, driver, task, state, message=None):
        status = dict(task_id=task["task_id"], state=state)
        if message:
            status["message"] = message
        driver.sendStatusUpdate(status)

    def shutdown(self, driver):
        print("shutdown", flush=True)


MesosExecutorDriver(Worker()).run()

"""An executor on the v1 API with what Python brings: a task runs until it is killed. It looks for its agent again
whenever the stream breaks, with what the agent has not acknowledged."""

import base64
import http.client
import json
import os
import time
import uuid

AGENT = os.environ["MESOS_AGENT_ENDPOINT"]
NAMES = {
    "framework_id": {"value": os.environ["MESOS_FRAMEWORK_ID"]},
    "executor_id": {"value": os.environ["MESOS_EXECUTOR_ID"]},
}
tasks, updates = {}, {}


def call(kind, **part):
    connection = http.client.HTTPConnection(AGENT)
    body = json.dumps({"type": kind, **NAMES, **part})
    connection.request("POST", "/api/v1/executor", body, {"Content-Type": "application/json"})
    return connection.getresponse()


def update(task, state):
    status = {
        "task_id": {"value": task},
        "state": state,
        "source": "SOURCE_EXECUTOR",
        "uuid": base64.b64encode(uuid.uuid4().bytes).decode(),
    }
    updates[status["uuid"]] = {"status": status}
    try:
        call("UPDATE", update={"status": status})
    except OSError:
        pass  # Sent again with the next SUBSCRIBE.


def handle(event):
    kind = event["type"]
    if kind == "LAUNCH":
        task = event["launch"]["task"]
        name = task["task_id"]["value"]
        tasks[name] = task
        print("launched", name, flush=True)
        update(name, "TASK_RUNNING")
    elif kind == "KILL":
        update(event["kill"]["task_id"]["value"], "TASK_KILLED")
    elif kind == "ACKNOWLEDGED":
        updates.pop(event["acknowledged"]["uuid"], None)
        tasks.pop(event["acknowledged"]["task_id"]["value"], None)
    elif kind == "SHUTDOWN":
        os._exit(0)


def listen():
    subscribe = {"unacknowledged_tasks": list(tasks.values()), "unacknowledged_updates": list(updates.values())}
    stream = call("SUBSCRIBE", subscribe=subscribe)
    if stream.status != 200:
        return
    while length := stream.readline():
        handle(json.loads(stream.read(int(length))))


while True:
    try:
        listen()
    except (OSError, http.client.HTTPException, ValueError):
        pass
    time.sleep(0.05)

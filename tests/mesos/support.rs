//! A cluster, and a framework that a test drives call by call.

use std::{
    collections::VecDeque,
    fmt::Debug,
    io,
    path::Path,
    time::{Duration, Instant},
};

use meshos_testing::{
    EventStream, Http, LocalCluster, Response,
    wait::{PATIENCE, until_blocking},
};
use serde_json::{Value, json};

pub(crate) const SCHEDULER: &str = "/api/v1/scheduler";
pub(crate) const JSON: (&str, &str) = ("Content-Type", "application/json");
/// Nothing that a test waits not to come takes longer to come.
pub(crate) const QUIET: Duration = Duration::from_millis(1500);

/// A Mesos cluster on free ports, with one agent of these resources.
pub(crate) fn cluster(dir: &Path, resources: &str) -> LocalCluster {
    cluster_of(dir, &format!("{resources};mem:1024;disk:1024;ports:[31000-31099]"))
}

/// The same, with an agent of these resources and no others.
pub(crate) fn cluster_of(dir: &Path, resources: &str) -> LocalCluster {
    let program = env!("CARGO_BIN_EXE_meshos");
    let flags = ["--without", "app-scheduler", "--resources", resources];
    LocalCluster::new(program, &dir.join("data")).with(&flags)
}

pub(crate) fn eventually<T, E: Debug>(what: &str, probe: impl FnMut() -> Result<T, E>) -> T {
    until_blocking(what, probe)
}

/// What a framework says of itself; `more` replaces and adds fields.
pub(crate) fn info(more: Value) -> Value {
    let mut info = json!({"user": "root", "name": "test", "roles": ["eng"], "failover_timeout": 60,
        "capabilities": [{"type": "MULTI_ROLE"}, {"type": "RESERVATION_REFINEMENT"}, {"type": "PARTITION_AWARE"}]});
    let Value::Object(more) = more else { panic!("fields are an object: {more}") };
    info.as_object_mut().unwrap().extend(more);
    info
}

/// A subscribed framework.
#[derive(Debug)]
pub(crate) struct Framework {
    mesos: Http,
    pub(crate) id: String,
    pub(crate) stream_id: String,
    pub(crate) events: EventStream,
    /// Events that came while another was waited for.
    aside: VecDeque<Value>,
    /// Offers that came together with one that was taken.
    offers: VecDeque<Value>,
}

/// Opens an event stream with a SUBSCRIBE.
pub(crate) fn open(mesos: &Http, info: &Value) -> EventStream {
    let mut call = json!({"type": "SUBSCRIBE", "subscribe": {"framework_info": info}});
    if let Some(id) = info.get("id") {
        call["framework_id"] = id.clone();
    }
    EventStream::open(mesos, ("POST", SCHEDULER), &[JSON], call.to_string().as_bytes()).unwrap()
}

impl Framework {
    pub(crate) fn subscribe(mesos: &Http, info: &Value) -> Self {
        let mut events = open(mesos, info);
        assert_eq!(events.status, 200);
        let stream_id = events.header("mesos-stream-id").unwrap().to_owned();
        let first = events.event(PATIENCE).unwrap().unwrap();
        assert_eq!(first["type"], "SUBSCRIBED", "{first}");
        let id = first["subscribed"]["framework_id"]["value"].as_str().unwrap().to_owned();
        Self { mesos: mesos.clone(), id, stream_id, events, aside: VecDeque::new(), offers: VecDeque::new() }
    }

    /// Sends what follows to another gateway than that of the event stream.
    pub(crate) fn calls_go_to(&mut self, mesos: &Http) {
        self.mesos = mesos.clone();
    }

    /// Sends a call of this type with the framework's id, and `part` as its body.
    pub(crate) fn call(&self, kind: &str, part: Value) -> Response {
        self.call_with(kind, part, &[JSON, ("Mesos-Stream-Id", &self.stream_id)])
    }

    pub(crate) fn call_with(&self, kind: &str, part: Value, headers: &[(&str, &str)]) -> Response {
        let mut call = json!({"type": kind, "framework_id": {"value": self.id}});
        call[kind.to_lowercase()] = part;
        self.mesos.send("POST", SCHEDULER, headers, call.to_string().as_bytes()).unwrap()
    }

    /// A call that is accepted.
    pub(crate) fn tell(&self, kind: &str, part: Value) {
        let response = self.call(kind, part);
        assert_eq!((response.status, response.text()), (202, String::new()), "{kind}");
    }

    /// The next event of this type; heartbeats aside, others are kept for later.
    pub(crate) fn next(&mut self, kind: &str) -> Value {
        self.next_within(kind, PATIENCE).unwrap_or_else(|| panic!("no {kind} came; {:?}", self.aside))
    }

    /// The same; none when none came in time.
    pub(crate) fn next_within(&mut self, kind: &str, patience: Duration) -> Option<Value> {
        if let Some(at) = self.aside.iter().position(|event| event["type"] == kind) {
            return self.aside.remove(at);
        }
        #[allow(clippy::disallowed_methods, reason = "a real process is waited for in real time")]
        let now = Instant::now;
        let deadline = now() + patience;
        loop {
            match self.events.event(deadline.saturating_duration_since(now())) {
                Ok(Some(event)) if event["type"] == kind => return Some(event),
                Ok(Some(event)) if event["type"] == "HEARTBEAT" => {}
                Ok(Some(event)) => self.aside.push_back(event),
                Ok(None) => panic!("the stream ended before {kind}; {:?}", self.aside),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return None,
                Err(error) => panic!("the stream broke before {kind}: {error}"),
            }
        }
    }

    /// Asserts that no event of this type comes for a while.
    pub(crate) fn none(&mut self, kind: &str, quiet: Duration) {
        let came = self.next_within(kind, quiet);
        assert_eq!(came, None);
    }

    /// The next offer.
    pub(crate) fn offer(&mut self) -> Value {
        if self.offers.is_empty() {
            let event = self.next("OFFERS");
            self.offers.extend(event["offers"]["offers"].as_array().unwrap().iter().cloned());
        }
        self.offers.pop_front().expect("an event of offers holds one")
    }

    /// The status of the next update; acknowledged when it asks for it.
    pub(crate) fn acked(&mut self) -> Value {
        let status = self.update();
        self.acknowledge(&status);
        status
    }

    /// The status of the next update.
    pub(crate) fn update(&mut self) -> Value {
        self.next("UPDATE")["update"]["status"].clone()
    }

    pub(crate) fn acknowledge(&self, status: &Value) {
        if let Some(uuid) = status.get("uuid") {
            let part = json!({"agent_id": status["agent_id"], "task_id": status["task_id"], "uuid": uuid});
            self.tell("ACKNOWLEDGE", part);
        }
    }

    /// Acknowledges updates until the task is in this state, and returns that status.
    pub(crate) fn until(&mut self, task: &str, state: &str) -> Value {
        loop {
            let status = self.acked();
            if status["task_id"]["value"] == task && status["state"] == state {
                return status;
            }
        }
    }

    /// Accepts an offer for tasks; the rest comes back at once.
    pub(crate) fn launch(&self, offer: &Value, tasks: &[Value]) {
        self.accept(&[offer["id"].clone()], tasks, 0.0);
    }

    pub(crate) fn accept(&self, offers: &[Value], tasks: &[Value], refuse_seconds: f64) {
        let launch = json!({"type": "LAUNCH", "launch": {"task_infos": tasks}});
        let filters = json!({"refuse_seconds": refuse_seconds});
        self.tell("ACCEPT", json!({"offer_ids": offers, "operations": [launch], "filters": filters}));
    }

    pub(crate) fn decline(&self, offer: &Value, filters: Value) {
        let mut part = json!({"offer_ids": [offer["id"]]});
        if !filters.is_null() {
            part["filters"] = filters;
        }
        self.tell("DECLINE", part);
    }

    pub(crate) fn kill(&self, task: &str) {
        self.tell("KILL", json!({"task_id": {"value": task}}));
    }
}

/// A command task on the agent of this offer, with a tenth of a cpu.
pub(crate) fn task(offer: &Value, id: &str, command: &str) -> Value {
    sized(offer, id, command, 0.1)
}

pub(crate) fn sized(offer: &Value, id: &str, command: &str, cpus: f64) -> Value {
    json!({"name": id, "task_id": {"value": id}, "agent_id": offer["agent_id"],
        "resources": [scalar("cpus", cpus), scalar("mem", 32.0)],
        "command": {"value": command}})
}

pub(crate) fn scalar(name: &str, value: f64) -> Value {
    json!({"name": name, "type": "SCALAR", "scalar": {"value": value}})
}

/// How much of a scalar an offer holds.
pub(crate) fn amount(offer: &Value, name: &str) -> f64 {
    let all = offer["resources"].as_array().into_iter().flatten();
    all.filter(|resource| resource["name"] == name).filter_map(|r| r["scalar"]["value"].as_f64()).sum()
}

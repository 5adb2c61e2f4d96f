//! An executor that does its duty: it tells again what was not acknowledged, and waits for an agent that is gone.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::ExitCode,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// For an agent to come back.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(20);

struct Executor {
    framework_id: Value,
    executor_id: Value,
    endpoint: String,
    /// Tasks of which no update was acknowledged yet.
    tasks: BTreeMap<String, Value>,
    /// Updates that were not acknowledged, oldest first.
    updates: Vec<Value>,
}

/// Runs until it is told to end, or nobody is there for long.
pub(crate) fn be_an_executor() -> ExitCode {
    let id = |name: &str| json!({"value": env::var(name).unwrap()});
    let mut executor = Executor {
        framework_id: id("MESOS_FRAMEWORK_ID"),
        executor_id: id("MESOS_EXECUTOR_ID"),
        endpoint: env::var("MESOS_AGENT_ENDPOINT").unwrap(),
        tasks: BTreeMap::new(),
        updates: Vec::new(),
    };
    let mut seen = Instant::now();
    while seen.elapsed() < PATIENCE {
        match executor.serve() {
            Ok(true) => return ExitCode::SUCCESS,
            Ok(false) => seen = Instant::now(),
            Err(_) => {}
        }
        std::thread::sleep(PAUSE);
    }
    ExitCode::FAILURE
}

impl Executor {
    fn post(&self, kind: &str, name: &str, body: Value) -> io::Result<BufReader<TcpStream>> {
        let call = json!({
            "type": kind, "framework_id": self.framework_id, "executor_id": self.executor_id, name: body,
        });
        let text = call.to_string();
        let mut stream = TcpStream::connect(&self.endpoint)?;
        write!(
            stream,
            "POST /api/v1/executor HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nAccept: \
             application/json\r\nContent-Length: {}\r\n\r\n{text}",
            self.endpoint,
            text.len()
        )?;
        Ok(BufReader::new(stream))
    }

    /// The status of an answer, behind its head.
    fn head(stream: &mut BufReader<TcpStream>) -> io::Result<u16> {
        let mut status = None;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line)? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            status = status.or_else(|| line.split(' ').nth(1)?.parse().ok());
            if line.trim().is_empty() {
                return status.ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
        }
    }

    /// Until the agent is gone; true: it is told to end.
    fn serve(&mut self) -> io::Result<bool> {
        let unacknowledged = json!({
            "unacknowledged_tasks": self.tasks.values().collect::<Vec<_>>(),
            "unacknowledged_updates": self.updates.iter().map(|status| json!({"status": status})).collect::<Vec<_>>(),
        });
        let mut stream = self.post("SUBSCRIBE", "subscribe", unacknowledged)?;
        if Self::head(&mut stream)? != 200 {
            return Ok(false);
        }
        let mut bytes = Vec::new();
        loop {
            let mut size = String::new();
            stream.read_line(&mut size)?;
            let Ok(size) = usize::from_str_radix(size.trim(), 16) else { return Ok(false) };
            let mut chunk = vec![0; size + 2];
            stream.read_exact(&mut chunk)?;
            bytes.extend_from_slice(&chunk[..size]);
            while let Some((event, rest)) = record(&bytes) {
                bytes = rest;
                if self.take(&event) {
                    return Ok(true);
                }
            }
        }
    }

    fn take(&mut self, event: &Value) -> bool {
        match event["type"].as_str().unwrap_or_default() {
            "SHUTDOWN" => return true,
            "LAUNCH" => {
                let task = &event["launch"]["task"];
                let id = task["task_id"]["value"].as_str().unwrap().to_owned();
                self.tasks.insert(id.clone(), task.clone());
                let file = format!("../../../../../../../../ran-{id}");
                let mut file = fs::File::options().create(true).append(true).open(file).unwrap();
                writeln!(file, "{}", std::process::id()).unwrap();
                self.tell(&id, "TASK_RUNNING");
                // One that has no data runs until it is killed.
                if task.get("data").is_some() {
                    self.tell(&id, "TASK_FINISHED");
                }
            }
            "KILL" => {
                let id = event["kill"]["task_id"]["value"].as_str().unwrap().to_owned();
                self.tell(&id, "TASK_KILLED");
            }
            "ACKNOWLEDGED" => {
                let acknowledged = &event["acknowledged"];
                self.updates.retain(|status| status["uuid"] != acknowledged["uuid"]);
                self.tasks.remove(acknowledged["task_id"]["value"].as_str().unwrap());
            }
            _ => {}
        }
        false
    }

    fn tell(&mut self, task: &str, state: &str) {
        let status = json!({
            "task_id": {"value": task},
            "state": state,
            "source": "SOURCE_EXECUTOR",
            "executor_id": self.executor_id,
            "uuid": STANDARD.encode(random()),
        });
        self.updates.push(status.clone());
        // One that does not arrive is told again with the next subscription.
        let answer = self.post("UPDATE", "update", json!({"status": status}));
        let _ = answer.and_then(|mut stream| Self::head(&mut stream));
    }
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes
}

/// The first whole record, and what follows it.
fn record(bytes: &[u8]) -> Option<(Value, Vec<u8>)> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let size: usize = std::str::from_utf8(&bytes[..end]).unwrap().parse().unwrap();
    let body = bytes.get(end + 1..end + 1 + size)?;
    Some((serde_json::from_slice(body).unwrap(), bytes[end + 1 + size..].to_vec()))
}

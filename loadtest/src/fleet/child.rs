//! The child process: agents in one thread, told what to do on standard input, reporting on standard output.

use std::{
    cell::RefCell,
    io::{BufRead, Write},
    rc::Rc,
    time::Duration,
};

use clap::Args;
use meshos_mesh::{Env, MeshChannel, connect, transport};
use tokio::{
    sync::watch,
    task::LocalSet,
    time::{MissedTickBehavior, interval},
};

use super::{
    agent::{Agent, FIRST_PORT},
    report::Report,
    serve::{self, Serving},
};

/// How often counts are reported, if they changed.
const REPORTS: Duration = Duration::from_millis(10);

/// One process of simulated agents.
#[derive(Args, Clone, Debug)]
pub(crate) struct FleetArguments {
    /// `host:port` of the registry.
    #[arg(long)]
    pub(crate) registry: String,
    /// How many agents.
    #[arg(long)]
    pub(crate) agents: usize,
    /// Number of this process, which the agents' names begin with.
    #[arg(long)]
    pub(crate) number: usize,
    /// Agents that share a connection.
    #[arg(long)]
    pub(crate) streams: usize,
    /// Report TASK_RUNNING alone.
    #[arg(long)]
    pub(crate) one_update: bool,
    /// Tasks are web servers: each agent has a loopback address, and this many ports from the first one on.
    #[arg(long, value_name = "PORTS")]
    pub(crate) serve: Option<u16>,
    /// Each task has a listener of its own: whoever connects when it has ended is refused.
    #[arg(long)]
    pub(crate) listen_each: bool,
}

/// What the agents of the process share. All run in one thread.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) env: Env,
    pub(crate) arguments: FleetArguments,
    pub(crate) report: RefCell<Report>,
    /// Counts the commands to finish all tasks.
    pub(crate) finish: watch::Receiver<u64>,
    /// The id of a task that dies.
    pub(crate) fail: watch::Receiver<String>,
    pub(crate) serving: Rc<Serving>,
}

impl Shared {
    pub(crate) fn now_us(&self) -> u64 {
        u64::try_from(self.env.clock.since_epoch().as_micros()).unwrap_or(u64::MAX)
    }
}

/// A connection to the leading allocator that some agents share, made again for each leader.
#[derive(Debug, Default)]
pub(crate) struct LinkChannel(RefCell<Option<(String, MeshChannel)>>);

impl LinkChannel {
    pub(crate) fn to(&self, env: &Env, address: &str) -> MeshChannel {
        let mut channel = self.0.borrow_mut();
        match channel.as_ref().filter(|(known, _)| known == address) {
            Some((_, channel)) => channel.clone(),
            None => channel.insert((address.to_owned(), connect(env, address))).1.clone(),
        }
    }
}

pub(crate) fn main(arguments: FleetArguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (finish, finished) = watch::channel(0);
    let (fail, failed) = watch::channel(String::new());
    let (go, gone) = watch::channel(false);
    // Ends the process when the parent has gone.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            match line.as_str() {
                "go" => drop(go.send_replace(true)),
                "finish" => finish.send_modify(|count| *count += 1),
                line => {
                    if let Some(task) = line.strip_prefix("fail ") {
                        fail.send_replace(task.to_owned());
                    }
                }
            }
        }
        std::process::exit(0);
    });
    let env = Env::real(transport::tcp());
    let serving = Rc::new(Serving::new(arguments.listen_each));
    let shared =
        Shared { env, arguments, report: RefCell::default(), finish: finished, fail: failed, serving };
    runtime.block_on(LocalSet::new().run_until(run(Rc::new(shared), gone)))
}

#[allow(clippy::disallowed_methods, reason = "tasks of one thread, which ends with the process")]
async fn run(shared: Rc<Shared>, mut gone: watch::Receiver<bool>) -> anyhow::Result<()> {
    let shared_ports = shared.arguments.serve.filter(|_| !shared.arguments.listen_each);
    for port in 0..shared_ports.unwrap_or_default() {
        serve::listen(FIRST_PORT + port, Rc::clone(&shared.serving)).await?;
    }
    gone.wait_for(|gone| *gone).await?;
    let agents: Vec<usize> = (0..shared.arguments.agents).collect();
    for group in agents.chunks(shared.arguments.streams.max(1)) {
        let registry = connect(&shared.env, &shared.arguments.registry);
        let links = Rc::new(LinkChannel::default());
        for number in group {
            let agent = Agent::new(&shared, *number, registry.clone(), Rc::clone(&links));
            tokio::task::spawn_local(agent.run());
        }
    }
    let mut told = Report::default();
    let mut times = interval(REPORTS);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        times.tick().await;
        let report = *shared.report.borrow();
        if report != told {
            told = report;
            let mut stdout = std::io::stdout().lock();
            writeln!(stdout, "{}", report.line())?;
            stdout.flush()?;
        }
    }
}

//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

use crate::fleet::child::FleetArguments;

/// What to measure, at what scale, and with which binary.
#[derive(Parser, Clone, Debug)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// The `meshos` binary.
    #[arg(long, default_value = "target/release/meshos")]
    pub(crate) binary: PathBuf,
    /// Scenarios, in this order, with commas between them.
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Scenario::Start, Scenario::Posts, Scenario::Thousand, Scenario::Allocation, Scenario::Agent])]
    pub(crate) scenario: Vec<Scenario>,
    /// `start`: how often.
    #[arg(long, default_value_t = 20)]
    pub(crate) starts: usize,
    /// `posts`: apps to post one after the other.
    #[arg(long, default_value_t = 100)]
    pub(crate) apps: usize,
    /// `thousand`: instances of the one large app.
    #[arg(long, default_value_t = 1000)]
    pub(crate) instances: usize,
    /// Simulated agents.
    #[arg(long, default_value_t = 50_000)]
    pub(crate) agents: usize,
    /// Processes that the simulated agents are spread over.
    #[arg(long, default_value_t = 2)]
    pub(crate) fleets: usize,
    /// Agents that share a connection.
    #[arg(long, default_value_t = 200)]
    pub(crate) streams: usize,
    /// Frameworks.
    #[arg(long, default_value_t = 200)]
    pub(crate) frameworks: usize,
    /// How many of them speak HTTP with the gateway; the others speak gRPC with the allocator.
    #[arg(long, default_value_t = 10)]
    pub(crate) http: usize,
    /// Tasks to launch as fast as they are accepted. `failover`: tasks that run when the leader is killed.
    #[arg(long, default_value_t = 200_000)]
    pub(crate) tasks: u64,
    /// Tasks in one ACCEPT.
    #[arg(long, default_value_t = 10)]
    pub(crate) each: usize,
    /// Launches under way per framework while they go as fast as they can.
    #[arg(long, default_value_t = 40)]
    pub(crate) window: usize,
    /// Launches per second while latency is measured.
    #[arg(long, default_value_t = 1000)]
    pub(crate) rate: u64,
    /// Seconds of that, and of doing nothing.
    #[arg(long, default_value_t = 10)]
    pub(crate) seconds: u64,
    /// Agents report TASK_RUNNING alone, without TASK_STARTING before it.
    #[arg(long)]
    pub(crate) one_update: bool,
    /// `failover`: finished tasks of the past, beside those that run.
    #[arg(long, default_value_t = 0)]
    pub(crate) history: u64,
    /// `balancing`: numbers of apps to measure with, with commas between them.
    #[arg(long, value_delimiter = ',', default_values_t = [10, 1000])]
    pub(crate) balanced: Vec<usize>,
    /// `balancing`: instances of each app.
    #[arg(long, default_value_t = 10)]
    pub(crate) servers: usize,
    /// `balancing`: times that a change is measured.
    #[arg(long, default_value_t = 200)]
    pub(crate) changes: usize,
    /// `balancing`: requests to make while everything changes.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) requests: u64,
    /// Tasks are web servers, and each agent has so many ports for them.
    #[arg(skip)]
    pub(crate) serve: Option<u16>,
    /// Each of them has a listener of its own.
    #[arg(skip)]
    pub(crate) listen_each: bool,
    /// `apps`: instances of the large app, and tasks of all apps together where there are many.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) large: u64,
    /// `apps`: apps deployed at once; in the end there are ten times as many.
    #[arg(long, default_value_t = 1000)]
    pub(crate) many: u64,
    /// `leaders`: how often the leading app-scheduler is killed.
    #[arg(long, default_value_t = 30)]
    pub(crate) kills: u64,
    /// `checks`: instances whose health is checked every 10 s.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) checked: u64,
    /// `agent`: tasks at once; twice as many for its restart.
    #[arg(long, default_value_t = 1000)]
    pub(crate) containers: usize,
    /// `images`: starts of each kind, one after the other.
    #[arg(long, default_value_t = 50)]
    pub(crate) image_starts: usize,
    /// `images`: containers of our own at once; a quarter as many of the Docker Engine.
    #[arg(long, default_value_t = 200)]
    pub(crate) image_containers: usize,
    /// Keep logs and data of the services in this directory.
    #[arg(long, value_name = "DIR")]
    pub(crate) keep: Option<PathBuf>,
}

#[derive(Subcommand, Clone, Debug)]
pub(crate) enum Command {
    /// One process of simulated agents; the scenarios start it themselves.
    #[command(hide = true)]
    Fleet(FleetArguments),
}

#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// `meshos local`: from the start to `meshos ready`.
    Start,
    /// `meshos local`: from POST to TASK_RUNNING.
    Posts,
    /// `meshos local`: an app with a thousand instances.
    Thousand,
    /// The allocator's decisions, in this process.
    Allocation,
    /// Registration, latency of launches, launches per second, idle cost.
    Cluster,
    /// The leading allocator is killed.
    Failover,
    /// One framework reconciles all its tasks while others launch.
    Reconcile,
    /// Marathon's API: large apps, many apps, cancels.
    Apps,
    /// Health checks that the app-scheduler runs.
    Checks,
    /// The leading app-scheduler is killed again and again during deployments.
    Leaders,
    /// One real agent, with limits by cgroups: start, stop, memory, restart, reads, checks.
    Agent,
    /// Tasks with an image, beside `docker run` of the same one. Needs a Docker engine.
    Images,
    /// HAProxy in front of many apps: from a change to the first request, and requests that fail meanwhile.
    Balancing,
}

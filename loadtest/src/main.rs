//! Measures meshos: `meshos local` on one machine, the allocator's decisions, and a large cluster of real control
//! services with simulated agents and frameworks.

mod agent;
mod allocation;
mod apps;
mod arguments;
mod balancing;
mod cluster;
mod fleet;
mod framework;
mod load;
mod local;
mod memory;
mod statistics;

use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;

use crate::arguments::{Arguments, Command, Scenario};

/// As in `meshos`: the load comes from the same machine.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::parse();
    if let Some(Command::Fleet(fleet)) = arguments.command.take() {
        return fleet::child::main(fleet);
    }
    let size = std::fs::metadata(&arguments.binary)?.len();
    show("| figure | value |\n| --- | --- |");
    show(&format!("| size of the binary | {:.1} MiB |", statistics::mebibytes(size)));
    for scenario in &arguments.scenario {
        run(*scenario, &arguments)?;
    }
    Ok(())
}

fn run(scenario: Scenario, arguments: &Arguments) -> anyhow::Result<()> {
    let binary = &arguments.binary;
    let rows = match scenario {
        Scenario::Start => local::starts(binary, arguments.starts)?,
        Scenario::Posts => local::posts(binary, arguments.apps)?,
        Scenario::Thousand => local::thousand(binary, arguments.instances)?,
        Scenario::Allocation => return allocation::rows(arguments.agents, show),
        // Rows are shown as they come: these take minutes.
        Scenario::Cluster => return load::blocking(load::cluster::run(arguments)),
        Scenario::Failover => return load::blocking(load::failover::run(arguments)),
        Scenario::Reconcile => return load::blocking(load::reconcile::run(arguments)),
        Scenario::Apps => return load::blocking(apps::run(arguments)),
        Scenario::Checks => return load::blocking(apps::checks::run(arguments)),
        Scenario::Leaders => return load::blocking(apps::leaders::run(arguments)),
        Scenario::Agent => return load::blocking(agent::run(arguments)),
        Scenario::Images => return load::blocking(agent::images::run(arguments)),
        Scenario::Balancing => return load::blocking(balancing::run(arguments)),
    };
    rows.iter().for_each(|row| show(row));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
pub(crate) fn show(row: &str) {
    println!("{row}");
}

/// What is worth knowing and no figure; the first few times.
#[allow(clippy::print_stderr, reason = "beside the table")]
pub(crate) fn note(text: &str) {
    static NOTES: AtomicUsize = AtomicUsize::new(0);
    const MOST: usize = 20;
    if NOTES.fetch_add(1, Ordering::Relaxed) < MOST {
        eprintln!("{text}");
    }
}

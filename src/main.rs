//! One binary, a subcommand per service. This file only starts things.

mod cli;
mod environment;
mod local;
mod single;

use std::process::ExitCode;

use clap::Parser;
use meshos_mesh::telemetry;

use crate::cli::{Cli, Command};

/// A third of a busy allocator's time went into the C library's: messages are many small pieces, made by one thread
/// and freed by another.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let findings = environment::check(variable_names(), &cli::known_variables());
    if !findings.unknown.is_empty() {
        let names = findings.unknown.join(", ");
        return fail(&anyhow::anyhow!(
            "unknown environment setting: {names}; `meshos help` lists the known ones"
        ));
    }
    let cli = Cli::parse_from(meshos_agent::config::mesos_forms(std::env::args_os()));
    if let Command::Supervisor(arguments) = &cli.command {
        // Small and single-threaded: no runtime, no telemetry.
        return meshos_agent::supervisor::main(&arguments.dir);
    }
    match run(cli, &findings.meaningless) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn run(cli: Cli, meaningless: &[String]) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let name = cli.command.name();
        let log_file = cli.log_dir.map(|dir| telemetry::log_file(&dir, name));
        let telemetry = telemetry::init(name, cli.log_format, log_file.as_deref())?;
        if !meaningless.is_empty() {
            tracing::info!(settings = meaningless.join(", "), "settings without a meaning here");
        }
        let result = match cli.command {
            Command::Local(arguments) => Box::pin(local::run(arguments, log_file)).await,
            other => Box::pin(single::run(other, log_file)).await,
        };
        telemetry.shutdown();
        result
    })
}

fn variable_names() -> impl Iterator<Item = String> {
    std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned())
}

/// The error and its causes, on standard error.
fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

//! Measures `meshos local`: start, time to a running task, a thousand tasks, memory.

mod memory;
mod scenarios;
mod statistics;

use std::path::PathBuf;

use clap::Parser;

/// What to measure, and with which binary.
#[derive(Parser, Debug)]
struct Arguments {
    /// The `meshos` binary.
    #[arg(long, default_value = "target/release/meshos")]
    binary: PathBuf,
    /// Starts to measure.
    #[arg(long, default_value_t = 20)]
    starts: usize,
    /// Apps to post one after the other.
    #[arg(long, default_value_t = 100)]
    apps: usize,
    /// Instances of the one large app.
    #[arg(long, default_value_t = 1000)]
    instances: usize,
}

#[allow(clippy::print_stdout, reason = "the table is what this program is for")]
fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let size = std::fs::metadata(&arguments.binary)?.len();
    println!("| figure | value |\n| --- | --- |");
    println!("| size of the binary | {:.1} MiB |", statistics::mebibytes(size));
    for row in scenarios::starts(&arguments.binary, arguments.starts)? {
        println!("{row}");
    }
    for row in scenarios::posts(&arguments.binary, arguments.apps)? {
        println!("{row}");
    }
    for row in scenarios::thousand(&arguments.binary, arguments.instances)? {
        println!("{row}");
    }
    Ok(())
}

//! The Docker Engine by its own client.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use tokio::time::Instant;

use crate::memory;

pub(super) const IMAGE: &str = "debian:bookworm-slim";

/// Puts the image where an agent's `--docker_registry` may be.
pub(super) fn save(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join(format!("{IMAGE}.tar"));
    docker(&["save", "--output", &path.display().to_string(), IMAGE])
}

/// What the engine's own client needs for the same container as a task of the load test.
pub(super) async fn docker_run(name: &str) -> anyhow::Result<Duration> {
    let name = name.to_owned();
    let run = move || {
        let arguments = ["run", "--detach", "--network", "host", "--memory", "32m", "--cpu-shares", "10"];
        docker(&[&arguments[..], &["--name", &name, IMAGE, "/bin/sleep", "100000"]].concat())
    };
    let began = Instant::now();
    tokio::task::spawn_blocking(run).await??;
    Ok(began.elapsed())
}

pub(super) fn remove(names: &[String]) -> anyhow::Result<()> {
    let names: Vec<_> = names.iter().map(String::as_str).collect();
    docker(&[&["rm", "--force"][..], &names].concat())
}

/// Proportional memory in bytes of all processes of the engine but those in its containers.
pub(super) fn pss() -> u64 {
    let programs = ["dockerd", "containerd", "containerd-shim", "docker-proxy"];
    programs.iter().flat_map(|program| memory::running(program)).filter_map(memory::pss).sum()
}

fn docker(arguments: &[&str]) -> anyhow::Result<()> {
    let status = Command::new("docker").args(arguments).stdout(Stdio::null()).status();
    ensure!(status.context("docker cannot be started")?.success(), "docker {} failed", arguments.join(" "));
    Ok(())
}

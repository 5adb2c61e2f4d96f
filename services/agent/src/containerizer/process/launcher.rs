//! Starts a supervisor that nothing ties to the agent.
#![allow(unsafe_code, reason = "a hook between fork and exec has no safe form")]

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use nix::{
    libc,
    unistd::{self, ForkResult},
};

use crate::supervisor::sys::close_inherited;

/// What is executed as the supervisor.
#[derive(Clone, Debug)]
pub struct SupervisorProgram {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// Beside the agent's own environment.
    pub environment: Vec<(String, String)>,
}

impl SupervisorProgram {
    /// This program, with `supervisor --dir <dir>`. Its own file is meant even when another lies at its path.
    #[must_use]
    pub fn this_program(dir: &Path) -> Self {
        Self {
            program: PathBuf::from("/proc/self/exe"),
            arguments: vec!["supervisor".into(), "--dir".into(), dir.into()],
            environment: Vec::new(),
        }
    }
}

/// Starts the program in a session of its own, not as a child of this process. Returns once it runs.
pub(super) fn start(dir: &Path, supervisor: &SupervisorProgram) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.join("log"))?;
    let mut command = Command::new(&supervisor.program);
    command
        .arg0("meshos-supervisor")
        .args(&supervisor.arguments)
        .envs(supervisor.environment.iter().map(|(name, value)| (name, value)))
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: the hook makes system calls only; it takes no lock and no memory.
    unsafe {
        command.pre_exec(|| {
            close_inherited();
            unistd::setsid()?;
            match unistd::fork()? {
                // The parent waits for this process; the supervisor falls to init.
                ForkResult::Parent { .. } => libc::_exit(0),
                ForkResult::Child => Ok(()),
            }
        });
    }
    command.spawn()?.wait().map(drop)
}

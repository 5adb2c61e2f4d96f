//! One call of a plugin's program.

use std::{io, path::PathBuf, process::Stdio, time::Duration};

use serde_json::{Map, Value};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::Command,
    time::timeout,
};

use super::{Attachment, Plugins, result};
use crate::network::namespace;

/// A plugin that takes longer is ended.
const LONGEST: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const LARGEST: u64 = 1024 * 1024;
/// What there is to say about a plugin that is not there.
pub(super) const MISSING: &str = "is in none of the directories";

/// Calls the plugin that the input names; what it answers to ADD.
pub(super) async fn run(
    plugins: &Plugins<'_>,
    command: &str,
    (attachment, input): (&Attachment, Map<String, Value>),
) -> Result<Option<Value>, String> {
    let name = input.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    let program = find(plugins, &name)?;
    let input = serde_json::to_vec(&input).map_err(|error| error.to_string())?;
    let mut process = Command::new(program);
    process
        .env_clear()
        .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", plugins.container_id)
        // Empty where it is gone: there is only the rest to undo.
        .env("CNI_NETNS", namespace::kept(plugins.dir).unwrap_or_default())
        .env("CNI_IFNAME", format!("eth{}", attachment.number))
        .env(
            "CNI_PATH",
            plugins.dirs.iter().map(|dir| dir.display().to_string()).collect::<Vec<_>>().join(":"),
        )
        .env("CNI_ARGS", "IgnoreUnknown=1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let failed = |reason: String| {
        format!("CNI plugin '{name}' of the network '{}' failed at {command}: {reason}", attachment.network())
    };
    let called = timeout(LONGEST, call(process, &input)).await;
    let called =
        called.unwrap_or_else(|_| Err(io::Error::other(format!("no answer within {} s", LONGEST.as_secs()))));
    let (succeeded, output, errors) = called.map_err(|error| failed(error.to_string()))?;
    if !succeeded {
        let said = || String::from_utf8_lossy(&errors).trim().to_owned();
        return Err(failed(result::failure(&output).unwrap_or_else(said)));
    }
    if command != "ADD" {
        return Ok(None);
    }
    serde_json::from_slice(&output)
        .map(Some)
        .map_err(|error| failed(format!("its answer cannot be read: {error}")))
}

fn find(plugins: &Plugins<'_>, name: &str) -> Result<PathBuf, String> {
    let mut paths = plugins.dirs.iter().map(|dir| dir.join(name));
    paths.find(|path| path.is_file()).ok_or_else(|| {
        let dirs: Vec<_> = plugins.dirs.iter().map(|dir| dir.display().to_string()).collect();
        format!("the CNI plugin '{name}' {MISSING} {} (--network_cni_plugins_dir)", dirs.join(":"))
    })
}

async fn call(mut process: Command, input: &[u8]) -> io::Result<(bool, Vec<u8>, Vec<u8>)> {
    let mut child = process.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let write = async {
        let Some(mut stdin) = stdin else { return };
        // One that does not read its input says why in its answer.
        let _ = stdin.write_all(input).await;
    };
    let ((), output, errors) = tokio::join!(write, read(stdout), read(stderr));
    Ok((child.wait().await?.success(), output?, errors?))
}

async fn read(stream: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let Some(stream) = stream else { return Ok(bytes) };
    stream.take(LARGEST).read_to_end(&mut bytes).await?;
    Ok(bytes)
}

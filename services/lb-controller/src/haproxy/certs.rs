//! Certificates of the HTTPS port: files of the operator, copied beside the configuration, and changed in the
//! running HAProxy by its transactions.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use super::{
    files::{Files, digest, replace},
    socket,
};

/// What HAProxy takes in one command; a longer chain needs a reload.
const LONGEST: usize = 15 * 1024;

/// A certificate with its key, by the name of its copy.
pub type Pems = BTreeMap<String, String>;

/// The certificates that there are at the paths (files, or directories of `*.pem`), in order: the first one is the
/// default.
#[must_use]
pub fn read(paths: &[PathBuf], inline: &[String]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (index, pem) in inline.iter().enumerate() {
        found.push((format!("{index:03}-inline.pem"), normal(&pem.replace("\\n", "\n"))));
    }
    for (index, path) in paths.iter().enumerate() {
        let index = index + inline.len();
        let mut files = if path.is_dir() { pems_of(path) } else { vec![path.clone()] };
        files.sort();
        for file in files {
            let Ok(text) = fs::read_to_string(&file) else { continue };
            let clean: String = file
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || ".-_".contains(c) { c } else { '_' })
                .take(150)
                .collect();
            found.push((format!("{index:03}-{clean}"), normal(&text)));
        }
    }
    found
}

fn pems_of(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.extension().is_some_and(|extension| extension == "pem")).collect()
}

/// Without blank lines: they end a payload.
fn normal(pem: &str) -> String {
    pem.lines().map(str::trim_end).filter(|line| !line.is_empty()).map(|line| format!("{line}\n")).collect()
}

/// What changes when a file does, to look at instead of its content.
#[must_use]
pub fn stamp(paths: &[PathBuf]) -> u64 {
    let mut text = String::new();
    for path in paths {
        let files = if path.is_dir() { pems_of(path) } else { vec![path.clone()] };
        for file in files {
            let Ok(meta) = fs::metadata(&file) else { continue };
            let changed = meta.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            text.push_str(&format!("{file:?} {} {:?}\n", meta.len(), changed.unwrap_or(Duration::ZERO)));
        }
    }
    digest(text.as_bytes())
}

/// A certificate for everybody, when the operator has none.
///
/// # Errors
/// When none can be made.
pub fn self_signed() -> Result<String, rcgen::Error> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    Ok(normal(&format!("{}\n{}", made.cert.pem(), made.signing_key.serialize_pem())))
}

/// Path of the list that the HTTPS port uses.
#[must_use]
pub fn list(files: &Files) -> PathBuf {
    files.certs().join("list")
}

/// Writes the copies and their list, and removes others.
///
/// # Errors
/// When that is not possible.
pub fn write(files: &Files, certs: &[(String, String)]) -> io::Result<()> {
    for (name, pem) in certs {
        let path = files.certs().join(name);
        if fs::read_to_string(&path).ok().as_ref() != Some(pem) {
            replace(&path, pem.as_bytes())?;
        }
    }
    let lines: String =
        certs.iter().map(|(name, _)| format!("{}\n", files.certs().join(name).display())).collect();
    replace(&list(files), lines.as_bytes())?;
    for entry in fs::read_dir(files.certs())?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != "list" && !certs.iter().any(|(known, _)| *known == name) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Brings the running HAProxy from one set of certificates to another. Returns what it refused, by name.
///
/// # Errors
/// When HAProxy cannot be reached.
pub async fn apply(files: &Files, before: &Pems, after: &Pems) -> io::Result<BTreeMap<String, String>> {
    let mut refused = BTreeMap::new();
    let (socket, list) = (files.stats_socket(), list(files));
    for (name, pem) in after {
        if before.get(name) == Some(pem) {
            continue;
        }
        let path = files.certs().join(name);
        let path = path.display();
        if pem.len() > LONGEST {
            refused.insert(name.clone(), "too long to be changed without a reload".to_owned());
            continue;
        }
        let known = before.contains_key(name);
        if !known {
            socket::ask(&socket, &format!("new ssl cert {path}")).await?;
        }
        let set = socket::ask(&socket, &format!("set ssl cert {path} <<\n{pem}")).await?;
        let committed = socket::ask(&socket, &format!("commit ssl cert {path}")).await?;
        if !committed.contains("Success") {
            socket::ask(&socket, &format!("abort ssl cert {path}")).await?;
            if !known {
                socket::ask(&socket, &format!("del ssl cert {path}")).await?;
            }
            let said = [set.trim(), committed.trim()].join(" ");
            refused.insert(name.clone(), said.replace('\n', " "));
        } else if !known {
            socket::ask(&socket, &format!("add ssl crt-list {} {path}", list.display())).await?;
        }
    }
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        let path = files.certs().join(name);
        let path = path.display();
        socket::ask(&socket, &format!("del ssl crt-list {} {path}", list.display())).await?;
        socket::ask(&socket, &format!("del ssl cert {path}")).await?;
    }
    Ok(refused)
}

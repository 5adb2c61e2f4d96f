//! All files of an image, by overlayfs from the store's layers, and by the Docker Engine.

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Kind, mode, owner, group, size, time, and where a link leads.
type File = (u8, u32, u64, u64, u64, u64, Option<Vec<u8>>);
pub(crate) type Tree = BTreeMap<String, File>;

/// What the engine puts into every container.
const ENGINES: [&str; 8] =
    [".dockerenv", "dev", "proc", "sys", "etc/hostname", "etc/hosts", "etc/resolv.conf", "etc/mtab"];

/// As a container would see them: in a mount namespace of its own, which goes with the program.
pub(crate) fn mounted(layers: &[PathBuf], dir: &Path) -> Tree {
    let mountpoint = dir.join("root");
    std::fs::create_dir(&mountpoint).unwrap();
    let empty = dir.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let lower: Vec<_> =
        layers.iter().rev().chain([&empty]).map(|layer| layer.display().to_string()).collect();
    let script = "mount -t overlay overlay -o lowerdir=$1 $2 && exec tar -C $2 --sort=name -c .";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(lower.join(":")).arg(&mountpoint);
    read(&mut command)
}

pub(crate) fn exported(image: &str) -> Tree {
    let container = super::docker(&["create", image]);
    let tree = read(Command::new("docker").args(["export", &container]));
    super::docker(&["rm", &container]);
    tree
}

fn read(command: &mut Command) -> Tree {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut archive = tar::Archive::new(child.stdout.take().unwrap());
    let mut tree = Tree::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let path =
            entry.path().unwrap().to_string_lossy().trim_start_matches("./").trim_end_matches('/').to_owned();
        let mut size = 0;
        let mut buffer = vec![0; 65536];
        while let Ok(count @ 1..) = entry.read(&mut buffer) {
            size += count as u64;
        }
        let header = entry.header();
        // Which of several names comes first is chance.
        let kind = if header.entry_type().is_hard_link() { b'0' } else { header.entry_type().as_byte() };
        let link = entry.link_name_bytes().filter(|_| kind == b'2').map(|link| link.into_owned());
        let size = if header.entry_type().is_hard_link() { 0 } else { size };
        let (uid, gid) = (header.uid().unwrap(), header.gid().unwrap());
        let file = (kind, header.mode().unwrap() & 0o7777, uid, gid, size, header.mtime().unwrap(), link);
        tree.insert(path, file);
    }
    let mut rest = Vec::new();
    let _ = archive.into_inner().read_to_end(&mut rest);
    assert!(child.wait().unwrap().success());
    tree
}

pub(crate) fn assert_same(ours: &Tree, theirs: &Tree) {
    let counts = |path: &&String| {
        !path.is_empty() && !ENGINES.iter().any(|own| Path::new(path.as_str()).starts_with(own))
            // What the engine puts in changes the time of what it lies in.
            && *path != "etc"
            && *path != "data"
    };
    let (names, wanted): (Vec<_>, Vec<_>) =
        (ours.keys().filter(counts).collect(), theirs.keys().filter(counts).collect());
    assert!(names.len() > 1000, "{} files", names.len());
    let lacking: Vec<_> = wanted.iter().filter(|name| !ours.contains_key(**name)).take(10).collect();
    let surplus: Vec<_> = names.iter().filter(|name| !theirs.contains_key(**name)).take(10).collect();
    assert!(lacking.is_empty() && surplus.is_empty(), "lacking {lacking:?}, surplus {surplus:?}");
    let other: Vec<_> = names
        .iter()
        .filter(|name| {
            let (own, their) = (&ours[**name], &theirs[**name]);
            // The size of a further name of a file is 0 in either.
            let sizes = own.4 == their.4 || own.4 == 0 || their.4 == 0;
            !sizes
                || (own.0, own.1, own.2, own.3, own.5, &own.6)
                    != (their.0, their.1, their.2, their.3, their.5, &their.6)
        })
        .take(10)
        .map(|name| (name, &ours[*name], &theirs[*name]))
        .collect();
    assert!(other.is_empty(), "{other:#?}");
}

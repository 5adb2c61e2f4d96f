//! Which cgroups there are, and which of them this agent may use.

use std::{fs, path::Path};

use super::{CgroupSettings, Version};

pub(super) fn v1(settings: &CgroupSettings) -> Result<Version, String> {
    let mut reasons = Vec::new();
    let mut controller = |name: &str, wanted: bool| {
        if !wanted {
            return None;
        }
        let dir = settings.hierarchy.join(name).join(&settings.root);
        match fs::create_dir_all(&dir) {
            Ok(()) if dir.join("cgroup.procs").exists() => {
                permitted(&dir).map_err(|reason| reasons.push(reason)).is_ok().then_some(dir)
            }
            Ok(()) => {
                let _ = fs::remove_dir(&dir);
                reasons.push(format!("{} is no cgroup hierarchy", settings.hierarchy.join(name).display()));
                None
            }
            Err(error) => {
                reasons.push(format!("cannot make {}: {error}", dir.display()));
                None
            }
        }
    };
    let pids = controller("pids", settings.max_pids.is_some());
    match (controller("cpu", settings.cpu), controller("memory", settings.memory)) {
        (None, None) if pids.is_none() => Err(reasons.join("; ")),
        (cpu, memory) => Ok(Version::V1 { cpu, memory, pids }),
    }
}

/// The root cgroup may stand there already, made by somebody with more rights: only a try tells.
fn permitted(root: &Path) -> Result<(), String> {
    let probe = root.join(format!("probe-{}", std::process::id()));
    let made = fs::create_dir(&probe).and_then(|()| fs::remove_dir(&probe));
    made.map_err(|error| format!("no cgroup can be made in {}: {error}", root.display()))
}

pub(super) fn v2(settings: &CgroupSettings) -> Result<Version, String> {
    let root = settings.hierarchy.join(&settings.root);
    fs::create_dir_all(&root).map_err(|error| format!("cannot make {}: {error}", root.display()))?;
    let given = |dir: &Path| fs::read_to_string(dir.join("cgroup.subtree_control")).unwrap_or_default();
    let has = |dir: &Path, name: &str| given(dir).split_whitespace().any(|controller| controller == name);
    // One at a time: a controller that is not there must not keep the others away.
    for dir in [&settings.hierarchy, &root] {
        for name in ["cpu", "memory", "pids"].into_iter().filter(|name| !has(dir, name)) {
            let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{name}"));
        }
    }
    let (cpu, memory) = (settings.cpu && has(&root, "cpu"), settings.memory && has(&root, "memory"));
    let pids = settings.max_pids.is_some() && has(&root, "pids");
    permitted(&root)?;
    Ok(Version::V2 { root, cpu, memory, pids })
}

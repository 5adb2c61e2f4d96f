//! Who runs in a container with an image: names are those of the image.

use std::{
    io::Read,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{SFlag, fstat},
};

use crate::containerizer::TaskUser;

/// A list of users may not be larger.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Who a user of the image is: `name`, `id`, and either with `:group`.
///
/// # Errors
/// A name that the image does not have.
pub(super) fn resolve(wanted: &str, passwd: &str, group: &str) -> Result<TaskUser, String> {
    let (user, given_group) =
        wanted.split_once(':').map_or((wanted, None), |(user, group)| (user, Some(group)));
    let users: Vec<_> = passwd.lines().filter_map(User::parse).collect();
    let known = users.iter().find(|entry| entry.name == user);
    let by_id = || users.iter().find(|entry| user.parse() == Ok(entry.uid));
    let (uid, first_gid, name) = match (known.or_else(by_id), user.parse()) {
        (Some(entry), _) => (entry.uid, entry.gid, entry.name),
        (None, Ok(uid)) => (uid, 0, ""),
        (None, Err(_)) => return Err(format!("user '{user}' is neither in the image nor a number")),
    };
    let groups: Vec<_> = group.lines().filter_map(Group::parse).collect();
    let gid = match given_group.filter(|group| !group.is_empty()) {
        None => first_gid,
        Some(wanted) => match groups.iter().find(|entry| entry.name == wanted) {
            Some(entry) => entry.gid,
            None => wanted
                .parse()
                .map_err(|_| format!("group '{wanted}' is neither in the image nor a number"))?,
        },
    };
    let mut all = vec![gid];
    // As for Docker: with a group of its own a user has no others.
    let member = |entry: &&Group<'_>| given_group.is_none() && !name.is_empty() && entry.has(name);
    all.extend(groups.iter().filter(member).map(|entry| entry.gid).filter(|other| *other != gid));
    Ok(TaskUser { name: user.to_owned(), uid, gid, groups: all })
}

struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

impl<'a> User<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.trim().parse().ok()?;
        Some(Self { name, uid, gid: fields.next()?.trim().parse().ok()? })
    }
}

struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl<'a> Group<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let gid = fields.nth(1)?.trim().parse().ok()?;
        Some(Self { name, gid, members: fields.next().unwrap_or_default() })
    }

    fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member.trim() == user)
    }
}

/// Who a user of an image is; its layers are given with the lowest first.
///
/// # Errors
/// A name that the image does not have.
pub(super) fn of_image(wanted: &str, layers: &[PathBuf]) -> Result<TaskUser, String> {
    resolve(wanted, &read(layers, "etc/passwd")?, &read(layers, "etc/group")?)
}

/// A file of the image, empty when there is none. Links stay in their layer.
fn read(layers: &[PathBuf], path: &str) -> Result<String, String> {
    for layer in layers.iter().rev() {
        let failed = |error: Errno| format!("cannot read {path} in the image: {}", error.desc());
        match open(layer, path, OFlag::O_PATH) {
            // `etc` itself was taken away, or is a file.
            Err(Errno::ENOTDIR) => return Ok(String::new()),
            Err(Errno::ENOENT | Errno::ELOOP) => {}
            Err(error) => return Err(failed(error)),
            Ok(found) => {
                let metadata = fstat(&found).map_err(failed)?;
                if SFlag::from_bits_truncate(metadata.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
                    // Taken away in this layer, or nothing that lists users.
                    return Ok(String::new());
                }
                let file = open(layer, path, OFlag::O_RDONLY | OFlag::O_NONBLOCK).map_err(failed)?;
                let mut bytes = Vec::new();
                let read = std::fs::File::from(file).take(LARGEST).read_to_end(&mut bytes);
                read.map_err(|error| format!("cannot read {path} in the image: {error}"))?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
        }
    }
    Ok(String::new())
}

fn open(layer: &Path, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let directory = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC);
    let layer = openat2(AT_FDCWD, layer, directory)?;
    let how = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    openat2(&layer, path, OpenHow::new().flags(flags | OFlag::O_CLOEXEC).resolve(how))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nwww:x:33:34:www:/:/bin/false\nbroken\n:x:1:1\n";
    const GROUP: &str = "root:x:0:\nwww:x:34:\nstaff:x:50:other,www\n";

    fn ids(wanted: &str) -> Result<(u32, u32, Vec<u32>), String> {
        resolve(wanted, PASSWD, GROUP).map(|user| (user.uid, user.gid, user.groups))
    }

    #[test]
    fn users_are_those_of_the_image() {
        assert_eq!(ids("www").unwrap(), (33, 34, vec![34, 50]));
        assert_eq!(ids("33").unwrap(), (33, 34, vec![34, 50]));
        assert_eq!(ids("www:staff").unwrap(), (33, 50, vec![50]));
        assert_eq!(ids("1234").unwrap(), (1234, 0, vec![0]));
        assert_eq!(ids("1234:99").unwrap(), (1234, 99, vec![99]));
        assert!(ids("nobody").unwrap_err().contains("'nobody'"));
        assert!(ids("www:none").unwrap_err().contains("'none'"));
        assert!(ids("99999999999").is_err() && ids("-1").is_err());
        assert_eq!(resolve("0", "", "").unwrap().uid, 0);
    }

    #[test]
    fn the_highest_layer_holds_and_no_link_leads_out() {
        let dir = tempfile::tempdir().unwrap();
        let layers: Vec<_> = ["low", "high"].iter().map(|name| dir.path().join(name)).collect();
        for layer in &layers {
            fs::create_dir_all(layer.join("etc")).unwrap();
        }
        fs::write(layers[0].join("etc/passwd"), PASSWD).unwrap();
        assert_eq!(of_image("www", &layers).unwrap().uid, 33);
        fs::write(layers[1].join("etc/passwd"), "www:x:7:8::/:\n").unwrap();
        assert_eq!(of_image("www", &layers).unwrap().uid, 7);
        fs::remove_file(layers[1].join("etc/passwd")).unwrap();
        symlink("/etc/passwd", layers[1].join("etc/passwd")).unwrap();
        // The layer's own path, which is the link itself.
        assert_eq!(of_image("www", &layers).unwrap().uid, 33);
        fs::remove_file(layers[1].join("etc/passwd")).unwrap();
        nix::unistd::mkfifo(&layers[1].join("etc/passwd"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(of_image("www", &layers).is_err());
    }
}

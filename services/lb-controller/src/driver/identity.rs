//! Whom HAProxy's workers become. The master stays who it is: it opens ports below 1024 at each reload and reads
//! certificates; a worker, which speaks with everybody, needs neither.

use std::{
    fs::Metadata,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::Path,
};

use nix::unistd::{User, geteuid};

use crate::{
    config::{LbArgs, Ownership},
    core::render::Identity,
};

/// Users that are tried when none is named.
const USERS: [&str; 2] = ["haproxy", "nobody"];

/// The user to become; none where workers stay who they are.
///
/// # Errors
/// Why HAProxy keeps root's rights although it should not.
pub(super) fn of(args: &LbArgs, dir: &Path) -> Result<Option<Identity>, String> {
    let named = args.haproxy_user.as_deref();
    let able = match args.haproxy {
        // Only root can become somebody else.
        Ownership::Child => geteuid().is_root(),
        // Who starts it is not known here.
        Ownership::Beside => named.is_some(),
    };
    if named == Some("") || !able {
        return Ok(None);
    }
    let names: Vec<&str> = named.map_or_else(|| USERS.to_vec(), |name| vec![name]);
    let found = names.iter().find_map(|name| User::from_name(name).ok().flatten());
    let Some(user) = found else {
        return Err(format!("there is no user {}: name one with --haproxy-user", names.join(" or ")));
    };
    let identity = Identity { uid: user.uid.as_raw(), gid: user.gid.as_raw() };
    // The admin port's requests go to the controller's socket.
    let closed = dir.ancestors().find(|part| part.metadata().is_ok_and(|part| !may_enter(&part, identity)));
    match closed {
        None => Ok(Some(identity)),
        Some(part) => Err(format!("user {} may not enter {}", user.name, part.display())),
    }
}

fn may_enter(dir: &Metadata, who: Identity) -> bool {
    let bit = if dir.uid() == who.uid {
        0o100
    } else if dir.gid() == who.gid {
        0o010
    } else {
        0o001
    };
    who.uid == 0 || dir.permissions().mode() & bit != 0
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    #[derive(clap::Parser)]
    struct Probe {
        #[command(flatten)]
        args: LbArgs,
    }

    #[test]
    fn a_user_who_is_not_there_or_cannot_get_there_is_named() {
        let args = |more: &[&str]| <Probe as clap::Parser>::parse_from([&["x"], more].concat()).args;
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
        if !geteuid().is_root() {
            assert_eq!(of(&args(&["--haproxy-user=nobody"]), dir.path()), Ok(None));
            return;
        }
        assert!(
            of(&args(&["--haproxy-user=x-no-such-user"]), dir.path()).unwrap_err().contains("--haproxy-user")
        );
        assert_eq!(of(&args(&["--haproxy-user="]), dir.path()), Ok(None));
        assert_eq!(of(&args(&["--haproxy=beside"]), dir.path()), Ok(None));
        let closed = of(&args(&["--haproxy-user=nobody"]), dir.path()).unwrap_err();
        assert!(closed.contains("nobody may not enter /"), "{closed}");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        assert!(of(&args(&["--haproxy-user=nobody"]), dir.path()).unwrap().is_some());
    }

    #[test]
    fn who_may_enter_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mode = |mode| {
            fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
            dir.path().metadata().unwrap()
        };
        let owner = Identity { uid: geteuid().as_raw(), gid: 4_000_000 };
        let other = Identity { uid: 4_000_000, gid: 4_000_000 };
        assert!(may_enter(&mode(0o700), owner) && !may_enter(&mode(0o700), other));
        assert!(may_enter(&mode(0o711), other));
        let group = Identity { uid: 4_000_000, gid: mode(0o710).gid() };
        assert!(may_enter(&mode(0o710), group) && !may_enter(&mode(0o701), group));
    }
}

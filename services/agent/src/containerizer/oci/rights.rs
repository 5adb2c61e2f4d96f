//! What containers may do.

use caps::Capability;
use meshos_proto::meshos::agent::v1::Rights;

use super::seccomp;
use crate::containerizer::container::LinuxSetup;

/// Docker's, without CAP_MKNOD: which devices a container may use is not limited otherwise.
const DEFAULT: [Capability; 13] = [
    Capability::CAP_CHOWN,
    Capability::CAP_DAC_OVERRIDE,
    Capability::CAP_FSETID,
    Capability::CAP_FOWNER,
    Capability::CAP_NET_RAW,
    Capability::CAP_SETGID,
    Capability::CAP_SETUID,
    Capability::CAP_SETFCAP,
    Capability::CAP_SETPCAP,
    Capability::CAP_NET_BIND_SERVICE,
    Capability::CAP_SYS_CHROOT,
    Capability::CAP_KILL,
    Capability::CAP_AUDIT_WRITE,
];

/// Of a container; one without an image keeps what it is not asked to give up.
///
/// # Errors
/// A name that is no capability, a profile that is none.
pub(super) fn rights(linux: &LinuxSetup, has_image: bool, no_new_privileges: bool) -> Result<Rights, String> {
    let effective = linux.effective_capabilities.as_deref().map(bits).transpose()?;
    let bounding = linux.bounding_capabilities.as_deref().map(bits).transpose()?.or(effective);
    let default = (has_image && !linux.privileged).then(|| set(&DEFAULT));
    let bounding_capabilities = bounding.or(default);
    let profile = linux.seccomp_profile.as_deref().filter(|_| !linux.seccomp_unconfined);
    let programs = profile.map(|path| seccomp::read(path, bounding_capabilities)).transpose()?;
    Ok(Rights {
        bounding_capabilities,
        ambient_capabilities: effective.unwrap_or_default(),
        // A profile that allows everything comes to nothing.
        seccomp: programs
            .as_ref()
            .map_or(has_image && !linux.privileged && !linux.seccomp_unconfined, |programs| {
                !programs.is_empty()
            }),
        no_new_privileges,
        seccomp_programs: programs.unwrap_or_default(),
    })
}

fn set(capabilities: &[Capability]) -> u64 {
    capabilities.iter().fold(0, |all, capability| all | capability.bitmask())
}

fn bits(names: &[String]) -> Result<u64, String> {
    let parse = |name: &String| {
        name.parse::<Capability>().map(|one| one.bitmask()).map_err(|_| format!("'{name}' is no capability"))
    };
    names.iter().map(parse).try_fold(0, |all, one| Ok(all | one?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Option<Vec<String>> {
        Some(names.iter().map(|name| (*name).to_owned()).collect())
    }

    #[test]
    fn an_image_gets_little() {
        let plain = LinuxSetup::default();
        let image = rights(&plain, true, false).unwrap();
        let bounding = image.bounding_capabilities.unwrap();
        assert!(image.seccomp && bounding & Capability::CAP_CHOWN.bitmask() != 0);
        for taken in [Capability::CAP_SYS_ADMIN, Capability::CAP_MKNOD, Capability::CAP_SYS_PTRACE] {
            assert_eq!(bounding & taken.bitmask(), 0);
        }
        assert_eq!(
            rights(&plain, false, true).unwrap(),
            Rights { no_new_privileges: true, ..Rights::default() }
        );
        let privileged = LinuxSetup { privileged: true, ..plain };
        assert_eq!(rights(&privileged, true, false).unwrap(), Rights::default());
    }

    #[test]
    fn what_is_asked_for_holds() {
        let asked = LinuxSetup {
            effective_capabilities: names(&["CAP_NET_RAW"]),
            seccomp_unconfined: true,
            ..LinuxSetup::default()
        };
        let raw = Capability::CAP_NET_RAW.bitmask();
        let wanted =
            Rights { bounding_capabilities: Some(raw), ambient_capabilities: raw, ..Rights::default() };
        assert_eq!(rights(&asked, true, false).unwrap(), wanted);
        let wrong = LinuxSetup { bounding_capabilities: names(&["CAP_FLY"]), ..LinuxSetup::default() };
        assert!(rights(&wrong, true, false).unwrap_err().contains("CAP_FLY"));
    }
}

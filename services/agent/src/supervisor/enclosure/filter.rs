//! The filter of system calls, made before the fork.

mod profile;

use std::{collections::BTreeMap, env::consts::ARCH};

use caps::Capability;
use meshos_proto::meshos::agent::v1::Rights;
use nix::libc::{self, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

use super::{Step, failed, syscalls};

/// CLONE_NEW*: a container makes no namespaces.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Programs for the kernel, in the order in which they are added.
#[derive(Debug)]
pub(in crate::supervisor) struct Filter {
    programs: Vec<BpfProgram>,
}

impl Filter {
    /// A container's own, or what all have.
    pub(super) fn of(rights: &Rights) -> Step<Self> {
        match rights.seccomp_programs.as_slice() {
            [] => Self::new(rights.bounding_capabilities),
            given => Ok(Self { programs: given.iter().map(|bytes| program(bytes)).collect::<Step<_>>()? }),
        }
    }

    /// For a container with these capabilities; none: with all of them.
    fn new(capabilities: Option<u64>) -> Step<Self> {
        let has = |capability: Capability| capabilities.is_none_or(|bits| bits & capability.bitmask() != 0);
        let compile = || -> Result<_, seccompiler::Error> {
            let allowed = SeccompFilter::new(
                rules(has)?,
                SeccompAction::Errno(libc::EPERM.cast_unsigned()),
                SeccompAction::Allow,
                arch()?,
            )?;
            let mut programs = vec![allowed.try_into()?];
            if !has(Capability::CAP_SYS_ADMIN) {
                // The flags of clone3 lie in memory, where a filter cannot look. C libraries go on with clone.
                let clone3 = SeccompFilter::new(
                    Rules::from([(libc::SYS_clone3, Vec::new())]),
                    SeccompAction::Allow,
                    SeccompAction::Errno(libc::ENOSYS.cast_unsigned()),
                    arch()?,
                )?;
                programs.push(clone3.try_into()?);
            }
            Ok(programs)
        };
        let programs = compile().map_err(|error| format!("cannot make the system call filter: {error}"))?;
        Ok(Self { programs })
    }

    pub(super) fn apply(&self) -> Step {
        for program in &self.programs {
            syscalls::filter(program).map_err(failed("cannot filter system calls"))?;
        }
        Ok(())
    }
}

/// Instructions as the kernel has them in memory.
fn program(bytes: &[u8]) -> Step<BpfProgram> {
    let (instructions, rest) = bytes.as_chunks::<8>();
    if instructions.is_empty() || !rest.is_empty() {
        return Err("the system call filter of the container is damaged".to_owned());
    }
    let instruction = |[a, b, jt, jf, c, d, e, f]: &[u8; 8]| sock_filter {
        code: u16::from_ne_bytes([*a, *b]),
        jt: *jt,
        jf: *jf,
        k: u32::from_ne_bytes([*c, *d, *e, *f]),
    };
    Ok(instructions.iter().map(instruction).collect())
}

fn arch() -> Result<TargetArch, seccompiler::BackendError> {
    TargetArch::try_from(ARCH)
}

fn rules(has: impl Fn(Capability) -> bool) -> Result<Rules, seccompiler::BackendError> {
    let fixed = profile::ALLOWED.iter().chain(&profile::NEW).chain(profile::OLD);
    let mut rules: Rules = fixed.map(|call| (*call, Vec::new())).collect();
    let further = profile::WITH.iter().filter(|(capability, _)| has(*capability));
    rules.extend(further.flat_map(|(_, calls)| *calls).map(|call| (*call, Vec::new())));
    if has(Capability::CAP_SYS_RAWIO) {
        rules.extend(profile::WITH_RAW_IO.iter().map(|call| (*call, Vec::new())));
    }
    let condition = |operator, value| SeccompCondition::new(0, SeccompCmpArgLen::Qword, operator, value);
    let one = |condition| SeccompRule::new(vec![condition]);
    let personalities = profile::PERSONALITIES.iter().map(|value| one(condition(SeccompCmpOp::Eq, *value)?));
    rules.insert(libc::SYS_personality, personalities.collect::<Result<_, _>>()?);
    // Sockets to the hypervisor.
    let vsock = libc::AF_VSOCK.cast_unsigned().into();
    // The kernel looks at 32 bits of it.
    let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, vsock)?;
    rules.insert(libc::SYS_socket, vec![one(other)?]);
    if !has(Capability::CAP_SYS_ADMIN) {
        let none_new = condition(SeccompCmpOp::MaskedEq(NEW_NAMESPACES), 0)?;
        rules.insert(libc::SYS_clone, vec![one(none_new)?]);
        // Answered by the filter after this one.
        rules.insert(libc::SYS_clone3, Vec::new());
    }
    Ok(rules)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_leads_out_of_a_container_needs_a_capability() {
        let dangerous = [libc::SYS_mount, libc::SYS_ptrace, libc::SYS_reboot, libc::SYS_setns, libc::SYS_bpf];
        let none = rules(|_| false).unwrap();
        let all = rules(|_| true).unwrap();
        for call in dangerous {
            assert!(!none.contains_key(&call) && all.contains_key(&call), "{call}");
        }
        assert!(none[&libc::SYS_read].is_empty() && none[&libc::SYS_clone].len() == 1);
        assert!(all[&libc::SYS_clone].is_empty());
        assert_eq!(Filter::new(Some(0)).unwrap().programs.len(), 2);
        assert_eq!(Filter::new(None).unwrap().programs.len(), 1);
    }
}

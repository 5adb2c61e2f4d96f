//! Docker's form of a profile (moby `profiles/seccomp`), and what it comes to on this machine.

use std::{collections::BTreeMap, env::consts::ARCH, str::FromStr};

use caps::Capability;
use nix::libc;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use serde::Deserialize;
use syscalls::Sysno;

/// The kernel takes no longer program.
const LONGEST: usize = 4096;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Profile {
    default_action: Action,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Option<Vec<Calls>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
enum Action {
    #[serde(rename = "SCMP_ACT_KILL", alias = "SCMP_ACT_KILL_THREAD")]
    KillThread,
    #[serde(rename = "SCMP_ACT_KILL_PROCESS")]
    KillProcess,
    #[serde(rename = "SCMP_ACT_TRAP")]
    Trap,
    #[serde(rename = "SCMP_ACT_ERRNO")]
    Errno,
    #[serde(rename = "SCMP_ACT_TRACE")]
    Trace,
    #[serde(rename = "SCMP_ACT_LOG")]
    Log,
    #[serde(rename = "SCMP_ACT_ALLOW")]
    Allow,
}

/// What is done about some calls.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Calls {
    #[serde(default)]
    names: Option<Vec<String>>,
    name: Option<String>,
    action: Action,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
    #[serde(default)]
    includes: Option<Where>,
    #[serde(default)]
    excludes: Option<Where>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u8,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: Operator,
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Operator {
    #[serde(rename = "SCMP_CMP_NE")]
    Ne,
    #[serde(rename = "SCMP_CMP_LT")]
    Lt,
    #[serde(rename = "SCMP_CMP_LE")]
    Le,
    #[serde(rename = "SCMP_CMP_EQ")]
    Eq,
    #[serde(rename = "SCMP_CMP_GE")]
    Ge,
    #[serde(rename = "SCMP_CMP_GT")]
    Gt,
    #[serde(rename = "SCMP_CMP_MASKED_EQ")]
    MaskedEq,
}

/// On which machines and for which containers something holds.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Where {
    #[serde(default)]
    arches: Option<Vec<String>>,
    #[serde(default)]
    caps: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Whom a profile is for.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    /// Bits of the container's; none: all.
    pub(super) capabilities: Option<u64>,
    /// The kernel's version and revision.
    pub(super) kernel: (u32, u32),
}

/// No rule: whatever the arguments are.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Profile {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| error.to_string())
    }

    /// Filters that are added one after another: the strictest answer holds. One for each other action says it of its
    /// calls, and allows the rest; the last says what becomes of calls that are not named, which may be the one that
    /// adds filters.
    pub(super) fn programs(&self, machine: &Machine) -> Result<Vec<BpfProgram>, String> {
        let default = action(self.default_action, self.default_errno_ret);
        let (mut named, mut by_action) = (Rules::new(), Vec::<(SeccompAction, Rules)>::new());
        for calls in self.syscalls.iter().flatten().filter(|calls| calls.is_meant(machine)) {
            let rule = calls.rule()?;
            let wanted = action(calls.action, calls.errno_ret);
            if wanted == default {
                continue;
            }
            let at = by_action.iter().position(|(known, _)| *known == wanted).unwrap_or_else(|| {
                by_action.push((wanted, Rules::new()));
                by_action.len() - 1
            });
            // Names of other machines' calls are no calls here.
            for call in calls.all_names().filter_map(|name| Sysno::from_str(name).ok()) {
                add(&mut named, i64::from(call.id()), rule.as_ref());
                add(&mut by_action[at].1, i64::from(call.id()), rule.as_ref());
            }
        }
        let mut programs: Vec<_> = foreign_calls().into_iter().collect();
        for (wanted, rules) in by_action {
            if wanted != SeccompAction::Allow && !rules.is_empty() {
                programs.push(compile(rules, SeccompAction::Allow, wanted)?);
            }
        }
        if default != SeccompAction::Allow {
            programs.push(compile(named, default, SeccompAction::Allow)?);
        }
        match programs.iter().all(|program| program.len() <= LONGEST) {
            true => Ok(programs),
            false => Err("it has more rules than the kernel takes".to_owned()),
        }
    }
}

impl Calls {
    fn all_names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().flatten().chain(&self.name).map(String::as_str)
    }

    fn is_meant(&self, machine: &Machine) -> bool {
        let includes = self.includes.as_ref().is_none_or(|includes| {
            includes
                .arches
                .as_ref()
                .is_none_or(|arches| arches.is_empty() || arches.iter().any(|a| is_ours(a)))
                && includes.caps.iter().flatten().all(|name| machine.has(name))
                && includes.min_kernel.as_ref().is_none_or(|least| version(least) <= machine.kernel)
        });
        let excludes = self.excludes.as_ref().is_some_and(|excludes| {
            excludes.arches.iter().flatten().any(|arch| is_ours(arch))
                || excludes.caps.iter().flatten().any(|name| machine.has(name))
                || excludes.min_kernel.as_ref().is_some_and(|least| version(least) <= machine.kernel)
        });
        includes && !excludes
    }

    /// What holds of the arguments; none: anything.
    fn rule(&self) -> Result<Option<SeccompRule>, String> {
        let conditions: Vec<_> =
            self.args.iter().flatten().map(Argument::condition).collect::<Result<_, _>>()?;
        let rule = (!conditions.is_empty()).then(|| SeccompRule::new(conditions));
        rule.transpose().map_err(|error| error.to_string())
    }
}

impl Argument {
    fn condition(&self) -> Result<SeccompCondition, String> {
        let (operator, value) = match self.op {
            Operator::Ne => (SeccompCmpOp::Ne, self.value),
            Operator::Lt => (SeccompCmpOp::Lt, self.value),
            Operator::Le => (SeccompCmpOp::Le, self.value),
            Operator::Eq => (SeccompCmpOp::Eq, self.value),
            Operator::Ge => (SeccompCmpOp::Ge, self.value),
            Operator::Gt => (SeccompCmpOp::Gt, self.value),
            Operator::MaskedEq => (SeccompCmpOp::MaskedEq(self.value), self.value_two),
        };
        SeccompCondition::new(self.index, SeccompCmpArgLen::Qword, operator, value)
            .map_err(|error| error.to_string())
    }
}

impl Machine {
    fn has(&self, capability: &str) -> bool {
        let known = capability.parse::<Capability>().ok();
        known.is_some_and(|one| self.capabilities.is_none_or(|bits| bits & one.bitmask() != 0))
    }
}

fn add(rules: &mut Rules, call: i64, rule: Option<&SeccompRule>) {
    match (rules.get_mut(&call), rule) {
        (None, rule) => {
            rules.insert(call, rule.into_iter().cloned().collect());
        }
        // It holds of any arguments already.
        (Some(known), _) if known.is_empty() => {}
        (Some(known), None) => known.clear(),
        (Some(known), Some(rule)) => known.push(rule.clone()),
    }
}

fn compile(rules: Rules, others: SeccompAction, these: SeccompAction) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(ARCH).map_err(|error| error.to_string())?;
    let filter = SeccompFilter::new(rules, others, these, arch).map_err(|error| error.to_string())?;
    filter.try_into().map_err(|error: seccompiler::BackendError| error.to_string())
}

fn action(action: Action, errno: Option<u32>) -> SeccompAction {
    let errno = errno.unwrap_or(libc::EPERM.cast_unsigned());
    match action {
        Action::KillThread => SeccompAction::KillThread,
        Action::KillProcess => SeccompAction::KillProcess,
        Action::Trap => SeccompAction::Trap,
        Action::Errno => SeccompAction::Errno(errno),
        Action::Trace => SeccompAction::Trace(errno),
        Action::Log => SeccompAction::Log,
        Action::Allow => SeccompAction::Allow,
    }
}

/// Calls of another kind have numbers of their own on x86_64: without an answer of their own they would pass what is
/// forbidden.
fn foreign_calls() -> Option<BpfProgram> {
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let answer = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned();
    (ARCH == "x86_64").then(|| {
        vec![
            // The number of the call; is it 0x40000000 or more?
            instruction(0x20, 0, 0, 0),
            instruction(0x35, 0, 1, 0x4000_0000),
            instruction(0x06, 0, 0, answer),
            instruction(0x06, 0, 0, libc::SECCOMP_RET_ALLOW),
        ]
    })
}

/// Go's names.
fn is_ours(arch: &str) -> bool {
    let own = match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    arch == own
}

/// `6.1` of `6.1.0-18-amd64`; what is no number counts as 0.
pub(super) fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests;

//! What a task or an executor needs beside its command: files, limits of the kernel.

use meshos_proto::mesos::v1::{self as pb, r_limit_info::r_limit::Type as LimitType};
use nix::libc;

use crate::{containerizer::Rlimit, fetcher::FetchUri};

/// The files to fetch.
pub(super) fn uris(command: &pb::CommandInfo) -> Vec<FetchUri> {
    command.uris.iter().map(FetchUri::from).collect()
}

/// The limits of `rlimit_info`, checked as Mesos checks them.
pub(super) fn rlimits(container: Option<&pb::ContainerInfo>) -> Result<Vec<Rlimit>, String> {
    let given = container.and_then(|container| container.rlimit_info.as_ref());
    let given = given.map(|info| info.rlimits.as_slice()).unwrap_or_default();
    let mut limits: Vec<Rlimit> = Vec::new();
    for limit in given {
        let kind = limit.r#type();
        let name = kind.as_str_name();
        let resource = number(kind).ok_or_else(|| format!("the resource limit {name} is not known"))?;
        match (limit.soft, limit.hard) {
            (Some(soft), Some(hard)) if soft > hard => {
                return Err(format!("the soft limit of {name}, {soft}, is above the hard one, {hard}"));
            }
            (Some(_), Some(_)) | (None, None) => {}
            _ => return Err(format!("the resource limit {name} needs both soft and hard, or neither")),
        }
        if limits.iter().any(|limit| limit.resource == resource) {
            return Err(format!("the resource limit {name} is given twice"));
        }
        limits.push(Rlimit { resource, soft: limit.soft, hard: limit.hard });
    }
    Ok(limits)
}

fn number(kind: LimitType) -> Option<u32> {
    Some(match kind {
        LimitType::Unknown => return None,
        LimitType::RlmtAs => libc::RLIMIT_AS,
        LimitType::RlmtCore => libc::RLIMIT_CORE,
        LimitType::RlmtCpu => libc::RLIMIT_CPU,
        LimitType::RlmtData => libc::RLIMIT_DATA,
        LimitType::RlmtFsize => libc::RLIMIT_FSIZE,
        LimitType::RlmtLocks => libc::RLIMIT_LOCKS,
        LimitType::RlmtMemlock => libc::RLIMIT_MEMLOCK,
        LimitType::RlmtMsgqueue => libc::RLIMIT_MSGQUEUE,
        LimitType::RlmtNice => libc::RLIMIT_NICE,
        LimitType::RlmtNofile => libc::RLIMIT_NOFILE,
        LimitType::RlmtNproc => libc::RLIMIT_NPROC,
        LimitType::RlmtRss => libc::RLIMIT_RSS,
        LimitType::RlmtRtprio => libc::RLIMIT_RTPRIO,
        LimitType::RlmtRttime => libc::RLIMIT_RTTIME,
        LimitType::RlmtSigpending => libc::RLIMIT_SIGPENDING,
        LimitType::RlmtStack => libc::RLIMIT_STACK,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(limits: &[(LimitType, Option<u64>, Option<u64>)]) -> pb::ContainerInfo {
        let limit = |(kind, soft, hard): &(LimitType, Option<u64>, Option<u64>)| pb::r_limit_info::RLimit {
            r#type: Some(*kind as i32),
            soft: *soft,
            hard: *hard,
        };
        let rlimits = limits.iter().map(limit).collect();
        pb::ContainerInfo {
            r#type: pb::container_info::Type::Mesos as i32,
            rlimit_info: Some(pb::RLimitInfo { rlimits }),
            ..pb::ContainerInfo::default()
        }
    }

    #[test]
    fn limits_are_checked() {
        let good =
            container(&[(LimitType::RlmtNofile, Some(10), Some(20)), (LimitType::RlmtCore, None, None)]);
        let limits = rlimits(Some(&good)).unwrap();
        assert_eq!(limits[0], Rlimit { resource: libc::RLIMIT_NOFILE, soft: Some(10), hard: Some(20) });
        assert_eq!(limits[1].hard, None);
        assert!(rlimits(None).unwrap().is_empty());
        for bad in [
            &[(LimitType::RlmtNofile, Some(20), Some(10))][..],
            &[(LimitType::RlmtNofile, Some(20), None)],
            &[(LimitType::Unknown, None, None)],
            &[(LimitType::RlmtCore, None, None), (LimitType::RlmtCore, None, None)],
        ] {
            assert!(rlimits(Some(&container(bad))).is_err(), "{bad:?}");
        }
    }
}

//! A picture of a large cluster does not fit into one message: it is taken apart.

use meshos_proto::meshos::allocator::v1::Snapshot;
use prost::Message;

/// Bytes of one part, about; far below what a message may have.
const PART: usize = 8 * 1024 * 1024;

/// The parts, of which all but the last say that there is more. What is small and comes once stands in the first.
pub(super) fn parts(mut whole: Snapshot) -> Vec<Snapshot> {
    let lists = Snapshot {
        agents: std::mem::take(&mut whole.agents),
        frameworks: std::mem::take(&mut whole.frameworks),
        tasks: std::mem::take(&mut whole.tasks),
        offers: std::mem::take(&mut whole.offers),
        executors: std::mem::take(&mut whole.executors),
        operations: std::mem::take(&mut whole.operations),
        ..Snapshot::default()
    };
    let mut parts = Parts { full: Vec::new(), last: whole, bytes: 0 };
    for agent in lists.agents {
        parts.room(agent.encoded_len()).agents.push(agent);
    }
    for framework in lists.frameworks {
        parts.room(framework.encoded_len()).frameworks.push(framework);
    }
    for task in lists.tasks {
        parts.room(task.encoded_len()).tasks.push(task);
    }
    for offer in lists.offers {
        parts.room(offer.encoded_len()).offers.push(offer);
    }
    for executor in lists.executors {
        parts.room(executor.encoded_len()).executors.push(executor);
    }
    for operation in lists.operations {
        parts.room(operation.encoded_len()).operations.push(operation);
    }
    parts.full.push(parts.last);
    parts.full
}

struct Parts {
    full: Vec<Snapshot>,
    last: Snapshot,
    /// Of the last one's lists.
    bytes: usize,
}

impl Parts {
    /// A part with room for so many bytes.
    fn room(&mut self, bytes: usize) -> &mut Snapshot {
        if self.bytes > 0 && self.bytes + bytes > PART {
            let full = std::mem::take(&mut self.last);
            self.full.push(Snapshot { more: true, ..full });
            self.bytes = 0;
        }
        self.bytes += bytes;
        &mut self.last
    }
}

#[cfg(test)]
mod tests {
    use meshos_proto::{
        meshos::allocator::v1::{Agent, Master, Task},
        mesos::v1 as pb,
    };

    use super::*;

    #[test]
    fn parts_hold_everything_once_and_fit() {
        let task = |number: usize| {
            let name = format!("{number}-{}", "x".repeat(PART / 10));
            Task { task: Some(pb::Task { name, ..pb::Task::default() }), ..Task::default() }
        };
        let whole = Snapshot {
            master: Some(Master::default()),
            agents: vec![Agent::default(); 3],
            tasks: (0..25).map(task).collect(),
            ..Snapshot::default()
        };
        let parts = parts(whole.clone());
        assert!(parts.len() >= 3);
        assert!(parts.iter().all(|part| part.encoded_len() < PART + PART / 8));
        let (last, others) = parts.split_last().unwrap();
        assert!(!last.more && others.iter().all(|part| part.more));
        let mut together = parts[0].clone();
        for part in parts.iter().skip(1) {
            together.agents.extend(part.agents.iter().cloned());
            together.tasks.extend(part.tasks.iter().cloned());
        }
        assert_eq!(Snapshot { more: false, ..together }, whole);
    }

    #[test]
    fn an_empty_cluster_is_one_part() {
        let parts = parts(Snapshot::default());
        assert_eq!((parts.len(), parts[0].more), (1, false));
    }
}

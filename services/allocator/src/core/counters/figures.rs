//! What is counted of each framework.

use std::collections::BTreeMap;

use meshos_proto::mesos::v1::{
    TaskState,
    offer::operation,
    scheduler::{call, event},
};
use meshos_types::task_state::is_terminal;

use super::{CALLS, Counts, EVENTS, OPERATIONS, STATES};

/// The counters of one framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) calls: Counts<CALLS>,
    pub(crate) events: Counts<EVENTS>,
    pub(crate) operations: Counts<OPERATIONS>,
    /// Live tasks.
    pub(crate) active: Counts<STATES>,
    pub(crate) terminal: Counts<STATES>,
    pub(crate) offers_sent: u64,
    pub(crate) offers_accepted: u64,
    pub(crate) offers_declined: u64,
    pub(crate) offers_rescinded: u64,
}

/// Characters of a framework's name that stay as they are in the name of a metric, beside letters and digits.
const PLAIN: &[u8] = b"-_.~!*'()";

/// The name as it stands in a URL.
fn percent_encoded(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || PLAIN.contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

/// What is before all metrics of a framework.
pub(super) fn prefix(name: &str, id: &str) -> String {
    format!("master/frameworks/{}/{id}/", percent_encoded(name))
}

impl Figures {
    /// The framework's metrics, with this before their names.
    pub(super) fn show(&self, prefix: &str, metrics: &mut BTreeMap<String, f64>) {
        #[allow(clippy::cast_precision_loss, reason = "counts far below 2^52")]
        let mut put = |name: &str, count: u64| metrics.insert(format!("{prefix}{name}"), count as f64);
        put("calls", self.calls.sum());
        for (number, count) in self.calls.iter() {
            if let Ok(kind) = call::Type::try_from(number)
                && kind != call::Type::Unknown
            {
                put(&format!("calls/{}", kind.as_str_name().to_ascii_lowercase()), count);
            }
        }
        put("events", self.events.sum());
        for (number, count) in self.events.iter() {
            if let Ok(kind) = event::Type::try_from(number)
                && kind != event::Type::Unknown
            {
                put(&format!("events/{}", kind.as_str_name().to_ascii_lowercase()), count);
            }
        }
        put("operations", self.operations.sum());
        for (number, count) in self.operations.iter() {
            if let Ok(kind) = operation::Type::try_from(number)
                && kind != operation::Type::Unknown
            {
                put(&format!("operations/{}", kind.as_str_name().to_ascii_lowercase()), count);
            }
        }
        for (number, count) in self.active.iter() {
            let Ok(state) = TaskState::try_from(number) else { continue };
            let name = state.as_str_name().to_ascii_lowercase();
            if is_terminal(state) {
                put(&format!("tasks/terminal/{name}"), self.terminal.get(number));
            } else {
                put(&format!("tasks/active/{name}"), count);
            }
        }
        put("offers/sent", self.offers_sent);
        put("offers/accepted", self.offers_accepted);
        put("offers/declined", self.offers_declined);
        put("offers/rescinded", self.offers_rescinded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_encoded_as_mesos_does() {
        assert_eq!(
            prefix("Test Framework (C++)", "x-0"),
            "master/frameworks/Test%20Framework%20(C%2B%2B)/x-0/"
        );
        assert_eq!(prefix("a/b\u{e4}", "x"), "master/frameworks/a%2Fb%C3%A4/x/");
    }
}

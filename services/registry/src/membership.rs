//! Pure: what becomes of an agent's record when it registers, breaks off, falls silent or leaves.

use meshos_proto::{
    meshos::registry::v1::{Agent, AgentState, Register},
    mesos::v1::AgentId,
};
use meshos_types::AgentId as CheckedId;

use crate::{error::Error, store::FORMAT};

/// What an agent is told that an operator declared gone.
pub const GONE: &str = "Agent has been marked gone";

/// Why an agent may not join, in words for its log.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal(pub String);

/// Checks what an agent sent. Returns its id if it has one.
///
/// # Errors
/// [`Error::Invalid`] names the field.
pub fn check(register: &Register) -> Result<Option<String>, Error> {
    let invalid = |field, reason: &str| Error::Invalid { field, reason: reason.to_owned() };
    let info = register.agent.as_ref().ok_or_else(|| invalid("agent", "missing"))?;
    if info.hostname.is_empty() {
        return Err(invalid("agent.hostname", "empty; give the agent a --hostname"));
    }
    if register.endpoint.is_empty() {
        return Err(invalid("endpoint", "empty; it is where the agent's HTTP API is reached"));
    }
    let Some(id) = info.id.as_ref().filter(|id| !id.value.is_empty()) else { return Ok(None) };
    CheckedId::parse(&id.value).map_err(|e| invalid("agent.id", &e.to_string()))?;
    Ok(Some(id.value.clone()))
}

/// The record of an agent that opened a session with `replica`.
///
/// # Errors
/// A [`Refusal`] when an operator declared the agent gone.
pub fn admit(
    known: Option<&Agent>,
    register: &Register,
    id: &str,
    replica: &str,
    now_ms: u64,
) -> Result<Agent, Refusal> {
    if known.is_some_and(|agent| agent.state() == AgentState::Gone) {
        return Err(Refusal(GONE.to_owned()));
    }
    let mut info = register.agent.clone().unwrap_or_default();
    info.id = Some(AgentId { value: id.to_owned() });
    Ok(Agent {
        format: FORMAT,
        info: Some(info),
        state: AgentState::Connected.into(),
        version: register.version.clone(),
        endpoint: register.endpoint.clone(),
        capabilities: register.capabilities.clone(),
        registered_at_ms: known.map_or(now_ms, |agent| agent.registered_at_ms),
        reregistered_at_ms: if known.is_some() { now_ms } else { 0 },
        unreachable_at_ms: 0,
        gone_at_ms: 0,
        replica: replica.to_owned(),
        session: known.map_or(0, |agent| agent.session) + 1,
        // Of its machine, which does not change.
        unavailability: known.and_then(|agent| agent.unavailability),
    })
}

/// What ended a session, or the wait for another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The stream broke.
    Broken,
    /// No answer for the whole ping timeout.
    Silent,
    /// The agent left for good.
    Left,
}

/// The record after `session` ended; none when that changes nothing: the agent has another session by now, or
/// is no longer counted on.
#[must_use]
pub fn end(known: &Agent, session: u64, end: End, now_ms: u64) -> Option<Agent> {
    if known.session != session {
        return None;
    }
    let state = match (known.state(), end) {
        (AgentState::Gone | AgentState::Removed, _) => return None,
        (_, End::Left) => AgentState::Removed,
        (AgentState::Connected, End::Broken) => AgentState::Disconnected,
        (AgentState::Connected | AgentState::Disconnected, End::Silent) => AgentState::Unreachable,
        _ => return None,
    };
    let mut agent = known.clone();
    agent.state = state.into();
    if state == AgentState::Unreachable {
        agent.unreachable_at_ms = now_ms;
    }
    Some(agent)
}

/// Why nobody can be declared gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Unknown;

/// The record of an agent that an operator declares gone; none when that was done before.
///
/// # Errors
/// [`Unknown`] when there is no such agent, or it has left for good.
pub fn gone(known: Option<&Agent>, now_ms: u64) -> Result<Option<Agent>, Unknown> {
    match known {
        None => Err(Unknown),
        Some(agent) if agent.state() == AgentState::Removed => Err(Unknown),
        Some(agent) if agent.state() == AgentState::Gone => Ok(None),
        Some(agent) => {
            Ok(Some(Agent { state: AgentState::Gone.into(), gone_at_ms: now_ms, ..agent.clone() }))
        }
    }
}

/// Whether an agent is no part of the cluster any more: its record can be deleted.
#[must_use]
pub fn is_past(agent: &Agent) -> bool {
    matches!(agent.state(), AgentState::Unreachable | AgentState::Gone | AgentState::Removed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use meshos_proto::mesos::v1::AgentInfo;

    fn register(id: Option<&str>) -> Register {
        Register {
            agent: Some(AgentInfo {
                hostname: "h".into(),
                id: id.map(|id| AgentId { value: id.into() }),
                ..AgentInfo::default()
            }),
            endpoint: "h:5051".into(),
            ..Register::default()
        }
    }

    #[test]
    fn a_returning_agent_keeps_its_first_registration_and_gets_a_new_session() {
        let first = admit(None, &register(None), "a", "r1", 10).unwrap();
        let again = admit(Some(&first), &register(Some("a")), "a", "r2", 20).unwrap();
        assert_eq!((again.registered_at_ms, again.reregistered_at_ms, again.session), (10, 20, 2));
        assert_eq!(again.replica, "r2");
    }

    #[test]
    fn the_end_of_an_older_session_changes_nothing() {
        let agent = admit(None, &register(None), "a", "r", 1).unwrap();
        let newer = admit(Some(&agent), &register(Some("a")), "a", "r", 2).unwrap();
        assert_eq!(end(&newer, agent.session, End::Silent, 3), None);
    }

    #[test]
    fn a_broken_stream_is_not_a_silent_agent() {
        let agent = admit(None, &register(None), "a", "r", 1).unwrap();
        let broken = end(&agent, 1, End::Broken, 2).unwrap();
        assert_eq!((broken.state(), broken.unreachable_at_ms), (AgentState::Disconnected, 0));
        let silent = end(&broken, 1, End::Silent, 3).unwrap();
        assert_eq!((silent.state(), silent.unreachable_at_ms), (AgentState::Unreachable, 3));
        assert_eq!(end(&silent, 1, End::Broken, 4), None);
    }

    #[test]
    fn a_gone_agent_is_refused_and_stays_gone() {
        let agent = admit(None, &register(None), "a", "r", 1).unwrap();
        assert_eq!(gone(None, 2), Err(Unknown));
        let left = end(&agent, 1, End::Left, 2).unwrap();
        assert_eq!(gone(Some(&left), 2), Err(Unknown));
        let agent = gone(Some(&agent), 2).unwrap().unwrap();
        assert_eq!((agent.state(), agent.gone_at_ms), (AgentState::Gone, 2));
        assert_eq!(gone(Some(&agent), 3), Ok(None));
        assert!(admit(Some(&agent), &register(Some("a")), "a", "r", 2).is_err());
        assert_eq!(end(&agent, 1, End::Left, 3), None);
    }

    #[test]
    fn hostile_ids_are_refused_by_name() {
        for id in ["..", "a/b", "a\nb"] {
            let error = check(&register(Some(id))).unwrap_err().to_string();
            assert!(error.starts_with("agent.id"), "{error}");
        }
        assert_eq!(check(&register(None)).unwrap(), None);
    }
}

//! SUBSCRIBE: a framework comes, or comes back (Mesos 3.3, 5.4).

use std::collections::BTreeSet;

use meshos_proto::mesos::v1::{self as pb, framework_info::capability::Type as CapabilityType, scheduler};
use meshos_types::{FrameworkId, OfferId, RoleName, role::check_role};

use super::{
    CallError, Core, Effect, StreamId,
    constraints::Constraints,
    events,
    framework::{Connection, Unanswered, has_capability, roles_of},
    timers::{HEARTBEAT_MS, Timer},
    validate,
};

/// What a framework asks for beside its description.
#[derive(Debug)]
struct Asked {
    constraints: Constraints,
    suppressed: Vec<String>,
}

/// Longest time that Mesos's durations hold, in seconds.
const LONGEST_SECONDS: f64 = 9_223_372_036.0;

impl Core {
    /// A SUBSCRIBE call on a new stream. What is wrong with its shape is an error; what is wrong with its
    /// content is an ERROR event, after which the stream ends.
    pub(super) fn subscribe(&mut self, stream: StreamId, call: scheduler::Call) -> Result<(), CallError> {
        validate::call(&call)?;
        self.counters.add("master/calls_subscribe", 1);
        let Some(subscribe) = call.subscribe else {
            return Err(CallError::invalid(validate::expecting("subscribe")));
        };
        let id =
            subscribe.framework_info.id.as_ref().filter(|id| !id.value.is_empty()).map(FrameworkId::from);
        let asked = match self.check_subscribe(id.as_ref(), &subscribe) {
            Ok(constraints) => Asked { constraints, suppressed: subscribe.suppressed_roles },
            Err(message) => {
                self.send_on(stream.clone(), events::error(message), String::new());
                self.effects.push(Effect::CloseStream { stream });
                return Ok(());
            }
        };
        let info = subscribe.framework_info;
        match id {
            Some(id) if self.frameworks.contains_key(&id) => self.resubscribe(&id, stream, info, asked),
            id => self.first_subscribe(id, stream, info, asked),
        }
        Ok(())
    }

    /// Whether a framework may subscribe; what it asked for.
    fn check_subscribe(
        &self,
        id: Option<&FrameworkId>,
        subscribe: &scheduler::call::Subscribe,
    ) -> Result<Constraints, String> {
        let info = &subscribe.framework_info;
        if id.is_some_and(|id| self.removed.contains(id)) {
            return Err("Framework has been removed".to_owned());
        }
        if let Some(id) = id {
            FrameworkId::parse(id.as_str()).map_err(|error| error.to_string())?;
        }
        check_info(info)?;
        if info.user == "root" && !self.config.root_submissions {
            let text = "User 'root' is not allowed to run frameworks without --root_submissions set";
            return Err(text.to_owned());
        }
        check_suppressed(&roles_of(info), &subscribe.suppressed_roles)?;
        let constraints = Constraints::compile(subscribe.offer_constraints.as_ref(), &roles_of(info))?;
        let known = id.and_then(|id| self.frameworks.get(id));
        if known.is_some_and(|known| known.info.principal != info.principal) {
            return Err("Changing framework's principal is not allowed.".to_owned());
        }
        Ok(constraints)
    }

    fn first_subscribe(
        &mut self,
        id: Option<FrameworkId>,
        stream: StreamId,
        info: pb::FrameworkInfo,
        asked: Asked,
    ) {
        let id = id.unwrap_or_else(|| {
            let number = self.next_framework;
            self.next_framework += 1;
            FrameworkId::new(format!("{}-{number:04}", self.config.master.id))
        });
        self.counters.add("master/messages_register_framework", 1);
        let framework = self.new_framework(&id, info);
        self.frameworks.insert(id.clone(), framework);
        self.connect(&id, stream, asked);
    }

    fn resubscribe(&mut self, id: &FrameworkId, stream: StreamId, info: pb::FrameworkInfo, asked: Asked) {
        self.counters.add("master/messages_reregister_framework", 1);
        self.deactivate(id);
        self.clear_filters(id);
        let now = self.now;
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        let old = std::mem::replace(&mut framework.connection, Connection::Disconnected);
        // User and checkpointing keep what they were (3.1).
        let (user, checkpoint) = (framework.info.user.clone(), framework.info.checkpoint);
        framework.info = pb::FrameworkInfo { user, checkpoint, ..info };
        framework.info.id = Some(id.to_proto());
        framework.roles = roles_of(&framework.info);
        framework.reregistered_at_ms = now;
        if let Connection::Connected(old) = old {
            self.streams.remove(&old);
            self.send_on(old.clone(), events::error("Framework failed over"), String::new());
            self.effects.push(Effect::CloseStream { stream: old });
        }
        // The new scheduler has never seen them.
        self.drop_offers(id);
        self.connect(id, stream, asked);
    }

    /// The framework is connected by `stream` from now on.
    fn connect(&mut self, id: &FrameworkId, stream: StreamId, asked: Asked) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.connection = Connection::Connected(stream.clone());
        framework.disconnected_at_ms = 0;
        framework.tallies.clear();
        framework.unanswered = Unanswered::default();
        if let Some(due) = framework.failover_due_ms.take() {
            self.timers.cancel(due, Timer::Failover(id.clone()));
        }
        self.activate(id, asked);
        self.persist(id);
        let subscribed = events::subscribed(id, &self.config.master);
        self.send_on(stream.clone(), subscribed, String::new());
        self.send_on(stream.clone(), events::heartbeat(), String::new());
        self.timers.set(self.now + HEARTBEAT_MS, Timer::Heartbeat(stream.clone()));
        self.streams.insert(stream, id.clone());
        self.tell_operations(id);
        self.touched_frameworks.insert(id.clone());
        self.dirty.frameworks.insert(id.clone());
    }
}

impl Core {
    /// Offers for all roles that are not suppressed.
    fn activate(&mut self, id: &FrameworkId, asked: Asked) {
        let Some(framework) = self.frameworks.get_mut(id) else { return };
        framework.suppressed = asked.suppressed.iter().map(|role| RoleName::new(role.as_str())).collect();
        framework.constraints = asked.constraints;
        let active: Vec<_> = framework.roles.difference(&framework.suppressed).cloned().collect();
        for role in active {
            self.shares.set_active(&role, id, true);
        }
        self.touched_frameworks.insert(id.clone());
        self.dirty.frameworks.insert(id.clone());
    }

    /// UPDATE_FRAMEWORK: as subscribing again, on the same stream.
    pub(super) fn update_framework(
        &mut self,
        id: &FrameworkId,
        update: scheduler::call::UpdateFramework,
    ) -> Result<(), CallError> {
        let Some(framework) = self.frameworks.get(id) else {
            return Err(CallError::invalid("Framework cannot be found"));
        };
        let info = update.framework_info;
        let invalid = |what: &'static str| {
            move |fault: String| CallError::Invalid(format!("{what} is not valid: {fault}"))
        };
        check_info(&info).map_err(invalid("Supplied FrameworkInfo"))?;
        check_same(&framework.info, &info).map_err(invalid("FrameworkInfo update"))?;
        let roles = roles_of(&info);
        let constraints = check_suppressed(&roles, &update.suppressed_roles)
            .and_then(|()| Constraints::compile(update.offer_constraints.as_ref(), &roles))
            .map_err(invalid("'UpdateFramework' call"))?;
        let outside = |offer: &&OfferId| {
            self.offers.get(*offer).is_some_and(|offer| !roles.contains(&offer.place.role))
        };
        for offer in framework.offers.iter().filter(outside).cloned().collect::<Vec<_>>() {
            self.rescind(&offer);
        }
        self.deactivate(id);
        if let Some(framework) = self.frameworks.get_mut(id) {
            framework.info = pb::FrameworkInfo { id: Some(id.to_proto()), ..info };
            framework.roles = roles;
        }
        self.activate(id, Asked { constraints, suppressed: update.suppressed_roles });
        self.persist(id);
        Ok(())
    }
}

fn check_suppressed(roles: &BTreeSet<RoleName>, suppressed: &[String]) -> Result<(), String> {
    let odd = |role: &&String| !roles.contains(role.as_str());
    let outside: Vec<_> = suppressed.iter().filter(odd).map(|role| format!("'{role}'")).collect();
    if outside.is_empty() {
        return Ok(());
    }
    let outside = outside.join(", ");
    Err(format!("Suppressed roles {{ {outside} }} are not contained in the set of roles"))
}

/// What a framework cannot change while it lives (3.1).
fn check_same(before: &pb::FrameworkInfo, after: &pb::FrameworkInfo) -> Result<(), String> {
    if before.principal != after.principal {
        return Err("Changing framework's principal is not allowed.".to_owned());
    }
    if before.user != after.user {
        return Err(format!(
            "Updating 'FrameworkInfo.user' is unsupported; attempted to update from '{}' to '{}'",
            before.user, after.user
        ));
    }
    if before.checkpoint.unwrap_or_default() != after.checkpoint.unwrap_or_default() {
        return Err("Updating 'FrameworkInfo.checkpoint' is unsupported".to_owned());
    }
    Ok(())
}

/// What a framework says of itself; the texts are Mesos's.
#[allow(deprecated, reason = "single-role frameworks use the field `role`")]
fn check_info(info: &pb::FrameworkInfo) -> Result<(), String> {
    if has_capability(info, CapabilityType::MultiRole) {
        if info.role.is_some() {
            let text = "'FrameworkInfo.role' must not be set when the framework is MULTI_ROLE capable";
            return Err(text.to_owned());
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = info.roles.iter().find(|role| !seen.insert(role.as_str())) {
            return Err(format!("'FrameworkInfo.roles' contains duplicate items: {twice}"));
        }
    } else if !info.roles.is_empty() {
        let text = "'FrameworkInfo.roles' must not be set when the framework is not MULTI_ROLE capable";
        return Err(text.to_owned());
    }
    for role in roles_of(info) {
        check_role(role.as_str()).map_err(|error| error.to_string())?;
    }
    let timeout = info.failover_timeout.unwrap_or(0.0);
    if !timeout.is_finite() || timeout.abs() > LONGEST_SECONDS {
        return Err(format!("The framework failover_timeout ({timeout}) is invalid"));
    }
    Ok(())
}

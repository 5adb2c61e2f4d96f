//! SUBSCRIBE: a framework comes, or comes back (Mesos 3.3, 5.4).

mod rules;
mod update;

use meshos_proto::mesos::v1::{
    self as pb,
    scheduler::{self, event},
};
use meshos_types::FrameworkId;

use self::rules::{check_info, check_listed, check_suppressed};
use super::{
    CallError, Core, Effect, StreamId,
    constraints::Constraints,
    events,
    framework::{Connection, Unanswered, roles_of},
    timers::{HEARTBEAT_MS, Timer},
    validate,
};

/// What a framework asks for beside its description.
#[derive(Debug)]
struct Asked {
    constraints: Constraints,
    told: Option<Box<scheduler::OfferConstraints>>,
    suppressed: Vec<String>,
}

impl Core {
    /// A SUBSCRIBE call on a new stream. What is wrong with its shape is an error; what is wrong with its
    /// content is an ERROR event, after which the stream ends.
    pub(super) fn subscribe(&mut self, stream: StreamId, call: scheduler::Call) -> Result<(), CallError> {
        validate::call(&call)?;
        let Some(subscribe) = call.subscribe else {
            return Err(CallError::invalid(validate::expecting("subscribe")));
        };
        let id =
            subscribe.framework_info.id.as_ref().filter(|id| !id.value.is_empty()).map(FrameworkId::from);
        let asked = match self.check_subscribe(id.as_ref(), &subscribe) {
            Ok(constraints) => Asked {
                constraints,
                told: subscribe.offer_constraints.map(Box::new),
                suppressed: subscribe.suppressed_roles,
            },
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
        check_listed(&roles_of(info), &self.config.roles)?;
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
        self.count_call(id, scheduler::call::Type::Subscribe);
        self.count_event(id, event::Type::Subscribed);
        self.count_event(id, event::Type::Heartbeat);
        let subscribed = events::subscribed(id, &self.config.master);
        self.send_on(stream.clone(), subscribed, String::new());
        self.send_on(stream.clone(), events::heartbeat(), String::new());
        self.timers.set(self.now + HEARTBEAT_MS, Timer::Heartbeat(stream.clone()));
        self.streams.insert(stream, id.clone());
        self.tell_operations(id);
        self.touch_framework(id);
        self.dirty.frameworks.insert(id.clone());
    }
}

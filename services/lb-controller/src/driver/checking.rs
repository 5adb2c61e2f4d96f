//! HAProxy looks at new texts, beside the loop, before anything is written or loaded.

use std::{io, sync::Arc};

use tracing::error;

use super::{Driver, reload::Phase};
use crate::{
    core::{
        Candidate,
        labels::PortLabels,
        model::{Mode, Problem},
        render::{self, RuleTexts},
        service::Service,
    },
    haproxy::check::{Checker, Text},
};

/// What HAProxy said of candidates.
#[derive(Debug)]
pub(super) struct Checked {
    candidates: Vec<Candidate>,
    verdicts: io::Result<Vec<Option<String>>>,
}

impl Driver {
    /// Has HAProxy look at the candidates, beside the loop.
    pub(super) fn check(&mut self, candidates: Vec<Candidate>) {
        self.phase = Phase::Checking;
        let checker = self.checker();
        let context = self.core.settings().context.clone();
        let results = self.checked.0.clone();
        self.env.tasks.spawn("lb-check", async move {
            let texts: Vec<Text> =
                candidates.iter().map(|candidate| check_text(candidate, &context)).collect();
            let verdicts = checker.check(&texts).await;
            // Nobody listens at the end.
            let _ = results.send(Checked { candidates, verdicts }).await;
        });
    }

    pub(super) fn checker(&self) -> Checker {
        Checker::new(&self.config.args.haproxy_binary, self.files.check(), self.check_head())
    }

    pub(super) async fn take_checked(&mut self, checked: Checked) {
        self.phase = Phase::Idle;
        match checked.verdicts {
            Ok(verdicts) => {
                for (candidate, verdict) in checked.candidates.into_iter().zip(verdicts) {
                    self.judge(candidate, verdict);
                }
            }
            Err(error) => {
                error!(%error, "HAProxy cannot look at the configuration, trying again");
                self.touch_stale();
                return;
            }
        }
        self.drop_found_entries();
        let changes = self.core.settle();
        self.publish(changes).await;
        self.load().await;
        self.name_problems();
    }

    fn judge(&mut self, candidate: Candidate, verdict: Option<String>) {
        let Candidate { unit, services, .. } = candidate;
        match verdict {
            None if self.core.still_wants(&unit, &services) => self.core.accept(&unit, services),
            // Some of it was taken back meanwhile: what it is to be now is looked at next.
            None => {
                self.stale.insert(unit);
            }
            Some(message) => {
                let app_id = services.first().map_or(unit.as_str(), |service| service.app_id.as_str());
                let label = blamed_label(&services, &message);
                let problem = Problem::new(app_id, label, message);
                self.core.refuse(&unit, Arc::clone(&services), problem);
            }
        }
    }
}

/// The label that HAProxy's message is about, where that can be seen.
fn blamed_label(services: &[Service], message: &str) -> String {
    let of = |service: &Service| {
        let labels = &service.labels;
        let known = [
            ("BALANCE", labels.balance.as_ref()),
            ("BIND_OPTIONS", labels.bind_options.as_ref()),
            ("SSL_CERT", labels.ssl_cert.as_ref()),
        ];
        let named = known.into_iter().find(|(_, value)| {
            value.is_some_and(|value| value.split(' ').any(|word| !word.is_empty() && message.contains(word)))
        });
        let balance = message.contains("balance").then_some("BALANCE");
        let name = named.map(|(name, _)| name).or(balance.filter(|_| labels.balance.is_some()));
        let template = labels.templates.keys().next().copied();
        name.or(template).map(|name| format!("HAPROXY_{}_{name}", service.index))
    };
    services.iter().find_map(of).unwrap_or_default()
}

/// What of a bind line comes from labels.
fn bind_words(labels: &PortLabels) -> impl Iterator<Item = &str> {
    let given = [&labels.ssl_cert, &labels.bind_options].into_iter().flatten();
    given.flat_map(|value| value.split(' ')).filter(|word| !word.is_empty())
}

/// The text as HAProxy looks at it: rules of the HTTP and HTTPS ports come in frontends of their own.
fn check_text(candidate: &Candidate, context: &render::Context) -> Text {
    let mut text = candidate.text.clone();
    for service in candidate.services.iter().filter(|service| {
        service.mode == Mode::Http && (service.has_rule_texts() || context.templates.has_rule())
    }) {
        let RuleTexts { http, https, app_id } = render::rule_texts(service, context).unwrap_or_default();
        for (kind, rules) in [("http", http), ("https", https), ("app_id", app_id)] {
            text.push_str(&format!("\nfrontend check_{kind}_{}\n  mode http\n{rules}", service.backend));
        }
    }
    let services = candidate.services.iter();
    let backends = services.clone().map(|service| service.backend.clone()).collect();
    let files = services.flat_map(|service| bind_words(&service.labels)).map(str::to_owned).collect();
    Text { backends, files, text }
}

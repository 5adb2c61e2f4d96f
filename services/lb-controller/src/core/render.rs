//! Services as HAProxy's configuration: a file for each app, with its frontends and backends.

mod backend;
mod head;
mod structure;

use super::{
    model::Problem,
    service::Service,
    slots::Slots,
    templates::{Templates, fill},
};
pub use head::{Certificates, Head, Identity, Listener, RuleTexts, rule_texts};
pub use structure::structure;

/// What texts depend on besides the service.
#[derive(Clone, Debug, Default)]
pub struct Context {
    pub templates: Templates,
    /// Where frontends are bound that name no address.
    pub bind_address: String,
    /// All load balancers of a group have the same, so that sticky clients can move between them.
    pub cookie_key: String,
}

/// The text of one service: user list, frontend, backend.
///
/// # Errors
/// A template that cannot be filled.
pub fn service(service: &Service, slots: &Slots, context: &Context) -> Result<String, Problem> {
    let mut text = Text { service, context, out: String::new() };
    if let Some(auth) = &service.labels.auth {
        text.add("USERLIST_HEAD", &[("user", &auth.user), ("passwd", &auth.hash)])?;
    }
    if service.frontend {
        frontend(&mut text)?;
    }
    backend::backend(&mut text, slots)?;
    Ok(text.out)
}

fn frontend(text: &mut Text<'_>) -> Result<(), Problem> {
    let labels = &text.service.labels;
    let port = text.service.port.to_string();
    let certificate = labels.ssl_cert.as_ref().map(|file| format!(" ssl crt {file}")).unwrap_or_default();
    let options = labels.bind_options.as_ref().map(|options| format!(" {options}")).unwrap_or_default();
    let values = [
        ("bindAddr", labels.bind_addr.as_ref().unwrap_or(&text.context.bind_address).as_str()),
        ("servicePort", &port),
        ("sslCert", &certificate),
        ("bindOptions", &options),
        ("mode", text.service.mode.name()),
    ];
    text.add("FRONTEND_HEAD", &values)?;
    text.add("FRONTEND_BACKEND_GLUE", &[])
}

/// A text that grows by templates.
struct Text<'a> {
    service: &'a Service,
    context: &'a Context,
    out: String,
}

impl Text<'_> {
    /// Adds a template, filled.
    fn add(&mut self, name: &str, values: &[(&str, &str)]) -> Result<(), Problem> {
        let part = self.filled(name, values)?;
        self.out.push_str(&part);
        self.end_line();
        Ok(())
    }

    /// Adds a template that has no variables: its braces are what they are.
    fn add_raw(&mut self, name: &str) {
        self.out.push_str(self.context.templates.text(name, &self.service.labels.templates));
        self.end_line();
    }

    fn line(&mut self, line: &str) {
        self.out.push_str("  ");
        self.out.push_str(line);
        self.out.push('\n');
    }

    /// A template of a user may end without a line break.
    fn end_line(&mut self) {
        if !self.out.is_empty() && !self.out.ends_with('\n') {
            self.out.push('\n');
        }
    }

    /// The template, with the service's own values besides these.
    fn filled(&self, name: &str, values: &[(&str, &str)]) -> Result<String, Problem> {
        let template = self.context.templates.text(name, &self.service.labels.templates);
        let mut all = vec![("backend", self.service.backend.as_str())];
        all.extend_from_slice(values);
        fill(template, &all).map_err(|message| {
            let labelled = self.service.labels.templates.contains_key(name);
            let label =
                if labelled { format!("HAPROXY_{}_{name}", self.service.index) } else { String::new() };
            Problem::new(&self.service.app_id, label, format!("template {name}: {message}"))
        })
    }
}

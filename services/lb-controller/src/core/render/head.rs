//! What is there once: global settings, the controller's sockets, statistics, and the ports of virtual hosts.

use super::Context;
use crate::core::{model::Problem, rules::Map, service::Service, templates::fill};

/// A port of HAProxy's own; none: it is not bound.
pub type Listener = Option<u16>;

/// How the HTTPS port finds its certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificates {
    None,
    /// A file that lists them; it can be changed while HAProxy runs.
    List(String),
}

/// Rules of services whose templates are replaced, heaviest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleTexts {
    pub http: String,
    pub https: String,
    pub app_id: String,
}

/// A user and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
}

/// Everything that the head is made of.
#[derive(Clone, Debug)]
pub struct Head<'a> {
    pub context: &'a Context,
    /// Absolute.
    pub dir: &'a str,
    pub maxconn: u32,
    pub hard_stop_s: u64,
    /// Reloads that an old worker outlives.
    pub max_reloads: u32,
    /// Whom the worker becomes; none: it stays who it is.
    pub identity: Option<Identity>,
    /// Lines of the defaults, e.g. `option redispatch`.
    pub options: &'a [String],
    pub compression: bool,
    pub http: Listener,
    pub https: Listener,
    pub admin: Listener,
    pub app_id: Listener,
    pub certificates: &'a Certificates,
    pub rules: &'a RuleTexts,
}

/// Words that begin a section.
const SECTIONS: [&str; 18] = [
    "global",
    "defaults",
    "frontend",
    "backend",
    "listen",
    "userlist",
    "peers",
    "mailers",
    "resolvers",
    "cache",
    "program",
    "http-errors",
    "ring",
    "log-forward",
    "log-profile",
    "fcgi-app",
    "crt-store",
    "traces",
];

const COMPRESSION: [&str; 2] = [
    "compression algo gzip",
    "compression type text/html text/plain text/css text/javascript application/javascript application/json",
];

impl Head<'_> {
    /// The text.
    ///
    /// # Errors
    /// What is wrong with a template that the operator replaced.
    pub fn text(&self) -> Result<String, Problem> {
        let mut out = format!(
            "global\n  stats socket {}/stats.sock mode 600 level admin expose-fd listeners\n",
            self.dir
        );
        if let Some(Identity { uid, gid }) = self.identity {
            // The operator's own template may say whom the worker becomes.
            let template = self.context.templates.text("HEAD", no_labels());
            if !is_global(template, ["user", "uid"]) {
                out.push_str(&format!("  uid {uid}\n"));
            }
            if !is_global(template, ["group", "gid"]) {
                out.push_str(&format!("  gid {gid}\n"));
            }
        }
        out.push('\n');
        out.push_str(&self.global()?);
        if let Some(port) = self.admin
            && !self.context.templates.is_replaced("HEAD")
        {
            out.push_str(&self.admin(port));
        }
        if let Some(port) = self.http {
            out.push_str(&self.filled("HTTP_FRONTEND_HEAD", port)?);
            out.push_str(&self.rules.http);
            out.push_str(&self.routing("req.hdr(host),field(1,:),lower", true));
        }
        if let Some(port) = self.app_id {
            out.push_str(&self.filled("HTTP_FRONTEND_APPID_HEAD", port)?);
            out.push_str(&self.rules.app_id);
            let lookup = format!("req.hdr(x-marathon-app-id),map_str({})", self.map(Map::Apps));
            out.push_str(&format!("  use_backend %[{lookup}] if {{ {lookup} -m found }}\n"));
        }
        if let Some(port) = self.https {
            out.push_str(&self.filled("HTTPS_FRONTEND_HEAD", port)?);
            out.push_str(&self.rules.https);
            out.push_str(&self.routing("ssl_fc_sni,lower", false));
        }
        Ok(out)
    }

    fn global(&self) -> Result<String, Problem> {
        let template = self.context.templates.text("HEAD", no_labels());
        if self.context.templates.is_replaced("HEAD") {
            if !template.contains("expose-fd listeners") || template.contains("daemon") {
                let message = "must contain 'expose-fd listeners' and must not contain 'daemon'";
                return Err(operator("HEAD", message));
            }
            return Ok(template.to_owned());
        }
        let compression = if self.compression { &COMPRESSION[..] } else { &[] };
        let lines = self.options.iter().map(String::as_str).chain(compression.iter().copied());
        let options = lines.map(|line| format!("  {line}\n")).collect::<String>();
        let values = [
            ("maxconn", self.maxconn.to_string()),
            ("frontendMaxconn", self.maxconn.min(10_000).to_string()),
            ("hardStopAfter", self.hard_stop_s.to_string()),
            ("maxReloads", self.max_reloads.to_string()),
            ("dir", self.dir.to_owned()),
            ("options", options),
        ];
        let values: Vec<(&str, &str)> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        fill(template, &values).map_err(|message| operator("HEAD", &message))
    }

    fn admin(&self, port: u16) -> String {
        let (bind, dir) = (&self.context.bind_address, self.dir);
        format!(
            "\nlisten stats
  bind {bind}:{port}
  mode http
  stats enable
  stats uri /haproxy?stats
  monitor-uri /_haproxy_health_check
  http-request use-service prometheus-exporter if {{ path /metrics }}
  use_backend meshos_lb_controller if {{ path_beg /_haproxy_ /_mlb_signal/ /_lb/ }}

backend meshos_lb_controller
  mode http
  retries 0
  server controller unix@{dir}/controller.sock
"
        )
    }

    fn filled(&self, name: &str, port: u16) -> Result<String, Problem> {
        let template = self.context.templates.text(name, no_labels());
        let certificates = match self.certificates {
            Certificates::None => String::new(),
            Certificates::List(file) => format!("crt-list {file}"),
        };
        let port = port.to_string();
        let values =
            [("bindAddr", self.context.bind_address.as_str()), ("port", &port), ("sslCerts", &certificates)];
        if self.context.templates.is_replaced(name) && name != "HTTPS_FRONTEND_HEAD" {
            return Ok(template.to_owned());
        }
        fill(template, &values).map_err(|message| operator(name, &message))
    }

    /// One look into the maps, however many hosts there are.
    fn routing(&self, host: &str, redirects: bool) -> String {
        let map = |map| self.map(map);
        let mut out = format!(
            "  http-request set-var(txn.host) {host}
  http-request set-var(txn.path) path
  http-request set-var(txn.key) var(txn.host),concat(,txn.path)
  http-request set-var(txn.be) var(txn.key),lower,map_beg({})
  http-request set-var(txn.be) var(txn.key),map_beg({}) unless {{ var(txn.be) -m found }}
  http-request set-var(txn.be) var(txn.host),map_end({}) unless {{ var(txn.be) -m found }}
",
            map(Map::PathsIgnoreCase),
            map(Map::Paths),
            map(Map::Wildcards),
        );
        if redirects {
            out.push_str(&format!(
                "  http-request redirect scheme https code 301 if {{ var(txn.be),map_str({}) -m found }}\n",
                map(Map::Redirects)
            ));
        }
        out.push_str("  use_backend %[var(txn.be)] if { var(txn.be) -m found }\n");
        out
    }

    fn map(&self, map: Map) -> String {
        format!("{}/maps/{}", self.dir, map.file())
    }
}

/// Whether one of these directives stands in a `global` section.
fn is_global(template: &str, directives: [&str; 2]) -> bool {
    // It goes on where the lines before it ended.
    let mut global = true;
    template.lines().filter_map(|line| line.split_whitespace().next()).any(|word| {
        if SECTIONS.contains(&word) {
            global = word == "global";
        }
        global && directives.contains(&word)
    })
}

fn no_labels() -> &'static std::collections::BTreeMap<&'static str, String> {
    static NONE: std::collections::BTreeMap<&'static str, String> = std::collections::BTreeMap::new();
    &NONE
}

fn operator(template: &str, message: &str) -> Problem {
    Problem::new("", "", format!("template {template}: {message}"))
}

/// The rules of a service as texts, for services with replaced templates.
///
/// # Errors
/// A template that cannot be filled.
pub fn rule_texts(service: &Service, context: &Context) -> Result<RuleTexts, Problem> {
    let mut texts = RuleTexts::default();
    let labels = &service.labels;
    let text = super::Text { service, context, out: String::new() };
    let realm = labels.auth.as_ref().map(|auth| auth.realm.as_str());
    let path = match (labels.paths.is_empty(), labels.paths_ignore_case) {
        (true, _) => None,
        (false, true) => Some(format!("-i {}", labels.paths.join(" "))),
        (false, false) => Some(labels.paths.join(" ")),
    };
    let clean = |text: &str| text.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    let app = clean(service.app_id.trim_start_matches('/'));
    let first = labels.vhosts.first().map(|host| clean(host)).unwrap_or_default();
    let host_acl = format!("{first}_{app}");
    let app_id = service.app_id.clone();
    let fill = |name: &str, host: &str| {
        text.filled(
            name,
            &[
                ("cleanedUpHostname", host_acl.as_str()),
                ("hostname", host),
                ("appId", &app_id),
                ("cleanedUpAppId", &app),
                ("realm", realm.unwrap_or_default()),
                ("path", path.as_deref().unwrap_or_default()),
                ("bindAddr", labels.bind_addr.as_ref().unwrap_or(&context.bind_address)),
            ],
        )
    };
    let kind = match (realm.is_some(), path.is_some()) {
        (false, false) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (true, true) => 3,
    };
    if let [host] = labels.vhosts.as_slice() {
        let names = ["", "_WITH_AUTH", "_WITH_PATH", "_WITH_AUTH_AND_PATH"];
        texts.http += &fill(&format!("HTTP_FRONTEND_ACL{}", names[kind]), host)?;
    } else if !labels.vhosts.is_empty() {
        for host in &labels.vhosts {
            texts.http += &fill("HTTP_FRONTEND_ACL_ONLY", host)?;
        }
        let only = ["", "", "HTTP_FRONTEND_ACL_ONLY_WITH_PATH", "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH"];
        if !only[kind].is_empty() {
            texts.http += &fill(only[kind], "")?;
        }
        let names = ["", "_WITH_AUTH", "_WITH_PATH", "_WITH_PATH_AND_AUTH"];
        texts.http += &fill(&format!("HTTP_FRONTEND_ROUTING_ONLY{}", names[kind]), "")?;
    }
    if labels.redirect_to_https && !labels.vhosts.is_empty() {
        let with_path = if path.is_some() { "_WITH_PATH" } else { "" };
        texts.http += &fill(&format!("BACKEND_REDIRECT_HTTP_TO_HTTPS{with_path}"), "")?;
    }
    if path.is_some() && !labels.vhosts.is_empty() {
        texts.https += &fill("HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", "")?;
    }
    for host in &labels.vhosts {
        let names = ["", "_WITH_AUTH", "_WITH_PATH", "_WITH_AUTH_AND_PATH"];
        texts.https += &fill(&format!("HTTPS_FRONTEND_ACL{}", names[kind]), host)?;
    }
    if labels.templates.contains_key("HTTP_FRONTEND_APPID_ACL")
        || context.templates.is_replaced("HTTP_FRONTEND_APPID_ACL")
    {
        texts.app_id += &fill("HTTP_FRONTEND_APPID_ACL", labels.vhosts.first().map_or("", String::as_str))?;
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_of_a_list_are_none_of_the_worker() {
        let template = "global\n  maxconn 9\nuserlist u\n  group g users a\n  user a password b\n";
        assert!(!is_global(template, ["user", "uid"]) && !is_global(template, ["group", "gid"]));
        let template = format!("{template}global\n\tuser\tlb\n");
        assert!(is_global(&template, ["user", "uid"]) && !is_global(&template, ["group", "gid"]));
        assert!(is_global("  gid 7\n", ["group", "gid"]));
    }
}

//! The pieces that the configuration is made of. Each can be replaced: by a label of the app, by a variable
//! `HAPROXY_<NAME>`, or by a file of that name; in this order. What is built in follows marathon-lb's templates in
//! directives that HAProxy 2.6 knows.

use std::collections::BTreeMap;

/// A template: its name, whether a label may replace it, and what is built in.
struct Template(&'static str, bool, &'static str);

const G: bool = false;
const L: bool = true;

/// Rules of the HTTP and HTTPS ports are made of maps unless one of these is replaced: then of texts.
const RULES: &[&str] = &[
    "HTTP_FRONTEND_ACL",
    "HTTP_FRONTEND_ACL_ONLY",
    "HTTP_FRONTEND_ACL_ONLY_WITH_PATH",
    "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH",
    "HTTP_FRONTEND_ACL_WITH_AUTH",
    "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH",
    "HTTP_FRONTEND_ACL_WITH_PATH",
    "HTTP_FRONTEND_ROUTING_ONLY",
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH",
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH",
    "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH",
    "BACKEND_REDIRECT_HTTP_TO_HTTPS",
    "BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH",
    "HTTPS_FRONTEND_ACL",
    "HTTPS_FRONTEND_ACL_ONLY_WITH_PATH",
    "HTTPS_FRONTEND_ACL_WITH_AUTH",
    "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH",
    "HTTPS_FRONTEND_ACL_WITH_PATH",
    "HTTP_FRONTEND_APPID_ACL",
];

const ALL: &[Template] = &[
    Template("HEAD", G, include_str!("templates/head")),
    Template("USERLIST_HEAD", L, "\nuserlist user_{backend}\n  user {user} password {passwd}\n"),
    Template("HTTP_FRONTEND_HEAD", G, include_str!("templates/http_frontend_head")),
    Template("HTTP_FRONTEND_APPID_HEAD", G, include_str!("templates/http_frontend_appid_head")),
    Template("HTTPS_FRONTEND_HEAD", G, include_str!("templates/https_frontend_head")),
    Template(
        "FRONTEND_HEAD",
        L,
        "\nfrontend {backend}\n  bind {bindAddr}:{servicePort}{sslCert}{bindOptions}\n  mode {mode}\n",
    ),
    Template("FRONTEND_BACKEND_GLUE", L, "  use_backend {backend}\n"),
    Template("BACKEND_HEAD", L, "\nbackend {backend}\n  balance {balance}\n  mode {mode}\n"),
    Template("BACKEND_HTTP_OPTIONS", L, include_str!("templates/backend_http_options")),
    Template(
        "BACKEND_HSTS_OPTIONS",
        L,
        "  http-after-response set-header Strict-Transport-Security max-age=15768000\n",
    ),
    Template(
        "BACKEND_STICKY_OPTIONS",
        L,
        "  cookie mesosphere_server_id insert indirect nocache dynamic\n  dynamic-cookie-key {cookieKey}\n",
    ),
    Template(
        "BACKEND_SERVER_OPTIONS",
        L,
        "  server {serverName} {host_ipv4}:{port} id {serverId}{cookieOptions}{healthCheckOptions}{otherOptions}\n",
    ),
    Template(
        "BACKEND_HTTP_HEALTHCHECK_OPTIONS",
        L,
        "  option httpchk GET {healthCheckPath}\n  timeout check {healthCheckTimeoutSeconds}s\n",
    ),
    Template("BACKEND_TCP_HEALTHCHECK_OPTIONS", L, ""),
    Template(
        "BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS",
        L,
        " check inter {healthCheckIntervalSeconds}s fall {healthCheckFalls}{healthCheckPortOptions}",
    ),
    Template(
        "BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS",
        L,
        " check inter {healthCheckIntervalSeconds}s fall {healthCheckFalls}{healthCheckPortOptions}",
    ),
    Template(
        "BACKEND_REDIRECT_HTTP_TO_HTTPS",
        L,
        "  redirect scheme https code 301 if !{{ ssl_fc }} host_{cleanedUpHostname}\n",
    ),
    Template(
        "BACKEND_REDIRECT_HTTP_TO_HTTPS_WITH_PATH",
        L,
        "  redirect scheme https code 301 if !{{ ssl_fc }} host_{cleanedUpHostname} path_{backend}\n",
    ),
    Template(
        "HTTP_FRONTEND_ACL",
        L,
        "  acl host_{cleanedUpHostname} hdr(host),field(1,:) -i {hostname}\n  use_backend {backend} if host_{cleanedUpHostname}\n",
    ),
    Template(
        "HTTP_FRONTEND_ACL_WITH_AUTH",
        L,
        "  acl host_{cleanedUpHostname} hdr(host),field(1,:) -i {hostname}\n  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  http-request auth realm \"{realm}\" if host_{cleanedUpHostname} !auth_{cleanedUpHostname}\n  use_backend {backend} if host_{cleanedUpHostname}\n",
    ),
    Template(
        "HTTP_FRONTEND_ACL_WITH_PATH",
        L,
        "  acl host_{cleanedUpHostname} hdr(host),field(1,:) -i {hostname}\n  acl path_{backend} path_beg {path}\n  use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n",
    ),
    Template(
        "HTTP_FRONTEND_ACL_WITH_AUTH_AND_PATH",
        L,
        "  acl host_{cleanedUpHostname} hdr(host),field(1,:) -i {hostname}\n  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  acl path_{backend} path_beg {path}\n  http-request auth realm \"{realm}\" if host_{cleanedUpHostname} path_{backend} !auth_{cleanedUpHostname}\n  use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n",
    ),
    Template(
        "HTTP_FRONTEND_ACL_ONLY",
        L,
        "  acl host_{cleanedUpHostname} hdr(host),field(1,:) -i {hostname}\n",
    ),
    Template("HTTP_FRONTEND_ACL_ONLY_WITH_PATH", L, "  acl path_{backend} path_beg {path}\n"),
    Template(
        "HTTP_FRONTEND_ACL_ONLY_WITH_PATH_AND_AUTH",
        L,
        "  acl path_{backend} path_beg {path}\n  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n",
    ),
    Template("HTTP_FRONTEND_ROUTING_ONLY", L, "  use_backend {backend} if host_{cleanedUpHostname}\n"),
    Template(
        "HTTP_FRONTEND_ROUTING_ONLY_WITH_AUTH",
        L,
        "  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  http-request auth realm \"{realm}\" if host_{cleanedUpHostname} !auth_{cleanedUpHostname}\n  use_backend {backend} if host_{cleanedUpHostname}\n",
    ),
    Template(
        "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH",
        L,
        "  use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n",
    ),
    Template(
        "HTTP_FRONTEND_ROUTING_ONLY_WITH_PATH_AND_AUTH",
        L,
        "  http-request auth realm \"{realm}\" if host_{cleanedUpHostname} path_{backend} !auth_{cleanedUpHostname}\n  use_backend {backend} if host_{cleanedUpHostname} path_{backend}\n",
    ),
    Template(
        "HTTP_FRONTEND_APPID_ACL",
        L,
        "  acl app_{cleanedUpAppId} hdr(x-marathon-app-id) -i {appId}\n  use_backend {backend} if app_{cleanedUpAppId}\n",
    ),
    Template("HTTPS_FRONTEND_ACL", L, "  use_backend {backend} if {{ ssl_fc_sni -i {hostname} }}\n"),
    Template(
        "HTTPS_FRONTEND_ACL_WITH_AUTH",
        L,
        "  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  http-request auth realm \"{realm}\" if {{ ssl_fc_sni -i {hostname} }} !auth_{cleanedUpHostname}\n  use_backend {backend} if {{ ssl_fc_sni -i {hostname} }}\n",
    ),
    Template(
        "HTTPS_FRONTEND_ACL_WITH_PATH",
        L,
        "  use_backend {backend} if {{ ssl_fc_sni -i {hostname} }} path_{backend}\n",
    ),
    Template(
        "HTTPS_FRONTEND_ACL_WITH_AUTH_AND_PATH",
        L,
        "  acl auth_{cleanedUpHostname} http_auth(user_{backend})\n  http-request auth realm \"{realm}\" if {{ ssl_fc_sni -i {hostname} }} path_{backend} !auth_{cleanedUpHostname}\n  use_backend {backend} if {{ ssl_fc_sni -i {hostname} }} path_{backend}\n",
    ),
    Template("HTTPS_FRONTEND_ACL_ONLY_WITH_PATH", L, "  acl path_{backend} path_beg {path}\n"),
    Template("HTTP_BACKEND_PROXYPASS_GLUE", L, include_str!("templates/proxypass_glue")),
    Template(
        "HTTP_BACKEND_REVPROXY_GLUE",
        L,
        "  http-response replace-header Location ^(?:https?://(?:{hostname})(?::[0-9]+)?)?(/.*)$ {rootpath}\\1\n",
    ),
    Template(
        "HTTP_BACKEND_REDIR",
        G,
        "  http-request redirect code 301 location {redirpath} if {{ path / }} {{ hdr(host),field(1,:) -i {hostname} }}\n",
    ),
    Template("HTTP_BACKEND_NETWORK_ALLOWED_ACL", L, "  acl network_allowed src {network_allowed}\n"),
    Template("TCP_BACKEND_NETWORK_ALLOWED_ACL", L, "  acl network_allowed src {network_allowed}\n"),
    Template("HTTP_BACKEND_ACL_ALLOW_DENY", G, "  http-request deny unless network_allowed\n"),
    Template("TCP_BACKEND_ACL_ALLOW_DENY", G, "  tcp-request content reject unless network_allowed\n"),
];

/// The full name of a template that labels may replace.
pub fn by_label(name: &str) -> Option<&'static str> {
    ALL.iter().find(|template| template.1 && template.0 == name).map(|template| template.0)
}

/// Whether the rules of a service must be texts, given what its labels replace.
pub fn has_rule(names: impl IntoIterator<Item = &'static str>) -> bool {
    names.into_iter().any(|name| RULES.contains(&name))
}

/// The templates in use for everybody.
#[derive(Clone, Debug, Default)]
pub struct Templates {
    replaced: BTreeMap<&'static str, String>,
}

impl Templates {
    /// `text_of` gives what replaces a template (its name without `HAPROXY_`), if anything does.
    pub fn new(mut text_of: impl FnMut(&str) -> Option<String>) -> Self {
        let named = |template: &Template| {
            let text = text_of(template.0).filter(|text| !text.is_empty())?;
            Some((template.0, text.replace("\\n", "\n").replace("\r\n", "\n")))
        };
        Self { replaced: ALL.iter().filter_map(named).collect() }
    }

    /// Whether the rules of all services must be texts.
    pub fn has_rule(&self) -> bool {
        has_rule(self.replaced.keys().copied())
    }

    /// Whether this one is replaced for everybody.
    pub fn is_replaced(&self, name: &str) -> bool {
        self.replaced.contains_key(name)
    }

    /// The text in force for a service whose labels replace `labels`.
    pub fn text<'a>(&'a self, name: &str, labels: &'a BTreeMap<&'static str, String>) -> &'a str {
        let built_in = || ALL.iter().find(|template| template.0 == name).map_or("", |template| template.2);
        let replaced = labels.get(name).or_else(|| self.replaced.get(name));
        replaced.map_or_else(built_in, String::as_str)
    }
}

/// Puts values in for `{name}`; `{{` and `}}` stand for single braces.
///
/// # Errors
/// Names the variable that there is not.
pub fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, String> {
    let mut text = String::with_capacity(template.len() + 64);
    let mut rest = template;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        if from.starts_with("{{") || from.starts_with("}}") {
            text.push_str(&from[..1]);
            rest = &from[2..];
            continue;
        }
        let end = from.find('}').filter(|_| from.starts_with('{'));
        let end = end.ok_or_else(|| "a brace is not closed; write {{ or }} for a brace itself".to_owned())?;
        let name = &from[1..end];
        let value = values.iter().find(|(known, _)| *known == name);
        let (_, value) = value.ok_or_else(|| format!("unknown variable {{{name}}}"))?;
        text.push_str(value);
        rest = &from[end + 1..];
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_put_in_and_braces_kept() {
        let values = [("a", "1"), ("b", "2")];
        assert_eq!(fill("x {a} {{ {b} }}", &values), Ok("x 1 { 2 }".into()));
        assert_eq!(fill("{c}", &values), Err("unknown variable {c}".into()));
        assert!(fill("{a", &values).is_err());
        assert!(fill("a}", &values).is_err());
    }

    #[test]
    fn a_label_wins_over_everybody() {
        let templates = Templates::new(|name| (name == "BACKEND_HEAD").then(|| "all\\n".to_owned()));
        let labels = [("BACKEND_HEAD", "mine".to_owned())].into();
        assert_eq!(templates.text("BACKEND_HEAD", &labels), "mine");
        assert_eq!(templates.text("BACKEND_HEAD", &BTreeMap::new()), "all\n");
        assert!(templates.text("FRONTEND_HEAD", &BTreeMap::new()).contains("bind"));
        assert_eq!(by_label("HEAD"), None);
        assert_eq!(by_label("BACKEND_HEAD"), Some("BACKEND_HEAD"));
    }
}

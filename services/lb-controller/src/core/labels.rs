//! Reads labels. A value that cannot be used is a problem of that label of that app, and the label is left out:
//! nothing that a user wrote gets into the configuration unless it is harmless at its place.

use std::collections::BTreeMap;

use super::{
    charset::{self, Kind},
    model::{App, Mode, Problem},
    templates,
};

/// A blue/green deployment that the app takes part in.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DeploymentLabels {
    pub group: String,
    pub started_at: String,
    pub target_instances: Option<u32>,
    pub new_instances: Option<u32>,
}

/// Basic authentication.
#[derive(Clone, Debug, PartialEq)]
pub struct Auth {
    pub realm: String,
    pub user: String,
    /// As crypt(3) makes it.
    pub hash: String,
}

/// What the labels say of one service port.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PortLabels {
    pub groups: Option<Vec<String>>,
    pub vhosts: Vec<String>,
    pub paths: Vec<String>,
    pub paths_ignore_case: bool,
    pub port: Option<u16>,
    pub mode: Option<Mode>,
    pub balance: Option<String>,
    pub enabled: Option<bool>,
    pub sticky: bool,
    pub redirect_to_https: bool,
    pub hsts: bool,
    pub auth: Option<Auth>,
    pub weight: Option<i64>,
    pub networks: Vec<String>,
    pub check_port_index: Option<usize>,
    pub ssl_cert: Option<String>,
    pub bind_options: Option<String>,
    pub bind_addr: Option<String>,
    pub proxypass: Option<String>,
    pub revproxy: Option<String>,
    pub redir: Option<String>,
    /// Templates that are replaced, by name.
    pub templates: BTreeMap<&'static str, String>,
}

/// What the labels of an app say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppLabels {
    pub groups: Vec<String>,
    pub deployment: Option<DeploymentLabels>,
    /// By index of the service port.
    pub ports: Vec<PortLabels>,
    pub problems: Vec<Problem>,
}

/// Most problems that are kept of one app.
const MOST_PROBLEMS: usize = 50;

/// Reads all labels. `custom_templates`: labels may replace templates.
pub fn read(app: &App, custom_templates: bool) -> AppLabels {
    let mut labels =
        AppLabels { ports: vec![PortLabels::default(); app.ports.len()], ..AppLabels::default() };
    let mut deployment = DeploymentLabels::default();
    for (name, value) in &app.labels {
        let Some(rest) = name.strip_prefix("HAPROXY_") else { continue };
        // Real line breaks end a directive; those of Windows are taken as such.
        let value = value.replace("\r\n", "\n");
        let digits = rest.find('_').filter(|end| rest[..*end].bytes().all(|b| b.is_ascii_digit()));
        let result = match digits.filter(|end| *end > 0) {
            Some(end) => {
                let index = rest[..end].parse::<usize>().ok();
                let Some(port) = index.and_then(|index| labels.ports.get_mut(index)) else { continue };
                port_label(port, &rest[end + 1..], &value, custom_templates)
            }
            None => app_label(&mut labels, &mut deployment, rest, &value),
        };
        if let Err(message) = result
            && labels.problems.len() < MOST_PROBLEMS
        {
            labels.problems.push(Problem::new(&app.id, charset::shown(name), message));
        }
    }
    if !deployment.group.is_empty() {
        labels.deployment = Some(deployment);
    }
    labels
}

fn app_label(
    labels: &mut AppLabels,
    deployment: &mut DeploymentLabels,
    name: &str,
    value: &str,
) -> Result<(), String> {
    match name {
        "GROUP" => labels.groups = list(value),
        "DEPLOYMENT_GROUP" => {
            deployment.group = charset::checked(value.trim().trim_matches('/'), Kind::AppId)?
        }
        "DEPLOYMENT_STARTED_AT" => value.trim().clone_into(&mut deployment.started_at),
        "DEPLOYMENT_TARGET_INSTANCES" => deployment.target_instances = Some(number(value)?),
        "DEPLOYMENT_NEW_INSTANCES" => deployment.new_instances = Some(number(value)?),
        // The rest is of the deployment tool alone, or unknown.
        _ => {}
    }
    Ok(())
}

fn port_label(port: &mut PortLabels, name: &str, value: &str, custom_templates: bool) -> Result<(), String> {
    let text = value.trim();
    match name {
        "GROUP" => port.groups = Some(list(text)),
        "VHOST" => return vhosts(port, text),
        "PATH" => return paths(port, text),
        "PORT" => {
            let number = text.parse().ok().filter(|number| *number != 0);
            port.port = Some(number.ok_or_else(|| format!("'{}' is no port", charset::shown(text)))?);
        }
        "MODE" => {
            port.mode = Some(match text.to_ascii_lowercase().as_str() {
                "tcp" => Mode::Tcp,
                "http" => Mode::Http,
                _ => return Err(format!("'{}' is no mode: use http or tcp", charset::shown(text))),
            });
        }
        "BALANCE" => port.balance = Some(balance(text)?),
        "ENABLED" => port.enabled = Some(truth(text)),
        "STICKY" => port.sticky = truth(text),
        "REDIRECT_TO_HTTPS" => port.redirect_to_https = truth(text),
        "USE_HSTS" => port.hsts = truth(text),
        "AUTH" => port.auth = Some(auth(text)?),
        "BACKEND_WEIGHT" => port.weight = Some(number(text)?),
        "BACKEND_NETWORK_ALLOWED_ACL" => port.networks = networks(text)?,
        "BACKEND_HEALTHCHECK_PORT_INDEX" => port.check_port_index = Some(number(text)?),
        "SSL_CERT" => port.ssl_cert = Some(charset::checked(text, Kind::File)?),
        "BIND_OPTIONS" => port.bind_options = Some(bind_options(text)?),
        "BIND_ADDR" => port.bind_addr = Some(bind_addr(text)?),
        "HTTP_BACKEND_PROXYPASS_PATH" => port.proxypass = Some(path(text)?),
        "HTTP_BACKEND_REVPROXY_PATH" => port.revproxy = Some(path(text)?),
        "HTTP_BACKEND_REDIR" => port.redir = Some(path(text)?),
        _ => return template(port, name, value, custom_templates),
    }
    Ok(())
}

fn template(port: &mut PortLabels, name: &str, value: &str, custom_templates: bool) -> Result<(), String> {
    // Accepted upstream and never read there.
    if name.starts_with("MAP_") {
        return Ok(());
    }
    let Some(name) = templates::by_label(name) else { return Ok(()) };
    if !custom_templates {
        return Err("labels may not replace templates here (--allow-custom-templates)".to_owned());
    }
    port.templates.insert(name, value.to_owned());
    Ok(())
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

fn truth(text: &str) -> bool {
    ["true", "t", "yes", "y"].contains(&text.to_ascii_lowercase().as_str())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.trim().parse().map_err(|_| format!("'{}' is no number of the right size", charset::shown(text)))
}

/// Keeps the good ones.
fn vhosts(port: &mut PortLabels, text: &str) -> Result<(), String> {
    let mut bad = Ok(());
    for host in list(text) {
        match charset::host(&host) {
            Ok(host) if !port.vhosts.contains(&host) => port.vhosts.push(host),
            Ok(_) => {}
            Err(message) => bad = Err(message),
        }
    }
    bad
}

/// Path prefixes as arguments of HAProxy's `path_beg`.
fn paths(port: &mut PortLabels, text: &str) -> Result<(), String> {
    let mut words = text.split_whitespace().peekable();
    while let Some(flag) = words.next_if(|word| word.starts_with('-')) {
        match flag {
            "-i" => port.paths_ignore_case = true,
            "--" => break,
            _ => return Err(format!("flag '{}' is not supported", charset::shown(flag))),
        }
    }
    let mut bad = Ok(());
    for word in words {
        match path(word) {
            Ok(word) if !port.paths.contains(&word) => port.paths.push(word),
            Ok(_) => {}
            Err(message) => bad = Err(message),
        }
    }
    if bad.is_ok() && port.paths.is_empty() {
        return Err("no path is given".to_owned());
    }
    bad
}

fn path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        return Err(format!("'{}' is no path: it must begin with a slash", charset::shown(text)));
    }
    charset::checked(text, Kind::Path)
}

fn auth(text: &str) -> Result<Auth, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let &[realm, user, hash] = parts.as_slice() else {
        return Err("not of the form realm:user:hash".to_owned());
    };
    Ok(Auth {
        realm: charset::checked(realm, Kind::Realm)?,
        user: charset::checked(user, Kind::Name)?,
        hash: charset::checked(hash, Kind::Hash).map_err(|_| "the hash is not one of crypt(3)".to_owned())?,
    })
}

fn networks(text: &str) -> Result<Vec<String>, String> {
    let networks: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let good = |network: &String| {
        let (address, bits) = network.split_once('/').map_or((network.as_str(), None), |(a, b)| (a, Some(b)));
        let most = match address.parse::<std::net::IpAddr>() {
            Ok(std::net::IpAddr::V4(_)) => 32,
            Ok(std::net::IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
    };
    match networks.iter().find(|network| !good(network)) {
        Some(bad) => Err(format!("'{}' is no network", charset::shown(bad))),
        None if networks.is_empty() => Err("no network is given".to_owned()),
        None => Ok(networks),
    }
}

/// Some of HAProxy's converters read a file and quote what they do not like in it.
fn balance(text: &str) -> Result<String, String> {
    let text = charset::checked(text, Kind::Words)?;
    let words: Vec<&str> = text.split(' ').filter(|word| !word.is_empty()).collect();
    let converts = match words[..] {
        ["hash", sample] => sample.contains(','),
        ["hash", ..] => words.len() > 2,
        // Newer versions: nothing but converters.
        ["log-hash", ..] => true,
        _ => false,
    };
    if converts {
        return Err("converters are not allowed: name a sample alone, e.g. hash hdr(host)".to_owned());
    }
    Ok(text)
}

/// HAProxy takes a list's lines for names of files, and says so: any file of the machine could be read like that.
fn bind_options(text: &str) -> Result<String, String> {
    match text.split(' ').find(|word| *word == "crt-list") {
        Some(_) => Err("crt-list is not allowed: name certificates with crt".to_owned()),
        None => charset::checked(text, Kind::Words),
    }
}

fn bind_addr(text: &str) -> Result<String, String> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    if text == "*" || bare.parse::<std::net::IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    Err(format!("'{}' is no IP address", charset::shown(text)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::model::Port;

    fn read_one(name: &str, value: &str) -> (PortLabels, Vec<Problem>) {
        let app = App {
            id: "/a".into(),
            labels: [(format!("HAPROXY_0_{name}"), value.to_owned())].into(),
            ports: vec![Port::default()],
            ..App::default()
        };
        let mut labels = read(&app, true);
        (labels.ports.remove(0), labels.problems)
    }

    #[test]
    fn truth_is_what_marathon_lb_takes_for_it() {
        for (text, truth) in
            [("true", true), ("T", true), ("Yes", true), ("y", true), ("1", false), ("on", false)]
        {
            assert_eq!(read_one("STICKY", text).0.sticky, truth, "{text}");
        }
    }

    #[test]
    fn hosts_and_paths() {
        let (port, problems) = read_one("VHOST", "A.Example.com, b.example.com,a.example.com");
        assert_eq!((port.vhosts, problems), (vec!["a.example.com".into(), "b.example.com".into()], vec![]));
        let (port, _) = read_one("PATH", "-i /one /two");
        assert_eq!((port.paths, port.paths_ignore_case), (vec!["/one".into(), "/two".into()], true));
    }

    #[test]
    fn a_bad_value_is_named_and_left_out() {
        for (name, value) in [
            ("VHOST", "a b.example.com"),
            ("VHOST", "a.example.com\n  bind *:1"),
            ("PATH", "-f /etc/shadow"),
            ("PATH", "no-slash"),
            ("PATH", "/a\"b"),
            ("PORT", "70000"),
            ("PORT", "0"),
            ("MODE", "udp"),
            ("BALANCE", "roundrobin\n  acl x src 1"),
            ("BALANCE", "round # robin"),
            ("BALANCE", "hash src,map_ip(/etc/shadow)"),
            ("BALANCE", "hash  src map_ip(/etc/shadow)"),
            ("BALANCE", "hash hdr(host) ,map(/etc/shadow)"),
            ("BALANCE", "log-hash map(/etc/shadow)"),
            ("AUTH", "a:b"),
            ("AUTH", "realm:user:ha sh"),
            ("AUTH", "re\"alm:user:hash"),
            ("BACKEND_WEIGHT", "abc"),
            ("BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8 -f /etc/passwd"),
            ("BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/33"),
            ("BIND_ADDR", "*:443,*"),
            ("BIND_OPTIONS", "ssl crt x\n bind *:1"),
            ("BIND_OPTIONS", "ssl crt ${HOME}"),
            ("BIND_OPTIONS", "ssl crt-list /etc/shadow"),
            ("SSL_CERT", "a.pem verify none"),
            ("HTTP_BACKEND_REDIR", "/a%[env(HOME)]"),
            ("HTTP_BACKEND_PROXYPASS_PATH", "/a b"),
        ] {
            let (port, problems) = read_one(name, value);
            assert_eq!(port, PortLabels::default(), "{name} {value}");
            assert_eq!(
                (problems.len(), problems[0].label.as_str()),
                (1, format!("HAPROXY_0_{name}").as_str())
            );
        }
    }

    #[test]
    fn what_balances() {
        for text in ["roundrobin", "url_param id check_post", "hdr(host) use_domain_only", "hash hdr(host)"] {
            assert_eq!(read_one("BALANCE", text).0.balance.as_deref(), Some(text));
        }
    }

    #[test]
    fn unknown_labels_and_ports_that_are_not_there_are_ignored() {
        let (port, problems) = read_one("NONSENSE", "x");
        assert_eq!((port, problems.len()), (PortLabels::default(), 0));
        let app = App { labels: [("HAPROXY_7_PORT".into(), "x".into())].into(), ..App::default() };
        assert_eq!(read(&app, true), AppLabels::default());
    }
}

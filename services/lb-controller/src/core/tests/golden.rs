//! The text for every label, compared with files that HAProxy finds good. `MESHOS_TEST_UPDATE_GOLDEN=1` writes them.

mod rules;

use std::{fs, path::Path};

use crate::{
    core::{
        Core, Settings,
        model::{App, Check, Port, Protocol, Task},
        render::{self, Certificates, Context, Head, RuleTexts},
        rules::Map,
        templates::Templates,
    },
    haproxy::check::{Checker, Text},
};

struct Case {
    name: &'static str,
    labels: &'static [(&'static str, &'static str)],
    check: Option<Check>,
}

fn case(name: &'static str, labels: &'static [(&'static str, &'static str)]) -> Case {
    Case { name, labels, check: None }
}

fn checked(name: &'static str, labels: &'static [(&'static str, &'static str)], check: Check) -> Case {
    Case { name, labels, check: Some(check) }
}

/// Another file lies there when HAProxy looks.
const CERTIFICATE: &str = "/run/site.pem";
const HOST: (&str, &str) = ("HAPROXY_0_VHOST", "a.test");

/// One case for each label, and for combinations that depend on each other.
fn cases() -> Vec<Case> {
    let check = |protocol| Check {
        protocol,
        path: Some("/health?deep=1".into()),
        port_index: Some(0),
        interval_s: 7,
        timeout_s: 3,
        max_failures: 2,
        grace_period_s: 60,
        ..Check::default()
    };
    let at = |port_index, port| Check { port_index, port, ..check(Protocol::Http) };
    vec![
        case("nothing", &[]),
        case("vhost", &[HOST]),
        case("vhosts", &[("HAPROXY_0_VHOST", "a.test,B.test,*.c.test")]),
        case("path", &[HOST, ("HAPROXY_0_PATH", "/one /two")]),
        case("path_ignore_case", &[HOST, ("HAPROXY_0_PATH", "-i /One /two")]),
        case("path_without_vhost", &[("HAPROXY_0_PATH", "/one")]),
        case("port", &[("HAPROXY_0_PORT", "9999")]),
        case("mode_http", &[("HAPROXY_0_MODE", "HTTP")]),
        case("mode_tcp_vhost", &[HOST, ("HAPROXY_0_MODE", "tcp")]),
        case("balance", &[("HAPROXY_0_BALANCE", "uri depth 2")]),
        case("enabled_false", &[("HAPROXY_0_ENABLED", "no")]),
        case("group_of_port", &[("HAPROXY_0_GROUP", "other, external")]),
        case("sticky", &[HOST, ("HAPROXY_0_STICKY", "t")]),
        case("redirect", &[HOST, ("HAPROXY_0_REDIRECT_TO_HTTPS", "true")]),
        case("hsts", &[HOST, ("HAPROXY_0_USE_HSTS", "true")]),
        case("auth", &[HOST, ("HAPROXY_0_AUTH", "My realm:bob:$6$salt$abc/DEF.1")]),
        case("auth_path", &[HOST, ("HAPROXY_0_PATH", "/x"), ("HAPROXY_0_AUTH", "r:bob:$1$x$y")]),
        case("weight", &[HOST, ("HAPROXY_0_BACKEND_WEIGHT", "-7")]),
        case("networks_http", &[HOST, ("HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8 ::1/128")]),
        case("networks_tcp", &[("HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8")]),
        case("bind_addr", &[("HAPROXY_0_BIND_ADDR", "127.0.0.1")]),
        case("bind_options", &[("HAPROXY_0_BIND_OPTIONS", "accept-proxy maxconn 10")]),
        case("proxypass", &[HOST, ("HAPROXY_0_HTTP_BACKEND_PROXYPASS_PATH", "/a.b/")]),
        case("revproxy", &[HOST, ("HAPROXY_0_HTTP_BACKEND_REVPROXY_PATH", "/app")]),
        case("redir", &[HOST, ("HAPROXY_0_HTTP_BACKEND_REDIR", "/be%20gin")]),
        case(
            "everything",
            &[
                ("HAPROXY_0_VHOST", "a.test,b.test"),
                ("HAPROXY_0_PATH", "/app"),
                ("HAPROXY_0_STICKY", "true"),
                ("HAPROXY_0_REDIRECT_TO_HTTPS", "true"),
                ("HAPROXY_0_USE_HSTS", "true"),
                ("HAPROXY_0_AUTH", "r:bob:$1$x$y"),
                ("HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8"),
                ("HAPROXY_0_BALANCE", "leastconn"),
                ("HAPROXY_0_HTTP_BACKEND_PROXYPASS_PATH", "/app"),
                ("HAPROXY_0_HTTP_BACKEND_REVPROXY_PATH", "/app"),
                ("HAPROXY_0_HTTP_BACKEND_REDIR", "/app/begin"),
            ],
        ),
        checked("check_http", &[], check(Protocol::Http)),
        checked("check_https", &[], check(Protocol::Https)),
        checked("check_tcp", &[HOST], check(Protocol::Tcp)),
        checked("check_http_mode_tcp", &[("HAPROXY_0_MODE", "tcp")], check(Protocol::Http)),
        checked("check_other_port", &[("HAPROXY_0_BACKEND_HEALTHCHECK_PORT_INDEX", "1")], at(Some(1), None)),
        checked("check_fixed_port", &[], at(None, Some(8081))),
        case(
            "template_backend_head",
            &[(
                "HAPROXY_0_BACKEND_HEAD",
                "\nbackend {backend}\n  balance {balance}\n  mode {mode}\n  fullconn 7",
            )],
        ),
        case(
            "template_frontend_head",
            &[(
                "HAPROXY_0_FRONTEND_HEAD",
                "\nfrontend {backend}\n  bind {bindAddr}:{servicePort}{sslCert}{bindOptions} maxconn 5\n  mode {mode}\n",
            )],
        ),
        case("template_glue", &[("HAPROXY_0_FRONTEND_BACKEND_GLUE", "  default_backend {backend}\n")]),
        case(
            "template_http_options",
            &[HOST, ("HAPROXY_0_BACKEND_HTTP_OPTIONS", "  http-request set-header A %[src] if { ssl_fc }")],
        ),
        case(
            "template_hsts",
            &[
                HOST,
                ("HAPROXY_0_USE_HSTS", "true"),
                (
                    "HAPROXY_0_BACKEND_HSTS_OPTIONS",
                    "  http-response set-header Strict-Transport-Security max-age=1",
                ),
            ],
        ),
        case(
            "template_sticky",
            &[
                HOST,
                ("HAPROXY_0_STICKY", "true"),
                (
                    "HAPROXY_0_BACKEND_STICKY_OPTIONS",
                    "  cookie mine insert indirect nocache dynamic\n  dynamic-cookie-key {cookieKey}\n",
                ),
            ],
        ),
        case(
            "template_server",
            &[(
                "HAPROXY_0_BACKEND_SERVER_OPTIONS",
                "  server {serverName} {host_ipv4}:{port} id {serverId} maxconn 3{otherOptions}\n",
            )],
        ),
        case(
            "template_userlist",
            &[
                HOST,
                ("HAPROXY_0_AUTH", "r:bob:$1$x$y"),
                (
                    "HAPROXY_0_USERLIST_HEAD",
                    "\nuserlist user_{backend}\n  user {user} password {passwd}\n  user admin insecure-password x\n",
                ),
            ],
        ),
        checked(
            "template_http_check",
            &[("HAPROXY_0_BACKEND_HTTP_HEALTHCHECK_OPTIONS", "  option httpchk HEAD {healthCheckPath}\n")],
            check(Protocol::Http),
        ),
        checked(
            "template_tcp_check",
            &[(
                "HAPROXY_0_BACKEND_TCP_HEALTHCHECK_OPTIONS",
                "  timeout check {healthCheckTimeoutSeconds}s\n",
            )],
            check(Protocol::Tcp),
        ),
        checked(
            "template_server_http_check",
            &[(
                "HAPROXY_0_BACKEND_SERVER_HTTP_HEALTHCHECK_OPTIONS",
                " check inter {healthCheckIntervalSeconds}s rise 1 fall {healthCheckMaxConsecutiveFailures}",
            )],
            check(Protocol::Http),
        ),
        checked(
            "template_server_tcp_check",
            &[("HAPROXY_0_BACKEND_SERVER_TCP_HEALTHCHECK_OPTIONS", " check inter 1s")],
            check(Protocol::Tcp),
        ),
        case(
            "template_proxypass",
            &[
                HOST,
                ("HAPROXY_0_HTTP_BACKEND_PROXYPASS_PATH", "/x"),
                ("HAPROXY_0_HTTP_BACKEND_PROXYPASS_GLUE", "  http-request set-header Host {hostname}\n"),
            ],
        ),
        case(
            "template_revproxy",
            &[
                HOST,
                ("HAPROXY_0_HTTP_BACKEND_REVPROXY_PATH", "/x"),
                ("HAPROXY_0_HTTP_BACKEND_REVPROXY_GLUE", "  http-response set-header X-Root {rootpath}\n"),
            ],
        ),
        case(
            "template_networks_http",
            &[
                HOST,
                ("HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8"),
                (
                    "HAPROXY_0_HTTP_BACKEND_NETWORK_ALLOWED_ACL",
                    "  acl network_allowed src {network_allowed} 127.0.0.1\n",
                ),
            ],
        ),
        case(
            "template_networks_tcp",
            &[
                ("HAPROXY_0_BACKEND_NETWORK_ALLOWED_ACL", "10.0.0.0/8"),
                (
                    "HAPROXY_0_TCP_BACKEND_NETWORK_ALLOWED_ACL",
                    "  acl network_allowed src {network_allowed} 127.0.0.1\n",
                ),
            ],
        ),
        case(
            "rule_acl",
            &[
                HOST,
                (
                    "HAPROXY_0_HTTP_FRONTEND_ACL",
                    "  acl host_{cleanedUpHostname} hdr_end(host) -i {hostname}\n  use_backend {backend} if host_{cleanedUpHostname}\n",
                ),
            ],
        ),
        case(
            "rule_acl_with_path",
            &[
                HOST,
                ("HAPROXY_0_PATH", "/x"),
                (
                    "HAPROXY_0_HTTP_FRONTEND_ACL_WITH_PATH",
                    "  use_backend {backend} if {{ hdr(host) -i {hostname} }} {{ path_beg {path} }}\n",
                ),
            ],
        ),
        case(
            "rules_of_several_hosts",
            &[
                ("HAPROXY_0_VHOST", "a.test,b.test"),
                ("HAPROXY_0_PATH", "/x"),
                ("HAPROXY_0_AUTH", "r:bob:$1$x$y"),
                ("HAPROXY_0_REDIRECT_TO_HTTPS", "true"),
                (
                    "HAPROXY_0_HTTP_FRONTEND_ACL_ONLY",
                    "  acl host_{cleanedUpHostname} hdr(host) -i {hostname}\n",
                ),
            ],
        ),
        case(
            "rule_https",
            &[
                HOST,
                ("HAPROXY_0_HTTPS_FRONTEND_ACL", "  use_backend {backend} if {{ ssl_fc_sni {hostname} }}\n"),
            ],
        ),
        case(
            "rule_app_id",
            &[
                HOST,
                (
                    "HAPROXY_0_HTTP_FRONTEND_APPID_ACL",
                    "  use_backend {backend} if {{ hdr(x-app) {appId} }}\n",
                ),
            ],
        ),
        case("map_labels_are_not_read", &[HOST, ("HAPROXY_0_MAP_HTTP_FRONTEND_ACL", "nonsense {x}")]),
        case("bad_labels", &[HOST, ("HAPROXY_0_BACKEND_WEIGHT", "abc"), ("HAPROXY_0_BALANCE", "a\n  b")]),
    ]
}

fn context() -> Context {
    Context { templates: Templates::default(), bind_address: "*".into(), cookie_key: "key".into() }
}

/// A core with the app of the case, two of its tasks running.
fn core_of(case: &Case) -> Core {
    let settings = Settings {
        groups: vec!["external".into()],
        custom_templates: true,
        min_slots: 4,
        context: context(),
        ..Settings::default()
    };
    let mut core = Core::new(settings);
    let mut labels: std::collections::BTreeMap<String, String> =
        case.labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    labels.insert("HAPROXY_GROUP".into(), "external".into());
    let port = |number| Port { number, ..Port::default() };
    core.put_app(App {
        id: "/group/app".into(),
        version_ms: 1,
        labels,
        ports: vec![port(10_000), Port { udp: true, ..Port::default() }],
        checks: case.check.iter().cloned().collect(),
        checked: case.check.is_some(),
        instances: 2,
        last_scaling_ms: 0,
    });
    for (id, octet) in [("one", 1), ("two", 2)] {
        core.put_task(Task {
            id: id.into(),
            app_id: "/group/app".into(),
            address: Some([10, 0, 0, octet].into()),
            ports: vec![31_000, 31_001],
            serving: true,
            alive: Some(true),
            leaving: false,
        });
    }
    core.settle_first();
    for candidate in core.candidates_to_check(&["/group/app".to_owned()].into()) {
        core.accept(&candidate.unit, candidate.services);
    }
    core.settle();
    core
}

/// Everything that comes of a case.
fn shown(core: &Core) -> String {
    let mut shown = core.text("/group/app");
    let RuleTexts { http, https, app_id } = core.rule_texts();
    for (name, rules) in [("http", http), ("https", https), ("app id", app_id)] {
        if !rules.is_empty() {
            shown.push_str(&format!("\n# rules of the {name} port\n{rules}"));
        }
    }
    for map in Map::ALL {
        for (key, value) in core.map(map) {
            shown.push_str(&format!("\n# {}: {key} {value}", map.file()));
        }
    }
    for problem in core.problems() {
        shown.push_str(&format!("\n# problem: {problem}"));
    }
    shown.push('\n');
    shown
}

/// The text as HAProxy is given it to look at.
fn to_check(index: usize, core: &Core) -> Text {
    let text = core.text("/group/app");
    let RuleTexts { http, https, app_id } = core.rule_texts();
    let mut all = text;
    for (kind, rules) in [("h", http), ("s", https), ("i", app_id)] {
        if !rules.is_empty() {
            all.push_str(&format!("\nfrontend check_{kind}\n  mode http\n{rules}"));
        }
    }
    // Each case has the same names.
    for name in ["group_app_10000", "group_app_9999", "check_h", "check_s", "check_i"] {
        all = all.replace(name, &format!("{name}_{index}"));
    }
    let port = format!("{}", 20_000 + index);
    Text { text: all.replace(":10000", &format!(":{port}")), ..Text::default() }
}

fn compare(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(format!("{name}.cfg"));
    if std::env::var_os("MESHOS_TEST_UPDATE_GOLDEN").is_some() {
        fs::write(&file, text).unwrap();
    }
    let wanted = fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(text, wanted, "{}", file.display());
}

#[tokio::test]
async fn every_label_gives_a_text_that_haproxy_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut texts = Vec::new();
    let certificate = dir.path().join("site.pem");
    fs::write(&certificate, crate::haproxy::certs::self_signed().unwrap()).unwrap();
    let cases: Vec<Case> = cases().into_iter().chain(rules::cases()).collect();
    for (index, case) in cases.iter().enumerate() {
        let core = core_of(case);
        compare(case.name, &shown(&core));
        let mut text = to_check(index, &core);
        text.text = text.text.replace(CERTIFICATE, &certificate.display().to_string());
        texts.push(text);
    }
    let head = "defaults\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n";
    let checker = Checker::new("haproxy", dir.path().join("check"), head);
    let verdicts = checker.check(&texts).await.unwrap();
    let bad: Vec<_> = cases.iter().zip(verdicts).filter_map(|(case, bad)| Some((case.name, bad?))).collect();
    assert!(bad.is_empty(), "{bad:?}");
}

#[tokio::test]
async fn the_head_is_one_that_haproxy_takes() {
    let dir = tempfile::tempdir().unwrap();
    let files = crate::haproxy::files::Files::open(dir.path()).unwrap();
    let pem = crate::haproxy::certs::self_signed().unwrap();
    crate::haproxy::certs::write(&files, &[("self.pem".into(), pem)]).unwrap();
    let list = crate::haproxy::certs::list(&files).display().to_string();
    let (root, context) = (files.dir().display().to_string(), context());
    let options = ["option redispatch".to_owned(), "option idle-close-on-response".to_owned()];
    let head = Head {
        context: &context,
        dir: &root,
        maxconn: 100,
        hard_stop_s: 60,
        max_reloads: 50,
        identity: Some(render::Identity { uid: 65534, gid: 65534 }),
        options: &options,
        compression: true,
        http: Some(80),
        https: Some(443),
        admin: Some(9090),
        app_id: Some(9091),
        certificates: &Certificates::List(list),
        rules: &RuleTexts::default(),
    };
    let text = head.text().unwrap();
    compare("head", &text.replace(&root, "/run/lb"));
    let checker = Checker::new("haproxy", files.check(), text);
    assert!(checker.check(&[]).await.unwrap().is_empty());
    let output =
        std::process::Command::new("haproxy").args(["-c", "-f"]).arg(files.check().join("head")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_template_with_an_unknown_variable_hurts_its_app_alone() {
    let bad = case("", &[("HAPROXY_0_BACKEND_HEAD", "\nbackend {nonsense}\n")]);
    let core = core_of(&bad);
    assert_eq!(core.text("/group/app"), "");
    let problems = core.problems();
    assert_eq!(problems[0].label, "HAPROXY_0_BACKEND_HEAD");
    assert!(problems[0].message.contains("{nonsense}"), "{problems:?}");
    assert!(render::structure(&core.text("/group/app")).is_empty());
}

//! Whatever labels say, the configuration holds the directives that are an app's, each of the shape that it has, and no
//! others.

use std::{collections::BTreeSet, net::IpAddr};

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use crate::{
    core::{
        Core, Settings,
        model::{App, Check, Port, Protocol, Task},
        render::Context,
        rules::Map,
        templates::Templates,
    },
    haproxy::check::{Checker, Text},
};

/// Labels whose value HAProxy itself has to judge.
const JUDGED: [&str; 3] = ["BALANCE", "BIND_OPTIONS", "SSL_CERT"];

const LABELS: [&str; 26] = [
    "VHOST",
    "GROUP",
    "PATH",
    "PORT",
    "MODE",
    "BALANCE",
    "ENABLED",
    "STICKY",
    "REDIRECT_TO_HTTPS",
    "USE_HSTS",
    "AUTH",
    "BACKEND_WEIGHT",
    "BACKEND_NETWORK_ALLOWED_ACL",
    "BACKEND_HEALTHCHECK_PORT_INDEX",
    "SSL_CERT",
    "BIND_OPTIONS",
    "BIND_ADDR",
    "HTTP_BACKEND_PROXYPASS_PATH",
    "HTTP_BACKEND_REVPROXY_PATH",
    "HTTP_BACKEND_REDIR",
    // Templates, which labels may not replace here.
    "BACKEND_HEAD",
    "FRONTEND_HEAD",
    "BACKEND_HTTP_OPTIONS",
    "BACKEND_HTTP_HEALTHCHECK_OPTIONS",
    "BACKEND_SERVER_OPTIONS",
    "HTTP_FRONTEND_ACL",
];

/// Pieces of good values, and of attempts to get out of one.
const PIECES: [&str; 54] = [
    "\n",
    "\r\n",
    "\r",
    "\t",
    " ",
    "\0",
    "\u{b}",
    "\u{85}",
    "\u{2028}",
    "\"",
    "'",
    "\\",
    "\\\n",
    "#",
    "$",
    "${HOME}",
    "\"${HOME}\"",
    "%",
    "%[env(HOME)]",
    "%%",
    "{",
    "}",
    "{backend}",
    ";",
    ",",
    ":",
    "/",
    "*",
    "*.",
    "-i ",
    "-f /etc/passwd",
    "[",
    "]",
    "(",
    ")",
    "bind *:1",
    "frontend evil",
    "global",
    "\nfrontend evil\n  bind *:1\n",
    "use_backend x",
    "a.test",
    "b.test",
    "/api",
    "true",
    "http",
    "roundrobin",
    "uri depth 2",
    "realm:bob:$6$salt$hash",
    "10.0.0.0/8",
    "::1/128",
    "127.0.0.1",
    "8080",
    "ssl crt /a.pem",
    "accept-proxy",
];

fn value() -> impl Strategy<Value = String> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES.to_vec()), 0..6);
    prop_oneof![4 => pieces.prop_map(|pieces| pieces.concat()), 1 => any::<String>()]
}

/// A good value, which adds its directives.
fn good(name: &str) -> &'static str {
    match name {
        "VHOST" => "a.test,b.test",
        "PATH" | "HTTP_BACKEND_PROXYPASS_PATH" | "HTTP_BACKEND_REVPROXY_PATH" | "HTTP_BACKEND_REDIR" => {
            "/api"
        }
        "STICKY" | "USE_HSTS" | "REDIRECT_TO_HTTPS" => "true",
        "AUTH" => "My realm:bob:$6$salt$hash",
        "BACKEND_NETWORK_ALLOWED_ACL" => "10.0.0.0/8 ::1/128",
        "BACKEND_HEALTHCHECK_PORT_INDEX" => "1",
        "BALANCE" => "uri depth 2",
        "BIND_OPTIONS" => "ssl crt /a.pem",
        "SSL_CERT" => "/a.pem",
        "BIND_ADDR" => "127.0.0.1",
        "PORT" => "8080",
        "MODE" => "http",
        _ => "external",
    }
}

/// With something in the middle of it.
fn spoilt(good: &'static str) -> impl Strategy<Value = String> {
    (0..=good.len(), value()).prop_map(move |(at, piece)| format!("{}{piece}{}", &good[..at], &good[at..]))
}

fn labels() -> impl Strategy<Value = Vec<(String, String)>> {
    let name = prop::sample::select(LABELS.to_vec());
    let of = |name: &'static str| {
        let value = prop_oneof![value(), Just(good(name).to_owned()), spoilt(good(name))];
        value.prop_map(move |value| (format!("HAPROXY_0_{name}"), value))
    };
    let of_port = name.prop_flat_map(of);
    let of_app =
        (prop::sample::select(vec!["GROUP", "DEPLOYMENT_GROUP", "DEPLOYMENT_STARTED_AT", "X\nY"]), value());
    let of_app = of_app.prop_map(|(name, value)| (format!("HAPROXY_{name}"), value));
    prop::collection::vec(prop_oneof![9 => of_port, 1 => of_app], 0..12)
}

/// An app with a check, whose path is the user's as well.
fn case() -> impl Strategy<Value = App> {
    (labels(), value(), prop::bool::ANY).prop_map(|(labels, path, tcp)| {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Http };
        let check = Check {
            protocol,
            path: Some(path),
            port_index: Some(0),
            interval_s: 5,
            timeout_s: 5,
            ..Check::default()
        };
        App {
            id: "/group/app".into(),
            version_ms: 1,
            labels: labels.into_iter().collect(),
            ports: vec![
                Port { number: 10_000, ..Port::default() },
                Port { number: 10_001, ..Port::default() },
            ],
            checks: vec![check],
            checked: true,
            instances: 2,
            last_scaling_ms: 0,
        }
    })
}

fn core_of(app: App) -> Core {
    let context =
        Context { templates: Templates::default(), bind_address: "*".into(), cookie_key: "key".into() };
    let settings = Settings { groups: vec!["*".into()], min_slots: 2, context, ..Settings::default() };
    let mut core = Core::new(settings);
    core.put_task(Task {
        id: "one".into(),
        app_id: app.id.clone(),
        address: Some([10, 0, 0, 1].into()),
        ports: vec![31_000, 31_001],
        serving: true,
        alive: Some(true),
        leaving: false,
    });
    core.put_app(app);
    core.settle_first();
    let units: BTreeSet<String> = core.units.keys().cloned().collect();
    for candidate in core.candidates_to_check(&units) {
        core.accept(&candidate.unit, candidate.services);
    }
    core.settle();
    core
}

/// As HAProxy reads a line: blanks part words unless a backslash is before them. Quotes, comments and anything that is not
/// printed have no business there.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        assert!(!c.is_control() && c.is_ascii() && !"\"'#".contains(c), "{c:?} in {line:?}");
        let last = words.last_mut().unwrap();
        match c {
            '\\' => last.push(chars.next().unwrap()),
            ' ' => words.push(String::new()),
            c => last.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Whether a line is one that services have. `*` stands for one word.
fn is_known(section: &str, words: &[String]) -> bool {
    let shapes: &[&str] = match section {
        "userlist" => &["user * password *"],
        "frontend" => &["mode *", "use_backend *"],
        _ => &[
            "mode *",
            "option forwardfor",
            "option httpchk GET *",
            "timeout check *",
            "http-request auth realm * unless { http_auth(*",
            "http-after-response set-header Strict-Transport-Security max-age=15768000",
            "http-request set-header X-Forwarded-Port %[dst_port]",
            "http-request del-header X-Forwarded-Proto",
            "http-request set-header X-Forwarded-Proto https if { ssl_fc }",
            "http-request redirect code 301 location * if { path / } { hdr(host),field(1,:) -i",
            "http-request set-header Host * unless { hdr(host),field(1,:) -i",
            "http-request replace-path * /1",
            "http-response replace-header Location * *",
            "acl network_allowed src *",
            "http-request deny unless network_allowed",
            "tcp-request content reject unless network_allowed",
            "cookie mesosphere_server_id insert indirect nocache dynamic",
            "dynamic-cookie-key key",
        ],
    };
    let fits = |shape: &&str| {
        let shape: Vec<&str> = shape.split(' ').collect();
        let listed = matches!(shape.last(), Some(&"-i" | &"http_auth(*"));
        let same = |(wanted, word): (&&str, &String)| {
            *wanted == "*"
                || wanted.strip_suffix('*').map_or(*wanted == word, |start| word.starts_with(start))
        };
        (words.len() == shape.len() || (listed && words.len() > shape.len()))
            && shape.iter().zip(words).all(same)
    };
    let starts = |start: &str| words.first().is_some_and(|word| word == start);
    match section {
        "frontend" if starts("bind") => {
            let (ip, port) = words[1].rsplit_once(':').unwrap();
            let bare = ip.trim_start_matches('[').trim_end_matches(']');
            (ip == "*" || bare.parse::<IpAddr>().is_ok()) && port.parse::<u16>().is_ok()
        }
        "backend" if starts("balance") => true,
        "backend" if starts("server") => {
            words[2].parse::<std::net::SocketAddr>().is_ok() && words[3] == "id" && words.len() <= 12
        }
        // What ends with a list of hosts ends there.
        _ if words.iter().any(|word| word == "-i") => {
            words.last().unwrap() == "}" && shapes.iter().any(&fits)
        }
        _ => shapes.iter().any(fits),
    }
}

fn look_at(core: &Core) {
    let units: Vec<String> = core.units().map(str::to_owned).collect();
    for unit in &units {
        let names: BTreeSet<&str> =
            core.services_of_unit(unit).iter().map(|service| service.backend.as_str()).collect();
        let mut section = String::new();
        for line in core.text(unit).lines().filter(|line| !line.is_empty()) {
            let words = words(line);
            if line.starts_with(' ') {
                assert!(is_known(&section, &words), "{section}: {words:?}");
                assert!(words[0] != "use_backend" || names.contains(words[1].as_str()), "{line}");
            } else {
                assert_eq!(words.len(), 2, "{line}");
                section.clone_from(&words[0]);
                assert!(["userlist", "frontend", "backend"].contains(&section.as_str()), "{line}");
                let name =
                    words[1].strip_prefix("user_").filter(|_| section == "userlist").unwrap_or(&words[1]);
                assert!(names.contains(name), "{line}");
            }
        }
        let named = core.services_of_unit(unit).iter().map(|service| &service.backend);
        assert!(
            named.clone().all(|name| name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b)))
        );
        for map in [Map::Paths, Map::PathsIgnoreCase, Map::Wildcards, Map::Apps] {
            for (key, backend) in core.map(map) {
                assert!(key.bytes().all(|b| b.is_ascii_graphic() && b != b'\\'), "{key:?}");
                assert!(names.contains(backend.as_str()), "{key} {backend}");
            }
        }
    }
    assert_eq!(core.rule_texts(), crate::core::render::RuleTexts::default());
    for problem in core.problems() {
        let shown = problem.to_string();
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn labels_add_no_directive_but_their_own(app in case()) {
        look_at(&core_of(app));
    }
}

/// The same with HAProxy itself: but for what it alone can judge, it takes whatever comes of labels.
#[tokio::test]
async fn haproxy_takes_what_comes_of_any_labels() {
    let mut runner = TestRunner::deterministic();
    let mut texts = Vec::new();
    for number in 0..300 {
        let mut app = case().new_tree(&mut runner).unwrap().current();
        app.id = format!("/app-{number}");
        app.labels.retain(|name, _| !JUDGED.iter().any(|judged| name.ends_with(judged)));
        app.labels.remove("HAPROXY_DEPLOYMENT_GROUP");
        if number % 4 > 0 {
            app.labels.insert("HAPROXY_0_VHOST".into(), "a.test,b.test".into());
        }
        // A port for each: HAProxy refuses what is bound twice.
        app.labels.remove("HAPROXY_0_PORT");
        app.labels.remove("HAPROXY_0_BIND_ADDR");
        app.ports = vec![Port { number: 20_000 + number, ..Port::default() }];
        let core = core_of(app);
        look_at(&core);
        texts.push(Text { text: core.text(&format!("/app-{number}")), ..Text::default() });
    }
    let dir = tempfile::tempdir().unwrap();
    let head = "defaults\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n";
    let checker = Checker::new("haproxy", dir.path().join("check"), head);
    let verdicts = checker.check(&texts).await.unwrap();
    let bad: Vec<_> = texts.iter().zip(verdicts).filter_map(|(text, bad)| Some((&text.text, bad?))).collect();
    assert!(bad.is_empty(), "{bad:?}");
    let with = |word: &str| texts.iter().filter(|text| text.text.contains(word)).count();
    for word in
        ["userlist", "cookie", "network_allowed", "redirect", "replace-path", "set-header Strict", "httpchk"]
    {
        assert!(with(word) > 3, "{word}: {}", with(word));
    }
}

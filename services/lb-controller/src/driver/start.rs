//! The begin: settings, the head of the configuration, a HAProxy that runs already or is started.

use nix::sys::resource::{Resource, getrlimit};
use tracing::{error, info, warn};

use super::{Driver, publish::structure_of, reconcile::map_of};
use crate::{
    config::Config,
    core::{
        Core, Settings,
        model::Problem,
        render::{Certificates, Context, Head, Identity, Listener, RuleTexts},
        rules::Map,
        service::Service,
        slots::Endpoint,
        templates::Templates,
    },
    error::Error,
    haproxy::{
        certs,
        files::{Files, digest, replace},
        ports, socket,
    },
};

/// Connections that are taken when nothing limits them.
const MOST_CONNECTIONS: u64 = 50_000;
const OPTIONS: &str = "redispatch,http-server-close,dontlognull";

/// The core's settings.
pub(super) fn settings(config: &Config) -> Settings {
    let args = &config.args;
    let file = |name: &str| {
        let dir = args.templates.as_ref()?;
        std::fs::read_to_string(dir.join(format!("HAPROXY_{name}"))).ok()
    };
    let variable = |name: &str| config.haproxy_variables.get(&format!("HAPROXY_{name}")).cloned();
    let templates = Templates::new(|name| variable(name).or_else(|| file(name)));
    let mut own_ports = std::collections::BTreeSet::from([args.admin_port, args.app_id_port]);
    if !args.dont_bind_http_https {
        own_ports.extend([args.http_port, args.https_port]);
    }
    Settings {
        groups: args.group.iter().map(|group| group.trim().to_owned()).collect(),
        strict: args.strict_mode,
        ignore_health: args.ignore_health,
        custom_templates: args.allow_custom_templates,
        min_slots: args.min_slots as usize,
        assigned: (args.min_serv_port_ip_per_task, args.max_serv_port_ip_per_task),
        own_ports,
        context: Context {
            templates,
            bind_address: args.lb_bind_address.clone(),
            cookie_key: "meshos".to_owned(),
        },
    }
}

/// The text of a head: with these ports of HTTP, HTTPS, admin, app ids, and rules.
pub(super) fn head_of(
    config: &Config,
    core: &Core,
    files: &Files,
    identity: Option<Identity>,
    (listeners, rules): ([Listener; 4], &RuleTexts),
) -> Result<String, Problem> {
    let [http, https, admin, app_id] = listeners;
    let args = &config.args;
    let given = config.haproxy_variables.get("HAPROXY_GLOBAL_DEFAULT_OPTIONS");
    let names = given.map_or(OPTIONS, String::as_str).split(',').map(str::trim);
    let mut options: Vec<String> =
        names.filter(|name| !name.is_empty()).map(|name| format!("option {name}")).collect();
    // A leaving worker answers once more before it closes: else the client's next request fails.
    options.push("option idle-close-on-response".to_owned());
    options.sort();
    options.dedup();
    let dir = files.dir().display().to_string();
    Head {
        context: &core.settings().context,
        dir: &dir,
        maxconn: args.lb_maxconn.unwrap_or_else(|| maxconn(hard_limit(), descriptors(core))),
        hard_stop_s: args.hard_stop_after.as_secs().max(1),
        max_reloads: args.mworker_max_reloads,
        identity,
        options: &options,
        compression: args.compression,
        http,
        https,
        admin,
        app_id,
        certificates: &Certificates::List(certs::list(files).display().to_string()),
        rules,
    }
    .text()
}

impl Driver {
    /// HTTP, HTTPS, admin, app ids.
    pub(super) fn own_listeners(&self) -> [Listener; 4] {
        let args = &self.config.args;
        let hosts = !args.dont_bind_http_https;
        let usable = |port: u16| {
            let free = self.running.ports.contains(&port) || ports::is_free(&args.lb_bind_address, port);
            (port != 0 && free).then_some(port)
        };
        let of = |wanted: bool, port| if wanted { usable(port) } else { None };
        [
            of(hosts, args.http_port),
            of(hosts, args.https_port),
            usable(args.admin_port),
            usable(args.app_id_port),
        ]
    }

    /// The text of the head.
    pub(super) fn head(&mut self) -> Result<String, Problem> {
        let listeners = self.own_listeners();
        self.name_listeners(listeners);
        let rules = self.core.rule_texts();
        self.head_with(listeners, &rules)
    }

    /// Global settings and defaults alone.
    pub(super) fn check_head(&self) -> String {
        self.head_with([None; 4], &RuleTexts::default()).unwrap_or_default()
    }

    pub(super) fn head_with(&self, listeners: [Listener; 4], rules: &RuleTexts) -> Result<String, Problem> {
        head_of(&self.config, &self.core, &self.files, self.identity, (listeners, rules))
    }

    pub(super) fn name_listeners(&mut self, listeners: [Listener; 4]) {
        let args = &self.config.args;
        let hosts = !args.dont_bind_http_https;
        let wanted = [
            ("HTTP", args.http_port, hosts),
            ("HTTPS", args.https_port, hosts),
            ("admin", args.admin_port, true),
            ("app id", args.app_id_port, true),
        ];
        for ((name, port, wanted), listener) in wanted.into_iter().zip(listeners) {
            let key = format!("port {name}");
            if wanted && port != 0 && listener.is_none() {
                let message = format!("the {name} port {port} cannot be bound: it is taken, or needs rights");
                self.own_problems.insert(key, Problem::new("", "", message));
            } else {
                self.own_problems.remove(&key);
            }
        }
    }

    /// Ports of HAProxy's own that were not free are tried again.
    pub(super) fn retry_listeners(&mut self) {
        let missing = self.own_problems.keys().any(|key| key.starts_with("port "));
        if missing && self.head().is_ok_and(|head| digest(head.as_bytes()) != self.running.head) {
            self.stale_head = true;
            self.touch_stale();
        }
    }

    /// A HAProxy that runs on our files is taken over as it is; else one is started on them.
    ///
    /// # Errors
    /// When the head is not valid.
    pub(super) async fn take_over_or_start(&mut self) -> Result<(), Error> {
        let verdict = self.checker().check(&[]).await;
        verdict
            .map_err(|source| Error::Binary { binary: self.config.args.haproxy_binary.clone(), source })?;
        if let Some(found) = self.process.attach().await {
            info!(master = found.master, worker = found.worker, "taking over HAProxy");
            self.running.worker = found.worker;
            self.asking.old_workers = true;
            self.adopt(true).await;
            return Ok(());
        }
        let head = self.head().map_err(|problem| Error::Head { message: problem.message })?;
        if let Err(error) = replace(&self.files.head(), head.as_bytes()) {
            return Err(Error::Directory { dir: self.files.dir().to_owned(), source: error });
        }
        if let Err(error) = self.process.start().await {
            // What lies there from before may not fit any more: it comes back with the first snapshot.
            warn!(%error, "HAProxy does not start on what lies there, beginning anew");
            let units = self.files.read_units().unwrap_or_default();
            self.write_units(units.keys().map(|unit| (unit.as_str(), "")));
            self.process.start().await.map_err(|error| Error::Head { message: error.to_string() })?;
        }
        let worker = self.process.processes().await.map(|found| found.worker).unwrap_or_default();
        self.running.worker = worker;
        self.adopt(false).await;
        self.mark_applied();
        Ok(())
    }

    /// Reads what the running worker has. `taken_over`: files may be newer than the worker.
    async fn adopt(&mut self, taken_over: bool) {
        let head = std::fs::read_to_string(self.files.head()).unwrap_or_default();
        let units = self.files.read_units().unwrap_or_default();
        self.running.head = digest(head.as_bytes());
        self.running.structures =
            units.iter().filter_map(|(unit, text)| Some((unit.clone(), structure_of(text)?))).collect();
        let applied = std::fs::read_to_string(self.files.applied()).unwrap_or_default();
        if taken_over && applied != self.digest() {
            warn!("HAProxy runs something else than lies on disk: it will be reloaded");
            // Names stay: those that are nobody's any more are to be taken out.
            self.running.structures.values_mut().for_each(|structure| *structure = 0);
            self.running.head = 0;
        }
        self.running.ports = ports::of_texts(std::iter::once(&head).chain(units.values()));
        self.adopt_servers().await;
        for map in Map::ALL {
            let file = self.files.map(map).display().to_string();
            let shown = socket::ask(&self.files.stats_socket(), &format!("show map {file}")).await;
            self.running.maps.insert(map, map_of(&shown.unwrap_or_default()));
        }
    }

    /// Entries of maps that were found and are nobody's, once everything that there is has been looked at.
    pub(super) fn drop_found_entries(&mut self) {
        if !self.synced || std::mem::replace(&mut self.settled, true) {
            return;
        }
        for map in Map::ALL {
            let wanted = self.core.map(map);
            let running = self.running.maps.entry(map).or_default().keys();
            let gone = running.filter(|key| !wanted.contains_key(*key));
            self.pending.extend(gone.map(|key| ((map, key.clone()), None)));
        }
    }

    async fn adopt_servers(&mut self) {
        let answer = socket::ask(&self.files.stats_socket(), "show servers state").await.unwrap_or_default();
        for (backend, servers) in socket::servers(&answer) {
            if backend == "meshos_lb_controller" {
                continue;
            }
            self.core.adopt_room(&backend, servers.len());
            for (index, server) in servers.iter().enumerate() {
                let check_port = (server.check_port != 0).then_some(server.check_port);
                let endpoint = Endpoint { ip: server.ip, port: server.port, check_port };
                self.core.adopt(&backend, index, endpoint, server.ready);
            }
            self.running.numbers.insert(backend.clone(), servers[0].backend);
            let applied = self.running.applied.entry(backend).or_default();
            applied.extend(servers.iter().map(|server| crate::core::slots::Applied {
                endpoint: Some(Endpoint {
                    ip: server.ip,
                    port: server.port,
                    check_port: (server.check_port != 0).then_some(server.check_port),
                }),
                ready: server.ready,
            }));
        }
    }

    /// Remembers what the running worker was started with.
    pub(super) fn mark_applied(&self) {
        if let Err(error) = replace(&self.files.applied(), self.digest().as_bytes()) {
            error!(%error, "what HAProxy runs cannot be noted");
        }
    }

    fn digest(&self) -> String {
        let mut all = format!("{:x}\n", self.running.head);
        for (unit, structure) in &self.running.structures {
            all.push_str(&format!("{unit} {structure:x}\n"));
        }
        format!("{:016x}", digest(all.as_bytes()))
    }
}

/// Descriptors that HAProxy opens whatever the number of connections: for listeners, and for servers that it checks.
fn descriptors(core: &Core) -> u64 {
    let of = |service: &Service| {
        let checked = if service.check.is_some() { service.slots } else { 0 };
        checked as u64 + u64::from(service.frontend)
    };
    core.services("").map(of).sum()
}

fn hard_limit() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(_, hard)| hard)
}

/// Two descriptors for each connection; a part is left for everything else. `needed` is rounded up: the number is to
/// change seldom.
fn maxconn(hard: u64, needed: u64) -> u32 {
    let spare = (hard / 4).clamp(200, 20_000).max(needed.next_power_of_two() + 200);
    u32::try_from((hard.saturating_sub(spare) / 2).clamp(100, MOST_CONNECTIONS)).unwrap_or(1000)
}

#[cfg(test)]
mod tests {
    use super::maxconn;

    #[test]
    fn connections_leave_descriptors_for_listeners() {
        for hard in [1024_u64, 4096, 20_000, 1_048_576] {
            for needed in [0, 10, 400, 5000, 10_000] {
                let all = u64::from(maxconn(hard, needed)) * 2 + needed + 50;
                assert!(all <= hard || hard < 2 * needed + 1000, "{hard} {needed}: {all}");
            }
        }
        assert_eq!(maxconn(1_048_576, 10), 50_000);
    }
}

//! What HAProxy would be given, once and for reading: nothing is written, started or looked at.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use meshos_proto::meshos::apps::v1::{Snapshot, WatchResponse, watch_response::Body};
use tokio::time::timeout;

use super::start;
use crate::{
    config::Config,
    core::{Core, rules::Map},
    error::Error,
    haproxy::files::Files,
    marathon::{self, client::Client},
    source::Source,
};

/// Of one host.
const DEADLINE: Duration = Duration::from_secs(5);

/// The configuration for the apps that the Marathon of the settings has now, and its maps as remarks.
///
/// # Errors
/// When it cannot be read, or a template that the operator replaced cannot be used.
pub async fn dry(config: &Config) -> Result<String, Error> {
    let access = config.args.marathon_access()?;
    let access = access.ok_or_else(|| Error::Marathon("name its address with --marathon".to_owned()))?;
    let client = Client::new(&access).map_err(Error::Marathon)?;
    let snapshot = marathon::read_once(&client).await.map_err(Error::Marathon)?;
    let hosts = addresses(&snapshot).await;
    let core = published(config, snapshot, &hosts);
    let files = Files::at(&config.dir());
    let args = &config.args;
    let of = |port: u16| (port != 0 && !args.dont_bind_http_https).then_some(port);
    let listeners = [of(args.http_port), of(args.https_port), Some(args.admin_port), Some(args.app_id_port)];
    let rules = core.rule_texts();
    let head = start::head_of(config, &core, &files, None, (listeners, &rules));
    let mut text = head.map_err(|problem| Error::Head { message: problem.message })?;
    for unit in core.units() {
        text.push_str(&format!("\n# {unit}\n{}", core.text(unit)));
    }
    for map in Map::ALL {
        let entries = core.map(map).iter().map(|(key, value)| format!("# {key} {value}\n"));
        text.push_str(&format!("\n# {}\n{}", map.file(), entries.collect::<String>()));
    }
    for problem in core.problems() {
        text.push_str(&format!("\n# {} {}: {}\n", problem.app_id, problem.label, problem.message));
    }
    Ok(text)
}

/// Addresses of the hosts that have names.
async fn addresses(snapshot: &Snapshot) -> BTreeMap<String, IpAddr> {
    let hosts: BTreeSet<&str> = snapshot.instances.iter().map(|instance| instance.host.as_str()).collect();
    let mut found = BTreeMap::new();
    for host in hosts.into_iter().filter(|host| host.parse::<IpAddr>().is_err() && !host.is_empty()) {
        let looked_up = timeout(DEADLINE, tokio::net::lookup_host((host, 0))).await;
        let first = looked_up.ok().and_then(Result::ok).and_then(|mut addresses| addresses.next());
        found.extend(first.map(|address| (host.to_owned(), address.ip())));
    }
    found
}

/// Everything, as if HAProxy had found it good.
fn published(config: &Config, snapshot: Snapshot, hosts: &BTreeMap<String, IpAddr>) -> Core {
    let (mut core, mut source) = (Core::new(start::settings(config)), Source::default());
    let touched = source.apply(WatchResponse { revision: 1, body: Some(Body::Snapshot(snapshot)) });
    let own = config.own_app.as_deref();
    let apps = touched.apps.iter().filter(|id| own != Some(id.trim_start_matches('/')));
    apps.filter_map(|id| source.app(id)).for_each(|app| core.put_app(app));
    let address = |host: &str| host.parse().ok().or_else(|| hosts.get(host).copied());
    let tasks = touched.tasks.iter().filter_map(|(_, id)| source.task(id, address));
    tasks.for_each(|task| core.put_task(task));
    let units = core.settle_first().texts;
    for candidate in core.candidates_to_check(&units) {
        core.accept(&candidate.unit, candidate.services);
    }
    core.settle();
    core
}

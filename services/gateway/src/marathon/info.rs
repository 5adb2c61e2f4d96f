//! What Marathon says of itself.

use http::{Method, StatusCode, header};
use serde_json::{Map, Value, json};

use meshos_proto::meshos::apps::v1::AbdicateRequest;

use super::{
    Answer, Marathon, client, error::ApiError, media_type, method_not_allowed, not_there,
    render::task::Counts,
};
use crate::{
    client::Repeat,
    http::{Reply, Request},
    views::Apps,
};

/// The version of Marathon's API that is spoken.
const VERSION: &str = "1.11.24";

impl Marathon {
    /// `GET /v2/info`
    pub(super) fn info(&self, apps: &Apps) -> Value {
        json!({
            "name": "marathon",
            "version": VERSION,
            "buildref": "meshos",
            "elected": true,
            "leader": self.leading_address(),
            "frameworkId": apps.framework_id,
            "marathon_config": self.config(apps),
            "zookeeper_config": {
                "zk": null, "zk_compression": null, "zk_compression_threshold": null,
                "zk_connection_timeout": null, "zk_max_node_size": null,
                "zk_max_versions": setting(apps, "zk_max_versions"), "zk_session_timeout": null,
                "zk_timeout": null,
            },
            "http_config": {"http_port": self.identity.port, "https_port": 0},
        })
    }

    /// Marathon's names for what holds here; settings that mean nothing here are `null`.
    fn config(&self, apps: &Apps) -> Value {
        let mut config = json!({
            "access_control_allow_origin": self.cors.shown(), "checkpoint": true, "decline_offer_duration": null,
            "default_network_name": null, "env_vars_prefix": null, "executor": null, "failover_timeout": null,
            "features": [], "framework_name": null, "ha": true, "hostname": self.identity.hostname,
            "launch_token": null, "launch_token_refresh_interval": null,
            "leader_proxy_connection_timeout_ms": null, "leader_proxy_read_timeout_ms": null,
            "local_port_min": null, "local_port_max": null, "maintenance_mode": null, "master": self.mesos_url,
            "max_instances_per_offer": null, "mesos_bridge_name": null,
            "mesos_heartbeat_failure_threshold": null, "mesos_heartbeat_interval": 15_000,
            "mesos_leader_ui_url": self.mesos_url, "mesos_role": null, "mesos_user": null,
            "min_revive_offers_interval": null, "new_group_enforce_role": "off", "offer_matching_timeout": null,
            "on_elected_prepare_timeout": null, "reconciliation_initial_delay": null,
            "reconciliation_interval": null, "scale_apps_initial_delay": null, "scale_apps_interval": null,
            "store_cache": true, "task_launch_confirm_timeout": null, "task_launch_timeout": null,
            "task_lost_expunge_initial_delay": null, "task_lost_expunge_interval": null,
            "task_reservation_timeout": null, "webui_url": null,
        });
        for (name, known) in config.as_object_mut().into_iter().flatten() {
            if let Some(value) = setting(apps, name) {
                *known = value;
            }
        }
        config
    }

    /// `GET /config`: all of the scheduler's flags.
    pub(super) fn flags(&self, apps: &Apps) -> Value {
        let flags = apps.settings.keys().filter_map(|name| Some((name.clone(), setting(apps, name)?)));
        let mut all: Map<String, Value> = flags.collect();
        if let Value::Object(config) = self.config(apps) {
            all.extend(config);
        }
        Value::Object(all)
    }

    /// `GET /v2/leader`: any gateway answers as the leader would; all of them name the same one.
    pub(super) fn show_leader(&self, request: &Request) -> Answer {
        if request.verb() != Method::GET {
            return Err(method_not_allowed());
        }
        match self.apps.read(|_| ()) {
            Some(()) => Ok(Reply::json(&json!({"leader": self.leading_address()}))),
            None => Err(ApiError::not_found("There is no leader")),
        }
    }

    /// `DELETE /v2/leader`
    pub(super) async fn abdicate(&self, request: &Request) -> Answer {
        if let Some(what) = ["backup", "restore"].into_iter().find(|what| request.query.get(what).is_some()) {
            return Err(not_there(what));
        }
        let called = self.leader.call(Repeat::Unsafe, |channel| async move {
            client(channel).abdicate(AbdicateRequest {}).await
        });
        called.await?;
        Ok(Reply::json(&json!({"message": "Leadership abdicated"})))
    }

    /// `GET /metrics`
    pub(super) fn metrics(&self, apps: &Apps) -> Value {
        let counts = Counts::of(apps.instances());
        let now_ms = self.env.clock.unix_ms();
        let overdue = apps.queue.values().filter(|entry| entry.delayed_until_ms <= now_ms);
        let overdue: f64 = overdue.map(|entry| f64::from(entry.count)).sum();
        let uptime = now_ms.saturating_sub(self.started_ms) as f64 / 1000.0;
        let gauge = |value: f64| json!({"value": value});
        json!({
            "version": "4.0.0",
            "gauges": {
                "marathon.apps.active.gauge": gauge(apps.apps.len() as f64),
                "marathon.deployments.active.gauge": gauge(apps.deployments.len() as f64),
                "marathon.groups.active.gauge": gauge(apps.groups.len() as f64),
                "marathon.instances.launch-overdue.gauge": gauge(overdue),
                "marathon.instances.running.gauge": gauge(f64::from(counts.running)),
                "marathon.instances.staged.gauge": gauge(f64::from(counts.staged)),
                "marathon.pods.active.gauge": gauge(0.0),
                "marathon.uptime.gauge.seconds": gauge(uptime),
            },
            "counters": {},
            "histograms": {},
            "meters": {},
            "timers": {},
        })
    }

    /// `GET /metrics/prometheus`: this process's metrics.
    pub(super) fn prometheus(&self, request: &Request) -> Answer {
        if request.verb() != Method::GET {
            return Err(method_not_allowed());
        }
        let text = self.env.metrics.render();
        Ok(Reply::bytes(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", text))
    }
}

/// A flag of the scheduler; none when it is not known.
fn setting(apps: &Apps, name: &str) -> Option<Value> {
    serde_json::from_str(apps.settings.get(name)?).ok()
}

/// `GET /ping`
pub(super) fn ping(request: &Request) -> Answer {
    if request.verb() != Method::GET {
        return Err(method_not_allowed());
    }
    let accept = request.header(header::ACCEPT.as_str()).unwrap_or("*/*");
    let reply = accept.split(',').map(media_type).find_map(|range| match range.as_str() {
        "*/*" | "text/*" | "text/plain" => Some(Reply::text(StatusCode::OK, "pong")),
        "text/html" => Some(Reply::bytes(StatusCode::OK, "text/html", "<h1>pong</h1>")),
        "application/json" => Some(Reply::json(&json!("pong"))),
        _ => None,
    });
    Ok(reply.unwrap_or_else(|| Reply::empty(StatusCode::NO_CONTENT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ping_answers_in_the_wanted_form() {
        let pong = |accept: &str| {
            let reply = ping(&Request::test("GET", "/ping", "").with("accept", accept)).unwrap();
            (reply.status.as_u16(), reply.body_text())
        };
        assert_eq!(ping(&Request::test("GET", "/ping", "")).unwrap().body_text(), "pong");
        assert_eq!(pong("text/plain"), (200, "pong".to_owned()));
        assert_eq!(pong("application/json"), (200, "\"pong\"".to_owned()));
        assert_eq!(pong("text/html,*/*"), (200, "<h1>pong</h1>".to_owned()));
        assert_eq!(pong("image/png"), (204, String::new()));
    }
}

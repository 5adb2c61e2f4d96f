//! `GET /registrar(1)/registry`: what is durable, as far as the view knows it.

use meshos_proto::{json::to_json, mesos::v1::TimeInfo};
use serde_json::{Value, json};

use super::{About, settings};
use crate::views::{Cluster, cluster::agent_id};

pub(super) fn registry(cluster: &Cluster, about: &About) -> Vec<u8> {
    let info = about.master(&cluster.master.info.clone().unwrap_or_default());
    let admitted = cluster.agents.values().filter(|agent| !agent.unreachable);
    let slaves: Value =
        admitted.map(|agent| json!({"info": to_json(&agent.info.clone().unwrap_or_default())})).collect();
    let away = cluster.agents.values().filter(|agent| agent.unreachable);
    let time =
        |ms: u64| TimeInfo { nanoseconds: i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX) };
    let unreachable: Value = away
        .map(|agent| {
            json!({"id": {"value": agent_id(agent)}, "timestamp": to_json(&time(agent.unreachable_at_ms))})
        })
        .collect();
    let quotas: Value = settings::quota(cluster).configs.iter().map(to_json).collect();
    let weights: Value = settings::weights(cluster).iter().map(to_json).collect();
    json!({
        "master": {"info": to_json(&info)},
        "slaves": {"slaves": slaves},
        "unreachable": {"slaves": unreachable},
        "quota_configs": quotas,
        "weights": weights,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::golden_cluster;

    #[test]
    fn agents_and_settings_are_listed() {
        let text = registry(&golden_cluster(), &About::test());
        let shown: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(shown["slaves"]["slaves"].as_array().unwrap().len(), 1);
        assert!(shown["slaves"]["slaves"][0]["info"]["id"]["value"].is_string());
        assert_eq!(shown["weights"], json!([{"weight": 2.0, "role": "eng"}]));
        assert_eq!(shown["quota_configs"][0]["role"], "ops");
        assert_eq!(shown["master"]["info"]["port"], 5050);
    }
}

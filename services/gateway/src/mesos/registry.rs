//! `GET /registrar(1)/registry`: what is durable, as far as the view knows it.

use meshos_proto::{json::to_json, meshos::allocator::v1::Agent, mesos::v1::TimeInfo};
use serde_json::{Value, json};

use super::{About, settings};
use crate::views::{
    Cluster,
    cluster::{agent_id, is_away},
};

pub(super) fn registry(cluster: &Cluster, about: &About) -> Vec<u8> {
    let info = about.master(&cluster.master.info.clone().unwrap_or_default());
    let admitted = cluster.agents.values().filter(|agent| !is_away(agent));
    let slaves: Value =
        admitted.map(|agent| json!({"info": to_json(&agent.info.clone().unwrap_or_default())})).collect();
    let time =
        |ms: u64| TimeInfo { nanoseconds: i64::try_from(ms.saturating_mul(1_000_000)).unwrap_or(i64::MAX) };
    let since =
        |agent: &Agent, ms| json!({"id": {"value": agent_id(agent)}, "timestamp": to_json(&time(ms))});
    let agents = || cluster.agents.values().map(AsRef::as_ref);
    let unreachable = agents().filter(|agent| agent.unreachable);
    let unreachable: Value = unreachable.map(|agent| since(agent, agent.unreachable_at_ms)).collect();
    let gone = agents().filter(|agent| agent.gone).map(|agent| since(agent, agent.gone_at_ms));
    let gone: Value = gone.collect();
    let quotas: Value = settings::quota(cluster).configs.iter().map(to_json).collect();
    let weights: Value = settings::weights(cluster).iter().map(to_json).collect();
    json!({
        "master": {"info": to_json(&info)},
        "slaves": {"slaves": slaves},
        "unreachable": {"slaves": unreachable},
        "gone": {"slaves": gone},
        "quota_configs": quotas,
        "weights": weights,
    })
    .to_string()
    .into_bytes()
}

#[cfg(test)]
mod tests {
    use meshos_proto::mesos::v1::{AgentId, AgentInfo};

    use super::*;
    use crate::mesos::render::shape::golden_cluster;

    #[test]
    fn agents_and_settings_are_listed() {
        let mut cluster = golden_cluster();
        let away = |id: &str| Agent {
            info: Some(AgentInfo { id: Some(AgentId { value: id.to_owned() }), ..AgentInfo::default() }),
            ..Agent::default()
        };
        let unreachable = Agent { unreachable: true, unreachable_at_ms: 5, ..away("u") };
        let gone = Agent { gone: true, gone_at_ms: 7, unreachable_at_ms: 3, ..away("g") };
        cluster.agents.insert("u".into(), unreachable.into());
        cluster.agents.insert("g".into(), gone.into());
        let text = registry(&cluster, &About::test());
        let shown: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(shown["slaves"]["slaves"].as_array().unwrap().len(), 1);
        assert!(shown["slaves"]["slaves"][0]["info"]["id"]["value"].is_string());
        let since = |id: &str, ns: u64| json!([{"id": {"value": id}, "timestamp": {"nanoseconds": ns}}]);
        assert_eq!(shown["unreachable"]["slaves"], since("u", 5_000_000));
        assert_eq!(shown["gone"]["slaves"], since("g", 7_000_000));
        assert_eq!(shown["weights"], json!([{"weight": 2.0, "role": "eng"}]));
        assert_eq!(shown["quota_configs"][0]["role"], "ops");
        assert_eq!(shown["master"]["info"]["port"], 5050);
    }
}

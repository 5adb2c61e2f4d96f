//! `GET /allocator/offer_constraints_debug`: which roles of a framework are suppressed, and which agents its own
//! constraints keep from it.

use std::collections::BTreeSet;

use meshos_proto::{meshos::allocator::v1::Framework, mesos::v1::AgentInfo};
use meshos_types::{RoleName, offer_constraints::Constraints};

use super::render::{
    roles_of,
    writer::{self, Object},
};
use crate::views::{Cluster, cluster::is_away};

pub(super) fn debug(cluster: &Cluster) -> Vec<u8> {
    let mut out = Vec::new();
    let mut whole = Object::begin(&mut out);
    let live = cluster.frameworks.iter().filter(|(_, framework)| !framework.completed);
    whole.object("frameworks", |frameworks| {
        for (id, framework) in live {
            frameworks.object(id, |object| {
                object.put("suppressed_roles", &framework.suppressed_roles);
                object.object("excluded_by_attribute_constraints", |roles| {
                    excluded(cluster, framework, roles);
                });
            });
        }
    });
    whole.end();
    out
}

fn excluded(cluster: &Cluster, framework: &Framework, roles: &mut Object<'_>) {
    let info = framework.info.clone().unwrap_or_default();
    let subscribed: BTreeSet<RoleName> = roles_of(&info).into_iter().map(RoleName::new).collect();
    // The allocator took them, so they can be read.
    let constraints = Constraints::compile(framework.offer_constraints.as_ref(), &subscribed);
    let constraints = constraints.unwrap_or_default();
    let nobody = AgentInfo::default();
    for role in constraints.roles() {
        let away = cluster.agents.iter().filter(|(_, agent)| {
            !agent.recovered
                && !is_away(agent)
                && !constraints.admit(role, agent.info.as_ref().unwrap_or(&nobody))
        });
        roles.list(role.as_ref(), away, |(id, _), out| writer::put(out, &&**id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mesos::render::shape::golden_cluster;
    use meshos_proto::{
        json::from_json,
        meshos::allocator::v1::{Change, Delta, WatchResponse, change::Body, watch_response},
    };
    use serde_json::{Value, json};

    fn shown(cluster: &Cluster) -> Value {
        serde_json::from_slice(&debug(cluster)).unwrap()
    }

    #[test]
    fn agents_that_constraints_exclude_are_named() {
        let mut cluster = golden_cluster();
        let (id, framework) = cluster.frameworks.iter().find(|(_, found)| !found.completed).unwrap();
        let (id, mut framework) = (id.to_string(), (**framework).clone());
        let none = json!({"suppressed_roles": [], "excluded_by_attribute_constraints": {}});
        assert_eq!(shown(&cluster), json!({"frameworks": {id.clone(): none}}));
        let constraint = json!({"selector": {"pseudoattribute_type": "HOSTNAME"},
            "predicate": {"text_equals": {"value": "elsewhere"}}});
        let groups = json!([{"attribute_constraints": [constraint]}]);
        let constraints = json!({"role_constraints": {"eng": {"groups": groups}}});
        framework.offer_constraints = Some(from_json(&constraints).unwrap());
        framework.suppressed_roles = vec!["eng".to_owned()];
        let changes = vec![Change { body: Some(Body::Framework(framework)) }];
        let body = Some(watch_response::Body::Delta(Delta { changes }));
        cluster.apply(WatchResponse { epoch: 1, revision: 2, body });
        let agents: Vec<String> = cluster.agents.keys().map(|id| id.to_string()).collect();
        let told = json!({"suppressed_roles": ["eng"], "excluded_by_attribute_constraints": {"eng": agents}});
        assert_eq!(shown(&cluster), json!({"frameworks": {id: told}}));
    }
}

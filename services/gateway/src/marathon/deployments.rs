//! Deployments: those that run, and, beyond Marathon, those that ended; limits past which one is rolled back.

use http::{Method, StatusCode};
use meshos_proto::meshos::apps::v1::{CancelDeploymentRequest, DeploymentLimits};
use serde_json::{Value, json};

use super::{
    Answer, Marathon, client, deployment_result,
    error::ApiError,
    method_not_allowed,
    page::Page,
    render::deployment::{deployment, details, finished},
    routes::Route,
};
use crate::{
    client::Repeat,
    http::{Query, Reply, Request},
};

/// Longest deadline, in seconds: a year.
const LONGEST_DEADLINE: u64 = 31_536_000;

impl Marathon {
    pub(super) async fn answer_deployments(&self, route: &Route, request: &Request) -> Answer {
        match route {
            Route::Deployment(id) if request.method == Method::DELETE => self.cancel(id, request).await,
            Route::Deployment(id) => self.read(request, |apps| {
                let running = apps.deployments.get(id).map(|found| details(apps, found));
                let found = running.or_else(|| apps.finished.get(id).map(finished));
                found.ok_or_else(|| ApiError::not_found(format!("DeploymentPlan {id} does not exist")))
            }),
            Route::FinishedDeployments => {
                let page = Page::of(&request.query)?;
                self.read(request, |apps| {
                    // The last one first.
                    let mut ended: Vec<_> = apps.finished.values().collect();
                    ended.sort_by_key(|one| std::cmp::Reverse(one.ended_at_ms));
                    let shown: Value = page.of_items(ended.into_iter()).map(finished).collect();
                    Ok(json!({"deployments": shown}))
                })
            }
            _ => {
                let page = Page::of(&request.query)?;
                self.read(request, |apps| {
                    let running = page.of_items(apps.deployments.values());
                    Ok(running.map(|found| deployment(apps, found)).collect())
                })
            }
        }
    }

    async fn cancel(&self, id: &str, request: &Request) -> Answer {
        if request.method != Method::DELETE {
            return Err(method_not_allowed());
        }
        let force = request.query.flag("force");
        let call = CancelDeploymentRequest { id: id.to_owned(), force };
        let called = self.leader.call(Repeat::Unsafe, |channel| {
            let call = call.clone();
            async move { client(channel).cancel_deployment(call).await }
        });
        let change = called.await?.into_inner();
        self.see(change.revision).await;
        if force {
            Ok(Reply::empty(StatusCode::ACCEPTED))
        } else {
            Ok(deployment_result(StatusCode::OK, &change))
        }
    }
}

/// `?deploymentDeadlineSeconds=` and `?deploymentMaxFailures=` of a request that starts a deployment; none: neither
/// is there.
pub(super) fn limits(query: &Query) -> Result<Option<DeploymentLimits>, ApiError> {
    let deadline_s = number(query, "deploymentDeadlineSeconds", LONGEST_DEADLINE)?;
    let max_failures = number(query, "deploymentMaxFailures", u32::MAX.into())?;
    if deadline_s.is_none() && max_failures.is_none() {
        return Ok(None);
    }
    let max_failures = max_failures.and_then(|most| u32::try_from(most).ok());
    Ok(Some(DeploymentLimits { deadline_s, max_failures }))
}

fn number(query: &Query, name: &str, most: u64) -> Result<Option<u64>, ApiError> {
    let Some(text) = query.get(name) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| *number <= most);
    number.map(Some).ok_or_else(|| {
        ApiError::illegal(format!(
            "Invalid {name} provided '{text}'. Expecting a whole number of at most {most}."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_whole_numbers() {
        let read = |query: &str| limits(&Query::parse(query));
        assert_eq!(read("force=true"), Ok(None));
        let wanted = DeploymentLimits { deadline_s: Some(60), max_failures: Some(0) };
        assert_eq!(read("deploymentDeadlineSeconds=60&deploymentMaxFailures=0"), Ok(Some(wanted)));
        for query in ["deploymentDeadlineSeconds=-1", "deploymentMaxFailures=5000000000"] {
            assert_eq!(read(query).unwrap_err().status.as_u16(), 422, "{query}");
        }
    }
}

//! Keeps a framework that floods calls from holding up the others.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

/// Calls of one framework that the owner may have before it at a time.
const AT_ONCE: usize = 64;
/// Calls of one framework that may wait for that.
const WAITING: usize = 1024;

#[derive(Debug)]
struct Queue {
    /// Fair: calls keep their order.
    turns: Arc<Semaphore>,
    calls: usize,
}

/// Calls under way, by framework.
#[derive(Clone, Debug, Default)]
pub(crate) struct CallLimits {
    queues: Arc<Mutex<BTreeMap<String, Queue>>>,
}

/// The right to hand in one call; given back when dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: Option<OwnedSemaphorePermit>,
    _place: Place,
}

#[derive(Debug)]
struct Place {
    limits: CallLimits,
    framework: String,
}

impl CallLimits {
    /// Waits until it is the call's turn.
    ///
    /// # Errors
    /// RESOURCE_EXHAUSTED when too many calls of the framework wait already.
    pub(crate) async fn turn(&self, framework: &str) -> Result<Turn, Status> {
        let (turns, place) = self.enter(framework)?;
        // Never closed.
        let permit = turns.acquire_owned().await.ok();
        Ok(Turn { _permit: permit, _place: place })
    }

    fn enter(&self, framework: &str) -> Result<(Arc<Semaphore>, Place), Status> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues
            .entry(framework.to_owned())
            .or_insert_with(|| Queue { turns: Arc::new(Semaphore::new(AT_ONCE)), calls: 0 });
        if queue.calls >= AT_ONCE + WAITING {
            return Err(Status::resource_exhausted(format!(
                "call dropped: {} calls of framework {framework} wait already; wait for answers before sending more",
                queue.calls
            )));
        }
        queue.calls += 1;
        let place = Place { limits: self.clone(), framework: framework.to_owned() };
        Ok((Arc::clone(&queue.turns), place))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut queues = self.limits.queues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = queues.get_mut(&self.framework) {
            queue.calls -= 1;
            if queue.calls == 0 {
                queues.remove(&self.framework);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[tokio::test]
    async fn a_flood_waits_and_then_is_refused_and_others_are_served() {
        let limits = CallLimits::default();
        let mut turns = Vec::new();
        for _ in 0..AT_ONCE {
            turns.push(limits.turn("f").await.unwrap());
        }
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(limits.turn("f"))).collect();
        for call in &mut waiting {
            assert!(futures::poll!(call).is_pending());
        }
        let refused = limits.turn("f").await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
        drop(limits.turn("g").await.unwrap());
        turns.pop();
        let first = futures::poll!(&mut waiting[0]);
        assert!(matches!(first, Poll::Ready(Ok(_))), "the first is served first");
        drop((first, waiting, turns));
        assert!(limits.queues.lock().unwrap().is_empty());
    }
}

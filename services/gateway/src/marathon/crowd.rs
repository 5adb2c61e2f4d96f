//! How many requests are answered at a time.

use std::sync::Arc;

use http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;

/// Room for so many requests, where that is set.
#[derive(Debug, Default)]
pub(super) struct Crowd {
    room: Option<(usize, Arc<Semaphore>)>,
}

impl Crowd {
    pub(super) fn new(most: Option<usize>) -> Self {
        // More than a semaphore can count is no limit.
        let most = most.filter(|most| *most <= Semaphore::MAX_PERMITS);
        Self { room: most.map(|most| (most, Arc::new(Semaphore::new(most)))) }
    }

    /// Room until what is returned is dropped.
    pub(super) fn enter(&self) -> Result<Option<OwnedSemaphorePermit>, ApiError> {
        let Some((most, room)) = &self.room else { return Ok(None) };
        Arc::clone(room).try_acquire_owned().map(Some).map_err(|_| {
            let text = format!("Too many concurrent requests! Allowed: {most}.");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_than_there_is_room_for_is_refused() {
        let crowd = Crowd::new(Some(2));
        let (first, second) = (crowd.enter().unwrap(), crowd.enter().unwrap());
        let refused = crowd.enter().unwrap_err();
        assert_eq!(refused.status.as_u16(), 503);
        assert_eq!(refused.body["message"], "Too many concurrent requests! Allowed: 2.");
        drop(first);
        assert!(crowd.enter().is_ok());
        drop(second);
        assert!(Crowd::new(None).enter().unwrap().is_none());
    }
}

//! Large answers: rendered from a copy of the view, away from what serves other requests, and once for all who ask
//! the same at the same time.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use meshos_proto::mesos::v1::master::call::Type;
use tokio::sync::Mutex as Turn;

use super::{call::Encoding, routes::Route};
use crate::{
    http::{Query, apart},
    views::{Cluster, Shared},
};

/// Answers that are remembered.
const KEPT: usize = 16;
/// Largest answer that is remembered while nobody waits for it, in bytes.
const KEPT_BYTES: usize = 4 * 1024 * 1024;

/// Answers, by what was asked.
#[derive(Debug, Default)]
pub(super) struct Documents {
    slots: Mutex<HashMap<Asked, Slot>>,
    /// Pictures that were rendered.
    rendered: AtomicU64,
    hits: AtomicU64,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Asked {
    Path(Route, Query),
    Call(Type, Encoding),
}

type Slot = Arc<Turn<Option<Kept>>>;

#[derive(Debug)]
struct Kept {
    /// Which change of the view it shows, or a later one.
    change: u64,
    /// Which of all renderings this was.
    number: u64,
    body: Bytes,
}

impl Documents {
    /// What `render` makes of the view as it is now or a little later; none while nobody leads.
    pub(super) async fn get(
        &self,
        view: &Shared<Cluster>,
        asked: Asked,
        render: impl FnOnce(&Cluster) -> Vec<u8> + Send,
    ) -> Option<Bytes> {
        let before = self.rendered.load(Ordering::SeqCst);
        let slot = self.slot(asked);
        let mut kept = slot.lock().await;
        let change = view.changes()?;
        if let Some(kept) = kept.as_ref().filter(|kept| kept.change == change || kept.number > before) {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Some(kept.body.clone());
        }
        // Before the picture is taken, so that those who come later do not take it for theirs.
        let number = self.rendered.fetch_add(1, Ordering::SeqCst) + 1;
        let picture = view.picture()?;
        let body = Bytes::from(apart(|| render(&picture)));
        // Beside the map and this one, somebody waits.
        let keep = body.len() <= KEPT_BYTES || Arc::strong_count(&slot) > 2;
        *kept = keep.then(|| Kept { change, number, body: body.clone() });
        Some(body)
    }

    /// Answers that did not need to be rendered.
    pub(super) fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    fn slot(&self, asked: Asked) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= KEPT && !slots.contains_key(&asked) {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry(asked).or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    fn view() -> Shared<Cluster> {
        let view = Shared::default();
        view.write((1, 1), |_: &mut Cluster| ());
        view
    }

    #[tokio::test]
    async fn an_answer_serves_until_the_view_moves_on() {
        let (view, documents, query) = (view(), Documents::default(), Query::default());
        let ask = async |text: &'static str| {
            documents
                .get(&view, Asked::Path(Route::State, query.clone()), |_| text.as_bytes().to_vec())
                .await
                .unwrap()
        };
        assert_eq!(ask("a").await, "a");
        assert_eq!(ask("b").await, "a");
        let other = Query::parse("jsonp=f");
        let asked = documents.get(&view, Asked::Path(Route::State, other), |_| b"c".to_vec()).await;
        assert_eq!(asked.unwrap(), "c");
        view.write((1, 2), |_| ());
        assert_eq!(ask("d").await, "d");
        assert_eq!(documents.hits(), 1);
        let nobody = Shared::default();
        assert_eq!(documents.get(&nobody, Asked::Path(Route::Slaves, query), |_| Vec::new()).await, None);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn those_who_wait_for_the_same_share_one_rendering_that_began_after_they_came() {
        const READERS: usize = 20;
        let view = view();
        let (documents, renderings) = (Arc::new(Documents::default()), Arc::new(AtomicUsize::new(0)));
        let asked = Asked::Path(Route::State, Query::default());
        let mut readers = tokio::task::JoinSet::new();
        for _ in 0..READERS {
            let (view, documents) = (view.clone(), Arc::clone(&documents));
            let (renderings, asked) = (Arc::clone(&renderings), asked.clone());
            readers.spawn(async move {
                let (slots, counted) = (Arc::clone(&documents), asked.clone());
                let render = |_: &Cluster| {
                    renderings.fetch_add(1, Ordering::SeqCst);
                    // The first one takes until all others are there, and the view has moved on.
                    while renderings.load(Ordering::SeqCst) == 1
                        && Arc::strong_count(&slots.slot(counted.clone())) < READERS + 2
                    {
                        std::thread::yield_now();
                    }
                    view.write((1, 1 + renderings.load(Ordering::SeqCst) as u64), |_| ());
                    Vec::new()
                };
                documents.get(&view, asked, render).await.is_some()
            });
        }
        assert!(readers.join_all().await.into_iter().all(|shown| shown));
        assert!(renderings.load(Ordering::SeqCst) <= 2);
        assert!(documents.hits() >= READERS as u64 - 2);
    }

    #[tokio::test]
    async fn what_nobody_asks_any_more_is_forgotten() {
        let (view, documents) = (view(), Documents::default());
        for number in 0..100 {
            let query = Query::parse(&format!("slave_id={number}"));
            documents.get(&view, Asked::Path(Route::Slaves, query), |_| Vec::new()).await.unwrap();
        }
        assert!(documents.slots.lock().unwrap().len() <= KEPT);
    }
}

//! Calls that wait for the owner, so that a framework that floods calls does not hold up the others: pure.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

/// What calls of one framework may cost that the owner is given at a time.
const AT_ONCE: usize = 64;
/// Calls of one framework that may wait for that.
const WAITING: usize = 1024;
/// What calls may cost that the owner is given at a time: nobody else's is carried out meanwhile.
const BATCH: usize = 256;
/// Calls of all frameworks that may wait; more are not read from the connection.
const ALL: usize = 16 * 1024;

/// In the order of each framework; frameworks take turns.
#[derive(Debug)]
pub(super) struct Queues<T> {
    /// Each call with its cost.
    queues: HashMap<String, VecDeque<(usize, T)>, FixedState>,
    /// Frameworks with calls that wait, each once.
    turns: VecDeque<String>,
    waiting: usize,
}

impl<T> Default for Queues<T> {
    fn default() -> Self {
        Self { queues: HashMap::default(), turns: VecDeque::new(), waiting: 0 }
    }
}

impl<T> Queues<T> {
    /// Queues a call of a framework; one that is simple costs 1.
    ///
    /// # Errors
    /// The number of calls of the framework that wait already, when there are too many.
    pub(super) fn push(&mut self, framework: &str, call: T, cost: usize) -> Result<(), usize> {
        if let Some(queue) = self.queues.get_mut(framework) {
            if queue.len() >= AT_ONCE + WAITING {
                return Err(queue.len());
            }
            queue.push_back((cost, call));
        } else {
            self.queues.insert(framework.to_owned(), VecDeque::from([(cost, call)]));
            self.turns.push_back(framework.to_owned());
        }
        self.waiting += 1;
        Ok(())
    }

    /// Whether no more should be read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting >= ALL
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// The next calls for the owner.
    pub(super) fn batch(&mut self) -> Vec<T> {
        let (mut batch, mut spent) = (Vec::new(), 0);
        // Each framework once.
        for _ in 0..self.turns.len() {
            if spent >= BATCH {
                break;
            }
            let Some(framework) = self.turns.pop_front() else { break };
            let Some(queue) = self.queues.get_mut(&framework) else { continue };
            // A call that costs more than there is left comes all the same, and is the last.
            let most = spent + AT_ONCE.min(BATCH - spent);
            while spent < most
                && let Some((cost, call)) = queue.pop_front()
            {
                spent += cost;
                batch.push(call);
            }
            if queue.is_empty() {
                self.queues.remove(&framework);
            } else {
                self.turns.push_back(framework);
            }
        }
        self.waiting -= batch.len();
        batch
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn a_flood_waits_and_then_is_refused_and_others_are_served() {
        let mut queues = Queues::default();
        for call in 0..AT_ONCE + WAITING {
            queues.push("f", ("f", call), 1).unwrap();
        }
        assert_eq!(queues.push("f", ("f", 0), 1), Err(AT_ONCE + WAITING));
        queues.push("g", ("g", 0), 1).unwrap();
        let batch = queues.batch();
        assert_eq!(batch.len(), AT_ONCE + 1, "the flood takes its share and no more");
        assert_eq!(batch.last(), Some(&("g", 0)));
        assert_eq!(batch[..2], [("f", 0), ("f", 1)]);
        queues.push("f", ("f", 0), 1).unwrap();
    }

    #[test]
    fn calls_that_cost_much_come_few_at_a_time() {
        let mut queues = Queues::default();
        for call in 0..3 {
            for framework in ["f", "g", "h"] {
                queues.push(framework, (framework, call), BATCH / 2).unwrap();
            }
        }
        queues.push("i", ("i", 0), 1).unwrap();
        assert_eq!(queues.batch(), [("f", 0), ("g", 0)]);
        assert_eq!(queues.batch(), [("h", 0), ("i", 0), ("f", 1)]);
        queues.push("j", ("j", 0), BATCH * 9).unwrap();
        assert_eq!(queues.batch(), [("g", 1), ("h", 1)]);
        assert_eq!(queues.batch(), [("f", 2), ("j", 0)]);
    }

    #[test]
    fn reading_stops_when_very_many_wait() {
        let mut queues = Queues::default();
        for call in 0..ALL {
            assert!(!queues.is_full());
            queues.push(&format!("f{}", call % 100), call, 1).unwrap();
        }
        assert!(queues.is_full());
        assert_eq!(queues.batch().len(), BATCH);
        assert!(!queues.is_full());
    }

    proptest! {
        /// Against plain lists: nothing is lost or doubled, each framework keeps its order, nobody waits for ever.
        #[test]
        fn every_call_comes_out_once_and_in_order(steps in vec((0_usize..4, 0_usize..90), 1..60)) {
            let mut queues = Queues::default();
            let (mut model, mut number) = (vec![VecDeque::new(); 4], 0);
            for (framework, calls) in steps {
                for _ in 0..calls {
                    number += 1;
                    let room = model[framework].len() < AT_ONCE + WAITING;
                    prop_assert_eq!(queues.push(&framework.to_string(), (framework, number), 1).is_ok(), room);
                    if room {
                        model[framework].push_back(number);
                    }
                }
                let before: Vec<usize> = model.iter().map(VecDeque::len).collect();
                for (framework, number) in queues.batch() {
                    prop_assert_eq!(model[framework].pop_front(), Some(number));
                }
                for (of, before) in model.iter().zip(before) {
                    let served = before - of.len();
                    prop_assert_eq!(served, before.min(AT_ONCE), "four frameworks fit into a batch");
                }
            }
            while !queues.is_empty() {
                for (framework, number) in queues.batch() {
                    prop_assert_eq!(model[framework].pop_front(), Some(number));
                }
            }
            prop_assert!(model.iter().all(VecDeque::is_empty));
        }
    }
}

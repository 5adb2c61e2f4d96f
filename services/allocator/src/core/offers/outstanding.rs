//! Offers that have not been answered, by number.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use foldhash::fast::FixedState;
use meshos_types::OfferId;

use super::Offer;

/// Offers in one piece of memory.
const PIECE: usize = 128;

/// Number of an offer in this leader's term. Its id is the leader's, `-O` and the number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct OfferNo(u64);

/// What an offer goes by: its number, or its id as somebody told it.
pub(crate) trait OfferName {
    /// None: there is no such offer.
    fn number(&self, offers: &Offers) -> Option<OfferNo>;
}

impl OfferName for OfferNo {
    fn number(&self, _: &Offers) -> Option<OfferNo> {
        Some(*self)
    }
}

impl OfferName for OfferId {
    fn number(&self, offers: &Offers) -> Option<OfferNo> {
        let digits = self.as_str().strip_prefix(&offers.prefix)?;
        // One id only for each number.
        let odd = digits.starts_with('+') || digits.len() > 1 && digits.starts_with('0');
        if odd { None } else { digits.parse().ok().map(OfferNo) }
    }
}

/// All outstanding offers.
pub(crate) struct Offers {
    prefix: String,
    /// In slots that are used again: what comes and goes stays in few places of memory. In pieces, so that more of them
    /// move nothing.
    slots: Vec<Box<[Option<Offer>]>>,
    free: Vec<u32>,
    by_number: HashMap<OfferNo, u32, FixedState>,
    next: u64,
}

impl fmt::Debug for Offers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.values()).finish()
    }
}

impl Offers {
    pub(crate) fn new(master: &str) -> Self {
        Self {
            prefix: format!("{master}-O"),
            slots: Vec::new(),
            free: Vec::new(),
            by_number: HashMap::default(),
            next: 0,
        }
    }

    /// The number of the offer that is made next.
    pub(crate) fn next_number(&self) -> OfferNo {
        OfferNo(self.next)
    }

    pub(super) fn insert(&mut self, offer: Offer) {
        if self.free.is_empty() {
            let first = self.slots.len() * PIECE;
            self.slots.push(std::iter::repeat_with(|| None).take(PIECE).collect());
            let more = (first..first + PIECE).rev();
            self.free.extend(more.filter_map(|slot| u32::try_from(slot).ok()));
        }
        let Some(slot) = self.free.pop() else { return };
        self.next = self.next.max(offer.number.0 + 1);
        self.by_number.insert(offer.number, slot);
        *self.slot_mut(slot) = Some(offer);
    }

    fn slot(&self, slot: u32) -> &Option<Offer> {
        let slot = slot as usize;
        &self.slots[slot / PIECE][slot % PIECE]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut Option<Offer> {
        let slot = slot as usize;
        &mut self.slots[slot / PIECE][slot % PIECE]
    }

    pub(super) fn remove(&mut self, name: &impl OfferName) -> Option<Offer> {
        let number = name.number(self)?;
        let slot = self.by_number.remove(&number)?;
        self.free.push(slot);
        self.slot_mut(slot).take()
    }

    pub(crate) fn get(&self, name: &impl OfferName) -> Option<&Offer> {
        let slot = *self.by_number.get(&name.number(self)?)?;
        self.slot(slot).as_ref()
    }

    pub(super) fn get_mut(&mut self, number: OfferNo) -> Option<&mut Offer> {
        let slot = *self.by_number.get(&number)?;
        self.slot_mut(slot).as_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.by_number.len()
    }

    /// The id that belongs to a number.
    pub(crate) fn id(&self, number: OfferNo) -> OfferId {
        OfferId::new(self.text(number))
    }

    pub(crate) fn text(&self, OfferNo(number): OfferNo) -> String {
        let mut text = String::with_capacity(self.prefix.len() + 20);
        text.push_str(&self.prefix);
        // Writing to a String does not fail.
        let _ = write!(text, "{number}");
        text
    }

    /// In the order in which they were made.
    pub(crate) fn keys(&self) -> impl Iterator<Item = OfferNo> + use<> {
        let mut numbers: Vec<_> = self.by_number.keys().copied().collect();
        numbers.sort_unstable();
        numbers.into_iter()
    }

    /// In the order in which they were made.
    pub(crate) fn values(&self) -> impl Iterator<Item = &Offer> {
        self.keys().filter_map(|number| self.get(&number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_id() {
        let offers = Offers::new("m");
        assert_eq!(offers.id(OfferNo(17)).as_str(), "m-O17");
        assert_eq!(OfferId::new("m-O17").number(&offers), Some(OfferNo(17)));
        assert_eq!(OfferId::new("m-O0").number(&offers), Some(OfferNo(0)));
        for odd in ["m-O", "m-O+1", "m-O01", "m-O-1", "m-O1x", "n-O1", "m-O99999999999999999999", ""] {
            assert_eq!(OfferId::new(odd).number(&offers), None, "{odd}");
        }
    }
}

//! `?limit=` and `?offset=` on lists (beyond Marathon). Pure.

use super::error::ApiError;
use crate::http::Query;

/// A part of a list. Without the parameters: all of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Page {
    offset: usize,
    limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Self { offset: 0, limit: usize::MAX }
    }
}

impl Page {
    /// As the query asks.
    pub(super) fn of(query: &Query) -> Result<Self, ApiError> {
        let number = |name: &str, default: usize| match query.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| {
                ApiError::illegal(format!("Invalid {name} provided '{text}'. Expecting a whole number."))
            }),
        };
        Ok(Self { offset: number("offset", 0)?, limit: number("limit", usize::MAX)? })
    }

    /// The part of `items`; what is not in it is not made.
    pub(super) fn of_items<I: Iterator>(self, items: I) -> impl Iterator<Item = I::Item> {
        items.skip(self.offset).take(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_list() {
        let cut =
            |query: &str| -> Vec<u32> { Page::of(&Query::parse(query)).unwrap().of_items(0..5).collect() };
        assert_eq!(cut(""), [0, 1, 2, 3, 4]);
        assert_eq!(cut("limit=2&offset=1"), [1, 2]);
        assert_eq!((cut("offset=4"), cut("offset=9"), cut("limit=0")), (vec![4], vec![], vec![]));
        for query in ["limit=-1", "offset=x", "limit=1.5"] {
            assert_eq!(Page::of(&Query::parse(query)).unwrap_err().status.as_u16(), 422, "{query}");
        }
    }
}

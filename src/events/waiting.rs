//! Those who wait for something, each once, the one that waits longest first.

use std::{
    collections::BTreeMap,
    ops::Bound::{Excluded, Unbounded},
};

/// Those who wait.
#[derive(Debug)]
pub(super) struct Waiting<T> {
    order: BTreeMap<u64, T>,
    numbers: BTreeMap<T, u64>,
    last: u64,
}

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Self {
            order: BTreeMap::new(),
            numbers: BTreeMap::new(),
            last: 0,
        }
    }
}

impl<T: Copy + Ord> Waiting<T> {
    /// One waits behind all others, or where it waits already.
    pub(super) fn add(&mut self, one: T) {
        if !self.numbers.contains_key(&one) {
            self.last += 1;
            self.numbers.insert(one, self.last);
            self.order.insert(self.last, one);
        }
    }

    /// One does not wait any more.
    pub(super) fn remove(&mut self, one: T) {
        if let Some(number) = self.numbers.remove(&one) {
            self.order.remove(&number);
        }
    }

    /// The first one behind a number, with its own.
    pub(super) fn after(&self, number: u64) -> Option<(u64, T)> {
        let mut behind = self.order.range((Excluded(number), Unbounded));
        behind.next().map(|(number, one)| (*number, *one))
    }

    /// Takes the first one.
    pub(super) fn take(&mut self) -> Option<T> {
        let (_, one) = self.order.pop_first()?;
        self.numbers.remove(&one);
        Some(one)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.order.clear();
        self.numbers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_waits_once_in_the_order_in_which_they_came() {
        let mut waiting = Waiting::default();
        for one in [3, 1, 3, 2, 1] {
            waiting.add(one);
        }
        let (number, first) = waiting.after(0).expect("one");
        assert_eq!((first, waiting.after(number).map(|(_, one)| one)), (3, Some(1)));
        waiting.remove(1);
        waiting.remove(9);
        waiting.add(1);
        let taken: Vec<_> = std::iter::from_fn(|| waiting.take()).collect();
        assert_eq!(taken, [3, 2, 1]);
        assert!(waiting.is_empty() && waiting.numbers.is_empty());
        waiting.add(3);
        waiting.clear();
        assert_eq!(waiting.take(), None);
    }
}

//! Which pages are open: each in at most one room, opened once and retired without losing a joiner (pure).
//!
//! A slot's lease count says how many callers are about to talk to its room. A room may retire only while there is no lease; so a
//! joiner either finds a room that stays, or makes a new slot.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    ops::Bound,
};

use storage::PageId;

/// The number of a slot. Each time a page is opened it gets another one.
pub type SlotId = u64;

#[derive(Debug)]
struct Slot<D> {
    id: SlotId,
    leases: usize,
    door: D,
}

/// The open pages, each with a door to its room.
#[derive(Debug)]
pub struct Slots<D> {
    slots: BTreeMap<PageId, Slot<D>>,
    last: SlotId,
}

impl<D> Default for Slots<D> {
    fn default() -> Self {
        Self {
            slots: BTreeMap::new(),
            last: 0,
        }
    }
}

impl<D> Slots<D> {
    /// Takes a lease on the room of a page. If it is not open, `open` is asked for the door of a new one.
    pub fn lease(&mut self, page: &PageId, open: impl FnOnce(SlotId) -> D) -> (SlotId, &mut D) {
        let slot = match self.slots.entry(page.clone()) {
            Entry::Occupied(slot) => slot.into_mut(),
            Entry::Vacant(vacant) => {
                self.last += 1;
                vacant.insert(Slot {
                    id: self.last,
                    leases: 0,
                    door: open(self.last),
                })
            }
        };
        slot.leases += 1;
        (slot.id, &mut slot.door)
    }

    /// Takes a lease on the room of a page if it is open.
    pub fn lease_if_open(&mut self, page: &PageId) -> Option<(SlotId, &mut D)> {
        let slot = self.slots.get_mut(page)?;
        slot.leases += 1;
        Some((slot.id, &mut slot.door))
    }

    /// Gives a lease back. Of a room that is gone nothing is left to be given back.
    pub fn release(&mut self, page: &PageId, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(page).filter(|slot| slot.id == id) {
            slot.leases -= 1;
        }
    }

    /// Takes out a room that nothing holds any more, if nobody is about to talk to it. Says whether the room is to end.
    pub fn retire(&mut self, page: &PageId, id: SlotId) -> bool {
        let is_leased = self
            .slots
            .get(page)
            .is_some_and(|slot| slot.id == id && slot.leases > 0);
        if !is_leased {
            self.remove(page, id);
        }
        !is_leased
    }

    /// Takes out a room that has ended for another reason, or could not be opened.
    pub fn remove(&mut self, page: &PageId, id: SlotId) -> Option<D> {
        match self.slots.entry(page.clone()) {
            Entry::Occupied(slot) if slot.get().id == id => Some(slot.remove().door),
            Entry::Occupied(_) | Entry::Vacant(_) => None,
        }
    }

    /// The door to the room of a page, if it is open.
    pub fn find(&mut self, page: &PageId) -> Option<(SlotId, &mut D)> {
        let slot = self.slots.get_mut(page)?;
        Some((slot.id, &mut slot.door))
    }

    /// The doors of all rooms.
    pub fn doors(&self) -> impl Iterator<Item = &D> {
        self.slots.values().map(|slot| &slot.door)
    }

    /// The doors of all rooms.
    pub fn doors_mut(&mut self) -> impl Iterator<Item = &mut D> {
        self.slots.values_mut().map(|slot| &mut slot.door)
    }

    /// Whether the room of a page is open, or being opened.
    pub fn is_open(&self, page: &PageId) -> bool {
        self.slots.contains_key(page)
    }

    /// Pages that are open, in the order of their ids: those that begin like this behind `after`, at most so many.
    pub fn pages(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<PageId> {
        // Whichever is further on: no page between the two is wanted.
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            Some(_) | None => Bound::Included(prefix),
        };
        let pages = self
            .slots
            .range::<str, _>((from, Bound::Unbounded))
            .map(|(page, _)| page);
        pages
            .take_while(|page| page.as_str().starts_with(prefix))
            .take(limit)
            .cloned()
            .collect()
    }

    /// How many rooms are open, or being opened.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether no room is open.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> PageId {
        PageId::new("page").unwrap()
    }

    #[test]
    fn open_pages_are_listed_in_order_piece_by_piece() {
        let mut slots = Slots::default();
        for page in ["team/b", "a", "team/a", "z"] {
            slots.lease(&PageId::new(page).unwrap(), |_| ());
        }
        let list = |prefix: &str, after: Option<&str>, limit| -> Vec<String> {
            let pages = slots.pages(prefix, after, limit);
            pages.iter().map(|page| page.as_str().to_owned()).collect()
        };
        assert_eq!(list("", None, 3), ["a", "team/a", "team/b"]);
        assert_eq!(list("", Some("team/b"), 3), ["z"]);
        assert_eq!(list("", Some("b"), 1), ["team/a"], "behind one that is not open");
        assert_eq!(list("team/", None, 9), ["team/a", "team/b"]);
        assert_eq!(list("team/", Some("team/a"), 9), ["team/b"]);
        assert_eq!(list("team/", Some("a"), 9), ["team/a", "team/b"]);
        assert_eq!(list("team/", Some("z"), 9), [""; 0]);
        assert_eq!(list("", Some(""), 1), ["a"], "behind what is no id");
        assert_eq!(list("y", None, 9), [""; 0]);
    }

    #[test]
    fn a_page_is_opened_once() {
        let mut slots = Slots::default();
        let (first, _) = slots.lease(&page(), |id| id);
        let (second, door) = slots.lease(&page(), |_| unreachable!("it is open"));
        assert_eq!((second, *door), (first, first));
    }

    #[test]
    fn a_room_that_somebody_is_about_to_talk_to_stays() {
        let mut slots = Slots::default();
        let (id, _) = slots.lease(&page(), |_| ());
        assert!(!slots.retire(&page(), id));
        slots.release(&page(), id);
        assert!(slots.retire(&page(), id));
        assert!(slots.is_empty());
    }

    #[test]
    fn who_comes_late_for_a_room_that_is_gone_does_no_harm_to_the_next() {
        let mut slots = Slots::default();
        let (first, _) = slots.lease(&page(), |_| ());
        slots.remove(&page(), first);
        let (second, _) = slots.lease(&page(), |_| ());
        assert_ne!(first, second);
        slots.release(&page(), first);
        assert!(slots.remove(&page(), first).is_none());
        assert!(slots.retire(&page(), first), "a room that is gone has to end");
        assert!(slots.is_open(&page()));
        assert!(!slots.retire(&page(), second), "its lease is still there");
    }
}

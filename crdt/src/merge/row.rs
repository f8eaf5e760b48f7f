//! The things of a list in their order, while many of them are put elsewhere: each step costs no more than it takes.

use std::collections::BTreeMap;

use fractional_index::FractionalIndex;
use yrs::MapRef;

use super::things::Thing;

/// The things of a list, each linked to its neighbours.
pub(super) struct Row {
    things: Vec<Linked>,
    by_id: BTreeMap<String, usize>,
    first: Option<usize>,
    last: Option<usize>,
}

struct Linked {
    map: MapRef,
    order: Option<FractionalIndex>,
    before: Option<usize>,
    behind: Option<usize>,
}

impl Row {
    /// The things in their order.
    pub(super) fn new(things: Vec<Thing>) -> Self {
        let mut row = Self {
            things: Vec::with_capacity(things.len()),
            by_id: BTreeMap::new(),
            first: None,
            last: None,
        };
        for thing in things {
            row.push(thing);
        }
        row
    }

    /// Where a thing is kept.
    pub(super) fn find(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    pub(super) fn map(&self, place: usize) -> Option<MapRef> {
        self.things.get(place).map(|thing| thing.map.clone())
    }

    pub(super) fn last_order(&self) -> Option<&FractionalIndex> {
        self.last.and_then(|last| self.order(last))
    }

    /// Puts a thing at the end. Gives where it is kept.
    pub(super) fn push(&mut self, thing: Thing) -> usize {
        let place = self.things.len();
        self.by_id.entry(thing.id).or_insert(place);
        self.things.push(Linked {
            map: thing.map,
            order: thing.order,
            before: None,
            behind: None,
        });
        self.link(place, self.last, None);
        place
    }

    /// Puts a thing right behind another one, or at the begin. Gives the order that it has from then on, if that is another one.
    pub(super) fn put_behind(&mut self, place: usize, before: Option<usize>) -> Option<String> {
        let thing = self.things.get(place)?;
        if thing.before == before && thing.order.is_some() || before == Some(place) {
            return None;
        }
        self.unlink(place);
        let order = before.and_then(|before| self.order(before));
        // Programs that put things in at the same time may have given them the same fraction; then it goes behind all of these.
        let mut behind = match before {
            Some(before) => self.things.get(before).and_then(|thing| thing.behind),
            None => self.first,
        };
        while let Some(next) = behind
            && self
                .order(next)
                .is_none_or(|next| order.is_some_and(|order| next <= order))
        {
            behind = self.things.get(next).and_then(|thing| thing.behind);
        }
        let new =
            FractionalIndex::new(order, behind.and_then(|behind| self.order(behind))).unwrap_or_default();
        let text = new.to_string();
        let before = match behind {
            Some(behind) => self.things.get(behind).and_then(|thing| thing.before),
            None => self.last,
        };
        if let Some(thing) = self.things.get_mut(place) {
            thing.order = Some(new);
        }
        self.link(place, before, behind);
        Some(text)
    }

    fn order(&self, place: usize) -> Option<&FractionalIndex> {
        self.things.get(place)?.order.as_ref()
    }

    fn unlink(&mut self, place: usize) {
        let Some((before, behind)) = self.things.get(place).map(|thing| (thing.before, thing.behind)) else {
            return;
        };
        self.join(before, behind);
    }

    fn link(&mut self, place: usize, before: Option<usize>, behind: Option<usize>) {
        self.join(before, Some(place));
        self.join(Some(place), behind);
    }

    /// Makes two neighbours; `None` for an end of the row.
    fn join(&mut self, left: Option<usize>, right: Option<usize>) {
        match left.and_then(|left| self.things.get_mut(left)) {
            Some(thing) => thing.behind = right,
            None => self.first = right,
        }
        match right.and_then(|right| self.things.get_mut(right)) {
            Some(thing) => thing.before = left,
            None => self.last = left,
        }
    }
}

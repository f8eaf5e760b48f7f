//! What stands where in a document: its structs put in order, as every replica of Yjs puts them.
//!
//! Two states of one document are put together: of what the first knows its structs are taken, which may have content that the second
//! has no more, and of the rest those of the second. Each list, and each key of a map, is a chain of items.

use std::collections::{BTreeMap, BTreeSet};

use super::PastError;
use super::content::Walked;
use super::waiting::{Owned, Source, Waiting, collect, owned};
use crate::encoding::Reader;
use crate::id_set::IdRange;
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{GC, Id, Parent, SKIP, Struct, Update, read_struct};

/// No item.
pub(crate) const NONE: u32 = u32::MAX;

/// Items that are looked at to find places, at most. Documents that people write need a few for each of their structs.
const MAX_STEPS: u64 = 20_000_000;
/// The same where that is only to be counted, again and again.
const MAX_STEPS_TO_COUNT: u64 = 1_000_000;

/// Where a chain belongs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Owner {
    Root(Box<str>),
    Nested(Id),
}

/// A list, or the values of one key.
#[derive(Debug)]
pub(crate) struct List {
    pub(crate) owner: Owner,
    pub(crate) key: Option<Box<str>>,
    pub(crate) first: u32,
    pub(crate) last: u32,
}

/// Consecutive ticks of one struct.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Item {
    pub(crate) id: Id,
    pub(crate) length: u32,
    pub(super) list: u32,
    pub(super) left: u32,
    pub(crate) right: u32,
    pub(crate) kind: u8,
    origin: Option<Id>,
    right_origin: Option<Id>,
    pub(super) source: Source,
}

impl Item {
    /// The id of its last tick.
    pub(crate) fn last_id(&self) -> Id {
        let Id { client, clock } = self.id;
        Id {
            client,
            clock: clock + self.length - 1,
        }
    }
}

/// A document in order.
#[derive(Debug)]
pub(crate) struct Lists {
    first: Update,
    second: Update,
    items: Vec<Item>,
    /// The item that begins at a clock.
    starts: BTreeMap<ClientId, BTreeMap<u32, u32>>,
    lists: Vec<List>,
    by_owner: BTreeMap<Owner, BTreeMap<Option<Box<str>>, u32>>,
    /// Steps that may still be made.
    steps: u64,
    pub(super) walked: BTreeMap<(bool, u32), Walked>,
}

impl Lists {
    pub(crate) fn new(first: Update, second: Update) -> Result<Self, PastError> {
        Self::within_steps(MAX_STEPS, first, second)
    }

    /// The same of one state, to count in.
    pub(super) fn to_count(whole: Update, nothing: Update) -> Result<Self, PastError> {
        Self::within_steps(MAX_STEPS_TO_COUNT, whole, nothing)
    }

    fn within_steps(steps: u64, first: Update, second: Update) -> Result<Self, PastError> {
        let known = first.state_vector();
        let mut waiting: BTreeMap<ClientId, Vec<Waiting>> = BTreeMap::new();
        for section in first.sections() {
            collect(&first, section, 0, false, &mut waiting)?;
        }
        for section in second.sections() {
            collect(&second, section, known.get(section.client), true, &mut waiting)?;
        }
        let mut lists = Self {
            first,
            second,
            items: Vec::new(),
            starts: BTreeMap::new(),
            lists: Vec::new(),
            by_owner: BTreeMap::new(),
            steps,
            walked: BTreeMap::new(),
        };
        lists.place_all(&waiting)?;
        Ok(lists)
    }

    pub(super) fn state_vector(&self) -> StateVector {
        let of = |update: &Update| {
            update
                .ranges()
                .map(|range| (range.client, range.end))
                .collect::<Vec<_>>()
        };
        let (mut all, mut known) = (of(&self.first), BTreeMap::new());
        all.extend(of(&self.second));
        for (client, end) in all {
            let clock: &mut u32 = known.entry(client).or_default();
            *clock = end.max(*clock);
        }
        known.into_iter().collect()
    }

    pub(crate) fn list(&self, list: u32) -> Option<&List> {
        self.lists.get(list as usize)
    }

    /// The chains of root types: the name of the root, the key, and the first item.
    pub(super) fn roots(&self) -> impl Iterator<Item = (&str, Option<&str>, u32)> {
        self.lists.iter().filter_map(|list| match &list.owner {
            Owner::Root(name) => Some((&**name, list.key.as_deref(), list.first)),
            Owner::Nested(_) => None,
        })
    }

    /// The chains of root types in the order of names and keys, of each type its list first.
    pub(crate) fn of_roots(&self) -> Vec<u32> {
        let of_owners = self.by_owner.iter();
        let of_roots = of_owners.take_while(|(owner, _)| matches!(owner, Owner::Root(_)));
        of_roots
            .flat_map(|(_, of_root)| of_root.values().copied())
            .collect()
    }

    /// The chains in the type that an item is, its list first and then those of keys in their order.
    pub(crate) fn within(&self, owner: Id) -> Vec<u32> {
        let within = self.by_owner.get(&Owner::Nested(owner));
        within
            .map(|within| within.values().copied().collect())
            .unwrap_or_default()
    }

    pub(crate) fn item(&self, item: u32) -> Option<Item> {
        self.items.get(item as usize).copied()
    }

    /// The items that begin in a range.
    pub(super) fn beginning_in(&self, IdRange { client, range }: IdRange) -> impl Iterator<Item = Item> {
        let starts = self.starts.get(&client);
        let found = starts
            .into_iter()
            .flat_map(move |starts| starts.range(range.start..range.end.max(range.start)));
        found.filter_map(|(_, &index)| self.item(index))
    }

    /// Cuts items so that one begins at this clock, if the clock is known.
    pub(crate) fn cut(&mut self, client: ClientId, clock: u32) {
        self.starting_at(Id { client, clock });
    }

    fn place_all(&mut self, waiting: &BTreeMap<ClientId, Vec<Waiting>>) -> Result<(), PastError> {
        let mut next: BTreeMap<ClientId, usize> = BTreeMap::new();
        for &client in waiting.keys() {
            // Whose structs are placed, and up to which clock something waits for that.
            let mut stack = vec![(client, u32::MAX)];
            let mut on_stack = BTreeSet::from([client]);
            while let Some(&(client, until)) = stack.last() {
                let at = next.entry(client).or_default();
                let found = waiting.get(&client).and_then(|waiting| waiting.get(*at));
                let Some(&found) = found.filter(|found| found.clock <= until) else {
                    stack.pop();
                    on_stack.remove(&client);
                    continue;
                };
                let read = self.read(found.source)?;
                let id = Id {
                    client,
                    clock: found.clock,
                };
                match self.missing(id, &read, waiting, &next) {
                    Some(other) if on_stack.insert(other.client) => stack.push((other.client, other.clock)),
                    Some(_) => return Err(PastError::Inconsistent),
                    None => {
                        *next.entry(client).or_default() += 1;
                        let read = owned(&read, found.source.offset, id);
                        self.place(id, read, found.source)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Something that a struct needs and that has not got its place.
    fn missing(
        &self,
        id: Id,
        read: &Struct<'_>,
        waiting: &BTreeMap<ClientId, Vec<Waiting>>,
        next: &BTreeMap<ClientId, usize>,
    ) -> Option<Id> {
        let parent = match read.parent {
            Some(Parent::Nested(parent)) => Some(parent),
            Some(Parent::Root(_)) | None => None,
        };
        let needed = [read.origin, read.right_origin, parent].into_iter().flatten();
        let mut needed = needed.filter(|needed| needed.client != id.client);
        let is_missing = |needed: &Id| {
            let at = next.get(&needed.client).copied().unwrap_or_default();
            let first = waiting.get(&needed.client).and_then(|waiting| waiting.get(at));
            first.is_some_and(|first| first.clock <= needed.clock)
        };
        needed.find(is_missing)
    }

    fn read(&self, source: Source) -> Result<Struct<'_>, PastError> {
        let mut reader = Reader::starting_at(self.bytes(source), source.at as usize);
        Ok(read_struct::<true>(&mut reader, &Limits::trusted())?)
    }

    pub(super) fn bytes(&self, source: Source) -> &[u8] {
        match source.is_second {
            true => self.second.bytes(),
            false => self.first.bytes(),
        }
    }

    /// Puts a struct where it goes. One whose neighbour or parent is not there goes nowhere, as whatever is in something that is gone.
    fn place(&mut self, id: Id, read: Owned, source: Source) -> Result<(), PastError> {
        if matches!(read.kind, GC | SKIP) {
            return Ok(());
        }
        let (left, right) = (
            read.origin.map(|origin| self.ending_at(origin)),
            read.right_origin.map(|origin| self.starting_at(origin)),
        );
        if left == Some(NONE) || right == Some(NONE) {
            return Ok(());
        }
        let (left, right) = (left.unwrap_or(NONE), right.unwrap_or(NONE));
        let neighbour = self.item(left).or_else(|| self.item(right));
        let list = match (neighbour, read.owner) {
            (Some(neighbour), _) => neighbour.list,
            (None, Some(owner)) => {
                if let Owner::Nested(parent) = owner
                    && self.starting_at(parent) == NONE
                {
                    return Ok(());
                }
                self.list_of(owner, read.key)
            }
            (None, None) => return Ok(()),
        };
        let left = self.left_of(id, (read.origin, read.right_origin), (left, right), list)?;
        let index = self.items.len() as u32;
        let right = match self.item(left) {
            Some(before) => before.right,
            None => self.list(list).map_or(NONE, |list| list.first),
        };
        self.items.push(Item {
            id,
            length: read.length,
            list,
            left,
            right,
            kind: read.kind,
            origin: read.origin,
            right_origin: read.right_origin,
            source,
        });
        self.link(index, left, right, list);
        self.starts.entry(id.client).or_default().insert(id.clock, index);
        Ok(())
    }

    fn link(&mut self, index: u32, left: u32, right: u32, list: u32) {
        match self.items.get_mut(left as usize) {
            Some(left) => left.right = index,
            None => {
                if let Some(list) = self.lists.get_mut(list as usize) {
                    list.first = index;
                }
            }
        }
        match self.items.get_mut(right as usize) {
            Some(right) => right.left = index,
            None => {
                if let Some(list) = self.lists.get_mut(list as usize) {
                    list.last = index;
                }
            }
        }
    }

    /// The item behind which a struct goes, among those that others put at the same place (Yjs, `Item.integrate`).
    fn left_of(
        &mut self,
        id: Id,
        (origin, right_origin): (Option<Id>, Option<Id>),
        (left, right): (u32, u32),
        list: u32,
    ) -> Result<u32, PastError> {
        let mut other = match self.item(left) {
            Some(left) => left.right,
            None => self.list(list).map_or(NONE, |list| list.first),
        };
        let mut place = left;
        // The items that were passed, in order, and from where on they are in conflict with this one.
        let (mut passed, mut conflicts) = (BTreeMap::new(), 0_usize);
        while other != right
            && let Some(item) = self.item(other)
        {
            self.steps = self.steps.checked_sub(1).ok_or(PastError::TooMuchWork)?;
            passed.insert(other, passed.len());
            if item.origin == origin {
                if item.id.client < id.client {
                    place = other;
                    conflicts = passed.len();
                } else if item.right_origin == right_origin {
                    break;
                }
            } else {
                let before = item.origin.map(|origin| self.containing(origin));
                match before.and_then(|before| passed.get(&before)) {
                    Some(&at) if at < conflicts => {
                        place = other;
                        conflicts = passed.len();
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            other = item.right;
        }
        Ok(place)
    }

    fn list_of(&mut self, owner: Owner, key: Option<Box<str>>) -> u32 {
        let next = self.lists.len() as u32;
        let of_owner = self.by_owner.entry(owner.clone()).or_default();
        let list = *of_owner.entry(key.clone()).or_insert(next);
        if list == next {
            self.lists.push(List {
                owner,
                key,
                first: NONE,
                last: NONE,
            });
        }
        list
    }

    /// How many items stand elsewhere than between their neighbours, which are in the same list. No editor writes such neighbours, and where
    /// the items stand depends on the order in which a copy has heard of them. O(items · log).
    pub(crate) fn misplaced(&self) -> usize {
        // Which number an item has in its list.
        let mut numbers = vec![0; self.items.len()];
        for list in &self.lists {
            let (mut at, mut number) = (list.first, 0_usize);
            while let (Some(item), Some(of_item)) = (self.item(at), numbers.get_mut(at as usize)) {
                *of_item = number;
                number += 1;
                at = item.right;
            }
        }
        let number = |item: u32| numbers.get(item as usize).copied();
        let stands = |(index, item): &(usize, &Item)| {
            let neighbour = |id: Option<Id>| {
                let found = id.map(|id| self.containing(id))?;
                (self.item(found)?.list == item.list).then(|| number(found))?
            };
            let own = numbers.get(*index).copied();
            neighbour(item.origin).is_none_or(|left| Some(left) < own)
                && neighbour(item.right_origin).is_none_or(|right| Some(right) > own)
        };
        self.items.iter().enumerate().filter(|item| !stands(item)).count()
    }

    /// The item that has an id.
    pub(super) fn containing(&self, id: Id) -> u32 {
        let starts = self.starts.get(&id.client);
        let found = starts.and_then(|starts| starts.range(..=id.clock).next_back());
        let Some((&start, &index)) = found else {
            return NONE;
        };
        match self.item(index) {
            Some(item) if id.clock < start + item.length => index,
            _ => NONE,
        }
    }

    /// The item that begins with an id; what has it is cut.
    fn starting_at(&mut self, id: Id) -> u32 {
        let index = self.containing(id);
        match self.item(index) {
            Some(item) if item.id.clock < id.clock => self.split(index, item, id.clock),
            _ => index,
        }
    }

    /// The item that ends with an id; what has it is cut.
    fn ending_at(&mut self, id: Id) -> u32 {
        let index = self.containing(id);
        if let Some(item) = self.item(index)
            && item.last_id() != id
        {
            self.split(index, item, id.clock + 1);
        }
        index
    }

    /// Cuts an item before `clock`; gives the second part.
    fn split(&mut self, index: u32, item: Item, clock: u32) -> u32 {
        let (client, before) = (item.id.client, clock - item.id.clock);
        let behind = self.items.len() as u32;
        self.items.push(Item {
            id: Id { client, clock },
            length: item.length - before,
            left: index,
            origin: Some(Id {
                client,
                clock: clock - 1,
            }),
            source: Source {
                offset: item.source.offset + before,
                ..item.source
            },
            ..item
        });
        if let Some(first) = self.items.get_mut(index as usize) {
            first.length = before;
        }
        self.link(behind, index, item.right, item.list);
        self.starts.entry(client).or_default().insert(clock, behind);
        behind
    }
}

//! Remembers for every clock tick of every client which list, or which key of which map, it belongs to, in runs.
//!
//! Most structs do not name their parent: they inherit it from their neighbours. Knowing it is what it takes to bound the nesting of
//! types, to refuse a struct that would tie two types together, and to know what goes when a type is deleted. Of what is in lists it
//! remembers too which ticks stand directly one behind the other: replicas may hold those as one item, or as several.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use super::key_order::{KeyOrder, Values};
use crate::id_set::{ClockRange, IdRange, IdSet};
use crate::state_vector::ClientId;
use crate::update::Id;

/// The list, or the one key of a map, in which a struct is: an index into the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// The struct was collected together with the type it was in, which is deleted.
    pub(crate) const COLLECTED: Self = Self(INDEX);
}

const INDEX: u32 = (1 << 30) - 1;

/// What a struct is as a parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Plain,
    Type,
    /// It came without its content, so it may have been anything.
    Deleted,
}

/// From `start` until the next run: two bits of kind, thirty of place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    start: u32,
    what: u32,
}

impl Run {
    fn new(start: u32, place: Place, kind: Kind) -> Self {
        let kind = match kind {
            Kind::Plain => 0,
            Kind::Type => 1,
            Kind::Deleted => 2,
        };
        Self {
            start,
            what: (kind << 30) | place.0,
        }
    }

    fn read(self) -> (Place, Kind) {
        let kind = match self.what >> 30 {
            0 => Kind::Plain,
            1 => Kind::Type,
            _ => Kind::Deleted,
        };
        (Place(self.what & INDEX), kind)
    }
}

#[derive(Debug)]
struct Location {
    /// A nested type's id, or for a root type no client and its index.
    owner: Id,
    /// Hash of the key; 0 for a list.
    key: u64,
    /// Of the type: 0 for a root type.
    depth: u16,
    /// Of the values under the key.
    order: KeyOrder,
}

const NO_CLIENT: ClientId = ClientId(u64::MAX);

/// One change, to be taken back when the update it belongs to is refused.
#[derive(Debug)]
enum Undo {
    Run(ClientId),
    Start(ClientId),
    Place,
    Root(Box<str>),
    Child(Id),
    ChildExtended(Id, u32),
}

#[derive(Debug, Default)]
pub(crate) struct Lineage {
    clients: BTreeMap<ClientId, Vec<Run>>,
    /// The ticks in lists that were not inserted directly behind the tick before.
    starts: BTreeMap<ClientId, Vec<u32>>,
    locations: Vec<Location>,
    index: BTreeMap<(Id, u64), u32>,
    /// Names of root types.
    roots: BTreeMap<Box<str>, u32>,
    /// What is in each nested type, its own lists and keys only.
    children: BTreeMap<Id, Vec<IdRange>>,
    undo: Vec<Undo>,
}

impl Lineage {
    /// Keeps all changes since the last call.
    pub(crate) fn keep(&mut self) {
        self.undo.clear();
    }

    /// Takes all changes since the last [`Lineage::keep`] back.
    pub(crate) fn take_back(&mut self) {
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Run(client) => {
                    if let Some(runs) = self.clients.get_mut(&client) {
                        runs.pop();
                        if runs.is_empty() {
                            self.clients.remove(&client);
                        }
                    }
                }
                Undo::Start(client) => {
                    if let Some(starts) = self.starts.get_mut(&client) {
                        starts.pop();
                        if starts.is_empty() {
                            self.starts.remove(&client);
                        }
                    }
                }
                Undo::Place => {
                    if let Some(location) = self.locations.pop() {
                        self.index.remove(&(location.owner, location.key));
                    }
                }
                Undo::Root(name) => {
                    self.roots.remove(&name);
                }
                Undo::Child(owner) => {
                    if let Some(children) = self.children.get_mut(&owner) {
                        children.pop();
                        if children.is_empty() {
                            self.children.remove(&owner);
                        }
                    }
                }
                Undo::ChildExtended(owner, end) => {
                    if let Some(last) = self.children.get_mut(&owner).and_then(|list| list.last_mut()) {
                        last.range.end = end;
                    }
                }
            }
        }
    }

    /// Everything of this client from `range.start` on is in `place`, until said otherwise; it reaches to `range.end`.
    #[inline]
    pub(crate) fn push(&mut self, client: ClientId, range: ClockRange, place: Place, kind: Kind) {
        let run = Run::new(range.start, place, kind);
        let runs = self.clients.entry(client).or_default();
        if runs.last().is_none_or(|last| last.what != run.what) {
            runs.push(run);
            self.undo.push(Undo::Run(client));
        }
        let Some(owner) = self.owner(place) else { return };
        let children = self.children.entry(owner).or_default();
        match children.last_mut() {
            Some(last) if last.client == client && last.range.end == range.start => {
                self.undo.push(Undo::ChildExtended(owner, last.range.end));
                last.range.end = range.end;
            }
            _ => {
                children.push(IdRange { client, range });
                self.undo.push(Undo::Child(owner));
            }
        }
    }

    /// Notes that the tick is in a list and was not inserted directly behind the one before.
    #[inline]
    pub(crate) fn start(&mut self, client: ClientId, clock: u32) {
        self.starts.entry(client).or_default().push(clock);
        self.undo.push(Undo::Start(client));
    }

    /// Whether two ticks in a list are one, or the second was inserted behind the first with nothing but others in turn between them.
    pub(crate) fn is_typed_on(&self, from: Id, to: Id) -> bool {
        if from.client != to.client || from.clock > to.clock {
            return false;
        }
        crate::work::steps(1);
        let starts = self.starts.get(&to.client).map_or(&[][..], |starts| starts);
        let until = starts.partition_point(|&start| start <= to.clock);
        let last = until.checked_sub(1).and_then(|last| starts.get(last));
        last.is_none_or(|&start| start <= from.clock)
    }

    /// Takes out what is in a type, which is deleted.
    pub(crate) fn take_children(&mut self, owner: Id) -> Vec<IdRange> {
        self.children.remove(&owner).unwrap_or_default()
    }

    /// Takes out what is in the types among these ticks, which are deleted.
    pub(crate) fn take_children_in(&mut self, IdRange { client, range }: IdRange) -> Vec<IdRange> {
        let Self {
            clients, children, ..
        } = self;
        let mut found = Vec::new();
        for (part, run) in runs_in(clients, client, range) {
            if run.read().1 == Kind::Type {
                crate::work::steps((part.end - part.start) as usize);
                let owners = (part.start..part.end).map(|clock| Id { client, clock });
                found.extend(owners.filter_map(|owner| children.remove(&owner)).flatten());
            }
        }
        found
    }

    #[inline]
    pub(crate) fn at(&self, Id { client, clock }: Id) -> (Place, Kind) {
        crate::work::steps(1);
        let Some(runs) = self.clients.get(&client) else {
            return (Place::COLLECTED, Kind::Plain);
        };
        let run = match runs.last() {
            Some(last) if last.start <= clock => Some(*last),
            _ => {
                let after = runs.partition_point(|run| run.start <= clock);
                after.checked_sub(1).and_then(|index| runs.get(index)).copied()
            }
        };
        run.map_or((Place::COLLECTED, Kind::Plain), Run::read)
    }

    /// The places of consecutive ticks of a client, each with the ticks that are there.
    pub(crate) fn places(
        &self,
        client: ClientId,
        range: ClockRange,
    ) -> impl Iterator<Item = (ClockRange, Place)> {
        runs_in(&self.clients, client, range).map(|(part, run)| (part, run.read().0))
    }

    pub(crate) fn root_place(&mut self, name: &str, key: Option<&str>) -> Place {
        let index = match self.roots.get(name) {
            Some(&index) => index,
            None => {
                let index = self.roots.len() as u32;
                self.roots.insert(name.into(), index);
                self.undo.push(Undo::Root(name.into()));
                index
            }
        };
        let owner = Id {
            client: NO_CLIENT,
            clock: index,
        };
        self.place(owner, key, 0)
    }

    /// The list or the key of a type that is itself in `outer`.
    pub(crate) fn nested_place(&mut self, owner: Id, outer: Place, key: Option<&str>) -> Place {
        let depth = self.depth(outer).saturating_add(1);
        self.place(owner, key, depth)
    }

    fn place(&mut self, owner: Id, key: Option<&str>, depth: u16) -> Place {
        let key = hash(key);
        let next = self.locations.len() as u32;
        let place = *self.index.entry((owner, key)).or_insert(next);
        if place == next {
            self.locations.push(Location {
                owner,
                key,
                depth,
                order: KeyOrder::default(),
            });
            self.undo.push(Undo::Place);
        }
        Place(place)
    }

    fn location(&self, place: Place) -> Option<&Location> {
        self.locations.get(place.0 as usize)
    }

    /// How deep the type is that a struct in this place is in; 0 for a root type.
    #[inline]
    pub(crate) fn depth(&self, place: Place) -> u16 {
        self.location(place).map_or(0, |location| location.depth)
    }

    #[inline]
    pub(crate) fn is_list(&self, place: Place) -> bool {
        self.location(place).is_some_and(|location| location.key == 0)
    }

    #[inline]
    pub(crate) fn is_keyed(&self, place: Place) -> bool {
        self.location(place).is_some_and(|location| location.key != 0)
    }

    /// The type a place is in, when it is a nested one.
    #[inline]
    pub(crate) fn owner(&self, place: Place) -> Option<Id> {
        self.location(place)
            .map(|location| location.owner)
            .filter(|owner| owner.client != NO_CLIENT)
    }

    /// Whether what comes into a place goes at once, because the type that it is in is gone. A type that is in another goes with that, so
    /// none further out need be looked at.
    pub(crate) fn is_dead(&self, place: Place, deleted: impl Fn(Id) -> bool) -> bool {
        match self.owner(place) {
            Some(owner) => {
                deleted(owner) || matches!(self.at(owner), (Place::COLLECTED, _) | (_, Kind::Deleted))
            }
            None => place == Place::COLLECTED,
        }
    }

    /// Notes that a value was put under a key. Adds to `replaced` which values are therefore deleted: the one behind which it was put, and
    /// of this one and the one that was last the one that is not any more.
    pub(crate) fn put(&mut self, put: &Put, replaced: &mut Vec<Id>) {
        replaced.extend(put.origin);
        let Some(location) = self.locations.get_mut(put.place.0 as usize) else {
            return;
        };
        match put.has_right_origin {
            true => location.order.give_up(),
            false => replaced.extend(location.order.put(&put.values())),
        }
    }
}

/// The runs of a client with the ticks of each that are in a range.
fn runs_in(
    clients: &BTreeMap<ClientId, Vec<Run>>,
    client: ClientId,
    range: ClockRange,
) -> impl Iterator<Item = (ClockRange, Run)> {
    let runs = clients.get(&client).map_or(&[][..], |runs| runs);
    let first = runs
        .partition_point(|run| run.start <= range.start)
        .saturating_sub(1);
    let runs = runs.get(first..).unwrap_or_default();
    let ends = runs.iter().skip(1).map(|run| run.start).chain([u32::MAX]);
    runs.iter()
        .zip(ends)
        .take_while(move |(run, _)| run.start < range.end)
        .map(move |(run, end)| {
            crate::work::steps(1);
            let part = ClockRange {
                start: run.start.max(range.start),
                end: end.min(range.end),
            };
            (part, *run)
        })
}

/// A value that was put under a key.
#[derive(Debug)]
pub(crate) struct Put {
    pub(crate) place: Place,
    pub(crate) origin: Option<Id>,
    pub(crate) has_right_origin: bool,
    pub(crate) client: ClientId,
    /// Its ticks: one, unless several that are deleted stand in one struct.
    pub(crate) range: ClockRange,
    /// It came with its content, so it may be alive.
    pub(crate) may_live: bool,
}

impl Put {
    fn values(&self) -> Values {
        let ClockRange { start, end } = self.range;
        Values {
            client: self.client,
            start,
            end,
            origin: self.origin,
        }
    }
}

/// Keys are only compared. Never 0.
fn hash(key: Option<&str>) -> u64 {
    let Some(key) = key else { return 0 };
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish().max(1)
}

/// Whether a tick is in a set.
pub(crate) fn contains(set: &IdSet, id: Id) -> bool {
    set.contains(id.client, id.clock)
}

//! Remembers for every clock tick of every client which shared type it belongs to, in runs.
//!
//! Most structs do not name their parent: they inherit it from their neighbours. Knowing it is what it takes to bound
//! the nesting of types, and to refuse a struct that would tie two types together.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use smallvec::SmallVec;

use crate::state_vector::ClientId;
use crate::update::{DELETED, EMBED, FORMAT, GC, Id, STRING};

/// A root type holds characters.
pub(crate) const TEXT: u8 = 1;
/// A root type holds list elements.
pub(crate) const LIST: u8 = 2;
/// A root type holds XML nodes.
pub(crate) const XML: u8 = 4;
/// A root type holds values under keys.
pub(crate) const KEYED: u8 = 8;

/// The list, or the one key of a map, in which a struct is: an index into the places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place(u32);

impl Place {
    /// The struct was collected together with the type it was in, which is deleted.
    pub(crate) const GONE: Self = Self(INDEX);
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Location {
    /// A nested type's id, or for a root type no client and its index.
    owner: Id,
    /// Hash of the key; 0 for a list.
    key: u64,
    /// Of the type: 0 for a root type.
    depth: u16,
}

const NO_CLIENT: ClientId = ClientId(u64::MAX);

/// Where the lineage was before an update.
#[derive(Debug)]
pub(crate) struct Mark {
    locations: usize,
    roots: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Lineage {
    /// In the order of the state vector's clients.
    clients: Vec<(ClientId, SmallVec<[Run; 2]>)>,
    locations: Vec<Location>,
    /// Names of root types, and where what kinds of content have been seen in them is.
    roots: BTreeMap<Box<str>, u32>,
    content: Vec<u8>,
    /// To take back an update: how many runs its authors had, and what its root types held.
    runs_before: SmallVec<[(usize, usize); 1]>,
    content_before: SmallVec<[(usize, u8); 1]>,
}

impl Lineage {
    /// The root types in name order with the kinds of content seen in them.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (&str, u8)> {
        self.roots
            .iter()
            .map(|(name, &index)| (&**name, self.content.get(index as usize).copied().unwrap_or(0)))
    }

    /// Makes room for clients, in the order of their ids.
    pub(crate) fn insert_clients(&mut self, clients: &[ClientId]) {
        if let &[client] = clients {
            let place = self.clients.partition_point(|(known, _)| *known < client);
            self.clients.insert(place, (client, SmallVec::new()));
        } else {
            self.clients
                .extend(clients.iter().map(|&client| (client, SmallVec::new())));
            self.clients.sort_by_key(|&(client, _)| client);
        }
    }

    /// Removes the clients of which nothing is known after all.
    pub(crate) fn remove_unknown(&mut self) {
        self.clients.retain(|(_, runs)| !runs.is_empty());
    }

    pub(crate) fn mark(&mut self) -> Mark {
        Mark {
            locations: self.locations.len(),
            roots: self.content.len(),
        }
    }

    /// Announces changes of the client at this place.
    pub(crate) fn begin(&mut self, place: usize) {
        let runs = self.clients.get(place).map_or(0, |(_, runs)| runs.len());
        self.runs_before.push((place, runs));
    }

    pub(crate) fn keep(&mut self, _: Mark) {
        self.runs_before.clear();
        self.content_before.clear();
    }

    pub(crate) fn undo(&mut self, mark: Mark) {
        for (place, runs) in self.runs_before.drain(..) {
            if let Some((_, client)) = self.clients.get_mut(place) {
                client.truncate(runs);
            }
        }
        for (root, content) in self.content_before.drain(..).rev() {
            if let Some(seen) = self.content.get_mut(root) {
                *seen = content;
            }
        }
        self.locations.truncate(mark.locations);
        if self.content.len() > mark.roots {
            self.content.truncate(mark.roots);
            self.roots.retain(|_, index| (*index as usize) < mark.roots);
        }
    }

    /// Everything of this client from `clock` on is in `place`, until said otherwise.
    #[inline]
    pub(crate) fn push(&mut self, client: usize, clock: u32, place: Place, kind: Kind) {
        let Some((_, runs)) = self.clients.get_mut(client) else {
            return;
        };
        let run = Run::new(clock, place, kind);
        if runs.last().is_none_or(|last| last.what != run.what) {
            runs.push(run);
        }
    }

    #[inline]
    pub(crate) fn at(&self, client: usize, clock: u32) -> (Place, Kind) {
        let Some((_, runs)) = self.clients.get(client) else {
            return (Place::GONE, Kind::Plain);
        };
        let run = match runs.last() {
            Some(last) if last.start <= clock => Some(*last),
            _ => {
                let after = runs.partition_point(|run| run.start <= clock);
                after.checked_sub(1).and_then(|index| runs.get(index)).copied()
            }
        };
        run.map_or((Place::GONE, Kind::Plain), Run::read)
    }

    pub(crate) fn root_place(&mut self, name: &str, key: Option<&str>) -> Place {
        let index = match self.roots.get(name) {
            Some(&index) => index,
            None => {
                let index = self.content.len() as u32;
                self.roots.insert(name.into(), index);
                self.content.push(0);
                index
            }
        };
        self.place(Location {
            owner: Id {
                client: NO_CLIENT,
                clock: index,
            },
            key: hash(key),
            depth: 0,
        })
    }

    /// The list or the key of a type that is itself in `outer`.
    pub(crate) fn nested_place(&mut self, owner: Id, outer: Place, key: Option<&str>) -> Place {
        let depth = self.depth(outer).saturating_add(1);
        self.place(Location {
            owner,
            key: hash(key),
            depth,
        })
    }

    fn place(&mut self, location: Location) -> Place {
        if self.locations.last() != Some(&location) {
            self.locations.push(location);
        }
        Place((self.locations.len() - 1) as u32)
    }

    fn location(&self, place: Place) -> Option<&Location> {
        if place == Place::GONE {
            None
        } else {
            self.locations.get(place.0 as usize)
        }
    }

    #[inline]
    pub(crate) fn same(&self, left: Place, right: Place) -> bool {
        left == right || (self.location(left).is_some() && self.location(left) == self.location(right))
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

    /// The type a place is in, when it is a nested one.
    pub(crate) fn owner(&self, place: Place) -> Option<Id> {
        self.location(place)
            .map(|location| location.owner)
            .filter(|owner| owner.client != NO_CLIENT)
    }

    /// Notes what kind of content a root type holds.
    #[inline]
    pub(crate) fn note_content(&mut self, place: Place, kind: u8, is_xml: bool) {
        let Some(location) = self.location(place) else {
            return;
        };
        if location.owner.client != NO_CLIENT {
            return;
        }
        let seen = match kind {
            GC | DELETED => return,
            _ if location.key != 0 => KEYED,
            STRING | FORMAT | EMBED => TEXT,
            _ if is_xml => XML,
            _ => LIST,
        };
        let index = location.owner.clock as usize;
        if let Some(content) = self.content.get_mut(index)
            && *content & seen == 0
        {
            self.content_before.push((index, *content));
            *content |= seen;
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

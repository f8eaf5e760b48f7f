//! Which root types a document has and what is in them, found in its updates: a document itself does not say it.
//!
//! Most structs do not name their parent but stand beside a neighbour, which has it from its own neighbour and so on. So for every
//! clock tick of every client it is remembered, in runs, in which root type it is, if it is in one.

use std::collections::BTreeMap;

use crate::encoding::Reader;
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{DELETED, EMBED, FORMAT, GC, Id, Parent, SKIP, STRING, TYPE, Update, read_struct};

/// What is in a root type: one bit for each kind of content.
pub(crate) struct Kinds;

impl Kinds {
    /// Characters.
    pub(crate) const TEXT: u8 = 1;
    /// List elements.
    pub(crate) const LIST: u8 = 2;
    /// XML nodes.
    pub(crate) const XML: u8 = 4;
    /// Values under keys.
    pub(crate) const KEYED: u8 = 8;
}

/// The reference of a type that is a fragment: no client puts it beside XML nodes, but lists of them exist.
const XML_FRAGMENT: u8 = 4;

/// Where a struct is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a nested type, or in one that was collected.
    Elsewhere,
    /// In the list of a root type, or under one of its keys.
    Root { index: u32, keyed: bool },
}

/// What a struct of an update says of its place.
#[derive(Debug, Clone, Copy)]
enum Link {
    Known(Place),
    Beside(Id),
    /// Somebody is asking for it already.
    Asked,
}

#[derive(Debug, Clone, Copy)]
struct New {
    start: u32,
    link: Link,
    /// What kind of content a list that it is in has.
    kind: u8,
}

/// The root types of a document.
#[derive(Debug, Default)]
pub(crate) struct Roots {
    names: BTreeMap<Box<str>, u32>,
    kinds: Vec<u8>,
    /// For each client runs that begin at a clock and go on until the next one.
    runs: BTreeMap<ClientId, Vec<(u32, Place)>>,
}

impl Roots {
    /// The names in order, each with the kinds of content seen in it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u8)> {
        self.names
            .iter()
            .map(|(name, &index)| (&**name, self.kinds.get(index as usize).copied().unwrap_or(0)))
    }

    /// Takes note of an update. What it depends on should have been seen before or be in it.
    pub(crate) fn learn(&mut self, update: &Update) {
        let mut sections = self.read(update);
        let places: Vec<_> = (0..sections.len())
            .flat_map(|section| {
                let count = sections.get(section).map_or(0, |(_, structs)| structs.len());
                (0..count).map(move |index| (section, index))
            })
            .collect();
        let mut path = Vec::new();
        for (section, index) in places {
            self.resolve(&mut sections, section, index, &mut path);
        }
        for (client, structs) in sections {
            let runs = self.runs.entry(client).or_default();
            for new in structs {
                let Link::Known(place) = new.link else { continue };
                if runs
                    .last()
                    .is_none_or(|&(start, last)| start <= new.start && last != place)
                {
                    runs.push((new.start, place));
                }
                if let Place::Root { index, keyed } = place
                    && let Some(kinds) = self.kinds.get_mut(index as usize)
                {
                    // What was under a key was in a map, also when it is deleted.
                    *kinds |= if keyed { Kinds::KEYED } else { new.kind };
                }
            }
        }
    }

    /// The structs of an update with what they say of themselves, by client.
    fn read(&mut self, update: &Update) -> Vec<(ClientId, Vec<New>)> {
        let limits = Limits::trusted();
        let mut sections = Vec::with_capacity(update.sections().len());
        for section in update.sections() {
            let mut structs = Vec::new();
            let mut reader = Reader::starting_at(update.bytes(), section.first as usize);
            let mut clock = section.start;
            while clock < section.end {
                // They were read when the update was parsed.
                let Ok(read) = read_struct::<true>(&mut reader, &limits) else {
                    break;
                };
                let link = match (read.kind(), read.origin.or(read.right_origin), read.parent) {
                    (GC | SKIP, ..) | (_, None, None | Some(Parent::Nested(_))) => {
                        Link::Known(Place::Elsewhere)
                    }
                    (_, Some(neighbour), _) => Link::Beside(neighbour),
                    (_, None, Some(Parent::Root(name))) => Link::Known(Place::Root {
                        index: self.root(name),
                        keyed: read.key.is_some(),
                    }),
                };
                let kind = match read.kind() {
                    GC | SKIP | DELETED => 0,
                    STRING | FORMAT | EMBED => Kinds::TEXT,
                    TYPE if read.is_xml && update.bytes().get(read.content) != Some(&XML_FRAGMENT) => {
                        Kinds::XML
                    }
                    _ => Kinds::LIST,
                };
                structs.push(New {
                    start: clock,
                    link,
                    kind,
                });
                clock = clock.saturating_add(read.length);
            }
            sections.push((section.client, structs));
        }
        sections.sort_by_key(|&(client, _)| client);
        sections
    }

    fn root(&mut self, name: &str) -> u32 {
        if let Some(&index) = self.names.get(name) {
            return index;
        }
        let index = self.kinds.len() as u32;
        self.names.insert(name.into(), index);
        self.kinds.push(0);
        index
    }

    /// Follows neighbours until one is known to be somewhere, and notes it for all on the way.
    fn resolve(
        &self,
        sections: &mut [(ClientId, Vec<New>)],
        section: usize,
        index: usize,
        path: &mut Vec<(usize, usize)>,
    ) {
        let mut here = (section, index);
        let place = loop {
            let Some(new) = at(sections, here) else {
                break Place::Elsewhere;
            };
            match new.link {
                Link::Known(place) => break place,
                Link::Asked => break Place::Elsewhere,
                Link::Beside(neighbour) => {
                    new.link = Link::Asked;
                    path.push(here);
                    match find(sections, neighbour) {
                        Some(next) => here = next,
                        None => break self.place(neighbour),
                    }
                }
            }
        };
        for here in path.drain(..) {
            if let Some(new) = at(sections, here) {
                new.link = Link::Known(place);
            }
        }
    }

    fn place(&self, id: Id) -> Place {
        let place = self.runs.get(&id.client).and_then(|runs| {
            let after = runs.partition_point(|&(start, _)| start <= id.clock);
            runs.get(after.checked_sub(1)?)
        });
        place.map_or(Place::Elsewhere, |&(_, place)| place)
    }
}

fn at(sections: &mut [(ClientId, Vec<New>)], (section, index): (usize, usize)) -> Option<&mut New> {
    sections.get_mut(section)?.1.get_mut(index)
}

/// The struct of the update that has this tick.
fn find(sections: &[(ClientId, Vec<New>)], id: Id) -> Option<(usize, usize)> {
    let section = sections
        .binary_search_by_key(&id.client, |&(client, _)| client)
        .ok()?;
    let (_, structs) = sections.get(section)?;
    let after = structs.partition_point(|new| new.start <= id.clock);
    Some((section, after.checked_sub(1)?))
}

//! Decides whether an update can enter a document, and what in it is new, before anything else sees it.
//!
//! The document library must never hold anything back for later: with a gap it shows text that Yjs hides, keeps hostile
//! leftovers for ever, and has been seen to use freed memory. So an update is admitted only when everything it depends
//! on is there, in an order that exists, and it is cut down to what is new.

mod lineage;

use std::cmp::Reverse;

use smallvec::SmallVec;

use crate::document::Missing;
use crate::encoding::Reader;
use crate::error::Refusal;
use crate::id_set::{ClockRange, IdRange, IdSet, normalize};
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{
    DELETED, DOC, GC, Id, Keep, Parent, SKIP, Section, Struct, TYPE, Update, read_struct, trimmed,
};
use lineage::{Kind, Lineage, Mark, Place};

/// What a gate says to an update.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// All of it, or what is left in the update now, is new.
    New(Update),
    Known,
    Early(Update, Missing),
}

/// What is known of a document: enough to judge the next update, not its content.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    known: StateVector,
    lineage: Lineage,
    deleted: IdSet,
    has_subdocuments: bool,
}

/// A section that has something new, while it is walked.
struct Fresh {
    /// Index in the update, and in the state vector.
    section: usize,
    place: usize,
    client: ClientId,
    /// What was known before.
    before: u32,
    /// The next struct: where it is and its clock.
    at: usize,
    clock: u32,
    end: u32,
    /// Waits for another section.
    waiting: bool,
    in_list: bool,
}

enum Stop {
    Early(Missing),
    Refused(Refusal),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// How far one section could be walked.
enum Walked {
    Enough,
    WaitsFor { fresh: usize, clock: u32 },
}

type FreshList = SmallVec<[Fresh; 1]>;

impl Gate {
    /// Whether a subdocument was ever in the document.
    pub(crate) fn has_subdocuments(&self) -> bool {
        self.has_subdocuments
    }

    pub(crate) fn known(&self) -> &StateVector {
        &self.known
    }

    /// The root types in name order with the kinds of content seen in them.
    pub(crate) fn roots(&self) -> impl Iterator<Item = (&str, u8)> {
        self.lineage.roots()
    }

    /// Learns of deletes that follow from others, such as of what was inside a deleted type.
    pub(crate) fn learn_deleted(&mut self, ranges: &mut Vec<IdRange>) {
        self.deleted.insert_all(ranges);
    }

    /// Judges an update and, when it is new, takes it to be part of the document from now on.
    pub(crate) fn admit(&mut self, update: Update, limits: &Limits) -> Result<Verdict, Refusal> {
        let mut fresh = match self.fresh_sections(&update) {
            Ok(fresh) => fresh,
            Err(missing) => return Ok(Verdict::Early(update, missing)),
        };
        if fresh.len() > limits.max_clients_per_update {
            return Err(Refusal::TooManyClients {
                limit: limits.max_clients_per_update,
            });
        }
        let mark = self.lineage.mark();
        self.make_places(&mut fresh);
        let mut walk = Walk {
            update: &update,
            limits,
            buried: SmallVec::new(),
            deletes: None,
        };
        let mut new_deletes = SmallVec::new();
        let judged = self
            .walk(&mut walk, &mut fresh)
            .and_then(|()| self.new_deletes(&update, &mut new_deletes));
        let buried = walk.buried;
        match judged {
            Ok(all_deletes_new) => {
                if new_deletes.len() + buried.len() > 8 {
                    self.deleted
                        .insert_all(&mut new_deletes.iter().chain(&buried).copied().collect());
                } else {
                    for IdRange { client, range } in new_deletes.iter().chain(&buried) {
                        self.deleted.insert(*client, *range);
                    }
                }
                self.lineage.keep(mark);
                Ok(finish(update, &fresh, new_deletes, all_deletes_new))
            }
            Err(stop) => {
                self.undo(&fresh, mark);
                match stop {
                    Stop::Early(missing) => Ok(Verdict::Early(update, missing)),
                    Stop::Refused(refusal) => Err(refusal),
                }
            }
        }
    }

    /// Whether an update would bring nothing new.
    pub(crate) fn contains(&self, update: &Update) -> bool {
        let mut new = SmallVec::new();
        self.fresh_sections(update).is_ok_and(|fresh| fresh.is_empty())
            && self.new_deletes(update, &mut new).is_ok()
            && new.is_empty()
    }

    fn fresh_sections(&self, update: &Update) -> Result<FreshList, Missing> {
        let mut fresh = FreshList::new();
        for (index, section) in update.sections().iter().enumerate() {
            let before = self.known.get(section.client);
            if section.start > before {
                return Err(Missing {
                    client: section.client,
                    clock: section.start,
                });
            }
            if section.end > before {
                fresh.push(Fresh {
                    section: index,
                    place: 0,
                    client: section.client,
                    before,
                    at: section.first as usize,
                    clock: section.start,
                    end: section.end,
                    waiting: false,
                    in_list: false,
                });
            }
        }
        if !fresh.is_sorted_by(|left, right| left.client > right.client) {
            fresh.sort_unstable_by_key(|entry| Reverse(entry.client));
        }
        Ok(fresh)
    }

    /// Gives every author a place in the state vector, so that places do not move while the update is walked.
    fn make_places(&mut self, fresh: &mut [Fresh]) {
        let new = fresh
            .iter()
            .rev()
            .filter(|entry| entry.before == 0)
            .map(|entry| entry.client);
        let new: SmallVec<[ClientId; 1]> = new.collect();
        if !new.is_empty() {
            self.known.insert_unknown(&new);
            self.lineage.insert_clients(&new);
        }
        for entry in fresh {
            entry.place = self.known.position(entry.client).unwrap_or_else(|place| place);
            self.lineage.begin(entry.place);
        }
    }

    fn undo(&mut self, fresh: &[Fresh], mark: Mark) {
        self.lineage.undo(mark);
        for entry in fresh {
            self.known.set_at(entry.place, entry.before);
        }
        if fresh.iter().any(|entry| entry.before == 0) {
            self.known.remove_unknown();
            self.lineage.remove_unknown();
        }
    }

    /// Walks all sections in an order in which they can be applied, which the document library then also finds.
    fn walk(&mut self, walk: &mut Walk<'_>, fresh: &mut [Fresh]) -> Result<(), Stop> {
        let mut stack: SmallVec<[(usize, u32); 4]> = SmallVec::new();
        for bottom in 0..fresh.len() {
            stack.push((bottom, u32::MAX));
            while let Some(&(index, until)) = stack.last() {
                match self.walk_section(walk, fresh, index, until)? {
                    Walked::Enough => {
                        stack.pop();
                    }
                    Walked::WaitsFor { fresh: other, clock } => {
                        let client = fresh.get(other).map_or(ClientId(0), |entry| entry.client);
                        if let Some(entry) = fresh.get_mut(index) {
                            entry.waiting = true;
                        }
                        if fresh.get(other).is_none_or(|entry| entry.waiting) {
                            return Err(Refusal::Cyclic { client }.into());
                        }
                        stack.push((other, clock));
                    }
                }
            }
        }
        Ok(())
    }

    /// Walks one section until its end or clock `until`.
    fn walk_section(
        &mut self,
        walk: &mut Walk<'_>,
        fresh: &mut [Fresh],
        index: usize,
        until: u32,
    ) -> Result<Walked, Stop> {
        loop {
            let Some(entry) = fresh.get(index) else {
                return Ok(Walked::Enough);
            };
            if entry.clock >= entry.end || entry.clock >= until {
                return Ok(Walked::Enough);
            }
            let mut reader = Reader::starting_at(walk.update.bytes(), entry.at);
            let Ok(read) = read_struct::<true>(&mut reader, &Limits::trusted()) else {
                debug_assert!(false, "the structs were checked when the update was parsed");
                return Err(Refusal::Cyclic { client: entry.client }.into());
            };
            let end = entry.clock + read.length;
            let known = self.known.clock_at(entry.place);
            let mut in_list = None;
            if end > known {
                let here = Here {
                    client: entry.client,
                    place: entry.place,
                    clock: known,
                    cut: known > entry.clock,
                };
                if let Some((other, clock)) = self.check_dependencies(&read, &here, fresh)? {
                    return Ok(Walked::WaitsFor { fresh: other, clock });
                }
                if read.kind() == SKIP {
                    return Err(Stop::Early(Missing {
                        client: here.client,
                        clock: end,
                    }));
                }
                in_list = Some(self.enter(walk, &read, &here, end)?);
                if matches!(read.kind(), GC | DELETED) {
                    bury(&mut walk.buried, here.client, ClockRange { start: known, end });
                }
            }
            let Some(entry) = fresh.get_mut(index) else {
                return Ok(Walked::Enough);
            };
            if let Some(in_list) = in_list
                && (known == entry.before)
            {
                entry.in_list = in_list;
            }
            entry.waiting = false;
            entry.clock = end;
            entry.at = reader.position();
        }
    }

    /// Says which other section has to be walked first, if any.
    fn check_dependencies(
        &self,
        read: &Struct<'_>,
        here: &Here,
        fresh: &[Fresh],
    ) -> Result<Option<(usize, u32)>, Stop> {
        let parent = match read.parent {
            Some(Parent::Nested(id)) => Some(id),
            Some(Parent::Root(_)) | None => None,
        };
        let inherited = if here.cut {
            [None, read.right_origin, None]
        } else {
            [read.origin, read.right_origin, parent]
        };
        for id in inherited.into_iter().flatten() {
            if id.client == here.client {
                if id.clock >= here.clock {
                    return Err(Refusal::Cyclic { client: here.client }.into());
                }
            } else if self.known.get(id.client) <= id.clock {
                let clock = id.clock + 1;
                let other = fresh
                    .binary_search_by_key(&Reverse(id.client), |entry| Reverse(entry.client))
                    .ok();
                return match other {
                    Some(other) if fresh.get(other).is_some_and(|entry| entry.end >= clock) => {
                        Ok(Some((other, clock)))
                    }
                    _ => Err(Stop::Early(Missing {
                        client: id.client,
                        clock,
                    })),
                };
            }
        }
        Ok(None)
    }

    /// Records a struct whose dependencies are there; says whether it is in a list.
    fn enter(
        &mut self,
        walk: &mut Walk<'_>,
        read: &Struct<'_>,
        here: &Here,
        end: u32,
    ) -> Result<bool, Refusal> {
        let place = self.place_of(walk, read, here)?;
        let kind = match read.kind() {
            TYPE => Kind::Type,
            DELETED => Kind::Deleted,
            _ => Kind::Plain,
        };
        if kind == Kind::Type && self.lineage.depth(place) >= walk.limits.max_nesting {
            return Err(Refusal::NestingTooDeep {
                limit: walk.limits.max_nesting,
            });
        }
        self.lineage.push(here.place, here.clock, place, kind);
        self.lineage.note_content(place, read.kind(), read.is_xml);
        self.has_subdocuments |= read.kind() == DOC;
        self.known.set_at(here.place, end);
        Ok(self.lineage.is_list(place))
    }

    /// Where a struct goes, as Yjs finds it: from its neighbours, else from the parent it names.
    fn place_of(&mut self, walk: &mut Walk<'_>, read: &Struct<'_>, here: &Here) -> Result<Place, Refusal> {
        if read.kind() == GC {
            return Ok(Place::GONE);
        }
        let left = match read.origin {
            _ if here.cut => Some(Id {
                client: here.client,
                clock: here.clock - 1,
            }),
            origin => origin,
        };
        let left = left.map(|id| self.place_at(id, here));
        let right = read.right_origin.map(|id| self.place_at(id, here));
        match (left, right) {
            (Some((left, _)), Some((right, _))) => self.common_place(walk, left, right, here),
            (Some((place, _)), None) | (None, Some((place, _))) => Ok(place),
            (None, None) => match read.parent {
                Some(Parent::Root(name)) => Ok(self.lineage.root_place(name, read.key)),
                Some(Parent::Nested(id)) => match self.place_at(id, here) {
                    (Place::GONE, _) | (_, Kind::Deleted) => Ok(Place::GONE),
                    (place, Kind::Type) => Ok(self.lineage.nested_place(id, place, read.key)),
                    (_, Kind::Plain) => Err(Refusal::ParentNotAType {
                        client: here.client,
                        clock: here.clock,
                    }),
                },
                None => Ok(Place::GONE),
            },
        }
    }

    fn common_place(
        &self,
        walk: &mut Walk<'_>,
        left: Place,
        right: Place,
        here: &Here,
    ) -> Result<Place, Refusal> {
        if self.lineage.same(left, right) {
            return Ok(left);
        }
        // What stands next to something collected belongs to a deleted type, and is collected too.
        let other = match (left, right) {
            (Place::GONE, other) | (other, Place::GONE) => Some(other),
            _ => None,
        };
        match other {
            Some(place) if self.is_dead(walk, place) => Ok(Place::GONE),
            _ => Err(Refusal::TornNeighbours {
                client: here.client,
                clock: here.clock,
            }),
        }
    }

    /// Whether a type, or one that it is in, is deleted, by this update or before.
    fn is_dead(&self, walk: &mut Walk<'_>, mut place: Place) -> bool {
        while let Some(owner) = self.lineage.owner(place) {
            if self.deleted.contains(owner.client, owner.clock)
                || walk.deletes().contains(owner.client, owner.clock)
            {
                return true;
            }
            let Ok(index) = self.known.position(owner.client) else {
                return false;
            };
            match self.lineage.at(index, owner.clock) {
                (Place::GONE, _) | (_, Kind::Deleted) => return true,
                (outer, _) => place = outer,
            }
        }
        place == Place::GONE
    }

    fn place_at(&self, id: Id, here: &Here) -> (Place, Kind) {
        if id.client == here.client {
            return self.lineage.at(here.place, id.clock);
        }
        match self.known.position(id.client) {
            Ok(index) => self.lineage.at(index, id.clock),
            Err(_) => (Place::GONE, Kind::Plain),
        }
    }

    /// Collects the deletes that are new, and says whether all are.
    fn new_deletes(&self, update: &Update, new: &mut SmallVec<[IdRange; 4]>) -> Result<bool, Stop> {
        let mut missing = None;
        let mut all_new = true;
        update.each_delete(|IdRange { client, range }| {
            if self.known.get(client) < range.end {
                missing.get_or_insert(Missing {
                    client,
                    clock: range.end,
                });
                return;
            }
            self.deleted.missing_from(client, range, |part| {
                all_new &= part == range;
                new.push(IdRange { client, range: part });
            });
        });
        match missing {
            Some(missing) => Err(Stop::Early(missing)),
            None => Ok(all_new && new.len() == update.delete_range_count()),
        }
    }
}

/// An update being walked.
struct Walk<'a> {
    update: &'a Update,
    limits: &'a Limits,
    /// What arrived deleted.
    buried: SmallVec<[IdRange; 1]>,
    deletes: Option<IdSet>,
}

impl Walk<'_> {
    /// What the update deletes, sorted at the first question.
    fn deletes(&mut self) -> &IdSet {
        self.deletes.get_or_insert_with(|| {
            let mut set = IdSet::default();
            self.update
                .each_delete(|found| set.insert(found.client, found.range));
            set
        })
    }
}

/// The struct being walked.
struct Here {
    client: ClientId,
    /// Of the client in the state vector.
    place: usize,
    /// The first clock of the struct that is new.
    clock: u32,
    /// The struct begins before that: its known part will be its origin.
    cut: bool,
}

fn bury(buried: &mut SmallVec<[IdRange; 1]>, client: ClientId, range: ClockRange) {
    match buried.last_mut() {
        Some(last) if last.client == client && last.range.end == range.start => last.range.end = range.end,
        _ => buried.push(IdRange { client, range }),
    }
}

/// Cuts an update down to what is new.
fn finish(
    mut update: Update,
    fresh: &[Fresh],
    mut deletes: SmallVec<[IdRange; 4]>,
    all_deletes_new: bool,
) -> Verdict {
    if fresh.is_empty() && deletes.is_empty() {
        return Verdict::Known;
    }
    let sections = update.sections();
    let starts_where_known_ends = |entry: &Fresh| {
        sections
            .get(entry.section)
            .is_some_and(|section: &Section| section.start == entry.before)
    };
    let all_structs_new = fresh.len() == sections.len() && fresh.iter().all(starts_where_known_ends);
    if all_structs_new && all_deletes_new && !update.must_rewrite() {
        for entry in fresh {
            if let Some(section) = update.sections_mut().get_mut(entry.section) {
                section.in_list = entry.in_list;
            }
        }
        return Verdict::New(update);
    }
    let keep: SmallVec<[Keep; 1]> = fresh
        .iter()
        .map(|entry| Keep {
            section: entry.section,
            from: entry.before,
            in_list: entry.in_list,
        })
        .collect();
    if all_deletes_new && !update.must_rewrite() {
        return Verdict::New(trimmed(&update, &keep, None));
    }
    let mut sorted = deletes.drain(..).collect();
    normalize(&mut sorted);
    Verdict::New(trimmed(&update, &keep, Some(&sorted)))
}

//! Decides what of an update can be integrated, and takes that into the store.
//!
//! Per client and struct, as Yjs does: a struct can be integrated when all earlier ticks of its client, its neighbours and the type that
//! it names are there. Each client's structs are walked as far as they go; when another client's have come far enough, the walk goes
//! on. Every struct is looked at once, and once more each time it had to wait: linear in the bytes, times the logarithm of what is
//! looked up, whatever the update says.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::division::{Cursor, Cursors, Deletes, TakenIn, divide};
use super::lineage::{Kind, Place, Put};
use super::{Section, StructStore};
use crate::document::Missing;
use crate::encoding::Reader;
use crate::error::{ApplyError, Refusal};
use crate::id_set::{ClockRange, IdRange, IdSet, normalize};
use crate::limits::Limits;
use crate::state_vector::ClientId;
use crate::update::{
    DELETED, GC, Id, Parent, SKIP, Struct, TYPE, Update, read_head, read_struct, without_right_origins,
};

/// The struct being walked.
struct Here {
    client: ClientId,
    start: u32,
    /// The first clock of the struct that is new.
    clock: u32,
    end: u32,
}

impl Here {
    /// The struct begins before what is new of it: its known part will be its origin.
    fn is_cut(&self) -> bool {
        self.start < self.clock
    }

    fn before(&self) -> Id {
        Id {
            client: self.client,
            clock: self.clock.wrapping_sub(1),
        }
    }
}

/// What was noted of the structs of an update.
#[derive(Default)]
struct Notes {
    /// What is put under keys.
    puts: Vec<Put>,
    /// The structs whose right origin stands before where they go: see [`is_typed_on`](super::lineage::Lineage::is_typed_on).
    astray: BTreeSet<Id>,
}

impl StructStore {
    /// Takes in what can be integrated of an update.
    ///
    /// # Errors
    /// When a struct contradicts itself or what is there; nothing was changed.
    pub(crate) fn take_in(&mut self, update: Update, limits: &Limits) -> Result<TakenIn, Refusal> {
        let mut cursors = self.cursors(&update);
        if cursors.len() > limits.max_clients_per_update {
            return Err(Refusal::TooManyClients {
                limit: limits.max_clients_per_update,
            });
        }
        let mut notes = Notes::default();
        let walked = self.walk_all(&update, &mut cursors, &mut notes, limits);
        let Notes { puts, astray } = notes;
        let judged = walked.and_then(|()| judge_puts(&update, &puts, limits));
        if judged.is_err() || !astray.is_empty() {
            self.lineage.take_back();
            for cursor in &cursors {
                self.known.set_back(cursor.section.client, cursor.before);
            }
            judged?;
            let update = without_right_origins(&update, |id| astray.contains(&id));
            return self.take_in(update.map_err(|_| ApplyError::Corrupt)?, limits);
        }
        self.lineage.keep();
        let mut deletes = self.judge_deletes(&update);
        let new: Vec<_> = cursors.iter().filter_map(Cursor::new_part).collect();
        let mut come_deleted = Vec::new();
        for keep in &new {
            self.append(update.bytes(), &keep.section, keep.from, &mut come_deleted);
        }
        let gone = self.dead_among(&new);
        let mut deleted = deletes.add(&come_deleted);
        let mut replaced = Vec::new();
        for put in &puts {
            self.lineage.put(put, &mut replaced);
        }
        deleted.extend(replaced.into_iter().map(|Id { client, clock }| {
            let end = clock + 1;
            IdRange {
                client,
                range: ClockRange { start: clock, end },
            }
        }));
        self.delete(deleted, gone);
        Ok(divide(update, &cursors, deletes))
    }

    /// A cursor for each client of whom something is new.
    fn cursors(&self, update: &Update) -> Cursors {
        let sections = update.sections().iter();
        let mut cursors: Cursors = sections
            .filter_map(|section| {
                let before = self.known.get(section.client);
                (section.end > before).then_some(Cursor {
                    section: *section,
                    before,
                    at: section.first,
                    clock: section.start,
                    walked: 0,
                    last: section.first,
                    early: (section.first, section.start, 0),
                    in_list: false,
                    waits_for: None,
                })
            })
            .collect();
        if !cursors.is_sorted_by(|left, right| left.section.client > right.section.client) {
            cursors.sort_unstable_by_key(|cursor| Reverse(cursor.section.client));
        }
        cursors
    }

    fn walk_all(
        &mut self,
        update: &Update,
        cursors: &mut Cursors,
        notes: &mut Notes,
        limits: &Limits,
    ) -> Result<(), Refusal> {
        let mut waiting: BTreeMap<(ClientId, u32), Vec<usize>> = BTreeMap::new();
        let mut next: SmallVec<[usize; 4]> = (0..cursors.len()).rev().collect();
        while let Some(index) = next.pop() {
            let Some(cursor) = cursors.get_mut(index) else {
                continue;
            };
            cursor.waits_for = self.walk(update, cursor, notes, limits)?;
            if let Some(Missing { client, clock }) = cursor.waits_for {
                waiting.entry((client, clock)).or_default().push(index);
            }
            let client = cursor.section.client;
            let known = self.known.get(client);
            while let Some((&found, _)) = waiting.range((client, 0)..=(client, known)).next() {
                next.extend(waiting.remove(&found).unwrap_or_default());
            }
        }
        Ok(())
    }

    /// Walks one client's structs as far as they can be integrated; says what is missing for the next.
    fn walk(
        &mut self,
        update: &Update,
        cursor: &mut Cursor,
        notes: &mut Notes,
        limits: &Limits,
    ) -> Result<Option<Missing>, Refusal> {
        let client = cursor.section.client;
        let mut reader = Reader::starting_at(update.bytes(), cursor.at as usize);
        let mut known = self.known.get(client);
        while !cursor.is_done() {
            if cursor.clock > known {
                return Ok(cursor.step_over_skips(update));
            }
            let at = reader.position() as u32;
            let Some(read) = read_next(&mut reader, &cursor.section) else {
                debug_assert!(false, "the structs were checked when the update was parsed");
                return Err(Refusal::Cyclic { client });
            };
            let end = cursor.clock + read.length;
            if end > known {
                let here = Here {
                    client,
                    start: cursor.clock,
                    clock: known,
                    end,
                };
                if read.kind() == SKIP {
                    return Ok(cursor.step_over_skips(update));
                }
                if let Some(missing) = self.missing_for(&read, &here)? {
                    cursor.early = (at, cursor.clock, cursor.walked);
                    return Ok(Some(missing));
                }
                let place = self.enter(&read, &here, notes, limits)?;
                if known == cursor.before {
                    cursor.in_list = self.lineage.is_list(place);
                }
                self.known.advance(client, end);
                known = end;
            }
            cursor.last = at;
            cursor.at = reader.position() as u32;
            cursor.walked += 1;
            cursor.clock = end;
        }
        Ok(None)
    }

    /// What has to be there before a struct, if anything is not.
    fn missing_for(&self, read: &Struct<'_>, here: &Here) -> Result<Option<Missing>, Refusal> {
        let parent = match read.parent {
            Some(Parent::Nested(id)) => Some(id),
            Some(Parent::Root(_)) | None => None,
        };
        let named = match here.is_cut() {
            true => [None, read.right_origin, None],
            false => [read.origin, read.right_origin, parent],
        };
        for id in named.into_iter().flatten() {
            if id.client == here.client {
                if id.clock >= here.clock {
                    return Err(Refusal::Cyclic { client: here.client });
                }
            } else if self.known.get(id.client) <= id.clock {
                return Ok(Some(Missing {
                    client: id.client,
                    clock: id.clock + 1,
                }));
            }
        }
        Ok(None)
    }

    /// Notes where a struct belongs whose neighbours are there.
    fn enter(
        &mut self,
        read: &Struct<'_>,
        here: &Here,
        notes: &mut Notes,
        limits: &Limits,
    ) -> Result<Place, Refusal> {
        let origin = match here.is_cut() {
            true => Some(here.before()),
            false => read.origin,
        };
        let (client, clock) = (here.client, here.clock);
        if let (Some(origin), Some(right)) = (origin, read.right_origin)
            && self.lineage.is_typed_on(right, origin)
        {
            let clock = here.start;
            if read.origin.is_some() {
                notes.astray.insert(Id { client, clock });
            } else if limits.refuses_contradictions {
                return Err(Refusal::Cyclic { client });
            }
        }
        let place = self.place_of(read, origin, here)?;
        let kind = match read.kind() {
            TYPE => Kind::Type,
            DELETED => Kind::Deleted,
            _ => Kind::Plain,
        };
        if kind == Kind::Type && self.lineage.depth(place) >= limits.max_nesting {
            return Err(Refusal::NestingTooDeep {
                limit: limits.max_nesting,
            });
        }
        let range = ClockRange {
            start: clock,
            end: here.end,
        };
        self.lineage.push(client, range, place, kind);
        if origin != Some(here.before()) && self.lineage.is_list(place) {
            self.lineage.start(client, clock);
        }
        if self.lineage.is_keyed(place) && read.kind() != GC {
            notes.puts.push(Put {
                place,
                origin,
                has_right_origin: read.right_origin.is_some(),
                client,
                range,
                may_live: kind != Kind::Deleted,
            });
        }
        Ok(place)
    }

    /// Where a struct goes, as Yjs finds it: from its neighbours, else from the parent it names.
    fn place_of(&mut self, read: &Struct<'_>, origin: Option<Id>, here: &Here) -> Result<Place, Refusal> {
        if read.kind() == GC {
            return Ok(Place::COLLECTED);
        }
        let left = origin.map(|id| self.lineage.at(id).0);
        let right = read.right_origin.map(|id| self.lineage.at(id).0);
        match (left, right) {
            (Some(left), Some(right)) => self.common_place(left, right, here),
            (Some(place), None) | (None, Some(place)) => Ok(place),
            (None, None) => match read.parent {
                Some(Parent::Root(name)) => Ok(self.lineage.root_place(name, read.key)),
                Some(Parent::Nested(id)) => match self.lineage.at(id) {
                    (Place::COLLECTED, _) | (_, Kind::Deleted) => Ok(Place::COLLECTED),
                    (place, Kind::Type) => Ok(self.lineage.nested_place(id, place, read.key)),
                    (_, Kind::Plain) => Err(Refusal::ParentNotAType {
                        client: here.client,
                        clock: here.clock,
                    }),
                },
                None => Ok(Place::COLLECTED),
            },
        }
    }

    fn common_place(&self, left: Place, right: Place, here: &Here) -> Result<Place, Refusal> {
        if left == right {
            return Ok(left);
        }
        // What stands next to something collected belongs to a type that is gone, and is collected too. Whether the other neighbour is
        // gone already or goes with what has not arrived yet, the place is the same: nowhere.
        if left == Place::COLLECTED || right == Place::COLLECTED {
            return Ok(Place::COLLECTED);
        }
        Err(Refusal::InconsistentOrigins {
            client: here.client,
            clock: here.clock,
        })
    }

    /// Divides the deletes of an update into those that are known, those that are new, and those of what has not arrived.
    fn judge_deletes(&self, update: &Update) -> Deletes {
        let mut deletes = Deletes {
            all_new: true,
            ..Deletes::default()
        };
        let mut named = Vec::with_capacity(update.delete_range_count());
        update.each_delete(|range| named.push(range));
        if update.must_rewrite() {
            // What is named twice would be looked up twice, however much of the document it is.
            normalize(&mut named);
        }
        let mut count = 0;
        for IdRange { client, range } in named {
            let known = self.known.get(client);
            if range.end > known {
                let start = range.start.max(known);
                let range = ClockRange { start, ..range };
                deletes.early.push(IdRange { client, range });
            }
            let there = ClockRange {
                end: range.end.min(known),
                ..range
            };
            if there.start < there.end {
                self.deleted.missing_from(client, there, |part| {
                    deletes.all_new &= part == range;
                    deletes.new.push(IdRange { client, range: part });
                    count += 1;
                });
            }
        }
        deletes.all_new &= count == update.delete_range_count();
        deletes
    }
}

/// Under a key each value is one tick. Only where nothing is collected, several that are deleted stand in one struct.
fn judge_puts(update: &Update, puts: &[Put], limits: &Limits) -> Result<(), Refusal> {
    if !limits.refuses_contradictions || !puts.iter().any(is_long) {
        return Ok(());
    }
    let mut deleted = IdSet::default();
    update.each_delete(|IdRange { client, range }| deleted.insert(client, range));
    for &Put { client, range, .. } in puts.iter().filter(|put| is_long(put)) {
        if !deleted.contains_all(client, range) {
            let clock = range.start;
            return Err(Refusal::LongUnderKey { client, clock });
        }
    }
    Ok(())
}

fn is_long(put: &Put) -> bool {
    put.may_live && put.range.end - put.range.start > 1
}

/// Reads a struct. The length of a lone one is that of its section: its text need not be counted again.
fn read_next<'a>(reader: &mut Reader<'a>, section: &Section) -> Option<Struct<'a>> {
    if section.count == 1 {
        let mut read = read_head(reader).ok()?;
        read.length = section.end - section.start;
        let rest = (section.until as usize).checked_sub(reader.position())?;
        reader.exactly(rest).ok()?;
        return Some(read);
    }
    read_struct::<true>(reader, &Limits::trusted()).ok()
}

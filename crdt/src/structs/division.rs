//! Divides an update into what was taken in, as it is told to others, and what is early, as it is parked.

use smallvec::SmallVec;

use super::Section;
use crate::document::Missing;
use crate::encoding::Reader;
use crate::id_set::{IdRange, normalize, subtract};
use crate::limits::Limits;
use crate::update::{Keep, SKIP, Update, read_struct, trimmed};

/// What became of an update.
#[derive(Debug, Default)]
pub(crate) struct TakenIn {
    /// What was new and is in the store now: the update as it came, when all of it was.
    pub(crate) new: Option<Update>,
    /// What builds on something that is not there, in parts, each with the first thing that it misses.
    pub(crate) early: Vec<(Update, Missing)>,
}

/// One client's structs being walked.
pub(super) struct Cursor {
    pub(super) section: Section,
    /// What was known of the client before the update.
    pub(super) before: u32,
    /// The next struct: where it is and its clock.
    pub(super) at: u32,
    pub(super) clock: u32,
    /// How many structs have been walked, and where the last of them is.
    pub(super) walked: u32,
    pub(super) last: u32,
    /// Where the structs begin that are early: where, at which clock, behind how many others.
    pub(super) early: (u32, u32, u32),
    /// The first new struct is in a list.
    pub(super) in_list: bool,
    pub(super) waits_for: Option<Missing>,
}

pub(super) type Cursors = SmallVec<[Cursor; 1]>;

impl Cursor {
    pub(super) fn is_done(&self) -> bool {
        self.walked >= self.section.count
    }

    /// The part that was taken in and was not known before.
    pub(super) fn new_part(&self) -> Option<Keep> {
        (self.walked > 0 && self.clock > self.before).then(|| Keep {
            section: Section {
                end: self.clock,
                count: self.walked,
                last: self.last,
                until: self.at,
                in_list: self.in_list,
                ..self.section
            },
            from: self.before.max(self.section.start),
        })
    }

    fn early_part(&self) -> Option<Keep> {
        let (first, start, walked) = self.early;
        let is_early = self.waits_for.is_some() && start < self.section.end;
        is_early.then(|| Keep {
            section: Section {
                start,
                count: self.section.count - walked,
                first,
                in_list: false,
                ..self.section
            },
            from: start.max(self.before),
        })
    }

    /// Steps over skips, which say nothing; says what the structs behind them wait for, if there are any.
    pub(super) fn step_over_skips(&mut self, update: &Update) -> Option<Missing> {
        let (mut at, mut clock, mut walked) = (self.at, self.clock, self.walked);
        let mut reader = Reader::starting_at(update.bytes(), at as usize);
        while walked < self.section.count {
            let read = read_struct::<true>(&mut reader, &Limits::trusted()).ok()?;
            if read.kind() != SKIP {
                self.early = (at, clock, walked);
                return Some(Missing {
                    client: self.section.client,
                    clock,
                });
            }
            at = reader.position() as u32;
            clock += read.length;
            walked += 1;
        }
        None
    }
}

/// The deletes of an update, as far as anything is to be done about them.
#[derive(Default)]
pub(super) struct Deletes {
    pub(super) new: Vec<IdRange>,
    pub(super) early: Vec<IdRange>,
    /// Every range of the update is new, as written.
    pub(super) all_new: bool,
}

impl Deletes {
    /// Adds what is deleted because its struct came deleted, in order; gives what is deleted beside that. An update names what comes deleted
    /// too; where it stands in another part of it, which waited for something else, it must not be lost on those who have the struct as
    /// it was before.
    pub(super) fn add(&mut self, come_deleted: &[IdRange]) -> Vec<IdRange> {
        if come_deleted.is_empty() {
            return self.new.clone();
        }
        let mut named = self.new.clone();
        normalize(&mut named);
        let unnamed = subtract(come_deleted, &named);
        self.all_new &= unnamed.is_empty();
        self.new.extend(unnamed);
        subtract(&named, come_deleted)
    }
}

/// Deletes of this many ranges wait together: each is looked at again when the first of them can be taken in.
const DELETES_A_PART: usize = 64;

/// Structs of this many bytes wait together, for the same reason.
const BYTES_A_PART: u32 = 4096;

fn early_parts(update: &Update, cursors: &Cursors, deletes: &mut Vec<IdRange>) -> Vec<(Update, Missing)> {
    let mut parts = Vec::new();
    for cursor in cursors {
        let Some(keep) = cursor.early_part() else { continue };
        let mut first = cursor.waits_for;
        each_piece(update, &keep, |keep| {
            let own = Missing {
                client: keep.section.client,
                clock: keep.from,
            };
            parts.push((trimmed(update, &[keep], Some(&[])), first.take().unwrap_or(own)));
        });
    }
    normalize(deletes);
    for of_client in deletes.chunk_by(|left, right| left.client == right.client) {
        for some in of_client.chunks(DELETES_A_PART) {
            let Some(&IdRange { client, range }) = some.first() else {
                continue;
            };
            let missing = Missing {
                client,
                clock: range.start + 1,
            };
            parts.push((trimmed(update, &[], Some(some)), missing));
        }
    }
    parts
}

/// Takes early structs apart where they have gaps or are many: what is behind a gap waits for that, and each piece for the one before.
fn each_piece(update: &Update, keep: &Keep, mut found: impl FnMut(Keep)) {
    let Keep { section, from } = *keep;
    if !section.has_holes && section.until - section.first <= BYTES_A_PART {
        return found(*keep);
    }
    let mut reader = Reader::starting_at(update.bytes(), section.first as usize);
    let mut clock = section.start;
    let mut piece: Option<Section> = None;
    let mut told = |piece: &mut Option<Section>| {
        let Some(section) = piece.take() else { return };
        let from = from.max(section.start);
        if from < section.end {
            found(Keep { section, from });
        }
    };
    for _ in 0..section.count {
        let at = reader.position() as u32;
        let Ok(read) = read_struct::<true>(&mut reader, &Limits::trusted()) else {
            debug_assert!(false, "the structs were checked when the update was parsed");
            break;
        };
        let until = reader.position() as u32;
        if read.kind() == SKIP {
            told(&mut piece);
        } else {
            let piece_here = piece.get_or_insert(Section {
                start: clock,
                count: 0,
                first: at,
                has_holes: false,
                ..section
            });
            piece_here.end = clock + read.length;
            piece_here.count += 1;
            piece_here.last = at;
            piece_here.until = until;
            if until - piece_here.first >= BYTES_A_PART {
                told(&mut piece);
            }
        }
        clock += read.length;
    }
    told(&mut piece);
}

/// Divides an update into what was taken in and what is early.
pub(super) fn divide(mut update: Update, cursors: &Cursors, mut deletes: Deletes) -> TakenIn {
    let new: SmallVec<[Keep; 1]> = cursors.iter().filter_map(Cursor::new_part).collect();
    let early = early_parts(&update, cursors, &mut deletes.early);
    if new.is_empty() && deletes.new.is_empty() {
        return TakenIn { new: None, early };
    }
    let starts_where_known_ends = |keep: &Keep| keep.from == keep.section.start;
    let all_structs_new = new.len() == update.sections().len() && new.iter().all(starts_where_known_ends);
    let is_rewritten = update.must_rewrite() || !early.is_empty() || !deletes.all_new;
    let new = if all_structs_new && !is_rewritten {
        for keep in &new {
            let mut sections = update.sections_mut().iter_mut();
            if let Some(section) = sections.find(|section| section.client == keep.section.client) {
                section.in_list = keep.section.in_list;
            }
        }
        update
    } else if deletes.all_new && !is_rewritten {
        trimmed(&update, &new, None)
    } else {
        normalize(&mut deletes.new);
        trimmed(&update, &new, Some(&deletes.new))
    };
    TakenIn {
        new: Some(new),
        early,
    }
}

//! What a document weighs: how much of its encoded state is live content, and how much is left of what was deleted.

use crate::document::Document;
use crate::encoding::Reader;
use crate::error::ApplyError;
use crate::id_set::{ClockRange, IdSet};
use crate::limits::Limits;
use crate::update::{DELETED, GC, Update, read_struct};

/// The weight of a document, without what waits for something missing. Sizes are in bytes of the encoded state.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Weight {
    /// How many clients have written in it. Each is an entry of every state vector.
    pub clients: usize,
    /// How many structs the encoded state has, live or deleted.
    pub structs: usize,
    /// The content of what is live, without what says where that belongs.
    pub live_bytes: usize,
    /// What was deleted: the structs that are left of it, and the delete set.
    pub dead_bytes: usize,
    /// The whole encoded state.
    pub encoded_bytes: usize,
}

impl Weight {
    /// Whether nothing in the document can be left out: all of it is live, and of one client.
    pub fn is_least(&self) -> bool {
        self.clients <= 1 && self.dead_bytes == 0
    }
}

impl Document {
    /// What the document weighs. Takes time in proportion to its encoded state, which is made if it is not there.
    ///
    /// # Errors
    /// When the document broke.
    pub fn weight(&mut self) -> Result<Weight, ApplyError> {
        let bytes = match self.pending_bytes() {
            0 => self.encode()?,
            _ => self.admitted_since(&crate::StateVector::new())?,
        };
        let whole = Update::parse(bytes, &Limits::trusted()).map_err(|_| ApplyError::Corrupt)?;
        Ok(weigh(&whole))
    }
}

fn weigh(whole: &Update) -> Weight {
    let mut deleted = IdSet::default();
    whole.each_delete(|found| deleted.insert(found.client, found.range));
    let mut weight = Weight {
        clients: whole.sections().len(),
        encoded_bytes: whole.len(),
        ..Weight::default()
    };
    if whole.has_deletes() {
        weight.dead_bytes = whole.delete_set_bytes().len();
    }
    for section in whole.sections() {
        let mut clock = section.start;
        let mut reader = Reader::starting_at(whole.bytes(), section.first as usize);
        for _ in 0..section.count {
            let at = reader.position();
            let Ok(read) = read_struct::<true>(&mut reader, &Limits::trusted()) else {
                debug_assert!(false, "the structs were checked when the update was parsed");
                break;
            };
            weight.structs += 1;
            let end = clock + read.length;
            let mut dead = 0;
            deleted.common(section.client, ClockRange { start: clock, end }, |part| {
                dead += part.end - part.start;
            });
            if matches!(read.kind(), GC | DELETED) || dead == read.length {
                weight.dead_bytes += reader.position() - at;
            } else {
                // Where deleted content is kept, one struct may be both: each has its share of the bytes.
                let content = reader.position() - read.content;
                let of_dead = content as u64 * u64::from(dead) / u64::from(read.length);
                weight.dead_bytes += of_dead as usize;
                weight.live_bytes += content - of_dead as usize;
            }
            clock = end;
        }
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Write as _;

    /// A text "abcdef" of client 1 under `t`, and its ticks 1..3 deleted.
    fn document(keeps_deleted: bool) -> Document {
        let mut update = vec![1, 1, 1, 0, 4, 1, 1, b't'];
        update.put_string("abcdef");
        update.extend([1, 1, 1, 1, 2]);
        let limits = Limits {
            keeps_deleted,
            ..Limits::default()
        };
        Document::load(limits, [update.into()]).unwrap()
    }

    #[test]
    fn what_is_deleted_is_dead_weight() {
        // "a", then two deleted ticks behind it (head, client, clock; length), then "def" behind those.
        let found = document(false).weight().unwrap();
        let expected = Weight {
            clients: 1,
            structs: 3,
            live_bytes: 2 + 4,
            dead_bytes: 4 + 5,
            encoded_bytes: 4 + 6 + 4 + 7 + 5,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn of_a_struct_that_is_dead_in_part_the_content_is_shared() {
        let found = document(true).weight().unwrap();
        let expected = Weight {
            clients: 1,
            structs: 1,
            live_bytes: 5,
            dead_bytes: 2 + 5,
            encoded_bytes: 4 + 11 + 5,
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn nothing_weighs_nothing_but_its_encoding() {
        let found = Document::new(Limits::default()).weight().unwrap();
        let expected = Weight {
            encoded_bytes: 2,
            ..Weight::default()
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn asleep_or_awake_a_document_weighs_the_same() {
        let mut awake = document(false);
        let snapshot = awake.snapshot().unwrap();
        let mut asleep = Document::asleep(Limits::default(), snapshot.state, &snapshot.state_vector).unwrap();
        assert_eq!(asleep.weight(), awake.weight());
        assert!(!asleep.is_awake());
    }
}

//! How many of a provider's unsaved changes an answer settles (pure).
//!
//! A provider counts its edits that it has not been told to be stored, and begins anew at one when it asks what it lacks: that one is the
//! step 2 with which it answers the question it is asked back. What was refused it goes on counting, and may bring it again in a
//! step 2, when it may edit at last: that is everything it has. So when such a step 2 is stored, what was refused before is stored as
//! well, and the provider is told so.

use std::collections::VecDeque;

use crate::rooms::ClientMessage;

/// Something said, as far as it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Edit,
    /// Brings all that the provider has.
    Everything,
    /// The provider counts anew. Has no answer.
    Anew,
}

/// What was said and not answered, as runs of likes, and what was refused.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    said: VecDeque<(Entry, u32)>,
    /// What the provider goes on counting.
    refused: u32,
    /// The provider counts its next step 2.
    counts_everything: bool,
}

impl Ledger {
    /// Something is said.
    pub(super) fn said(&mut self, message: &ClientMessage) {
        let entry = match message {
            ClientMessage::Update(_) => Entry::Edit,
            ClientMessage::SyncStep2(_) => Entry::Everything,
            ClientMessage::SyncStep1(_) if self.said.is_empty() => {
                self.count_anew();
                return;
            }
            ClientMessage::SyncStep1(_) => Entry::Anew,
            ClientMessage::Awareness(_)
            | ClientMessage::QueryAwareness
            | ClientMessage::Stateless(_)
            | ClientMessage::Mark(_)
            | ClientMessage::QueryStateVector => return,
        };
        match self.said.back_mut() {
            // Counting anew twice is the same.
            Some((Entry::Anew, _)) if entry == Entry::Anew => {}
            Some((last, count)) if *last == entry => *count = count.saturating_add(1),
            Some(_) | None => self.said.push_back((entry, 1)),
        }
    }

    /// The oldest of what was said is stored or was refused. Says how many changes the provider may count off, or is told not to.
    pub(super) fn answered(&mut self, accepted: bool) -> u32 {
        let answered = self.take();
        let is_everything = answered == Some(Entry::Everything);
        let is_counted = !is_everything || std::mem::take(&mut self.counts_everything);
        if !accepted {
            self.refused = self.refused.saturating_add(u32::from(is_counted));
            return 1;
        }
        if !is_everything {
            return 1;
        }
        let stored = std::mem::take(&mut self.refused).saturating_add(u32::from(is_counted));
        // Each is answered, also those that are not counted.
        stored.max(1)
    }

    fn take(&mut self) -> Option<Entry> {
        self.begin_anew();
        let (entry, count) = self.said.front_mut()?;
        let entry = *entry;
        *count -= 1;
        if *count == 0 {
            self.said.pop_front();
        }
        Some(entry)
    }

    /// Forgets what was refused before the provider has begun to count anew.
    fn begin_anew(&mut self) {
        while let Some((Entry::Anew, _)) = self.said.front() {
            self.said.pop_front();
            self.count_anew();
        }
    }

    fn count_anew(&mut self) {
        self.refused = 0;
        self.counts_everything = true;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn ledger(said: &[ClientMessage]) -> Ledger {
        let mut ledger = Ledger::default();
        for message in said {
            ledger.said(message);
        }
        ledger
    }

    fn edit() -> ClientMessage {
        ClientMessage::Update(Bytes::new())
    }

    fn everything() -> ClientMessage {
        ClientMessage::SyncStep2(Bytes::new())
    }

    fn question() -> ClientMessage {
        ClientMessage::SyncStep1(Bytes::new())
    }

    #[test]
    fn what_was_refused_is_stored_with_everything() {
        let mut ledger = ledger(&[
            question(),
            everything(),
            edit(),
            edit(),
            everything(),
            edit(),
            everything(),
        ]);
        assert_eq!(ledger.answered(true), 1);
        assert_eq!([false, false].map(|accepted| ledger.answered(accepted)), [1, 1]);
        assert_eq!(ledger.answered(true), 2, "both; itself is not counted");
        assert_eq!([true, true].map(|accepted| ledger.answered(accepted)), [1, 1]);
    }

    #[test]
    fn another_edit_brings_nothing_of_what_was_refused() {
        let mut ledger = ledger(&[edit(), edit(), everything()]);
        assert_eq!([false, true].map(|accepted| ledger.answered(accepted)), [1, 1]);
        assert_eq!(ledger.answered(true), 1);
    }

    #[test]
    fn whoever_counts_anew_has_nothing_counted_off_of_before() {
        let mut ledger = ledger(&[edit(), edit(), question(), everything(), everything()]);
        assert_eq!([false, false].map(|accepted| ledger.answered(accepted)), [1, 1]);
        assert_eq!(ledger.answered(false), 1, "the only one that counts now");
        assert_eq!(ledger.answered(true), 1);
        ledger.said(&edit());
        assert_eq!(ledger.answered(false), 1);
        ledger.said(&question());
        ledger.said(&edit());
        ledger.said(&everything());
        assert_eq!(ledger.answered(false), 1);
        assert_eq!(ledger.answered(true), 2, "itself and the edit");
    }
}

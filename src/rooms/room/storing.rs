//! What a room asks the store for: commits of what was flushed, and snapshots in place of the log.

use std::time::Instant;

use storage::{Committed, PageCommit};

use super::{CompactRequest, Effect, Room, log::State};

impl Room {
    /// The commit that was under way has ended: its authors are told when the room settles.
    pub(super) fn stored(&mut self, now: Instant, committed: Committed, effects: &mut Vec<Effect>) {
        let Some(commit) = self.log.committed() else {
            return;
        };
        self.position.committed(now, committed);
        self.compaction.appended(now, commit.rows, commit.bytes);
        let stored = self.log.stored();
        for authored_update in commit.authored_updates {
            // What waits for something missing comes back to its author when it takes effect.
            if let Some(member) = authored_update.author.member()
                && self.wants_echo(member)
                && !authored_update.is_parked
            {
                self.promises.echo(stored, member, authored_update.update);
            }
        }
        if let Some(state) = commit
            .state
            .filter(|_| !self.life.has_failed() && self.can_compact() && self.compaction.may_run(now))
        {
            self.compact(now, state, effects);
        }
    }

    /// Whether the next [`Self::settle`] will merge the page into a snapshot, which takes time in proportion to its size.
    pub fn snapshot_due(&self, now: Instant) -> bool {
        self.can_compact() && self.compaction.is_due(now)
    }

    /// Whether what is stored is what is in the document.
    pub(super) fn can_compact(&self) -> bool {
        !self.log.is_committing() && !self.position.has_gap() && self.position.seq() > 0
    }

    /// Asks the store to keep what it can be asked now: at most one request of each kind at a time.
    pub(super) fn store(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let is_read = !self.life.has_failed();
        let is_closing = self.members.is_empty()
            && is_read
            && self.life.wants_to_go(now, &self.config)
            && self.compaction.is_dirty()
            && self.can_compact();
        let closing = self.compaction.note_closing(now, is_closing);
        let snapshot_due = is_read && self.log.batch.is_empty() && (closing || self.snapshot_due(now));
        let state = if snapshot_due { self.state(effects) } else { None };
        if self.log.can_commit() {
            let updates = self.log.begin(now, state);
            effects.push(Effect::Append(PageCommit {
                page: self.position.page.clone(),
                updates,
                size_bytes: Some(self.document.encoded_size_estimate() as u64),
                generation: self.position.generation().cloned(),
            }));
        } else if let Some(state) = state {
            self.compact(now, state, effects);
        }
    }

    fn compact(&mut self, now: Instant, State { state, state_vector }: State, effects: &mut Vec<Effect>) {
        let seq = self.position.seq();
        self.compaction.begin(now, seq);
        effects.push(Effect::Compact(CompactRequest {
            page: self.position.page.clone(),
            generation: self.position.generation().cloned(),
            seq,
            state,
            state_vector,
        }));
    }

    /// The document as it is, with what waits in it for something missing.
    fn state(&mut self, effects: &mut Vec<Effect>) -> Option<State> {
        match self.document.snapshot() {
            Ok(crdt::Snapshot { state, state_vector }) => Some(State { state, state_vector }),
            Err(error) => {
                self.fail(&error, effects);
                None
            }
        }
    }
}

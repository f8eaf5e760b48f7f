//! Up to which row a page is stored, and which rows of other processes are not in the document yet.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crdt::EndedClients;
use storage::{Committed, Generation, PageId, Seq};

/// Rows of another process that could not be read are asked for again after this long.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Rows of another process that lie before rows of ours and are not in the document.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// The last row of ours.
    until: Seq,
    /// When to ask for them (again).
    read_at: Instant,
}

/// Where a page's rows end.
#[derive(Debug)]
pub(super) struct Position {
    pub(super) page: PageId,
    generation: Option<Generation>,
    /// The clients of former generations: who names one of them has a copy of a former document of the page.
    pub(super) ended: Arc<EndedClients>,
    /// Every row up to this one is in the document.
    seq: Seq,
    gap: Option<Gap>,
}

impl Position {
    pub(super) fn new(
        page: PageId,
        generation: Option<Generation>,
        ended: Arc<EndedClients>,
        seq: Seq,
    ) -> Self {
        Self {
            page,
            generation,
            ended,
            seq,
            gap: None,
        }
    }

    /// The last row that is known to be stored.
    pub(super) fn seq(&self) -> Seq {
        self.gap.map_or(self.seq, |gap| gap.until)
    }

    pub(super) fn generation(&self) -> Option<&Generation> {
        self.generation.as_ref()
    }

    /// Whether some row is not in the document.
    pub(super) fn has_gap(&self) -> bool {
        self.gap.is_some()
    }

    /// Rows of ours are stored.
    pub(super) fn committed(&mut self, now: Instant, committed: Committed) {
        self.generation = Some(committed.generation);
        if let Some(gap) = &mut self.gap {
            gap.until = committed.last_seq;
        } else if committed.first_seq > self.seq + 1 {
            self.gap = Some(Gap {
                until: committed.last_seq,
                read_at: now,
            });
        } else {
            self.seq = committed.last_seq;
        }
    }

    /// The rows to read now: those between the two numbers, both exclusive. Asked for again after a while, because reading can fail.
    pub(super) fn gap_to_read(&mut self, now: Instant) -> Option<(Seq, Seq)> {
        let gap = self.gap.as_mut().filter(|gap| now >= gap.read_at)?;
        gap.read_at = now + READ_AGAIN;
        Some((self.seq, gap.until + 1))
    }

    /// All rows up to `seq` are in the document. Says whether they lay in a gap.
    pub(super) fn read_up_to(&mut self, now: Instant, seq: Seq) -> bool {
        self.seq = self.seq.max(seq);
        let Some(gap) = &mut self.gap else { return false };
        gap.read_at = now;
        if self.seq >= gap.until {
            self.gap = None;
        }
        true
    }

    /// When the gap is to be read.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.gap.map(|gap| gap.read_at)
    }
}

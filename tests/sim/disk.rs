//! The disk: what is durable, what is only under way, and the ways in which a store disappoints.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use crdt::{Admission, Document, Limits, Update, testing::Replica};
use pageroom::rooms::CompactRequest;
use storage::{Committed, LoggedUpdate, PageCommit, PageId, Seq, Snapshot, StoredPage, Tables};

/// How a transaction went. The live half of the disk is the batch that is under way; a crash loses it.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// Durable, and the answer is on its way.
    Committed(Vec<Committed>),
    /// Not durable, or durable and the answer was lost: the writer cannot tell.
    Failed,
    /// It hangs until the store resumes.
    Hangs,
}

/// The durable half, shared by all processes, and beside it everything that was ever made durable.
pub(crate) struct Disk {
    durable: Tables,
    /// What each page has to contain for ever: every row ever committed, in documents that no snapshot and no load touch.
    kept: BTreeMap<PageId, Kept>,
    pub(crate) paused: bool,
    pub(crate) failing: u32,
    pub(crate) losing_answers: u32,
    pub(crate) failing_loads: u32,
}

struct Kept {
    document: Document,
    /// Whose changes stand in rows, and which.
    written: Vec<crdt::ClientRange>,
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            durable: Tables::new(seed),
            kept: BTreeMap::new(),
            paused: false,
            failing: 0,
            losing_answers: 0,
            failing_loads: 0,
        }
    }

    /// Works again from now on.
    pub(crate) fn heal(&mut self) {
        self.paused = false;
        self.failing = 0;
        self.losing_answers = 0;
        self.failing_loads = 0;
    }

    /// The moment at which a transaction becomes durable, or not.
    pub(crate) fn commit(&mut self, elapsed: Duration, batch: &[PageCommit]) -> Outcome {
        if self.paused {
            return Outcome::Hangs;
        }
        if self.failing > 0 {
            self.failing -= 1;
            return Outcome::Failed;
        }
        let committed = self
            .durable
            .commit(SystemTime::UNIX_EPOCH + elapsed, batch)
            .expect("a batch names each page once");
        for commit in batch {
            for row in &commit.updates {
                self.keep(&commit.page, &row.data);
            }
        }
        if self.losing_answers > 0 {
            self.losing_answers -= 1;
            return Outcome::Failed;
        }
        Outcome::Committed(committed)
    }

    /// Writes a snapshot, unless the disk is in trouble: the room asks again. Whether it was taken.
    pub(crate) fn compact(&mut self, request: CompactRequest) -> bool {
        if self.paused || self.failing > 0 {
            return false;
        }
        let mut document = Document::load(Limits::default(), [request.state.clone()]).expect("a whole page");
        assert_eq!(
            document.state_vector().encode(),
            request.state_vector,
            "a snapshot is what its state vector says"
        );
        let kept = self.kept.get_mut(&request.page).expect("rows that it covers");
        assert!(
            document
                .state_vector()
                .iter()
                .all(|(client, clock)| clock <= kept.document.state_vector().get(client)),
            "a snapshot holds nothing that is in no row"
        );
        let content = document.content().expect("a document that works");
        let snapshot = Snapshot {
            seq: request.seq,
            state: request.state,
            state_vector: request.state_vector,
            content: content.json(None).expect("json").unwrap_or_default(),
            text: content.text(None).expect("text").unwrap_or_default(),
        };
        self.durable
            .compact(&request.page, request.generation.as_ref(), &snapshot);
        true
    }

    fn keep(&mut self, page: &PageId, row: &Bytes) {
        let kept = self.kept.entry(page.clone()).or_insert_with(|| Kept {
            document: Document::new(Limits::default()),
            written: Vec::new(),
        });
        let row = parsed(row);
        kept.written.extend(row.runs());
        let new = match kept.document.admit(row).expect("a row that fits its page") {
            Admission::New(update) => update,
            Admission::Known => return,
            Admission::Early { update, .. } => {
                kept.document.park(update).expect("place");
                return;
            }
            Admission::Partly { new, early, .. } => {
                kept.document.park(early).expect("place");
                new
            }
        };
        let clients: Vec<_> = new.ranges().map(|range| range.client).collect();
        kept.document
            .take_ready(clients.into_iter())
            .expect("a document that works");
    }

    /// Whether everything in an update of a page is durable.
    pub(crate) fn has(&mut self, page: &PageId, update: &Bytes) -> bool {
        let update = parsed(update);
        if update.is_empty() {
            return true;
        }
        self.kept.get_mut(page).is_some_and(|kept| {
            let known = kept.document.state_vector();
            // What builds on something that is not there stands in a row and is not known.
            let is_written = |range: crdt::ClientRange| {
                (range.start.max(known.get(range.client))..range.end).all(|clock| {
                    kept.written
                        .iter()
                        .any(|row| row.client == range.client && row.start <= clock && clock < row.end)
                })
            };
            // Asking admits what is new, so ask only what can be known.
            if !update.runs().into_iter().all(is_written) {
                return false;
            }
            if !kept.document.contains(&update).expect("a document that works") {
                // Some deletions follow from integrating and stand in no row: whoever integrates what is written has them.
                let mut replica = Replica::repeatable(crdt::ClientId(1));
                replica.apply(&kept.document.encode().expect("a document that works"));
                let _ = kept.document.admit(parsed(&replica.encode()));
            }
            matches!(
                kept.document.admit(update),
                Ok(Admission::Known | Admission::Early { .. })
            )
        })
    }

    /// How much of a client's writing is durable.
    pub(crate) fn clock(&self, page: &PageId, client: crdt::ClientId) -> u32 {
        self.kept
            .get(page)
            .map_or(0, |kept| kept.document.state_vector().get(client))
    }

    /// Everything ever committed to a page, as one update.
    pub(crate) fn everything(&mut self, page: &PageId) -> Bytes {
        self.kept.get_mut(page).map_or_else(
            || Bytes::from_static(&[0, 0]),
            |kept| kept.document.encode().expect("a document that works"),
        )
    }

    /// Reads a page; `Err` when the store does not answer.
    pub(crate) fn load(&mut self, page: &PageId) -> Result<Option<StoredPage>, ()> {
        if self.failing_loads > 0 {
            self.failing_loads -= 1;
            return Err(());
        }
        Ok(self.durable.load(page))
    }

    /// Reads rows of another process as the task does it; `Err` when the store does not answer.
    pub(crate) fn foreign(
        &mut self,
        page: &PageId,
        after: Seq,
        before: Seq,
    ) -> Result<Vec<LoggedUpdate>, ()> {
        if self.paused || self.failing > 0 {
            return Err(());
        }
        if let Some(rows) = self.durable.log(page, after, 10_000) {
            return Ok(rows.into_iter().filter(|row| row.seq < before).collect());
        }
        let stored = self.load(page)?.into_iter();
        Ok(stored
            .flat_map(|page| {
                let snapshot = page.snapshot.map(|snapshot| LoggedUpdate {
                    seq: snapshot.seq,
                    data: snapshot.state,
                    user: None,
                });
                snapshot.into_iter().chain(page.log)
            })
            .collect())
    }

    /// A page as a backend reads it from the database.
    pub(crate) fn snapshot(&self, page: &PageId) -> Option<Snapshot> {
        self.durable.snapshot(page)
    }
}

pub(crate) fn parsed(update: &Bytes) -> Update {
    Update::parse(update.clone(), &Limits::default()).expect("an update of our own making")
}

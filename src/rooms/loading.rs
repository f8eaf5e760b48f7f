//! Makes a document of what a store keeps of a page, and reads what other processes store.

use std::{sync::Arc, time::Instant};

use crdt::{Document, EndedClients, Limits, LoadError, StateVector};
use storage::{Generation, LoggedUpdate, PageId, Seq, SharedStore, StoreError, StoredPage, StoredSnapshot};

use super::{Loaded, Refusal, RefusalCode, RoomConfig, clock::run_blocking_if};

/// Rows of another process read at once.
const MAX_FOREIGN_ROWS: usize = 10_000;

/// Opens the document of a stored page. One that a snapshot covers whole stays asleep: nobody may ever ask for more than the
/// stored bytes.
pub fn open_document(
    limits: Limits,
    snapshot: Option<StoredSnapshot>,
    log: Vec<LoggedUpdate>,
) -> Result<Document, LoadError> {
    if let (Some(snapshot), []) = (&snapshot, log.as_slice()) {
        return run_blocking_if(true, || {
            Document::asleep(limits, snapshot.state.clone(), &snapshot.state_vector)
        });
    }
    let parts = snapshot
        .map(|snapshot| snapshot.state)
        .into_iter()
        .chain(log.into_iter().map(|row| row.data));
    run_blocking_if(true, || Document::load(limits, parts))
}

/// What a room is opened with, from what is stored of its page.
///
/// # Errors
/// When the page was deleted, or what is stored of it does not fit together.
pub fn load(config: &RoomConfig, stored: Option<StoredPage>, now: Instant) -> Result<Loaded, Refusal> {
    let gate = config.gate;
    let Some(stored) = stored else {
        let document = Document::new(gate);
        return Ok(Loaded {
            document,
            generation: None,
            seq: 0,
            log_rows: 0,
            log_bytes: 0,
            dirty_since: None,
            before: StateVector::new(),
            ended: Arc::default(),
        });
    };
    if stored.record.deleted_at.is_some() {
        return Err(Refusal::new(RefusalCode::PageDeleted, "the page was deleted"));
    }
    let ended = Arc::new(ended_clients(&stored)?);
    let log_rows = stored.log.len() as u64;
    let log_bytes: u64 = stored.log.iter().map(|row| row.data.len() as u64).sum();
    // What the log has beyond the snapshot was written lately; without such a log nothing is known about when.
    let covered = stored.snapshot.as_ref().filter(|_| log_rows > 0);
    let before = covered
        .and_then(|snapshot| StateVector::decode(&snapshot.state_vector, &gate).ok())
        .unwrap_or_default();
    let document = open_document(gate, stored.snapshot, stored.log).map_err(|error| {
        tracing::error!(%error, seq = stored.record.seq, "what is stored of a page does not fit together; it is not opened and not written");
        Refusal::unavailable("the page cannot be loaded")
    })?;
    Ok(Loaded {
        document,
        generation: Some(stored.record.generation),
        seq: stored.record.seq,
        log_rows,
        log_bytes,
        dirty_since: (log_rows > 0).then_some(now),
        before,
        ended,
    })
}

/// The clients of former generations of a stored page.
///
/// # Errors
/// When what is stored of them makes no sense: nobody is let in then, because a copy of a former document would double the page.
pub fn ended_clients(stored: &StoredPage) -> Result<EndedClients, Refusal> {
    let Some(ended) = &stored.ended_clients else {
        return Ok(EndedClients::new());
    };
    EndedClients::decode(ended).map_err(|error| {
        tracing::error!(%error, "the clients of former generations of a page cannot be read; it is not opened");
        Refusal::unavailable("the page cannot be loaded")
    })
}

/// A stored page as one list of rows.
fn whole(page: StoredPage) -> Vec<LoggedUpdate> {
    let snapshot = page.snapshot.map(|snapshot| LoggedUpdate {
        seq: snapshot.seq,
        data: snapshot.state,
        user: None,
    });
    snapshot.into_iter().chain(page.log).collect()
}

/// Reads what another process stored between two of our rows.
pub(super) async fn foreign_rows(
    store: SharedStore,
    (page, generation): (PageId, Option<Generation>),
    (after, before): (Seq, Seq),
) -> Result<Vec<LoggedUpdate>, StoreError> {
    match store.log(&page, after, MAX_FOREIGN_ROWS).await? {
        Some(rows) => Ok(rows.into_iter().filter(|row| row.seq < before).collect()),
        // A snapshot has swallowed them: what it holds is all of them and more.
        None => {
            let stored = store.load(&page).await?;
            // A document that was rebuilt is another one.
            let stored =
                stored.filter(|stored| generation.is_none_or(|known| stored.record.generation == known));
            Ok(stored.map(whole).unwrap_or_default())
        }
    }
}

//! Gives a page another document that says the same, without what editing has left behind.
//!
//! The room ends first, so that everything that its members have sent is in the store, and in a snapshot. Members that come back meanwhile
//! wait until the page is rebuilt. The content of the snapshot is written anew by one client, and takes its place in one transaction: if
//! another process appends to the page in between, its update wins and the rebuild is tried again. From then on the page has another
//! generation. Replicas of the former document are refused by the clients that they name ([`crdt::EndedClients`]).

use std::time::Duration;

use crdt::{ClientId, EndedClients, RebuildError, TooManyEndedClients, Weight};
use storage::{Generation, PageId, Rebuilding, Seq, StoreError, StoredPage};

use super::{
    CompactRequest, Registry,
    clock::run_blocking_if,
    loading::{ended_clients, open_document},
    refusal::Refusal,
};

/// How long a page's room may take to end, and how often it is tried: another process may write before it is done.
const PATIENCE: Duration = Duration::from_secs(10);
const TRIES: usize = 3;

/// What a page became.
#[derive(Clone, Debug)]
pub struct Rebuilt {
    /// Its generation.
    pub generation: Generation,
    /// Its number.
    pub seq: Seq,
    /// What the document weighed, and what it weighs.
    pub before: Weight,
    /// See above.
    pub after: Weight,
}

/// Why a page was not rebuilt. It is as it was.
#[derive(Debug, thiserror::Error)]
pub enum RebuildFailure {
    /// It has never been stored, or is in the trash.
    #[error("there is no such page")]
    NotThere,
    /// Another process writes to it, what its room holds is not stored yet, or it is being rebuilt already. Try again.
    #[error("somebody writes to the page")]
    Busy,
    /// The document cannot be written anew.
    #[error(transparent)]
    Document(#[from] RebuildError),
    /// It has had too many clients.
    #[error(transparent)]
    TooManyClients(#[from] TooManyEndedClients),
    /// What is stored of it cannot be read. The server's fault, or the store's.
    #[error("what is stored of the page cannot be read: {0}")]
    Damaged(Refusal),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Registry {
    /// Gives a page another document that says the same, written by `client`, which nobody has had before. Its members are sent away. Takes
    /// time in proportion to the document. One in which nothing can be left out stays as it is.
    ///
    /// # Errors
    /// When the page cannot be rebuilt, or not now: it is as it was.
    pub async fn rebuild(&self, page: &PageId, client: ClientId) -> Result<Rebuilt, RebuildFailure> {
        let closed = tokio::time::timeout(PATIENCE, self.close(page)).await;
        let _closed = closed.ok().flatten().ok_or(RebuildFailure::Busy)?;
        for _ in 0..TRIES {
            let stored = self.0.store.load(page).await?;
            let stored = stored.filter(|stored| stored.record.deleted_at.is_none());
            let stored = stored.ok_or(RebuildFailure::NotThere)?;
            let (seq, covered) = (stored.record.seq, stored.snapshot.as_ref());
            if covered.is_none_or(|snapshot| snapshot.seq < seq) {
                self.cover(stored).await?;
                continue;
            }
            if let Some(rebuilt) = self.replace(stored, client).await? {
                return Ok(rebuilt);
            }
        }
        Err(RebuildFailure::Busy)
    }

    /// Has a snapshot written of a page of which no room is open.
    async fn cover(&self, stored: StoredPage) -> Result<(), RebuildFailure> {
        let page = stored.record.page.clone();
        let (seq, generation) = (stored.record.seq, stored.record.generation.clone());
        let snapshot = run_blocking_if(true, || {
            let mut document = open_document(*self.gate(), stored.snapshot, stored.log).map_err(damaged)?;
            document.snapshot().map_err(damaged)
        })?;
        let written = self.0.compactor.compact(CompactRequest {
            page,
            generation: Some(generation),
            seq,
            state: snapshot.state,
            state_vector: snapshot.state_vector,
        });
        // If it was not, that is seen in the next round.
        let _ = written.await;
        Ok(())
    }

    /// Puts another document in the place of a page's; `None` when somebody was faster.
    async fn replace(&self, stored: StoredPage, client: ClientId) -> Result<Option<Rebuilt>, RebuildFailure> {
        let former = ended_clients(&stored).map_err(RebuildFailure::Damaged)?;
        let record = stored.record;
        let gate = *self.gate();
        let (snapshot, log) = (stored.snapshot, stored.log);
        let made = run_blocking_if(true, || {
            let mut document = open_document(gate, snapshot, log).map_err(damaged)?;
            let ended = former.with(&document.state_vector().clone())?;
            let before = document.weight().map_err(damaged)?;
            if before.is_least() {
                return Ok(Made::Nothing(before));
            }
            let state = document.rebuilt(unused(client, &ended))?;
            let mut rebuilt = crdt::Document::load(gate, [state.clone()]).map_err(damaged)?;
            let after = rebuilt.weight().map_err(damaged)?;
            Ok::<_, RebuildFailure>(Made::Document {
                rebuilding: Rebuilding {
                    page: record.page.clone(),
                    generation: record.generation.clone(),
                    seq: record.seq,
                    state,
                    state_vector: rebuilt.state_vector().encode(),
                    ended_clients: ended.encode(),
                },
                before,
                after,
            })
        });
        let (rebuilding, before, after) = match made? {
            Made::Nothing(weight) => {
                return Ok(Some(Rebuilt {
                    generation: record.generation,
                    seq: record.seq,
                    before: weight,
                    after: weight,
                }));
            }
            Made::Document {
                rebuilding,
                before,
                after,
            } => (rebuilding, before, after),
        };
        let generation = self.0.store.rebuild(&rebuilding).await?;
        Ok(generation.map(|generation| Rebuilt {
            generation,
            seq: record.seq + 1,
            before,
            after,
        }))
    }
}

/// What becomes of a document.
enum Made {
    /// It weighs this, and nothing in it can be left out: otherwise pages would grow by being compacted, each time by what their history
    /// keeps of it.
    Nothing(Weight),
    Document {
        rebuilding: Rebuilding,
        before: Weight,
        after: Weight,
    },
}

/// The first client from this one on that has never written in the page.
fn unused(client: ClientId, ended: &EndedClients) -> ClientId {
    let mut candidates = (client.0..).map(|id| ClientId(id & 0xffff_ffff));
    candidates
        .find(|candidate| !ended.contains(*candidate))
        .unwrap_or(client)
}

fn damaged(error: impl std::fmt::Display) -> RebuildFailure {
    tracing::error!(%error, "what is stored of a page cannot be read; it is not rebuilt");
    RebuildFailure::Damaged(Refusal::unavailable("the page cannot be loaded"))
}

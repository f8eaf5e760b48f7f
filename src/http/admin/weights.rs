//! What open pages weigh, for whoever lists them: made when it is asked for, one after the other, and kept for a while.

use std::time::Duration;

use moka::future::Cache;
use storage::{PageId, Seq};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};

use crate::http::{App, described::PageWeight, weighing};

/// Pages whose weight is kept.
const MAX_KEPT: u64 = 1000;
/// Weights that are made at once.
const MAX_AT_ONCE: usize = 1;
/// Of a larger page it takes too long for a listing. Its description has it.
const MAX_WEIGHED_BYTES: u64 = 16 << 20;
/// A page that is being edited is weighed again after this time.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// A room that does not answer for so long has something else to do.
const PATIENCE: Duration = Duration::from_secs(1);

/// A weight, of which state and from when it is.
#[derive(Clone, Copy, Debug)]
struct Kept {
    seq: Seq,
    at: Instant,
    weight: PageWeight,
}

/// The weights that are kept.
pub(super) struct Weights {
    kept: Cache<PageId, Kept>,
    turns: Semaphore,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            kept: Cache::new(MAX_KEPT),
            turns: Semaphore::new(MAX_AT_ONCE),
        }
    }
}

impl Weights {
    /// What an open page weighs that is so large in this state; `None` when that cannot be said now.
    pub(super) async fn of(&self, app: &App, page: &PageId, seq: Seq, size: u64) -> Option<PageWeight> {
        if size > MAX_WEIGHED_BYTES {
            return None;
        }
        if let Some(kept) = self.kept(page, seq).await {
            return Some(kept);
        }
        let _turn = self.turns.acquire().await.ok()?;
        // Whoever was before may have asked for the same.
        if let Some(kept) = self.kept(page, seq).await {
            return Some(kept);
        }
        let looking = app
            .around
            .registry
            .look(page, |room| (room.seq(), room.document().encode()));
        let (seq, state) = timeout(PATIENCE, looking).await.ok()??;
        let weight = weighing::weight(app.gate, size, &state.ok()?).await.ok()?;
        let weight = PageWeight::from(weight);
        let kept = Kept {
            seq,
            at: Instant::now(),
            weight,
        };
        self.kept.insert(page.clone(), kept).await;
        Some(weight)
    }

    async fn kept(&self, page: &PageId, seq: Seq) -> Option<PageWeight> {
        let kept = self.kept.get(page).await?;
        (kept.seq == seq || kept.at.elapsed() < GOOD_FOR).then_some(kept.weight)
    }
}

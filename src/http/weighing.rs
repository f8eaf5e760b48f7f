//! What the documents of pages weigh, and which root types they have.
//!
//! To know either a document is gone through. In one state both stay as they are, so what was found lately is kept by the tag of that
//! state, as contents are: who may see the page is decided, and in which state it is, before anything is looked for.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crdt::{Limits, Weight};
use moka::future::Cache;
use storage::{PageId, Seq};
use tokio::sync::Semaphore;

use super::{
    App, HttpError,
    page_state::{head, view},
};
use crate::{
    reader::ReadError,
    rooms::{Refusal, run_blocking_if},
};

/// Bytes that are kept, at most.
const MAX_KEPT_BYTES: u64 = 8 << 20;

/// What nobody asks for in this time is kept no longer.
const KEPT_FOR: Duration = Duration::from_secs(60);

/// About what an entry takes beside its names, and a name beside its letters.
const ENTRY_BYTES: usize = 256;
const NAME_BYTES: usize = 64;

/// Documents that are weighed at once, together, in KiB: that takes as much memory as a document does. One larger one alone passes.
const MAX_WEIGHED_KIB: u32 = 64 * 1024;
static WEIGHED: Semaphore = Semaphore::const_new(MAX_WEIGHED_KIB as usize);

/// A document of this size is gone through off the runtime's threads.
const LARGE_BYTES: u64 = 64 * 1024;

/// What is known of a document.
#[derive(Debug)]
pub(super) struct Known {
    /// Its size, in bytes.
    pub(super) size: u64,
    pub(super) weight: Weight,
    /// Its root types by name, with what kind each is; none where nobody can show it.
    pub(super) fields: Vec<(String, String)>,
}

/// See the module. Clones share what they keep.
#[derive(Clone, Debug)]
pub struct KeptDescriptions(Cache<(PageId, String), Arc<Known>>);

impl Default for KeptDescriptions {
    fn default() -> Self {
        let weight = |(page, tag): &(PageId, String), known: &Arc<Known>| {
            let names = known
                .fields
                .iter()
                .map(|(name, kind)| NAME_BYTES + name.len() + kind.len());
            let bytes = ENTRY_BYTES + page.as_str().len() + tag.len() + names.sum::<usize>();
            u32::try_from(bytes).unwrap_or(u32::MAX)
        };
        let cache = Cache::builder()
            .weigher(weight)
            .max_capacity(MAX_KEPT_BYTES)
            .time_to_idle(KEPT_FOR);
        Self(cache.build())
    }
}

/// A document that has been weighed.
pub(super) struct Weighed {
    pub(super) size: u64,
    pub(super) weight: Weight,
    state: Bytes,
    tag: String,
    seq: Seq,
}

/// What a document weighs that is encoded so, and about so large. Not asked in the room of its page, where everybody would wait for it.
pub(super) async fn weight(gate: Limits, size: u64, state: &Bytes) -> Result<Weight, HttpError> {
    let kib = u32::try_from(state.len() / 1024 + 1).unwrap_or(u32::MAX);
    let share = WEIGHED.acquire_many(kib.min(MAX_WEIGHED_KIB)).await;
    let _share = share.map_err(|_| Refusal::draining())?;
    run_blocking_if(size > LARGE_BYTES, || {
        crdt::Document::load(gate, [state.clone()])
            .map_err(HttpError::Damaged)?
            .weight()
            .map_err(HttpError::Broken)
    })
}

/// Weighs the document of a page; `None` when there is no such page.
pub(super) async fn weigh(app: &App, page: &PageId) -> Result<Option<Weighed>, HttpError> {
    let sized = |document: &mut crdt::Document| {
        let size = document.encoded_size_estimate() as u64;
        Ok((size, document.encode()?))
    };
    let Some((view, _)) = view(app, page, sized).await? else {
        return Ok(None);
    };
    let (size, state) = view.value;
    let weight = weight(app.gate, size, &state).await?;
    Ok(Some(Weighed {
        size,
        weight,
        state,
        tag: view.etag,
        seq: view.seq,
    }))
}

/// What is known of the document of a page, and the number of its state; `None` when there is no such page.
pub(super) async fn known(app: &App, page: &PageId) -> Result<Option<(Arc<Known>, Seq)>, HttpError> {
    let Some((seq, tag)) = head(app, page).await? else {
        return Ok(None);
    };
    let kept = &app.descriptions.0;
    if let Some(known) = kept.get(&(page.clone(), tag)).await {
        return Ok(Some((known, seq)));
    }
    let Some(weighed) = weigh(app, page).await? else {
        return Ok(None);
    };
    let fields = match app.readers.fields(page, weighed.state).await {
        Ok(fields) => fields,
        // All that does not come from its content is known all the same.
        Err(ReadError::Unreadable { .. } | ReadError::Unshown { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    let known = Arc::new(Known {
        size: weighed.size,
        weight: weighed.weight,
        fields,
    });
    // A page that is ahead of the store has a tag that stands for no one state; and one that cannot be shown now may be later.
    if !weighed.tag.starts_with("W/") && !app.readers.is_unreadable(page) {
        kept.insert((page.clone(), weighed.tag), known.clone()).await;
    }
    Ok(Some((known, weighed.seq)))
}

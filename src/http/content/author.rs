//! The client id under which a request writes. A request with a key of its own has the same one each time, so that a page knows by its
//! clients what was written before: also after a restart, and on any server.

use std::sync::Arc;

use axum::http::HeaderMap;
use bytes::Bytes;
use crdt::{ClientId, Limits, Update};
use sha2::{Digest, Sha256};
use storage::{PageId, Seq};

use super::Now;
use crate::{
    http::{App, HttpError, pages::is_first_only},
    reader::new_client,
    rooms::{Condition, Refusal, RefusalCode},
};

/// Longest key, in bytes.
const MAX_KEY_BYTES: usize = 255;

/// Who writes.
pub(super) struct Author {
    pub(super) client: ClientId,
    /// The ids of the same request under the ids that its page had before.
    former: Vec<ClientId>,
    /// Whether the same request comes with this id again.
    has_key: bool,
}

impl Author {
    /// Who makes a request: of a user, with what its headers say. `what` tells requests apart that have the same key by mistake.
    pub(super) async fn of(
        app: &App,
        headers: &HeaderMap,
        page: &PageId,
        user: Option<&str>,
        what: &str,
    ) -> Result<Self, HttpError> {
        let Some(key) = headers.get("idempotency-key") else {
            return Ok(Self {
                client: new_client(),
                former: Vec::new(),
                has_key: false,
            });
        };
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(Refusal::malformed("an Idempotency-Key has 1 to 255 bytes").into());
        }
        let client =
            |page: &PageId| client_of([page.as_str(), user.unwrap_or_default(), what], key.as_bytes());
        // Who was not answered under a former id is led to the page and asks again.
        let former_ids = app.store.former_ids(page).await?;
        Ok(Self {
            client: client(page),
            former: former_ids.iter().map(client).collect(),
            has_key: true,
        })
    }

    /// Whether the page says now that this was written before. A request without a key cannot have been, so the page is not read for it.
    pub(super) async fn came_before(&self, app: &App, page: &PageId) -> Result<bool, HttpError> {
        Ok(self.has_key && self.has_written(&Now::of(app, page).await?))
    }

    /// Whether this was written before.
    pub(super) fn has_written(&self, now: &Now) -> bool {
        self.has_key
            && (now.has_client(self.client) || self.former.iter().any(|former| now.has_client(*former)))
    }

    /// Puts an update into the page and gives the number under which it is stored; `None` when this has been written before.
    pub(super) async fn post(
        &self,
        app: &App,
        page: &PageId,
        headers: &HeaderMap,
        (user, update): (Option<Arc<str>>, Bytes),
    ) -> Result<Option<Seq>, HttpError> {
        let condition = match (is_first_only(headers), self.has_key) {
            (true, _) => Condition::First,
            (false, true) => Condition::Without(self.client),
            (false, false) => Condition::Always,
        };
        match app.around.registry.post_if(page, user, update, condition).await {
            Ok(seq) => Ok(Some(seq)),
            // Whoever asked has no copy that could be of a former document.
            Err(refusal) if refusal.code == RefusalCode::PageRebuilt => {
                Err(Refusal::unavailable("the page was compacted at this moment, try again").into())
            }
            Err(refusal) if condition == Condition::Always || refusal.code != RefusalCode::Conflict => {
                Err(refusal.into())
            }
            Err(_) if self.has_written(&Now::of(app, page).await?) => Ok(None),
            Err(_) => Err(HttpError::Precondition),
        }
    }

    /// The update so that it is known when the request comes again: one that only deletes leaves a mark.
    pub(super) fn marked(&self, update: Bytes, limits: &Limits) -> Result<Bytes, HttpError> {
        if !self.has_key || update.is_empty() {
            return Ok(update);
        }
        let parse = |update: Bytes| {
            let parsed = Update::parse(update, limits);
            parsed.map_err(|error| Refusal::malformed(format!("the edits are no update: {error}")))
        };
        let parsed = parse(update.clone())?;
        if parsed.ranges().any(|range| range.client == self.client) {
            return Ok(update);
        }
        let mark = parse(crdt::mark(self.client))?;
        Ok(crdt::merge([&parsed, &mark]).bytes().clone())
    }
}

/// The client id of a request with a key.
fn client_of(parts: [&str; 3], key: &[u8]) -> ClientId {
    let mut digest = Sha256::new();
    for part in parts.map(str::as_bytes).into_iter().chain([key]) {
        digest.update((part.len() as u64).to_le_bytes());
        digest.update(part);
    }
    let bytes = digest.finalize();
    // Yjs reads ids of 53 bits. Those of its clients have 32, so that none is taken for one of these.
    let id = bytes
        .iter()
        .take(8)
        .fold(0, |id, byte| id << 8 | u64::from(*byte));
    ClientId(1 << 52 | id >> 12)
}

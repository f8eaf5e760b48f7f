//! The trash: a page in it is purged when that is asked for, or when it has been there for as long as pages are kept.

use std::time::Duration;

use storage::{AccessChange, PageId, SharedStore, StoreError};
use tokio_util::sync::CancellationToken;

use crate::{
    access::{Access, Note},
    auth::now,
    rooms::{Registry, RoomName},
};

/// How often it is looked for what has been there for too long.
const LOOK_EVERY: Duration = Duration::from_secs(600);
/// Pages that are purged before it is looked again.
const PAGES_AT_ONCE: usize = 100;
/// How long a page's room may take to end: it stores what it holds first.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Empties the trash. Cheap to clone.
#[derive(Clone)]
pub struct Trash {
    store: SharedStore,
    registry: Registry,
    access: Access,
    /// How long a page stays; `None` for ever.
    kept_for: Option<Duration>,
}

/// Why a page was not purged.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// It is not in the trash.
    #[error("the page is not in the trash")]
    NotThere,
    /// What its room holds is not stored yet. The store's fault, for now.
    #[error("the page's room has not ended within {PATIENCE:?}")]
    Open,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Trash {
    /// The trash of a store.
    pub fn new(store: SharedStore, registry: Registry, access: Access, kept_for: Option<Duration>) -> Self {
        Self {
            store,
            registry,
            access,
            kept_for,
        }
    }

    /// Deletes all of a page that is in the trash, for good. With somebody, that is noted as the doing of this user.
    ///
    /// # Errors
    /// When it is not in the trash, or cannot be deleted now.
    pub async fn purge(&self, page: &PageId, by: Option<&str>) -> Result<(), PurgeError> {
        let record = self.store.page(page).await?;
        if record.is_none_or(|record| record.deleted_at.is_none()) {
            return Err(PurgeError::NotThere);
        }
        // Nobody is let in any more, but a room may still be there, which would make a page of what it holds.
        let ended = tokio::time::timeout(PATIENCE, self.registry.end(page)).await;
        ended.map_err(|_| PurgeError::Open)?;
        let rooms = [RoomName::of_page(page), RoomName::activity_of_page(page)];
        let rooms = rooms.map(|room| room.as_str().to_owned());
        if !self.store.purge(page, &rooms).await? {
            return Err(PurgeError::NotThere);
        }
        let note = Note {
            action: "purge",
            outcome: "ok",
            user: by,
            page: Some(page.as_str()),
            ..Note::default()
        };
        self.access.audit().note(now(), note);
        self.access.note_trashed(page, false).await;
        let change = AccessChange {
            user: None,
            page: Some(page.as_str().to_owned()),
        };
        self.access.changed(&change).await;
        Ok(())
    }

    /// Purges what has been in the trash for too long, until `stop`.
    pub async fn keep_empty(self, stop: CancellationToken) {
        let Some(kept_for) = self.kept_for else { return };
        loop {
            self.purge_old(kept_for, &stop).await;
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn purge_old(&self, kept_for: Duration, stop: &CancellationToken) {
        let Some(before) = now().checked_sub(kept_for) else {
            return;
        };
        loop {
            let old = match self.store.trashed(before, PAGES_AT_ONCE).await {
                Ok(old) => old,
                Err(error) => return tracing::warn!(%error, "what is to be purged cannot be looked for now"),
            };
            let mut has_purged = false;
            for page in &old {
                if stop.is_cancelled() {
                    return;
                }
                match self.purge(page, None).await {
                    Ok(()) => has_purged = true,
                    // It was restored, or another server was faster.
                    Err(PurgeError::NotThere) => {}
                    Err(error) => tracing::warn!(%page, %error, "a page could not be purged yet"),
                }
            }
            // What could not be purged is not tried again and again.
            if !has_purged {
                return;
            }
        }
    }
}

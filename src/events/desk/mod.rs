//! Whole contents of pages: the desk of a page makes edits of what older clients save, and sends them what comes of it and of the edits
//! of others.
//!
//! ```text
//!  save ──► bases (what its author may have had) ──► reader: merge ──► update ──► the author's seat in the room
//!                                                                                        │ stored
//!  authors ◄── page_updated ◄── versions ◄── content ◄── reader ◄── changed ◄────────────┴── edits of others
//! ```
//!
//! Saves of a page are merged one after the other: each is stored before the next one is made, so that none is made from a content that
//! lacks another. Their edits are written under one client id for each user, which is given up when it is not known whether an edit was
//! taken in.

mod authors;
mod backend;
mod bases;
mod first_content;
mod left;
mod older;
mod page;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
};

use bytes::Bytes;
use crdt::Format;
use storage::{PageId, Seq, SharedStore};
use tokio::sync::Semaphore;

pub(super) use self::backend::{broadcast, check};
#[cfg(test)]
pub(super) use self::bases::nearest_of;
pub use self::first_content::ApplicationContent;
use self::{authors::Author, left::Left, page::Desk};
use super::{Bases, Carried, EventRooms, SavedContent, SocketId, VersionLimits, Versions, Way, event_text};
use crate::{
    protocols::events::{Content, ContentSave, Shape, Wording},
    reader::Readers,
    rooms::{Refusal, RefusalCode, Registry},
};

/// Contents that are being merged into all pages at once, in KiB; one larger content alone passes.
const MAX_MERGING_KIB: u32 = 64 * 1024;

/// How whole contents are kept and written.
#[derive(Clone, Copy, Debug)]
pub struct ContentConfig {
    /// How the first content of an empty page is written when nothing says it.
    pub default_format: Format,
    /// Versions that are kept of a page for finding what a save was made from.
    pub versions: VersionLimits,
}

/// A save as edits, which are to be stored through the author's own seat.
pub struct PreparedSave {
    /// The edits; empty when the page has all of it.
    pub update: Bytes,
    saved: Content,
    base: Option<Content>,
    is_certain: bool,
    merged: Content,
    differs: bool,
    user: Option<String>,
    shape: Shape,
    /// The sequence number of what it was merged into.
    seq: Seq,
    desk: Arc<Desk>,
    _turn: tokio::sync::OwnedMutexGuard<()>,
    is_stored: bool,
}

/// The desks of the pages that have authors of whole contents.
pub struct Desks {
    registry: Registry,
    readers: Readers,
    store: SharedStore,
    rooms: EventRooms,
    config: ContentConfig,
    /// Place for what is being merged, in KiB.
    merging: Semaphore,
    desks: Mutex<BTreeMap<PageId, Arc<Desk>>>,
    /// What the others were like when they still had some.
    left: Mutex<Left>,
    /// Backends that have saved, which are authors for as long as that takes.
    backends: AtomicU64,
}

impl Desks {
    /// No desks yet.
    pub fn new(
        (registry, readers): (Registry, Readers),
        store: SharedStore,
        rooms: EventRooms,
        config: ContentConfig,
    ) -> Arc<Self> {
        Arc::new(Self {
            registry,
            readers,
            store,
            rooms,
            config,
            merging: Semaphore::new(MAX_MERGING_KIB as usize),
            desks: Mutex::default(),
            left: Mutex::default(),
            backends: AtomicU64::new(0),
        })
    }

    /// A socket is an author of whole contents of a page that it has a seat in, until what this gives is dropped. It is sent what the page
    /// has, if that is anything, and then what comes of it. One that has returned after a loss may have a copy of any time.
    pub fn enter(
        self: &Arc<Self>,
        page: &PageId,
        author: SocketId,
        wording: Wording,
        has_returned: bool,
    ) -> Authorship {
        let desk = {
            let mut desks = lock(&self.desks);
            let desk = desks.entry(page.clone()).or_insert_with(|| {
                let left = lock(&self.left).take(page);
                let desk = Arc::new(Desk::new(page, Arc::downgrade(self), left));
                tokio::spawn(desk.clone().run());
                desk
            });
            // Within the lock, so that it is not given up just now.
            let mut state = lock(&desk.state);
            state.authors.entry(author).or_insert(Author {
                wording,
                has_returned,
                shape: Shape::default(),
                before: None,
            });
            state.arriving.insert(author);
            desk.clone()
        };
        desk.changed.notify_one();
        Authorship {
            desks: self.clone(),
            desk,
            author,
        }
    }

    fn leave(&self, desk: &Desk, author: SocketId) {
        let mut desks = lock(&self.desks);
        let mut state = lock(&desk.state);
        if !state.leave(author) {
            desk.stop.cancel();
            desks.remove(&desk.page);
            lock(&self.left).keep(&desk.page, std::mem::take(&mut state.left));
        }
    }

    /// Makes edits of a save. The next save of the page waits until they are stored, or given up.
    ///
    /// # Errors
    /// When the save contradicts what the page holds, its base is not known, or the page cannot be read, or not now.
    pub async fn prepare(
        &self,
        page: &PageId,
        (author, user): (SocketId, Option<String>),
        save: ContentSave,
    ) -> Result<PreparedSave, Refusal> {
        let desk = lock(&self.desks).get(page).cloned();
        let desk = desk.ok_or_else(|| Refusal::new(RefusalCode::Conflict, "join the page first"))?;
        let turn = desk.turn.clone().lock_owned().await;
        lock(&desk.state).take_shape(author, &save.shape)?;
        if lock(&desk.state).is_arriving(author) {
            // What the page has would cross what comes of the save, and take its place.
            desk.refresh(self, Some(author)).await?;
        }
        desk.prepare(self, (author, user), save, turn).await
    }
}

/// Being an author of whole contents of a page, until this is dropped.
pub struct Authorship {
    desks: Arc<Desks>,
    desk: Arc<Desk>,
    author: SocketId,
}

impl Authorship {
    /// Somebody has edited the page.
    pub fn page_changed(&self) {
        self.desk.changed.notify_one();
    }

    /// The author is asked for a sign of life, behind all that it was sent. Questions to it are numbered, the later the higher.
    pub fn pinged(&self, number: u64) {
        for versions in lock(&self.desk.state).shapes.values_mut() {
            versions.pinged(self.author, number);
        }
    }

    /// The author has answered the question with this number.
    pub fn answered(&self, number: u64) {
        for versions in lock(&self.desk.state).shapes.values_mut() {
            versions.answered(self.author, number);
        }
    }
}

impl Drop for Authorship {
    fn drop(&mut self) {
        self.desks.leave(&self.desk, self.author);
    }
}

impl PreparedSave {
    /// The edits have been stored, or there were none. The author is sent the outcome when it is another content than it has saved,
    /// and the others are sent it in any case. Gives the sequence number.
    pub fn stored(mut self, author: SocketId, seq: Option<Seq>) -> Seq {
        self.is_stored = true;
        let seq = seq.unwrap_or(self.seq);
        let desk = self.desk.clone();
        let Some(desks) = desk.desks.upgrade() else {
            return seq;
        };
        {
            let mut state = lock(&desk.state);
            if let Some(versions) = state.shapes.get_mut(&self.shape) {
                let saved = SavedContent {
                    content: &self.saved,
                    base: self.base.as_ref(),
                    is_certain: self.is_certain,
                    outcome: (seq, &self.merged),
                    differs: self.differs,
                };
                versions.saved(author, saved);
            }
        }
        desk.send(&desks, &self.shape, self.user.as_deref(), None);
        if !self.update.is_empty() {
            desk.tell_channel(&desks, author, &self, seq);
        }
        // Whoever saves in another form is sent it in that form.
        desk.changed.notify_one();
        seq
    }
}

impl Drop for PreparedSave {
    fn drop(&mut self) {
        if !self.is_stored {
            // Its edits may have been taken in all the same.
            lock(&self.desk.state)
                .clients
                .remove(self.user.as_deref().unwrap_or_default());
        }
    }
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

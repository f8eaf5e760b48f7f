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

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use bytes::Bytes;
use crdt::{ClientId, Format, Merged, Save};
use serde_json::{Value as Json, json};
use storage::{PageId, Seq};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{EventRooms, SocketId, VersionLimits, Versions, Way, event_text};
use crate::{
    protocols::events::{ContentSave, Shape, Wording},
    reader::{Change, Readers},
    rooms::{Refusal, RefusalCode, Registry, RoomName},
};

/// Shortest time between two contents that authors are sent because of the edits of others.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// What one author is sent of contents a second because of the edits of others, in bytes, above the shortest pause.
const BYTES_PER_SECOND: usize = 256 * 1024;
/// Pause before a page is read again that could not be read.
const RETRY: Duration = Duration::from_secs(2);
/// Forms in which one page is saved at a time.
const MAX_SHAPES: usize = 4;
/// Users whose client ids are remembered at a page.
const MAX_CLIENTS: usize = 1000;

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
    saved: Arc<Json>,
    base: Option<Json>,
    merged: Arc<Json>,
    user: String,
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
    rooms: EventRooms,
    config: ContentConfig,
    desks: Mutex<BTreeMap<PageId, Arc<Desk>>>,
}

/// What is done at one page.
struct Desk {
    page: PageId,
    room: RoomName,
    desks: Weak<Desks>,
    state: Mutex<State>,
    /// Held while the page is read and while a save is made and stored.
    turn: Arc<tokio::sync::Mutex<()>>,
    changed: Notify,
    stop: CancellationToken,
}

struct State {
    shapes: BTreeMap<Shape, Versions>,
    authors: BTreeMap<SocketId, Author>,
    /// Who came and is to be sent what the page has.
    arriving: BTreeSet<SocketId>,
    /// The client ids under which the users' saves are written: an id belongs to one user.
    clients: BTreeMap<String, ClientId>,
    /// The state that was read last.
    read: Option<Bytes>,
}

#[derive(Clone)]
struct Author {
    wording: Wording,
    shape: Shape,
}

impl Desks {
    /// No desks yet.
    pub fn new(registry: Registry, readers: Readers, rooms: EventRooms, config: ContentConfig) -> Arc<Self> {
        Arc::new(Self {
            registry,
            readers,
            rooms,
            config,
            desks: Mutex::default(),
        })
    }

    /// A socket is an author of whole contents of a page that it has a seat in. It is sent what the page has, if that is anything, and
    /// then what comes of it.
    pub fn enter(self: &Arc<Self>, page: &PageId, author: SocketId, wording: Wording) {
        let desk = {
            let mut desks = lock(&self.desks);
            let desk = desks.entry(page.clone()).or_insert_with(|| {
                let desk = Arc::new(Desk::new(page, Arc::downgrade(self)));
                tokio::spawn(desk.clone().run());
                desk
            });
            // Within the lock, so that it is not given up just now.
            let mut state = lock(&desk.state);
            state.authors.entry(author).or_insert(Author {
                wording,
                shape: Shape::default(),
            });
            state.arriving.insert(author);
            desk.clone()
        };
        desk.changed.notify_one();
    }

    /// A socket is no author any more.
    pub fn leave(&self, page: &PageId, author: SocketId) {
        let mut desks = lock(&self.desks);
        let Some(desk) = desks.get(page) else {
            return;
        };
        if !lock(&desk.state).leave(author) {
            desk.stop.cancel();
            desks.remove(page);
        }
    }

    /// Somebody has edited a page.
    pub fn changed(&self, page: &PageId) {
        if let Some(desk) = lock(&self.desks).get(page) {
            desk.changed.notify_one();
        }
    }

    /// Makes edits of a save. The next save of the page waits until they are stored, or given up.
    ///
    /// # Errors
    /// When the save contradicts what the page holds, its base is not known, or the page cannot be read, or not now.
    pub async fn prepare(
        &self,
        page: &PageId,
        (author, user): (SocketId, String),
        save: ContentSave,
    ) -> Result<PreparedSave, Refusal> {
        let desk = lock(&self.desks).get(page).cloned();
        let desk = desk.ok_or_else(|| Refusal::new(RefusalCode::Conflict, "join the page first"))?;
        let turn = desk.turn.clone().lock_owned().await;
        lock(&desk.state).take_shape(author, &save.shape)?;
        if lock(&desk.state).is_arriving(author) {
            desk.refresh(self).await?;
        }
        desk.prepare(self, (author, user), save, turn).await
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
                versions.saved(author, &self.saved, self.base.as_ref());
                versions.learn(seq, &self.merged);
            }
        }
        desk.send(&desks, &self.shape, Some(&self.user));
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
            lock(&self.desk.state).clients.remove(&self.user);
        }
    }
}

impl State {
    fn client_of(&mut self, user: &str) -> ClientId {
        if self.clients.len() >= MAX_CLIENTS && !self.clients.contains_key(user) {
            self.clients.clear();
        }
        *self.clients.entry(user.to_owned()).or_insert_with(new_client)
    }

    /// Gives whether there is an author left.
    fn leave(&mut self, author: SocketId) -> bool {
        self.authors.remove(&author);
        self.arriving.remove(&author);
        self.shapes.retain(|_, versions| versions.went(author));
        !self.authors.is_empty()
    }

    fn is_arriving(&self, author: SocketId) -> bool {
        self.arriving.contains(&author)
    }

    /// The author goes on in another form.
    fn take_shape(&mut self, id: SocketId, shape: &Shape) -> Result<(), Refusal> {
        let author = self.authors.get_mut(&id);
        let author = author.ok_or_else(|| Refusal::new(RefusalCode::Conflict, "join the page first"))?;
        if author.shape == *shape {
            return Ok(());
        }
        if !self.shapes.contains_key(shape) && self.shapes.len() >= MAX_SHAPES {
            return Err(Refusal::new(
                RefusalCode::Conflict,
                "the page is being saved in too many forms",
            ));
        }
        author.shape = shape.clone();
        self.arriving.insert(id);
        self.shapes.retain(|_, versions| versions.went(id));
        Ok(())
    }
}

impl Desk {
    fn new(page: &PageId, desks: Weak<Desks>) -> Self {
        Self {
            page: page.clone(),
            room: RoomName::of_page(page),
            desks,
            state: Mutex::new(State {
                shapes: BTreeMap::new(),
                authors: BTreeMap::new(),
                arriving: BTreeSet::new(),
                clients: BTreeMap::new(),
                read: None,
            }),
            turn: Arc::default(),
            changed: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Sends authors what others edit, until there is none.
    async fn run(self: Arc<Self>) {
        let stop = self.stop.clone();
        let running = async {
            loop {
                self.changed.notified().await;
                let Some(desks) = self.desks.upgrade() else {
                    return;
                };
                let since = Instant::now();
                let turn = self.turn.lock().await;
                let refreshed = self.refresh(&desks).await;
                drop((turn, desks));
                let (pause, mut is_due) = match refreshed {
                    Ok(bytes) => {
                        let seconds = bytes as f64 / BYTES_PER_SECOND as f64;
                        (MIN_PAUSE.max(Duration::from_secs_f64(seconds)), false)
                    }
                    Err(refusal) => {
                        tracing::debug!(page = %self.page, %refusal, "authors cannot be sent what a page holds now");
                        (RETRY, true)
                    }
                };
                // What others write is sent after a pause; who comes is not kept waiting by that.
                let arrived = async {
                    loop {
                        self.changed.notified().await;
                        is_due = true;
                        if !lock(&self.state).arriving.is_empty() {
                            return;
                        }
                    }
                };
                // Either way there is something to be looked at only when it is due.
                let _ = tokio::time::timeout_at(since + pause, arrived).await;
                if is_due {
                    self.changed.notify_one();
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => {}
            () = running => {}
        }
    }

    /// Reads the page in each form in which it has authors, and sends them what is new to them. Gives the bytes of the largest content.
    async fn refresh(&self, desks: &Desks) -> Result<usize, Refusal> {
        let (seq, whole_state) = self.read(desks).await?;
        let (shapes, arriving) = {
            let state = lock(&self.state);
            let shapes: BTreeSet<Shape> = state
                .authors
                .values()
                .map(|author| author.shape.clone())
                .collect();
            (shapes, state.arriving.clone())
        };
        // The state is encoded once as long as nothing changes.
        let is_same =
            |read: &Bytes, whole: &Bytes| read.as_ptr() == whole.as_ptr() && read.len() == whole.len();
        let is_known = match (&lock(&self.state).read, &whole_state) {
            (Some(read), Some(whole)) => is_same(read, whole),
            (None, _) | (_, None) => false,
        };
        let mut largest = 0;
        for shape in shapes {
            let known = {
                let state = lock(&self.state);
                let versions = state.shapes.get(&shape).filter(|_| is_known);
                versions.and_then(|versions| versions.latest().map(|(_, content)| content.clone()))
            };
            let content = match &whole_state {
                _ if known.is_some() => known,
                None => None,
                Some(whole) => {
                    let reading = desks.readers.whole(
                        &self.page,
                        whole.clone(),
                        shape.format.map(Format::from),
                        desks.config.default_format,
                        shape.field.clone(),
                    );
                    match reading.await {
                        Ok(whole) => whole.map(|whole| Arc::new(whole.content)),
                        Err(error) => {
                            let refusal = error.refusal();
                            if refusal.code.is_retryable() {
                                return Err(refusal);
                            }
                            // What cannot be shown in this form is not sent in it.
                            None
                        }
                    }
                }
            };
            {
                let mut state = lock(&self.state);
                let of_shape: Vec<SocketId> = (arriving.iter())
                    .filter(|id| {
                        let author = state.authors.get(id);
                        author.is_some_and(|author| author.shape == shape)
                    })
                    .copied()
                    .collect();
                let limits = desks.config.versions;
                let versions = state
                    .shapes
                    .entry(shape.clone())
                    .or_insert_with(|| Versions::new(limits));
                if let Some(content) = &content {
                    versions.learn(seq, content);
                }
                for id in &of_shape {
                    versions.came(*id, content.is_none());
                }
                for id in of_shape {
                    state.arriving.remove(&id);
                }
            }
            largest = largest.max(self.send(desks, &shape, None));
        }
        lock(&self.state).read = whole_state;
        Ok(largest)
    }

    /// What the page holds, and its sequence number; nothing of a page that is not there yet.
    async fn read(&self, desks: &Desks) -> Result<(Seq, Option<Bytes>), Refusal> {
        let reading = desks.registry.read(&self.page, |room| {
            let seq = room.seq();
            let is_there = room.generation().is_some();
            match is_there {
                true => room.document().encode().map(|whole| (seq, Some(whole))),
                false => Ok((seq, None)),
            }
        });
        match reading.await {
            Some(Ok(read)) => Ok(read),
            Some(Err(error)) => {
                tracing::error!(%error, "a page broke while it was read");
                Err(Refusal::new(RefusalCode::Internal, "the page cannot be read"))
            }
            None => Err(Refusal::unavailable("the page is being opened, try again")),
        }
    }

    /// Sends the latest content to the authors that show another one. Gives its bytes.
    fn send(&self, desks: &Desks, shape: &Shape, user: Option<&str>) -> usize {
        let (behind, seq, content) = {
            let mut state = lock(&self.state);
            let Some(versions) = state.shapes.get_mut(shape) else {
                return 0;
            };
            let behind = versions.send_latest();
            let Some((seq, content)) = versions.latest() else {
                return 0;
            };
            let content = content.clone();
            let wordings = behind.into_iter().filter_map(|id| {
                let author = state.authors.get(&id)?;
                Some((author.wording, id))
            });
            let mut behind: BTreeMap<Wording, Vec<SocketId>> = BTreeMap::new();
            for (wording, id) in wordings {
                behind.entry(wording).or_default().push(id);
            }
            (behind, seq, content)
        };
        let mut bytes = 0;
        for (wording, ids) in behind {
            let text = event_text(wording.event(), &self.told(&content, shape, seq, user));
            bytes = text.len();
            desks.rooms.push(&ids, &text);
        }
        bytes
    }

    fn told(&self, content: &Json, shape: &Shape, seq: Seq, user: Option<&str>) -> Json {
        let mut told = json!({
            "pageId": self.page.as_str(),
            "content": content,
            "version": seq,
            "userId": user,
        });
        if let Some(field) = &shape.field {
            told["field"] = field.clone().into();
        }
        told
    }

    /// Tells what has been saved to those who only listen to the page's channel.
    fn tell_channel(&self, desks: &Desks, author: SocketId, saved: &PreparedSave, seq: Seq) {
        let members = desks.rooms.members_by(&self.room, Way::Room);
        let listeners: Vec<SocketId> = {
            let state = lock(&self.state);
            let is_listener = |id: &SocketId| *id != author && !state.authors.contains_key(id);
            members.into_iter().filter(is_listener).collect()
        };
        if !listeners.is_empty() {
            let told = self.told(&saved.merged, &saved.shape, seq, Some(&saved.user));
            let text = event_text(Wording::DocumentUpdate.event(), &told);
            desks.rooms.push(&listeners, &text);
        }
    }

    async fn prepare(
        self: &Arc<Self>,
        desks: &Desks,
        (author, user): (SocketId, String),
        save: ContentSave,
        turn: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<PreparedSave, Refusal> {
        let (candidates, client) = {
            let mut state = lock(&self.state);
            let client = state.client_of(&user);
            let versions = state.shapes.get(&save.shape);
            let candidates = match (versions, save.base) {
                (Some(versions), Some(base)) => vec![known_base(versions, base)?],
                (Some(versions), None) => versions.bases(author).candidates,
                (None, _) => Vec::new(),
            };
            (candidates, client)
        };
        let saved = Arc::new(save.content);
        let candidates = nearest(candidates, saved.clone()).await;
        let (seq, whole) = self.read(desks).await?;
        let change = Change::Save(Save {
            content: Json::clone(&saved),
            format: save.shape.format.map(Format::from),
            default_format: desks.config.default_format,
            field: save.shape.field.clone(),
            had_current: false,
            candidates: candidates.clone(),
        });
        let whole = whole.unwrap_or_else(|| Bytes::from_static(&[0, 0]));
        let merging = desks.readers.merge(&self.page, whole, client, &change);
        let Merged {
            update,
            content,
            base,
            ..
        } = merging.await.map_err(|error| error.refusal())?;
        let base = base.and_then(|index| candidates.into_iter().nth(index));
        Ok(PreparedSave {
            update,
            saved,
            base: base.map(|base| base.content),
            user,
            merged: Arc::new(content),
            shape: save.shape,
            seq,
            desk: self.clone(),
            _turn: turn,
            is_stored: false,
        })
    }
}

/// The base that a client names.
fn known_base(versions: &Versions, base: Seq) -> Result<crdt::Candidate, Refusal> {
    let content = versions.at(base).ok_or_else(|| {
        Refusal::new(
            RefusalCode::Conflict,
            "the version that this was made from is not known any more",
        )
    })?;
    Ok(crdt::Candidate {
        content: Json::clone(content),
        is_certain: true,
    })
}

/// Of what an author may have had the one that is nearest to what it saves: looked for here, so that a reader is not sent all of them.
async fn nearest(mut candidates: Vec<crdt::Candidate>, saved: Arc<Json>) -> Vec<crdt::Candidate> {
    if candidates.len() < 2 {
        return candidates;
    }
    let looking = tokio::task::spawn_blocking(move || {
        let text = |content: &Json| match content {
            Json::String(text) => text.clone(),
            other @ (Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_)) => {
                other.to_string()
            }
        };
        let texts: Vec<String> = candidates.iter().map(|one| text(&one.content)).collect();
        let found = crdt::nearest(texts.iter().map(String::as_str), &text(&saved));
        match found {
            Some(index) => vec![candidates.swap_remove(index)],
            None => Vec::new(),
        }
    });
    // Nothing in it panics; without a base nothing is deleted.
    looking.await.unwrap_or_default()
}

/// A client id that no other desk and no client has.
fn new_client() -> ClientId {
    // The keys of a hasher are the system's random numbers. Ids have 32 bits, as Yjs draws them.
    ClientId(RandomState::new().hash_one(0_u8) & 0xffff_ffff)
}

fn lock<T>(guarded: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
    guarded.lock().unwrap_or_else(PoisonError::into_inner)
}

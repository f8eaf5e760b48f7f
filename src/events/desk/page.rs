//! What is done at one page: its content is read, saves become edits, and authors are sent what is new to them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;
use crdt::{Candidate, Format, Merged, Save};
use serde::Serialize;
use serde_json::value::RawValue;
use storage::{PageId, Seq};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Bases, Carried, Content, ContentSave, Desks, MAX_MERGING_KIB, PreparedSave, Refusal, RefusalCode, Shape,
    SocketId, Versions, Way, Wording, authors::State, bases::nearest, event_text, left::Past, lock,
};
use crate::{
    reader::{Change, Readers, State as PageState},
    rooms::RoomName,
};

/// Shortest time between two contents that authors are sent because of the edits of others.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// What one author is sent of contents a second because of the edits of others, in bytes, above the shortest pause.
const BYTES_PER_SECOND: usize = 256 * 1024;
/// Pause before a page is read again that could not be read.
const RETRY: Duration = Duration::from_secs(2);

/// What is done at one page.
pub(super) struct Desk {
    pub(super) page: PageId,
    room: RoomName,
    pub(super) desks: Weak<Desks>,
    pub(super) state: Mutex<State>,
    /// Held while the page is read and while a save is made and stored.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
    pub(super) changed: Notify,
    pub(super) stop: CancellationToken,
}

/// How a content is told.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    page_id: &'a str,
    content: &'a RawValue,
    version: Seq,
    user_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    field: Option<&'a str>,
}

impl Desk {
    pub(super) fn new(page: &PageId, desks: Weak<Desks>, left: Past) -> Self {
        Self {
            page: page.clone(),
            room: RoomName::of_page(page),
            desks,
            state: Mutex::new(State::new(left)),
            turn: Arc::default(),
            changed: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Sends authors what others edit, until there is none.
    pub(super) async fn run(self: Arc<Self>) {
        let stop = self.stop.clone();
        let running = async {
            loop {
                self.changed.notified().await;
                let Some(desks) = self.desks.upgrade() else {
                    return;
                };
                let since = Instant::now();
                let turn = self.turn.lock().await;
                let refreshed = self.refresh(&desks, None).await;
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

    /// Reads the page in each form in which it has authors, and sends them what is new to them, but for one of them. Gives the bytes of the
    /// largest content.
    pub(super) async fn refresh(&self, desks: &Desks, except: Option<SocketId>) -> Result<usize, Refusal> {
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
                Some(whole) => self.content(desks, &desks.readers, whole.clone(), &shape).await?,
            };
            let going_on = self.going_on(&shape);
            let mut carried = BTreeMap::new();
            for (id, (before, what)) in going_on {
                let shown = match &whole_state {
                    Some(whole) => {
                        self.content(desks, &desks.readers, whole.clone(), &before)
                            .await?
                    }
                    None => None,
                };
                let is_alike = shown.as_deref().map(RawValue::get) == content.as_deref().map(RawValue::get);
                carried.insert(id, if is_alike { what } else { Carried::nothing() });
            }
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
                let state = &mut *state;
                let left = &mut state.left.forms;
                let versions = state.shapes.entry(shape.clone()).or_insert_with(|| {
                    left.remove(&shape)
                        .filter(|_| content.is_some())
                        .unwrap_or_else(|| Versions::new(limits))
                });
                if let Some(content) = &content {
                    versions.learn(seq, content);
                }
                for id in &of_shape {
                    match carried.remove(id) {
                        Some(carried) => versions.went_on(*id, carried),
                        None => versions.came(*id, content.is_none()),
                    }
                }
                for id in of_shape {
                    state.arriving.remove(&id);
                    if let Some(author) = state.authors.get_mut(&id) {
                        author.before = None;
                        if author.has_returned {
                            versions.returned(id);
                        }
                    }
                }
            }
            largest = largest.max(self.send(desks, &shape, None, except));
        }
        lock(&self.state).read = whole_state;
        Ok(largest)
    }

    /// Those who are about to go on in a form, with the one in which they wrote before.
    fn going_on(&self, shape: &Shape) -> Vec<(SocketId, (Shape, Carried))> {
        let state = lock(&self.state);
        let authors = state.authors.iter().filter(|(_, author)| author.shape == *shape);
        authors
            .filter_map(|(id, author)| Some((*id, author.before.clone()?)))
            .collect()
    }

    /// The content of the page in a form; nothing where it cannot be shown in it.
    pub(super) async fn content(
        &self,
        desks: &Desks,
        readers: &Readers,
        whole: impl Into<PageState>,
        shape: &Shape,
    ) -> Result<Option<Content>, Refusal> {
        let reading = readers.whole(
            &self.page,
            whole,
            shape.format.map(Format::from),
            desks.config.default_format,
            shape.field.clone(),
        );
        match reading.await {
            Ok(whole) => Ok(whole.map(Content::from)),
            Err(error) => {
                let refusal = error.refusal();
                match refusal.code.is_retryable() {
                    true => Err(refusal),
                    false => Ok(None),
                }
            }
        }
    }

    /// What the page holds, and its sequence number; nothing of a page that is not there yet.
    pub(super) async fn read(&self, desks: &Desks) -> Result<(Seq, Option<Bytes>), Refusal> {
        let reading = desks.registry.read(&self.page, |room| {
            let seq = room.seq();
            let generation = room.generation().cloned();
            let whole = generation.as_ref().map(|_| room.document().encode());
            whole.transpose().map(|whole| (generation, (seq, whole)))
        });
        match reading.await {
            Some(Ok((generation, read))) => {
                lock(&self.state).left.is_read(generation);
                Ok(read)
            }
            Some(Err(error)) => {
                tracing::error!(%error, "a page broke while it was read");
                Err(Refusal::new(RefusalCode::Internal, "the page cannot be read"))
            }
            None => Err(Refusal::unavailable("the page is being opened, try again")),
        }
    }

    /// Sends the latest content to the authors that show another one, but for one of them. Gives its bytes.
    pub(super) fn send(
        &self,
        desks: &Desks,
        shape: &Shape,
        user: Option<&str>,
        except: Option<SocketId>,
    ) -> usize {
        let (behind, seq, content) = {
            let mut state = lock(&self.state);
            let Some(versions) = state.shapes.get_mut(shape) else {
                return 0;
            };
            let behind = versions.send_latest(except);
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

    fn told<'a>(
        &'a self,
        content: &'a Content,
        shape: &'a Shape,
        seq: Seq,
        user: Option<&'a str>,
    ) -> Told<'a> {
        Told {
            page_id: self.page.as_str(),
            content,
            version: seq,
            user_id: user,
            field: shape.field.as_deref(),
        }
    }

    /// Tells what has been saved to those who only listen to the page's channel.
    pub(super) fn tell_channel(&self, desks: &Desks, author: SocketId, saved: &PreparedSave, seq: Seq) {
        let members = desks.rooms.members_by(&self.room, Way::Room);
        let listeners: Vec<SocketId> = {
            let state = lock(&self.state);
            let is_listener = |id: &SocketId| *id != author && !state.authors.contains_key(id);
            members.into_iter().filter(is_listener).collect()
        };
        if !listeners.is_empty() {
            let told = self.told(&saved.merged, &saved.shape, seq, saved.user.as_deref());
            let text = event_text(Wording::DocumentUpdate.event(), &told);
            desks.rooms.push(&listeners, &text);
        }
    }

    pub(super) async fn prepare(
        self: &Arc<Self>,
        desks: &Desks,
        (author, user): (SocketId, Option<String>),
        save: ContentSave,
        turn: tokio::sync::OwnedMutexGuard<()>,
    ) -> Result<PreparedSave, Refusal> {
        let bases = match save.base {
            Some(base) => self.known_base(desks, &save.shape, base).await?,
            None => {
                self.look_back(desks, author, &save).await;
                let state = lock(&self.state);
                let versions = state.shapes.get(&save.shape);
                versions.map_or_else(Bases::none, |versions| versions.bases(author))
            }
        };
        let client = lock(&self.state).client_of(user.as_deref().unwrap_or_default());
        let saved = save.content;
        // What is being merged of all pages is bounded: whoever saves more waits.
        let size = u32::try_from(saved.get().len() / 1024 + 1).unwrap_or(u32::MAX);
        let room = desks.merging.acquire_many(size.min(MAX_MERGING_KIB)).await;
        let _room = room.map_err(|_| Refusal::draining())?;
        let nearest = nearest(bases, saved.clone()).await;
        let (seq, whole) = self.read(desks).await?;
        let candidates = nearest.iter().map(|(content, is_certain)| Candidate {
            content: &**content,
            is_certain: *is_certain,
        });
        let change = Change::Save(Save {
            content: &*saved,
            format: save.shape.format.map(Format::from),
            default_format: desks.config.default_format,
            field: save.shape.field.clone(),
            had_current: false,
            candidates: candidates.collect(),
        });
        let whole = whole.unwrap_or_else(|| Bytes::from_static(&[0, 0]));
        let merging = desks.readers.merge(&self.page, whole, client, &change);
        let Merged {
            update,
            content,
            base,
            differs,
            ..
        } = merging.await.map_err(|error| error.refusal())?;
        Ok(PreparedSave {
            update,
            saved,
            is_certain: nearest.as_ref().is_some_and(|(_, is_certain)| *is_certain),
            base: base.and(nearest).map(|(content, _)| content),
            user,
            merged: content.into(),
            differs,
            shape: save.shape,
            seq,
            desk: self.clone(),
            _turn: turn,
            is_stored: false,
        })
    }
}

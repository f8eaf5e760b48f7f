//! What is done at one component: changes become edits of its page, one after the other, and its members are told what comes of them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use bytes::Bytes;
use crdt::{Candidate, ClientId, ComponentChange, Format, MergeRefusal, Merged, thing_id, thing_in};
use serde_json::{Map, Value as Json, value::RawValue};
use storage::{PageId, Seq};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Components, MAX_MERGING_KIB,
    copies::{Base, Copies, Path},
    edits::{Author, Outcome},
    fields::{Edit, Wish},
    lock,
};
use crate::{
    events::{SocketId, ticker::now},
    protocols::events::Content,
    reader::{Change, MergeError, new_client},
    rooms::{Follower, Refusal, RefusalCode},
};

/// Shortest time between two readings of a component that others than its members edit.
const MIN_PAUSE: Duration = Duration::from_millis(200);
/// What is told of a component a second because of such edits, in bytes, above the shortest pause.
const BYTES_PER_SECOND: usize = 256 * 1024;
/// Pause before a component is read again that could not be read.
const RETRY: Duration = Duration::from_secs(2);
/// A component as JSON that grows no more by changes of its members, in bytes.
const MAX_COMPONENT_BYTES: usize = 4 * 1024 * 1024;
/// Users whose client ids are remembered at a component.
const MAX_CLIENTS: usize = 1000;
/// Contents of so many bytes are gone through beside the runtime.
const LARGE_BYTES: usize = 64 * 1024;
/// A state without anything.
const EMPTY: &[u8] = &[0, 0];

/// What is done at one component.
pub(super) struct Desk {
    page: PageId,
    components: Weak<Components>,
    pub(super) copies: Mutex<Copies>,
    /// Held while the component is read, and while a change of it is made, stored and told.
    turn: tokio::sync::Mutex<Turn>,
    changed: Notify,
    pub(super) stop: CancellationToken,
}

#[derive(Default)]
struct Turn {
    /// Ends when the desk has no seat any more.
    seat: Option<CancellationToken>,
    /// The state that was read last.
    read: Option<Bytes>,
    /// The client ids under which the users' changes are written: an id belongs to one user.
    clients: BTreeMap<String, ClientId>,
}

/// A change that has become edits.
struct Made {
    merged: Merged<Box<RawValue>>,
    base: Base,
    client: String,
}

impl Desk {
    pub(super) fn new(page: &PageId, components: &Arc<Components>) -> Self {
        Self {
            page: page.clone(),
            components: Arc::downgrade(components),
            copies: Mutex::new(Copies::new(components.versions)),
            turn: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            stop: CancellationToken::new(),
        }
    }

    /// Tells members what others edit who are no members, until there are none.
    pub(super) async fn run(self: Arc<Self>) {
        let running = async {
            loop {
                self.changed.notified().await;
                let Some(components) = self.components.upgrade() else {
                    return;
                };
                let since = Instant::now();
                let refreshed = {
                    let mut turn = self.turn.lock().await;
                    self.refresh(&components, &mut turn).await
                };
                drop(components);
                let pause = match refreshed {
                    Ok(bytes) => {
                        MIN_PAUSE.max(Duration::from_secs_f64(bytes as f64 / BYTES_PER_SECOND as f64))
                    }
                    Err(refusal) => {
                        tracing::debug!(page = %self.page, %refusal, "members cannot be told what a component is now");
                        self.changed.notify_one();
                        RETRY
                    }
                };
                tokio::time::sleep_until(since + pause).await;
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = running => {}
        }
    }

    /// Takes a seat, so that the page is open and the desk hears of edits.
    async fn sit(self: &Arc<Self>, components: &Components, turn: &mut Turn) -> Result<(), Refusal> {
        if turn.seat.as_ref().is_some_and(|gone| !gone.is_cancelled()) {
            return Ok(());
        }
        let follower = components.registry.follow(&self.page).await?;
        let gone = CancellationToken::new();
        turn.seat = Some(gone.clone());
        tokio::spawn(self.clone().listen(follower, gone));
        Ok(())
    }

    async fn listen(self: Arc<Self>, mut follower: Follower, gone: CancellationToken) {
        let listening = async {
            while follower.changed().await {
                self.changed.notify_one();
            }
        };
        tokio::select! {
            () = self.stop.cancelled() => {}
            () = listening => {}
        }
        gone.cancel();
        follower.leave().await;
        // A page that is opened again may have changed.
        self.changed.notify_one();
    }

    /// Reads what the component is now, and tells the members what they have not heard of. Gives the bytes of what was told.
    async fn refresh(self: &Arc<Self>, components: &Components, turn: &mut Turn) -> Result<usize, Refusal> {
        let (_, _, told) = self.read(components, turn).await?;
        Ok(told)
    }

    /// What the page holds, with its sequence number, and the bytes of what was told because of it.
    async fn read(
        self: &Arc<Self>,
        components: &Components,
        turn: &mut Turn,
    ) -> Result<(Seq, Bytes, usize), Refusal> {
        self.sit(components, turn).await?;
        let reading = components.registry.read(&self.page, |room| {
            let seq = room.seq();
            let is_there = room.generation().is_some();
            match is_there {
                true => room.document().encode().map(|whole| (seq, whole)),
                false => Ok((seq, Bytes::from_static(EMPTY))),
            }
        });
        let (seq, whole) = match reading.await {
            Some(Ok(read)) => read,
            Some(Err(error)) => {
                tracing::error!(%error, "a component broke while it was read");
                return Err(Refusal::new(
                    RefusalCode::Internal,
                    "the component cannot be read",
                ));
            }
            None => return Err(Refusal::unavailable("the component is being opened, try again")),
        };
        let is_same = |read: &Bytes| read.as_ptr() == whole.as_ptr() && read.len() == whole.len();
        if turn.read.as_ref().is_some_and(is_same) {
            return Ok((seq, whole, 0));
        }
        let format = Some(Format::Json);
        let reading = components
            .readers
            .whole(&self.page, whole.clone(), format, Format::Json, None);
        let content = reading.await.map_err(|error| error.refusal())?;
        let content = content.map_or_else(empty, Content::from);
        let before = lock(&self.copies).learn(now(), seq, &content);
        turn.read = Some(whole.clone());
        let told = before.map_or(0, |before| components.tell_edited(&self.page, &before, &content));
        Ok((seq, whole, told))
    }

    /// A member comes. Gives the sequence number and the content of the component, of which it hears every change from now on.
    pub(super) async fn come(
        self: &Arc<Self>,
        components: &Components,
        member: SocketId,
    ) -> Result<(Seq, Content), Refusal> {
        let mut turn = self.turn.lock().await;
        let (seq, ..) = self.read(components, &mut turn).await?;
        let mut copies = lock(&self.copies);
        copies.came(member);
        let content = copies.latest().map(|(_, content)| content.clone());
        Ok((seq, content.unwrap_or_else(empty)))
    }

    /// Makes a change: it is merged, stored, and told. To its end, whatever becomes of its author: others wait for it.
    pub(super) async fn change(
        self: Arc<Self>,
        components: Arc<Components>,
        author: Author,
        edit: Edit,
    ) -> Result<Outcome, Refusal> {
        let mut turn = self.turn.lock().await;
        author.right.check().await?;
        components.check_space(&author)?;
        let (seq, whole, _) = self.read(&components, &mut turn).await?;
        let made = self.make(&components, &mut turn, whole, &author, &edit);
        let Some(made) = made.await? else {
            return Ok(Outcome::nothing(seq));
        };
        let seq = match made.merged.update.is_empty() {
            true => seq,
            false => self.store(&components, &mut turn, &author, &made).await?,
        };
        let content: Content = made.merged.content.into();
        let (path, updates) = match &edit.wish {
            Wish::Update(path, updates) => (path.clone(), updates.clone()),
            Wish::Create(..) | Wish::Delete(_) => (Path::new(), Map::new()),
        };
        let time = now();
        let is_told = {
            let mut copies = lock(&self.copies);
            let crossed = made.base.has_crossed || made.merged.differs;
            let still = author
                .socket
                .is_some_and(|author| copies.still_tells(time, author, &path, &updates));
            copies.wrote(time, author.socket, (&path, &updates), crossed, (seq, &content));
            crossed || still
        };
        let has_changed = !made.merged.update.is_empty();
        let (wish, size) = (edit.wish.clone(), content.get().len());
        let after = beside(size, move || outcome_of(&wish, &content)).await?;
        Ok(components.tell_change(&author, &edit, (seq, has_changed, is_told), after))
    }

    /// Makes edits of a change; `None` when what was to be deleted is not there.
    async fn make(
        &self,
        components: &Components,
        turn: &mut Turn,
        whole: Bytes,
        author: &Author,
        edit: &Edit,
    ) -> Result<Option<Made>, Refusal> {
        let (possible, size) = {
            let copies = lock(&self.copies);
            let path = edit.wish.path();
            let possible = copies.possible(author.socket, edit.base, path).ok_or_else(|| {
                Refusal::new(
                    RefusalCode::Conflict,
                    "the version that this was made in is not known any more",
                )
            })?;
            (
                possible,
                copies.latest().map_or(0, |(_, content)| content.get().len()),
            )
        };
        // What is being merged of all components is bounded: more of it waits.
        let share = u32::try_from((possible.bytes() + size) / 1024 + 1).unwrap_or(u32::MAX);
        let room = components.merging.acquire_many(share.min(MAX_MERGING_KIB)).await;
        let _room = room.map_err(|_| Refusal::draining())?;
        let (change, base) = match edit.wish.clone() {
            Wish::Update(path, updates) => {
                let looking = beside(possible.bytes(), move || {
                    let base = possible.base(now(), &path, &updates);
                    (base, path, updates)
                });
                let (base, path, updates) = looking.await?;
                let candidate = base.properties.clone().map(|properties| Candidate {
                    content: Json::Object(properties),
                    is_certain: base.is_certain,
                });
                let change = ComponentChange::Update {
                    path,
                    updates,
                    candidates: candidate.into_iter().collect(),
                    had_current: false,
                };
                (change, base)
            }
            Wish::Create(path, list, thing) => {
                let list = list.to_owned();
                (ComponentChange::Create { path, list, thing }, Base::default())
            }
            Wish::Delete(path) => (ComponentChange::Delete { path }, Base::default()),
        };
        let client_of = author.told.clone().unwrap_or_default();
        if turn.clients.len() >= MAX_CLIENTS && !turn.clients.contains_key(&client_of) {
            turn.clients.clear();
        }
        let client = *turn.clients.entry(client_of.clone()).or_insert_with(new_client);
        let change: Change = Change::Component(change);
        let merging = components.readers.merge(&self.page, whole, client, &change);
        let merged = match merging.await {
            Err(MergeError::Refused(MergeRefusal::NotFound { .. })) if self.is_gone(&edit.wish) => {
                return Ok(None);
            }
            merged => merged.map_err(|error| error.refusal())?,
        };
        if merged.content.get().len() > MAX_COMPONENT_BYTES.max(size) {
            return Err(Refusal::too_large(format!(
                "a component has at most {MAX_COMPONENT_BYTES} bytes"
            )));
        }
        Ok(Some(Made {
            merged,
            base,
            client: client_of,
        }))
    }

    /// Whether something was to be deleted from a row that is there: when it is not in it, that is what was wanted.
    fn is_gone(&self, wish: &Wish) -> bool {
        let Wish::Delete(path) = wish else {
            return false;
        };
        let content = lock(&self.copies).latest().map(|(_, content)| content.clone());
        let component = content.and_then(|content| serde_json::from_str::<Json>(content.get()).ok());
        let row = path.split_last().map(|(_, row)| row.to_vec()).unwrap_or_default();
        component.is_some_and(|component| thing_in(&component, &row).is_some())
    }

    /// Stores edits, if their author may still make them. Gives the sequence number.
    async fn store(
        &self,
        components: &Components,
        turn: &mut Turn,
        author: &Author,
        made: &Made,
    ) -> Result<Seq, Refusal> {
        let stored = match author.right.check().await {
            Ok(()) => {
                let update = made.merged.update.clone();
                components
                    .registry
                    .post(&self.page, author.user.clone(), update)
                    .await
            }
            Err(refusal) => Err(refusal),
        };
        if stored.is_err() {
            // They may have been taken in all the same.
            turn.clients.remove(&made.client);
        }
        stored
    }
}

/// Does something with contents of so many bytes together, if they are many beside the runtime.
async fn beside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    match bytes < LARGE_BYTES {
        true => Ok(work()),
        // Nothing in it panics; it is not begun when the server ends.
        false => tokio::task::spawn_blocking(work)
            .await
            .map_err(|_| Refusal::draining()),
    }
}

/// A component without anything.
fn empty() -> Content {
    let empty = RawValue::from_string("{}".to_owned());
    empty.map_or_else(|_| RawValue::NULL.to_owned().into(), Content::from)
}

/// Of what was changed, as it is now: the properties, or the nested component.
fn outcome_of(wish: &Wish, content: &Content) -> Map<String, Json> {
    let component: Json = serde_json::from_str(content.get()).unwrap_or_default();
    match wish {
        Wish::Update(path, updates) => {
            let thing = thing_in(&component, path);
            let now = |key: &String| {
                thing
                    .and_then(|thing| thing.get(key))
                    .cloned()
                    .unwrap_or_default()
            };
            updates.keys().map(|key| (key.clone(), now(key))).collect()
        }
        Wish::Create(path, _, thing) => {
            let mut path = path.clone();
            path.extend(thing.get("id").and_then(thing_id));
            thing_in(&component, &path).unwrap_or(thing).clone()
        }
        Wish::Delete(_) => Map::new(),
    }
}

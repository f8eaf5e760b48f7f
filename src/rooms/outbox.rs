//! The bounded queue towards one member, and what happens when it is full.
//!
//! Document messages leave in order. When they would exceed the limit, they are dropped from there on and the member is
//! *behind*: once everything queued has left, the room is asked for one diff from what the member had. Awareness waits beside
//! the queue, latest state per client id, and leaves when the queue is empty. Of solicited answers (steps 1 and 2, marks) only
//! the newest waits, because it contains all that an older unsent one would have brought. So memory is bounded whatever a member
//! asks for and however slowly it reads.
//!
//! What others write leaves behind the step 2 that it builds on, which may have to wait for the store: were the server killed in between,
//! the client would be left with a gap that it carries into its next answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crdt::{AwarenessChange, ClientId};
use futures_util::task::AtomicWaker;

use super::{Capabilities, Outgoing, Refusal, ServerMessage};

/// Presence leaves in messages of about so many bytes.
const MAX_PRESENCE_BYTES: usize = 256 * 1024;
/// Of what is said beside the document, so many times as much may wait as of document messages: it cannot be told otherwise later.
const STATELESS_SHARE: usize = 4;

/// What became of a message that was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// It will leave, or need not because a later answer covers it or nobody may read it any more.
    Queued,
    /// It was dropped, and so will all document messages be until [`Outbox::resume`]: the member has just fallen behind.
    FellBehind,
    /// It was dropped because the member is behind.
    Behind,
}

/// What the connection should do next.
#[derive(Debug)]
pub enum Next {
    /// Write this.
    Message(Arc<Outgoing>),
    /// Tell that the oldest document message without a receipt is durable, or was refused.
    Receipt {
        /// Durable, or refused.
        accepted: bool,
    },
    /// Tell the room that the member has caught up with its queue.
    CaughtUp,
    /// Hang up.
    Close(Refusal),
}

#[derive(Debug)]
enum Presence {
    Shared(Arc<Outgoing>),
    Merged(BTreeMap<ClientId, AwarenessChange>),
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Arc<Outgoing>>,
    /// The member has been answered: it has what the others' edits build on.
    answered: bool,
    /// The others' edits until then.
    unanswered: Vec<Arc<Outgoing>>,
    /// Of both.
    bytes: usize,
    /// Receipts that wait, as runs of likes: they are never dropped, and leave when the queue is empty.
    receipts: VecDeque<(bool, u32)>,
    presence: Option<Presence>,
    /// Asks the member about its presence, behind what it is told of it.
    question: Option<Arc<Outgoing>>,
    behind: bool,
    caught_up_told: bool,
    close: Option<Refusal>,
    /// Nothing is taken in any more.
    shut: bool,
}

/// The queue towards one member, shared by the room that fills it and the connection that empties it.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    max_bytes: usize,
    capabilities: Capabilities,
    is_deaf: bool,
}

impl Outbox {
    /// An empty outbox that holds at most about `max_bytes` of document messages (one larger message alone passes); 0 for no
    /// limit.
    pub fn new(max_bytes: usize) -> Arc<Self> {
        Self::with_capabilities(max_bytes, Capabilities::default())
    }

    /// The same for a member whose protocol has words for more.
    pub fn with_capabilities(max_bytes: usize, capabilities: Capabilities) -> Arc<Self> {
        Arc::new(Self::of(max_bytes, capabilities, false))
    }

    /// The outbox of a member that shows itself and wants to hear nothing. It is hung up on when it may not edit any more.
    pub fn deaf() -> Arc<Self> {
        Arc::new(Self::of(0, Capabilities::default(), true))
    }

    fn of(max_bytes: usize, capabilities: Capabilities, is_deaf: bool) -> Self {
        let max_bytes = if max_bytes == 0 { usize::MAX } else { max_bytes };
        Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            max_bytes,
            capabilities,
            is_deaf,
        }
    }

    /// What can be told through it.
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message.
    pub fn push(&self, message: &Arc<Outgoing>) -> Pushed {
        if self.is_deaf {
            if let ServerMessage::Refused(refusal) = message.message() {
                self.close(refusal.clone());
            }
            return Pushed::Queued;
        }
        let pushed = self.state().push(message, self.max_bytes);
        if pushed == Pushed::Queued {
            self.waker.wake();
        }
        pushed
    }

    /// Lets document messages in again. A step 2 must follow, with all that was missed.
    pub fn resume(&self) {
        let mut state = self.state();
        state.behind = false;
        state.caught_up_told = false;
        state.answered = false;
        let missed = std::mem::take(&mut state.unanswered);
        state.bytes -= missed.iter().map(|message| message.size()).sum::<usize>();
    }

    /// Asks the connection to hang up after what is queued already has left. The first reason stands.
    pub fn close(&self, refusal: Refusal) {
        let mut state = self.state();
        if !state.shut {
            state.close.get_or_insert(refusal);
        }
        drop(state);
        self.waker.wake();
    }

    /// Why the connection is to hang up, if it is.
    pub fn closing(&self) -> Option<Refusal> {
        self.state().close.clone()
    }

    /// Asks the connection to hang up at once: what is queued belongs to somebody who may not see it any more.
    pub fn expel(&self, refusal: Refusal) {
        let mut state = self.state();
        *state = State {
            close: Some(refusal),
            shut: true,
            ..State::default()
        };
        drop(state);
        self.waker.wake();
    }

    /// Takes what is to be done next.
    pub fn next(&self) -> Option<Next> {
        self.state().next()
    }

    /// Waits until there is something to be done. Only one task may wait.
    pub fn poll_next(&self, context: &Context<'_>) -> Poll<Next> {
        if let Some(next) = self.next() {
            return Poll::Ready(next);
        }
        self.waker.register(context.waker());
        match self.next() {
            Some(next) => Poll::Ready(next),
            None => Poll::Pending,
        }
    }

    /// Waits until the member is expelled, in the place of [`Self::poll_next`] while its connection takes nothing.
    pub fn poll_expelled(&self, context: &Context<'_>) -> Poll<Refusal> {
        self.waker.register(context.waker());
        let state = self.state();
        match state.close.as_ref().filter(|_| state.shut) {
            Some(refusal) => Poll::Ready(refusal.clone()),
            None => Poll::Pending,
        }
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.state().bytes
    }
}

impl State {
    fn push(&mut self, message: &Arc<Outgoing>, max_bytes: usize) -> Pushed {
        if self.shut {
            return Pushed::Queued;
        }
        match message.message() {
            ServerMessage::Awareness(changes) => {
                self.push_presence(message, changes);
                return Pushed::Queued;
            }
            ServerMessage::SyncStep1(_) | ServerMessage::SyncStep2(_) | ServerMessage::Mark(_) => {
                if self.replace_queued(message) {
                    self.answer(message);
                    return Pushed::Queued;
                }
            }
            ServerMessage::Delta(_) | ServerMessage::Stored(_) => {
                if self.behind {
                    return Pushed::Behind;
                }
                if self.bytes > 0 && self.bytes.saturating_add(message.size()) > max_bytes {
                    self.behind = true;
                    return Pushed::FellBehind;
                }
                if !self.answered && !matches!(message.message(), ServerMessage::Stored(_)) {
                    self.bytes += message.size();
                    self.unanswered.push(message.clone());
                    return Pushed::Queued;
                }
            }
            ServerMessage::Receipts { accepted, count } => {
                self.push_receipts(*accepted, *count);
                return Pushed::Queued;
            }
            ServerMessage::QueryAwareness => {
                self.question = Some(message.clone());
                return Pushed::Queued;
            }
            ServerMessage::Stateless(_) => {
                // What is said to a reader that reads is taken at the rate at which it is said; a few that come at once may wait.
                let most = max_bytes.saturating_mul(STATELESS_SHARE);
                if !self.queue.is_empty() && self.bytes.saturating_add(message.size()) > most {
                    // It is said once and nothing later makes up for it, so it must not be dropped without a word.
                    self.close.get_or_insert(Refusal::unavailable(
                        "the client does not read what others say to it",
                    ));
                    return Pushed::Queued;
                }
            }
            ServerMessage::Refused(_) => {}
        }
        self.bytes += message.size();
        self.queue.push_back(message.clone());
        self.answer(message);
        Pushed::Queued
    }

    fn answer(&mut self, message: &Outgoing) {
        if matches!(message.message(), ServerMessage::SyncStep2(_)) {
            self.answered = true;
            self.queue.extend(self.unanswered.drain(..));
        }
    }

    /// Puts an answer in the place of one that still waits, which it covers. What is queued behind it may build on it.
    fn replace_queued(&mut self, answer: &Arc<Outgoing>) -> bool {
        let kind = std::mem::discriminant(answer.message());
        let waiting = self
            .queue
            .iter_mut()
            .find(|queued| std::mem::discriminant(queued.message()) == kind);
        let Some(waiting) = waiting else { return false };
        self.bytes += answer.size();
        self.bytes -= waiting.size();
        *waiting = answer.clone();
        true
    }

    fn push_receipts(&mut self, accepted: bool, count: u32) {
        match self.receipts.back_mut() {
            Some((last, waiting)) if *last == accepted && waiting.checked_add(count).is_some() => {
                *waiting += count;
            }
            Some(_) | None => self.receipts.push_back((accepted, count)),
        }
    }

    fn next_receipt(&mut self) -> Option<Next> {
        let (accepted, waiting) = self.receipts.front_mut()?;
        let accepted = *accepted;
        *waiting -= 1;
        if *waiting == 0 {
            self.receipts.pop_front();
        }
        Some(Next::Receipt { accepted })
    }

    fn push_presence(&mut self, message: &Arc<Outgoing>, changes: &[AwarenessChange]) {
        let Some(waiting) = self.presence.take() else {
            self.presence = Some(Presence::Shared(message.clone()));
            return;
        };
        let mut merged = match waiting {
            Presence::Merged(merged) => merged,
            Presence::Shared(first) => changes_of(&first),
        };
        for change in changes {
            merged.insert(change.client, change.clone());
        }
        self.presence = Some(Presence::Merged(merged));
    }

    /// What is to be told of presence, at most about [`MAX_PRESENCE_BYTES`] of it. The rest waits, and is replaced by what is newer.
    fn next_presence(&mut self) -> Option<Arc<Outgoing>> {
        let mut waiting = match self.presence.take()? {
            Presence::Shared(message) if message.size() <= MAX_PRESENCE_BYTES => return Some(message),
            Presence::Shared(message) => changes_of(&message),
            Presence::Merged(merged) => merged,
        };
        let mut bytes = 0;
        let mut told = Vec::new();
        while let Some((client, change)) = waiting.pop_first() {
            let size = change.state.as_ref().map_or(0, |state| state.len());
            if !told.is_empty() && bytes + size > MAX_PRESENCE_BYTES {
                waiting.insert(client, change);
                break;
            }
            bytes += size;
            told.push(change);
        }
        if !waiting.is_empty() {
            self.presence = Some(Presence::Merged(waiting));
        }
        Some(Outgoing::new(ServerMessage::Awareness(told)))
    }

    fn next(&mut self) -> Option<Next> {
        if let Some(message) = self.queue.pop_front() {
            self.bytes -= message.size();
            return Some(Next::Message(message));
        }
        if let Some(receipt) = self.next_receipt() {
            return Some(receipt);
        }
        if let Some(refusal) = self.close.take() {
            return Some(Next::Close(refusal));
        }
        if self.behind && !self.caught_up_told {
            self.caught_up_told = true;
            return Some(Next::CaughtUp);
        }
        let presence = self.next_presence();
        presence.or_else(|| self.question.take()).map(Next::Message)
    }
}

/// What a message tells of presence, by client.
fn changes_of(message: &Outgoing) -> BTreeMap<ClientId, AwarenessChange> {
    match message.message() {
        ServerMessage::Awareness(changes) => {
            let changes = changes.iter();
            changes.map(|change| (change.client, change.clone())).collect()
        }
        ServerMessage::SyncStep1(_)
        | ServerMessage::SyncStep2(_)
        | ServerMessage::Delta(_)
        | ServerMessage::Stored(_)
        | ServerMessage::Refused(_)
        | ServerMessage::Receipts { .. }
        | ServerMessage::QueryAwareness
        | ServerMessage::Stateless(_)
        | ServerMessage::Mark(_) => BTreeMap::new(),
    }
}

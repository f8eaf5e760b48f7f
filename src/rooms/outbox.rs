//! The bounded queue towards one member, and what happens when it is full.
//!
//! Document messages leave in order. When they would exceed the limit, they are dropped from there on and the member is
//! *behind*: once everything queued has left, the room is asked for one diff from what the member had. Awareness waits beside
//! the queue, latest state per client id, and leaves when the queue is empty. Of solicited answers (steps 1 and 2) only
//! the newest waits, because it contains all that an older unsent one would have brought. So memory is bounded whatever a member
//! asks for and however slowly it reads.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use crdt::{AwarenessChange, ClientId};
use futures_util::task::AtomicWaker;

use super::{Outgoing, Refusal, ServerMessage};

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
    bytes: usize,
    presence: Option<Presence>,
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
}

impl Outbox {
    /// An empty outbox that holds at most about `max_bytes` of document messages (one larger message alone passes); 0 for no
    /// limit.
    pub fn new(max_bytes: usize) -> Arc<Self> {
        let max_bytes = if max_bytes == 0 { usize::MAX } else { max_bytes };
        Arc::new(Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            max_bytes,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a message.
    pub fn push(&self, message: &Arc<Outgoing>) -> Pushed {
        let pushed = self.state().push(message, self.max_bytes);
        if pushed == Pushed::Queued {
            self.waker.wake();
        }
        pushed
    }

    /// Lets document messages in again.
    pub fn resume(&self) {
        let mut state = self.state();
        state.behind = false;
        state.caught_up_told = false;
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
            ServerMessage::SyncStep1(_) => {
                self.drop_queued(|queued| matches!(queued, ServerMessage::SyncStep1(_)))
            }
            ServerMessage::SyncStep2(_) => {
                self.drop_queued(|queued| matches!(queued, ServerMessage::SyncStep2(_)))
            }
            ServerMessage::Delta(_) | ServerMessage::Stored(_) | ServerMessage::Brought(_) => {
                if self.behind {
                    return Pushed::Behind;
                }
                if !self.queue.is_empty() && self.bytes.saturating_add(message.size()) > max_bytes {
                    self.behind = true;
                    return Pushed::FellBehind;
                }
            }
            ServerMessage::Refused(_) => {}
        }
        self.bytes += message.size();
        self.queue.push_back(message.clone());
        Pushed::Queued
    }

    /// Drops queued answers that a newer one covers.
    fn drop_queued(&mut self, covered: impl Fn(&ServerMessage) -> bool) {
        let bytes = &mut self.bytes;
        self.queue.retain(|queued| {
            let keep = !covered(queued.message());
            if !keep {
                *bytes -= queued.size();
            }
            keep
        });
    }

    fn push_presence(&mut self, message: &Arc<Outgoing>, changes: &[AwarenessChange]) {
        let Some(waiting) = self.presence.take() else {
            self.presence = Some(Presence::Shared(message.clone()));
            return;
        };
        let mut merged = match waiting {
            Presence::Merged(merged) => merged,
            Presence::Shared(first) => match first.message() {
                ServerMessage::Awareness(changes) => changes
                    .iter()
                    .map(|change| (change.client, change.clone()))
                    .collect(),
                ServerMessage::SyncStep1(_)
                | ServerMessage::SyncStep2(_)
                | ServerMessage::Delta(_)
                | ServerMessage::Stored(_)
                | ServerMessage::Brought(_)
                | ServerMessage::Refused(_) => BTreeMap::new(),
            },
        };
        for change in changes {
            merged.insert(change.client, change.clone());
        }
        self.presence = Some(Presence::Merged(merged));
    }

    fn next(&mut self) -> Option<Next> {
        if let Some(message) = self.queue.pop_front() {
            self.bytes -= message.size();
            return Some(Next::Message(message));
        }
        if let Some(refusal) = self.close.take() {
            return Some(Next::Close(refusal));
        }
        if self.behind && !self.caught_up_told {
            self.caught_up_told = true;
            return Some(Next::CaughtUp);
        }
        self.presence.take().map(|presence| {
            Next::Message(match presence {
                Presence::Shared(message) => message,
                Presence::Merged(merged) => {
                    Outgoing::new(ServerMessage::Awareness(merged.into_values().collect()))
                }
            })
        })
    }
}

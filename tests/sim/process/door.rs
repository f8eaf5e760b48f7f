//! The way to a room, and what is put into its mailbox.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::ClientId;
use pageroom::rooms::{Change, ClientMessage, Departure, MemberId, Outbox, Role, SlotId};

use crate::live::{Live, Reply};

/// Something for a room's mailbox.
#[derive(Debug)]
pub(crate) enum Command {
    Join {
        member: MemberId,
        role: Role,
        user: Option<Arc<str>>,
        outbox: Arc<Outbox>,
        /// The client id of an honest client.
        own: Option<ClientId>,
        /// It has each of its edits answered by itself.
        posts: bool,
    },
    Said {
        member: MemberId,
        messages: Vec<ClientMessage>,
    },
    Left {
        member: MemberId,
        departure: Departure,
    },
    Change {
        member: MemberId,
        change: Change,
    },
    CaughtUp {
        member: MemberId,
    },
    Post {
        post: usize,
        update: Bytes,
    },
    Drain {
        abandon: bool,
    },
}

impl Command {
    /// Whether somebody holds a lease until the room has taken it.
    pub(super) fn is_leased(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Post { .. })
    }
}

/// The way to a room, and the room itself once it is loaded.
pub(super) struct Door {
    pub(super) page: usize,
    pub(super) slot: SlotId,
    pub(super) mailbox: VecDeque<Command>,
    pub(super) wake_at: Option<Instant>,
    pub(super) live: Option<Box<Live>>,
}

impl Door {
    pub(super) fn put(&mut self, now: Instant, command: Command) {
        self.mailbox.push_back(command);
        self.wake_at.get_or_insert(now + Duration::from_micros(500));
    }

    /// Changes what a member may do before anything is taken that it says.
    pub(super) fn put_behind_arrival(&mut self, now: Instant, of: MemberId, change: Change) {
        let is_about = |command: &Command| match command {
            Command::Join { member, .. } | Command::Change { member, .. } => *member == of,
            Command::Said { .. }
            | Command::Left { .. }
            | Command::CaughtUp { .. }
            | Command::Post { .. }
            | Command::Drain { .. } => false,
        };
        let arrival = self.mailbox.iter().rposition(is_about);
        let behind = arrival.map_or(self.mailbox.len(), |at| at + 1);
        self.mailbox
            .insert(behind, Command::Change { member: of, change });
        self.wake_at.get_or_insert(now + Duration::from_micros(500));
    }

    pub(super) fn due(&mut self) -> Option<Instant> {
        let live = self.live.as_mut()?;
        [self.wake_at, live.room().next_deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Backends that wait for an answer.
    pub(super) fn waiting_posts(&self) -> impl Iterator<Item = usize> {
        let mailbox = self.mailbox.iter().filter_map(|command| match command {
            Command::Post { post, .. } => Some(*post),
            _ => None,
        });
        let waiting = self.live.iter().flat_map(|live| live.host.waiting());
        mailbox.chain(waiting.filter_map(|reply| match reply {
            Reply::Backend(post) => Some(*post),
            Reply::Member(_) => None,
        }))
    }
}

//! What is spoken on one connection, whatever carries it.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;

use crate::{
    protocols::Frame,
    rooms::{Departure, Refusal},
};

/// A boxed piece of work that a connection goes on with between other things.
pub type Work<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// What is spoken on one connection: `Incoming` of the peer in, frames to it out. It does nothing by itself and never waits; the
/// driver asks it in turns.
///
/// Protocols that have several pages, or several namespaces, on one connection consist of protocols again: one for each of them.
pub trait Protocol<Incoming = Frame>: Send {
    /// Takes in something, or the first part of a frame with many messages. Gives how many messages it took. A refusal ends the
    /// connection.
    fn on_frame(&mut self, now: Instant, incoming: Incoming) -> Result<usize, Refusal>;

    /// Whether more is in the last frame.
    fn has_unread(&self) -> bool {
        false
    }

    /// Takes in the next part of it.
    fn on_unread(&mut self) -> Result<usize, Refusal> {
        Ok(0)
    }

    /// The beginning of a message that was too long, and of which the rest was thrown away. A refusal ends the connection.
    fn on_overlong(&mut self, _beginning: &Bytes, refusal: Refusal) -> Result<(), Refusal> {
        Err(refusal)
    }

    /// Whether it may be given more now. If not, [`Self::poll_work`] wakes the task when it may.
    fn may_receive(&self) -> bool;

    /// Goes on with what it has begun and does not need the peer for.
    fn poll_work(&mut self, context: &mut Context<'_>);

    /// The next frames to send, appended to `frames`; or, behind those, the last word.
    fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>>;

    /// Why it is over, if the peer may not hear anything more: a peer that reads nothing is not waited for then.
    fn poll_over(&mut self, _context: &mut Context<'_>) -> Poll<Refusal> {
        Poll::Pending
    }

    /// A frame that changes nothing, for clients that hang up on a silent server.
    fn keep_alive(&self) -> Option<Bytes> {
        None
    }

    /// The peer is asked for a sign of life, behind all that it was sent until now. Questions are numbered from 1 on.
    fn on_ping(&mut self, _number: u64) {}

    /// The peer has answered the question with this number: what it was sent before that has arrived.
    fn on_pong(&mut self, _number: u64) {}

    /// Whether it is known who the peer is. Until then its messages are kept small.
    fn is_known(&self) -> bool {
        true
    }

    /// When [`Self::tick`] wants to be called.
    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    /// Does what is due by now. A refusal ends the connection.
    fn tick(&mut self, _now: Instant) -> Result<(), Refusal> {
        Ok(())
    }

    /// The server is about to hang up: the last frames to send.
    fn farewell(&mut self, _refusal: &Refusal, _frames: &mut Vec<Frame>) {}

    /// Gives back what it holds. What was received counts, also when the peer said goodbye or nonsense right behind it.
    fn end(self: Box<Self>, departure: Departure) -> Work<()>;
}

/// Why all parts of a protocol are over, if there are some and all are. All are asked, so that each wakes the task.
pub(super) fn poll_all_over(parts: impl Iterator<Item = Poll<Refusal>>) -> Poll<Refusal> {
    let (mut first, mut are_all) = (None, true);
    for part in parts {
        match part {
            Poll::Ready(refusal) => first = first.or(Some(refusal)),
            Poll::Pending => are_all = false,
        }
    }
    first.filter(|_| are_all).map_or(Poll::Pending, Poll::Ready)
}

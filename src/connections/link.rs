//! What carries the frames of one connection.

use std::{
    future::Future,
    task::{Context, Poll},
};

use bytes::Bytes;

use crate::{protocols::Frame, rooms::Refusal};

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// The peer said goodbye.
    Clean,
    /// The peer vanished.
    Lost,
    /// We hang up.
    Refused(Refusal),
}

/// What a peer has sent.
#[derive(Debug)]
pub(super) enum Received {
    /// A message.
    Frame(Frame),
    /// The beginning of a message that is too long, and why it is refused.
    Overlong(Bytes, Refusal),
    /// The answer to what [`Link::push_ping`] has asked: all that was sent before that has arrived.
    Pong,
    /// A sign of life that says nothing.
    Nothing,
}

/// What carries the frames of one connection.
pub(super) trait Link: Send {
    /// Goes on with what the transport itself has to do.
    fn poll_transport(&mut self, _context: &mut Context<'_>) -> Result<(), Ended> {
        Ok(())
    }

    /// It is known who the peer is: its messages may be so long from the next one on.
    fn trust(&mut self, max_message_bytes: usize);

    /// Waits until another message may be queued, sending what is queued already as far as that is needed.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>>;

    /// Queues a message. Ask [`Self::poll_ready`] first.
    fn push(&mut self, frame: Frame);

    /// Queues what asks the peer for a sign of life, and `keep_alive` for clients that understand nothing else.
    fn push_ping(&mut self, keep_alive: Option<Bytes>);

    /// Sends what is queued; ready when nothing is queued any more.
    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Ended>>;

    /// Whether the peer has taken something since this was asked the last time, be it a part of a message.
    fn has_moved(&mut self) -> bool;

    /// Whether something of the peer has come since this was asked the last time, be it a part of a message.
    fn has_come(&mut self) -> bool;

    /// What the peer sends next.
    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, Ended>>;

    /// Whether a goodbye means that the peer is leaving.
    fn means_goodbyes(&self) -> bool {
        true
    }

    /// Tells the peer that the connection has ended, and how.
    fn close(self, ended: &Ended) -> impl Future<Output = ()> + Send;
}

//! A socket with one page, as y-websocket has it: frames of a dialect on one side, a seat in the page's room on the other.

use std::{
    future::Future,
    marker::PhantomData,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use hyper::upgrade::OnUpgrade;

use super::{
    ConnectionSlot, Session, SessionConfig,
    context::ServerContext,
    driver::{Driving, MAX_MESSAGES_A_TURN, now, run},
    handshake::accepted,
    link::{Ended, Link},
    protocol::{Protocol, Work},
    seat_io::{SeatEvent, SeatIo},
    websocket::WebSocket,
};
use crate::{
    access::Membership,
    protocols::{Dialect, Frame, Unread},
    rooms::{Departure, Outbox, Refusal},
};

/// Serves one connection to one page until it ends.
pub async fn serve<D: Dialect + 'static>(
    on_upgrade: OnUpgrade,
    membership: Membership,
    slot: ConnectionSlot,
    server: Arc<ServerContext>,
) {
    // Joining takes much memory for a moment; in a box it takes none while the connection lasts.
    if let Some(connection) = Box::pin(join::<D>(on_upgrade, membership, server)).await {
        connection.await;
    }
    drop(slot);
}

/// Takes the peer's seat; `None` when the peer has gone or was sent away.
async fn join<D: Dialect + 'static>(
    on_upgrade: OnUpgrade,
    membership: Membership,
    server: Arc<ServerContext>,
) -> Option<impl Future<Output = ()> + Send> {
    let socket = accepted(on_upgrade, server.max_message()).await?;
    let link = WebSocket::new(socket);
    let outbox = Outbox::new(server.max_outbox_bytes);
    // A client that hears nothing for longer has gone.
    let patience = server.session.timeout;
    match SeatIo::begin(&server.access, membership, outbox, patience).await {
        Ok(seat) => {
            let longest = server.session.keep_alive;
            let config = SessionConfig {
                keep_alive: D::max_silence().map_or(longest, |silence| silence.min(longest)),
                ..server.session
            };
            let protocol = OnePage::<D> {
                seat,
                unread: Unread::default(),
                dialect: PhantomData,
            };
            let driving = Driving {
                session: Session::new(now(), config),
                max_message_bytes: server.max_message(),
                // Its room ends it.
                stop: None,
                server,
            };
            Some(run(link, Box::new(protocol), driving))
        }
        Err(refusal) => {
            server.metrics.refused(refusal.code.as_str(), 1);
            link.close(&Ended::Refused(refusal)).await;
            None
        }
    }
}

/// What is spoken on a socket with one page.
struct OnePage<D> {
    seat: SeatIo,
    /// What has not been taken in of the last frame.
    unread: Unread,
    dialect: PhantomData<fn() -> D>,
}

impl<D: Dialect + 'static> Protocol for OnePage<D> {
    fn on_frame(&mut self, _now: Instant, frame: Frame) -> Result<usize, Refusal> {
        self.unread = Unread::new(frame.into_binary()?);
        // A frame without a message counts as one.
        self.on_unread().map(|count| count.max(1))
    }

    fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    fn on_unread(&mut self) -> Result<usize, Refusal> {
        let mut count = 0;
        // What came before the nonsense counts.
        while count < MAX_MESSAGES_A_TURN
            && self.seat.may_send()
            && let Some(message) = D::next(&mut self.unread)
        {
            let message = message.map_err(|error| Refusal::malformed(error.to_string()))?;
            if let Some(message) = message {
                self.seat.send(message);
            }
            count += 1;
        }
        Ok(count)
    }

    fn may_receive(&self) -> bool {
        self.seat.may_send()
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.seat.poll_work(context);
    }

    fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        loop {
            match self.seat.poll_next(context) {
                Poll::Ready(SeatEvent::Message(message)) => {
                    let frame = message.wire(D::SLOT, D::encode);
                    // Some messages are nothing in this dialect.
                    if !frame.is_empty() {
                        frames.push(Frame::Binary(frame));
                        return Poll::Ready(Ok(()));
                    }
                }
                // It takes the echo of its edits for the acknowledgement.
                Poll::Ready(SeatEvent::Receipt { .. } | SeatEvent::Posted(..) | SeatEvent::TokenEnds) => {}
                Poll::Ready(SeatEvent::Close(refusal)) => return Poll::Ready(Err(refusal)),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        self.seat.poll_expelled(context)
    }

    fn keep_alive(&self) -> Option<Bytes> {
        Some(D::keep_alive())
    }

    fn end(self: Box<Self>, departure: Departure) -> Work<()> {
        Box::pin(self.seat.end(departure))
    }
}

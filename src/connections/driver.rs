//! Runs one connection: one loop that writes, reads, asks for signs of life and watches the clock.

use std::{
    future::{Future, poll_fn},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{
    Session, Step,
    context::ServerContext,
    link::{Ended, Link, Received},
    protocol::{Protocol, Work},
};
use crate::{
    protocols::Frame,
    rooms::{Departure, Refusal},
};

/// Frames read before what they say is handed over.
const MAX_FRAMES_A_TURN: usize = 64;
/// Messages taken in before what they say is handed over, and before the rate of the connection is looked at.
pub(super) const MAX_MESSAGES_A_TURN: usize = 64;
/// How often a connection that must not be read looks whether it may be again.
const PAUSE: Duration = Duration::from_millis(50);

/// What a connection is run with.
pub(super) struct Driving {
    /// Its clockwork.
    pub(super) session: Session,
    /// Longest message of the peer once it is known who it is.
    pub(super) max_message_bytes: usize,
    /// Ends the connection, where no room does.
    pub(super) stop: Option<CancellationToken>,
    /// What it needs of the server.
    pub(super) server: Arc<ServerContext>,
}

/// Runs what is spoken over a link until one side hangs up.
pub(super) fn run<L: Link>(
    link: L,
    protocol: Box<dyn Protocol>,
    driving: Driving,
) -> impl Future<Output = ()> + Send {
    let Driving {
        session,
        max_message_bytes,
        stop,
        server,
    } = driving;
    // In a box, because a future has place for what is given to it and for each place that it is moved to.
    let mut driver = Box::new(Driver {
        link,
        protocol,
        session,
        max_message_bytes: Some(max_message_bytes),
        stopping: stop.map(|stop| -> Work<()> { Box::pin(stop.cancelled_owned()) }),
        server,
    });
    async move {
        driver.server.metrics.connections_open.increment(1.0);
        let ended = driver.run().await;
        Box::pin(driver.end(ended)).await;
    }
}

struct Driver<L> {
    link: L,
    protocol: Box<dyn Protocol>,
    session: Session,
    /// Longest message of a peer that is known, until it is known.
    max_message_bytes: Option<usize>,
    stopping: Option<Work<()>>,
    server: Arc<ServerContext>,
}

impl<L: Link> Driver<L> {
    /// Gives back what the connection holds, and says goodbye, which waits for no room.
    async fn end(self: Box<Self>, ended: Ended) {
        let Self {
            mut link,
            mut protocol,
            server,
            ..
        } = *self;
        let departure = match &ended {
            Ended::Clean if !link.means_goodbyes() => Departure::Lost,
            Ended::Clean | Ended::Refused(_) => Departure::Clean,
            Ended::Lost => Departure::Lost,
        };
        if let Ended::Refused(refusal) = &ended {
            server.metrics.refused(refusal.code.as_str(), 1);
            let mut frames = Vec::new();
            protocol.farewell(refusal, &mut frames);
            for frame in frames {
                link.push(frame);
            }
        }
        server.metrics.connections_open.decrement(1.0);
        tokio::join!(link.close(&ended), protocol.end(departure));
    }

    /// Runs until the connection ends.
    async fn run(&mut self) -> Ended {
        let alarm = tokio::time::sleep_until(self.next_deadline().into());
        tokio::pin!(alarm);
        let mut alarm_at = alarm.deadline();
        loop {
            let pause = self.reading_pause();
            // Deadlines mostly move away: an alarm that rings too early is set again, which is cheaper than moving it each time.
            let deadline = pause.map_or(self.next_deadline(), |until| until.min(self.next_deadline()));
            if alarm_at > deadline.into() {
                alarm_at = deadline.into();
                alarm.as_mut().reset(alarm_at);
            }
            tokio::select! {
                biased;
                turn = poll_fn(|context| match self.poll_turn(context, pause.is_none()) {
                    // Something has become due earlier.
                    Poll::Pending if self.next_deadline() < alarm_at.into_std() => Poll::Ready(Ok(0)),
                    turn @ (Poll::Ready(_) | Poll::Pending) => turn,
                }) => match turn {
                    Ok(messages) => self.session.received(now(), messages),
                    Err(ended) => return ended,
                },
                () = &mut alarm => {
                    if let Err(ended) = self.tick() {
                        return ended;
                    }
                    alarm_at = self.next_deadline().into();
                    alarm.as_mut().reset(alarm_at);
                }
            }
        }
    }

    fn next_deadline(&self) -> Instant {
        let session = self.session.next_deadline();
        self.protocol
            .next_deadline()
            .map_or(session, |deadline| session.min(deadline))
    }

    /// Until when the peer must not be read: it is too fast, or too much waits for the store.
    fn reading_pause(&self) -> Option<Instant> {
        let now = now();
        if self.server.writer.is_full() {
            return Some(now + PAUSE);
        }
        self.session.may_read_at().filter(|from| *from > now)
    }

    fn tick(&mut self) -> Result<(), Ended> {
        let now = now();
        if !self.protocol.may_receive() || self.reading_pause().is_some() {
            // Whoever is not listened to cannot be blamed for silence.
            self.session.heard(now);
        }
        self.protocol.tick(now).map_err(Ended::Refused)?;
        match self.session.step(now) {
            None => Ok(()),
            Some(Step::Lost) => Err(Ended::Lost),
            Some(Step::Stalled) => Err(Ended::Refused(Refusal::unavailable(
                "the client reads too slowly",
            ))),
            Some(Step::Ping) => {
                self.link.push_ping(self.protocol.keep_alive());
                let number = self.session.pinged(now);
                self.protocol.on_ping(number);
                Ok(())
            }
        }
    }

    /// Writes what can be written and reads what can be read. Ready with how many messages have come, when there is a reason to look at
    /// the clock again.
    fn poll_turn(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Result<usize, Ended>> {
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(context).is_ready()
        {
            self.stopping = None;
            return Poll::Ready(Err(Ended::Refused(Refusal::draining())));
        }
        self.link.poll_transport(context)?;
        self.protocol.poll_work(context);
        if self.protocol.is_known()
            && let Some(max_message_bytes) = self.max_message_bytes.take()
        {
            self.link.trust(max_message_bytes);
        }
        self.poll_write(context)?;
        let (mut messages, mut has_read) = (0, false);
        for _ in 0..MAX_FRAMES_A_TURN {
            if !may_read || !self.protocol.may_receive() || messages >= MAX_MESSAGES_A_TURN {
                break;
            }
            if self.protocol.has_unread() {
                messages += self.protocol.on_unread().map_err(Ended::Refused)?;
            } else if let Poll::Ready(received) = self.link.poll_read(context) {
                messages += self.receive(received?)?;
            } else {
                // Reading may have queued a reply.
                self.flush(context, false)?;
                break;
            }
            has_read = true;
        }
        if self.link.has_come() {
            // A large message may take longer than silence may.
            self.session.heard(now());
        }
        match has_read {
            true => Poll::Ready(Ok(messages)),
            false => Poll::Pending,
        }
    }

    /// Takes in what the peer has sent, and gives how many messages that was.
    fn receive(&mut self, received: Received) -> Result<usize, Ended> {
        let now = now();
        self.session.heard(now);
        let taken = match received {
            Received::Frame(frame) => self.protocol.on_frame(now, frame),
            Received::Overlong(beginning, refusal) => {
                self.protocol.on_overlong(&beginning, refusal).map(|()| 1)
            }
            Received::Pong => {
                self.protocol.on_pong(self.session.answered());
                Ok(1)
            }
            // Pings without end are too much as well.
            Received::Nothing => Ok(1),
        };
        taken.map_err(Ended::Refused)
    }

    /// Writes what waits, as much at once as the link takes.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let mut frames = Vec::new();
        let is_blocked = loop {
            match self.link.poll_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => break true,
            }
            let sent = self.protocol.poll_outgoing(context, &mut frames);
            for frame in frames.drain(..) {
                self.send(frame);
            }
            match sent {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(refusal)) => return Err(Ended::Refused(refusal)),
                Poll::Pending => break false,
            }
        };
        if is_blocked && let Poll::Ready(refusal) = self.protocol.poll_over(context) {
            return Err(Ended::Refused(refusal));
        }
        self.flush(context, is_blocked)
    }

    fn send(&mut self, frame: Frame) {
        self.server.metrics.frames_out.increment(1);
        self.server.metrics.bytes_out.increment(frame.size() as u64);
        self.link.push(frame);
    }

    /// Hands what waits to the link, as far as it takes it.
    fn flush(&mut self, context: &mut Context<'_>, is_blocked: bool) -> Result<(), Ended> {
        let flushed = self.link.poll_flush(context);
        if self.link.has_moved() {
            // A part of a large message counts: the peer reads.
            self.session.sent(now());
        }
        if flushed.is_pending() || is_blocked {
            self.session.blocked(now());
        }
        match flushed {
            Poll::Ready(flushed) => flushed,
            Poll::Pending => Ok(()),
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver is where a session meets the clock"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

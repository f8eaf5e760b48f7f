//! Runs one session: one loop that writes, reads, pings and watches the clock.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use engineioxide_core::Packet;
use tokio_util::sync::CancellationToken;

use super::{Application, EngineConfig, Frame, Received, Sent, link::Link};
use crate::{
    connections::{
        Session, SessionConfig, Step,
        websocket::{Ended, MAX_FRAMES_A_TURN, PAUSE, now},
    },
    rooms::{Departure, Refusal},
    telemetry::Metrics,
};

/// A session has pings of its own, so the one of its clockwork is never due.
const NEVER: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// One session.
pub(super) struct Driver<A> {
    link: Link,
    application: A,
    clock: Session,
    ping_at: Instant,
    ping_interval: Duration,
    max_payload: usize,
    /// Tells those who take its posts that it is known who the peer is.
    is_known: Arc<AtomicBool>,
    /// What the application has put up for sending; empty between two turns.
    frames: Vec<Frame>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl<A: Application> Driver<A> {
    pub(super) fn new(
        link: Link,
        application: A,
        config: &EngineConfig,
        metrics: Metrics,
        stop: CancellationToken,
    ) -> Self {
        let clock = SessionConfig {
            keep_alive: NEVER,
            timeout: config.ping_interval + config.ping_timeout,
            ..config.session
        };
        Self {
            link,
            application,
            clock: Session::new(now(), clock, None),
            ping_at: now() + config.ping_interval,
            ping_interval: config.ping_interval,
            max_payload: config.max_payload(),
            is_known: Arc::default(),
            frames: Vec::new(),
            metrics,
            stop,
        }
    }

    /// Whether it is known who the peer is.
    pub(super) fn is_known(&self) -> Arc<AtomicBool> {
        self.is_known.clone()
    }

    /// Queues a frame before the session begins.
    pub(super) fn feed(&mut self, frame: Frame) {
        self.link.feed(frame);
    }

    /// Runs the session until it ends, and says goodbye.
    pub(super) async fn run(mut self) {
        self.metrics.connections_open.increment(1.0);
        let ended = self.serve().await;
        let departure = match &ended {
            // Clients whose poll has failed say goodbye to the session before they begin the next one.
            Ended::Clean if self.link.is_polling() => Departure::Lost,
            Ended::Clean | Ended::Refused(_) => Departure::Clean,
            Ended::Lost => Departure::Lost,
        };
        if let Ended::Refused(refusal) = &ended {
            self.metrics.refused(refusal.code.as_str(), 1);
            self.application.farewell(refusal, &mut self.frames);
            for frame in self.frames.drain(..) {
                self.link.feed(frame);
            }
        }
        self.metrics.connections_open.decrement(1.0);
        // The goodbye does not wait for rooms that have much to do.
        tokio::join!(self.link.close(&ended), self.application.ended(departure));
    }

    async fn serve(&mut self) -> Ended {
        let alarm = tokio::time::sleep_until(self.deadline().into());
        tokio::pin!(alarm);
        let stop = self.stop.clone();
        loop {
            let pause = self.reading_pause();
            let wake = pause.map_or_else(|| self.deadline(), |pause| pause.min(self.deadline()));
            if alarm.deadline() != wake.into() {
                alarm.as_mut().reset(wake.into());
            }
            tokio::select! {
                biased;
                turn = poll_fn(|context| self.poll_turn(context, pause.is_none())) => {
                    if let Err(ended) = turn {
                        return ended;
                    }
                }
                () = &mut alarm => {
                    if let Err(ended) = self.tick() {
                        return ended;
                    }
                }
                () = stop.cancelled() => return Ended::Refused(Refusal::draining()),
            }
        }
    }

    fn deadline(&self) -> Instant {
        let deadline = self.clock.next_deadline().min(self.ping_at);
        self.application
            .next_deadline()
            .map_or(deadline, |other| other.min(deadline))
    }

    /// Until when the peer must not be read: it is too fast, or too much waits for the store.
    fn reading_pause(&self) -> Option<Instant> {
        let now = now();
        if self.application.is_pressed() {
            return Some(now + PAUSE);
        }
        self.clock.may_read_at().filter(|from| *from > now)
    }

    fn tick(&mut self) -> Result<(), Ended> {
        let now = now();
        if !self.application.may_receive() || self.reading_pause().is_some() {
            // A peer that is not read cannot be heard of.
            self.clock.heard(now);
        }
        match self.clock.step(now) {
            Some(Step::Lost) => return Err(Ended::Lost),
            Some(Step::Stalled) => {
                return Err(Ended::Refused(Refusal::unavailable(
                    "the client reads too slowly",
                )));
            }
            Some(Step::Expired | Step::KeepAlive) | None => {}
        }
        if now >= self.ping_at {
            self.ping_at = now + self.ping_interval;
            self.link.feed(Frame::Text(String::from(Packet::Ping).into()));
        }
        self.application.tick(now).map_err(Ended::Refused)
    }

    /// Does what can be done. Ready when there is a reason to look at the clock again.
    fn poll_turn(&mut self, context: &mut Context<'_>, may_read: bool) -> Poll<Result<(), Ended>> {
        self.link.poll_requests(context)?;
        self.application.poll_work(context);
        if self.application.is_known() {
            self.link.limit_messages(self.max_payload);
            self.is_known.store(true, Ordering::Relaxed);
        }
        self.poll_write(context)?;
        if !may_read {
            return Poll::Pending;
        }
        let mut read = 0;
        while read < MAX_FRAMES_A_TURN && self.application.may_receive() {
            let Poll::Ready(packet) = self.link.poll_next(context) else {
                // Reading may have queued a reply.
                self.flush(context)?;
                break;
            };
            read += 1;
            let now = now();
            self.clock.heard(now);
            let message = match packet? {
                Some(Packet::Message(text)) => Received::Text(text),
                Some(Packet::Binary(bytes)) => Received::Binary(bytes),
                Some(Packet::Pong) | None => continue,
                Some(Packet::Close) => return Poll::Ready(Err(Ended::Clean)),
                Some(_) => {
                    let refusal = Refusal::malformed("a packet that clients do not send");
                    return Poll::Ready(Err(Ended::Refused(refusal)));
                }
            };
            self.clock.received(now, 1);
            self.application.receive(now, message).map_err(Ended::Refused)?;
        }
        match read {
            0 => Poll::Pending,
            // What was read may have brought work, or something to say.
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Feeds all that waits, then flushes once.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        loop {
            match self.link.poll_ready(context) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.clock.blocked(now());
                    break;
                }
            }
            match self.application.poll_send(context, &mut self.frames) {
                Poll::Ready(Sent::Frames) => {
                    for frame in self.frames.drain(..) {
                        self.metrics.frames_out.increment(1);
                        self.metrics.bytes_out.increment(frame.size() as u64);
                        self.link.feed(frame);
                    }
                }
                Poll::Ready(Sent::Close(refusal)) => return Err(Ended::Refused(refusal)),
                Poll::Pending => {
                    // The peer takes what there is.
                    if self.clock.is_blocked() {
                        self.clock.sent(now());
                    }
                    break;
                }
            }
        }
        self.flush(context)
    }

    fn flush(&mut self, context: &mut Context<'_>) -> Result<(), Ended> {
        let flushed = self.link.poll_flush(context);
        // Part of a large message that has left counts as well.
        if self.link.has_moved() {
            self.clock.sent(now());
        }
        match flushed {
            Poll::Ready(flushed) => {
                if flushed? {
                    self.clock.sent(now());
                }
            }
            Poll::Pending => self.clock.blocked(now()),
        }
        Ok(())
    }
}

//! The bounded queue of events towards one socket.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use super::EventOutlet;
use crate::rooms::Refusal;

/// Beside its bytes, an event takes about this much of the queue.
const OVERHEAD: usize = 64;

/// The queue of events towards one socket. An event cannot be said again in another form, so a socket that does not read for as long
/// as its queue takes to fill up has to connect again.
pub struct EventOutbox {
    state: Mutex<State>,
    waker: AtomicWaker,
    max_bytes: usize,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// How many ask for something older, and what has come since the first of them did.
    held: (usize, VecDeque<Bytes>),
    over: Option<Refusal>,
}

impl EventOutbox {
    /// An empty queue for `max_bytes`; 0 for no limit.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            state: Mutex::default(),
            waker: AtomicWaker::new(),
            max_bytes: if max_bytes == 0 { usize::MAX } else { max_bytes },
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the next event, as a frame of the transport.
    ///
    /// # Errors
    /// When the queue has been full: the socket must connect again.
    pub fn poll_next(&self, context: &Context<'_>) -> Poll<Result<Bytes, Refusal>> {
        self.waker.register(context.waker());
        let mut state = self.state();
        if let Some(refusal) = &state.over {
            return Poll::Ready(Err(refusal.clone()));
        }
        match state.queue.pop_front() {
            Some(event) => {
                state.bytes -= event.len() + OVERHEAD;
                Poll::Ready(Ok(event))
            }
            None => Poll::Pending,
        }
    }

    /// Takes all events that wait, because the socket is about to end.
    pub fn drain(&self) -> VecDeque<Bytes> {
        let mut state = self.state();
        state.bytes = 0;
        let mut events = std::mem::take(&mut state.queue);
        events.append(&mut state.held.1);
        events
    }

    fn end(&self, refusal: Refusal) {
        let mut state = self.state();
        *state = State {
            over: Some(refusal),
            ..State::default()
        };
        drop(state);
        self.waker.wake();
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.state().bytes
    }
}

/// While this lives nothing goes out that comes, because something older is asked for that goes before it.
pub struct HeldEvents(Arc<EventOutbox>);

impl HeldEvents {
    /// Begins to hold what comes.
    pub fn new(outbox: &Arc<EventOutbox>) -> Self {
        outbox.state().held.0 += 1;
        Self(outbox.clone())
    }

    /// Puts what is older before all that has come since.
    pub fn release(self, older: Vec<Bytes>) {
        let mut state = self.0.state();
        if state.over.is_none() {
            state.bytes += older.iter().map(|event| event.len() + OVERHEAD).sum::<usize>();
            state.queue.extend(older);
        }
    }
}

impl Drop for HeldEvents {
    fn drop(&mut self) {
        let mut state = self.0.state();
        let State {
            queue, held, over, ..
        } = &mut *state;
        held.0 = held.0.saturating_sub(1);
        if held.0 == 0 && over.is_none() {
            queue.append(&mut held.1);
        }
        drop(state);
        self.0.waker.wake();
    }
}

impl EventOutlet for EventOutbox {
    fn push(&self, event: &Bytes) {
        let mut state = self.state();
        if state.over.is_some() {
            return;
        }
        let size = event.len() + OVERHEAD;
        if state.bytes > 0 && state.bytes + size > self.max_bytes {
            drop(state);
            return self.end(Refusal::unavailable(
                "events came faster than they were read, connect again",
            ));
        }
        state.bytes += size;
        match &mut state.held {
            (0, _) => state.queue.push_back(event.clone()),
            (_, held) => held.push_back(event.clone()),
        }
        drop(state);
        self.waker.wake();
    }

    fn supersede(&self) {
        self.end(Refusal::unavailable(
            "another connection goes on with this session",
        ));
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_socket_that_does_not_read_is_over_when_its_queue_is_full() {
        let outbox = EventOutbox::new(200);
        let context = Context::from_waker(Waker::noop());
        let event = Bytes::from_static(b"42[\"x\"]");
        outbox.push(&event);
        outbox.push(&event);
        assert_eq!(outbox.queued_bytes(), 2 * (event.len() + OVERHEAD));
        assert_eq!(outbox.poll_next(&context), Poll::Ready(Ok(event.clone())));
        outbox.push(&Bytes::from(vec![b'x'; 100]));
        assert!(matches!(outbox.poll_next(&context), Poll::Ready(Err(_))));
        assert_eq!(outbox.queued_bytes(), 0, "nothing is kept for it");
        outbox.push(&event);
        assert!(matches!(outbox.poll_next(&context), Poll::Ready(Err(_))));
    }

    #[test]
    fn what_is_older_goes_before_what_came_while_it_was_asked_for() {
        let outbox = Arc::new(EventOutbox::new(0));
        let context = Context::from_waker(Waker::noop());
        let text = |text: &'static str| Bytes::from_static(text.as_bytes());
        outbox.push(&text("1"));
        let (first, second) = (HeldEvents::new(&outbox), HeldEvents::new(&outbox));
        outbox.push(&text("4"));
        assert_eq!(outbox.poll_next(&context), Poll::Ready(Ok(text("1"))));
        assert_eq!(outbox.poll_next(&context), Poll::Pending);
        second.release(vec![text("2")]);
        outbox.push(&text("5"));
        assert_eq!(outbox.poll_next(&context), Poll::Ready(Ok(text("2"))));
        assert_eq!(
            outbox.poll_next(&context),
            Poll::Pending,
            "another one asks still"
        );
        first.release(vec![text("3")]);
        for expected in ["3", "4", "5"] {
            assert_eq!(outbox.poll_next(&context), Poll::Ready(Ok(text(expected))));
        }
        assert_eq!(outbox.queued_bytes(), 0);
        outbox.supersede();
        assert!(matches!(outbox.poll_next(&context), Poll::Ready(Err(_))));
    }

    #[test]
    fn one_event_over_the_limit_passes_alone() {
        let outbox = EventOutbox::new(10);
        let context = Context::from_waker(Waker::noop());
        outbox.push(&Bytes::from(vec![b'x'; 100]));
        assert!(matches!(outbox.poll_next(&context), Poll::Ready(Ok(_))));
        assert_eq!(outbox.poll_next(&context), Poll::Pending);
    }
}

//! One client's socket: reads what the server sends, writes what it is given, in one task and one buffer for all.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use crdt::encoding::{ReadError, Reader, Write};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Notify,
    task::JoinSet,
};

use super::{
    BenchError,
    measures::{Counts, Nanos},
    reader::{MessageReader, Received},
    target::printable,
    updates::UpdateError,
    websocket::{FrameError, Head, Opcode, write_client_frame},
};

/// One read takes at most this much; all connections share the buffer.
const READ_BYTES: usize = 256 << 10;
/// Masking is against caches on the way, of which there are none here; a fixed key costs a server the same work.
const MASK: [u8; 4] = [0x3a, 0xc5, 0x96, 0x5f];
const CLOSE_NORMAL: [u8; 2] = 1000_u16.to_be_bytes();
/// How long a server may take to answer a goodbye.
const CLOSE_DEADLINE: Duration = Duration::from_secs(2);

const SYNC: u64 = 0;
const AWARENESS: u64 = 1;

/// A message of the y-websocket protocol that a server sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Message<'a> {
    /// "Send me what I lack."
    SyncStep1,
    /// What the client lacked, an update.
    SyncStep2(&'a [u8]),
    /// What others wrote, an update.
    Update(&'a [u8]),
    /// Who is here.
    Awareness(&'a [u8]),
    /// Something that does not matter for load.
    Other,
}

/// Why a connection ended before the run did.
#[derive(Debug, Error)]
pub enum Fault {
    /// The socket failed.
    #[error("the connection broke: {0}")]
    Socket(#[from] std::io::Error),
    /// The server hung up.
    #[error("the server hung up with code {code}{}{reason}", if reason.is_empty() { "" } else { ": " })]
    Closed {
        /// The close code; 1005 where the server gave none, 1006 where it said no goodbye.
        code: u16,
        /// What it says about it.
        reason: String,
    },
    /// Not WebSocket.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not y-websocket.
    #[error("a frame is no y-websocket message: {0}")]
    Message(#[from] ReadError),
    /// Not an update of this run.
    #[error(transparent)]
    Update(#[from] UpdateError),
}

impl Fault {
    /// The server said goodbye with this payload.
    pub(super) fn closed(payload: &[u8]) -> Self {
        const NO_CODE: u16 = 1005;
        let (code, reason) = match payload.split_first_chunk() {
            Some((code, reason)) => (u16::from_be_bytes(*code), reason),
            None => (NO_CODE, payload),
        };
        let reason = printable(&String::from_utf8_lossy(reason));
        Self::Closed { code, reason }
    }

    /// The server is gone without a goodbye.
    pub(super) fn cut() -> Self {
        Self::Closed {
            code: 1006,
            reason: String::new(),
        }
    }
}

/// What waits to be written to one socket.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: RefCell<Vec<u8>>,
    waker: RefCell<Option<Waker>>,
}

impl Outbox {
    fn push(&self, opcode: Opcode, payload: &[u8]) {
        write_client_frame(&mut self.bytes.borrow_mut(), opcode, payload, MASK);
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Takes out what waits, for a socket that has no task.
    pub(super) fn take(&self) -> Vec<u8> {
        self.bytes.take()
    }

    /// Sends a sync step 1 of somebody who has nothing.
    pub(super) fn sync_step_1(&self) {
        self.push(Opcode::Binary, &[0, 0, 1, 0]);
    }

    /// Sends a sync step 2.
    pub(super) fn sync_step_2(&self, update: &[u8]) {
        self.push(Opcode::Binary, &with_body(&[0, 1], update));
    }

    /// Sends an edit.
    pub(super) fn update(&self, update: &[u8]) {
        self.push(Opcode::Binary, &with_body(&[0, 2], update));
    }

    /// Sends the presence of one client.
    pub(super) fn awareness(&self, client: u64, clock: u32, state: &str) {
        let mut update = Vec::with_capacity(state.len() + 16);
        update.put_number(1);
        update.put_number(client);
        update.put_number(u64::from(clock));
        update.put_string(state);
        self.push(Opcode::Binary, &with_body(&[1], &update));
    }
}

fn with_body(head: &[u8], body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(head.len() + body.len() + 4);
    message.put_raw(head);
    message.put_buffer(body);
    message
}

/// What becomes of the messages of one connection.
pub(super) trait Receive {
    /// Takes one message.
    fn receive(&mut self, message: Message<'_>, now: Nanos) -> Result<(), Fault>;
}

/// What all connections of a run share.
#[derive(Debug)]
pub(super) struct Shared {
    started: Instant,
    buffer: RefCell<Vec<u8>>,
    closing: Cell<bool>,
    /// Frames and bytes received.
    pub(super) frames: Cell<u64>,
    /// The same, in bytes.
    pub(super) bytes: Cell<u64>,
    /// How many connections ended before the run did, and why the first of them did.
    pub(super) lost: RefCell<(u64, Option<Fault>)>,
    /// Told when the first one does.
    has_lost: Notify,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            started: now(),
            buffer: RefCell::new(vec![0; READ_BYTES]),
            closing: Cell::new(false),
            frames: Cell::new(0),
            bytes: Cell::new(0),
            lost: RefCell::default(),
            has_lost: Notify::new(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a load run measures time")]
fn now() -> Instant {
    Instant::now()
}

impl Shared {
    /// The time since the start of the run.
    pub(super) fn now(&self) -> Nanos {
        u64::try_from(now().duration_since(self.started).as_nanos()).unwrap_or(Nanos::MAX)
    }

    /// Whether a connection ended before the run did.
    pub(super) fn has_lost(&self) -> bool {
        self.lost.borrow().0 > 0
    }

    /// How many connections ended, and why the first of them did, if any has.
    pub(super) fn take_loss(&self) -> Option<BenchError> {
        let (count, first) = self.lost.take();
        first.map(|first| BenchError::Lost { count, first })
    }

    /// Does `work`, and gives it up when a connection ends: a server that refuses one refuses the others, too.
    pub(super) async fn unless_lost<T>(&self, work: impl Future<Output = T>) -> Result<T, BenchError> {
        let lost = async {
            loop {
                // Whoever is told waits already: all of it is one thread.
                match self.take_loss() {
                    Some(loss) => return loss,
                    None => self.has_lost.notified().await,
                }
            }
        };
        tokio::select! {
            biased;
            loss = lost => Err(loss),
            done = work => Ok(done),
        }
    }

    /// Fills in what was received.
    pub(super) fn counted(&self, counts: Counts) -> Counts {
        Counts {
            frames: self.frames.get(),
            bytes: self.bytes.get(),
            ..counts
        }
    }
}

/// The connections of a run.
#[derive(Debug, Default)]
pub(super) struct Connections {
    tasks: JoinSet<()>,
    outboxes: Vec<Rc<Outbox>>,
    shared: Rc<Shared>,
}

impl Connections {
    /// What they share.
    pub(super) fn shared(&self) -> Rc<Shared> {
        Rc::clone(&self.shared)
    }

    /// Runs an opened connection whose messages go to `receiver`, which writes into `outbox`.
    pub(super) fn add(
        &mut self,
        (stream, behind): (TcpStream, Vec<u8>),
        outbox: Rc<Outbox>,
        receiver: impl Receive + 'static,
    ) {
        self.outboxes.push(Rc::clone(&outbox));
        let shared = self.shared();
        let reader = MessageReader::of_whole_messages();
        let mut connection = Connection {
            stream,
            reader,
            receiver,
            outbox,
            frame_rest: 0,
            shared: self.shared(),
        };
        self.tasks.spawn_local(async move {
            let result = match connection.take(&behind) {
                Ok(()) => poll_fn(|cx| connection.poll(cx)).await,
                Err(fault) => Err(fault),
            };
            if let (Err(fault), false) = (result, shared.closing.get()) {
                let mut lost = shared.lost.borrow_mut();
                lost.0 += 1;
                lost.1.get_or_insert(fault);
                shared.has_lost.notify_waiters();
            }
        });
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.outboxes.len()
    }

    /// Says goodbye on all and waits a moment for the answers.
    pub(super) async fn close(mut self) {
        self.shared.closing.set(true);
        for outbox in &self.outboxes {
            outbox.push(Opcode::Close, &CLOSE_NORMAL);
        }
        let answered = async { while self.tasks.join_next().await.is_some() {} };
        // Whoever has not answered by then is hung up on when the tasks are dropped.
        let _ = tokio::time::timeout(CLOSE_DEADLINE, answered).await;
    }
}

struct Connection<R> {
    stream: TcpStream,
    reader: MessageReader,
    receiver: R,
    outbox: Rc<Outbox>,
    /// How much of the frame at the front of the outbox is not written, when a part of it is.
    frame_rest: usize,
    shared: Rc<Shared>,
}

impl<R: Receive> Connection<R> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Fault>> {
        {
            let mut waker = self.outbox.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        let shared = Rc::clone(&self.shared);
        let mut buffer = shared.buffer.borrow_mut();
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read)? {
                Poll::Ready(()) if read.filled().is_empty() => return Poll::Ready(Err(Fault::cut())),
                Poll::Ready(()) => self.take(read.filled())?,
                Poll::Pending => break,
            }
        }
        let mut bytes = self.outbox.bytes.borrow_mut();
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            // One frame a write: people press one key at a time, and no client holds an edit back for the next one.
            let frame = rest.get(..self.frame_rest).filter(|_| self.frame_rest > 0);
            let frame = match (frame, Head::read(rest)?) {
                (Some(frame), _) => frame,
                (None, Some(head)) => rest.get(..head.start + head.len).unwrap_or(rest),
                (None, None) => rest,
            };
            let Poll::Ready(length) = Pin::new(&mut self.stream).poll_write(cx, frame)? else {
                break;
            };
            self.frame_rest = frame.len() - length;
            written += length;
        }
        bytes.drain(..written);
        Poll::Pending
    }

    fn take(&mut self, received: &[u8]) -> Result<(), Fault> {
        let Self {
            reader,
            receiver,
            outbox,
            shared,
            ..
        } = self;
        let now = shared.now();
        shared.bytes.set(shared.bytes.get() + received.len() as u64);
        reader.feed(received, |frame| match frame {
            Received::Whole {
                opcode: Opcode::Binary,
                payload,
            } => {
                shared.frames.set(shared.frames.get() + 1);
                receiver.receive(read_message(payload)?, now)
            }
            Received::Whole {
                opcode: Opcode::Ping,
                payload,
            } => {
                outbox.push(Opcode::Pong, payload);
                Ok(())
            }
            Received::Whole {
                opcode: Opcode::Close,
                payload,
            } => Err(Fault::closed(payload)),
            Received::Whole {
                opcode: Opcode::Continuation | Opcode::Text | Opcode::Pong,
                ..
            } => Ok(()),
            // The reader hands out whole messages.
            Received::Piece { .. } => Ok(()),
        })
    }
}

/// Reads the one message of a frame.
pub(super) fn read_message(frame: &[u8]) -> Result<Message<'_>, ReadError> {
    let mut reader = Reader::new(frame);
    Ok(match reader.number()? {
        SYNC => match (reader.number()?, reader.buffer()?) {
            (0, _) => Message::SyncStep1,
            (1, update) => Message::SyncStep2(update),
            (2, update) => Message::Update(update),
            _ => Message::Other,
        },
        AWARENESS => Message::Awareness(reader.buffer()?),
        _ => Message::Other,
    })
}

//! A bare relay, the floor that servers are measured against: it copies each frame to the other members of the room and
//! does nothing else. No document, no store, no answer.
//!
//! The room is the path of the URL. One thread, `TCP_NODELAY`, and all frames that wait for a member leave in one write.
//!
//! `cargo run --release --example relay -- [ADDRESS]`; the address is `127.0.0.1:3002` if none is given.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, VecDeque},
    error::Error,
    future::poll_fn,
    io::IoSlice,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use pageroom_load::websocket::{FrameError, Head, Opcode, toggle_mask};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    runtime::LocalOptions,
};
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};

/// How much may wait for one member before the relay gives it up.
const QUEUE_BYTES_MAX: usize = 64 << 20;
/// The largest frame it passes on.
const FRAME_BYTES_MAX: usize = 16 << 20;
/// One read takes at most this much; all connections share the buffer.
const READ_BYTES: usize = 64 << 10;
/// How many queued pieces one write takes.
const SLICES_MAX: usize = 64;

#[derive(Debug, Error)]
enum ConnectionError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Socket(#[from] std::io::Error),
    #[error("a client sent a message in fragments, which would mix with those of others")]
    Fragment,
    #[error("a client did not mask its frames")]
    NotMasked,
    #[error("a member did not read {QUEUE_BYTES_MAX} bytes of what it was sent")]
    TooSlow,
}

/// What waits for one member.
#[derive(Default)]
struct Member {
    queue: RefCell<VecDeque<Bytes>>,
    queued_bytes: Cell<usize>,
    waker: RefCell<Option<Waker>>,
}

impl Member {
    fn push(&self, frames: &Bytes) {
        self.queue.borrow_mut().push_back(frames.clone());
        self.queued_bytes.set(self.queued_bytes.get() + frames.len());
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// Writes as much of what waits as the socket takes.
    fn poll_drain(&self, stream: &mut TcpStream, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let mut queue = self.queue.borrow_mut();
        while !queue.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            for (slice, frames) in slices.iter_mut().zip(queue.iter()) {
                *slice = IoSlice::new(frames);
                count += 1;
            }
            let slices = slices.get(..count).unwrap_or_default();
            let Poll::Ready(written) = Pin::new(&mut *stream).poll_write_vectored(cx, slices)? else {
                return Poll::Pending;
            };
            self.queued_bytes.set(self.queued_bytes.get() - written);
            let mut written = written;
            while let Some(front) = queue.front_mut() {
                if written < front.len() {
                    drop(front.split_to(written));
                    break;
                }
                written -= front.len();
                queue.pop_front();
            }
        }
        // A burst must not cost its memory for ever.
        if queue.capacity() > 1024 {
            queue.shrink_to_fit();
        }
        Poll::Ready(Ok(()))
    }
}

type Room = Rc<RefCell<Vec<Rc<Member>>>>;

#[derive(Default)]
struct Rooms(RefCell<HashMap<String, Room>>);

struct Connection {
    stream: TcpStream,
    member: Rc<Member>,
    room: Room,
    /// The beginning of a frame that is not complete.
    kept: Vec<u8>,
    shared_buffer: Rc<RefCell<Vec<u8>>>,
}

impl Connection {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        {
            let mut waker = self.member.waker.borrow_mut();
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        }
        let buffer = Rc::clone(&self.shared_buffer);
        let mut buffer = buffer.borrow_mut();
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(cx, &mut read)? {
                Poll::Ready(()) if read.filled().is_empty() => return Poll::Ready(Ok(())),
                Poll::Ready(()) => {
                    let length = read.filled().len();
                    let Some(filled) = buffer.get_mut(..length) else {
                        return Poll::Ready(Ok(()));
                    };
                    if self.take(filled)? {
                        return Poll::Ready(Ok(()));
                    }
                }
                Poll::Pending => break,
            }
        }
        if self.member.queued_bytes.get() > QUEUE_BYTES_MAX {
            return Poll::Ready(Err(ConnectionError::TooSlow));
        }
        match self.member.poll_drain(&mut self.stream, cx)? {
            Poll::Ready(()) | Poll::Pending => Poll::Pending,
        }
    }

    /// Passes on the frames in what was received; true when the client said goodbye.
    fn take(&mut self, received: &mut [u8]) -> Result<bool, ConnectionError> {
        let mut out = Vec::with_capacity(received.len());
        let closed = if self.kept.is_empty() {
            let (used, closed) = self.relay(received, &mut out)?;
            self.kept
                .extend_from_slice(received.get(used..).unwrap_or_default());
            closed
        } else {
            let mut kept = std::mem::take(&mut self.kept);
            kept.extend_from_slice(received);
            let (used, closed) = self.relay(&mut kept, &mut out)?;
            kept.drain(..used);
            // The beginning of a long frame is not worth its memory for the short ones that follow.
            self.kept = if kept.is_empty() { Vec::new() } else { kept };
            closed
        };
        if !out.is_empty() {
            let frames = Bytes::from(out);
            for member in self
                .room
                .borrow()
                .iter()
                .filter(|member| !Rc::ptr_eq(member, &self.member))
            {
                member.push(&frames);
            }
        }
        Ok(closed)
    }

    /// Turns the complete client frames in `bytes` into server frames; returns how many bytes they took.
    fn relay(&self, bytes: &mut [u8], out: &mut Vec<u8>) -> Result<(usize, bool), ConnectionError> {
        let mut at = 0;
        while let Some(rest) = bytes.get_mut(at..) {
            let Some(head) = Head::read(rest)? else { break };
            if !head.is_last {
                return Err(ConnectionError::Fragment);
            }
            if head.len > FRAME_BYTES_MAX {
                return Err(FrameError::TooLarge(head.len as u64).into());
            }
            let Some(payload) = rest.get_mut(head.start..head.start + head.len) else {
                break;
            };
            toggle_mask(payload, head.mask.ok_or(ConnectionError::NotMasked)?);
            match head.opcode {
                Opcode::Text | Opcode::Binary => {
                    Head::write(out, head.opcode, head.len, None);
                    out.extend_from_slice(payload);
                }
                Opcode::Ping => {
                    let mut pong = Vec::with_capacity(head.len + 2);
                    Head::write(&mut pong, Opcode::Pong, head.len, None);
                    pong.extend_from_slice(payload);
                    self.member.push(&Bytes::from(pong));
                }
                Opcode::Pong => {}
                Opcode::Continuation => return Err(ConnectionError::Fragment),
                Opcode::Close => return Ok((at + head.start + head.len, true)),
            }
            at += head.start + head.len;
        }
        Ok((at, false))
    }
}

#[expect(clippy::result_large_err, reason = "the form is the library's")]
async fn serve(
    stream: TcpStream,
    rooms: Rc<Rooms>,
    shared_buffer: Rc<RefCell<Vec<u8>>>,
) -> Result<(), Box<dyn Error>> {
    stream.set_nodelay(true)?;
    let mut path = String::new();
    let accepted = tokio_tungstenite::accept_hdr_async(stream, |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    });
    // A client sends nothing before it has the reply, so the library has read nothing beyond the request.
    let stream = accepted.await?.into_inner();
    let room = Rc::clone(rooms.0.borrow_mut().entry(path.clone()).or_default());
    let member = Rc::new(Member::default());
    room.borrow_mut().push(Rc::clone(&member));
    let mut connection = Connection {
        stream,
        member: Rc::clone(&member),
        room: Rc::clone(&room),
        kept: Vec::new(),
        shared_buffer,
    };
    let ended = poll_fn(|cx| connection.poll(cx)).await;
    room.borrow_mut().retain(|other| !Rc::ptr_eq(other, &member));
    if room.borrow().is_empty() {
        rooms.0.borrow_mut().remove(&path);
    }
    Ok(ended?)
}

async fn listen(address: &str) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind(address).await?;
    eprintln!("the relay listens at ws://{}/ROOM", listener.local_addr()?);
    let rooms = Rc::new(Rooms::default());
    let buffer = Rc::new(RefCell::new(vec![0; READ_BYTES]));
    loop {
        let (stream, _) = listener.accept().await?;
        let serving = serve(stream, Rc::clone(&rooms), Rc::clone(&buffer));
        tokio::task::spawn_local(async move {
            if let Err(error) = Box::pin(serving).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:3002".to_owned());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(listen(&address))
}

//! The stream below tungstenite: it reads from the socket, and writes queued frames without copying what many members share.

use std::{
    collections::VecDeque,
    io::{self, IoSlice, Read, Write},
    pin::Pin,
    task::{Context, Poll, Waker, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite;

use super::overlong::Cutter;

/// Read buffer of a connection: an idle one holds little more than this.
pub(super) const READ_BUFFER_BYTES: usize = 1536;
/// Frames that leave in one write.
const MAX_FRAMES_A_WRITE: usize = 32;
/// What is no longer leaves in one piece: the kernel takes longer to find the pieces than it takes to copy them.
const MAX_COPIED_BYTES: usize = 512;
/// Replies to control frames wait outside while more than this waits for a peer that does not read.
pub(super) const MAX_BYTES_BEFORE_REPLIES: usize = 64 * 1024;
/// A queue that was longer than this gives its memory back once it is empty.
const MAX_KEPT_FRAMES: usize = 16;

/// What kind of frame it is (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Ping = 0x9,
}

/// The stream below tungstenite: reads from the socket and writes into the queue.
#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    waker: Waker,
    queue: VecDeque<Frame>,
    pub(super) queued_bytes: usize,
    pub(super) written_bytes: u64,
    pub(super) read_bytes: u64,
    /// What was read before the handshake had ended.
    unread: Bytes,
    /// Leaves out what is too long of messages over the limit, if they do not end the connection.
    pub(super) cutter: Option<Box<Cutter>>,
    /// What comes in is the rest of a message over the limit, behind which tungstenite cannot read on.
    pub(super) is_overrun: bool,
}

#[derive(Debug)]
pub(super) struct Frame {
    pub(super) head: Head,
    pub(super) payload: Bytes,
}

/// The head of a frame, or what is left of it.
#[derive(Debug)]
pub(super) struct Head {
    bytes: [u8; MAX_HEAD_BYTES],
    from: u8,
    to: u8,
}

const MAX_HEAD_BYTES: usize = 10;

impl Wire {
    /// A stream from which `unread` has been read already.
    pub(super) fn new(stream: TcpStream, unread: Bytes) -> Self {
        Self {
            stream,
            waker: Waker::noop().clone(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            written_bytes: 0,
            read_bytes: 0,
            // Empty or not, it holds the whole read buffer of the HTTP connection.
            unread: if unread.is_empty() { Bytes::new() } else { unread },
            cutter: None,
            is_overrun: false,
        }
    }

    #[cfg(test)]
    pub(super) fn queue_capacity(&self) -> usize {
        self.queue.capacity()
    }

    pub(super) fn wake(&mut self, context: &Context<'_>) {
        if !self.waker.will_wake(context.waker()) {
            self.waker = context.waker().clone();
        }
    }

    pub(super) fn push(&mut self, frame: Frame) {
        self.queued_bytes += frame.len();
        self.queue.push_back(frame);
    }

    /// Throws away what comes, until the end.
    pub(super) fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<tungstenite::Error> {
        let mut buffer = [0; READ_BUFFER_BYTES];
        loop {
            let mut read = ReadBuf::new(&mut buffer);
            match ready!(Pin::new(&mut self.stream).poll_read(context, &mut read)) {
                Ok(()) if read.filled().is_empty() => {
                    return Poll::Ready(tungstenite::Error::ConnectionClosed);
                }
                Ok(()) => {}
                Err(error) => return Poll::Ready(error.into()),
            }
        }
    }

    pub(super) fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.queue.is_empty() {
            let written = match self.queued_bytes {
                ..=MAX_COPIED_BYTES => ready!(self.poll_write_copied(context))?,
                _ => ready!(self.poll_write_pieces(context))?,
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        if self.queue.capacity() > MAX_KEPT_FRAMES {
            self.queue = VecDeque::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_copied(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut buffer = [0; MAX_COPIED_BYTES];
        let mut buffer = ReadBuf::new(&mut buffer);
        for piece in pieces(&self.queue) {
            buffer.put_slice(piece);
        }
        Pin::new(&mut self.stream).poll_write(context, buffer.filled())
    }

    fn poll_write_pieces(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut slices = [IoSlice::new(&[]); 2 * MAX_FRAMES_A_WRITE];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(pieces(&self.queue)) {
            *slice = IoSlice::new(piece);
            count += 1;
        }
        let slices = slices.get(..count).unwrap_or_default();
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn advance(&mut self, written: usize) {
        self.written_bytes += written as u64;
        self.queued_bytes -= written;
        let mut left = written;
        while let Some(frame) = self.queue.front_mut() {
            left = frame.advance(left);
            if frame.len() > 0 {
                break;
            }
            self.queue.pop_front();
        }
    }
}

impl Wire {
    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.unread.is_empty() {
            let count = self.unread.len().min(buffer.len());
            self.unread.split_to(count).copy_to_slice(&mut buffer[..count]);
            return Ok(count);
        }
        let mut buffer = ReadBuf::new(buffer);
        let waker = self.waker.clone();
        match Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&waker), &mut buffer)? {
            Poll::Ready(()) => {
                self.read_bytes += buffer.filled().len() as u64;
                Ok(buffer.filled().len())
            }
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(mut cutter) = self.cutter.take() else {
            return self.read_some(buffer);
        };
        let read = self.read_cut(&mut cutter, buffer);
        self.cutter = Some(cutter);
        read
    }
}

impl Wire {
    fn read_cut(&mut self, cutter: &mut Cutter, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            // Tungstenite has place for a whole head whenever it wants one.
            let Some(free) = buffer.get_mut(cutter.held()..).filter(|free| !free.is_empty()) else {
                return Err(io::ErrorKind::InvalidInput.into());
            };
            let count = self.read_some(free)?;
            if count == 0 {
                return Ok(0);
            }
            let held = cutter.restore(buffer);
            // If all of it was left out, that is no end.
            match cutter.cut(buffer, held + count) {
                0 => {}
                left => return Ok(left),
            }
        }
    }
}

impl Write for Wire {
    /// Takes whole frames, replies to control frames. While much waits they are held back, of which tungstenite keeps the last.
    fn write(&mut self, frame: &[u8]) -> io::Result<usize> {
        if self.queued_bytes > MAX_BYTES_BEFORE_REPLIES {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.push(Frame {
            head: Head::none(),
            payload: Bytes::copy_from_slice(frame),
        });
        Ok(frame.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What waits, in the pieces that it consists of.
fn pieces(queue: &VecDeque<Frame>) -> impl Iterator<Item = &[u8]> {
    queue
        .iter()
        .flat_map(|frame| [frame.head.rest(), &frame.payload[..]])
        .filter(|piece| !piece.is_empty())
}

impl Frame {
    fn len(&self) -> usize {
        self.head.rest().len() + self.payload.len()
    }

    /// Forgets the first `count` bytes, and says how many more there are to forget behind it.
    fn advance(&mut self, count: usize) -> usize {
        let of_head = count.min(self.head.rest().len());
        self.head.from += of_head as u8;
        let of_payload = (count - of_head).min(self.payload.len());
        self.payload.advance(of_payload);
        count - of_head - of_payload
    }
}

impl Head {
    /// Not masked, with the shortest form of the length (RFC 6455 §5.2).
    pub(super) fn new(opcode: Opcode, is_last: bool, length: usize) -> Self {
        let is_last = if is_last { 0x80 } else { 0 };
        let mut bytes = [0; MAX_HEAD_BYTES];
        let [first, second, rest @ ..] = &mut bytes;
        *first = is_last | opcode as u8;
        let to = match (u8::try_from(length), u16::try_from(length)) {
            (Ok(short @ ..126), _) => {
                *second = short;
                2
            }
            (_, Ok(middle)) => {
                *second = 126;
                let [high, low, ..] = rest;
                [*high, *low] = middle.to_be_bytes();
                4
            }
            _ => {
                *second = 127;
                *rest = (length as u64).to_be_bytes();
                10
            }
        };
        Self { bytes, from: 0, to }
    }

    fn none() -> Self {
        Self {
            bytes: [0; MAX_HEAD_BYTES],
            from: 0,
            to: 0,
        }
    }

    fn rest(&self) -> &[u8] {
        self.bytes
            .get(usize::from(self.from)..usize::from(self.to))
            .unwrap_or_default()
    }
}

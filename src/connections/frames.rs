//! The frames of one WebSocket: read through tungstenite, written without copying what many members share.
//!
//! A server's frames are not masked, so a frame is a short head and the payload as it is. The payload of a broadcast is one shared
//! allocation for all members, and a page of any size costs a slow joiner no memory of its own. Tungstenite's replies to
//! control frames go into the same queue, as whole frames, so that nothing comes between the parts of another frame.

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
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    protocol::{CloseFrame, Role, WebSocketConfig},
};

use super::overlong::Cutter;

/// Read buffer of a connection: an idle one holds little more than this.
const READ_BUFFER_BYTES: usize = 1536;
/// Frames that leave in one write.
const MAX_FRAMES_A_WRITE: usize = 32;
/// What is no longer leaves in one piece: the kernel takes longer to find the pieces than it takes to copy them.
const MAX_COPIED_BYTES: usize = 512;
/// Replies to control frames wait outside while more than this waits for a peer that does not read.
const MAX_BYTES_BEFORE_REPLIES: usize = 64 * 1024;
/// A queue that was longer than this gives its memory back once it is empty.
const KEPT_FRAMES: usize = 16;

/// Larger messages leave in fragments, because many clients limit frames more than messages.
const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// What kind of frame it is (RFC 6455 §11.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Ping = 0x9,
}

/// A WebSocket on the server's side.
#[derive(Debug)]
pub(super) struct FrameSocket(WebSocket<Wire>);

/// The stream below tungstenite: reads from the socket and writes into the queue.
#[derive(Debug)]
struct Wire {
    stream: TcpStream,
    waker: Waker,
    queue: VecDeque<Frame>,
    queued_bytes: usize,
    written_bytes: u64,
    /// What was read before the handshake had ended.
    unread: Bytes,
    /// Leaves out what is too long of messages over the limit, if they do not end the connection.
    cutter: Option<Box<Cutter>>,
    /// What comes in is the rest of a message over the limit, behind which tungstenite cannot read on.
    is_overrun: bool,
}

/// What has been read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming {
    /// A message.
    Message(Message),
    /// The beginning of one over the limit.
    Overlong {
        beginning: Bytes,
        size: usize,
        limit: usize,
    },
}

#[derive(Debug)]
struct Frame {
    head: Head,
    payload: Bytes,
}

/// The head of a frame, or what is left of it.
#[derive(Debug)]
struct Head {
    bytes: [u8; MAX_HEAD_BYTES],
    from: u8,
    to: u8,
}

const MAX_HEAD_BYTES: usize = 10;

impl FrameSocket {
    /// Takes over a stream after the handshake, with what has been read from it already. Messages over `max_message_bytes` end the
    /// connection.
    pub(super) fn new(stream: TcpStream, unread: Bytes, max_message_bytes: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let wire = Wire {
            stream,
            waker: Waker::noop().clone(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            written_bytes: 0,
            unread,
            cutter: None,
            is_overrun: false,
        };
        Self(WebSocket::from_raw_socket(wire, Role::Server, Some(config)))
    }

    /// Messages of bytes over the limit that is set next do not end the connection any more: they are read to their end, and nothing is
    /// kept of them but their beginning. To be said before anything is read.
    pub(super) fn outlive_overlong(&mut self) {
        self.0.get_mut().cutter = Some(Box::default());
    }

    /// Messages may be so long from the next one on.
    pub(super) fn limit_messages(&mut self, max_bytes: usize) {
        self.0.set_config(|config| {
            config.max_message_size = Some(max_bytes);
            config.max_frame_size = Some(max_bytes);
        });
        if let Some(cutter) = &mut self.0.get_mut().cutter {
            cutter.limit(max_bytes);
        }
    }

    /// Reads the next message. Behind one over the limit there is nothing but the end: what comes is thrown away, because a socket that
    /// is closed with something unread is reset, and the peer would not see the reason.
    pub(super) fn poll_read(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Incoming, tungstenite::Error>> {
        let wire = self.0.get_mut();
        if wire.is_overrun {
            return wire.poll_discard(context).map(Err);
        }
        wire.wake(context);
        match self.0.read() {
            Err(error @ tungstenite::Error::Capacity(_)) => {
                self.0.get_mut().is_overrun = true;
                Poll::Ready(Err(error))
            }
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
            Ok(message) => Poll::Ready(Ok(self.uncut(message))),
        }
    }

    /// A message as it came, or as the beginning that was left of it.
    fn uncut(&mut self, message: Message) -> Incoming {
        let limit = self.0.get_config().max_message_size.unwrap_or(usize::MAX);
        let (Some(cutter), Message::Text(_) | Message::Binary(_)) = (&mut self.0.get_mut().cutter, &message)
        else {
            return Incoming::Message(message);
        };
        match cutter.read() {
            None => Incoming::Message(message),
            Some(size) => Incoming::Overlong {
                beginning: message.into_data(),
                size: usize::try_from(size).unwrap_or(usize::MAX),
                limit,
            },
        }
    }

    /// Queues a message.
    pub(super) fn push(&mut self, opcode: Opcode, mut payload: Bytes) {
        let mut opcode = opcode;
        loop {
            let fragment = payload.split_to(payload.len().min(MAX_FRAME_BYTES));
            self.0.get_mut().push(Frame {
                head: Head::new(opcode, payload.is_empty(), fragment.len()),
                payload: fragment,
            });
            if payload.is_empty() {
                return;
            }
            opcode = Opcode::Continuation;
        }
    }

    /// Queues a message in two parts, of which the second may be shared with others that have another first one.
    pub(super) fn push_parts(&mut self, first: Bytes, rest: Bytes) {
        self.0.get_mut().push(Frame {
            head: Head::new(Opcode::Binary, false, first.len()),
            payload: first,
        });
        self.push(Opcode::Continuation, rest);
    }

    /// Queues a goodbye, behind everything that waits already.
    pub(super) fn push_close(&mut self, close: CloseFrame) {
        // An error here is met again at the next read or write, where it ends the connection.
        let _ = self.0.close(Some(close));
    }

    /// Answers the peer's goodbye, behind everything that waits already; ready when the answer has left.
    pub(super) fn poll_answer_goodbye(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The answer is queued by the next read after the goodbye, which has nothing else to bring.
        let _ = self.poll_read(context);
        self.poll_drain(context)
    }

    /// Bytes that wait to be written.
    pub(super) fn queued_bytes(&self) -> usize {
        self.0.get_ref().queued_bytes
    }

    /// Bytes written so far.
    pub(super) fn written_bytes(&self) -> u64 {
        self.0.get_ref().written_bytes
    }

    /// Writes what waits; ready when nothing waits any more.
    pub(super) fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.get_mut().poll_drain(context)
    }
}

impl Wire {
    fn wake(&mut self, context: &Context<'_>) {
        if !self.waker.will_wake(context.waker()) {
            self.waker = context.waker().clone();
        }
    }

    fn push(&mut self, frame: Frame) {
        self.queued_bytes += frame.len();
        self.queue.push_back(frame);
    }

    /// Throws away what comes, until the end.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<tungstenite::Error> {
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

    fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        if self.queue.capacity() > KEPT_FRAMES {
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
            Poll::Ready(()) => Ok(buffer.filled().len()),
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
    fn new(opcode: Opcode, is_last: bool, length: usize) -> Self {
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

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use std::future::poll_fn;
    use tokio::net::TcpListener;
    use tokio_tungstenite::WebSocketStream;

    use super::*;

    async fn pair() -> (FrameSocket, WebSocketStream<TcpStream>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let client = WebSocketStream::from_raw_socket(client.unwrap(), Role::Client, None).await;
        (FrameSocket::new(server.unwrap().0, Bytes::new(), 1 << 20), client)
    }

    fn payload(length: usize) -> Bytes {
        (0..length).map(|at| (at % 251) as u8).collect()
    }

    #[tokio::test]
    async fn frames_of_every_length_arrive_whole_and_in_order() {
        let (mut server, mut client) = pair().await;
        let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 3_000_000, 7, 0, 200];
        for length in lengths {
            server.push(Opcode::Binary, payload(length));
        }
        let writing = poll_fn(|context| server.poll_drain(context));
        let reading = async {
            for length in lengths {
                assert_eq!(
                    client.next().await.unwrap().unwrap(),
                    Message::Binary(payload(length))
                );
            }
        };
        tokio::join!(async { writing.await.unwrap() }, reading);
        assert_eq!(server.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn many_frames_leave_in_any_number_of_writes() {
        let (mut server, mut client) = pair().await;
        for number in 0..10_000_u32 {
            server.push(Opcode::Binary, Bytes::copy_from_slice(&number.to_be_bytes()));
        }
        let reading = async {
            for number in 0..10_000_u32 {
                let frame = client.next().await.unwrap().unwrap();
                assert_eq!(frame.into_data()[..], number.to_be_bytes());
            }
        };
        tokio::join!(
            async { poll_fn(|context| server.poll_drain(context)).await.unwrap() },
            reading
        );
        assert_eq!(server.0.get_ref().queue.capacity(), 0, "the queue has shrunk");
    }

    #[tokio::test]
    async fn replies_come_between_frames_and_not_into_them() {
        let (mut server, mut client) = pair().await;
        client.send(Message::Ping(payload(5))).await.unwrap();
        server.push(Opcode::Binary, payload(8_000_000));
        // The first write takes a part of the large frame, as nobody reads; then the ping is read and answered.
        assert!(
            poll_fn(|context| Poll::Ready(server.poll_drain(context)))
                .await
                .is_pending()
        );
        let ping = poll_fn(|context| server.poll_read(context)).await.unwrap();
        assert_eq!(ping, Incoming::Message(Message::Ping(payload(5))));
        let driving = poll_fn(|context| {
            // Reading is also when tungstenite replies.
            let _ = server.poll_read(context);
            let _ = server.poll_drain(context);
            Poll::<()>::Pending
        });
        let reading = async {
            assert_eq!(
                client.next().await.unwrap().unwrap(),
                Message::Binary(payload(8_000_000))
            );
            assert_eq!(client.next().await.unwrap().unwrap(), Message::Pong(payload(5)));
        };
        tokio::select! {
            () = driving => {}
            () = reading => {}
        }
    }

    #[tokio::test]
    async fn a_peer_that_only_pings_costs_no_memory() {
        let (mut server, mut client) = pair().await;
        let pinging = async {
            for _ in 0..20_000 {
                client.feed(Message::Ping(payload(100))).await.unwrap();
            }
            client.flush().await.unwrap();
        };
        let mut read = 0;
        let reading = poll_fn(|context| {
            while read < 20_000 {
                match server.poll_read(context) {
                    Poll::Ready(message) => {
                        assert_eq!(message.unwrap(), Incoming::Message(Message::Ping(payload(100))));
                        read += 1;
                    }
                    Poll::Pending => return Poll::Pending,
                }
            }
            Poll::Ready(())
        });
        tokio::join!(pinging, reading);
        assert!(server.queued_bytes() <= MAX_BYTES_BEFORE_REPLIES + 200);
    }

    #[tokio::test]
    async fn a_message_over_the_limit_can_be_outlived_and_costs_no_memory() {
        let (mut server, client) = pair().await;
        let mut client = client;
        server.outlive_overlong();
        server.limit_messages(100_000);
        let sent = [payload(100_000), payload(30_000_000), payload(7)];
        let writing = async {
            for message in sent.clone() {
                client.send(Message::Binary(message)).await.unwrap();
            }
        };
        let reading = async {
            let mut read = Vec::new();
            for _ in 0..3 {
                read.push(poll_fn(|context| server.poll_read(context)).await.unwrap());
            }
            read
        };
        let ((), read) = tokio::join!(writing, reading);
        let overlong = Incoming::Overlong {
            beginning: payload(1024),
            size: 30_000_000,
            limit: 100_000,
        };
        let [first, _, last] = sent.map(|message| Incoming::Message(Message::Binary(message)));
        assert_eq!(read, [first, overlong, last]);
    }
}

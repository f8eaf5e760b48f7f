//! The frames of one WebSocket: read through tungstenite, written without copying what many members share.
//!
//! A server's frames are not masked, so a frame is a short head and the payload as it is. The payload of a broadcast is one shared
//! allocation for all members, and a page of any size costs a slow joiner no memory of its own. Tungstenite's replies to
//! control frames go into the same queue, as whole frames, so that nothing comes between the parts of another frame.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{
    self, Message, WebSocket,
    protocol::{CloseFrame, Role, WebSocketConfig},
};

pub(super) use super::wire::Opcode;
use super::wire::{Frame, Head, READ_BUFFER_BYTES, Wire};

/// Longest message where there is no limit: place for it is made as soon as its length is known.
const MAX_UNLIMITED_BYTES: usize = 1 << 30;
/// Larger messages leave in fragments, because many clients limit frames more than messages.
const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// A WebSocket on the server's side.
#[derive(Debug)]
pub(super) struct FrameSocket(WebSocket<Wire>);

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

impl FrameSocket {
    /// Takes over a stream after the handshake, with what has been read from it already. Messages over `max_message_bytes` end the
    /// connection.
    pub(super) fn new(stream: TcpStream, unread: Bytes, max_message_bytes: usize) -> Self {
        let max_message_bytes = max_message_bytes.min(MAX_UNLIMITED_BYTES);
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            .max_message_size(Some(max_message_bytes))
            .max_frame_size(Some(max_message_bytes));
        let wire = Wire::new(stream, unread);
        Self(WebSocket::from_raw_socket(wire, Role::Server, Some(config)))
    }

    /// Messages of bytes over the limit that is set next do not end the connection any more: they are read to their end, and nothing is
    /// kept of them but their beginning. To be said before anything is read.
    pub(super) fn outlive_overlong(&mut self) {
        self.0.get_mut().cutter = Some(Box::default());
    }

    /// Messages may be so long from the next one on.
    pub(super) fn limit_messages(&mut self, max_bytes: usize) {
        let max_bytes = max_bytes.min(MAX_UNLIMITED_BYTES);
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

    /// Bytes read so far, of messages that are not complete too.
    pub(super) fn read_bytes(&self) -> u64 {
        self.0.get_ref().read_bytes
    }

    /// Writes what waits; ready when nothing waits any more.
    pub(super) fn poll_drain(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.get_mut().poll_drain(context)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use futures_util::{SinkExt, StreamExt};
    use std::future::poll_fn;
    use tokio::net::TcpListener;
    use tokio_tungstenite::WebSocketStream;

    use super::{super::wire::MAX_BYTES_BEFORE_REPLIES, *};

    async fn streams() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        (server.unwrap().0, client.unwrap())
    }

    async fn pair() -> (FrameSocket, WebSocketStream<TcpStream>) {
        let (server, client) = streams().await;
        let client = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        (FrameSocket::new(server, Bytes::new(), 1 << 20), client)
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
    async fn the_read_buffer_of_the_http_connection_is_given_back() {
        let (server, _client) = streams().await;
        let unread = BytesMut::with_capacity(8192).freeze();
        let still = unread.clone();
        let _server = FrameSocket::new(server, unread, 1 << 20);
        assert!(still.is_unique());
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
        assert_eq!(server.0.get_ref().queue_capacity(), 0, "the queue has shrunk");
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

    #[tokio::test]
    async fn of_a_message_over_a_small_limit_no_more_is_kept_than_the_limit() {
        for limit in [1, 100, 1000] {
            let (mut server, mut client) = pair().await;
            server.outlive_overlong();
            server.limit_messages(limit);
            client.send(Message::Binary(payload(2000))).await.unwrap();
            client.send(Message::Binary(payload(limit))).await.unwrap();
            let overlong = poll_fn(|context| server.poll_read(context)).await.unwrap();
            let expected = Incoming::Overlong {
                beginning: payload(limit),
                size: 2000,
                limit,
            };
            assert_eq!(overlong, expected);
            let next = poll_fn(|context| server.poll_read(context)).await.unwrap();
            assert_eq!(next, Incoming::Message(Message::Binary(payload(limit))));
        }
    }
}

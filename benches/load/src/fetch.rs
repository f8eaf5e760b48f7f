//! Opening a page that exists and waiting for its content.

use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    BenchError,
    connection::{Fault, Message, Outbox, read_message},
    reader::{MessageReader, Received},
    target::Target,
    websocket::{FrameError, Opcode},
};

/// How long the content may take.
const FETCH_DEADLINE: Duration = Duration::from_secs(60);
/// With an expected answer, frames longer than this are compared as they come instead of being kept.
const KEPT_BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// All fetches of a thread read through the same buffer.
    static BUFFER: std::cell::RefCell<Vec<u8>> = std::cell::RefCell::new(vec![0; 256 << 10]);
}

/// Why a page could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The connection ended or made no sense.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The server does not speak WebSocket.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The content did not come.
    #[error("no content within {} s", FETCH_DEADLINE.as_secs())]
    Late,
    /// The content is not the expected one.
    #[error("content that differs from what an earlier client got within its first {0} bytes")]
    Different(usize),
}

/// A page's content, as a client that had nothing got it.
#[derive(Debug)]
pub(super) struct Fetched {
    /// The frame that brought it; empty when it was only compared.
    pub(super) frame: Vec<u8>,
    /// The content as an update; empty when it was only compared.
    pub(super) update: Vec<u8>,
    /// From the beginning of connecting until all content was there.
    pub(super) latency: Duration,
    /// The connection stays open with it.
    _stream: TcpStream,
}

/// Opens `page` with nothing and waits for its content, which must come in the frame `expected` if there is one.
pub(super) async fn fetch(
    target: &Target,
    page: &str,
    expected: Option<&[u8]>,
) -> Result<Fetched, BenchError> {
    let start = now();
    let (mut stream, behind) = target.open(page).await.map_err(|source| BenchError::Open {
        client: 1,
        clients: 1,
        source,
    })?;
    let mut content = Content {
        expected,
        frame: Vec::new(),
        update: Vec::new(),
        is_complete: false,
    };
    match tokio::time::timeout(FETCH_DEADLINE, receive(&mut stream, &behind, &mut content)).await {
        Ok(received) => received?,
        Err(_) => return Err(FetchError::Late.into()),
    }
    let latency = now().duration_since(start);
    Ok(Fetched {
        frame: content.frame,
        update: content.update,
        latency,
        _stream: stream,
    })
}

/// What has come so far of the content.
struct Content<'a> {
    expected: Option<&'a [u8]>,
    frame: Vec<u8>,
    update: Vec<u8>,
    is_complete: bool,
}

impl Content<'_> {
    fn take(&mut self, received: Received<'_>) -> Result<(), FetchError> {
        match received {
            Received::Whole {
                opcode: Opcode::Binary,
                payload,
            } => self.take_message(payload),
            Received::Whole {
                opcode: Opcode::Close,
                payload,
            } => Err(Fault::closed(payload).into()),
            Received::Whole { .. } => Ok(()),
            Received::Piece {
                offset,
                bytes,
                is_last,
            } => {
                let end = offset + bytes.len();
                let expected = self.expected.unwrap_or_default();
                let same = expected.get(offset..end) == Some(bytes) && is_last == (end == expected.len());
                self.is_complete |= is_last;
                if same {
                    Ok(())
                } else {
                    Err(FetchError::Different(end))
                }
            }
        }
    }

    fn take_message(&mut self, message: &[u8]) -> Result<(), FetchError> {
        let Message::SyncStep2(content) = read_message(message).map_err(Fault::from)? else {
            return Ok(());
        };
        self.is_complete = true;
        match self.expected {
            Some(expected) if expected != message => return Err(FetchError::Different(message.len())),
            Some(_) => {}
            None => {
                self.frame.extend_from_slice(message);
                self.update.extend_from_slice(content);
            }
        }
        Ok(())
    }
}

async fn receive(stream: &mut TcpStream, behind: &[u8], content: &mut Content<'_>) -> Result<(), FetchError> {
    let outbox = Outbox::default();
    outbox.sync_step_1();
    stream.write_all(&outbox.take()).await.map_err(Fault::from)?;
    let mut reader = match content.expected {
        Some(_) => MessageReader::new(KEPT_BYTES_MAX),
        None => MessageReader::of_whole_messages(),
    };
    reader.feed(behind, |received| content.take(received))?;
    while !content.is_complete {
        stream.readable().await.map_err(Fault::from)?;
        BUFFER.with_borrow_mut(|buffer| match stream.try_read(buffer) {
            Ok(0) => Err(Fault::cut().into()),
            Ok(length) => reader.feed(buffer.get(..length).unwrap_or_default(), |received| {
                content.take(received)
            }),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(Fault::from(error).into()),
        })?;
    }
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "a load run measures time")]
fn now() -> Instant {
    Instant::now()
}

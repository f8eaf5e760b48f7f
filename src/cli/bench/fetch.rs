//! Opening a page that exists and waiting for its content.

use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    BenchError,
    connection::{Fault, Message, Outbox, read_message},
    target::Target,
    websocket::{FrameError, MessageReader, Opcode, Received},
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
    /// The connection, still open.
    pub(super) stream: TcpStream,
}

/// Opens `page` with nothing and waits for its content, which must come in the frame `expected` if there is one.
pub(super) async fn fetch(
    target: &Target,
    page: &str,
    expected: Option<&[u8]>,
) -> Result<Fetched, BenchError> {
    let start = now();
    let (stream, behind) = target.open(page).await.map_err(|source| BenchError::Open {
        client: 1,
        clients: 1,
        source,
    })?;
    let mut fetched = Fetched {
        frame: Vec::new(),
        update: Vec::new(),
        latency: Duration::ZERO,
        stream,
    };
    let answer = receive(&mut fetched, &behind, expected);
    match tokio::time::timeout(FETCH_DEADLINE, answer).await {
        Ok(answer) => answer?,
        Err(_) => return Err(FetchError::Late.into()),
    }
    fetched.latency = now().duration_since(start);
    Ok(fetched)
}

async fn receive(fetched: &mut Fetched, behind: &[u8], expected: Option<&[u8]>) -> Result<(), FetchError> {
    let outbox = Outbox::default();
    outbox.sync_step_1();
    fetched
        .stream
        .write_all(&outbox.take())
        .await
        .map_err(Fault::from)?;
    let mut reader = match expected {
        Some(_) => MessageReader::new(KEPT_BYTES_MAX),
        None => MessageReader::of_whole_messages(),
    };
    let mut complete = false;
    let (frame, update) = (&mut fetched.frame, &mut fetched.update);
    let mut take = |bytes: &[u8]| {
        reader.feed(bytes, |received| match received {
            Received::Whole {
                opcode: Opcode::Binary,
                payload,
            } => {
                let Message::SyncStep2(content) = read_message(payload).map_err(Fault::from)? else {
                    return Ok(());
                };
                complete = true;
                match expected {
                    Some(expected) if expected != payload => {
                        return Err(FetchError::Different(payload.len()));
                    }
                    Some(_) => {}
                    None => {
                        frame.extend_from_slice(payload);
                        update.extend_from_slice(content);
                    }
                }
                Ok(())
            }
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
                let expected = expected.unwrap_or_default();
                let same = expected.get(offset..end) == Some(bytes) && is_last == (end == expected.len());
                complete = is_last;
                if same {
                    Ok(())
                } else {
                    Err(FetchError::Different(end))
                }
            }
        })?;
        Ok::<_, FetchError>(complete)
    };
    if take(behind)? {
        return Ok(());
    }
    loop {
        fetched.stream.readable().await.map_err(Fault::from)?;
        let complete = BUFFER.with_borrow_mut(|buffer| match fetched.stream.try_read(buffer) {
            Ok(0) => Err(Fault::Closed(1006).into()),
            Ok(length) => take(buffer.get(..length).unwrap_or_default()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(Fault::from(error).into()),
        })?;
        if complete {
            return Ok(());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a load run measures time")]
fn now() -> Instant {
    Instant::now()
}

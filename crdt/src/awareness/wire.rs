//! Awareness updates as bytes: a count, then for each client its id, a clock, and a JSON string, `null` when it has left.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use serde::de::IgnoredAny;

use crate::encoding::{Reader, Write, buffer_length, number_length};
use crate::error::DecodeError;
use crate::state_vector::ClientId;

/// The largest clock taken from outside; what goes out may be higher.
const MAX_CLOCK: u32 = 1 << 31;

/// How deep a state may be nested. Peers parse it with whatever stack they have.
const MAX_DEPTH: usize = 64;

/// One client's state, or that it has none any more, as it is sent to others. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwarenessChange {
    /// The client.
    pub client: ClientId,
    /// The clock it is sent with.
    pub clock: u32,
    /// JSON text, or `None` when withdrawn.
    pub state: Option<Arc<str>>,
}

/// What is said of one client.
pub(super) struct Entry<'a> {
    pub(super) client: ClientId,
    pub(super) clock: u32,
    pub(super) state: Option<&'a str>,
}

/// Says that a client has left.
pub(super) fn gone(client: ClientId, clock: u32) -> AwarenessChange {
    AwarenessChange {
        client,
        clock,
        state: None,
    }
}

/// Writes changes as one awareness update.
pub fn encode_changes<'a, I>(changes: I) -> Bytes
where
    I: IntoIterator<Item = &'a AwarenessChange>,
    I::IntoIter: Clone,
{
    const GONE: &str = "null";
    let changes = changes.into_iter();
    let (mut count, mut length) = (0u64, 0);
    for change in changes.clone() {
        count += 1;
        let state = change.state.as_deref().unwrap_or(GONE);
        length += number_length(change.client.0)
            + number_length(u64::from(change.clock))
            + buffer_length(state.len());
    }
    let mut bytes = BytesMut::with_capacity(number_length(count) + length);
    bytes.put_number(count);
    for change in changes {
        bytes.put_number(change.client.0);
        bytes.put_number(u64::from(change.clock));
        bytes.put_string(change.state.as_deref().unwrap_or(GONE));
    }
    bytes.freeze()
}

/// Whether these bytes are an awareness update.
///
/// # Errors
/// What is wrong with them.
pub fn check(update: &[u8]) -> Result<(), DecodeError> {
    read_entries(update).map(|_| ())
}

/// Reads an awareness update.
pub(super) fn read_entries(update: &[u8]) -> Result<Vec<Entry<'_>>, DecodeError> {
    let mut reader = Reader::new(update);
    let count = reader.count()?;
    // Three bytes is the least an entry takes.
    let mut entries = Vec::with_capacity(count.min(reader.remaining() / 3));
    for _ in 0..count {
        let client = ClientId(reader.number()?);
        let clock = reader.number_up_to(MAX_CLOCK)?;
        let position = reader.position();
        let state = reader.string()?;
        if state != "null" {
            check_json(state, position)?;
        }
        entries.push(Entry {
            client,
            clock,
            state: (state != "null").then_some(state),
        });
    }
    if !reader.is_at_end() {
        return Err(DecodeError::TrailingBytes {
            position: reader.position(),
        });
    }
    Ok(entries)
}

fn check_json(state: &str, position: usize) -> Result<(), DecodeError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in state.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(DecodeError::ValueTooDeep {
                        limit: MAX_DEPTH as u16,
                    });
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    serde_json::from_str::<IgnoredAny>(state)
        .map(drop)
        .map_err(|_| DecodeError::InvalidJson { position })
}

//! Yjs updates (v1) as checked bytes with a small table of what is where in them.

use bytes::Bytes;

use crate::error::DecodeError;
use crate::limits::Limits;
use crate::state_vector::ClientId;

/// Consecutive changes of one client inside an update.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientRange {
    /// The author.
    pub client: ClientId,
    /// Its first clock.
    pub start: u32,
    /// One past its last clock.
    pub end: u32,
}

/// An update whose structure was checked. Cheap to keep and to clone: the bytes are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    bytes: Bytes,
}

impl Update {
    /// Checks bytes from outside in one pass that allocates nothing sized by what the input merely claims.
    ///
    /// # Errors
    /// When the bytes are not exactly one update, or it is one that could not be handled safely.
    pub fn parse(bytes: Bytes, limits: &Limits) -> Result<Self, DecodeError> {
        let _ = (bytes, limits);
        todo!("structural gate")
    }

    /// The update as it goes over the wire.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many bytes the update takes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        todo!("structural gate")
    }

    /// Whose changes it has, and which.
    pub fn ranges(&self) -> impl Iterator<Item = ClientRange> + '_ {
        std::iter::empty()
    }

    /// Whether it deletes anything.
    pub fn has_deletes(&self) -> bool {
        todo!("structural gate")
    }

    /// Copies the bytes out of a larger shared buffer, so that keeping the update does not keep the buffer.
    #[must_use]
    pub fn unpinned(self) -> Self {
        Self {
            bytes: Bytes::copy_from_slice(&self.bytes),
        }
    }
}

/// Joins admitted updates, in the order in which they were admitted, into one with the same effect.
pub fn merge<'a>(updates: impl IntoIterator<Item = &'a Update>) -> Update {
    let _ = updates.into_iter().count();
    todo!("merging")
}

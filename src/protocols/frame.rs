//! What one message of a transport holds.

use bytes::Bytes;
use socketioxide_core::Str;

use crate::rooms::Refusal;

/// A message of a transport, in either direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Text. Over Engine.IO a packet with its type, such as `4hello`.
    Text(Str),
    /// The same where many are sent one text, which is UTF-8.
    SharedText(Bytes),
    /// Bytes.
    Binary(Bytes),
    /// Bytes in two parts, of which the second is shared with others that have another first one.
    Parts(Bytes, Bytes),
}

impl Frame {
    /// About how many bytes of a queue it takes.
    pub fn size(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::SharedText(bytes) | Self::Binary(bytes) => bytes.len(),
            Self::Parts(first, rest) => first.len() + rest.len(),
        }
    }

    /// The bytes, of a protocol that has no text.
    ///
    /// # Errors
    /// When it is text.
    pub fn into_binary(self) -> Result<Bytes, Refusal> {
        match self {
            Self::Binary(bytes) => Ok(bytes),
            Self::Text(_) | Self::SharedText(_) | Self::Parts(..) => {
                Err(Refusal::malformed("this protocol has no text frames"))
            }
        }
    }
}

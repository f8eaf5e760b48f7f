//! What can go wrong between bytes from outside and a document.

use thiserror::Error;

use crate::encoding::ReadError;
use crate::state_vector::ClientId;

/// Bytes from outside are not what they should be. The sender's fault; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The lib0 layer could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// There is something after the end.
    #[error("there are bytes after the end of the message, at byte {position}")]
    TrailingBytes {
        /// Where the message ends.
        position: usize,
    },
    /// A client appears twice where it may appear once.
    #[error("client {client} is listed twice")]
    DuplicateClient {
        /// The client.
        client: ClientId,
    },
    /// More clients than the limit.
    #[error("more than {limit} clients are named")]
    TooManyClients {
        /// The limit.
        limit: usize,
    },
    /// A struct or a list has length zero, which no client writes and the document library mishandles.
    #[error("an empty struct, section or range at byte {position}")]
    Empty {
        /// Where it is.
        position: usize,
    },
    /// A clock goes beyond what is supported (2^30).
    #[error("the clock of client {client} goes beyond 2^30")]
    ClockTooLarge {
        /// The client.
        client: ClientId,
    },
    /// A struct, content, type or value tag that does not exist or is not supported.
    #[error("unknown {what} {tag} at byte {position}")]
    UnknownTag {
        /// Kind of tag.
        what: &'static str,
        /// Its value.
        tag: u8,
        /// Where it is.
        position: usize,
    },
    /// Values are nested too deeply.
    #[error("a value is nested deeper than {limit} levels")]
    ValueTooDeep {
        /// The limit.
        limit: u16,
    },
    /// A value that should be JSON is not.
    #[error("the value at byte {position} is not JSON")]
    InvalidJson {
        /// Where it is.
        position: usize,
    },
    /// Something is larger than its limit.
    #[error("{what} is larger than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// A well-formed update that must not enter the document. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Too many clients add something at once.
    #[error("the update adds changes of more than {limit} clients")]
    TooManyClients {
        /// The limit.
        limit: usize,
    },
    /// Shared types are nested too deeply.
    #[error("shared types are nested deeper than {limit} levels")]
    NestingTooDeep {
        /// The limit.
        limit: u16,
    },
    /// Structs wait for each other, or for a later struct of their own client: no order exists in which they could be
    /// applied.
    #[error("structs of client {client} depend on themselves")]
    Cyclic {
        /// One of the clients concerned.
        client: ClientId,
    },
    /// A struct names as its parent something that is not a shared type.
    #[error("the parent of a struct of client {client} at clock {clock} is not a shared type")]
    ParentNotAType {
        /// The author of the struct.
        client: ClientId,
        /// Its clock.
        clock: u32,
    },
    /// A struct's neighbours belong to different shared types.
    #[error(
        "the neighbours of a struct of client {client} at clock {clock} belong to different shared types"
    )]
    InconsistentOrigins {
        /// The author of the struct.
        client: ClientId,
        /// Its clock.
        clock: u32,
    },
    /// A value of several ticks stands under a key of a map, where each value is one.
    #[error("a struct of client {client} at clock {clock} puts several values under one key")]
    LongUnderKey {
        /// The author of the struct.
        client: ClientId,
        /// Its clock.
        clock: u32,
    },
    /// The document itself has failed.
    #[error(transparent)]
    Unusable(#[from] ApplyError),
}

/// The live document broke. Not the caller's fault; drop the document and load it again from what is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ApplyError {
    /// The stored state of a sleeping document could not be read.
    #[error("the stored state of the document could not be read")]
    Corrupt,
    /// The document failed before.
    #[error("the document failed before; load it again")]
    Failed,
}

/// What is stored does not make a document. The page must not be written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoadError {
    /// A part is not an update.
    #[error("part {part} of the stored document is malformed")]
    Malformed {
        /// Index of the part in the order given.
        part: usize,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// A part was refused.
    #[error("part {part} of the stored document is inconsistent")]
    Inconsistent {
        /// Index of the part in the order given.
        part: usize,
        /// Why.
        #[source]
        source: Refusal,
    },
}

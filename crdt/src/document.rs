//! A live Yjs document behind the gate.

use bytes::Bytes;

use crate::content::Content;
use crate::error::{ApplyError, LoadError, Refusal};
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};
use crate::update::Update;

/// What an update needs before it can be admitted: that `client` is known up to `clock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Missing {
    /// Whose changes are missing.
    pub client: ClientId,
    /// The state vector's clock has to be at least this.
    pub clock: u32,
}

/// What became of an update that was offered to a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The update, or what is new in it, is now part of the document and takes effect at the next [`Document::apply`].
    /// When all of it was new these are the bytes received.
    New(Update),
    /// Nothing in it is new.
    Known,
    /// It depends on something that has not arrived. Nothing was changed.
    Early {
        /// The update as it was offered.
        update: Update,
        /// The first thing found missing.
        missing: Missing,
    },
}

/// The state of a document for storing, checked by decoding it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The whole document as one update.
    pub state: Bytes,
    /// Its state vector.
    pub state_vector: Bytes,
}

/// A Yjs document that only takes what was checked.
///
/// It may be *asleep*: then only its encoded state is in memory, from which it can be served; it wakes by itself when
/// something needs more.
#[derive(Debug)]
pub struct Document {
    limits: Limits,
}

impl Document {
    /// An empty document.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }

    /// A document from what is stored: a snapshot and the log rows after it, or any updates in any order.
    ///
    /// # Errors
    /// When the parts do not make a complete document; says which part is to blame.
    pub fn load(limits: Limits, parts: impl IntoIterator<Item = Bytes>) -> Result<Self, LoadError> {
        let _ = (limits, parts.into_iter().count());
        todo!("load")
    }

    /// A sleeping document from a stored snapshot and its state vector, which are trusted until it wakes.
    ///
    /// # Errors
    /// When the state vector cannot be read.
    pub fn asleep(limits: Limits, state: Bytes, state_vector: &[u8]) -> Result<Self, LoadError> {
        let _ = (limits, state, state_vector);
        todo!("asleep")
    }

    /// Decides what is new in an update and whether it can enter the document.
    ///
    /// # Errors
    /// When it must not enter; nothing was changed.
    pub fn admit(&mut self, update: Update) -> Result<Admission, Refusal> {
        let _ = (update, self.limits);
        todo!("admit")
    }

    /// Applies everything admitted since the last call in one transaction; says whether there was anything.
    ///
    /// # Errors
    /// When the document broke. It is unusable from then on.
    pub fn apply(&mut self) -> Result<bool, ApplyError> {
        todo!("apply")
    }

    /// The state vector of everything admitted.
    pub fn state_vector(&self) -> &StateVector {
        todo!("state vector")
    }

    /// What a replica with this state vector lacks, as one update.
    ///
    /// # Errors
    /// When the document broke.
    pub fn diff(&mut self, state_vector: &StateVector) -> Result<Bytes, ApplyError> {
        let _ = state_vector;
        todo!("diff")
    }

    /// The whole document as one update; shared until the next change.
    ///
    /// # Errors
    /// When the document broke.
    pub fn encode(&mut self) -> Result<Bytes, ApplyError> {
        todo!("encode")
    }

    /// The whole document for storing, checked by decoding it again.
    ///
    /// # Errors
    /// When the document broke, or does not survive being decoded again.
    pub fn snapshot(&mut self) -> Result<Snapshot, ApplyError> {
        todo!("snapshot")
    }

    /// A readable view of the document.
    ///
    /// # Errors
    /// When the document broke.
    pub fn content(&mut self) -> Result<Content<'_>, ApplyError> {
        todo!("content")
    }

    /// Leaves only the encoded state in memory.
    ///
    /// # Errors
    /// When the document broke.
    pub fn sleep(&mut self) -> Result<(), ApplyError> {
        todo!("sleep")
    }

    /// Whether the document is unpacked in memory.
    pub fn is_awake(&self) -> bool {
        todo!("sleep")
    }

    /// About how many bytes the encoded state has; cheap, never an encode.
    pub fn encoded_size_estimate(&self) -> usize {
        todo!("estimate")
    }

    /// Makes the next [`Document::apply`] fail as if the document library had panicked.
    #[cfg(feature = "testing")]
    pub fn panic_on_next_apply(&mut self) {
        todo!("fault injection")
    }
}

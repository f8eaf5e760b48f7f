//! Reader processes: documents are made of pages only there, in workers of the same program that may crash, hang or grow.
//!
//! ```text
//!  http, snapshots ──► Readers: marks, one lane a worker ──► Process ═══ pipe ═══► worker: warm views ──► crdt::View
//!                       (page → lane by hash)   (kills, replaces)
//! ```
//!
//! Pages of 256 KiB and more have a lane beside the others: what takes long there keeps no small page waiting.
//!
//! A question carries the page, the digest of the state that is meant, and of that state what the worker is not known to have: all of it,
//! or what came since the worker was asked last, which keeps the page for as long as it has room. A worker
//! that ends, takes too long or wants more memory than it may have is replaced at once, and the question is put once more, to a new
//! process: a worker may have been killed for reasons of its own. That one first says what fields the page has: when that ends it, too, the
//! page is marked and is *unreadable* until its state is another one, else questions of this kind are, as those for a form that takes too
//! long. All the while the page is edited, served and stored as every page is, because that needs no document.
//!
//! | bound | where | what happens there |
//! |---|---|---|
//! | memory of a worker | `PAGEROOM_READER_MEMORY_MEGABYTES` | it ends and is replaced |
//! | time for a question | `PAGEROOM_READER_TIMEOUT_SECONDS` | the worker is killed and replaced |
//! | questions that wait for a worker | 64 | who asks waits as long as a question may take, and is told to come back |
//! | size of a message | the memory of a worker | the worker is replaced |
//! | marked pages | 10 000 | the one whose next try comes first is forgotten |

mod lane;
mod marks;
mod pool;
mod process;
mod protocol;
mod worker;

use std::{
    hash::{BuildHasher, RandomState},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use crdt::{ClientId, MergeRefusal};
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use pool::Readers;
pub use worker::{WorkerError, serve};

use crate::rooms::{Refusal, RefusalCode};

/// From here on a state is gone through beside the runtime, and read by a worker of its own.
const LARGE_STATE: u64 = 256 << 10;

/// How many workers there are and what they may take.
#[derive(Clone, Debug)]
pub struct ReaderConfig {
    /// Worker processes, at least one, beside the one for large pages. They are started when they are needed.
    pub workers: usize,
    /// What one may take, in bytes.
    pub memory: u64,
    /// How long one question may take.
    pub timeout: Duration,
    /// The program to start as a worker, for whoever embeds a server in another program; else this one.
    pub program: Option<PathBuf>,
}

/// A client id that no replica has, for edits that a reader makes.
pub fn new_client() -> ClientId {
    // The keys of a hasher are the system's random numbers. Ids have 32 bits, as Yjs draws them.
    ClientId(RandomState::new().hash_one(0_u8) & 0xffff_ffff)
}

/// What is to be merged into a page.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Change<C = Value> {
    /// A save of a whole content.
    Save(crdt::Save<C>),
    /// A save of a content that was read in one of the forms for backends.
    Shown(crdt::Save<C>),
    /// Small edits.
    Edits(Vec<crdt::SmallEdit>),
    /// The next piece of what goes to the end.
    Append(crdt::Append),
    /// A change of a component.
    Component(crdt::ComponentChange),
}

/// The state of a page: updates that are taken in one after the other, as a rule one.
#[derive(Clone, Debug)]
pub struct State(Arc<[Bytes]>);

impl State {
    fn len(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// What tells it from any other one: SHA-256, in hex.
    fn digest(&self) -> Arc<str> {
        let mut digest = Sha256::new();
        for part in self.0.iter() {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        let bytes = digest.finalize();
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
            .into()
    }
}

impl From<Bytes> for State {
    fn from(whole: Bytes) -> Self {
        Self([whole].into())
    }
}

impl From<Vec<Bytes>> for State {
    fn from(parts: Vec<Bytes>) -> Self {
        Self(parts.into())
    }
}

/// Why nothing was merged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// The save is refused. Its author's fault.
    #[error(transparent)]
    Refused(#[from] MergeRefusal),
    /// The page was not read.
    #[error(transparent)]
    Unread(#[from] ReadError),
}

/// Why a page was not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No document can be made of the page's state. Its fault; it is tried again when it has changed.
    #[error("the page cannot be read: {reason}")]
    Unreadable {
        /// Why not, without anything of its content.
        reason: Arc<str>,
    },
    /// There is a document, but what was asked for cannot be shown. The page's fault too.
    #[error("the page cannot be shown: {reason}")]
    Unshown {
        /// Why not; names the field.
        reason: String,
    },
    /// Too many questions wait. The server's fault, for now.
    #[error("too much is being read just now")]
    Busy,
    /// There is no worker to ask. The server's fault.
    #[error("no reader process can be started: {reason}")]
    Unavailable {
        /// What the system said.
        reason: String,
    },
}

impl ReadError {
    /// The same as every protocol tells it.
    pub fn refusal(&self) -> Refusal {
        match self {
            Self::Unreadable { .. } | Self::Unshown { .. } => {
                Refusal::new(RefusalCode::Internal, self.to_string())
            }
            Self::Busy | Self::Unavailable { .. } => {
                Refusal::unavailable("pages cannot be read just now, try again")
            }
        }
    }
}

impl MergeError {
    /// The same as every protocol tells it.
    pub fn refusal(&self) -> Refusal {
        let refused = match self {
            Self::Refused(refused) => refused,
            Self::Unread(error) => return error.refusal(),
        };
        let code = match refused {
            MergeRefusal::Conflict { .. } | MergeRefusal::TestFailed { .. } => RefusalCode::Conflict,
            MergeRefusal::Malformed { .. } | MergeRefusal::Ambiguous { .. } | MergeRefusal::Edit { .. } => {
                RefusalCode::Malformed
            }
            MergeRefusal::NotFound { .. } | MergeRefusal::NoSuchPlace { .. } => RefusalCode::NotFound,
            MergeRefusal::TooMuch => RefusalCode::TooLarge,
        };
        Refusal::new(code, refused.to_string())
    }
}

//! Why a save or an edit is not merged.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::content::FieldType;
use crate::view::ViewError;

/// Why a save is not merged: its author's fault.
#[derive(Debug, Clone, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum MergeRefusal {
    /// The page holds something else than what is saved.
    #[error("the page holds {held}, into which this content cannot be merged")]
    Conflict {
        /// What it holds.
        held: String,
    },
    /// The content is not of the format that it is said to be.
    #[error("the content is malformed: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// Several root types come into question, and none is named.
    #[error("the page has several fields: say which of `{fields}` is meant")]
    Ambiguous {
        /// Their names.
        fields: String,
    },
    /// An edit is none that there is.
    #[error("the edit is malformed: {reason}")]
    Edit {
        /// What is wrong with it.
        reason: String,
    },
    /// The edits take too long to be made at once.
    #[error("these are too many edits of a page this large: make them in several requests")]
    TooMuch,
    /// There is no such place in the page.
    #[error("{reason}")]
    NoSuchPlace {
        /// Which one.
        reason: String,
    },
    /// What was to be tested is otherwise.
    #[error("the value at `{path}` is another one")]
    TestFailed {
        /// Where.
        path: String,
    },
    /// There is no such thing on the page.
    #[error("there is nothing with the id `{id}`")]
    NotFound {
        /// The id.
        id: String,
    },
}

impl MergeRefusal {
    pub(super) fn malformed(reason: impl Into<String>) -> Self {
        Self::Malformed {
            reason: reason.into(),
        }
    }

    /// A save of nodes that are none of those that the page is made of.
    pub(super) fn other_schema(holds_blocks: bool) -> Self {
        let held = if holds_blocks {
            "blocks of BlockNote"
        } else {
            "rich text that is none of BlockNote's"
        };
        Self::Conflict {
            held: held.to_owned(),
        }
    }

    pub(super) fn edit(reason: impl Into<String>) -> Self {
        Self::Edit {
            reason: reason.into(),
        }
    }

    pub(crate) fn conflict(held: FieldType) -> Self {
        Self::Conflict {
            held: held.name().to_owned(),
        }
    }
}

/// Why a save was not merged.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MergeError {
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] MergeRefusal),
    /// The document cannot be read.
    #[error(transparent)]
    View(#[from] ViewError),
}

//! Yjs documents as Pageroom keeps them: checked before they are decoded, merged as bytes, never pending.

pub mod awareness;
pub mod encoding;
pub mod message;

mod content;
mod document;
mod ended_clients;
mod error;
mod id_set;
mod identity_stamp;
mod limits;
mod merge;
mod past;
mod pending;
mod places;
mod rebuild;
mod roots;
mod second_encoding;
mod state_vector;
mod structs;
mod update;
mod view;
mod weight;
mod work;

#[cfg(feature = "testing")]
pub mod testing;

pub use awareness::{Awareness, AwarenessChange, AwarenessLimits, AwarenessOutcome, Introduction};
pub use content::{FieldType, Form};
pub use document::{Admission, Document, Missing, Snapshot};
pub use ended_clients::{EndedClients, MAX_ENDED_CLIENTS, TooManyEndedClients};
pub use error::{ApplyError, DecodeError, LoadError, Refusal};
pub use identity_stamp::IdentityStamp;
pub use limits::Limits;
pub use merge::{
    Append, AppendedPiece, COMPONENT_FIELD, Candidate, ComponentChange, Format, MergeError, MergeRefusal,
    Merged, Nearest, ORDER, Save, SmallEdit, Whole, nearest, nearest_object, thing_id, thing_in,
};
pub use message::Message;
pub use past::{Deeds, Fate, PastError, Piece, Row, Thing, compare, restore, undo};
pub use pending::PendingFull;
pub use places::{ItemId, Offset, Place, RelativePosition};
pub use rebuild::RebuildError;
pub use second_encoding::{NotSecondEncoding, first_of_second_encoding};
pub use state_vector::{ClientId, MAX_CLOCK, StateVector};
pub use update::{ClientRange, Update, mark, merge};
pub use view::{View, ViewError};
pub use weight::Weight;

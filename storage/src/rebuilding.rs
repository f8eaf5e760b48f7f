//! Documents that are rebuilt: the same content without what editing has left behind, as a generation of its own.

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Generation, PageId, Seq, StoreError};

/// A document that takes the place of another one.
#[derive(Clone, Debug)]
pub struct Rebuilding {
    /// The page.
    pub page: PageId,
    /// The generation that it has.
    pub generation: Generation,
    /// The number of its last row, which its snapshot covers.
    pub seq: Seq,
    /// The document as it is to be: an update that says what the snapshot says.
    pub state: Bytes,
    /// Its state vector.
    pub state_vector: Bytes,
    /// The client ids of this and all former generations; the store does not look inside.
    pub ended_clients: Bytes,
}

/// The part of a store that gives pages other documents.
#[async_trait]
pub trait RebuildStore: Send + Sync + 'static {
    /// Puts a rebuilt document in the place of a page's document: the page has another generation and a number that is one higher than its
    /// last row, without a row. What was before stays readable up to `seq`, where history is kept; no row leads from there to the rebuilt
    /// document.
    ///
    /// `None`, and nothing is changed, when the page is in the trash, has another generation or number, or has rows that no snapshot covers.
    async fn rebuild(&self, rebuilding: &Rebuilding) -> Result<Option<Generation>, StoreError>;
}

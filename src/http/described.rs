//! What answers say of pages, as JSON and in the description of REST.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use storage::Seq;
use utoipa::ToSchema;

use super::{page_state::SEQ_HEADER, prefer::MayBeBrief};

/// Pages, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct PageListing {
    pub(super) pages: Vec<ListedPage>,
    /// The next `after`; null at the end.
    #[schema(required)]
    pub(super) next: Option<String>,
}

/// What is known of a page without opening it.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ListedPage {
    pub(super) page_id: String,
    /// Changes only when the document is made anew, never by editing.
    pub(super) generation: String,
    /// The number of the last row that is stored.
    pub(super) seq: u64,
    /// Its size, in bytes.
    pub(super) size_bytes: u64,
    #[schema(format = DateTime)]
    pub(super) created_at: String,
    #[schema(format = DateTime)]
    pub(super) updated_at: String,
    /// Since when it has been in the trash.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(format = DateTime, nullable = false)]
    pub(super) deleted_at: Option<String>,
}

/// What is known of a page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageDescription {
    #[serde(flatten)]
    pub(super) page: ListedPage,
    /// Its root types.
    pub(super) fields: Vec<Field>,
    /// Whether its content cannot be shown in any form for people; its updates can be read all the same.
    pub(super) unreadable: bool,
    /// Connections that are at the page.
    pub(super) connections: usize,
    /// Size of what is kept of its past, in bytes.
    pub(super) history_bytes: u64,
    /// The number of the first row whose state is kept.
    pub(super) history_from_seq: u64,
    pub(super) weight: PageWeight,
}

/// What a document weighs. `POST …/compact` leaves the live part.
#[derive(Clone, Copy, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct PageWeight {
    /// Clients that have written in it.
    pub(super) clients: usize,
    /// Pieces that it consists of, live and deleted ones.
    pub(super) structs: usize,
    /// Bytes of what it says.
    pub(super) live_bytes: usize,
    /// Bytes that deleted things still take.
    pub(super) dead_bytes: usize,
}

impl From<crdt::Weight> for PageWeight {
    fn from(weight: crdt::Weight) -> Self {
        let crdt::Weight {
            clients,
            structs,
            live_bytes,
            dead_bytes,
            ..
        } = weight;
        Self {
            clients,
            structs,
            live_bytes,
            dead_bytes,
        }
    }
}

/// A root type of a page.
#[derive(Serialize, ToSchema)]
pub(super) struct Field {
    pub(super) name: String,
    /// `text`, `map`, `array`, `xml`, or `unknown` while nothing in it tells.
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// Where a change is stored.
#[derive(Serialize, ToSchema)]
pub(super) struct Stored {
    /// The number of the row. That of the last one when there was nothing to change.
    pub(super) seq: u64,
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        with_seq(self.seq, self)
    }
}

/// An answer about a row that is stored, whose number says enough to whoever prefers a short one.
pub(super) fn with_seq(seq: Seq, answer: impl Serialize) -> Response {
    let mut answer = Json(answer).into_response();
    answer.headers_mut().insert(SEQ_HEADER, seq.into());
    answer.extensions_mut().insert(MayBeBrief);
    answer
}

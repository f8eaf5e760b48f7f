//! The events dialect: pages over plain Socket.IO events in the namespace `/`, for clients without a Yjs provider.
//!
//! Received, each with an acknowledgement if the client wants one: `join_page` with `"id"` or `{pageId, stateVector?}` · `leave_page`
//! · `page_delta` `{pageId, update}`, acknowledged once it is stored · `page_sync` `{pageId, stateVector}` · `page_awareness`
//! `{pageId, update}` · `auth:refresh` `{token}`. Sent: `joined_page`, `page_delta`, `page_awareness`, `page_sync` when the client is to
//! send what the page lacks, `access_revoked`, `auth_expiring`, and `error` for what was refused and has no acknowledgement to say so.
//!
//! Updates, state vectors and awareness updates are attachments. What many are told is encoded once: the text of an event with an
//! attachment is the same for each such event of a page, and the attachment is shared by all who get it.

mod content;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use crdt::{Limits, StateVector, awareness};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value as Json, json};
use socketioxide_core::{Str, Value, packet::Packet, parser::Parse};
use socketioxide_parser_common::CommonParser;
use storage::{PageId, Seq};

pub use content::{Content, ContentSave, FormatName, Shape, Wording, save_by_backend};

use super::{
    Frame,
    socket_io::{encode, malformed, refusal_body},
};
use crate::rooms::Refusal;

/// The namespace.
pub const NAMESPACE: &str = "/";

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Something of one page.
    Page(PageId, PageRequest),
    /// To go on with a fresh token.
    Refresh(String),
}

/// What a client wants of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PageRequest {
    /// To enter it.
    Join {
        /// Up to where it has heard what is kept of the page's room.
        since: Option<Since>,
        /// What it has, if it wants to take part in the document.
        state_vector: Option<Bytes>,
        /// It names pages in an object, not by their id alone.
        in_object: bool,
    },
    /// To leave it.
    Leave,
    /// To change it.
    Delta(Bytes),
    /// To be told what somebody lacks who has this state vector.
    Sync(Bytes),
    /// To show something of itself.
    Awareness(Bytes),
    /// To save a whole content.
    Save(Box<ContentSave>, Wording),
}

impl PageRequest {
    /// Whether it opens a page that is not open.
    pub fn opens_pages(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Save(_, Wording::DocumentUpdate))
    }

    /// Bytes of payload, for budgets.
    pub fn payload_bytes(&self) -> usize {
        match self {
            Self::Join { state_vector, .. } => state_vector.as_ref().map_or(0, Bytes::len),
            Self::Delta(bytes) | Self::Sync(bytes) | Self::Awareness(bytes) => bytes.len(),
            Self::Save(save, _) => save.payload_bytes(),
            Self::Leave => 0,
        }
    }
}

/// Up to where a client has heard.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Since {
    /// Of which database.
    pub epoch: String,
    /// Up to which offset.
    pub offset: u64,
}

/// A page as it is named in an event: by its id alone, or in an object.
#[derive(Deserialize)]
struct Named {
    #[serde(rename = "pageId")]
    page: String,
    #[serde(rename = "stateVector", default, deserialize_with = "present")]
    state_vector: Option<Bytes>,
    #[serde(default)]
    since: Option<Since>,
    #[serde(skip, default = "yes")]
    is_object: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize)]
struct WithUpdate {
    #[serde(rename = "pageId")]
    page: String,
    update: Bytes,
}

#[derive(Deserialize)]
struct WithStateVector {
    #[serde(rename = "pageId")]
    page: String,
    #[serde(rename = "stateVector")]
    state_vector: Bytes,
}

#[derive(Deserialize)]
struct WithToken {
    token: String,
}

fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Bytes>, D::Error> {
    Bytes::deserialize(deserializer).map(Some)
}

fn page(id: &str) -> Result<PageId, Refusal> {
    PageId::new(id).map_err(malformed)
}

fn read<'de, T: Deserialize<'de>>(arguments: &'de mut Value) -> Result<T, Refusal> {
    CommonParser.decode_value(arguments, true).map_err(malformed)
}

fn named(arguments: &mut Value) -> Result<Named, Refusal> {
    match CommonParser.decode_value::<String>(arguments, true) {
        Ok(page) => Ok(Named {
            page,
            state_vector: None,
            since: None,
            is_object: false,
        }),
        Err(_) => read(arguments),
    }
}

/// Whether clients say an event about documents.
pub fn is_of_documents(event: &str) -> bool {
    let events = [
        "auth:refresh",
        "cursor_move",
        "document_update",
        "join_page",
        "leave_page",
        "page_awareness",
        "page_delta",
        "page_sync",
        "page_updated",
        "typing_start",
        "typing_stop",
    ];
    events.contains(&event)
}

/// Reads an event; `None` for one that says nothing to us. Bytes that a room would send its author away for are refused here,
/// because no event ends a connection.
pub fn decode(arguments: &mut Value, limits: &Limits) -> Result<Option<Request>, Refusal> {
    let checked = |bytes: Bytes| {
        let is_state_vector = StateVector::decode(&bytes, limits);
        is_state_vector.map_err(|error| malformed(format_args!("stateVector: {error}")))?;
        Ok::<_, Refusal>(bytes)
    };
    let (id, request) = match CommonParser.read_event(arguments).map_err(malformed)? {
        "join_page" => {
            let Named {
                page,
                state_vector,
                since,
                is_object,
            } = named(arguments)?;
            let state_vector = state_vector.map(checked).transpose()?;
            let request = PageRequest::Join {
                since,
                state_vector,
                in_object: is_object,
            };
            (page, request)
        }
        "leave_page" => (named(arguments)?.page, PageRequest::Leave),
        "page_delta" => {
            let WithUpdate { page, update } = read(arguments)?;
            (page, PageRequest::Delta(update))
        }
        "page_sync" => {
            let WithStateVector { page, state_vector } = read(arguments)?;
            (page, PageRequest::Sync(checked(state_vector)?))
        }
        "page_awareness" => {
            let WithUpdate { page, update } = read(arguments)?;
            awareness::check(&update).map_err(malformed)?;
            (page, PageRequest::Awareness(update))
        }
        "page_updated" => return save(arguments, Wording::PageUpdated),
        "document_update" => return save(arguments, Wording::DocumentUpdate),
        "auth:refresh" => return Ok(Some(Request::Refresh(read::<WithToken>(arguments)?.token))),
        _ => return Ok(None),
    };
    Ok(Some(Request::Page(page(&id)?, request)))
}

fn save(arguments: &Value, wording: Wording) -> Result<Option<Request>, Refusal> {
    let (page, save) = content::save(arguments)?;
    Ok(Some(Request::Page(
        page,
        PageRequest::Save(Box::new(save), wording),
    )))
}

/// The name of an event.
///
/// # Errors
/// When it has none.
pub fn name(arguments: &Value) -> Result<&str, Refusal> {
    CommonParser.read_event(arguments).map_err(malformed)
}

/// The first argument of an event behind its name; null without one.
///
/// # Errors
/// When it is not JSON.
pub fn payload(arguments: &mut Value) -> Result<Json, Refusal> {
    let Value::Str(text, _) = arguments else {
        return Err(malformed("an event is JSON"));
    };
    let arguments: Vec<Json> = serde_json::from_str(text).map_err(malformed)?;
    Ok(arguments.into_iter().nth(1).unwrap_or_default())
}

/// The text of an answer, as bytes that can be queued.
pub fn answer_text(ack: i64, body: &impl Serialize) -> Bytes {
    let mut text = format!("43{ack}[").into_bytes();
    match serde_json::to_writer(&mut text, body) {
        Ok(()) => text.push(b']'),
        // Values of ours and of JSON can always be written.
        Err(error) => {
            tracing::error!(%error, "an answer cannot be written");
            return Bytes::new();
        }
    }
    text.into()
}

/// Writes an event.
pub fn event(name: &str, body: &Json, frames: &mut Vec<Frame>) {
    // JSON and a name can always be written.
    if let Ok(arguments) = CommonParser.encode_value(body, Some(name)) {
        encode(Packet::event(NAMESPACE, arguments), frames);
    }
}

/// Writes an answer, if one is waited for.
pub fn answer(ack: Option<i64>, body: &Json, frames: &mut Vec<Frame>) {
    if let Some(ack) = ack
        && let Ok(arguments) = CommonParser.encode_value(body, None)
    {
        encode(Packet::ack(NAMESPACE, arguments, ack), frames);
    }
}

/// Writes why an event was refused: as its answer, or as an event of its own when no answer is waited for.
pub fn refused(
    ack: Option<i64>,
    page: Option<&PageId>,
    refusal: &Refusal,
    retry_after: Option<Duration>,
    frames: &mut Vec<Frame>,
) {
    let mut error = refusal_body(refusal);
    if let Some(wait) = retry_after {
        error["retryAfterMs"] = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).into();
    }
    match ack {
        Some(_) => answer(ack, &json!({ "ok": false, "error": error }), frames),
        None => {
            if let Some(page) = page {
                error["pageId"] = page.as_str().into();
            }
            event("error", &error, frames);
        }
    }
}

/// Tells a client that its token ends soon.
pub fn auth_expiring(left: Duration, frames: &mut Vec<Frame>) {
    let left = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    event("auth_expiring", &json!({ "expiresInMs": left }), frames);
}

/// What a joiner is answered.
#[derive(Debug)]
pub struct Joined<'a> {
    /// The name of its role.
    pub role: &'a str,
    /// The sequence number up to which the page was stored when it came.
    pub seq: Seq,
    /// What it lacks and what the page has, if it takes part in the document.
    pub synced: Option<(Bytes, Bytes)>,
    /// What it is answered about what it has missed, if it has joined with an object.
    pub missed: Map<String, Json>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Synced {
    #[serde(flatten)]
    rest: Map<String, Json>,
    update: Bytes,
    state_vector: Bytes,
}

/// Writes an answer with an update and a state vector, if one is waited for.
fn answer_synced(ack: Option<i64>, body: Json, update: Bytes, state_vector: Bytes, frames: &mut Vec<Frame>) {
    let (Some(ack), Json::Object(rest)) = (ack, body) else {
        return;
    };
    // Only the places of the attachments are written: writing the attachments would copy them.
    let places = Synced {
        rest,
        update: Bytes::new(),
        state_vector: Bytes::new(),
    };
    if let Ok(arguments) = CommonParser.encode_value(&places, None) {
        let first = frames.len();
        encode(Packet::ack(NAMESPACE, arguments, ack), frames);
        frames.truncate(first + 1);
        frames.extend([Frame::Binary(update), Frame::Binary(state_vector)]);
    }
}

/// What is said of one page.
#[derive(Debug)]
pub struct PageWords {
    page: PageId,
    delta: Str,
    awareness: Str,
}

impl PageWords {
    /// The words for a page.
    pub fn new(page: PageId) -> Self {
        Self {
            delta: with_update("page_delta", &page),
            awareness: with_update("page_awareness", &page),
            page,
        }
    }

    /// Writes that a client has joined, and the answer.
    pub fn joined(
        &self,
        ack: Option<i64>,
        viewers: &[Arc<str>],
        joined: Joined<'_>,
        frames: &mut Vec<Frame>,
    ) {
        let page = self.page.as_str();
        event("joined_page", &json!({ "pageId": page }), frames);
        let Joined {
            role,
            seq,
            synced,
            missed,
        } = joined;
        let mut body = json!({ "ok": true, "pageId": page, "role": role, "seq": seq, "viewers": viewers });
        if let Some(fields) = body.as_object_mut() {
            fields.extend(missed);
        }
        match synced {
            None => answer(ack, &body, frames),
            Some((update, state_vector)) => answer_synced(ack, body, update, state_vector, frames),
        }
    }

    /// Writes the answer to a `page_sync`.
    pub fn synced(&self, ack: Option<i64>, update: Bytes, state_vector: Bytes, frames: &mut Vec<Frame>) {
        let body = json!({ "ok": true, "pageId": self.page.as_str() });
        answer_synced(ack, body, update, state_vector, frames);
    }

    /// Writes an update of the document.
    pub fn delta(&self, update: Bytes, frames: &mut Vec<Frame>) {
        frames.extend([Frame::Text(self.delta.clone()), Frame::Binary(update)]);
    }

    /// Writes what has changed about who shows what.
    pub fn awareness(&self, update: Bytes, frames: &mut Vec<Frame>) {
        frames.extend([Frame::Text(self.awareness.clone()), Frame::Binary(update)]);
    }

    /// Asks the client for what the page lacks that has this state vector.
    pub fn ask(&self, state_vector: Bytes, frames: &mut Vec<Frame>) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Asked<'a> {
            page_id: &'a str,
            state_vector: Bytes,
        }
        let asked = Asked {
            page_id: self.page.as_str(),
            state_vector,
        };
        if let Ok(arguments) = CommonParser.encode_value(&asked, Some("page_sync")) {
            encode(Packet::event(NAMESPACE, arguments), frames);
        }
    }
}

/// The text of an event with a page and an update as its attachment: the same for each such event of the page.
fn with_update(name: &str, page: &PageId) -> Str {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WithPlace<'a> {
        page_id: &'a str,
        update: Bytes,
    }
    let place = WithPlace {
        page_id: page.as_str(),
        update: Bytes::new(),
    };
    let mut frames = Vec::new();
    if let Ok(arguments) = CommonParser.encode_value(&place, Some(name)) {
        encode(Packet::event(NAMESPACE, arguments), &mut frames);
    }
    match frames.into_iter().next() {
        Some(Frame::Text(text)) => text,
        Some(Frame::SharedText(_) | Frame::Binary(_) | Frame::Parts(..)) | None => Str::default(),
    }
}

#[cfg(test)]
mod tests;

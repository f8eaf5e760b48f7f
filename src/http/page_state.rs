//! Reads a page in the state that it has now, from its room if it is open, else from the store, with the tag of that state.

use std::sync::Arc;

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use crdt::EndedClients;
use storage::{PageId, Seq};

use super::{App, HttpError};
use crate::rooms::{Refusal, RefusalCode, Room, ended_clients, open_document, run_blocking_if};

/// The sequence number up to which the answer is stored.
pub(super) const SEQ_HEADER: HeaderName = HeaderName::from_static("x-pageroom-seq");

/// What a browser lets HTML do that a page holds: it is from this origin, where nothing of a page may do anything.
pub(super) const DOES_NOTHING: HeaderValue =
    HeaderValue::from_static("sandbox; default-src 'none'; img-src * data:; style-src 'unsafe-inline'");

/// The tag of the state in which a page is; `None` when there is no such page.
pub(super) async fn tag(app: &App, page: &PageId) -> Result<Option<String>, HttpError> {
    let live = app
        .around
        .registry
        .read(page, |room| read_room(room, &|_| Ok(())));
    if let Some(live) = live.await {
        let (view, _) = live.map_err(HttpError::Broken)?;
        return Ok(view.map(|view| view.etag));
    }
    let record = app.store.page(page).await?;
    Ok(record.map(|record| etag(&record.generation.0, record.seq, false)))
}

/// Something read from a page, and which state of the page it is.
pub(super) struct View<T> {
    pub(super) value: T,
    pub(super) seq: u64,
    pub(super) etag: String,
    /// The clients of former generations.
    pub(super) ended: Arc<EndedClients>,
}

/// The number and the tag of a page's state, without reading the page. `None` when there is no such page.
pub(super) async fn head(app: &App, page: &PageId) -> Result<Option<(Seq, String)>, HttpError> {
    let live = app.around.registry.read(page, |room| {
        let generation = room.generation()?;
        let tag = etag(&generation.0, room.seq(), !room.is_stored());
        Some((room.seq(), tag))
    });
    if let Some(head) = live.await {
        return Ok(head);
    }
    let Some(record) = app.store.page(page).await? else {
        return Ok(None);
    };
    if record.deleted_at.is_some() {
        return Err(deleted());
    }
    Ok(Some((record.seq, etag(&record.generation.0, record.seq, false))))
}

/// It was asked for before; this is what was read.
fn deleted() -> HttpError {
    Refusal::new(RefusalCode::PageDeleted, "the page was deleted").into()
}

/// Reads a page from its room if it is open, else from the store; also says how many connections it has. `None` when there
/// is no such page.
pub(super) async fn view<T: Send + 'static>(
    app: &App,
    page: &PageId,
    read: impl Fn(&mut crdt::Document) -> Result<T, crdt::ApplyError> + Send + Sync + 'static,
) -> Result<Option<(View<T>, usize)>, HttpError> {
    let read = Arc::new(read);
    let from_room = read.clone();
    let live = app
        .around
        .registry
        .read(page, move |room| read_room(room, &*from_room))
        .await;
    if let Some(live) = live {
        let (view, connections) = live.map_err(HttpError::Broken)?;
        return Ok(view.map(|view| (view, connections)));
    }
    let Some(stored) = app.store.load(page).await? else {
        return Ok(None);
    };
    if stored.record.deleted_at.is_some() {
        return Err(deleted());
    }
    let etag = etag(&stored.record.generation.0, stored.record.seq, false);
    let seq = stored.record.seq;
    let ended = Arc::new(ended_clients(&stored)?);
    let mut document = open_document(app.gate, stored.snapshot, stored.log).map_err(HttpError::Damaged)?;
    let value = run_blocking_if(true, || read(&mut document)).map_err(HttpError::Broken)?;
    Ok(Some((
        View {
            value,
            seq,
            etag,
            ended,
        },
        0,
    )))
}

type Read<T> = (Option<View<T>>, usize);

fn read_room<T>(
    room: &mut Room,
    read: &(impl Fn(&mut crdt::Document) -> Result<T, crdt::ApplyError> + ?Sized),
) -> Result<Read<T>, crdt::ApplyError> {
    let connections = room.member_count();
    let Some(generation) = room.generation().map(|generation| generation.0.clone()) else {
        // Nothing has been stored yet: the page does not exist before its first edit is durable.
        return Ok((None, connections));
    };
    let (seq, settled) = (room.seq(), room.is_stored());
    let ended = room.ended_clients().clone();
    let value = read(room.document())?;
    Ok((
        Some(View {
            value,
            seq,
            etag: etag(&generation, seq, !settled),
            ended,
        }),
        connections,
    ))
}

/// The tag of a state. While edits are on their way to the store the state is ahead of its sequence number, so the tag is one
/// that never matches.
pub(super) fn etag(generation: &str, seq: u64, ahead: bool) -> String {
    match ahead {
        false => format!("\"{generation}-{seq}\""),
        true => format!("W/\"{generation}-{seq}+\""),
    }
}

/// Whether whoever asks has this state already.
pub(super) fn unchanged(headers: &HeaderMap, etag: &str) -> bool {
    let Some(known) = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|known| known.to_str().ok())
    else {
        return false;
    };
    !etag.starts_with("W/")
        && known
            .split(',')
            .map(str::trim)
            .any(|known| known == "*" || known == etag)
}

/// Answers with a state of a page, or that whoever asks has it already.
pub(super) fn answer(
    asked: &HeaderMap,
    content_type: &'static str,
    body: impl IntoResponse,
    etag: &str,
    seq: u64,
) -> Response {
    let mut answer = match unchanged(asked, etag) {
        true => StatusCode::NOT_MODIFIED.into_response(),
        false => ([(header::CONTENT_TYPE, content_type)], body).into_response(),
    };
    let headers = answer.headers_mut();
    if let Ok(etag) = HeaderValue::from_str(etag) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(SEQ_HEADER, seq.into());
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static("private, no-cache"),
    );
    answer
}

//! `GET /api/pages/{id}/content`: the page in a readable form.

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
};
use crdt::{Form, Format};
use serde::Deserialize;
use storage::Seq;

use super::{named, of_media_type};
use crate::{
    http::{
        App, HttpError,
        page_state::{DOES_NOTHING, answer, head, unchanged, view},
        pages::PageInPath,
        past::{self, When},
    },
    rooms::{Refusal, RefusalCode, Role, RoomKind, RoomName},
};

#[derive(Deserialize)]
pub(crate) struct ContentQuery {
    format: Option<String>,
    field: Option<String>,
    seq: Option<Seq>,
    version: Option<u64>,
}

/// The page in the form that is named, or that the asker accepts.
pub(crate) async fn read(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<ContentQuery>, QueryRejection>,
) -> Result<Response, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(query) = query?;
    let form = match query.format.as_deref() {
        Some(name) => named(name)?,
        None => accepted(&headers),
    };
    let kind = match form {
        Form::Json | Form::Prosemirror | Form::Delta => "application/json",
        Form::Text => "text/plain; charset=utf-8",
        Form::Html => "text/html; charset=utf-8",
        Form::Markdown => "text/markdown; charset=utf-8",
    };
    let (state, etag, seq, readers) = match When::new(query.seq, query.version).seq(&app, &page).await? {
        Some(seq) => {
            if let Some(etag) = past::known(&app, &page, seq, &headers).await? {
                return Ok(answer(&headers, kind, (), &etag, seq));
            }
            let mut past = past::state(&app, &page, seq).await?;
            (past.encode()?, past.etag, seq, app.readers.of_past(seq))
        }
        None => {
            let (seq, etag) = head(&app, &page).await?.ok_or_else(HttpError::unknown_page)?;
            if unchanged(&headers, &etag) {
                return Ok(answer(&headers, kind, (), &etag, seq));
            }
            let read = view(&app, &page, crdt::Document::encode).await?;
            let (view, _) = read.ok_or_else(HttpError::unknown_page)?;
            (view.value, view.etag, view.seq, app.readers.clone())
        }
    };
    let is_component = RoomName::parse(page.as_str()).is_some_and(|room| room.kind() == RoomKind::Component);
    let content = match (form, query.field) {
        // As its members have it: the things of its lists in their order.
        (Form::Json, Some(field)) if is_component && field == crdt::COMPONENT_FIELD => {
            let format = Format::Json;
            let component = readers.whole(&page, state, Some(format), format, None);
            component.await?.map(|component| component.get().to_owned())
        }
        (form, field) => readers.content(&page, state, form, field).await?,
    };
    let body = content
        .ok_or_else(|| HttpError::from(Refusal::new(RefusalCode::NotFound, "the page has no such field")))?;
    let mut answer = answer(&headers, kind, body, &etag, seq);
    answer
        .headers_mut()
        .insert(header::VARY, HeaderValue::from_static("accept"));
    if form == Form::Html {
        answer
            .headers_mut()
            .insert(header::CONTENT_SECURITY_POLICY, DOES_NOTHING);
    }
    Ok(answer)
}

/// The first form that is accepted.
fn accepted(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    accepted.find_map(of_media_type).unwrap_or(Form::Json)
}

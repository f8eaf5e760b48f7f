//! `GET /api/pages/{id}/content`: the page in a readable form.

use axum::{
    body::Bytes,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
};
use crdt::{Form, Format};
use serde::Deserialize;
use storage::{PageId, Seq};

use super::{ContentFormat, kept::What, named, of_media_type};
use crate::{
    http::{
        App, HttpError,
        openapi::{
            parameters::{Known, PageName},
            refusals::ReadingPast,
        },
        page_state::{DOES_NOTHING, answer, head, unchanged, view},
        pages::PageInPath,
        past::{self, When},
    },
    reader::Readers,
    rooms::{Refusal, RefusalCode, Role, RoomKind, RoomName},
};

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ContentQuery {
    /// The form. When it is not said, the first media type of `Accept` that stands for one, else `json`.
    #[param(value_type = Option<ContentFormat>, nullable = false)]
    format: Option<String>,
    /// The name of a root type, of which alone is read.
    field: Option<String>,
    /// The number of a row: the state after it. Not together with `version`.
    seq: Option<u64>,
    /// The number of a version: the state that it is. Not together with `seq`.
    version: Option<u64>,
}

/// Reads a page in a form for people or programs.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/content",
    operation_id = "readContent",
    tag = "pages",
    params(("id" = PageName, Path), ContentQuery, Known),
    responses(
        (
            status = 200,
            description = "The content. `prosemirror`, `blocknote` and `delta` are JSON, too",
            content(
                (Value = "application/json"),
                (String = "text/plain"),
                (String = "text/html"),
                (String = "text/markdown"),
            ),
            headers(
                ("etag" = String, description = "The tag of the state"),
                ("x-pageroom-seq" = u64, description = "The number of the row up to which it is stored"),
            ),
        ),
        (status = 304, description = "The asker has this state"),
        ReadingPast,
    ),
)]
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
        Form::Json | Form::Prosemirror | Form::Blocknote | Form::Delta => "application/json",
        Form::Text => "text/plain; charset=utf-8",
        Form::Html => "text/html; charset=utf-8",
        Form::Markdown => "text/markdown; charset=utf-8",
    };
    let (body, etag, seq) = match When::new(query.seq, query.version).seq(&app, &page).await? {
        Some(seq) => {
            if let Some(etag) = past::known(&app, &page, seq, &headers).await? {
                return Ok(answer(&headers, kind, (), &etag, seq));
            }
            let mut past = past::state(&app, &page, seq).await?;
            let readers = app.readers.of_past(seq);
            let body = shown(&readers, &page, past.encode()?, form, query.field).await?;
            (body, past.etag, seq)
        }
        None => {
            let (seq, etag) = head(&app, &page).await?.ok_or_else(HttpError::unknown_page)?;
            if unchanged(&headers, &etag) {
                return Ok(answer(&headers, kind, (), &etag, seq));
            }
            let what = What {
                page,
                tag: etag,
                form,
                field: query.field,
            };
            match app.contents.get(&what).await {
                Some(body) => (body, what.tag, seq),
                None => now(&app, what).await?,
            }
        }
    };
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

/// What a page says now, with the tag and the number of its state, which others may have left behind meanwhile.
async fn now(app: &App, what: What) -> Result<(Bytes, String, Seq), HttpError> {
    let read = view(app, &what.page, crdt::Document::encode).await?;
    let (view, _) = read.ok_or_else(HttpError::unknown_page)?;
    let body = shown(
        &app.readers,
        &what.page,
        view.value,
        what.form,
        what.field.clone(),
    )
    .await?;
    let tag = view.etag.clone();
    app.contents.keep(What { tag, ..what }, body.clone()).await;
    Ok((body, view.etag, view.seq))
}

/// What a state of a page says.
async fn shown(
    readers: &Readers,
    page: &PageId,
    state: Bytes,
    form: Form,
    field: Option<String>,
) -> Result<Bytes, HttpError> {
    let is_component = RoomName::parse(page.as_str()).is_some_and(|room| room.kind() == RoomKind::Component);
    let content = match (form, field) {
        // As its members have it: the things of its lists in their order.
        (Form::Json, Some(field)) if is_component && field == crdt::COMPONENT_FIELD => {
            let format = Format::Json;
            let component = readers.whole(page, state, Some(format), format, None);
            component.await?.map(|component| component.get().to_owned())
        }
        (form, field) => readers.content(page, state, form, field).await?,
    };
    let content = content
        .ok_or_else(|| HttpError::from(Refusal::new(RefusalCode::NotFound, "the page has no such field")))?;
    Ok(content.into())
}

/// The first form that is accepted.
fn accepted(headers: &HeaderMap) -> Form {
    let accepted = headers.get_all(header::ACCEPT).iter();
    let mut accepted = accepted
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    accepted.find_map(of_media_type).unwrap_or(Form::Json)
}

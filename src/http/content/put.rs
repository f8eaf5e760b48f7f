//! `PUT /api/pages/{id}/content`: a whole content by an author who edited a copy becomes edits of the page.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::Response,
};
use bytes::Bytes;
use crdt::{Candidate, Form, Format, Save};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use storage::{PageId, Seq};
use utoipa::ToSchema;

use super::{
    ContentFormat, HEAVY_BYTES, Now,
    author::Author,
    mergeable,
    seen::{AuthorQuery, Writer, named},
    sent, share,
};
use crate::{
    http::{
        App, HttpError,
        body::UnreadBody,
        described::with_seq,
        openapi::{
            parameters::{Brief, Conditions, Once, PageName},
            refusals::{Briefly, Changing},
        },
        pages::{PageInPath, check_conditions, is_first_only},
        past,
    },
    reader::Change,
    rooms::{Refusal, RefusalCode, Role, run_blocking_if},
};

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct PutQuery {
    /// The form of the body. When it is not said, that of `Content-Type`.
    #[param(value_type = Option<ContentFormat>, nullable = false)]
    format: Option<String>,
    /// The name of the root type that is written. When it is not said, the one that the form is of.
    field: Option<String>,
    /// The number of the row after which the author's copy was, for those who have no `If-Match`.
    base_seq: Option<u64>,
}

/// The copy that an author began with.
enum Base {
    /// What the page holds now.
    Now,
    /// What it held at a row of its log.
    Earlier(Seq, Bytes),
}

/// What became of a content.
#[derive(Serialize, ToSchema)]
pub(crate) struct Saved {
    /// The number of the row in which it is stored. That of the last one when there was nothing to change.
    seq: u64,
    /// Whether the page holds something else now than what was sent, because of what others wrote.
    merged: bool,
    /// The tag of the state after that row; null when there is no page yet.
    #[schema(required)]
    etag: Option<String>,
}

/// Merges a whole content into a page, and answers when it is stored.
///
/// The content is compared with the copy that its author began with, which `If-Match` names, or `baseSeq`; else with what the page holds
/// now. What others wrote since then stays.
#[utoipa::path(
    put,
    path = "/api/pages/{id}/content",
    operation_id = "writeContent",
    tag = "pages",
    params(("id" = PageName, Path), PutQuery, AuthorQuery, Conditions, Once, Brief),
    request_body(
        description = "The content, in UTF-8",
        content(
            (Value = "application/json"),
            (Value = "application/vnd.prosemirror+json"),
            (Value = "application/vnd.blocknote+json"),
            (Value = "application/vnd.quill.delta+json"),
            (String = "text/plain"),
            (String = "text/html"),
            (String = "text/markdown"),
        ),
    ),
    responses(
        (status = 200, description = "It is stored", body = Saved, headers(
            ("etag" = Option<String>, description = "The tag of the state after the row"),
        )),
        Briefly,
        Changing,
    ),
)]
pub(crate) async fn put(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    (query, author): (
        Result<Query<PutQuery>, QueryRejection>,
        Result<Query<AuthorQuery>, QueryRejection>,
    ),
    body: UnreadBody,
) -> Result<Response, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    let identity = named(identity, author)?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let Query(query) = query?;
    let user = identity.user.clone();
    let saving = save(&app, &page, &headers, (user, query), body);
    Writer::new(&app, &page, identity).throughout(saving).await
}

async fn save(
    app: &App,
    page: &PageId,
    headers: &HeaderMap,
    (user, query): (Option<Arc<str>>, PutQuery),
    body: UnreadBody,
) -> Result<Response, HttpError> {
    let form = sent(query.format.as_deref(), headers)?;
    let form =
        form.ok_or_else(|| Refusal::malformed("say which `format` the content has, or its media type"))?;
    let format = mergeable(form);
    let author = Author::of(app, headers, page, user.as_deref(), "content").await?;
    let known = tag_of(headers);
    if known.is_none() && !author.came_before(app, page).await? {
        check_conditions(app, page, headers).await?;
    }
    let body = body.bytes().await?;
    let _share = share(body.len()).await?;
    let content = run_blocking_if(body.len() > HEAVY_BYTES, || content(form, &body))?;
    let now = Now::of(app, page).await?;
    if author.has_written(&now) {
        return answer(app, page, now.seq(), true).await;
    }
    if is_first_only(headers) && now.tag.is_some() {
        return Err(HttpError::Precondition);
    }
    let base = base(app, page, &now, known, query.base_seq).await?;
    let candidate = match base {
        Base::Now => None,
        Base::Earlier(seq, state) => {
            let readers = app.readers.of_past(seq);
            Some(readers.content(page, state, form, query.field.clone()).await?)
        }
    };
    let candidate = candidate
        .map(|shown| candidate_of(format, shown.as_deref()))
        .transpose()?;
    let change = Change::Shown(Save {
        content: &*content,
        format: Some(format),
        default_format: Format::Text,
        field: query.field,
        had_current: candidate.is_none(),
        candidates: candidate
            .iter()
            .map(|content| Candidate {
                content: &**content,
                is_certain: true,
            })
            .collect(),
    });
    let merged = app
        .readers
        .merge(page, now.state.clone(), author.client, &change)
        .await?;
    if merged.update.is_empty() {
        return answer(app, page, now.seq(), merged.differs || !now.is_exact()).await;
    }
    let update = author.marked(merged.update, &app.gate)?;
    let posted = author.post(app, page, headers, (user, update.clone())).await?;
    let Some(seq) = posted else {
        return answer(app, page, Now::of(app, page).await?.seq(), true).await;
    };
    // What the page holds at this row is what was merged, unless others have written meanwhile.
    let after = Now::of(app, page).await?;
    let is_alone =
        now.is_exact() && seq == now.seq() + 1 && after.seq() == seq && is_next(&now, &after, &update, app);
    answer(app, page, seq, merged.differs || !is_alone).await
}

/// Whether a state is the other one with an update and nothing else, as far as its clients tell.
fn is_next(now: &Now, after: &Now, update: &Bytes, app: &App) -> bool {
    let Ok(update) = crdt::Update::parse(update.clone(), &app.gate) else {
        return false;
    };
    let mut expected = now.known.clone();
    for range in update.ranges() {
        expected.advance(range.client, range.end);
    }
    expected == after.known
}

async fn answer(app: &App, page: &PageId, seq: Seq, merged: bool) -> Result<Response, HttpError> {
    let record = app.store.page(page).await?;
    let etag = record.map(|record| format!("\"{}-{seq}\"", record.generation.0));
    let header = etag.as_deref().map(HeaderValue::from_str);
    let mut answer = with_seq(seq, Saved { seq, merged, etag });
    if let Some(Ok(etag)) = header {
        answer.headers_mut().insert(header::ETAG, etag);
    }
    Ok(answer)
}

/// The state that `If-Match` names, if it names one.
fn tag_of(headers: &HeaderMap) -> Option<&str> {
    let tag = headers.get(header::IF_MATCH)?.to_str().ok()?.trim();
    (tag != "*").then_some(tag)
}

/// What the author began with. Where that cannot be found out nothing is done: a wrong base deletes what others wrote.
async fn base(
    app: &App,
    page: &PageId,
    now: &Now,
    known: Option<&str>,
    base_seq: Option<Seq>,
) -> Result<Base, HttpError> {
    let Some((seq_now, tag_now)) = &now.tag else {
        return match known.is_some() || base_seq.is_some_and(|seq| seq > 0) {
            true => Err(HttpError::Precondition),
            false => Ok(Base::Now),
        };
    };
    if known == Some(tag_now.as_str()) && now.is_exact() {
        return Ok(Base::Now);
    }
    let named = match (known, base_seq) {
        (Some(tag), _) => {
            let inner = tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"'));
            let (generation, seq) = inner
                .and_then(|tag| tag.rsplit_once('-'))
                .ok_or(HttpError::Precondition)?;
            let seq = seq.parse().map_err(|_| HttpError::Precondition)?;
            Some((Some(generation.to_owned()), seq))
        }
        (None, Some(seq)) => Some((None, seq)),
        (None, None) => None,
    };
    let Some((generation, seq)) = named else {
        return Ok(Base::Now);
    };
    if seq == *seq_now && now.is_exact() && generation.is_none() {
        return Ok(Base::Now);
    }
    let generation = match generation {
        Some(generation) => generation,
        None => {
            let record = app.store.page(page).await?.ok_or(HttpError::Precondition)?;
            record.generation.0.to_string()
        }
    };
    match past::state(app, page, seq).await {
        Ok(mut past) if &*past.state.generation.0 == generation.as_str() => {
            Ok(Base::Earlier(seq, past.encode()?))
        }
        Ok(_) => Err(HttpError::Precondition),
        Err(HttpError::Refused(refusal)) if refusal.code == RefusalCode::NotFound => {
            Err(HttpError::Precondition)
        }
        Err(error) => Err(error),
    }
}

/// The content as JSON text: what is no JSON is a string of it.
fn content(form: Form, body: &Bytes) -> Result<Box<RawValue>, Refusal> {
    let text = std::str::from_utf8(body).map_err(|_| Refusal::malformed("the content is no UTF-8"))?;
    let json = match form {
        Form::Json | Form::Prosemirror | Form::Blocknote | Form::Delta => text.to_owned(),
        Form::Text | Form::Html | Form::Markdown => serde_json::Value::from(text).to_string(),
    };
    RawValue::from_string(json)
        .map_err(|error| Refusal::malformed(format!("the content is no JSON: {error}")))
}

/// What the author began with, in the form of the save.
fn candidate_of(format: Format, shown: Option<&str>) -> Result<Box<RawValue>, HttpError> {
    let json = match (format, shown) {
        (Format::Json, shown) => shown.unwrap_or("{}").to_owned(),
        (Format::Blocknote, shown) => shown.unwrap_or("[]").to_owned(),
        (Format::Delta, shown) => shown.unwrap_or("{\"ops\":[]}").to_owned(),
        (Format::Prosemirror, shown) => shown.unwrap_or("{\"type\":\"doc\"}").to_owned(),
        (_, shown) => serde_json::Value::from(shown.unwrap_or_default()).to_string(),
    };
    RawValue::from_string(json).map_err(|error| Refusal::malformed(error.to_string()).into())
}

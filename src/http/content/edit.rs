//! `POST /api/pages/{id}/edits`: small edits, made as one.

use std::sync::Arc;

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri},
};
use crdt::SmallEdit;
use serde::Deserialize;
use serde_json::Value;
use storage::PageId;
use utoipa::ToSchema;

use super::{
    HEAVY_BYTES, Now,
    author::Author,
    seen::{AuthorQuery, Writer, named},
    share,
};
use crate::{
    http::{
        App, HttpError,
        body::UnreadBody,
        described::Stored,
        openapi::{
            parameters::{Brief, Conditions, Once, PageName},
            refusals::{Briefly, Changing},
        },
        pages::{PageInPath, check_conditions},
    },
    reader::Change,
    rooms::{Refusal, Role, run_blocking_if},
};

/// Edits that a request may have.
const MAX_EDITS: usize = 10_000;

#[derive(Deserialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Edits {
    /// As a JSON Patch is.
    List(EditList),
    /// The same, with a name.
    Named { edits: EditList },
}

/// At most 10,000 edits.
#[derive(Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = Vec<SmallEdit>, max_items = 10_000)]
pub(crate) struct EditList(Vec<Value>);

/// Makes small edits of a page, all or none, and answers when they are stored.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/edits",
    operation_id = "editPage",
    tag = "pages",
    params(("id" = PageName, Path), AuthorQuery, Conditions, Once, Brief),
    request_body = Edits,
    responses((status = 200, description = "They are stored", body = Stored), Briefly, Changing),
)]
pub(crate) async fn edit(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    author: Result<Query<AuthorQuery>, QueryRejection>,
    body: UnreadBody,
) -> Result<Stored, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    let identity = named(identity, author)?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let user = identity.user.clone();
    let making = make(&app, &page, &headers, user, body);
    Writer::new(&app, &page, identity).throughout(making).await
}

async fn make(
    app: &App,
    page: &PageId,
    headers: &HeaderMap,
    user: Option<Arc<str>>,
    body: UnreadBody,
) -> Result<Stored, HttpError> {
    let author = Author::of(app, headers, page, user.as_deref(), "edits").await?;
    if !author.came_before(app, page).await? {
        check_conditions(app, page, headers).await?;
    }
    let body = body.bytes().await?;
    let _share = share(body.len()).await?;
    let edits = run_blocking_if(body.len() > HEAVY_BYTES, || edits(&body))?;
    let now = Now::of(app, page).await?;
    if author.has_written(&now) {
        return Ok(Stored { seq: now.seq() });
    }
    let change: Change = Change::Edits(edits);
    let merged = app
        .readers
        .merge(page, now.state.clone(), author.client, &change)
        .await?;
    if merged.update.is_empty() {
        return Ok(Stored { seq: now.seq() });
    }
    let update = author.marked(merged.update, &app.gate)?;
    let seq = author.post(app, page, headers, (user, update)).await?;
    Ok(Stored {
        seq: seq.unwrap_or(now.seq()),
    })
}

/// The edits of a body. What is wrong with one is said with its number.
fn edits(body: &[u8]) -> Result<Vec<SmallEdit>, Refusal> {
    let edits = serde_json::from_slice(body)
        .map_err(|_| Refusal::malformed("the body is a list of edits, or an object with one as `edits`"))?;
    let (Edits::List(EditList(edits))
    | Edits::Named {
        edits: EditList(edits),
    }) = edits;
    if edits.len() > MAX_EDITS {
        return Err(Refusal::too_large("a request has at most 10,000 edits"));
    }
    let parse = |(at, edit): (usize, Value)| {
        serde_json::from_value(edit).map_err(|error| Refusal::malformed(format!("edit {at}: {error}")))
    };
    edits.into_iter().enumerate().map(parse).collect()
}

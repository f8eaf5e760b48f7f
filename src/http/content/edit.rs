//! `POST /api/pages/{id}/edits`: small edits, made as one.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use crdt::SmallEdit;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{HEAVY_BYTES, Now, author::Author, share};
use crate::{
    http::{
        App, HttpError,
        body::UnreadBody,
        pages::{PageInPath, check_conditions},
    },
    reader::Change,
    rooms::{Refusal, Role, heavily},
};

/// Edits that a request may have.
const MAX_EDITS: usize = 10_000;

#[derive(Deserialize)]
#[serde(untagged)]
enum Edits {
    /// As a JSON Patch is.
    List(Vec<Value>),
    Named {
        edits: Vec<Value>,
    },
}

/// Makes edits of the page, and answers when they are stored.
pub(crate) async fn edit(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Value>, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Edit).await?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let user = identity.user;
    let author = Author::of(&headers, &page, user.as_deref(), "edits")?;
    if !author.came_before(&app, &page).await? {
        check_conditions(&app, &page, &headers).await?;
    }
    let body = body.bytes().await?;
    let _share = share(body.len()).await?;
    let edits = heavily(body.len() > HEAVY_BYTES, || edits(&body))?;
    let now = Now::of(&app, &page).await?;
    if author.has_written(&now) {
        return Ok(Json(json!({ "seq": now.seq() })));
    }
    let change: Change = Change::Edits(edits);
    let merged = app
        .readers
        .merge(&page, now.state.clone(), author.client, &change)
        .await?;
    if merged.update.is_empty() {
        return Ok(Json(json!({ "seq": now.seq() })));
    }
    let update = author.marked(merged.update, &app.gate)?;
    let seq = author.post(&app, &page, &headers, (user, update)).await?;
    Ok(Json(json!({ "seq": seq.unwrap_or(now.seq()) })))
}

/// The edits of a body. What is wrong with one is said with its number.
fn edits(body: &[u8]) -> Result<Vec<SmallEdit>, Refusal> {
    let edits = serde_json::from_slice(body)
        .map_err(|_| Refusal::malformed("the body is a list of edits, or an object with one as `edits`"))?;
    let (Edits::List(edits) | Edits::Named { edits }) = edits;
    if edits.len() > MAX_EDITS {
        return Err(Refusal::too_large("a request has at most 10,000 edits"));
    }
    let parse = |(at, edit): (usize, Value)| {
        serde_json::from_value(edit).map_err(|error| Refusal::malformed(format!("edit {at}: {error}")))
    };
    edits.into_iter().enumerate().map(parse).collect()
}

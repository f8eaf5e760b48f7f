//! REST for users: signing out everywhere, blocking, and asking the sources of permissions again.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{AccessChange, EVERYBODY};

use super::{App, HttpError, body::UnreadBody, now, permissions::user_id};
use crate::{access::Note, rooms::Refusal};

/// A path's user, who is one and not everybody.
fn one_user(user: String) -> Result<String, HttpError> {
    match user == EVERYBODY {
        true => Err(Refusal::malformed("this is for one user").into()),
        false => user_id(user),
    }
}

fn note(app: &App, user: &str, action: &str) {
    let note = Note {
        action,
        outcome: "ok",
        user: Some(user),
        ..Note::default()
    };
    app.around.access.audit().note(now(), note);
}

/// How long the second lasts in which something happens.
fn rest_of_second(now: SystemTime) -> Duration {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Duration::from_secs(1).saturating_sub(Duration::from_nanos(since.subsec_nanos().into()))
}

/// `POST /api/users/{user}/sign-out`: tokens that were issued before count no more, and all connections of the user end at once. Answers
/// when the second is over, so that tokens that are minted after the answer are good.
pub(super) async fn sign_out(
    State(app): State<App>,
    Path(user): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Value>, HttpError> {
    let user = one_user(user)?;
    let by = app.identify(&headers, &uri).await?;
    // Everybody may sign out themselves.
    if by.user.as_deref() != Some(user.as_str()) {
        app.allow_backend(&headers, &uri).await?;
    }
    let version = app.around.access.sign_out(&user).await?;
    note(&app, &user, "sign_out");
    // Tokens say in which second they were issued, and those of this one may be from before.
    tokio::time::sleep(rest_of_second(now())).await;
    Ok(Json(json!({ "userId": user, "tokenVersion": version })))
}

/// `PUT /api/users/{user}/block`: the user may not enter, and all connections end.
pub(super) async fn block(
    State(app): State<App>,
    Path(user): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    set_blocked(&app, user, &headers, &uri, true).await
}

/// `DELETE /api/users/{user}/block`: the user may enter again.
pub(super) async fn unblock(
    State(app): State<App>,
    Path(user): Path<String>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    set_blocked(&app, user, &headers, &uri, false).await
}

async fn set_blocked(
    app: &App,
    user: String,
    headers: &HeaderMap,
    uri: &Uri,
    blocked: bool,
) -> Result<StatusCode, HttpError> {
    let user = one_user(user)?;
    app.allow_backend(headers, uri).await?;
    app.store.block(&user, blocked).await?;
    note(app, &user, if blocked { "block" } else { "unblock" });
    let change = AccessChange {
        user: Some(user),
        page: None,
    };
    app.around.access.changed(&change).await;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Refresh {
    user_id: Option<String>,
    page_id: Option<String>,
}

/// `POST /api/access/refresh`: asks the sources again for the live connections of a user, of a page (or a pattern of pages), or
/// for all. Answers with how many that were, when they have been told.
pub(super) async fn refresh(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Value>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let refresh: Refresh = body.json().await?;
    let change = AccessChange {
        user: refresh.user_id,
        page: refresh.page_id,
    };
    let connections = app.around.access.changed(&change).await;
    Ok(Json(json!({ "connections": connections })))
}

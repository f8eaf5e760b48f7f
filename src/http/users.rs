//! REST for users: signing out everywhere, blocking, and asking the sources of permissions again.

use std::time::{Duration, SystemTime};

use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::{HeaderMap, StatusCode, Uri},
};
use serde::{Deserialize, Serialize};
use storage::{AccessChange, EVERYBODY};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    now,
    openapi::{
        parameters::UserName,
        refusals::{Asking, Sending},
    },
    permissions::user_id,
};
use crate::{access::Note, rooms::Refusal};

/// The user that a path names.
type UserInPath = Result<Path<String>, PathRejection>;

/// A path's user, who is one and not everybody.
fn one_user(user: UserInPath) -> Result<String, HttpError> {
    let Path(user) = user?;
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

/// What a sign-out has changed.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct SignedOut {
    user_id: String,
    /// What `tokenVersion` of a token must be from now on, where it has one.
    token_version: u64,
}

/// Signs a user out everywhere: older tokens count no more, and all connections end.
///
/// Answers when the second is over, so that tokens that are minted after the answer are good. Users may sign out themselves.
#[utoipa::path(
    post,
    path = "/api/users/{user}/sign-out",
    operation_id = "signOut",
    tag = "access",
    params(("user" = UserName, Path)),
    responses((status = 200, description = "The user is signed out", body = SignedOut), Asking),
)]
pub(super) async fn sign_out(
    State(app): State<App>,
    user: UserInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<SignedOut>, HttpError> {
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
    Ok(Json(SignedOut {
        user_id: user,
        token_version: version,
    }))
}

/// Blocks a user: nothing is allowed any more, and all connections end.
#[utoipa::path(
    put,
    path = "/api/users/{user}/block",
    operation_id = "blockUser",
    tag = "access",
    params(("user" = UserName, Path)),
    responses((status = 204, description = "The user is blocked"), Asking),
)]
pub(super) async fn block(
    State(app): State<App>,
    user: UserInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    set_blocked(&app, user, &headers, &uri, true).await
}

/// Ends the block of a user, who may enter again.
#[utoipa::path(
    delete,
    path = "/api/users/{user}/block",
    operation_id = "unblockUser",
    tag = "access",
    params(("user" = UserName, Path)),
    responses((status = 204, description = "The user is not blocked"), Asking),
)]
pub(super) async fn unblock(
    State(app): State<App>,
    user: UserInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    set_blocked(&app, user, &headers, &uri, false).await
}

async fn set_blocked(
    app: &App,
    user: UserInPath,
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

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Refresh {
    /// Only connections of this user.
    user_id: Option<String>,
    /// Only connections to this page, or to pages with a prefix (`team-7/*`).
    page_id: Option<String>,
}

/// What was asked again.
#[derive(Serialize, ToSchema)]
pub(super) struct Refreshed {
    /// Connections that it concerned.
    connections: usize,
}

/// Asks the sources of permissions again for open connections: of a user, of a page, or for all.
///
/// For permissions that change elsewhere, in an application's own tables or behind a webhook. Answers when the connections have been told.
#[utoipa::path(
    post,
    path = "/api/access/refresh",
    operation_id = "refreshAccess",
    tag = "access",
    request_body = Refresh,
    responses((status = 200, description = "They were asked", body = Refreshed), Sending),
)]
pub(super) async fn refresh(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Refreshed>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    let refresh: Refresh = body.json().await?;
    let change = AccessChange {
        user: refresh.user_id,
        page: refresh.page_id,
    };
    let connections = app.around.access.changed(&change).await;
    Ok(Json(Refreshed { connections }))
}

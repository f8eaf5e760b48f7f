//! REST for permissions: who may do what with a page, as the store knows it.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri, request::Parts},
};
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{EVERYBODY, PageId, Permission};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    now,
    openapi::{
        parameters::{PagePattern, UserPattern},
        refusals::{Asking, Reading, Sending},
    },
    pages::{PageInPath, limit_of, next_after, timestamp},
    times::time,
};
use crate::{
    auth::{Identity, MAX_USER_BYTES},
    rooms::{Refusal, RefusalCode, Role, RoomKind, RoomName},
};

/// A page id, or a prefix followed by `*`, and a user.
pub(super) struct Place {
    pub(super) page: PageId,
    pub(super) user: String,
}

impl<S: Send + Sync> FromRequestParts<S> for Place {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, HttpError> {
        let Path((page, user)) = Path::<(String, String)>::from_request_parts(parts, state).await?;
        Ok(Self {
            page: PageId::new(&page)?,
            user: user_id(user)?,
        })
    }
}

/// A user id that a permission can be given to.
pub(super) fn user_id(user: String) -> Result<String, HttpError> {
    match user.is_empty() || user.len() > MAX_USER_BYTES || user.chars().any(char::is_control) {
        false => Ok(user),
        true => Err(Refusal::malformed(format!(
            "a user id has 1 to {MAX_USER_BYTES} bytes and no control characters"
        ))
        .into()),
    }
}

/// Lets through who may manage a page. What may be a pattern covers many pages, so only backends and administrators may.
pub(super) async fn allow_managing(
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    page: &PageId,
) -> Result<Identity, HttpError> {
    match page.is_pattern() {
        true => app.allow_backend(headers, uri).await,
        false => app.allow_in_trash(headers, uri, page).await,
    }
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Listing {
    /// The user behind whom the listing goes on: `next` of what was listed before.
    after: Option<String>,
    /// Rows at most: 100 when it is not said, and never more than 1,000.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Permissions, and where the listing goes on.
#[derive(Serialize, ToSchema)]
pub(super) struct PermissionListing {
    permissions: Vec<Granted>,
    /// The next `after`; null at the end.
    #[schema(required)]
    next: Option<String>,
}

/// A permission.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Granted {
    /// The user, or `*` for everybody.
    user_id: String,
    #[schema(value_type = Role)]
    role: String,
    /// When it ends; null when it does not.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
}

/// Lists who has which role on a page, in the order of users.
///
/// As it was set here: other sources of permissions are not asked.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/permissions",
    operation_id = "listPermissions",
    tag = "access",
    params(("id" = PagePattern, Path), Listing),
    responses((status = 200, description = "The permissions", body = PermissionListing), Reading),
)]
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<PermissionListing>, HttpError> {
    allow_managing(&app, &headers, &uri, &page).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let found = app
        .store
        .permissions_on(page.as_str(), listing.after.as_deref(), limit)
        .await?;
    let next = next_after(&found, limit, |last| last.user.clone());
    let permissions = found.iter().map(describe).collect();
    Ok(Json(PermissionListing { permissions, next }))
}

fn describe(permission: &Permission) -> Granted {
    Granted {
        user_id: permission.user.clone(),
        role: permission.role.clone(),
        expires_at: permission.expires_at.map(timestamp),
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Grant {
    #[schema(value_type = Role)]
    role: String,
    /// When it ends, in the future: a time of RFC 3339.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Gives a user, or everybody, a role on a page or many.
///
/// Answers when every open connection that this concerns has it.
#[utoipa::path(
    put,
    path = "/api/pages/{id}/permissions/{user}",
    operation_id = "grantPermission",
    tag = "access",
    params(("id" = PagePattern, Path), ("user" = UserPattern, Path)),
    request_body = Grant,
    responses((status = 200, description = "The permission", body = Granted), Sending, Reading),
)]
pub(super) async fn grant(
    State(app): State<App>,
    place: Place,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Granted>, HttpError> {
    let by = allow_managing(&app, &headers, &uri, &place.page).await?;
    let grant: Grant = body.json().await?;
    let role = Role::from_name(&grant.role)
        .ok_or_else(|| Refusal::malformed("a role is `view`, `comment`, `edit` or `admin`"))?;
    let no_time = || Refusal::malformed("expiresAt is no time: write `2030-01-31T12:00:00Z`");
    let expires_at = grant.expires_at.as_deref();
    let expires_at = expires_at
        .map(|ends| time(ends).ok_or_else(no_time))
        .transpose()?;
    if expires_at.is_some_and(|ends| ends <= now()) {
        return Err(Refusal::malformed("expiresAt is over already").into());
    }
    let permission = Permission {
        page: place.page.as_str().to_owned(),
        user: place.user.clone(),
        role: role.as_str().to_owned(),
        expires_at,
    };
    app.store.grant(&permission).await?;
    tell(&app, &by, &place, "grant", role.as_str()).await;
    Ok(Json(describe(&permission)))
}

/// Takes a role on a page away.
///
/// Answers when no connection has it any more.
#[utoipa::path(
    delete,
    path = "/api/pages/{id}/permissions/{user}",
    operation_id = "revokePermission",
    tag = "access",
    params(("id" = PagePattern, Path), ("user" = UserPattern, Path)),
    responses((status = 204, description = "It is taken away"), Asking, Reading),
)]
pub(super) async fn revoke(
    State(app): State<App>,
    place: Place,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let by = allow_managing(&app, &headers, &uri, &place.page).await?;
    if !app.store.revoke(place.page.as_str(), &place.user).await? {
        let refusal = Refusal::new(RefusalCode::NotFound, "there is no such permission");
        return Err(refusal.into());
    }
    tell(&app, &by, &place, "revoke", "").await;
    Ok(StatusCode::NO_CONTENT)
}

async fn tell(app: &App, by: &Identity, place: &Place, action: &str, role: &str) {
    let detail = match by.user.as_deref() {
        Some(by) => format!("{role} by {by}"),
        None => format!("{role} by a backend"),
    };
    app.note_done(Some(&place.user), &place.page, action, detail.trim());
    let user = Some(place.user.as_str()).filter(|user| *user != EVERYBODY);
    app.tell_of_change(&place.page, user).await;
    tell_user(app, place, role);
}

/// Tells the user concerned, wherever it is connected. A role that everybody has, and one on a pattern, is nobody's own.
fn tell_user(app: &App, place: &Place, role: &str) {
    let name = place.page.as_str();
    let (Some(own), false) = (RoomName::of_user(&place.user), name.ends_with('*')) else {
        return;
    };
    if place.user == EVERYBODY {
        return;
    }
    let room = RoomName::parse(name).filter(|room| room.kind() == RoomKind::Drive);
    let (field, id, events) = match &room {
        Some(drive) => ("driveId", drive.id(), ["member_added", "member_removed"]),
        None => ("pageId", name, ["permission_granted", "permission_revoked"]),
    };
    let mut body = json!({ field: id, "userId": place.user });
    let [granted, revoked] = events;
    let event = match role {
        "" => revoked,
        role => {
            body["role"] = role.into();
            granted
        }
    };
    let told = app
        .around
        .events
        .rooms
        .tell_kept(&[own], None, event, &body, None);
    if let Err(refusal) = told {
        tracing::warn!(%refusal, "a user is not told of a permission that has changed");
    }
}

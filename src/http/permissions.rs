//! REST for permissions: who may do what with a page, as the store knows it.

use axum::{
    Json,
    extract::{FromRequestParts, Path, Query, State, rejection::QueryRejection},
    http::{HeaderMap, StatusCode, Uri, request::Parts},
};
use serde::Deserialize;
use serde_json::{Value, json};
use storage::{AccessChange, EVERYBODY, PageId, Permission};

use super::{
    App, HttpError,
    body::UnreadBody,
    now,
    pages::{PageInPath, limit_of, next_after},
};
use crate::{
    access::Note,
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
async fn allow_managing(
    app: &App,
    headers: &HeaderMap,
    uri: &Uri,
    page: &PageId,
) -> Result<Identity, HttpError> {
    match page.as_str().ends_with('*') {
        true => app.allow_backend(headers, uri).await,
        false => app.allow_in_trash(headers, uri, page).await,
    }
}

#[derive(Deserialize)]
pub(super) struct Listing {
    after: Option<String>,
    limit: Option<usize>,
}

/// `GET /api/pages/{id}/permissions`: who has which role on the page, in the order of users.
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Listing>, QueryRejection>,
) -> Result<Json<Value>, HttpError> {
    allow_managing(&app, &headers, &uri, &page).await?;
    let Query(listing) = query?;
    let limit = limit_of(listing.limit);
    let found = app
        .store
        .permissions_on(page.as_str(), listing.after.as_deref(), limit)
        .await?;
    let next = next_after(&found, limit, |last| last.user.clone());
    let permissions: Vec<_> = found.iter().map(describe).collect();
    Ok(Json(json!({ "permissions": permissions, "next": next })))
}

fn describe(permission: &Permission) -> Value {
    let ends = permission.expires_at;
    json!({
        "userId": permission.user,
        "role": permission.role,
        "expiresAt": ends.map(|ends| humantime::format_rfc3339_millis(ends).to_string()),
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Grant {
    role: String,
    /// RFC 3339.
    expires_at: Option<String>,
}

/// `PUT /api/pages/{id}/permissions/{user}`: gives a user (or `*`, everybody) a role. Answers when every open connection that
/// this concerns has it.
pub(super) async fn grant(
    State(app): State<App>,
    place: Place,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Value>, HttpError> {
    let by = allow_managing(&app, &headers, &uri, &place.page).await?;
    let grant: Grant = body.json().await?;
    let role = Role::from_name(&grant.role)
        .ok_or_else(|| Refusal::malformed("a role is `view`, `comment`, `edit` or `admin`"))?;
    let expires_at = grant
        .expires_at
        .as_deref()
        .map(humantime::parse_rfc3339_weak)
        .transpose();
    let expires_at =
        expires_at.map_err(|_| Refusal::malformed("expiresAt is no time: write `2030-01-31T12:00:00Z`"))?;
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

/// `DELETE /api/pages/{id}/permissions/{user}`: takes a role away. Answers when nobody has it any more.
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
    app.around.access.audit().note(
        now(),
        Note {
            action,
            outcome: "ok",
            user: Some(&place.user),
            page: Some(place.page.as_str()),
            detail: detail.trim(),
            ..Note::default()
        },
    );
    let change = AccessChange {
        user: Some(place.user.clone()).filter(|user| user != EVERYBODY),
        page: Some(place.page.as_str().to_owned()),
    };
    app.around.access.changed(&change).await;
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

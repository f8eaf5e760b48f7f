//! REST for the life of a page beyond the trash: it is purged, or becomes another one's beginning.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde::{Deserialize, Serialize};
use storage::{PageId, Seq};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::UnreadBody,
    openapi::{
        parameters::PageName,
        refusals::{Conflicting, Reading, Restoring},
    },
    page_state::view,
    pages::PageInPath,
};
use crate::{
    rooms::{Condition, Refusal, RefusalCode, Role},
    trash::PurgeError,
};

/// Largest question, in bytes.
const MAX_QUESTION_BYTES: usize = 4096;

impl From<PurgeError> for HttpError {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::NotThere => Refusal::new(RefusalCode::Conflict, error.to_string()).into(),
            PurgeError::Open => {
                tracing::warn!(%error, "a page could not be purged");
                Refusal::unavailable("the page cannot be purged now, try again").into()
            }
            PurgeError::Store(error) => error.into(),
        }
    }
}

/// Deletes a page that is in the trash, with all that is known of it, for good.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/purge",
    operation_id = "purgePage",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 204, description = "Nothing is left of it"), Conflicting, Reading),
)]
pub(super) async fn purge(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let identity = app.allow_in_trash(&headers, &uri, &page).await?;
    app.trash.purge(&page, identity.user.as_deref()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which page a page becomes.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Target {
    #[schema(value_type = PageName)]
    page_id: String,
}

/// The page that has come into being.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Duplicated {
    page_id: String,
    seq: Seq,
}

/// Makes a new page that begins with what this one holds now. It has no history, and no permissions.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/duplicate",
    operation_id = "duplicatePage",
    tag = "pages",
    params(("id" = PageName, Path)),
    request_body = Target,
    responses((status = 201, description = "The new page is stored", body = Duplicated), Restoring),
)]
pub(super) async fn duplicate(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<(StatusCode, Json<Duplicated>), HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::View).await?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let body = body.at_most(MAX_QUESTION_BYTES).await;
    let body = body.ok_or_else(|| Refusal::too_large("the body has at most 4 KiB, and comes whole"))?;
    let Target { page_id } = serde_json::from_slice(&body)
        .map_err(|error| Refusal::malformed(format!("the body names no page: {error}")))?;
    let target = PageId::new(&page_id)?;
    app.allow(&headers, &uri, &target, Role::Edit).await?;
    let (view, _) = view(&app, &page, crdt::Document::encode)
        .await?
        .ok_or_else(HttpError::unknown_page)?;
    let posted = app
        .around
        .registry
        .post_if(&target, identity.user, view.value, Condition::First);
    let seq = match posted.await {
        Err(refusal) if refusal.code == RefusalCode::Conflict => {
            return Err(Refusal::new(RefusalCode::Conflict, "there is a page with this id already").into());
        }
        posted => posted?,
    };
    Ok((StatusCode::CREATED, Json(Duplicated { page_id, seq })))
}

//! REST for the trash: a page goes there and comes back, and whoever is connected hears of it at once.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use storage::PageId;

use super::{
    App, HttpError, now,
    openapi::{
        parameters::PageName,
        refusals::{Conflicting, Reading},
    },
    pages::PageInPath,
};
use crate::{
    auth::Identity,
    rooms::{Refusal, RefusalCode, Role},
};

/// Puts a page into the trash: nobody may open it any more.
///
/// Its members are sent away. Nothing of it is lost. Answers when they have been told.
#[utoipa::path(
    delete,
    path = "/api/pages/{id}",
    operation_id = "deletePage",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 204, description = "It is in the trash"), Reading),
)]
pub(super) async fn delete(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Admin).await?;
    if !app.store.set_deleted(&page, Some(now())).await? {
        return Err(HttpError::unknown_page());
    }
    tell(&app, &identity, &page, "delete").await;
    Ok(StatusCode::NO_CONTENT)
}

/// Takes a page out of the trash: it is as it was, and open to whoever may see it.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/restore",
    operation_id = "restorePage",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 204, description = "It is open again"), Conflicting, Reading),
)]
pub(super) async fn restore(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let identity = app.allow_in_trash(&headers, &uri, &page).await?;
    if !app.store.set_deleted(&page, None).await? {
        let refusal = Refusal::new(RefusalCode::Conflict, "the page is not in the trash");
        return Err(refusal.into());
    }
    tell(&app, &identity, &page, "restore").await;
    Ok(StatusCode::NO_CONTENT)
}

async fn tell(app: &App, identity: &Identity, page: &PageId, action: &str) {
    app.webhooks.moved(page);
    app.note_done(identity.user.as_deref(), page, action, "");
    app.around.access.note_trashed(page, action == "delete").await;
    app.tell_of_change(page, None).await;
}

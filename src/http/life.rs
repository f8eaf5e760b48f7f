//! REST for the life of a page beyond the trash: it is purged, gets another id, or becomes another one's beginning.

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
};
use serde::{Deserialize, Serialize};
use storage::{MAX_FORMER_IDS, PageId, Renaming, Seq};
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
    rooms::{Condition, Refusal, RefusalCode, Role, RoomName},
    trash::{PATIENCE, PurgeError},
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

/// Gives a page another id. Those that it had before go on leading to it.
///
/// With it go its history, its versions, the events that are kept in its rooms, and the permissions on exactly this page. Its members
/// are asked to connect again, and are at the page again with what they had: nobody's edits are lost. What tokens and other sources
/// of permissions say of the former id counts no more, also for those who come by it. Requests to a former id are
/// answered with 308. The asker manages the page, and what has the new id.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/rename",
    operation_id = "renamePage",
    tag = "pages",
    params(("id" = PageName, Path)),
    request_body = Target,
    responses((status = 200, description = "It has the new id", body = Names), Restoring),
)]
pub(super) async fn rename(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Names>, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Admin).await?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let target = target(body).await?;
    // Not `allow`: the new id may be a former one of the page.
    match app.around.access.role_in_trash(&identity, &target).await? {
        Role::Admin => {}
        Role::View | Role::Comment | Role::Edit => {
            return Err(HttpError::forbidden(
                "only who manages the new id may give it to a page",
            ));
        }
    }
    if page.is_pattern() || target.is_pattern() {
        return Err(Refusal::malformed(
            "an id that ends with `*` stands for many pages in permissions: such a page keeps its id, and no other one gets it",
        )
        .into());
    }
    if let Some(refusal) = cannot_be_renamed(&app, &page, &target).await? {
        return Err(refusal);
    }
    // What its members have said is stored before they are sent away; they may be back before it is renamed, which does no harm.
    let ended = tokio::time::timeout(PATIENCE, app.around.registry.end(&page)).await;
    ended.map_err(|_| Refusal::unavailable("what the page's room holds is not stored yet, try again"))?;
    let rooms = |id: &PageId| [RoomName::of_page(id), RoomName::activity_of_page(id)];
    let [(was, is_now), (was_active, is_active)] = [0, 1].map(|n| {
        let name = |id| rooms(id)[n].as_str().to_owned();
        (name(&page), name(&target))
    });
    let renaming = Renaming {
        from: page.clone(),
        to: target.clone(),
        rooms: [(was, is_now), (was_active, is_active)],
    };
    if !app.store.rename(&renaming).await? {
        let refusal = cannot_be_renamed(&app, &page, &target).await?;
        return Err(
            refusal.unwrap_or_else(|| Refusal::unavailable("somebody else renames it now, try again").into())
        );
    }
    app.note_done(identity.user.as_deref(), &page, "rename", target.as_str());
    for page in [&page, &target] {
        app.tell_of_change(page, None).await;
    }
    let former_ids = app.store.former_ids(&target).await?;
    Ok(Json(Names::new(&target, &former_ids)))
}

/// Why a page cannot be given an id. It is asked before anybody is sent away for it, too.
async fn cannot_be_renamed(
    app: &App,
    page: &PageId,
    target: &PageId,
) -> Result<Option<HttpError>, HttpError> {
    if app.store.page(page).await?.is_none() {
        return Ok(Some(HttpError::unknown_page()));
    }
    let leads_to = app.store.renamed(target).await?;
    let former_ids = app.store.former_ids(page).await?;
    let is_taken = match &leads_to {
        Some(leads_to) => leads_to != page,
        None => app.store.page(target).await?.is_some(),
    };
    let message = if is_taken {
        "another page has this id, or had it: free it first"
    } else if former_ids.iter().filter(|former| *former != target).count() >= MAX_FORMER_IDS {
        "too many former ids lead to the page: free one of them first"
    } else {
        return Ok(None);
    };
    Ok(Some(Refusal::new(RefusalCode::Conflict, message).into()))
}

/// The ids of a page: the one that it has, and those that it had before.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/former-ids",
    operation_id = "listFormerIds",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 200, description = "The ids", body = Names), Reading),
)]
pub(super) async fn former_ids(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Names>, HttpError> {
    app.allow(&headers, &uri, &page, Role::Admin).await?;
    let former_ids = app.store.former_ids(&page).await?;
    Ok(Json(Names::new(&page, &former_ids)))
}

/// Frees a former id of a page: it leads nowhere any more, and another page may have it.
#[utoipa::path(
    delete,
    path = "/api/pages/{id}/former-ids/{former}",
    operation_id = "freeFormerId",
    tag = "pages",
    params(("id" = PageName, Path), ("former" = PageName, Path)),
    responses((status = 204, description = "It leads nowhere"), Reading),
)]
pub(super) async fn free_former_id(
    State(app): State<App>,
    Path((page, former)): Path<(String, String)>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let (page, former) = (PageId::new(&page)?, PageId::new(&former)?);
    let identity = app.allow(&headers, &uri, &page, Role::Admin).await?;
    if !app.store.free_former_id(&page, &former).await? {
        return Err(Refusal::new(RefusalCode::NotFound, "this is no former id of the page").into());
    }
    app.note_done(identity.user.as_deref(), &page, "free_former_id", former.as_str());
    app.tell_of_change(&former, None).await;
    Ok(StatusCode::NO_CONTENT)
}

/// The ids of a page.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Names {
    page_id: String,
    /// Those that it had before.
    former_ids: Vec<String>,
}

impl Names {
    fn new(page: &PageId, former_ids: &[PageId]) -> Self {
        let text = |page: &PageId| page.as_str().to_owned();
        Self {
            page_id: text(page),
            former_ids: former_ids.iter().map(text).collect(),
        }
    }
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
    let target = target(body).await?;
    let may_write = app.allow(&headers, &uri, &target, Role::Edit).await;
    if let Err(HttpError::Refused(Refusal {
        code: RefusalCode::PageRenamed,
        ..
    })) = may_write
    {
        return Err(taken());
    }
    may_write?;
    let (view, _) = view(&app, &page, crdt::Document::encode)
        .await?
        .ok_or_else(HttpError::unknown_page)?;
    let posted = app
        .around
        .registry
        .post_if(&target, identity.user, view.value, Condition::First);
    let seq = match posted.await {
        Err(refusal) if refusal.code == RefusalCode::Conflict => {
            return Err(taken());
        }
        posted => posted?,
    };
    let page_id = target.as_str().to_owned();
    Ok((StatusCode::CREATED, Json(Duplicated { page_id, seq })))
}

/// The page that a body names.
async fn target(body: UnreadBody) -> Result<PageId, HttpError> {
    let body = body.at_most(MAX_QUESTION_BYTES).await;
    let body = body.ok_or_else(|| Refusal::too_large("the body has at most 4 KiB, and comes whole"))?;
    let Target { page_id } = serde_json::from_slice(&body)
        .map_err(|error| Refusal::malformed(format!("the body names no page: {error}")))?;
    Ok(PageId::new(&page_id)?)
}

fn taken() -> HttpError {
    Refusal::new(RefusalCode::Conflict, "there is a page with this id already").into()
}

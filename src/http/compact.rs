//! REST for pages whose documents are rebuilt.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde::Serialize;
use storage::{AccessChange, Seq};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    described::PageWeight,
    now,
    openapi::{parameters::PageName, refusals::Restoring},
    pages::PageInPath,
};
use crate::{
    access::Note,
    reader::new_client,
    rooms::{RebuildFailure, Rebuilt, Refusal, RefusalCode, Role},
};

impl From<RebuildFailure> for HttpError {
    fn from(failure: RebuildFailure) -> Self {
        let code = match failure {
            RebuildFailure::NotThere => return Self::unknown_page(),
            RebuildFailure::Store(error) => return error.into(),
            RebuildFailure::Damaged(refusal) => return refusal.into(),
            RebuildFailure::Busy => {
                return Refusal::unavailable("somebody writes to the page, try again").into();
            }
            RebuildFailure::Document(crdt::RebuildError::Parked { .. }) => RefusalCode::Conflict,
            RebuildFailure::Document(_) | RebuildFailure::TooManyClients(_) => RefusalCode::TooLarge,
        };
        Refusal::new(code, failure.to_string()).into()
    }
}

/// What a page has become.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Compacted {
    /// The new generation; the same one where there was nothing to leave out.
    generation: String,
    /// The number from which on the page has the new document.
    seq: Seq,
    before: PageWeight,
    after: PageWeight,
}

/// Gives a page a new document that says the same, without what editing has left behind.
///
/// For pages whose metadata show much dead weight or very many clients. All of it gets new ids: the page has another generation, and copies
/// of the former document do not fit any more. Its members are asked to connect again; a program that comes with such a copy is refused with
/// `page_rebuilt` (4410 on a WebSocket), and opens the page anew, with an empty document. What a program has not sent by then it keeps, and
/// nothing is merged twice. Positions in the former document that an application keeps (of comments, for example) lead nowhere. What was
/// before stays readable by `seq` and `version`, but cannot be compared with or restored into the new document.
#[utoipa::path(
    post,
    path = "/api/pages/{id}/compact",
    operation_id = "compactPage",
    tag = "pages",
    params(("id" = PageName, Path)),
    responses((status = 200, description = "The page has a new document", body = Compacted), Restoring),
)]
pub(super) async fn compact(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Compacted>, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::Admin).await?;
    if app.is_draining() {
        return Err(Refusal::draining().into());
    }
    let Rebuilt {
        generation,
        seq,
        before,
        after,
    } = app.around.registry.rebuild(&page, new_client()).await?;
    let access = &app.around.access;
    let detail = format!("{} to {} bytes", before.encoded_bytes, after.encoded_bytes);
    let note = Note {
        action: "compact",
        outcome: "ok",
        user: identity.user.as_deref(),
        page: Some(page.as_str()),
        detail: &detail,
        ..Note::default()
    };
    access.audit().note(now(), note);
    // Who has come back before it was done is at a page that is no more.
    let change = AccessChange {
        user: None,
        page: Some(page.as_str().to_owned()),
    };
    access.changed(&change).await;
    Ok(Json(Compacted {
        generation: generation.0.to_string(),
        seq,
        before: before.into(),
        after: after.into(),
    }))
}

//! REST for pages whose documents are rebuilt.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use crdt::Weight;
use serde::Serialize;
use storage::{Generation, Seq};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    described::PageWeight,
    openapi::{parameters::PageName, refusals::Restoring},
    pages::PageInPath,
    weighing::weigh,
};
use crate::{
    history::PAST_AT_ONCE,
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

impl Compacted {
    fn new(generation: Generation, seq: Seq, before: Weight, after: Weight) -> Self {
        Self {
            generation: generation.0.to_string(),
            seq,
            before: before.into(),
            after: after.into(),
        }
    }
}

/// Gives a page a new document that says the same, without what editing has left behind.
///
/// For pages whose metadata show much dead weight or very many clients. All of it gets new ids: the page has another generation, and copies
/// of the former document do not fit any more. Its members are asked to connect again; a program that comes with such a copy is refused with
/// `page_rebuilt` (4410 on a WebSocket), and opens the page anew, with an empty document. What a program has not sent by then it keeps, and
/// nothing is merged twice. Positions in the former document that an application keeps (of comments, for example) lead nowhere. What was
/// before stays readable by `seq` and `version`, but cannot be compared with or restored into the new document. Where nothing can be left
/// out, nothing is changed, and `after` is what `before` is.
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
    // Each takes a processor for as long as it lasts, which those who edit other pages need.
    let _permit = PAST_AT_ONCE.acquire().await;
    // Nobody is sent away for nothing.
    let known = weigh(&app, &page).await?.ok_or_else(HttpError::unknown_page)?;
    if known.weight.is_least()
        && let Some(record) = app.store.page(&page).await?
    {
        let weight = known.weight;
        return Ok(Json(Compacted::new(
            record.generation,
            record.seq,
            weight,
            weight,
        )));
    }
    let Rebuilt {
        generation,
        seq,
        before,
        after,
    } = app.around.registry.rebuild(&page, new_client()).await?;
    if before != after {
        let detail = format!("{} to {} bytes", before.encoded_bytes, after.encoded_bytes);
        app.note_done(identity.user.as_deref(), &page, "compact", &detail);
    }
    // Who has come back before it was done is at a page that is no more.
    app.tell_of_change(&page, None).await;
    Ok(Json(Compacted::new(generation, seq, before, after)))
}

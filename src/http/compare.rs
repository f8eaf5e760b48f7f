//! REST for who wrote what: two states of a page compared, and the text of now attributed to its authors.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{IntoResponse, Response},
};
use crdt::{Fate, Piece};
use serde::{Deserialize, Serialize};
use storage::{PageId, Seq};
use utoipa::ToSchema;

use super::{
    App, HttpError,
    openapi::{parameters::PageName, refusals::ReadingPast},
    page_state::{DOES_NOTHING, head},
    pages::PageInPath,
    past::{When, not_kept},
};
use crate::{
    history::{Author, MarkedFields, PAST_AT_ONCE, marked_html, marked_json},
    rooms::{Refusal, RefusalCode, Role},
};

/// Rows between two states that are compared.
const MAX_COMPARED_ROWS: u64 = 50_000;

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(super) struct Compared {
    /// The number of a row: the earlier state is the one after it. It is needed, or `fromVersion`.
    from: Option<u64>,
    /// The number of a version: the earlier state.
    from_version: Option<u64>,
    /// The number of a row: the later state is the one after it. When nothing is said, it is what is stored now. At most 50,000 rows behind
    /// the earlier one.
    to: Option<u64>,
    /// The number of a version: the later state.
    to_version: Option<u64>,
    /// The name of a root type, of which alone is spoken.
    field: Option<String>,
    /// `json` when it is not said.
    #[param(value_type = Option<ComparisonFormat>, nullable = false)]
    format: Option<String>,
}

/// The forms in which states are compared.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "it describes what `compare` reads")]
pub(super) enum ComparisonFormat {
    Json,
    Html,
}

/// What two states have apart.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Comparison {
    from_seq: u64,
    to_seq: u64,
    fields: MarkedFields,
}

/// Says what was inserted and deleted between two states of a page, by whom.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/compare",
    operation_id = "compareStates",
    tag = "history",
    params(("id" = PageName, Path), Compared),
    responses(
        (status = 200, description = "The page with marks", content((Comparison = "application/json"), (String = "text/html"))),
        ReadingPast,
    ),
)]
pub(super) async fn compare(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Compared>, QueryRejection>,
) -> Result<Response, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(query) = query?;
    let as_html = match query.format.as_deref() {
        None | Some("json") => false,
        Some("html") => true,
        Some(_) => return Err(Refusal::malformed("format is `json` or `html`").into()),
    };
    let from = When::new(query.from, query.from_version).seq(&app, &page).await?;
    let from = from.ok_or_else(|| Refusal::malformed("say `from` or `fromVersion`"))?;
    let to = match When::new(query.to, query.to_version).seq(&app, &page).await? {
        Some(to) => to,
        None => head(&app, &page).await?.ok_or_else(HttpError::unknown_page)?.0,
    };
    if to < from {
        return Err(Refusal::malformed("the state compared with is the later one").into());
    }
    let (fields, rows) = between(&app, &page, (from, to), query.field).await?;
    if as_html {
        let kind = [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/html; charset=utf-8"),
            ),
            (header::CONTENT_SECURITY_POLICY, DOES_NOTHING),
        ];
        return Ok((kind, marked_html(&fields, &rows)).into_response());
    }
    let fields = marked_json(&fields, &rows, false);
    let comparison = Comparison {
        from_seq: from,
        to_seq: to,
        fields,
    };
    Ok(Json(comparison).into_response())
}

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Blamed {
    /// The name of a root type, of which alone is spoken.
    field: Option<String>,
}

/// What a page says, by its authors.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authorship {
    /// The number of the row from which on authors are known.
    from_seq: u64,
    /// The number of the last row.
    seq: u64,
    fields: MarkedFields,
}

/// Says what a page says, in pieces of which each has one author.
///
/// What is older than the history is nobody's.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/blame",
    operation_id = "listAuthors",
    tag = "history",
    params(("id" = PageName, Path), Blamed),
    responses((status = 200, description = "The pieces", body = Authorship), ReadingPast),
)]
pub(super) async fn blame(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Blamed>, QueryRejection>,
) -> Result<Json<Authorship>, HttpError> {
    app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(query) = query?;
    let (to, _) = head(&app, &page).await?.ok_or_else(HttpError::unknown_page)?;
    let first = app.store.history(&page).await?.first_seq;
    let from = first.max(to.saturating_sub(MAX_COMPARED_ROWS));
    let (mut fields, rows) = between(&app, &page, (from, to), query.field).await?;
    for (_, pieces) in &mut fields {
        pieces.retain(|piece| piece.fate != Fate::Deleted);
    }
    let fields = marked_json(&fields, &rows, true);
    Ok(Json(Authorship {
        from_seq: from,
        seq: to,
        fields,
    }))
}

type Marked = (Vec<(String, Vec<Piece>)>, Vec<Author>);

/// What the states after two rows have apart, and the rows between them.
async fn between(
    app: &App,
    page: &PageId,
    (from, to): (Seq, Seq),
    field: Option<String>,
) -> Result<Marked, HttpError> {
    if to - from > MAX_COMPARED_ROWS {
        return Err(Refusal::too_large("states with at most 50000 rows between them are compared").into());
    }
    let _permit = PAST_AT_ONCE.acquire().await;
    let past = app.store.past(page, from, to).await?.ok_or_else(not_kept)?;
    let limits = app.gate;
    let work = tokio::task::spawn_blocking(move || {
        let (before, behind): (Vec<_>, Vec<_>) = past.rows.into_iter().partition(|row| row.seq <= from);
        let authors = behind.iter().map(|row| (row.seq, row.user.clone())).collect();
        let before = past
            .base
            .into_iter()
            .chain(before.into_iter().map(|row| row.data));
        let rows = behind.into_iter().map(|row| row.data);
        Ok::<_, HttpError>((crdt::compare(limits, before, rows, field.as_deref())?, authors))
    });
    let done = work.await;
    done.map_err(|_| Refusal::new(RefusalCode::Internal, "a defect of the server"))?
}

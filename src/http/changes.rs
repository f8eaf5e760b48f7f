//! `GET /api/pages/{id}/changes`: who changed a page when, as a list, or as an event stream that stays open.
//!
//! Whoever reads the stream slowly is sent nothing ahead: rows are read from the store as they leave, so a stream holds at most one
//! stretch of them, without their content.

use std::{collections::VecDeque, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, Uri, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::stream::unfold;
use serde::{Deserialize, Serialize};
use serde_json::json;
use storage::{PageChange, PageId, Seq};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use super::{
    App, HttpError,
    error::Reason,
    openapi::{parameters::PageName, refusals::Reading},
    pages::{PageInPath, limit_of, timestamp},
};
use crate::{
    access::{RoomControl, RoomSeat},
    history::Follower,
    rooms::{Refusal, Role, RoomName},
};

/// Rows that are read at once for a stream.
const ROWS_AT_ONCE: usize = 256;
/// How often it is looked for what other processes have stored.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// What keeps proxies from hanging up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Since {
    /// The number of the row behind which it begins: `next` of what was listed before. When it is not said, a list begins with the first
    /// row and a stream with the next one.
    since: Option<u64>,
    /// Rows at most: 100 when it is not said, and never more than 1,000. A stream has no end.
    #[param(format = Int64)]
    limit: Option<usize>,
}

/// Changes, and where they go on.
#[derive(Serialize, ToSchema)]
pub(super) struct ChangeListing {
    changes: Vec<Change>,
    /// The next `since`; null at the end.
    #[schema(required)]
    next: Option<u64>,
    /// Whether these are all that there were from `since` on: older ones may not be kept.
    complete: bool,
}

/// Who changed a page when.
#[derive(Serialize, ToSchema)]
pub(super) struct Change {
    /// The number of the row.
    seq: u64,
    /// Null for a guest and for a backend.
    #[schema(required)]
    user: Option<String>,
    #[schema(format = DateTime)]
    at: String,
    /// The size of the change, in bytes.
    bytes: u64,
    /// In a stream: whether there was no other change since the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    complete: Option<bool>,
}

/// Says who changed a page when.
///
/// With `Accept: text/event-stream` as events that go on: `change`, whose data is a change and whose id is its number, and in the end `end`
/// with an error.
#[utoipa::path(
    get,
    path = "/api/pages/{id}/changes",
    operation_id = "listChanges",
    tag = "history",
    params(
        ("id" = PageName, Path),
        Since,
        ("Last-Event-ID" = Option<u64>, Header, nullable = false, description = "Goes before `since` in a stream"),
    ),
    responses(
        (status = 200, description = "The changes", content(
            (ChangeListing = "application/json"),
            (String = "text/event-stream"),
        )),
        Reading,
    ),
)]
pub(super) async fn list(
    State(app): State<App>,
    PageInPath(page): PageInPath,
    headers: HeaderMap,
    uri: Uri,
    query: Result<Query<Since>, QueryRejection>,
) -> Result<Response, HttpError> {
    let identity = app.allow(&headers, &uri, &page, Role::View).await?;
    let Query(query) = query?;
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|accept| accept.to_str().ok());
    // A client that comes back says what it has had; one that comes for the first time says where to begin, or begins now.
    let last = headers
        .get("last-event-id")
        .map(|last| last.to_str().unwrap_or_default());
    let last = last.map(str::parse::<Seq>).transpose();
    let last = last.map_err(|_| Refusal::malformed("Last-Event-ID is no number of a row"))?;
    if accept.is_some_and(|accept| accept.contains("text/event-stream")) {
        let since = match last.or(query.since) {
            Some(since) => since,
            None => app.store.page(&page).await?.map_or(0, |record| record.seq),
        };
        return Ok(stream(app, page, Arc::new(identity), since)
            .await?
            .into_response());
    }
    let (since, limit) = (query.since.unwrap_or(0), limit_of(query.limit));
    let found = app.store.changes(&page, since, limit).await?;
    let found = found.ok_or_else(HttpError::unknown_page)?;
    let last = found.rows.last().map_or(since, |row| row.seq);
    let is_complete = match found.rows.first() {
        Some(first) => first.seq == since + 1,
        None => found.last <= since,
    };
    let changes: Vec<Change> = found.rows.iter().map(describe).collect();
    let next = (!changes.is_empty() && last < found.last).then_some(last);
    let listing = ChangeListing {
        changes,
        next,
        complete: is_complete,
    };
    Ok(Json(listing).into_response())
}

fn describe(change: &PageChange) -> Change {
    Change {
        seq: change.seq,
        user: change.user.as_deref().map(str::to_owned),
        at: timestamp(change.at),
        bytes: change.bytes,
        complete: None,
    }
}

/// Hears that somebody may no longer see a page.
struct Leave(CancellationToken);

impl RoomControl for Leave {
    fn remove(&self, _: &Refusal) {
        self.0.cancel();
    }
}

/// A stream of changes on its way.
struct Stream {
    app: App,
    page: PageId,
    since: Seq,
    rows: VecDeque<PageChange>,
    follower: Follower,
    seat: RoomSeat,
    /// Whoever reads it may do so no longer.
    removed: CancellationToken,
    has_ended: bool,
}

async fn stream(
    app: App,
    page: PageId,
    identity: Arc<crate::auth::Identity>,
    since: Seq,
) -> Result<impl IntoResponse, HttpError> {
    let follower = app.past.feed().follow(&page);
    let follower =
        follower.ok_or_else(|| Refusal::unavailable("too many follow changes, try again later"))?;
    let access = &app.around.access;
    let membership = access.membership_of(identity, &page).await?;
    let removed = CancellationToken::new();
    let control = Arc::new(Leave(removed.clone()));
    let seat = access
        .watch_room(&RoomName::of_page(&page), membership, control)
        .await;
    let stream = Stream {
        app,
        page,
        since,
        rows: VecDeque::new(),
        follower,
        seat,
        removed,
        has_ended: false,
    };
    let events = unfold(stream, |mut stream| async move {
        let event = stream.next().await?;
        Some((Ok::<_, Infallible>(event), stream))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}

impl Stream {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.has_ended {
                return None;
            }
            if self.removed.is_cancelled() {
                let refusal = self.seat.removed();
                let refusal = refusal.unwrap_or_else(|| Refusal::unavailable("ask again"));
                return Some(self.end(&refusal));
            }
            if self.app.hang_up.is_cancelled() {
                return Some(self.end(&Refusal::draining()));
            }
            if let Some(change) = self.rows.pop_front() {
                return Some(self.tell(&change));
            }
            match self.app.store.changes(&self.page, self.since, ROWS_AT_ONCE).await {
                Ok(found) => self
                    .rows
                    .extend(found.map(|found| found.rows).unwrap_or_default()),
                Err(error) => {
                    tracing::warn!(%error, kind = error.kind(), "changes cannot be read now");
                    return Some(self.end(&Refusal::unavailable(
                        "the store cannot be reached now, try again",
                    )));
                }
            }
            if self.rows.is_empty() {
                let hang_up = self.app.hang_up.clone();
                tokio::select! {
                    () = self.follower.changed() => {}
                    () = tokio::time::sleep(LOOK_EVERY) => {}
                    () = self.removed.cancelled() => {}
                    () = hang_up.cancelled() => {}
                }
            }
        }
    }

    /// A change, and whether others before it are not known any more.
    fn tell(&mut self, change: &PageChange) -> Event {
        let described = Change {
            complete: Some(change.seq == self.since + 1),
            ..describe(change)
        };
        self.since = change.seq;
        Event::default()
            .event("change")
            .id(change.seq.to_string())
            .data(json!(described).to_string())
    }

    /// The last event.
    fn end(&mut self, refusal: &Refusal) -> Event {
        self.has_ended = true;
        let error = Reason::of(refusal);
        Event::default()
            .event("end")
            .data(json!({ "error": error }).to_string())
    }
}

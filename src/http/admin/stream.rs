//! `GET /api/admin/events`: the overview as an event stream, which tells what has changed at most twice a second.
//!
//! Each stream holds the overview that it has told, and makes the next one when it is time: whoever reads slowly is told the latest, and
//! nothing waits for it. A stream is ended after a while, and whoever still looks opens another one: so a place is not held for ever by
//! somebody who has gone without a word, or reads nothing.

use std::{convert::Infallible, future::poll_fn, sync::Arc, time::Duration};

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, Uri, header},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
};
use futures_util::{Stream, StreamExt, stream::unfold};
use serde_json::json;
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until},
};
use utoipa::ToSchema;

use super::overview::{Overview, overview};
use crate::{
    access::LiveSocket,
    http::{App, HttpError, error::Reason, openapi::refusals::Asking},
    rooms::Refusal,
};

/// Streams at once.
pub(super) const MAX_WATCHERS: usize = 32;
/// The shortest time between two events.
const TELL_EVERY: Duration = Duration::from_millis(500);
/// After this a stream ends, and is opened again by whoever still looks.
const LONGEST: Duration = Duration::from_secs(600);
/// What keeps proxies from hanging up.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// An event of the stream, field by field.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it describes what is streamed")]
struct ServerEvent {
    event: ServerEventName,
    /// JSON: how the server does, or an error.
    data: String,
}

/// What an event tells.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "it describes what is streamed")]
enum ServerEventName {
    Overview,
    End,
}

/// Tells how this server does, as events that go on.
///
/// `overview`, whose data is that, whenever something has changed in it, at most twice a second; and `end` with an error when there are no
/// more. A stream that ends without it has been open for ten minutes: open another one.
#[utoipa::path(
    get,
    path = "/api/admin/events",
    operation_id = "watchServer",
    tag = "administration",
    responses(
        (status = 200, description = "The events", body = ServerEvent, content_type = "text/event-stream"),
        Asking,
    ),
)]
pub(in crate::http) async fn watch(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, HttpError> {
    let identity = Arc::new(app.allow_backend(&headers, &uri).await?);
    let place = app.administration.watchers.clone().try_acquire_owned();
    let place = place.map_err(|_| Refusal::unavailable("too many watch this server, try again later"))?;
    // The token of an administrator may end, or be withdrawn.
    let socket = app.around.access.watch_socket(identity).await;
    socket.end_with_token(Duration::ZERO);
    let watcher = Watcher {
        app,
        socket,
        told: None,
        next: Instant::now(),
        has_ended: false,
        _place: place,
    };
    let events = unfold(watcher, |mut watcher| async move {
        let event = watcher.next().await?;
        Some((Ok::<_, Infallible>(event), watcher))
    });
    let events = Sse::new(for_a_while(events, LONGEST)).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
    let unkept = [
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        // nginx would hold events back.
        (
            header::HeaderName::from_static("x-accel-buffering"),
            HeaderValue::from_static("no"),
        ),
    ];
    Ok((unkept, events).into_response())
}

/// The events of a stream until it has been open for long enough.
fn for_a_while<S: Stream>(events: S, longest: Duration) -> impl Stream<Item = S::Item> {
    events.take_until(sleep(longest))
}

/// A stream on its way.
struct Watcher {
    app: App,
    socket: LiveSocket,
    told: Option<Overview>,
    /// When it may be told something.
    next: Instant,
    has_ended: bool,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next event; `None` after the last one.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if self.has_ended {
                return None;
            }
            let (app, next) = (&self.app, self.next);
            let looking = async {
                sleep_until(next).await;
                overview(app).await
            };
            // Also while the store lets itself be waited for.
            let overview = tokio::select! {
                biased;
                refusal = poll_fn(|context| self.socket.poll_ended(context)) => return Some(self.end(&refusal)),
                () = app.hang_up.cancelled() => return Some(self.end(&Refusal::draining())),
                overview = looking => overview,
            };
            self.next = Instant::now() + TELL_EVERY;
            if self.told.as_ref() == Some(&overview) {
                continue;
            }
            let event = Event::default().event("overview").json_data(&overview);
            self.told = Some(overview);
            match event {
                Ok(event) => return Some(event),
                Err(error) => {
                    tracing::error!(%error, "an overview of the server cannot be written");
                    return Some(self.end(&Refusal::unavailable("the overview cannot be written")));
                }
            }
        }
    }

    /// The last event.
    fn end(&mut self, refusal: &Refusal) -> Event {
        self.has_ended = true;
        let error = Reason::of(refusal);
        let data = json!({ "error": error }).to_string();
        Event::default().event("end").data(data)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{pending, repeat};

    use super::*;

    #[tokio::test]
    async fn a_stream_ends_after_a_while_whether_there_is_something_to_tell_or_not() {
        const LONGEST: Duration = Duration::from_millis(50);
        let begun = Instant::now();
        let mut silent = std::pin::pin!(for_a_while(pending::<()>(), LONGEST));
        assert_eq!(silent.next().await, None);
        assert!(begun.elapsed() >= LONGEST);
        let begun = Instant::now();
        let busy = for_a_while(repeat(1), LONGEST).fold(0, async |told, _| {
            tokio::task::yield_now().await;
            told + 1
        });
        assert!(busy.await > 0);
        assert!(begun.elapsed() >= LONGEST);
    }
}

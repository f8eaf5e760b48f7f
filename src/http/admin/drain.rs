//! `POST`, `DELETE /api/admin/drain`: newcomers are refused for a while, then the server stops; until then that can be called off.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri},
};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{note, overview::seconds_left};
use crate::{
    drain::{DrainError, Phase},
    http::{
        App, HttpError,
        body::UnreadBody,
        openapi::refusals::{Asking, Conflicting, Sending},
        whole::whole,
    },
    rooms::{Refusal, RefusalCode},
};

/// Longest time before a stop.
const LONGEST: Duration = Duration::from_secs(60 * 60);

/// Newcomers are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Draining {
    /// Seconds until the server stops.
    seconds_left: u64,
    /// Whether it stops already, which cannot be called off.
    stopping: bool,
}

/// How far a drain is, if there is one.
pub(super) fn draining(app: &App) -> Option<Draining> {
    match app.drain.phase() {
        Phase::Serving => None,
        Phase::Counting { ends } => Some(Draining {
            seconds_left: seconds_left(ends.saturating_duration_since(Instant::now())),
            stopping: false,
        }),
        Phase::Stopping => Some(Draining {
            seconds_left: 0,
            stopping: true,
        }),
    }
}

impl From<DrainError> for HttpError {
    fn from(error: DrainError) -> Self {
        Refusal::new(RefusalCode::Conflict, error.to_string()).into()
    }
}

/// How long newcomers are refused before the server stops.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct DrainTime {
    #[serde(deserialize_with = "whole")]
    #[schema(maximum = 3600)]
    seconds: u64,
}

/// Drains the server: newcomers are refused from now on, and when so much time is over it stops as on SIGTERM.
///
/// Meanwhile `/readyz` answers 503, and whoever is connected goes on. Another time takes the place of the first.
#[utoipa::path(
    post,
    path = "/api/admin/drain",
    operation_id = "drainServer",
    tag = "administration",
    request_body = DrainTime,
    responses((status = 200, description = "Newcomers are refused", body = Draining), Conflicting, Sending),
)]
pub(in crate::http) async fn begin(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<Draining>, HttpError> {
    let by = app.allow_backend(&headers, &uri).await?;
    let DrainTime { seconds } = body.json().await?;
    let time = Duration::from_secs(seconds);
    if time > LONGEST {
        return Err(Refusal::malformed("seconds is at most 3600").into());
    }
    app.drain.begin(time)?;
    tracing::warn!(
        seconds,
        "the server is drained: nobody new is let in, and then it stops"
    );
    note(&app, by.user.as_deref(), "drain", &format!("in {seconds} s"));
    Ok(Json(Draining {
        seconds_left: seconds,
        stopping: false,
    }))
}

/// Calls a drain off: newcomers are let in again, and the server goes on.
#[utoipa::path(
    delete,
    path = "/api/admin/drain",
    operation_id = "callOffDrain",
    tag = "administration",
    responses((status = 204, description = "The server goes on"), Conflicting, Asking),
)]
pub(in crate::http) async fn call_off(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<StatusCode, HttpError> {
    let by = app.allow_backend(&headers, &uri).await?;
    app.drain.call_off()?;
    tracing::warn!("the drain of the server is called off: everybody is let in again");
    note(&app, by.user.as_deref(), "drain_called_off", "");
    Ok(StatusCode::NO_CONTENT)
}

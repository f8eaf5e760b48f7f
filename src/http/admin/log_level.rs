//! `GET`, `PUT`, `DELETE /api/admin/log-level`: what is logged, changed while the server runs and given back.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::note;
use crate::{
    http::{
        App, HttpError,
        body::UnreadBody,
        openapi::refusals::{Asking, Conflicting, Sending},
    },
    log_filter::{Filter, FilterError, LogFilter},
    rooms::{Refusal, RefusalCode},
};

/// What is logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(in crate::http) struct LogLevel {
    /// A level, or `target=level` pairs, separated by commas.
    filter: String,
    /// The same of the settings.
    configured: String,
    /// Whether something was put in the place of what the settings say.
    changed: bool,
}

/// What is logged now.
pub(super) fn log_level() -> Result<LogLevel, FilterError> {
    let log = LogFilter::of_process()?;
    let changed = log.changed();
    Ok(LogLevel {
        filter: changed
            .as_ref()
            .map_or(log.configured(), Filter::as_str)
            .to_owned(),
        configured: log.configured().to_owned(),
        changed: changed.is_some(),
    })
}

impl From<FilterError> for HttpError {
    fn from(error: FilterError) -> Self {
        let message = error.to_string();
        match error {
            FilterError::TooLong => Refusal::too_large(message),
            FilterError::Unreadable(_) | FilterError::Talkative(_) => Refusal::malformed(message),
            FilterError::NotOurs => Refusal::new(RefusalCode::Conflict, message),
            FilterError::Unchanged(error) => {
                tracing::error!(%error, "the filter of the log cannot be changed");
                Refusal::new(RefusalCode::Internal, "the filter of the log cannot be changed")
            }
        }
        .into()
    }
}

/// Says what is logged.
#[utoipa::path(
    get,
    path = "/api/admin/log-level",
    operation_id = "describeLogLevel",
    tag = "administration",
    responses((status = 200, description = "What is logged", body = LogLevel), Conflicting, Asking),
)]
pub(in crate::http) async fn get(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<LogLevel>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    Ok(Json(log_level()?))
}

/// What is to be logged.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Wanted {
    /// Levels (`off`, `error`, `warn`, `info`, `debug`, `trace`) and pairs such as `pageroom::access=debug`, at most 32, separated by commas.
    #[schema(min_length = 1, max_length = 1024)]
    filter: String,
}

/// Changes what is logged until that is given back or the server ends. The settings stay as they are.
#[utoipa::path(
    put,
    path = "/api/admin/log-level",
    operation_id = "setLogLevel",
    tag = "administration",
    request_body(content = inline(Wanted)),
    responses((status = 200, description = "What is logged", body = LogLevel), Conflicting, Sending),
)]
pub(in crate::http) async fn put(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
    body: UnreadBody,
) -> Result<Json<LogLevel>, HttpError> {
    let by = app.allow_backend(&headers, &uri).await?;
    let Wanted { filter } = body.json().await?;
    let filter = Filter::parse(&filter)?;
    LogFilter::of_process()?.change(Some(filter.clone()))?;
    tracing::info!(filter = filter.as_str(), "what is logged was changed");
    note(&app, by.user.as_deref(), "log_level", filter.as_str());
    Ok(Json(log_level()?))
}

/// Gives back what is logged by the settings.
#[utoipa::path(
    delete,
    path = "/api/admin/log-level",
    operation_id = "resetLogLevel",
    tag = "administration",
    responses((status = 200, description = "What is logged", body = LogLevel), Conflicting, Asking),
)]
pub(in crate::http) async fn reset(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<LogLevel>, HttpError> {
    let by = app.allow_backend(&headers, &uri).await?;
    let log = LogFilter::of_process()?;
    log.change(None)?;
    tracing::info!("what is logged is as the settings say again");
    note(&app, by.user.as_deref(), "log_level", log.configured());
    Ok(Json(log_level()?))
}

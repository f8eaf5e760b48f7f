//! Alive, ready to serve, and the numbers in Prometheus text.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde_json::json;

use super::App;
use crate::rooms::StoreHealth;

/// Longest time the store may take to say that it is there.
const CHECK: Duration = Duration::from_secs(2);

/// The process answers.
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// The server can do its work: the store answers, nothing is stuck, and it is not stopping.
pub(super) async fn ready(State(app): State<App>) -> impl IntoResponse {
    match problem(&app).await {
        None => (StatusCode::OK, Json(json!({ "ready": true }))),
        Some(problem) => (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(json!({ "ready": false, "problem": problem })),
        ),
    }
}

/// Why the server cannot do its work, if it cannot.
pub(super) async fn problem(app: &App) -> Option<String> {
    if app.is_draining() {
        Some("the server is stopping".to_owned())
    } else if let StoreHealth::Failing { message, .. } = app.around.writer.health() {
        Some(message.to_string())
    } else {
        match tokio::time::timeout(CHECK, app.store.check()).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("the store does not answer".to_owned()),
        }
    }
}

/// The numbers.
pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let metrics = &app.around.metrics;
    metrics.set(
        "pageroom_unstored_bytes",
        app.around.writer.unstored_bytes() as f64,
    );
    metrics.set(
        "pageroom_store_queue_depth",
        app.around.writer.queue_depth() as f64,
    );
    let failing = matches!(app.around.writer.health(), StoreHealth::Failing { .. });
    metrics.set("pageroom_store_up", if failing { 0.0 } else { 1.0 });
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        metrics.render(),
    )
}

//! Alive, ready to serve, and the numbers in Prometheus text.
//!
//! Anybody may ask whether the server is ready, as often as they like. So the store is asked once a second at most, and all share
//! the answer, which says what is wrong in our own words and nothing that the store said.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use serde::Serialize;
use storage::SharedStore;
use tokio::{sync::Mutex, time::Instant};
use utoipa::ToSchema;

use super::{App, openapi::refusals::Defect};
use crate::{auth::complaints, rooms::StoreHealth};

/// Longest time the store may take to say that it is there.
const CHECK: Duration = Duration::from_secs(2);

/// An answer of the store counts for this long: with the next question, what happens is noticed within a second.
const CHECK_EVERY: Duration = Duration::from_millis(900);

/// Asks the store whether it works, once for all who want to know. Cheap to clone.
#[derive(Clone)]
pub struct StoreProbe {
    store: SharedStore,
    started: Instant,
    last: Arc<Mutex<Option<LastAnswer>>>,
}

/// When the store was asked, and what was wrong with it.
type LastAnswer = (Instant, Option<&'static str>);

impl StoreProbe {
    /// A probe of a store that has not been asked yet.
    pub fn new(store: SharedStore) -> Self {
        Self {
            store,
            started: Instant::now(),
            last: Arc::default(),
        }
    }

    /// What is wrong with the store, if anything is.
    async fn problem(&self) -> Option<&'static str> {
        // Whoever comes while the store is being asked waits for the same answer.
        let mut last = self.last.clone().lock_owned().await;
        if let Some((at, problem)) = *last
            && at.elapsed() < CHECK_EVERY
        {
            return problem;
        }
        let store = self.store.clone();
        // It is asked to the end, also when nobody waits for the answer any more.
        let asked = tokio::spawn(async move {
            let problem = match tokio::time::timeout(CHECK, store.check()).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => {
                    if complaints::is_due(format!("store {}", error.kind())) {
                        tracing::warn!(%error, "the server is not ready: the store cannot be used");
                    }
                    Some(in_our_words(error.kind()))
                }
                Err(_) => Some("the store does not answer"),
            };
            *last = Some((Instant::now(), problem));
            problem
        });
        asked.await.unwrap_or(Some("the store does not answer"))
    }
}

/// What an error of the store means for whoever runs the server. What the store itself said is in the log.
fn in_our_words(kind: &str) -> &'static str {
    match kind {
        "unavailable" => "the store cannot be reached",
        "busy" => "a page cannot be stored now",
        "full" => "the store is full: free disk space",
        "read_only" => "the store is read-only: check the permissions",
        _ => "the store refuses what it is asked",
    }
}

/// `OPTIONS /`, which proxies ask whether there is a server.
pub(super) async fn options() -> impl IntoResponse {
    (StatusCode::NO_CONTENT, [(header::ALLOW, "GET, HEAD, OPTIONS")])
}

/// Says that the process answers.
#[utoipa::path(
    get,
    path = "/healthz",
    operation_id = "isAlive",
    tag = "server",
    security(()),
    responses((status = 200, description = "`ok`", body = String), Defect),
)]
pub(super) async fn alive() -> &'static str {
    "ok"
}

/// How the server does.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Health {
    /// `healthy` or `unhealthy`.
    status: &'static str,
    /// Seconds since the start.
    uptime: f64,
    /// Jobs of workspaces that are under way.
    active_jobs: usize,
    /// Jobs of workspaces that wait.
    queued_jobs: usize,
    /// Sockets of Socket.IO.
    socket_connections: usize,
}

/// Says how the server does, as programs that belong to an indexer ask.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "describeHealth",
    tag = "server",
    security(()),
    responses(
        (status = 200, description = "It serves", body = Health),
        (status = 503, description = "It cannot serve now", body = Health),
        Defect,
    ),
)]
pub(super) async fn indexer(State(app): State<App>) -> impl IntoResponse {
    let (status, word) = match problem(&app).await {
        None => (StatusCode::OK, "healthy"),
        Some(_) => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
    };
    let events = &app.around.events;
    let (active, queued) = events.jobs.counts();
    let health = Health {
        status: word,
        uptime: app.probe.started.elapsed().as_secs_f64(),
        active_jobs: active,
        queued_jobs: queued,
        socket_connections: events.rooms.counts().0,
    };
    (status, Json(health))
}

/// Whether the server can do its work.
#[derive(Serialize, ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// Why it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    problem: Option<&'static str>,
}

/// Says whether the server can do its work: the store answers, nothing is stuck, and it is not stopping.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "isReady",
    tag = "server",
    security(()),
    responses(
        (status = 200, description = "It can", body = Readiness),
        (status = 503, description = "It cannot now", body = Readiness),
        Defect,
    ),
)]
pub(super) async fn ready(State(app): State<App>) -> impl IntoResponse {
    let problem = problem(&app).await;
    let status = match problem {
        None => StatusCode::OK,
        Some(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    let ready = problem.is_none();
    (status, Json(Readiness { ready, problem }))
}

/// Why the server cannot do its work, if it cannot.
pub(super) async fn problem(app: &App) -> Option<&'static str> {
    if app.is_draining() {
        Some("the server is stopping")
    } else if let StoreHealth::Failing { kind, .. } = app.around.writer.health() {
        Some(in_our_words(kind))
    } else {
        app.probe.problem().await
    }
}

/// Counts what happens, in the text of Prometheus (0.0.4).
///
/// With `PAGEROOM_METRICS_ADDRESS` there is nothing here: the numbers are at that address.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "readMetrics",
    tag = "server",
    security(()),
    responses((status = 200, description = "The numbers", body = String), Defect),
)]
pub(super) async fn metrics(State(app): State<App>) -> impl IntoResponse {
    let content_type = "text/plain; version=0.0.4; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], numbers(&app))
}

/// The numbers, with those that are looked up only when somebody asks.
pub fn numbers(app: &App) -> String {
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
    if let Some(age) = app.around.access.authenticator().keys.age() {
        metrics.set("pageroom_token_keys_age_seconds", age.as_secs_f64());
    }
    metrics.render()
}

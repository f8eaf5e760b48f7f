//! `GET /api/admin/overview`: how this server does, in numbers that are there anyway.

use std::{sync::PoisonError, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, Uri},
};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    drain::{Draining, draining},
    log_level::{LogLevel, log_level},
    rates::{Counted, PerSecond},
};
use crate::{
    connections::Spoken,
    http::{App, HttpError, health::problem, openapi::refusals::Asking, pages::timestamp},
};

/// How a server does.
#[derive(PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct Overview {
    node: NodeDescription,
    /// Why it cannot do its work; null when it can.
    #[schema(required)]
    problem: Option<&'static str>,
    /// Whether newcomers are refused, and until when; null when they are let in.
    #[schema(required)]
    drain: Option<Draining>,
    rooms: OpenRooms,
    connections: Connections,
    totals: Counted,
    /// Over the last second or more; null when nobody has looked before.
    #[schema(required)]
    rates: Option<PerSecond>,
    queues: Vec<Queue>,
    /// Null where the log is not the server's own.
    #[schema(required)]
    log: Option<LogLevel>,
    changes: Changes,
}

/// A process that serves.
#[derive(PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct NodeDescription {
    /// Another one after each start.
    id: String,
    /// The name of its machine.
    host: String,
    version: &'static str,
    #[schema(format = DateTime)]
    started_at: String,
    /// Address and port on which it listens; null where that is not known.
    #[schema(required)]
    address: Option<String>,
    /// The address of its store, without user and password.
    store: String,
    /// Whether guests may edit everything.
    open: bool,
}

/// The rooms that are open.
#[derive(PartialEq, Serialize, ToSchema)]
struct OpenRooms {
    /// Rooms of pages.
    open: usize,
    /// Seats in them.
    members: usize,
}

/// The connections of clients.
#[derive(PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Connections {
    /// Those that stay open.
    open: usize,
    /// How many there may be; 0 for any number.
    limit: usize,
    y_websocket: usize,
    hocuspocus: usize,
    socket_io: usize,
    y_sweet: usize,
    /// Those on which nothing but requests has come so far.
    http: usize,
}

/// Something that waits.
#[derive(PartialEq, Serialize, ToSchema)]
struct Queue {
    name: QueueName,
    depth: u64,
    /// How deep it may be; null for any depth.
    #[schema(required)]
    bound: Option<u64>,
}

/// What waits.
#[derive(Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
enum QueueName {
    /// Requests to the store's writer.
    StoreWriter,
    /// Edits that are not stored yet, in bytes.
    UnstoredBytes,
    /// Questions to the processes that read pages.
    Readers,
    /// Notes of the audit.
    AuditNotes,
}

/// Numbers that grow when something changes that is listed elsewhere.
#[derive(PartialEq, Serialize, ToSchema)]
struct Changes {
    /// Somebody has come or gone.
    people: u64,
    /// Something was noted in the audit.
    audit: u64,
}

/// Says how this server does: who it is, rooms, connections, rates, queues, and whether it is being drained.
///
/// Of this server alone, also where several use one store.
#[utoipa::path(
    get,
    path = "/api/admin/overview",
    operation_id = "describeServer",
    tag = "administration",
    responses((status = 200, description = "How it does", body = Overview), Asking),
)]
pub(in crate::http) async fn get(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Overview>, HttpError> {
    app.allow_backend(&headers, &uri).await?;
    Ok(Json(overview(&app).await))
}

/// How the server does now.
pub(super) async fn overview(app: &App) -> Overview {
    let administration = &app.administration;
    let (around, node) = (&app.around, &administration.node);
    let totals = Counted::of(&around.metrics.totals);
    let rates = {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        let mut rates = administration
            .rates
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        rates.now(Instant::now().into_std(), totals)
    };
    Overview {
        node: NodeDescription {
            id: node.id.clone(),
            host: node.host.clone(),
            version: env!("CARGO_PKG_VERSION"),
            started_at: timestamp(node.started),
            address: node.address.map(|address| address.to_string()),
            store: node.store.clone(),
            open: around.access.authenticator().open,
        },
        drain: draining(app),
        rooms: OpenRooms {
            open: around.registry.len(),
            members: around.registry.members(),
        },
        connections: connections(app),
        totals,
        rates,
        queues: queues(app),
        log: log_level().ok(),
        changes: Changes {
            people: around.access.comings_and_goings(),
            audit: around.access.audit().stored(),
        },
        problem: problem(app).await,
    }
}

fn connections(app: &App) -> Connections {
    let connected = app.admissions.connected();
    let of = |spoken| connected.spoken.get(&spoken).copied().unwrap_or(0);
    Connections {
        open: connected.total,
        limit: app.admissions.limits().total,
        y_websocket: of(Spoken::YWebsocket),
        hocuspocus: of(Spoken::Hocuspocus),
        socket_io: of(Spoken::SocketIo),
        y_sweet: of(Spoken::YSweet),
        http: connected.http,
    }
}

fn queues(app: &App) -> Vec<Queue> {
    let writer = &app.around.writer;
    let bound = |most: usize| Some(most as u64);
    let (asked, askable) = app.readers.waiting();
    let mut queues = vec![
        Queue {
            name: QueueName::StoreWriter,
            depth: writer.queue_depth() as u64,
            bound: bound(writer.max_queue_depth()),
        },
        Queue {
            name: QueueName::UnstoredBytes,
            depth: writer.unstored_bytes(),
            bound: Some(writer.max_unstored_bytes()).filter(|most| *most != 0),
        },
        Queue {
            name: QueueName::Readers,
            depth: asked as u64,
            bound: bound(askable),
        },
    ];
    if let Some((waiting, most)) = app.around.access.audit().waiting() {
        queues.push(Queue {
            name: QueueName::AuditNotes,
            depth: waiting as u64,
            bound: bound(most),
        });
    }
    queues
}

/// Whole seconds that are left of a time, the begun one counted.
pub(super) fn seconds_left(left: Duration) -> u64 {
    left.as_secs() + u64::from(left.subsec_nanos() > 0)
}

//! What whoever runs a server sees of it and does with it, under the token of the backend: the page at `/admin`, and REST for it.
//!
//! Nothing is computed while nobody looks: an [overview] reads numbers that are there anyway, and [weights] are made for
//! the rows of a listing that somebody asks for. How much one can cost is in [`bounds`](crate::bounds).

pub(super) mod drain;
pub(super) mod log_level;
pub(super) mod overview;
pub(super) mod page;
mod rates;
pub(super) mod rooms;
pub(super) mod stream;
pub(super) mod users;
mod weights;

use std::{
    hash::{BuildHasher, RandomState},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use axum::{
    Router,
    routing::{get, post},
};
use tokio::sync::Semaphore;

use self::{rates::Rates, stream::MAX_WATCHERS, weights::Weights};
use super::{App, now};
use crate::access::Note;

/// What the page at `/admin` is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdminPage {
    /// It is not there.
    Off,
    /// It says that there is no token with which one could sign in.
    WithoutToken,
    /// It is there.
    On,
}

impl AdminPage {
    /// What it is to be where it is wanted or not, and there is a token or not.
    pub fn new(is_wanted: bool, has_token: bool) -> Self {
        match (is_wanted, has_token) {
            (false, _) => Self::Off,
            (true, false) => Self::WithoutToken,
            (true, true) => Self::On,
        }
    }
}

/// What is remembered for whoever runs a server.
pub struct Administration {
    node: Node,
    rates: Mutex<Rates>,
    weights: Weights,
    watchers: Arc<Semaphore>,
    page: AdminPage,
}

/// The paths of REST for it.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/api/admin/overview", get(overview::get))
        .route("/api/admin/events", get(stream::watch))
        .route("/api/admin/rooms", get(rooms::list))
        .route("/api/admin/users", get(users::list))
        .route("/api/admin/drain", post(drain::begin).delete(drain::call_off))
        .route(
            "/api/admin/log-level",
            get(log_level::get).put(log_level::put).delete(log_level::reset),
        )
}

/// Which process this is.
struct Node {
    id: String,
    host: String,
    started: SystemTime,
    /// Where it listens; none where that is not known.
    address: Option<SocketAddr>,
    store: String,
}

impl Administration {
    /// That of a server which starts now and listens there, over a store that is called so.
    pub fn new(address: Option<SocketAddr>, store: String, page: AdminPage) -> Self {
        let started = now();
        // Hashers have keys of their own, so that two servers that start at once are two.
        let id = RandomState::new().hash_one(started);
        Self {
            node: Node {
                id: format!("{id:016x}"),
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                started,
                address,
                store,
            },
            rates: Mutex::default(),
            weights: Weights::default(),
            watchers: Arc::new(Semaphore::new(MAX_WATCHERS)),
            page,
        }
    }

    /// What the page at `/admin` is.
    pub(super) fn page(&self) -> AdminPage {
        self.page
    }
}

/// Notes what was done with the server.
fn note(app: &App, user: Option<&str>, action: &str, detail: &str) {
    let note = Note {
        action,
        outcome: "ok",
        user,
        detail,
        ..Note::default()
    };
    app.around.access.audit().note(now(), note);
}

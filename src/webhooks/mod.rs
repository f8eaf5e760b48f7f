//! Outgoing webhooks: events of pages are posted to addresses of the application, signed, in order per page, until they are taken.
//!
//! ```text
//!  writer ── stored ──►┐
//!  rooms ── attended ─►├─ WebhookNotes: which pages to look at, and when (pure) ──► teller ──► store: outbox
//!  REST, versions ────►┘                                                        (compares heads with marks)
//!                                                                                                │
//!  application ◄── POST, signed ── egress (no private addresses, no redirects) ◄── courier ◄── claims
//! ```
//!
//! Nothing of this is on the way of an edit. A note is only a hint: what is to be told is the difference between what is stored of a page
//! and what was told of it, which the store finds ([`storage::WebhookStore`]). So a server that dies loses hints and no events: whoever looks
//! through the pages next finds them. Only who came and went is told from memory. An event that a target does not take is tried again, later
//! each time, for a day; meanwhile the events behind it wait, those of its page and for that target alone.

mod courier;
mod egress;
mod notes;
mod schedule;
mod target;
mod teller;
mod upkeep;

use std::{
    collections::BTreeSet,
    hash::{BuildHasher, RandomState},
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use storage::{SharedStore, WebhookEvent};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

pub use notes::WebhookNotes;
pub use target::{Target, TargetError};

use crate::{auth::Secret, supervision::Supervisor, telemetry::Metrics};

/// How webhooks are told.
#[derive(Clone, Debug)]
pub struct WebhookConfig {
    /// Whom to tell.
    pub targets: Vec<Target>,
    /// What messages are signed with.
    pub secret: Secret,
    /// What is told.
    pub events: BTreeSet<WebhookEvent>,
    /// A page's changes are told at most this often.
    pub debounce: Duration,
    /// Whether a target may be at an address that is not public.
    pub allows_private: bool,
    /// How long dead events are kept.
    pub dead_retention: Duration,
}

/// What the tasks of webhooks share.
#[derive(Clone)]
struct Office {
    config: Arc<WebhookConfig>,
    store: SharedStore,
    metrics: Metrics,
    /// Names this process among those that share a database.
    server: Arc<str>,
    /// There may be something to deliver.
    posted: Arc<Notify>,
    /// Events that wait, as last counted.
    pending: Arc<AtomicU64>,
}

/// Tells webhooks until `ending`. The notes are where to say what has happened; without a configuration nobody listens.
pub fn start(
    config: Option<WebhookConfig>,
    store: SharedStore,
    metrics: Metrics,
    ending: &CancellationToken,
    background: &Supervisor,
) -> WebhookNotes {
    let Some(config) = config else {
        return WebhookNotes::off();
    };
    let hosts: Vec<_> = config.targets.iter().map(Target::host).collect();
    tracing::info!(
        hosts = hosts.join(", "),
        "webhooks are told what happens to pages"
    );
    let notes = WebhookNotes::new(config.events.clone(), config.debounce);
    let office = Office {
        server: format!("{:016x}", RandomState::new().hash_one(0_u8)).into(),
        config: Arc::new(config),
        store,
        metrics,
        posted: Arc::default(),
        pending: Arc::default(),
    };
    background.spawn(
        "webhook teller",
        office.clone().tell(notes.clone(), ending.clone()),
    );
    background.spawn("webhook outbox", office.clone().look_after_outbox(ending.clone()));
    for target in office.config.targets.clone() {
        background.spawn("webhook courier", office.clone().deliver(target, ending.clone()));
    }
    notes
}

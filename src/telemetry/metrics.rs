//! Every number that is counted, with its name.

use std::{sync::Arc, time::Duration};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Label, Level, Metadata, Recorder, SharedString};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use storage::StoreError;

use crate::tally::Tally;

/// Every number that `/metrics` tells. Handles are made once, so that counting costs an atomic addition. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    recorder: Arc<PrometheusRecorder>,
    handle: PrometheusHandle,
    /// Connections open now.
    pub connections_open: Gauge,
    /// Rooms in memory now.
    pub rooms_open: Gauge,
    /// Messages received from clients.
    pub messages_in: Counter,
    /// Bytes of payload received from clients.
    pub bytes_in: Counter,
    /// Bytes of frames sent to clients.
    pub bytes_out: Counter,
    /// Frames sent to clients.
    pub frames_out: Counter,
    /// Deltas queued for members.
    pub deltas_out: Counter,
    /// Members that were brought up to date after falling behind.
    pub resyncs: Counter,
    /// Webhooks that were taken.
    pub webhooks_delivered: Counter,
    /// Attempts to deliver webhooks that failed.
    pub webhooks_failed: Counter,
    /// Webhooks that were given up.
    pub webhooks_dead: Counter,
    /// Webhooks that wait to be delivered, of all servers on the store.
    pub webhooks_pending: Gauge,
    /// How long the oldest of them has waited, in seconds.
    pub webhooks_age: Gauge,
    /// Snapshots in which items stand elsewhere than between their neighbours.
    pub snapshots_misplaced: Counter,
    /// What some of these have counted.
    pub totals: Totals,
    room_open_seconds: Histogram,
    store_commit_seconds: Histogram,
    store_commit_pages: Histogram,
}

/// Counters that the server reads itself.
#[derive(Clone, Default)]
pub struct Totals {
    /// Messages received from clients.
    pub messages_in: Tally,
    /// Bytes of payload received from clients.
    pub bytes_in: Tally,
    /// Bytes of frames sent to clients.
    pub bytes_out: Tally,
    /// Frames sent to clients.
    pub frames_out: Tally,
    /// Members that were brought up to date after falling behind.
    pub resyncs: Tally,
    /// Requests and messages that were refused.
    pub refusals: Tally,
    /// What went wrong on our side.
    pub errors: Tally,
}

/// What can go wrong on our side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A page could not be loaded.
    PageLoad,
    /// A room has ended by a panic.
    RoomPanic,
    /// A document could not take in what it was to take in, and was loaded again.
    DocumentFailed,
    /// A snapshot lacks something of its page, and was not stored.
    SnapshotNotWhole,
    /// A page cannot be shown, so that its snapshot has no content.
    PageUnreadable,
    /// The store did not take a snapshot.
    SnapshotNotStored,
    /// A note of the audit was not stored.
    AuditNoteNotStored,
    /// Webhooks were not told of all who came and went.
    WebhookAttendance,
}

impl Fault {
    const ALL: [Self; 8] = [
        Self::PageLoad,
        Self::RoomPanic,
        Self::DocumentFailed,
        Self::SnapshotNotWhole,
        Self::PageUnreadable,
        Self::SnapshotNotStored,
        Self::AuditNoteNotStored,
        Self::WebhookAttendance,
    ];

    /// Its `kind`.
    const fn kind(self) -> &'static str {
        match self {
            Self::PageLoad => "page_load",
            Self::RoomPanic => "room_panic",
            Self::DocumentFailed => "document_failed",
            Self::SnapshotNotWhole => "snapshot_not_whole",
            Self::PageUnreadable => "page_unreadable",
            Self::SnapshotNotStored => "snapshot_not_stored",
            Self::AuditNoteNotStored => "audit_note_not_stored",
            Self::WebhookAttendance => "webhook_attendance",
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

/// All of them: name, kind, and what it says.
pub const METRICS: [(&str, &str, &str); 24] = [
    ("pageroom_connections_open", "gauge", "Connections open now."),
    ("pageroom_rooms_open", "gauge", "Rooms in memory now."),
    (
        "pageroom_messages_received_total",
        "counter",
        "Messages received from clients.",
    ),
    (
        "pageroom_received_bytes_total",
        "counter",
        "Payload received from clients, in bytes.",
    ),
    (
        "pageroom_sent_bytes_total",
        "counter",
        "Frames sent to clients, in bytes.",
    ),
    ("pageroom_frames_sent_total", "counter", "Frames sent to clients."),
    (
        "pageroom_deltas_sent_total",
        "counter",
        "Deltas queued for members.",
    ),
    (
        "pageroom_resyncs_total",
        "counter",
        "Members brought up to date after falling behind.",
    ),
    ("pageroom_room_open_seconds", "histogram", "Time to load a page."),
    ("pageroom_store_commit_seconds", "histogram", "Time of a commit."),
    ("pageroom_store_commit_pages", "histogram", "Pages in a commit."),
    (
        "pageroom_refusals_total",
        "counter",
        "Requests and messages that were refused, by the code of the refusal (`kind`).",
    ),
    (
        "pageroom_errors_total",
        "counter",
        "What went wrong on our side, by `kind`.",
    ),
    (
        "pageroom_store_errors_total",
        "counter",
        "Commits that failed, by `kind`.",
    ),
    (
        "pageroom_store_up",
        "gauge",
        "Whether the last commit succeeded: 1, or 0 while commits fail.",
    ),
    (
        "pageroom_store_queue_depth",
        "gauge",
        "Requests that wait for a commit.",
    ),
    (
        "pageroom_snapshots_misplaced_total",
        "counter",
        "Snapshots of pages in which items stand elsewhere than between their neighbours, which no editor writes: copies of them may differ.",
    ),
    (
        "pageroom_unstored_bytes",
        "gauge",
        "Edits in memory that are not stored yet, in bytes.",
    ),
    (
        "pageroom_token_keys_age_seconds",
        "gauge",
        "How long ago the keys at JWT_JWKS_URL were fetched; since the start, where they never were.",
    ),
    (
        "pageroom_webhooks_delivered_total",
        "counter",
        "Webhooks that their targets took.",
    ),
    (
        "pageroom_webhooks_failed_total",
        "counter",
        "Attempts to deliver webhooks that failed; most are repeated.",
    ),
    (
        "pageroom_webhooks_dead_total",
        "counter",
        "Webhooks that were given up.",
    ),
    (
        "pageroom_webhooks_pending",
        "gauge",
        "Webhooks that wait to be delivered, of all servers on the store.",
    ),
    (
        "pageroom_webhooks_oldest_seconds",
        "gauge",
        "How long the oldest webhook has waited to be delivered.",
    ),
];

const METADATA: Metadata<'static> = Metadata::new("pageroom", Level::INFO, None);
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];
const SIZES: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Numbers that all start at zero.
    pub fn new() -> Self {
        let builder = PrometheusBuilder::new();
        let suffix = |suffix: &str| metrics_exporter_prometheus::Matcher::Suffix(suffix.to_owned());
        // Bucket lists are refused only when they are empty, and these are not.
        let builder = builder
            .set_buckets_for_metric(suffix("_seconds"), SECONDS)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let builder = builder
            .set_buckets_for_metric(suffix("_pages"), SIZES)
            .unwrap_or_else(|_| PrometheusBuilder::new());
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        let describe = Describe(&recorder);
        describe.all();
        let totals = Totals::default();
        for fault in Fault::ALL {
            // Whoever watches how it grows has to have seen it at zero.
            describe
                .labelled("pageroom_errors_total", fault.kind())
                .increment(0);
        }
        let tallied = |tally: &Tally, name| tally.over(describe.counter(name));
        Self {
            handle,
            connections_open: describe.gauge("pageroom_connections_open"),
            rooms_open: describe.gauge("pageroom_rooms_open"),
            messages_in: tallied(&totals.messages_in, "pageroom_messages_received_total"),
            bytes_in: tallied(&totals.bytes_in, "pageroom_received_bytes_total"),
            bytes_out: tallied(&totals.bytes_out, "pageroom_sent_bytes_total"),
            frames_out: tallied(&totals.frames_out, "pageroom_frames_sent_total"),
            deltas_out: describe.counter("pageroom_deltas_sent_total"),
            resyncs: tallied(&totals.resyncs, "pageroom_resyncs_total"),
            webhooks_delivered: describe.counter("pageroom_webhooks_delivered_total"),
            webhooks_failed: describe.counter("pageroom_webhooks_failed_total"),
            webhooks_dead: describe.counter("pageroom_webhooks_dead_total"),
            webhooks_pending: describe.gauge("pageroom_webhooks_pending"),
            webhooks_age: describe.gauge("pageroom_webhooks_oldest_seconds"),
            snapshots_misplaced: describe.counter("pageroom_snapshots_misplaced_total"),
            room_open_seconds: describe.histogram("pageroom_room_open_seconds"),
            store_commit_seconds: describe.histogram("pageroom_store_commit_seconds"),
            store_commit_pages: describe.histogram("pageroom_store_commit_pages"),
            totals,
            recorder: Arc::new(recorder),
        }
    }

    /// Messages came in.
    pub fn received(&self, messages: usize, bytes: usize) {
        self.messages_in.increment(messages as u64);
        self.bytes_in.increment(bytes as u64);
    }

    /// Something was refused; `kind` is a refusal code or the name of a check.
    pub fn refused(&self, kind: &'static str, count: u64) {
        self.totals.refusals.add(count);
        self.labelled("pageroom_refusals_total", kind).increment(count);
    }

    /// Something went wrong on our side.
    pub fn error(&self, fault: Fault) {
        self.totals.errors.add(1);
        self.labelled("pageroom_errors_total", fault.kind()).increment(1);
    }

    /// A page was loaded, or was not.
    pub fn room_opened(&self, took: Duration, succeeded: bool) {
        self.room_open_seconds.record(took.as_secs_f64());
        if !succeeded {
            self.error(Fault::PageLoad);
        }
    }

    /// The store was asked to commit.
    pub fn store_commit(&self, took: Duration, pages: usize, error: Option<&StoreError>) {
        self.store_commit_seconds.record(took.as_secs_f64());
        self.store_commit_pages.record(pages as f64);
        if let Some(error) = error {
            self.labelled("pageroom_store_errors_total", error.kind())
                .increment(1);
        }
    }

    /// Sets a number that is looked up only when somebody asks.
    pub fn set(&self, name: &'static str, value: f64) {
        self.recorder
            .register_gauge(&Key::from_static_name(name), &METADATA)
            .set(value);
    }

    /// The text of `/metrics`.
    pub fn render(&self) -> String {
        self.handle.run_upkeep();
        self.handle.render()
    }

    fn labelled(&self, name: &'static str, kind: &'static str) -> Counter {
        Describe(&self.recorder).labelled(name, kind)
    }
}

struct Describe<'a>(&'a PrometheusRecorder);

impl Describe<'_> {
    fn all(&self) {
        for (name, kind, text) in METRICS {
            let (name, text) = (KeyName::from_const_str(name), SharedString::const_str(text));
            match kind {
                "gauge" => self.0.describe_gauge(name, None, text),
                "counter" => self.0.describe_counter(name, None, text),
                _ => self.0.describe_histogram(name, None, text),
            }
        }
    }

    fn gauge(&self, name: &'static str) -> Gauge {
        self.0.register_gauge(&Key::from_static_name(name), &METADATA)
    }

    fn counter(&self, name: &'static str) -> Counter {
        self.0.register_counter(&Key::from_static_name(name), &METADATA)
    }

    fn labelled(&self, name: &'static str, kind: &'static str) -> Counter {
        let key = Key::from_parts(name, vec![Label::from_static_parts("kind", kind)]);
        self.0.register_counter(&key, &METADATA)
    }

    fn histogram(&self, name: &'static str) -> Histogram {
        self.0.register_histogram(&Key::from_static_name(name), &METADATA)
    }
}

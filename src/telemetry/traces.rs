//! The spans of sampled edits, which go with an edit from its frame through its room and into the store.
//!
//! ```text
//!  edit ───────────────────────────────────────────────► (stored, refused, or nothing new)
//!    ├─ take in      while the room takes it in
//!    ├─ commit       the transaction that stores it: under the first edit in it, with links to all others and back
//!    └─ deliver      from there until it is handed to the connection of one member
//! ```
//!
//! Rooms pass [`Traces`] on as they pass updates on, and look into none of it.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::SystemTime,
};

use opentelemetry::{
    KeyValue,
    trace::{Span as _, SpanContext, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};

use super::{Correlation, trace_context::child};

/// Edits whose spans one flush or commit is connected with. Those beyond it end where they are merged.
const MAX_TRACED_EDITS: usize = 64;
/// Deliveries of one flush that have a span.
const MAX_TRACED_DELIVERIES: usize = 64;

/// Edits whose spans have not ended, of the whole process. While a store is away there would be more and more of them.
const MAX_OPEN_EDITS: usize = 10_000;

/// How many edits have spans that have not ended. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct OpenEdits(Arc<AtomicUsize>);

impl OpenEdits {
    /// Takes a place for another edit, if there is one.
    pub(super) fn enter(&self) -> Option<OpenEdit> {
        let place = OpenEdit(self.0.clone());
        let before = self.0.fetch_add(1, Ordering::Relaxed);
        // One that was taken in vain is given back.
        (before < MAX_OPEN_EDITS).then_some(place)
    }
}

/// The place of an edit among those whose spans have not ended.
#[derive(Debug)]
pub(super) struct OpenEdit(Arc<AtomicUsize>);

impl Drop for OpenEdit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The span of one edit.
#[derive(Debug)]
pub(super) struct EditSpan {
    tracer: SdkTracer,
    context: SpanContext,
    span: Mutex<Span>,
    /// When the room has taken it in.
    taken_in: OnceLock<SystemTime>,
    /// What has become of it, which is told once.
    outcome: OnceLock<&'static str>,
    _place: OpenEdit,
}

impl EditSpan {
    pub(super) fn new(tracer: SdkTracer, span: Span, place: OpenEdit) -> Self {
        Self {
            context: span.span_context().clone(),
            tracer,
            span: Mutex::new(span),
            taken_in: OnceLock::new(),
            outcome: OnceLock::new(),
            _place: place,
        }
    }

    fn tell_outcome(&self, span: &mut Span, outcome: &'static str) {
        if self.outcome.set(outcome).is_ok() {
            span.set_attribute(KeyValue::new("pageroom.outcome", outcome));
        }
    }

    fn span(&self) -> MutexGuard<'_, Span> {
        self.span.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn child(&self, name: &'static str, kind: SpanKind, start: SystemTime) -> Span {
        child(&self.tracer, &self.context, (name, kind), start)
    }
}

/// The spans of the sampled edits among some edits: mostly none, and then it takes no memory. Cheap to clone. A span that was not ended
/// ends when the last clone is dropped: its edit brought nothing new.
#[derive(Clone, Default)]
pub struct Traces(Option<Arc<Edits>>);

struct Edits {
    spans: Vec<Arc<EditSpan>>,
    delivered: AtomicUsize,
}

impl fmt::Debug for Traces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Traces({})", self.spans().len())
    }
}

impl From<EditSpan> for Traces {
    fn from(span: EditSpan) -> Self {
        Self::of(vec![Arc::new(span)])
    }
}

impl Traces {
    fn of(spans: Vec<Arc<EditSpan>>) -> Self {
        Self(Some(Arc::new(Edits {
            spans,
            delivered: AtomicUsize::new(0),
        })))
    }

    fn spans(&self) -> &[Arc<EditSpan>] {
        self.0.as_ref().map_or(&[], |edits| &edits.spans)
    }

    /// Whether none of the edits is sampled.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Those of several edits together, at most so many as one flush is connected with.
    pub fn merged<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sampled = parts.into_iter().filter(|part| !part.is_empty());
        let Some(first) = sampled.next() else {
            return Self::default();
        };
        let Some(second) = sampled.next() else {
            return first.clone();
        };
        let mut spans: Vec<Arc<EditSpan>> = Vec::new();
        let all = [first, second].into_iter().chain(sampled);
        for span in all.flat_map(Self::spans) {
            if spans.len() >= MAX_TRACED_EDITS {
                break;
            }
            if !spans.iter().any(|known| Arc::ptr_eq(known, span)) {
                spans.push(span.clone());
            }
        }
        Self::of(spans)
    }

    /// Has a room take the edits in.
    pub(crate) fn take_in<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.is_empty() {
            return work();
        }
        let start = now();
        let taken = work();
        let end = now();
        for edit in self.spans() {
            let _ = edit.taken_in.set(end);
            edit.child("take in", SpanKind::Internal, start)
                .end_with_timestamp(end);
        }
        taken
    }

    /// The room has refused something of the edits.
    pub(crate) fn refused(&self, kind: &'static str) {
        for edit in self.spans() {
            let mut span = edit.span();
            edit.tell_outcome(&mut span, kind);
            span.set_status(Status::error(kind));
        }
    }

    /// A transaction has stored the edits, unless there was nothing any more to store them in.
    pub(crate) fn stored(&self, commit: &CommitSpan, has_page: bool) {
        if !has_page {
            return self.refused("page_gone");
        }
        for edit in self.spans() {
            let mut span = edit.span();
            edit.tell_outcome(&mut span, "stored");
            if let Some(commit) = commit.context() {
                span.add_link(commit.clone(), Vec::new());
            }
            span.end();
        }
    }

    /// The edits are handed to the connection that is being served now.
    pub(crate) fn delivered(&self) {
        let Some(edits) = &self.0 else { return };
        if edits.delivered.fetch_add(edits.spans.len(), Ordering::Relaxed) >= MAX_TRACED_DELIVERIES {
            return;
        }
        let end = now();
        let current = Correlation::current();
        for edit in &edits.spans {
            let start = edit.taken_in.get().copied().unwrap_or(end);
            let mut span = edit.child("deliver", SpanKind::Producer, start);
            if let Some(connection) = current.as_ref().and_then(Correlation::connection) {
                span.set_attribute(KeyValue::new("pageroom.connection_id", connection.clone()));
            }
            span.end_with_timestamp(end);
        }
    }
}

/// The span of a transaction, if any edit in it is sampled.
#[derive(Debug, Default)]
pub struct CommitSpan(Option<Span>);

impl CommitSpan {
    /// A transaction begins that is to store these edits of so many pages.
    pub(crate) fn begin<'a>(traces: impl Iterator<Item = &'a Traces>, pages: usize) -> Self {
        let mut edits = traces.flat_map(Traces::spans).take(MAX_TRACED_EDITS);
        let Some(first) = edits.next() else {
            return Self::default();
        };
        let mut span = first.child("commit", SpanKind::Client, now());
        let pages = i64::try_from(pages).unwrap_or(i64::MAX);
        span.set_attribute(KeyValue::new("pageroom.pages", pages));
        for edit in [first].into_iter().chain(edits) {
            span.add_link(edit.context.clone(), Vec::new());
        }
        Self(Some(span))
    }

    fn context(&self) -> Option<&SpanContext> {
        self.0.as_ref().map(|span| span.span_context())
    }

    /// It has ended, well or with an error of this kind.
    pub(crate) fn ended(&mut self, error: Option<&'static str>) {
        if let Some(span) = &mut self.0 {
            if let Some(kind) = error {
                span.set_attribute(KeyValue::new("error.type", kind));
                span.set_status(Status::error(kind));
            }
            span.end();
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "spans meet the clock here")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{Tracer, TracerProvider};
    use opentelemetry_sdk::trace::SdkTracerProvider;

    use super::*;

    fn edit(provider: &SdkTracerProvider, open: &OpenEdits) -> Traces {
        let tracer = provider.tracer("tests");
        let span = tracer.start("edit");
        let place = open.enter().expect("a place");
        EditSpan::new(tracer, span, place).into()
    }

    #[test]
    fn edits_are_merged_once_each_and_no_more_than_there_is_place_for() {
        let (provider, open) = (SdkTracerProvider::builder().build(), OpenEdits::default());
        let nothing = Traces::default();
        assert!(Traces::merged([&nothing, &nothing]).is_empty());
        let (one, other) = (edit(&provider, &open), edit(&provider, &open));
        let both = Traces::merged([&one, &nothing, &other, &one]);
        assert_eq!(both.spans().len(), 2);
        assert_eq!(Traces::merged([&both, &other]).spans().len(), 2);
        let many: Vec<_> = (0..MAX_TRACED_EDITS + 9)
            .map(|_| edit(&provider, &open))
            .collect();
        assert_eq!(Traces::merged(&many).spans().len(), MAX_TRACED_EDITS);
    }

    #[test]
    fn there_are_only_so_many_open_edits_and_a_place_is_given_back() {
        let open = OpenEdits::default();
        let mut places: Vec<_> = (0..MAX_OPEN_EDITS).filter_map(|_| open.enter()).collect();
        assert_eq!(places.len(), MAX_OPEN_EDITS);
        assert!(open.enter().is_none() && open.enter().is_none());
        places.pop();
        assert!(open.enter().is_some());
        drop(places);
        assert_eq!(open.0.load(Ordering::Relaxed), 0);
    }
}

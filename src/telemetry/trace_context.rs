//! Where spans begin: the tracer, and the span of whoever asks, as W3C Trace Context says it.
//!
//! Whether something is sampled is decided here, once, where it comes in. What is not sampled leaves nothing behind.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use hyper::{HeaderMap, Method, StatusCode};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{
        Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt, TraceId, Tracer,
    },
};
use opentelemetry_sdk::{
    propagation::TraceContextPropagator,
    trace::{SdkTracer, Span},
};
use storage::PageId;

use super::{
    Correlation, RequestId, Traces,
    traces::{EditSpan, OpenEdits},
};

const TRACE_PARENT: &str = "traceparent";
const TRACE_STATE: &str = "tracestate";
/// Longest `tracestate` that is passed on, in bytes: what the standard asks for.
const MAX_TRACE_STATE: usize = 512;

/// Makes spans, if they are wanted at all. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Tracing(Option<Maker>);

/// What makes spans.
#[derive(Clone, Debug)]
struct Maker {
    tracer: SdkTracer,
    open: OpenEdits,
}

impl Tracing {
    pub(super) fn new(tracer: SdkTracer) -> Self {
        let open = OpenEdits::default();
        Self(Some(Maker { tracer, open }))
    }

    /// Where spans of a request with these headers begin; `None` where nothing is traced.
    pub fn arriving(&self, headers: &HeaderMap) -> Option<TraceContext> {
        let maker = self.0.as_ref()?;
        let parent = TraceParent::in_headers(headers);
        Some(TraceContext::new(maker.clone(), parent.map(|parent| parent.0)))
    }
}

/// The span of somebody else, under which ours begin.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceParent(SpanContext);

impl TraceParent {
    /// What `traceparent` and `tracestate` say; `None` when the first is malformed. A second that is too long or malformed is left out.
    pub fn new(parent: &str, state: Option<&str>) -> Option<Self> {
        if !is_well_formed(parent) {
            return None;
        }
        let mut carrier = BTreeMap::from([(TRACE_PARENT, parent)]);
        carrier.extend(
            state
                .filter(|state| state.len() <= MAX_TRACE_STATE)
                .map(|state| (TRACE_STATE, state)),
        );
        let context = TraceContextPropagator::new().extract_with_context(&Context::new(), &Carrier(carrier));
        let span = context.span().span_context().clone();
        span.is_valid().then_some(Self(span))
    }

    /// The same of headers. Two `traceparent`s say nothing.
    fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all(TRACE_PARENT).iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else {
            return None;
        };
        let state = headers.get(TRACE_STATE).and_then(|state| state.to_str().ok());
        Self::new(parent.to_str().ok()?, state)
    }
}

/// Whether it is `VERSION-TRACE-SPAN-FLAGS`, of 2, 32, 16 and 2 digits; a version to come may say more behind a dash.
fn is_well_formed(parent: &str) -> bool {
    const LENGTH: usize = 55;
    let bytes = parent.as_bytes();
    let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let fits = |(place, byte): (usize, &u8)| match place {
        2 | 35 | 52 => *byte == b'-',
        _ => is_digit(byte),
    };
    let ends_well = match bytes.get(LENGTH) {
        None => bytes.len() == LENGTH,
        Some(next) => *next == b'-' && !parent.starts_with("00") && bytes.len() <= MAX_TRACE_STATE,
    };
    ends_well && !parent.starts_with("ff") && bytes.iter().take(LENGTH).enumerate().all(fits)
}

struct Carrier<'a>(BTreeMap<&'static str, &'a str>);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).copied()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().copied().collect()
    }
}

/// Where spans begin that are about one thing: under somebody's span, or as roots. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TraceContext(Arc<Place>);

#[derive(Debug)]
struct Place {
    maker: Maker,
    parent: Context,
    /// Of a parent that is sampled.
    sampled: Option<(TraceId, SpanId)>,
}

impl TraceContext {
    fn new(maker: Maker, parent: Option<SpanContext>) -> Self {
        let ids = |parent: &SpanContext| (parent.trace_id(), parent.span_id());
        let sampled = parent.as_ref().filter(|parent| parent.is_sampled()).map(ids);
        let parent = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        Self(Arc::new(Place {
            maker,
            parent,
            sampled,
        }))
    }

    /// The same under somebody else's span; `None` when that changes nothing.
    pub(super) fn under(&self, parent: &TraceParent) -> Option<Self> {
        let is_known = self.0.parent.span().span_context() == &parent.0;
        (!is_known).then(|| Self::new(self.0.maker.clone(), Some(parent.0.clone())))
    }

    /// The trace and the span, if the parent is sampled.
    pub(super) fn sampled_ids(&self) -> Option<(&TraceId, &SpanId)> {
        self.0.sampled.as_ref().map(|(trace, span)| (trace, span))
    }

    /// Begins the span of an edit, if it is sampled: `message` brings so many bytes for a page.
    pub fn edit(&self, message: &'static str, page: Option<&PageId>, bytes: usize) -> Traces {
        let Place { maker, parent, .. } = &*self.0;
        let builder = SpanBuilder::from_name("edit").with_kind(SpanKind::Server);
        let mut span = maker.tracer.build_with_context(builder, parent);
        if !span.is_recording() {
            return Traces::default();
        }
        let Some(place) = maker.open.enter() else {
            span.set_attribute(KeyValue::new("pageroom.outcome", "not_followed"));
            return Traces::default();
        };
        span.set_attribute(KeyValue::new("pageroom.message", message));
        span.set_attribute(KeyValue::new(
            "pageroom.bytes",
            i64::try_from(bytes).unwrap_or(i64::MAX),
        ));
        if let Some(page) = page {
            span.set_attribute(KeyValue::new("pageroom.page", page.as_str().to_owned()));
        }
        let current = Correlation::current();
        if let Some(connection) = current.as_ref().and_then(Correlation::connection) {
            span.set_attribute(KeyValue::new("pageroom.connection_id", connection.clone()));
        }
        Traces::from(EditSpan::new(maker.tracer.clone(), span, place))
    }

    /// Begins the span of a request, if it is sampled. `route` is a template: what stands in the path itself is not told.
    pub fn request(
        &self,
        method: &Method,
        route: Option<&str>,
        (page, id): (Option<&PageId>, &RequestId),
    ) -> Option<RequestSpan> {
        let Place { maker, parent, .. } = &*self.0;
        let builder = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        let mut span = maker.tracer.build_with_context(builder, parent);
        if !span.is_recording() {
            return None;
        }
        // A method that a stranger makes up would be a name of its own.
        let method = match *method {
            Method::GET
            | Method::POST
            | Method::PUT
            | Method::DELETE
            | Method::PATCH
            | Method::HEAD
            | Method::OPTIONS => method.as_str(),
            _ => "_OTHER",
        };
        span.update_name(match route {
            Some(route) => format!("{method} {route}"),
            None => method.to_owned(),
        });
        span.set_attribute(KeyValue::new("http.request.method", method.to_owned()));
        span.set_attribute(KeyValue::new("pageroom.request_id", id.as_str().to_owned()));
        if let Some(route) = route {
            span.set_attribute(KeyValue::new("http.route", route.to_owned()));
        }
        if let Some(page) = page {
            span.set_attribute(KeyValue::new("pageroom.page", page.as_str().to_owned()));
        }
        let place = Self::new(maker.clone(), Some(span.span_context().clone()));
        Some(RequestSpan { span, place })
    }
}

/// The span of a request that is being answered. It ends when it is dropped.
#[derive(Debug)]
pub struct RequestSpan {
    span: Span,
    place: TraceContext,
}

impl RequestSpan {
    /// Where spans of what is done for the request begin.
    pub fn context(&self) -> TraceContext {
        self.place.clone()
    }

    /// The request was answered.
    pub fn answered(mut self, status: StatusCode) {
        let code = i64::from(status.as_u16());
        self.span
            .set_attribute(KeyValue::new("http.response.status_code", code));
        if status.is_server_error() {
            self.span.set_status(Status::error(status.as_str().to_owned()));
        }
        self.span.end();
    }
}

/// Begins a span under another.
pub(super) fn child(
    tracer: &SdkTracer,
    parent: &SpanContext,
    (name, kind): (&'static str, SpanKind),
    start: SystemTime,
) -> Span {
    let parent = Context::new().with_remote_span_context(parent.clone());
    let builder = SpanBuilder::from_name(name)
        .with_kind(kind)
        .with_start_time(start);
    tracer.build_with_context(builder, &parent)
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider;
    use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};

    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_parent_is_taken_as_the_standard_has_it() {
        let parent = TraceParent::new(PARENT, Some("vendor=1")).expect("well formed").0;
        assert_eq!(parent.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(parent.span_id().to_string(), "b7ad6b7169203331");
        assert!(parent.is_sampled() && parent.is_remote());
        assert_eq!(parent.trace_state().header(), "vendor=1");
        let later = PARENT.replacen("00", "01", 1) + "-more";
        assert!(TraceParent::new(&later, None).is_some(), "a version to come");
        let bad_state = TraceParent::new(PARENT, Some(&"a=".repeat(400)))
            .expect("well formed")
            .0;
        assert_eq!(bad_state.trace_state().header(), "");
    }

    #[test]
    fn what_is_malformed_is_no_parent() {
        let zeros = |from, to| {
            let mut text = PARENT.to_owned();
            text.replace_range(from..to, &"0".repeat(to - from));
            text
        };
        for bad in [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            &format!("{PARENT}-more"),
            &format!("{PARENT} "),
            &PARENT.to_uppercase(),
            &PARENT.replacen("00", "ff", 1),
            &PARENT.replacen('0', "+", 3),
            &PARENT.replace('-', "_"),
            &zeros(3, 35),
            &zeros(36, 52),
            "00-ä",
        ] {
            assert_eq!(TraceParent::new(bad, None), None, "{bad}");
        }
    }

    #[test]
    fn whether_an_edit_is_followed_is_decided_where_it_arrives() {
        let by_parent = |root| Sampler::ParentBased(Box::new(root));
        let unsampled = PARENT.replace("-01", "-00");
        for (sampler, parent, expected) in [
            (by_parent(Sampler::AlwaysOn), None, true),
            (by_parent(Sampler::AlwaysOff), None, false),
            (by_parent(Sampler::AlwaysOff), Some(PARENT), true),
            (by_parent(Sampler::AlwaysOn), Some(&*unsampled), false),
            (Sampler::AlwaysOff, Some(PARENT), false),
            (Sampler::TraceIdRatioBased(0.0), Some(PARENT), false),
        ] {
            let case = format!("{sampler:?} {parent:?}");
            let provider = SdkTracerProvider::builder().with_sampler(sampler).build();
            let mut headers = HeaderMap::new();
            headers.extend(parent.map(|parent| {
                let value = parent.parse().expect("a header");
                (hyper::header::HeaderName::from_static(TRACE_PARENT), value)
            }));
            let place = Tracing::new(provider.tracer("tests")).arriving(&headers);
            let place = place.expect("a tracer");
            assert_eq!(!place.edit("update", None, 1).is_empty(), expected, "{case}");
            let request = place.request(&Method::GET, None, (None, &RequestId::of(None)));
            assert_eq!(request.is_some(), expected, "{case}");
        }
        assert!(Tracing::default().arriving(&HeaderMap::new()).is_none());
        // What goes with an edit that is not followed is one empty word.
        assert_eq!(size_of::<Traces>(), size_of::<usize>());
    }

    #[test]
    fn two_headers_are_no_parent() {
        let mut headers = HeaderMap::new();
        assert_eq!(TraceParent::in_headers(&headers), None);
        let parent = || PARENT.parse().expect("a header");
        headers.append(TRACE_PARENT, parent());
        assert!(TraceParent::in_headers(&headers).is_some());
        headers.append(TRACE_PARENT, parent());
        assert_eq!(TraceParent::in_headers(&headers), None);
    }
}

//! What a request or a connection is called in the log and in traces, known to everything that is done for it.

use std::{fmt, sync::Arc};

use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator};

use super::{TraceContext, TraceParent};

/// The header in which a request brings its id, and in which the answer gives it back.
pub const REQUEST_ID: &str = "x-request-id";

/// Longest id of a request that is taken from whoever makes it, in bytes.
const MAX_REQUEST_ID: usize = 64;

tokio::task_local! {
    static CURRENT: Correlation;
}

/// What a request is called: letters, digits and `-_.`, at most 64 of them. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// The id that a request brought, if it is well formed and short, and otherwise a new one.
    pub fn of(brought: Option<&[u8]>) -> Self {
        let is_plain = |letter: &u8| letter.is_ascii_alphanumeric() || b"-_.".contains(letter);
        let brought = brought
            .filter(|id| (1..=MAX_REQUEST_ID).contains(&id.len()) && id.iter().all(is_plain))
            .and_then(|id| str::from_utf8(id).ok());
        Self(brought.map_or_else(new_id, Arc::from))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Sixteen hexadecimal digits that nothing else has.
fn new_id() -> Arc<str> {
    RandomIdGenerator::default().new_span_id().to_string().into()
}

/// What something is done for: a request, or a connection. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Correlation(Arc<Parts>);

#[derive(Clone, Debug, Default)]
struct Parts {
    request: Option<RequestId>,
    connection: Option<Arc<str>>,
    /// Where spans of what is done for it begin.
    trace: Option<TraceContext>,
    /// The same of a connection that begins with the request: each of its frames is sampled for itself.
    remote: Option<TraceContext>,
}

impl Correlation {
    /// A request. Spans of what is done for it begin under `trace`, and those of a connection that it opens under `remote`.
    pub fn of_request(id: RequestId, trace: Option<TraceContext>, remote: Option<TraceContext>) -> Self {
        Self(Arc::new(Parts {
            request: Some(id),
            connection: None,
            trace,
            remote,
        }))
    }

    /// A connection that begins with what is being done now.
    pub fn of_connection() -> Self {
        let opening = Self::current()
            .map(|current| (*current.0).clone())
            .unwrap_or_default();
        Self(Arc::new(Parts {
            connection: Some(new_id()),
            trace: opening.remote.clone(),
            ..opening
        }))
    }

    /// The same for a part of a connection of which its client says in which trace it is. What is no trace changes nothing.
    #[must_use]
    pub fn in_trace(self, parent: Option<&TraceParent>) -> Self {
        let trace = self.0.trace.as_ref().zip(parent);
        match trace.and_then(|(trace, parent)| trace.under(parent)) {
            Some(trace) => Self(Arc::new(Parts {
                trace: Some(trace),
                ..(*self.0).clone()
            })),
            None => self,
        }
    }

    /// What is being done now, if that is known.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Self::clone).ok()
    }

    /// Does something for it.
    pub fn scope<F: Future>(self, work: F) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self, work)
    }

    /// Where spans of what is done for it begin; `None` where nothing is traced.
    pub fn trace(&self) -> Option<&TraceContext> {
        self.0.trace.as_ref()
    }

    /// What the connection is called.
    pub fn connection(&self) -> Option<&Arc<str>> {
        self.0.connection.as_ref()
    }

    /// The ids with their names, as they stand in the log.
    pub(super) fn ids(&self) -> impl Iterator<Item = (&'static str, &dyn fmt::Display)> {
        let Parts {
            request,
            connection,
            trace,
            ..
        } = &*self.0;
        let request = request
            .as_ref()
            .map(|id| ("request_id", &id.0 as &dyn fmt::Display));
        let connection = connection
            .as_ref()
            .map(|id| ("connection_id", id as &dyn fmt::Display));
        let trace = trace.as_ref().and_then(TraceContext::sampled_ids);
        let trace = trace.map(|(trace, span)| {
            [
                ("trace_id", trace as &dyn fmt::Display),
                ("span_id", span as &dyn fmt::Display),
            ]
        });
        request
            .into_iter()
            .chain(connection)
            .chain(trace.into_iter().flatten())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_taken_if_it_is_well_formed_and_short() {
        let long = [b'a'; MAX_REQUEST_ID + 1];
        let id = |brought: &[u8]| RequestId::of(Some(brought)).as_str().to_owned();
        for good in [
            "a",
            "8f0e-11",
            "req_7.b",
            str::from_utf8(&long[1..]).expect("letters"),
        ] {
            assert_eq!(id(good.as_bytes()), good);
        }
        for bad in [&b""[..], &long, b"a b", b"a\"b", b"a\nb", "ä".as_bytes(), b"\xff"] {
            let made = id(bad);
            assert_eq!(made.len(), 16, "{bad:?} became {made}");
            assert!(made.bytes().all(|letter| letter.is_ascii_hexdigit()));
        }
        assert_ne!(RequestId::of(None), RequestId::of(None));
    }

    #[tokio::test]
    async fn a_connection_keeps_the_request_that_opened_it_and_nothing_is_known_outside() {
        assert!(Correlation::current().is_none());
        let request = Correlation::of_request(RequestId::of(Some(b"r1")), None, None);
        let connection = request.scope(async { Correlation::of_connection() }).await;
        let names: Vec<_> = connection.ids().map(|(name, _)| name).collect();
        assert_eq!(names, ["request_id", "connection_id"]);
        let seen = connection.clone().scope(async { Correlation::current() }).await;
        let seen = seen.expect("a scope");
        assert_eq!(seen.connection(), connection.connection());
    }
}

//! Gives each request an id, which is in its answer and in the log, and a span where that is sampled.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue},
    middleware::Next,
    response::Response,
};

use super::{App, refusals::page_in};
use crate::telemetry::{Correlation, REQUEST_ID, RequestId};

/// The header of the id.
pub(super) const ID_HEADER: HeaderName = HeaderName::from_static(REQUEST_ID);

/// What is asked so often, and says so little, that it is not traced.
const UNTRACED: [&str; 4] = ["/healthz", "/readyz", "/health", "/metrics"];

/// Answers a request as one that has an id.
pub(super) async fn correlate(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = RequestId::of(request.headers().get(ID_HEADER).map(HeaderValue::as_bytes));
    let remote = app.tracing.arriving(request.headers());
    let span = remote.as_ref().and_then(|remote| {
        let route = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str);
        if route.is_some_and(|route| UNTRACED.contains(&route)) {
            return None;
        }
        let page = page_in(request.uri().path());
        remote.request(request.method(), route, (page.as_ref(), &id))
    });
    // What a request does that is not sampled is not sampled either.
    let trace = span.as_ref().map(|span| span.context());
    let correlation = Correlation::of_request(id.clone(), trace, remote);
    let mut answer = correlation.scope(next.run(request)).await;
    if let Ok(id) = HeaderValue::from_str(id.as_str()) {
        answer.headers_mut().insert(ID_HEADER, id);
    }
    if let Some(span) = span {
        span.answered(answer.status());
    }
    answer
}

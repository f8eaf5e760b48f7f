//! `Prefer: return=minimal` (RFC 7240): a change is answered without a body.

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::Response,
};

pub(super) const PREFER: HeaderName = HeaderName::from_static("prefer");
pub(super) const APPLIED: HeaderName = HeaderName::from_static("preference-applied");
const MINIMAL: &str = "return=minimal";

/// Marks an answer whose headers say enough.
#[derive(Clone, Copy)]
pub(super) struct MayBeBrief;

/// Leaves the body out where that is preferred.
pub(super) async fn brief(request: Request, next: Next) -> Response {
    let is_preferred = prefers_minimal(request.headers());
    let mut answer = next.run(request).await;
    let may_be = answer.extensions_mut().remove::<MayBeBrief>().is_some();
    if !may_be || !is_preferred || !answer.status().is_success() {
        return answer;
    }
    *answer.status_mut() = StatusCode::NO_CONTENT;
    *answer.body_mut() = Body::empty();
    let headers = answer.headers_mut();
    headers.remove(header::CONTENT_TYPE);
    headers.remove(header::CONTENT_LENGTH);
    headers.insert(APPLIED, HeaderValue::from_static(MINIMAL));
    answer
}

/// Whether the first preference of how much is returned is as little as can be (RFC 7240 §2: of two the first one counts).
fn prefers_minimal(headers: &HeaderMap) -> bool {
    let preferences = headers.get_all(PREFER).iter();
    let mut preferences = preferences
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    let how = preferences.find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let is_return = name.trim().eq_ignore_ascii_case("return");
        is_return.then(|| value.trim().trim_matches('"').eq_ignore_ascii_case("minimal"))
    });
    how.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_preference_of_a_return_counts() {
        for (values, minimal) in [
            (&[][..], false),
            (&["return=minimal"], true),
            (&["Return = \"Minimal\"; x=1"], true),
            (&["respond-async, return=minimal"], true),
            (&["respond-async", "return=minimal"], true),
            (&["return=representation, return=minimal"], false),
            (&["return"], false),
            (&["handling=minimal"], false),
        ] {
            let values = values
                .iter()
                .map(|value| (PREFER, HeaderValue::from_static(value)));
            assert_eq!(prefers_minimal(&values.clone().collect()), minimal, "{values:?}");
        }
    }
}

//! Notes requests that are refused: a line in the log once a cause and minute, an entry in the audit log, and a number.
//!
//! Who asked is told a code and a sentence, as ever. Whoever runs the server reads what was asked, by whom, and what would allow it.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, Uri, header},
    middleware::Next,
    response::Response,
};
use percent_encoding::{percent_decode_str, utf8_percent_encode};
use storage::PageId;

use super::{
    App,
    error::{accepts_problems, name_problem},
    now,
    y_sweet::UNRESERVED,
};
use crate::{access::Note, auth::complaints, rooms::Refusal};

/// An answer carries the refusal that it comes from to [`note`].
#[derive(Clone)]
pub(super) struct Refused(pub(super) Refusal);

/// Notes it when the answer to a request is a refusal.
pub(super) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str).to_owned();
    let page = page_in(request.uri().path());
    let answered_for = page.as_ref().map(|_| request.uri().clone());
    let address = app.address(&request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let accepts_problems = accepts_problems(request.headers());
    let mut answer = next.run(request).await;
    let Some(Refused(refusal)) = answer.extensions_mut().remove::<Refused>() else {
        return answer;
    };
    if accepts_problems {
        name_problem(&mut answer);
    }
    if let (Some(to), Some(place)) = (&refusal.renamed_to, answered_for) {
        answer.headers_mut().extend(redirect(&place, to));
    }
    let Some(remedy) = complaints::remedy(&refusal, method == Method::GET) else {
        return answer;
    };
    let code = refusal.code.as_str();
    app.around.metrics.refused(code, 1);
    let address = address.map(|address| address.to_string());
    let (page, user) = (page.as_ref().map(PageId::as_str), refusal.user.as_deref());
    app.around.access.audit().note(
        now(),
        Note {
            action: "request",
            outcome: code,
            user,
            page,
            address: address.as_deref(),
            detail: &format!("{method} {path}"),
        },
    );
    // Paths are of ours, methods need not be: so strangers make up no causes.
    if complaints::is_due(format!("{path} {remedy}")) {
        let origin = origin.as_ref().and_then(|origin| origin.to_str().ok());
        tracing::warn!(
            code,
            %method,
            path,
            page = page.map(complaints::shown),
            user = user.map(complaints::shown),
            origin = origin.map(complaints::shown),
            address,
            reason = %refusal.message,
            remedy,
            "a request was refused"
        );
    }
    answer
}

/// Where the same is found of a page that has another id now: relative to what was asked for, because nobody here knows what a proxy has
/// taken away in front of it.
fn redirect(uri: &Uri, to: &PageId) -> Option<(HeaderName, HeaderValue)> {
    let (_, behind) = page_and_rest(uri.path())?;
    let up = "../".repeat(behind.matches('/').count());
    let id = utf8_percent_encode(to.as_str(), UNRESERVED);
    let query = uri.query().map_or(String::new(), |query| format!("?{query}"));
    let place = HeaderValue::try_from(format!("{up}{id}{behind}{query}")).ok()?;
    Some((header::LOCATION, place))
}

/// The page that a path is about.
pub(super) fn page_in(path: &str) -> Option<PageId> {
    page_and_rest(path).map(|(page, _)| page)
}

/// The page that a path is about, and what is behind its id.
fn page_and_rest(path: &str) -> Option<(PageId, &str)> {
    let prefixes = ["/api/pages/", "/doc/", "/d/"];
    let rest = prefixes
        .into_iter()
        .find_map(|prefix| path.strip_prefix(prefix))?;
    let (id, behind) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let id = percent_decode_str(id).decode_utf8().ok()?;
    Some((PageId::new(&id).ok()?, behind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_found_in_every_path_that_is_about_one() {
        for (path, page) in [
            ("/api/pages/a", Some("a")),
            ("/api/pages/team%2Fa/content", Some("team/a")),
            ("/d/a/as-update", Some("a")),
            ("/doc/a/auth", Some("a")),
            ("/api/pages", None),
            ("/api/pages/", None),
            ("/api/pages/%ff", None),
            ("/api/users/ada/block", None),
        ] {
            assert_eq!(page_in(path).as_ref().map(PageId::as_str), page, "{path}");
        }
    }

    #[test]
    fn a_page_that_was_renamed_is_asked_for_again_in_its_place() {
        for (asked, place) in [
            ("/api/pages/a", "team%2Fb"),
            ("/api/pages/a?x=1", "team%2Fb?x=1"),
            (
                "/api/pages/team%2Fa/content?format=text",
                "../team%2Fb/content?format=text",
            ),
            (
                "/api/pages/a/versions/3/restore",
                "../../../team%2Fb/versions/3/restore",
            ),
            ("/doc/a/auth", "../team%2Fb/auth"),
        ] {
            let to = PageId::new("team/b").expect("a page id");
            let (_, value) = redirect(&Uri::from_static(asked), &to).expect("a place");
            assert_eq!(value, place, "{asked}");
        }
    }
}

//! Notes requests that are refused: a line in the log once a cause and minute, an entry in the audit log, and a number.
//!
//! Who asked is told a code and a sentence, as ever. Whoever runs the server reads what was asked, by whom, and what would allow it.

use std::net::IpAddr;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header},
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
use crate::{
    access::{Note, reason_and_origin},
    auth::{complaints, shown_origin},
    rooms::Refusal,
};

/// An answer carries the refusal that it comes from to [`note`].
#[derive(Clone)]
pub(super) struct Refused(pub(super) Refusal);

/// What was asked, as far as whoever runs the server reads of it.
struct Asked {
    method: Method,
    /// The method for which a browser asks if its page may use it, before it does.
    wanted: Option<String>,
    /// The path as it stands in the table of paths.
    path: String,
    page: Option<PageId>,
    address: Option<IpAddr>,
    origin: Option<String>,
}

impl Asked {
    fn by(app: &App, request: &Request) -> Self {
        let path = request.extensions().get::<MatchedPath>();
        Self {
            method: request.method().clone(),
            wanted: wanted(request.method(), request.headers()),
            path: path.map_or("", MatchedPath::as_str).to_owned(),
            page: page_in(request.uri().path()),
            address: app.address(request),
            origin: shown_origin(request.headers()),
        }
    }

    /// Counts a refusal, notes it, and tells it once a cause and minute, if something would allow it.
    fn refused(&self, app: &App, refusal: &Refusal) {
        let Some(remedy) = complaints::remedy(refusal, self.method == Method::GET) else {
            return;
        };
        let Self { path, wanted, .. } = self;
        let method = wanted.as_deref().unwrap_or(self.method.as_str());
        let code = refusal.code.as_str();
        app.around.metrics.refused(code, 1);
        let (page, user) = (self.page.as_ref().map(PageId::as_str), refusal.user.as_deref());
        let address = self.address.map(|address| address.to_string());
        let (address, origin) = (address.as_deref(), self.origin.as_deref());
        let kind = if wanted.is_some() { "preflight for " } else { "" };
        let reason = reason_and_origin(refusal, origin);
        app.around.access.audit().note(
            now(),
            Note {
                action: "request",
                outcome: code,
                user,
                page,
                address,
                detail: &format!("{kind}{method} {path}: {reason}"),
            },
        );
        // Paths are of ours, methods need not be: so strangers make up no causes.
        if complaints::is_refusal_due(path, origin, refusal) {
            tracing::warn!(
                code,
                method,
                path,
                page = page.map(complaints::shown),
                user = user.map(complaints::shown),
                origin,
                address,
                is_preflight = wanted.is_some(),
                reason = %refusal.message,
                remedy,
                "a request was refused"
            );
        }
    }
}

/// The method for which a preflight request asks.
fn wanted(method: &Method, headers: &HeaderMap) -> Option<String> {
    let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
    (method == Method::OPTIONS).then(|| complaints::shown(&String::from_utf8_lossy(wanted.as_bytes())))
}

/// Notes it when the answer to a request is a refusal, or when a browser finds none in the answer that would allow its page to make one.
pub(super) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    let asked = Asked::by(&app, &request);
    if asked.wanted.is_some() {
        let origins = &app.around.access.authenticator().origins;
        if let Err(refusal) = origins.check_preflight(request.headers()) {
            asked.refused(&app, &refusal);
        }
        return next.run(request).await;
    }
    let answered_for = asked.page.as_ref().map(|_| request.uri().clone());
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
    asked.refused(&app, &refusal);
    answer
}

/// The same of requests of the bridge, whose answers have forms of their own.
pub(super) async fn note_of_backend(State(app): State<App>, request: Request, next: Next) -> Response {
    let asked = Asked::by(&app, &request);
    let mut answer = next.run(request).await;
    if let Some(Refused(refusal)) = answer.extensions_mut().remove::<Refused>() {
        asked.refused(&app, &refusal);
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

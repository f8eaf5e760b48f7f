//! Notes requests that are refused: a line in the log once a cause and minute, an entry in the audit log, and a number.
//!
//! Who asked is told a code and a sentence, as ever. Whoever runs the server reads what was asked, by whom, and what would allow it.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, header},
    middleware::Next,
    response::Response,
};
use percent_encoding::percent_decode_str;
use storage::PageId;

use super::{
    App,
    error::{accepts_problems, name_problem},
    now,
};
use crate::{
    access::Note,
    auth::complaints,
    rooms::{Refusal, RefusalCode},
};

/// An answer carries the refusal that it comes from to [`note`].
#[derive(Clone)]
pub(super) struct Refused(pub(super) Refusal);

/// Notes it when the answer to a request is a refusal.
pub(super) async fn note(State(app): State<App>, request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str).to_owned();
    let page = page_in(request.uri().path());
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
    let Some(remedy) = remedy(refusal.code, &method) else {
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
    // Paths are of ours: strangers make up no causes.
    if complaints::is_due_of_stranger(&format!("{code} {method} {path}")) {
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

/// What would allow it; `None` for what is wrong with the request itself.
fn remedy(code: RefusalCode, method: &Method) -> Option<&'static str> {
    let reads = method == Method::GET;
    match code {
        RefusalCode::Unauthenticated => Some(
            "send PAGEROOM_ADMIN_TOKEN or a user's token as `Authorization: Bearer`; a browser's origin must be in CORS_ORIGIN",
        ),
        RefusalCode::TokenExpired => Some("fetch a fresh token before the old one ends"),
        RefusalCode::TokenRevoked => Some("the user was signed out: mint a new token"),
        RefusalCode::Forbidden if reads => Some(
            "give the user a role on the page, in the token (`pages`) or another source of PAGEROOM_ACCESS; what is for backends needs \
             PAGEROOM_ADMIN_TOKEN",
        ),
        RefusalCode::Forbidden | RefusalCode::ReadOnly => Some(
            "give the user the role `edit` on the page, or `admin` to manage it; what is for backends needs PAGEROOM_ADMIN_TOKEN",
        ),
        RefusalCode::RateLimited => {
            Some("PAGEROOM_MAX_REQUESTS_PER_SECOND and PAGEROOM_MAX_REQUESTS_BURST allow more")
        }
        RefusalCode::PageDeleted
        | RefusalCode::RoomFull
        | RefusalCode::TooLarge
        | RefusalCode::Malformed
        | RefusalCode::NotFound
        | RefusalCode::Conflict
        | RefusalCode::Unavailable
        | RefusalCode::Draining
        | RefusalCode::Internal => None,
    }
}

/// The page that a path is about.
fn page_in(path: &str) -> Option<PageId> {
    let prefixes = ["/api/pages/", "/doc/", "/d/"];
    let rest = prefixes
        .into_iter()
        .find_map(|prefix| path.strip_prefix(prefix))?;
    let id = percent_decode_str(rest.split('/').next()?).decode_utf8().ok()?;
    PageId::new(&id).ok()
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
}

//! The page at `/admin`: static files that know nothing. What it shows comes from REST, under the token that somebody types in.

use axum::{
    Router,
    extract::State,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use super::AdminPage;
use crate::http::{App, demo::file, error};

/// Nothing comes from elsewhere, no script or style stands in the page, and no text ever becomes markup: scripts that would make some of it
/// are stopped by the browser.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
);
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// The paths of the page.
pub(in crate::http) fn routes() -> Router<App> {
    Router::new()
        .route("/admin", get(index))
        .route("/admin/", get(without_slash))
}

/// The page; without a token of the backend, one that says which setting is missing.
async fn index(State(app): State<App>) -> Response {
    let name = match app.administration.page() {
        AdminPage::On => "admin.html",
        AdminPage::WithoutToken => "admin-off.html",
        AdminPage::Off => return error::not_found().await.into_response(),
    };
    match file(name, REVALIDATE, POLICY) {
        Some(page) => page,
        None => error::not_found().await.into_response(),
    }
}

/// `/admin/`, from where the page would not find its scripts.
async fn without_slash() -> (StatusCode, [(HeaderName, HeaderValue); 1]) {
    let place = [(header::LOCATION, HeaderValue::from_static("../admin"))];
    (StatusCode::PERMANENT_REDIRECT, place)
}

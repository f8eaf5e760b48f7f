//! The pages that the server itself shows, the demo editor and the one for administration: built front-end assets, embedded in the binary.

use axum::{
    extract::{Path, rejection::PathRejection},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::{HttpError, error};

#[derive(RustEmbed)]
#[folder = "src/http/demo/dist/"]
struct Built;

/// Names of built assets carry a hash of their content, so a copy is good for ever.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// The one asset whose name says nothing of its content.
const LICENSES: &str = "licenses.txt";
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");
/// Nothing comes from elsewhere. Editors set styles on elements, hence the exception for styles.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'self'; connect-src 'self' ws: wss:; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
     font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
);

/// The page itself.
pub(super) async fn index() -> Response {
    serve("index.html", REVALIDATE).await
}

/// A script, style sheet or font of either page.
pub(super) async fn asset(file: Result<Path<String>, PathRejection>) -> Response {
    match file {
        Ok(Path(file)) => {
            let caching = if file == LICENSES { REVALIDATE } else { FOR_EVER };
            serve(&format!("assets/{file}"), caching).await
        }
        Err(rejection) => HttpError::from(rejection).into_response(),
    }
}

async fn serve(path: &str, caching: HeaderValue) -> Response {
    match file(path, caching, POLICY) {
        Some(file) => file,
        None => HttpError::into_response(error::not_found().await),
    }
}

/// A built file, with the policy that browsers are to hold it to.
pub(super) fn file(path: &str, caching: HeaderValue, policy: HeaderValue) -> Option<Response> {
    let EmbeddedFile { data, metadata } = Built::get(path)?;
    let kind = HeaderValue::from_str(metadata.mimetype())
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    let headers: [(HeaderName, HeaderValue); 5] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, caching),
        (header::CONTENT_SECURITY_POLICY, policy),
        (
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    Some((headers, data).into_response())
}

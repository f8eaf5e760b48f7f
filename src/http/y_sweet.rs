//! y-sweet's addresses: documents and tokens for its SDK, and the WebSocket for its client.
//!
//! | request | who may | answer |
//! |---|---|---|
//! | `GET /ready` | everybody | `{"ok":true}` |
//! | `POST /check_store` | the backend | `{"ok":true}`, or `{"ok":false,"error"}` |
//! | `POST /doc/new` `{docId?}` | the backend | `{docId}` |
//! | `POST /doc/{id}/auth` `{authorization?,userId?,validForSeconds?}` | the backend | `{url,baseUrl,docId,token?,authorization}` |
//! | `GET /d/{id}/as-update` | who may view | the page as one update |
//! | `POST /d/{id}/update` | who may edit | nothing, when it is stored |
//! | `WS /d/{id}/ws/{id}` | who may view | the y-sweet dialect |
//!
//! Tokens are JSON Web Tokens for one page, signed with the secret. Where everybody is a guest, guests may do what the backend may,
//! and get no tokens, because they need none. Addresses under `/doc/` are older names of those under `/d/`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{
    Json,
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use socketioxide_core::Sid;
use storage::PageId;
use utoipa::ToSchema;

use super::{
    App, HttpError,
    body::{AsObject, UnreadBody},
    error, now,
    openapi::{
        parameters::{PageName, YjsUpdate},
        refusals::{Asking, Changing, Conflicting, Defect, Reading, Sending},
    },
    pages, socket,
    whole::maybe_whole,
};
use crate::{
    auth::{Claims, Kind, NumericDate, Reached, is_trusted},
    connections::{Peer, Spoken},
    protocols::y_sweet::YSweet,
    rooms::{Refusal, RefusalCode, Role},
};

/// How long a token lasts when nothing else is asked for, and at most.
const DEFAULT_VALIDITY: Duration = Duration::from_secs(60 * 60);
const MAX_VALIDITY: Duration = Duration::from_secs(60 * 60 * 24 * 366);
/// What an id in an address is written without.
pub(super) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
/// Largest body of a question, in bytes.
const MAX_QUESTION_BYTES: usize = 64 * 1024;

/// Whether something works.
#[derive(Serialize, ToSchema)]
pub(super) struct Works {
    ok: bool,
    /// Why it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<&'static str>,
}

/// Says whether the server can do its work.
#[utoipa::path(
    get,
    path = "/ready",
    operation_id = "ySweetReady",
    tag = "y-sweet",
    security(()),
    responses(
        (status = 200, description = "It can", body = Works),
        (status = 503, description = "It cannot now", body = Works),
        Defect,
    ),
)]
pub(super) async fn ready(State(app): State<App>) -> (StatusCode, Json<Works>) {
    let ok = super::health::problem(&app).await.is_none();
    let status = match ok {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (status, Json(Works { ok, error: None }))
}

/// Says whether the store works.
#[utoipa::path(
    post,
    path = "/check_store",
    operation_id = "ySweetCheckStore",
    tag = "y-sweet",
    responses((status = 200, description = "Whether it does", body = Works), Asking),
)]
pub(super) async fn check_store(
    State(app): State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Works>, HttpError> {
    asker(&app, &headers, &uri).await?;
    let error = super::health::problem(&app).await;
    let ok = error.is_none();
    Ok(Json(Works { ok, error }))
}

/// Says whether the store works.
#[utoipa::path(
    get,
    path = "/check_store",
    operation_id = "ySweetGetStore",
    tag = "y-sweet",
    responses((status = 200, description = "Whether it does", body = Works), Asking),
)]
pub(super) async fn get_store(
    app: State<App>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Json<Works>, HttpError> {
    check_store(app, headers, uri).await
}

/// Who asks for documents and tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asker {
    Backend,
    /// A guest of the open mode, who may edit everything anyway.
    Guest,
}

async fn asker(app: &App, headers: &HeaderMap, uri: &Uri) -> Result<Asker, HttpError> {
    match app.identify(headers, uri).await?.kind {
        Kind::Backend => Ok(Asker::Backend),
        Kind::Guest => Ok(Asker::Guest),
        Kind::User => Err(HttpError::forbidden("only the backend may do this")),
    }
}

/// What is wanted at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    New,
    Auth,
    AsUpdate,
    Update,
    Socket,
}

/// Reads the path behind `/d/` or `/doc/`. Ids may have slashes; the id of a WebSocket is there twice, which says where it ends.
fn read_path(path: &str) -> Option<(Wanted, Result<PageId, Refusal>)> {
    let rest = path.strip_prefix("/doc/").or_else(|| path.strip_prefix("/d/"))?;
    if path == "/doc/new" {
        return Some((Wanted::New, Err(Refusal::malformed("the id is in the body"))));
    }
    let twice = rest.match_indices("/ws/").find_map(|(at, separator)| {
        let (first, second) = (rest.get(..at)?, rest.get(at + separator.len()..)?);
        // Clients write it into the address in their own way.
        let same = percent_decode_str(first).eq(percent_decode_str(second));
        same.then_some(first)
    });
    if let Some(id) = twice {
        return Some((Wanted::Socket, page(id)));
    }
    for (ending, wanted) in [
        ("/auth", Wanted::Auth),
        ("/as-update", Wanted::AsUpdate),
        ("/update", Wanted::Update),
    ] {
        if let Some(id) = rest.strip_suffix(ending) {
            return Some((wanted, page(id)));
        }
    }
    if let Some(id) = rest.strip_prefix("ws/") {
        return Some((Wanted::Socket, page(id)));
    }
    let mismatch = Refusal::malformed("the two ids in the address differ");
    rest.contains("/ws/").then_some((Wanted::Socket, Err(mismatch)))
}

/// The page of an id in an address, percent-decoded exactly once.
fn page(encoded: &str) -> Result<PageId, Refusal> {
    let id = percent_decode_str(encoded)
        .decode_utf8()
        .map_err(|_| Refusal::malformed("the page id is not UTF-8"))?;
    PageId::new(&id).map_err(|error| Refusal::malformed(error.to_string()))
}

/// Everything under `/d/` and `/doc/`.
pub(super) async fn serve(State(app): State<App>, request: Request) -> Response {
    let Some((wanted, page)) = read_path(request.uri().path()) else {
        return error::not_found().await.into_response();
    };
    // Sockets count as arrivals.
    if wanted != Wanted::Socket
        && let Err(refusal) = app.count(&request)
    {
        return refusal.into_response();
    }
    let answer = match (wanted, request.method()) {
        (Wanted::Socket, &Method::GET) => {
            return socket::serve::<YSweet>(&app, Spoken::YSweet, request, page).await;
        }
        (Wanted::New, &Method::POST) => new(&app, request).await.map(IntoResponse::into_response),
        (Wanted::Auth, &Method::POST) => auth(&app, request, page).await.map(IntoResponse::into_response),
        (Wanted::AsUpdate, &Method::GET | &Method::HEAD) => as_update(&app, request, page).await,
        (Wanted::Update, &Method::POST) => update(&app, request, page).await,
        (Wanted::Socket | Wanted::AsUpdate, _) => return no_such_method("GET,HEAD").await,
        (Wanted::New | Wanted::Auth | Wanted::Update, _) => return no_such_method("POST").await,
    };
    answer.unwrap_or_else(IntoResponse::into_response)
}

/// Answers for methods that an address does not have, which has `allowed`.
async fn no_such_method(allowed: &'static str) -> Response {
    let mut answer = error::no_such_method().await;
    let allowed = HeaderValue::from_static(allowed);
    answer.headers_mut().insert(header::ALLOW, allowed);
    answer
}

/// Reads a question, which may be left out.
async fn question<T: DeserializeOwned + Default>(body: Body) -> Result<T, HttpError> {
    let body = axum::body::to_bytes(body, MAX_QUESTION_BYTES)
        .await
        .map_err(|_| Refusal::too_large("the body is over the limit"))?;
    if body.is_empty() {
        return Ok(T::default());
    }
    // Some programs send `null` for nothing.
    let read = serde_json::from_slice::<Option<AsObject<T>>>(&body);
    let read = read.map_err(|error| Refusal::malformed(error.to_string()))?;
    Ok(read.map(|AsObject(read)| read).unwrap_or_default())
}

#[derive(Default, Deserialize, ToSchema)]
struct NewDocument {
    /// The id that is wanted. When it is not said, one that nobody guesses.
    #[serde(rename = "docId")]
    #[schema(value_type = Option<PageName>)]
    id: Option<String>,
}

/// The id of a page.
#[derive(Serialize, ToSchema)]
pub(super) struct NamedDocument {
    #[serde(rename = "docId")]
    id: String,
}

/// Gives a name for a page, which comes into being at its first edit.
///
/// A body has at most 64 KiB, and may be left out.
#[utoipa::path(
    post,
    path = "/doc/new",
    operation_id = "ySweetNewDocument",
    tag = "y-sweet",
    request_body = Option<NewDocument>,
    responses((status = 200, description = "The name", body = NamedDocument), Sending),
)]
pub(super) async fn new(app: &App, request: Request) -> Result<Json<NamedDocument>, HttpError> {
    asker(app, request.headers(), request.uri()).await?;
    let asked: NewDocument = question(request.into_body()).await?;
    let id = asked.id.unwrap_or_else(unguessable);
    let page = PageId::new(&id)?;
    let id = page.as_str().to_owned();
    Ok(Json(NamedDocument { id }))
}

/// A name that nobody guesses: 120 random bits.
fn unguessable() -> String {
    let half = || Sid::new().to_string();
    let (first, second) = (half(), half());
    format!("{first}{}", second.get(..4).unwrap_or_default())
}

#[derive(Default, Deserialize, ToSchema)]
struct TokenRequest {
    /// `full` when it is not said.
    authorization: Option<Authorization>,
    /// Whose token it is. When it is not said, somebody's who is nobody else.
    #[serde(rename = "userId")]
    user: Option<String>,
    /// How long the token lasts, in seconds: an hour when it is not said, 366 days at most.
    #[serde(rename = "validForSeconds")]
    #[serde(default, deserialize_with = "maybe_whole")]
    seconds: Option<u64>,
}

/// What a client may do with a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
enum Authorization {
    #[default]
    Full,
    ReadOnly,
}

impl Authorization {
    fn role(self) -> Role {
        match self {
            Self::Full => Role::Edit,
            Self::ReadOnly => Role::View,
        }
    }
}

/// Where a client connects, and with which token.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct ClientToken {
    /// The address of the WebSocket, without the id of the page at its end.
    url: String,
    base_url: String,
    doc_id: String,
    authorization: Authorization,
    /// Left out where none is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    token: Option<String>,
}

/// Says where a client connects, and with which token.
///
/// A body has at most 64 KiB, and may be left out.
#[utoipa::path(
    post,
    path = "/doc/{id}/auth",
    operation_id = "ySweetAuth",
    tag = "y-sweet",
    params(("id" = PageName, Path)),
    request_body = Option<TokenRequest>,
    responses((status = 200, description = "Where, and the token", body = ClientToken), Conflicting, Sending),
)]
pub(super) async fn auth(
    app: &App,
    request: Request,
    page: Result<PageId, Refusal>,
) -> Result<Json<ClientToken>, HttpError> {
    let asker = asker(app, request.headers(), request.uri()).await?;
    let page = page?;
    let host = host(app, &request);
    let asked: TokenRequest = question(request.into_body()).await?;
    let authorization = asked.authorization.unwrap_or_default();
    let token = token(app, asker, &page, authorization, asked)?;
    let (scheme, host) = host?;
    let id = utf8_percent_encode(page.as_str(), UNRESERVED);
    let secure = if scheme == "https" { "s" } else { "" };
    Ok(Json(ClientToken {
        url: format!("ws{secure}://{host}/d/{id}/ws"),
        base_url: format!("http{secure}://{host}/d/{id}"),
        doc_id: page.as_str().to_owned(),
        authorization,
        token,
    }))
}

/// Where clients reach the server that was reached by this request: with which scheme, under which name and prefix.
fn host(app: &App, request: &Request) -> Result<(&'static str, String), HttpError> {
    if let Some(public) = &app.public_url {
        return Ok((public.scheme, public.place.clone()));
    }
    let text = |name: &str| request.headers().get(name)?.to_str().ok();
    let peer = request.extensions().get::<Peer>().map(|peer| peer.0.ip());
    // Somebody's word about how it was reached counts as its word about whom it serves does.
    let is_trusted = peer.is_some_and(|peer| is_trusted(peer, &app.trusted_proxies));
    let reached = match is_trusted {
        true => Reached::told(request.headers()),
        false => Reached::default(),
    };
    let host = reached.host.or_else(|| text("host").map(str::to_owned));
    let host = host.ok_or_else(|| Refusal::malformed("the request names no host"))?;
    let scheme = if reached.is_secure { "https" } else { "http" };
    Ok((scheme, format!("{host}{}", reached.prefix)))
}

/// A token for one page; `None` where none is needed.
fn token(
    app: &App,
    asker: Asker,
    page: &PageId,
    authorization: Authorization,
    asked: TokenRequest,
) -> Result<Option<String>, HttpError> {
    let authenticator = app.around.access.authenticator();
    if page.as_str().ends_with('*') {
        return Err(
            Refusal::malformed("a token for an id that ends with `*` would be one for many pages").into(),
        );
    }
    let no_secret = || Refusal::new(RefusalCode::Conflict, "JWT_SECRET is needed to sign tokens with");
    if asker == Asker::Guest || (authenticator.open && !authenticator.keys.can_sign()) {
        return match authorization {
            Authorization::Full => Ok(None),
            Authorization::ReadOnly => Err(no_secret().into()),
        };
    }
    let validity = asked.seconds.map_or(DEFAULT_VALIDITY, Duration::from_secs);
    let issued = now();
    let seconds = |time: SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        NumericDate(since.as_secs())
    };
    let role = authorization.role().as_str().to_owned();
    let claims = Claims {
        // Whoever has no name is somebody else than all others without one.
        sub: Some(
            asked
                .user
                .unwrap_or_else(|| format!("anonymous-{}", unguessable())),
        ),
        pages: [(page.as_str().to_owned(), role)].into(),
        exp: Some(seconds(issued + validity.min(MAX_VALIDITY))),
        iat: Some(seconds(issued)),
        ..Claims::default()
    };
    let signed = authenticator.keys.sign(claims).ok_or_else(no_secret)?;
    let unsigned = |_| Refusal::new(RefusalCode::Internal, "the token could not be signed");
    Ok(Some(signed.map_err(unsigned)?))
}

/// Reads a page as one update of Yjs (v1), which is empty when there is nothing.
#[utoipa::path(
    get,
    path = "/d/{id}/as-update",
    operation_id = "ySweetAsUpdate",
    tag = "y-sweet",
    params(("id" = PageName, Path)),
    responses(
        (status = 200, description = "The update", body = YjsUpdate, content_type = "application/octet-stream"),
        Reading,
    ),
)]
pub(super) async fn as_update(
    app: &App,
    request: Request,
    page: Result<PageId, Refusal>,
) -> Result<Response, HttpError> {
    let page = page?;
    app.allow(request.headers(), request.uri(), &page, Role::View)
        .await?;
    let update = pages::whole(app, &page).await?;
    Ok(([(header::CONTENT_TYPE, "application/octet-stream")], update).into_response())
}

/// Adds an update of Yjs (v1), and answers when it is stored.
#[utoipa::path(
    post,
    path = "/d/{id}/update",
    operation_id = "ySweetUpdate",
    tag = "y-sweet",
    params(("id" = PageName, Path)),
    request_body(content = YjsUpdate, content_type = "application/octet-stream", description = "One update. The media type is not looked at"),
    responses((status = 200, description = "It is stored"), Changing),
)]
pub(super) async fn update(
    app: &App,
    request: Request,
    page: Result<PageId, Refusal>,
) -> Result<Response, HttpError> {
    let page = page?;
    let (headers, uri) = (request.headers().clone(), request.uri().clone());
    pages::add_update(app, &page, &headers, &uri, UnreadBody::of(request)).await?;
    Ok(StatusCode::OK.into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &str) -> Option<(Wanted, Option<String>)> {
        let (wanted, page) = read_path(path)?;
        Some((wanted, page.ok().map(|page| page.as_str().to_owned())))
    }

    #[test]
    fn addresses_are_read_as_clients_write_them() {
        for (path, wanted, page) in [
            ("/doc/new", Wanted::New, None),
            ("/doc/a/auth", Wanted::Auth, Some("a")),
            ("/doc/team/notes/auth", Wanted::Auth, Some("team/notes")),
            ("/d/a%2Fb/as-update", Wanted::AsUpdate, Some("a/b")),
            ("/doc/a/as-update", Wanted::AsUpdate, Some("a")),
            ("/d/a%252Fb/update", Wanted::Update, Some("a%2Fb")),
            ("/d/a/ws/a", Wanted::Socket, Some("a")),
            ("/d/a%2Fb/ws/a/b", Wanted::Socket, Some("a/b")),
            ("/d/a/ws/b/ws/a/ws/b", Wanted::Socket, Some("a/ws/b")),
            ("/d/%C3%A4/ws/%c3%a4", Wanted::Socket, Some("ä")),
            ("/d/x/auth/ws/x/auth", Wanted::Socket, Some("x/auth")),
            ("/d/a/ws/b", Wanted::Socket, None),
            ("/doc/ws/a", Wanted::Socket, Some("a")),
            ("/d/a%00/update", Wanted::Update, None),
            ("/d/%2e%2e/ws/..", Wanted::Socket, None),
        ] {
            assert_eq!(read(path), Some((wanted, page.map(str::to_owned))), "{path}");
        }
        for path in ["/d/a", "/d/a/ws", "/doc/a/other", "/x/a/update"] {
            assert_eq!(read(path), None, "{path}");
        }
    }
}

//! WebSocket handshakes: the answer, and the socket behind it.

use axum::http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::{PatientStream, frames::FrameSocket};

/// The request is no WebSocket handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this address speaks WebSocket: connect with a WebSocket client")]
pub struct NotAHandshake;

/// Answers a WebSocket handshake: the response, and the connection once it has been sent. `protocol` is the subprotocol to
/// choose; a browser that offered some fails the connection unless one is chosen.
pub fn upgrade<B>(
    request: &mut Request<B>,
    protocol: Option<&str>,
) -> Result<(Response<()>, OnUpgrade), NotAHandshake> {
    let accept = accept_key(request.method(), request.version(), request.headers()).ok_or(NotAHandshake)?;
    let on_upgrade = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or(NotAHandshake)?;
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::from_str(protocol).ok()) {
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol);
    }
    Ok((response, on_upgrade))
}

fn accept_key(method: &Method, version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let lists = |name, token: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .any(|value| {
                value
                    .split(',')
                    .any(|item| item.trim().eq_ignore_ascii_case(token))
            })
    };
    let is_handshake = method == Method::GET
        && version == Version::HTTP_11
        && lists(header::CONNECTION, "upgrade")
        && lists(header::UPGRADE, "websocket")
        && headers
            .get(header::SEC_WEBSOCKET_VERSION)
            .is_some_and(|version| version == "13");
    let key = headers.get(header::SEC_WEBSOCKET_KEY).filter(|_| is_handshake)?;
    HeaderValue::from_str(&derive_accept_key(key.as_bytes())).ok()
}

/// The socket of an accepted handshake. `None` when the peer went away meanwhile.
pub(super) async fn accepted(on_upgrade: OnUpgrade, max_message_bytes: usize) -> Option<FrameSocket> {
    // The buffers of the HTTP connection end here; what it has read already is handed on.
    let parts = on_upgrade.await.ok()?.downcast::<TokioIo<PatientStream>>().ok()?;
    Some(FrameSocket::new(
        parts.io.into_inner().into_inner(),
        parts.read_buf,
        max_message_bytes,
    ))
}

//! One HTTP connection: how long is waited for its peer, and when it ends.

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::Request,
    http::{
        StatusCode,
        header::{CONNECTION, HeaderValue},
    },
    response::IntoResponse,
};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::TimedBody;
use crate::{
    auth::forget_claims,
    connections::{FIRST_REQUEST, PatientStream, Peer, Silent},
};

/// Buffer for the head of a request, in bytes.
const MAX_HEAD_BYTES: usize = 32 * 1024;

/// How long is waited for a peer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// For the body of a request.
    pub(crate) body: Duration,
    /// For it to take something of an answer.
    pub(crate) stall: Duration,
    /// For the head of a request, which is also how long a connection stays open between two of them.
    pub(crate) head: Duration,
}

/// Answers what is asked on a connection until it ends, gives way, or `hang_up` is cancelled.
pub(crate) async fn serve(
    router: Router,
    (stream, peer, is_proxy): (PatientStream, SocketAddr, bool),
    silent: Silent,
    patience: Patience,
    hang_up: CancellationToken,
) {
    let silent = Arc::new(silent);
    let asked = silent.clone();
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let router = router.clone();
        let (asked, is_in_time) = (asked.clone(), asked.ask());
        async move {
            if !is_in_time {
                return Ok::<_, Infallible>(StatusCode::SERVICE_UNAVAILABLE.into_response());
            }
            // What is appended comes as it is written, and is read by a clock of its own.
            let limit = match request.uri().path().ends_with("/append") {
                true => Duration::ZERO,
                false => patience.body,
            };
            let mut request: Request = request.map(|stream| Body::new(TimedBody::new(stream, limit)));
            request.extensions_mut().insert(Peer(peer));
            if !is_proxy {
                forget_claims(request.headers_mut());
            }
            let mut answer = router.oneshot(request).await?;
            // The few places beyond the limit are for all who ask something.
            if asked.is_spare() && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                answer
                    .headers_mut()
                    .insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(patience.head)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let first_request = match is_proxy {
        true => patience.head,
        false => FIRST_REQUEST,
    };
    tokio::pin!(connection);
    tokio::select! {
        // Errors of a peer that goes away or sends nonsense are its own.
        _ = connection.as_mut() => {}
        // Between requests a connection may stay open; one on which nothing is asked holds a place for nothing.
        () = silent.is_given_up(first_request) => {}
        () = hang_up.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

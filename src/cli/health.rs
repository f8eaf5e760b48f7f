//! `pageroom health`: asks a running server whether it can do its work, for containers and scripts.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use axum::http::{Request, StatusCode};
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

use crate::config::own_address;

/// As much of an answer is shown, in bytes.
const MAX_SHOWN_BYTES: usize = 1024;

/// Whom to ask.
#[derive(Args, Debug)]
pub(super) struct HealthArgs {
    /// Where the server listens; of one that listens on all addresses the loopback address is asked.
    #[arg(long, env = "HOST", default_value = "127.0.0.1", value_name = "ADDRESS", value_parser = own_address)]
    host: IpAddr,
    /// On which port.
    #[arg(long, env = "PORT", default_value_t = 3001)]
    port: u16,
    /// Ask only whether it is alive (`/healthz`), not whether it can serve (`/readyz`).
    #[arg(long)]
    alive: bool,
    /// How long it may take.
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    timeout_seconds: u64,
}

/// Why a server is not well.
#[derive(Debug, thiserror::Error)]
pub(super) enum HealthError {
    #[error("no server answers at {address}: {source}")]
    Connect {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("the server at {address} does not answer within {limit:?}")]
    Late { address: SocketAddr, limit: Duration },
    #[error("the server at {0} is not understood: {1}")]
    Exchange(SocketAddr, hyper::Error),
    #[error("the server at {address} answers {status}: {said}")]
    Unwell {
        address: SocketAddr,
        status: StatusCode,
        said: String,
    },
}

/// Succeeds when the server is well.
pub(super) async fn run(args: &HealthArgs) -> Result<(), HealthError> {
    let address = SocketAddr::new(reachable(args.host), args.port);
    let limit = Duration::from_secs(args.timeout_seconds);
    let asking = ask(address, if args.alive { "/healthz" } else { "/readyz" });
    let asked = timeout(limit, asking).await;
    asked.unwrap_or(Err(HealthError::Late { address, limit }))
}

async fn ask(address: SocketAddr, path: &str) -> Result<(), HealthError> {
    let connected = TcpStream::connect(address).await;
    let stream = connected.map_err(|source| HealthError::Connect { address, source })?;
    let exchange = |error| HealthError::Exchange(address, error);
    let (mut requests, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(exchange)?;
    tokio::spawn(connection);
    let mut request = Request::new(Empty::<Bytes>::new());
    // These are always ones.
    *request.uri_mut() = path.parse().unwrap_or_default();
    if let Ok(host) = address.to_string().parse() {
        request.headers_mut().insert(hyper::header::HOST, host);
    }
    let answer = requests.send_request(request).await.map_err(exchange)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(());
    }
    let body = Limited::new(answer.into_body(), MAX_SHOWN_BYTES).collect().await;
    let said = body.map(|body| String::from_utf8_lossy(&body.to_bytes()).into_owned());
    Err(HealthError::Unwell {
        address,
        status,
        said: said.unwrap_or_default(),
    })
}

/// Nobody can be asked at "all addresses".
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        IpAddr::V4(_) | IpAddr::V6(_) => host,
    }
}

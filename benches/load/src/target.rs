//! The server under load: where it is, and how a client opens a page on it.

use std::net::SocketAddr;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use thiserror::Error;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::{
    handshake::{client::generate_key, derive_accept_key},
    http::{HeaderName, Uri, header},
};

use super::process::Process;

/// A reply to the opening request that is longer than this is not one.
const REPLY_BYTES_MAX: usize = 16 << 10;
/// What may stand in a path segment as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');

/// Why the run cannot be pointed at an address.
#[derive(Debug, Error)]
pub enum TargetError {
    /// Not an address of the form `ws://HOST:PORT/PATH`.
    #[error("{url} is no address of the form ws://HOST:PORT/PATH")]
    Address {
        /// What was given.
        url: String,
    },
    /// The host has no address.
    #[error("the host of {url} cannot be found")]
    Host {
        /// What was given.
        url: String,
        /// Why.
        source: std::io::Error,
    },
    /// Not this machine.
    #[error(
        "{url} is not on this machine; a load run can take a server down, so say --allow-remote if you may do that"
    )]
    Remote {
        /// What was given.
        url: String,
    },
    /// No process with the given id.
    #[error("there is no process {0} here that can be measured")]
    Process(u32),
}

/// Why a page could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The connection failed.
    #[error("no connection: {0}")]
    Socket(#[from] std::io::Error),
    /// The server answered something else than a WebSocket.
    #[error("the server refused the WebSocket: {status}")]
    Refused {
        /// The first line of its reply.
        status: String,
    },
    /// The reply is too long or wrongly signed.
    #[error("the reply to the opening request is no WebSocket handshake")]
    Handshake,
}

/// The server under load.
#[derive(Clone, Debug)]
pub(super) struct Target {
    address: SocketAddr,
    host: String,
    path: String,
    token: Option<String>,
    /// It only copies frames: it never sends a sync step 2, and never an author's own edit back.
    pub(super) relay: bool,
    /// Its process, when it is on this machine.
    pub(super) process: Option<Process>,
}

impl Target {
    /// Finds the server at `url`.
    pub(super) async fn find(
        url: &str,
        token: Option<String>,
        allow_remote: bool,
    ) -> Result<Self, TargetError> {
        let wrong = || TargetError::Address { url: url.to_owned() };
        let uri: Uri = url.parse().map_err(|_| wrong())?;
        let (Some("ws"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(wrong());
        };
        let host = authority.host().trim_matches(['[', ']']);
        let mut addresses = tokio::net::lookup_host((host, authority.port_u16().unwrap_or(80)))
            .await
            .map_err(|source| TargetError::Host {
                url: url.to_owned(),
                source,
            })?;
        let address = addresses.next().ok_or_else(wrong)?;
        if !address.ip().is_loopback() && !allow_remote {
            return Err(TargetError::Remote { url: url.to_owned() });
        }
        let process = if address.ip().is_loopback() {
            Process::listening_at(address)
        } else {
            None
        };
        let path = uri.path().trim_end_matches('/').to_owned();
        Ok(Self {
            address,
            host: authority.to_string(),
            path,
            token,
            relay: false,
            process,
        })
    }

    /// Opens `page`; returns the socket and what the server sent behind its reply.
    pub(super) async fn open(&self, page: &str) -> Result<(TcpStream, Vec<u8>), OpenError> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let key = generate_key();
        let page = utf8_percent_encode(page, PLAIN);
        let mut request = format!(
            "GET {}/{page} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n",
            self.path, self.host
        );
        if let Some(token) = &self.token {
            request.push_str("Authorization: Bearer ");
            request.push_str(token);
            request.push_str("\r\n");
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::with_capacity(512);
        loop {
            if stream.read_buf(&mut reply).await? == 0 || reply.len() > REPLY_BYTES_MAX {
                return Err(OpenError::Handshake);
            }
            if let Some(end) = reply.windows(4).position(|window| window == b"\r\n\r\n") {
                let behind = reply.split_off(end + 4);
                check_reply(&String::from_utf8_lossy(&reply), &key)?;
                return Ok((stream, behind));
            }
        }
    }
}

fn check_reply(reply: &str, key: &str) -> Result<(), OpenError> {
    let mut lines = reply.lines();
    let status = lines.next().unwrap_or_default();
    if status.split(' ').nth(1) != Some("101") {
        return Err(OpenError::Refused {
            status: status.to_owned(),
        });
    }
    let accepted = lines
        .filter_map(|line| line.split_once(':'))
        .any(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes());
            name.is_ok_and(|name| name == header::SEC_WEBSOCKET_ACCEPT)
                && value.trim() == derive_accept_key(key.as_bytes())
        });
    if accepted {
        Ok(())
    } else {
        Err(OpenError::Handshake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn another_machine_is_refused_unless_allowed() {
        let refused = Target::find("ws://192.0.2.1:3001/ws", None, false).await;
        assert!(matches!(refused, Err(TargetError::Remote { .. })));
        assert!(Target::find("ws://192.0.2.1:3001/ws", None, true).await.is_ok());
    }

    #[tokio::test]
    async fn an_address_of_another_kind_is_refused() {
        for url in [
            "http://127.0.0.1:3001/ws",
            "127.0.0.1:3001",
            "ws:///ws",
            "wss://127.0.0.1/ws",
        ] {
            assert!(
                matches!(
                    Target::find(url, None, false).await,
                    Err(TargetError::Address { .. })
                ),
                "{url}"
            );
        }
    }

    #[test]
    fn a_reply_counts_when_it_is_signed_for_the_key() {
        // Key and signature are the example of RFC 6455, section 1.3.
        let key = "dGhlIHNhbXBsZSBub25jZQ==";
        let reply =
            "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
        assert!(check_reply(reply, key).is_ok());
        assert!(matches!(
            check_reply(reply, "AAAAAAAAAAAAAAAAAAAAAA=="),
            Err(OpenError::Handshake)
        ));
        assert!(matches!(
            check_reply("HTTP/1.1 403 Forbidden\r\n\r\n", key),
            Err(OpenError::Refused { .. })
        ));
    }
}

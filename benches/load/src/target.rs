//! The server under load: where it is, and how a client opens a page on it.

use std::{fmt, io, net::SocketAddr};

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
/// An answer to a request is read this far: nothing in it is needed but its status and its error.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// What may stand in a path segment as it is.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~')
    .remove(b'/');
/// The same where a slash would end a page's name.
const PLAIN_NAME: &AsciiSet = &PLAIN.add(b'/');

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
        source: io::Error,
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
    Socket(#[from] io::Error),
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

/// What a server answers to a request.
#[derive(Debug)]
pub(super) struct Answer {
    /// The status.
    pub(super) status: u16,
    error: Option<(String, String)>,
}

impl Answer {
    fn read(reply: &[u8]) -> io::Result<Self> {
        let reply = String::from_utf8_lossy(reply);
        let (head, body) = reply.split_once("\r\n\r\n").unwrap_or((&reply, ""));
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no HTTP"))?;
        let body: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        let said = |name: &str| body.pointer(&format!("/error/{name}"))?.as_str().map(printable);
        Ok(Self {
            status,
            error: said("code").zip(said("message")),
        })
    }

    /// The code of a refusal.
    pub(super) fn code(&self) -> Option<&str> {
        self.error.as_ref().map(|(code, _)| code.as_str())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.status)?;
        match &self.error {
            Some((code, message)) => write!(f, " ({code}: {message})"),
            None => Ok(()),
        }
    }
}

/// What a server says, as a terminal may show it.
pub(super) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
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

    /// Asks for something to be done to `page` over REST, which is where the server's WebSockets are.
    pub(super) async fn ask(&self, method: &str, page: &str, action: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(self.address).await?;
        let prefix = self.path.strip_suffix("/ws").unwrap_or(&self.path);
        let page = utf8_percent_encode(page, PLAIN_NAME);
        let request = format!(
            "{method} {prefix}/api/pages/{page}{action} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: 0\r\n{}\r\n",
            self.host,
            self.authorization(),
        );
        stream.write_all(request.as_bytes()).await?;
        let mut reply = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut reply).await?;
        Answer::read(&reply)
    }

    fn authorization(&self) -> String {
        self.token
            .as_ref()
            .map(|token| format!("Authorization: Bearer {token}\r\n"))
            .unwrap_or_default()
    }

    /// Opens `page`; returns the socket and what the server sent behind its reply.
    pub(super) async fn open(&self, page: &str) -> Result<(TcpStream, Vec<u8>), OpenError> {
        let mut stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let key = generate_key();
        let page = utf8_percent_encode(page, PLAIN);
        let request = format!(
            "GET {}/{page} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{}\r\n",
            self.path,
            self.host,
            self.authorization(),
        );
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
    fn an_answer_has_a_status_and_says_why() {
        let body = r#"{"error":{"code":"forbidden","message":"not\u001b[2J you"}}"#;
        let answer = Answer::read(format!("HTTP/1.1 403 Forbidden\r\na: b\r\n\r\n{body}").as_bytes());
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.code()), (403, Some("forbidden")));
        assert_eq!(answer.to_string(), "403 (forbidden: not\u{fffd}[2J you)");
        let plain = Answer::read(b"HTTP/1.1 404 Not Found\r\n\r\nnothing here").expect("an answer");
        assert_eq!((plain.to_string().as_str(), plain.code()), ("404", None));
        assert!(Answer::read(b"").is_err() && Answer::read(b"SSH-2.0-x\r\n").is_err());
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

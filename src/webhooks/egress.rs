//! Posts to targets, and to no address that is private unless that is allowed.
//!
//! A name is resolved for each connection, and the connection goes to the very addresses that were checked: a name that leads elsewhere the
//! next time gains nothing. Redirections are not followed, proxies of the surroundings are not asked, and of an answer only its head is read.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{
        Client,
        connect::{HttpConnector, dns::Name},
    },
    rt::{TokioExecutor, TokioTimer},
};

use super::target::{Target, is_private};
use crate::web_client::{retry_after, whole};

/// Longest time from connecting to the head of the answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest head of an answer, in bytes.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The way out. Cheap to clone.
#[derive(Clone)]
pub(super) struct Egress(Client<HttpsConnector<HttpConnector<PublicNames>>, Full<Bytes>>);

/// What a target answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    /// How long the target wants to be left alone.
    pub(super) retry_after: Option<Duration>,
}

/// Why a target did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum EgressError {
    /// It took too long.
    #[error("no answer within {TIMEOUT:?}")]
    Late,
    /// It cannot be reached, or does not speak HTTP.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// What was to be sent is no request.
    #[error("a request could not be made: {0}")]
    Request(#[from] hyper::http::Error),
}

impl Egress {
    pub(super) fn new(allows_private: bool) -> Self {
        let mut http = HttpConnector::new_with_resolver(PublicNames { allows_private });
        http.enforce_http(false);
        http.set_connect_timeout(Some(TIMEOUT));
        http.set_nodelay(true);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .wrap_connector(http);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            // A name is resolved, and its address checked, for each message.
            .pool_max_idle_per_host(0)
            .http1_max_buf_size(MAX_HEAD_BYTES)
            .build(connector);
        Self(client)
    }

    /// Posts JSON and gives the head of the answer.
    ///
    /// # Errors
    /// When there is none in time.
    pub(super) async fn post(
        &self,
        now: SystemTime,
        target: &Target,
        headers: &[(&'static str, &str)],
        body: String,
    ) -> Result<Reply, EgressError> {
        let mut request = Request::post(target.uri().clone())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::USER_AGENT, USER_AGENT);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::from(body))?;
        let answer = tokio::time::timeout(TIMEOUT, self.0.request(request)).await;
        let answer = answer.map_err(|_| EgressError::Late)?;
        let answer = answer.map_err(|error| EgressError::Unreachable(whole(&error)))?;
        Ok(Reply {
            status: answer.status(),
            retry_after: retry_after(now, answer.headers()),
        })
    }
}

const USER_AGENT: &str = concat!("Pageroom/", env!("CARGO_PKG_VERSION"));

/// Resolves names to the addresses that may be connected to.
#[derive(Clone, Copy, Debug)]
struct PublicNames {
    allows_private: bool,
}

impl tower::Service<Name> for PublicNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let Self { allows_private } = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            permitted(found, allows_private).map(Vec::into_iter)
        })
    }
}

/// Those of the addresses that may be connected to.
fn permitted(found: impl Iterator<Item = SocketAddr>, allows_private: bool) -> io::Result<Vec<SocketAddr>> {
    let permitted: Vec<_> = found
        .filter(|address| allows_private || !is_private(address.ip()))
        .collect();
    match permitted.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "its name leads to no public address (PAGEROOM_WEBHOOK_ALLOW_PRIVATE allows others)",
        )),
        false => Ok(permitted),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn of_the_addresses_of_a_name_only_public_ones_are_connected_to() {
        let addresses = || {
            ["10.0.0.1:0", "93.184.216.34:0", "[::1]:0"]
                .iter()
                .filter_map(|text| text.parse().ok())
        };
        let public = permitted(addresses(), false).expect("one that is public");
        assert_eq!(public, ["93.184.216.34:0".parse().expect("an address")]);
        assert_eq!(permitted(addresses(), true).expect("all of them").len(), 3);
        let error = permitted(addresses().take(1), false).expect_err("none that is public");
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_host_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port");
        let port = listener.local_addr().expect("an address").port();
        // As if a name of the internet led here: the check of names at the start does not know it.
        let target = Target::new(&format!("http://localhost:{port}/"), true).expect("a target");
        let refused = Egress::new(false)
            .post(UNIX_EPOCH, &target, &[], String::new())
            .await;
        let error = refused.expect_err("nobody to connect to").to_string();
        assert!(error.contains("leads to no public address"), "{error}");
        let accepted = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(accepted.is_err(), "nobody came");
    }
}

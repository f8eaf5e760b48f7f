//! An application's backend that webhooks are posted to: answers as a test says, and remembers what came.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Request, Response, StatusCode, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use pageroom::auth::{Secret, signature};
use serde_json::Value;
use tokio::{net::TcpListener, task::JoinHandle};

use super::until;

/// What webhooks are signed with in tests.
pub(crate) const WEBHOOK_SECRET: &str = "what-both-of-them-know-and-nobody-else-does";

/// What a server is started with that tells receivers here at once.
pub(crate) fn webhook_flags(urls: &str) -> [&str; 8] {
    [
        "--webhook-urls",
        urls,
        "--webhook-secret",
        WEBHOOK_SECRET,
        "--webhook-allow-private",
        "true",
        "--webhook-debounce-seconds",
        "0",
    ]
}

/// What came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// The status that it was answered with; 0 where it never was.
    pub(crate) status: u16,
}

impl Received {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    pub(crate) fn text(&self, name: &str) -> String {
        self.json()[name].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.headers.get(name);
        value.map_or("", |value| value.to_str().expect("text"))
    }

    /// Whether it is signed by who knows the secret.
    pub(crate) fn is_signed(&self) -> bool {
        let secret = Secret::new(WEBHOOK_SECRET);
        signature::verify(&secret, now(), self.header("x-pageroom-signature"), &self.body)
    }
}

#[expect(clippy::disallowed_methods, reason = "signatures count for minutes")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// What is answered to a message.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Status(u16),
    With(u16, &'static str, String),
    /// Nothing, ever.
    Silence,
}

type Decide = Box<dyn FnMut(&Received) -> Reply + Send>;

/// See the module.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    state: Arc<Mutex<State>>,
    running: JoinHandle<()>,
}

struct State {
    received: Vec<Received>,
    decide: Decide,
}

impl Receiver {
    /// One that takes everything.
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0", |_| Reply::Status(200)).await
    }

    /// One that answers like this.
    pub(crate) async fn answering(decide: impl FnMut(&Received) -> Reply + Send + 'static) -> Self {
        Self::start_at("127.0.0.1:0", decide).await
    }

    pub(crate) async fn start_at(
        address: &str,
        decide: impl FnMut(&Received) -> Reply + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::new(Mutex::new(State {
            received: Vec::new(),
            decide: Box::new(decide),
        }));
        let shared = state.clone();
        let running = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.expect("a connection");
                let shared = shared.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request| answer(shared.clone(), request));
                    // Whoever hangs up does so.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self {
            address,
            state,
            running,
        }
    }

    /// Its address on the web.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Answers like this from now on.
    pub(crate) fn answer(&self, decide: impl FnMut(&Received) -> Reply + Send + 'static) {
        self.state().decide = Box::new(decide);
    }

    /// All that came.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.state().received.clone()
    }

    /// What it took of a page, in order, as names of events; what came twice once.
    pub(crate) fn taken(&self, page: &str) -> Vec<Received> {
        let mut ids = std::collections::BTreeSet::new();
        let taken = self.received().into_iter().filter(|received| {
            (200..300).contains(&received.status)
                && received.text("pageId") == page
                && ids.insert(received.text("id"))
        });
        taken.collect()
    }

    /// Names of the events of a page that it took, in order.
    pub(crate) fn events(&self, page: &str) -> Vec<String> {
        let taken = self.taken(page);
        taken.iter().map(|received| received.text("event")).collect()
    }

    /// Waits until it has taken these of a page, and checks that there are no others among them.
    pub(crate) async fn until_events(&self, page: &str, events: &[&str]) {
        until(&format!("{events:?} of {page}"), async || {
            self.events(page).len() >= events.len()
        })
        .await;
        assert_eq!(self.events(page), events);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let mut received = Received {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        body,
        status: 0,
    };
    let reply = {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        let reply = (state.decide)(&received);
        received.status = match &reply {
            Reply::Status(status) | Reply::With(status, ..) => *status,
            Reply::Silence => 0,
        };
        state.received.push(received);
        reply
    };
    let response = match reply {
        Reply::Status(status) => Response::builder().status(status),
        Reply::With(status, name, value) => Response::builder().status(status).header(name, value),
        Reply::Silence => std::future::pending().await,
    };
    let response = response.body(Full::from("what the backend says is not read"));
    Ok(response.unwrap_or_else(|_| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
        response
    }))
}

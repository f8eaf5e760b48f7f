//! Posts messages to a collector, and says when it does not take them.

use std::{
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::Full;
use hyper::{
    Request, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use tokio::time::{Instant, sleep, timeout};

use super::config::Target;
use crate::web_client::{HttpClient, http_client};

/// What does not leave is told of once in this time.
const PAUSE: Duration = Duration::from_secs(60);
/// First pause before a message is sent again, where a collector asks for patience or cannot be reached; it doubles.
const FIRST_RETRY: Duration = Duration::from_millis(500);

/// The way to a collector for one kind of telemetry. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Sender(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    /// What is sent, in words.
    what: &'static str,
    target: Target,
    client: HttpClient,
    outage: Mutex<Outage>,
}

/// Whether what was sent last was taken, and when it was told last that it was not.
#[derive(Debug, Default)]
struct Outage {
    lasts: bool,
    told: Option<Instant>,
}

/// Why a collector has not taken a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It took too long, with all tries.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    /// It refuses what it is sent.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// The message could not be made.
    #[error("the message cannot be made: {0}")]
    Message(#[from] hyper::http::Error),
    /// The message could not be compressed.
    #[error("the message cannot be compressed: {0}")]
    Compression(#[from] io::Error),
}

impl SendError {
    /// Whether the same message may be taken a little later.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) => true,
            Self::Status(status) => matches!(status.as_u16(), 429 | 502 | 503 | 504),
            Self::Late(_) | Self::Message(_) | Self::Compression(_) => false,
        }
    }
}

impl Sender {
    pub(super) fn new(what: &'static str, target: Target) -> Self {
        Self(Arc::new(Parts {
            what,
            target,
            client: http_client(),
            outage: Mutex::default(),
        }))
    }

    /// Sends a message, again while that may help, for as long as the collector may take.
    ///
    /// # Errors
    /// When it was not taken in time. The log says so now and then, so nobody else has to.
    pub(super) async fn send(&self, message: Vec<u8>) -> Result<(), SendError> {
        let patience = self.0.target.timeout;
        let mut last = None;
        let sent = match timeout(patience, self.try_until_taken(message, &mut last)).await {
            Ok(sent) => sent,
            Err(_) => Err(last.unwrap_or(SendError::Late(patience))),
        };
        self.note(sent.as_ref().err());
        sent
    }

    async fn try_until_taken(&self, message: Vec<u8>, last: &mut Option<SendError>) -> Result<(), SendError> {
        let message = self.encoded(message)?;
        let mut pause = FIRST_RETRY;
        loop {
            match self.post(message.clone()).await {
                Err(error) if error.is_passing() => *last = Some(error),
                ended => return ended,
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    fn encoded(&self, message: Vec<u8>) -> io::Result<Bytes> {
        if !self.0.target.compresses {
            return Ok(message.into());
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(&message)?;
        Ok(encoder.finish()?.into())
    }

    async fn post(&self, message: Bytes) -> Result<(), SendError> {
        let Parts { target, client, .. } = &*self.0;
        let mut request = Request::post(target.endpoint.clone()).body(Full::from(message))?;
        let headers = request.headers_mut();
        headers.extend(target.headers.clone());
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
        let agent = concat!("pageroom/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(agent));
        if target.compresses {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        let status = client.request(request).await?.status();
        match status.is_success() {
            true => Ok(()),
            false => Err(SendError::Status(status)),
        }
    }

    fn note(&self, error: Option<&SendError>) {
        let Parts {
            what, target, outage, ..
        } = &*self.0;
        let collector = target.endpoint.host().unwrap_or_default();
        let mut outage = outage.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(error) = error else {
            if std::mem::take(&mut outage.lasts) {
                tracing::info!(collector, "the collector takes {what} again");
            }
            return;
        };
        outage.lasts = true;
        if outage.told.is_none_or(|told| told.elapsed() >= PAUSE) {
            outage.told = Some(Instant::now());
            tracing::warn!(
                %error,
                collector,
                "the collector does not take {what}, which are dropped meanwhile: see OTEL_EXPORTER_OTLP_ENDPOINT"
            );
        }
    }
}

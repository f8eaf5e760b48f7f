//! Posts messages to a collector, and says when it does not take them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::Full;
use hyper::{
    Request, StatusCode,
    header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue, USER_AGENT},
};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::config::Target;
use crate::web_client::{HttpClient, http_client, retry_after, whole};

/// What does not leave is told of once in this time, for each cause.
const PAUSE: Duration = Duration::from_secs(60);
/// Longest time for which a collector is left alone because it asks for it.
const LONGEST_REST: Duration = Duration::from_secs(300);
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

/// What is known of a collector that does not take what it is sent.
#[derive(Debug, Default)]
struct Outage {
    /// Whether the log says that nothing is taken, and nothing has been taken since.
    is_told: bool,
    /// When each cause was told last.
    told: BTreeMap<&'static str, Instant>,
    /// Until when the collector wants to be left alone.
    rest: Option<Instant>,
}

/// Why a collector has not taken a message.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    /// It took too long, with all tries.
    #[error("no answer within {0:?}")]
    Late(Duration),
    /// It cannot be reached, or does not speak HTTP.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// It refuses what it is sent.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// It has asked for patience, and for more than a message may take.
    #[error("it asks to be left alone for {} s more", .0.as_secs())]
    Resting(Duration),
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
            Self::Late(_) | Self::Resting(_) | Self::Message(_) | Self::Compression(_) => false,
        }
    }

    /// What is told apart in the log. There are few, whatever a collector answers.
    fn cause(&self) -> &'static str {
        match self {
            Self::Late(_) => "late",
            Self::Unreachable(_) => "unreachable",
            Self::Status(_) | Self::Resting(_) => "refused",
            Self::Message(_) | Self::Compression(_) => "message",
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
        let end = Instant::now() + self.0.target.timeout;
        loop {
            let rest = self.outage().rest;
            if let Some(rest) = rest {
                if rest > end {
                    let left = rest.saturating_duration_since(Instant::now());
                    return Err(last.take().unwrap_or(SendError::Resting(left)));
                }
                sleep_until(rest).await;
            }
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
        // Of an answer only the head is read, however much there is.
        let answer = client.request(request).await;
        let answer = answer.map_err(|error| SendError::Unreachable(whole(&error)))?;
        let status = answer.status();
        let asked = retry_after(now(), answer.headers()).map(|asked| asked.min(LONGEST_REST));
        let is_asking = matches!(status.as_u16(), 429 | 503);
        self.outage().rest = asked.filter(|_| is_asking).map(|rest| Instant::now() + rest);
        match status.is_success() {
            true => Ok(()),
            false => Err(SendError::Status(status)),
        }
    }

    fn outage(&self) -> MutexGuard<'_, Outage> {
        self.0.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, error: Option<&SendError>) {
        let Parts { what, target, .. } = &*self.0;
        let collector = target.endpoint.host().unwrap_or_default();
        let mut outage = self.outage();
        let Some(error) = error else {
            if std::mem::take(&mut outage.is_told) {
                tracing::info!(collector, "the collector takes {what} again");
            }
            return;
        };
        let told = outage.told.get(error.cause());
        if told.is_none_or(|told| told.elapsed() >= PAUSE) {
            outage.told.insert(error.cause(), Instant::now());
            outage.is_told = true;
            tracing::warn!(
                %error,
                collector,
                "the collector does not take {what}, which are dropped meanwhile: see OTEL_EXPORTER_OTLP_ENDPOINT"
            );
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "collectors may say until when by a date"
)]
fn now() -> SystemTime {
    SystemTime::now()
}

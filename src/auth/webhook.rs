//! An address of the application, to which signed messages are posted.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode, Uri, header};

use super::{Secret, signature};
use crate::web_client::{HttpClient, http_client};

/// Longest time that an exchange may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest answer, in bytes.
const MAX_ANSWER_BYTES: usize = 16 * 1024;

/// An address of the application. Cheap to clone.
#[derive(Clone)]
pub struct Webhook {
    address: Uri,
    header: &'static str,
    secret: Option<Secret>,
    client: HttpClient,
}

/// Why a message was not answered.
#[derive(Debug, thiserror::Error)]
pub enum WebhookError {
    /// It took too long.
    #[error("no answer within {TIMEOUT:?}")]
    Late,
    /// The address does not answer.
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    /// What was asked or answered is no message.
    #[error("the exchange failed: {0}")]
    Exchange(String),
}

impl Webhook {
    /// A webhook at this address. With a secret each message is signed in this header.
    pub fn new(address: Uri, header: &'static str, secret: Option<Secret>) -> Self {
        Self {
            address,
            header,
            secret,
            client: http_client(),
        }
    }

    /// Posts JSON and gives the status of the answer, and its body when it says success. Redirections are not followed.
    ///
    /// # Errors
    /// When there is no answer in time.
    pub async fn post(&self, now: SystemTime, body: String) -> Result<(StatusCode, Bytes), WebhookError> {
        let exchange = tokio::time::timeout(TIMEOUT, self.exchange(now, body));
        exchange.await.map_err(|_| WebhookError::Late)?
    }

    async fn exchange(&self, now: SystemTime, body: String) -> Result<(StatusCode, Bytes), WebhookError> {
        let mut request =
            Request::post(self.address.clone()).header(header::CONTENT_TYPE, "application/json");
        if let Some(secret) = &self.secret {
            request = request.header(self.header, signature::sign(secret, now, body.as_bytes()));
        }
        let request = request
            .body(Full::from(body))
            .map_err(|error| WebhookError::Exchange(error.to_string()))?;
        let answer = self.client.request(request).await?;
        let status = answer.status();
        if !status.is_success() {
            return Ok((status, Bytes::new()));
        }
        let body = Limited::new(answer.into_body(), MAX_ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| WebhookError::Exchange(error.to_string()))?;
        Ok((status, body.to_bytes()))
    }
}

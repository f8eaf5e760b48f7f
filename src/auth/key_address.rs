//! Keys of tokens at an address of the web, fetched from the start, again when they are old, and when a token names one that is not known.
//!
//! What was fetched last counts for as long as nothing newer can be fetched: whoever issues tokens may be away, and those that it has
//! issued are still good. However many tokens name keys that nobody knows, the address is asked once in a while only.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Uri, header};
use tokio::time::{Instant, timeout};

use super::{
    complaints,
    keys::{Key, KeyError, parse},
};
use crate::{
    rooms::{Refusal, RefusalCode},
    web_client::{HttpClient, http_client},
};

/// Longest time that an exchange may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Largest set of keys, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Keys that are older are fetched again, while those that there are still count.
const FRESH: Duration = Duration::from_secs(5 * 60);
/// Pause after a fetch, however many tokens name keys that are not known.
const PAUSE: Duration = Duration::from_secs(10);
/// Pause after a fetch that failed; it doubles with each up to [`PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct KeyAddress(Arc<Parts>);

struct Parts {
    address: Uri,
    client: HttpClient,
    pause: Duration,
    /// Since when keys are wanted.
    wanted: Instant,
    known: Mutex<Known>,
    /// Whoever fetches holds it; others wait for what comes of that.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct Known {
    keys: Option<Arc<Vec<Key>>>,
    /// When these were fetched.
    fetched: Option<Instant>,
    /// Before then the address is not asked again.
    not_before: Option<Instant>,
    failures: u32,
}

/// Why no keys were fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("no answer within {TIMEOUT:?}")]
    Late,
    #[error("it cannot be reached: {0}")]
    Unreachable(#[from] hyper_util::client::legacy::Error),
    #[error("it answers {0}, and no redirection is followed")]
    Status(hyper::StatusCode),
    #[error("its answer cannot be read: {0}")]
    Answer(String),
    #[error("what it answers {0}")]
    Keys(#[from] KeyError),
}

impl KeyAddress {
    /// Keys at this address, none of them fetched yet.
    pub(super) fn new(address: Uri) -> Self {
        Self::with_pause(address, PAUSE)
    }

    fn with_pause(address: Uri, pause: Duration) -> Self {
        Self(Arc::new(Parts {
            address,
            client: http_client(),
            pause,
            wanted: Instant::now(),
            known: Mutex::default(),
            fetching: Arc::default(),
        }))
    }

    /// The keys that were fetched last.
    pub(super) fn keys(&self) -> Arc<Vec<Key>> {
        self.known().keys.clone().unwrap_or_default()
    }

    /// How long ago they were fetched; how long they have been wanted, where they never were.
    pub(super) fn age(&self) -> Duration {
        self.known().fetched.unwrap_or(self.0.wanted).elapsed()
    }

    /// Fetches keys whenever there are none or old ones, also while no token needs any: so whoever watches their age sees that the address
    /// is away before somebody is kept out.
    pub(super) async fn keep_fresh(&self) {
        loop {
            let is_due = self.known().keys.is_none() || self.age() >= FRESH;
            if is_due {
                self.fetch().await;
            }
            let left = FRESH.saturating_sub(self.age()).max(self.0.pause);
            tokio::time::sleep(if self.known().failures > 0 {
                self.0.pause
            } else {
                left
            })
            .await;
        }
    }

    /// Fetches keys where a token may need them: at once when it names one that is not known, and beside it when they are old.
    pub(super) async fn look_for(&self, name: Option<&str>) -> Result<(), Refusal> {
        if self.has(name) {
            if self.age() > FRESH && self.may_fetch() {
                let beside = self.clone();
                tokio::spawn(async move { beside.fetch().await });
            }
            return Ok(());
        }
        self.fetch().await;
        match self.known().keys {
            Some(_) => Ok(()),
            None => Err(Refusal::new(
                RefusalCode::Unavailable,
                "tokens cannot be verified now",
            )),
        }
    }

    fn has(&self, name: Option<&str>) -> bool {
        let fits = |key: &Key| key.id.is_none() || name.is_none() || key.id.as_deref() == name;
        self.known()
            .keys
            .as_ref()
            .is_some_and(|keys| keys.iter().any(fits))
    }

    fn may_fetch(&self) -> bool {
        self.known().not_before.is_none_or(|at| at <= Instant::now())
    }

    async fn fetch(&self) {
        let _turn = self.0.fetching.lock().await;
        // Whoever has waited may find what it wanted.
        if !self.may_fetch() {
            return;
        }
        let exchange = timeout(TIMEOUT, self.exchange()).await;
        let fetched = exchange.unwrap_or(Err(FetchError::Late));
        let now = Instant::now();
        let mut known = self.known();
        match fetched {
            Ok(keys) => {
                let ids = |keys: &[Key]| keys.iter().map(|key| key.id.clone()).collect::<Vec<_>>();
                if known.keys.as_ref().is_none_or(|last| ids(last) != ids(&keys)) {
                    tracing::info!(keys = keys.len(), "the keys of tokens have been fetched");
                }
                *known = Known {
                    keys: Some(Arc::new(keys)),
                    fetched: Some(now),
                    not_before: Some(now + self.0.pause),
                    failures: 0,
                };
            }
            Err(error) => {
                let pause = FIRST_PAUSE
                    .saturating_mul(1 << known.failures.min(16))
                    .min(self.0.pause);
                known.failures = known.failures.saturating_add(1);
                known.not_before = Some(now + pause);
                let has_some = known.keys.is_some();
                drop(known);
                if complaints::is_due("keys of tokens") {
                    tracing::error!(
                        %error,
                        address = %self.0.address.host().unwrap_or_default(),
                        has_some,
                        "the keys at JWT_JWKS_URL cannot be fetched; those that were fetched last still count"
                    );
                }
            }
        }
    }

    async fn exchange(&self) -> Result<Vec<Key>, FetchError> {
        let request = Request::get(self.0.address.clone())
            .header(header::ACCEPT, "application/json")
            .body(Full::<Bytes>::default())
            .map_err(|error| FetchError::Answer(error.to_string()))?;
        let answer = self.0.client.request(request).await?;
        if !answer.status().is_success() {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
        let body = body
            .map_err(|error| FetchError::Answer(error.to_string()))?
            .to_bytes();
        let text = str::from_utf8(&body).map_err(|error| FetchError::Answer(error.to_string()))?;
        Ok(parse(text)?)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    const SHORT: Duration = Duration::from_millis(50);

    fn set(name: &str) -> String {
        format!(
            r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","alg":"EdDSA","kid":"{name}","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}}]}}"#
        )
    }

    /// A server that gives each connection what stands in `answers`, and counts them.
    struct Issuer {
        answer: Arc<Mutex<String>>,
        asked: Arc<Mutex<usize>>,
        uri: Uri,
    }

    impl Issuer {
        async fn start(answer: &str) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let uri = format!("http://{}/keys", listener.local_addr().expect("an address"));
            let (answer, asked) = (Arc::new(Mutex::new(answer.to_owned())), Arc::new(Mutex::new(0)));
            let (answers, counted) = (answer.clone(), asked.clone());
            tokio::spawn(async move {
                while let Ok((mut socket, _)) = listener.accept().await {
                    let mut head = [0; 2048];
                    let _ = socket.read(&mut head).await;
                    *counted.lock().expect("a count") += 1;
                    let answer = answers.lock().expect("an answer").clone();
                    let _ = socket.write_all(answer.as_bytes()).await;
                }
            });
            Self {
                answer,
                asked,
                uri: uri.parse().expect("an address"),
            }
        }

        fn says(&self, answer: &str) {
            answer.clone_into(&mut self.answer.lock().expect("an answer"));
        }

        fn asked(&self) -> usize {
            *self.asked.lock().expect("a count")
        }
    }

    fn ok(body: &str) -> String {
        format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
    }

    fn names(keys: &KeyAddress) -> Vec<Option<String>> {
        keys.keys().iter().map(|key| key.id.clone()).collect()
    }

    #[tokio::test]
    async fn a_key_that_is_not_known_is_looked_for_once_in_a_while() {
        let issuer = Issuer::start(&ok(&set("a"))).await;
        let keys = KeyAddress::with_pause(issuer.uri.clone(), SHORT);
        keys.look_for(Some("a")).await.expect("keys");
        for _ in 0..20 {
            keys.look_for(Some("a")).await.expect("keys");
            keys.look_for(Some("made up")).await.expect("keys");
        }
        assert!(issuer.asked() <= 2, "{}", issuer.asked());
        issuer.says(&ok(&set("b")));
        tokio::time::sleep(SHORT).await;
        keys.look_for(Some("b")).await.expect("keys");
        assert_eq!(names(&keys), [Some("b".to_owned())]);
    }

    #[tokio::test]
    async fn keys_are_fetched_and_grow_old_while_no_token_needs_any() {
        let away = "HTTP/1.1 503 Away\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
        let issuer = Issuer::start(away).await;
        let keys = KeyAddress::with_pause(issuer.uri.clone(), SHORT);
        let keeping = keys.clone();
        let running = tokio::spawn(async move { keeping.keep_fresh().await });
        while issuer.asked() < 3 {
            tokio::time::sleep(SHORT).await;
        }
        assert!(keys.age() >= SHORT, "they are wanted and not there");
        issuer.says(&ok(&set("a")));
        while names(&keys).is_empty() {
            tokio::time::sleep(SHORT).await;
        }
        let asked = issuer.asked();
        assert!(keys.age() < FRESH);
        tokio::time::sleep(SHORT * 4).await;
        assert_eq!(issuer.asked(), asked, "fresh ones are not fetched again");
        running.abort();
    }

    #[tokio::test]
    async fn what_was_fetched_last_counts_while_nothing_else_can_be() {
        let issuer =
            Issuer::start("HTTP/1.1 503 Away\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let keys = KeyAddress::with_pause(issuer.uri.clone(), SHORT);
        let refusal = keys.look_for(Some("a")).await.expect_err("no keys yet");
        assert_eq!(refusal.code, RefusalCode::Unavailable);
        assert!(keys.look_for(None).await.is_err());
        assert_eq!(issuer.asked(), 1, "it is left alone for a while");
        issuer.says(&ok(&set("a")));
        tokio::time::sleep(SHORT).await;
        keys.look_for(Some("a")).await.expect("keys");
        for broken in [
            "HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
                .to_owned(),
            ok("{\"keys\":[]}"),
            ok("nonsense"),
            String::new(),
        ] {
            issuer.says(&broken);
            tokio::time::sleep(SHORT).await;
            let asked = issuer.asked();
            keys.look_for(Some("b")).await.expect("the last keys");
            assert!(issuer.asked() > asked, "it was asked: {broken}");
            assert_eq!(names(&keys), [Some("a".to_owned())], "{broken}");
        }
    }

    #[tokio::test]
    async fn many_that_come_at_once_share_one_fetch() {
        let issuer = Issuer::start(&ok(&set("a"))).await;
        let keys = KeyAddress::new(issuer.uri.clone());
        let all = (0..50).map(|_| keys.look_for(Some("a")));
        for found in futures_util::future::join_all(all).await {
            found.expect("keys");
        }
        assert_eq!(issuer.asked(), 1);
    }
}

//! The pool: finds the lane of a page, waits for its answer, and remembers the pages that cannot be read.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use bytes::Bytes;
use crdt::{ClientId, Form, Format, MergeRefusal, Merged, Place};
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde_json::{Value, value::RawValue};
use storage::{PageId, Seq};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{
    Change, LARGE_STATE, MergeError, ReadError, ReaderConfig, State,
    lane::{Job, Lane},
    marks::Marks,
    process::Wanted,
    protocol::{Answer, Ask},
};
use crate::rooms::{Readable, ReadableView, run_blocking_if};

/// Questions that wait for one worker. Each holds a page's state, which it shares with the page's room where there is one.
const MAX_WAITING: usize = 64;

/// What cannot even be sent is not tried.
const TOO_LARGE: &str = "it is larger than the memory of a reader process";

/// The reader processes of a server. Clones share them; they end with the last clone.
#[derive(Clone)]
pub struct Readers {
    pool: Arc<Pool>,
    /// What is read is the state after this row, and not kept warm.
    past: Option<Seq>,
}

struct Pool {
    config: Arc<ReaderConfig>,
    lanes: Vec<mpsc::Sender<Job>>,
    /// Large pages take long, and are waited for by each other alone.
    large: mpsc::Sender<Job>,
    marks: Marks,
}

impl Readers {
    /// Readers that start when they are asked. Must be called within a runtime.
    pub fn new(config: ReaderConfig) -> Self {
        let (config, marks) = (Arc::new(config), Marks::default());
        let lane = || {
            let (sender, jobs) = mpsc::channel(MAX_WAITING);
            tokio::spawn(Lane::new(config.clone(), marks.clone()).run(jobs));
            sender
        };
        let pool = Pool {
            lanes: (0..config.workers.max(1)).map(|_| lane()).collect(),
            large: lane(),
            config,
            marks,
        };
        Self {
            pool: Arc::new(pool),
            past: None,
        }
    }

    /// Questions that wait for readers, and how many may.
    pub fn waiting(&self) -> (usize, usize) {
        let lanes = self.pool.lanes.iter().chain([&self.pool.large]);
        lanes.fold((0, 0), |(waiting, most), lane| {
            let bound = lane.max_capacity();
            (waiting + bound - lane.capacity(), most + bound)
        })
    }

    /// The same readers for a state that a page had after row `seq`: they do not keep it, and nothing is concluded for what the page is now.
    #[must_use]
    pub fn of_past(&self, seq: Seq) -> Self {
        Self {
            pool: self.pool.clone(),
            past: Some(seq),
        }
    }

    /// A page in a form, or one field of it. `None` when there is no such field.
    ///
    /// # Errors
    /// When the field has no such form, or the page cannot be read, or not now.
    pub async fn content(
        &self,
        page: &PageId,
        state: impl Into<State>,
        form: Form,
        field: Option<String>,
    ) -> Result<Option<String>, MergeError> {
        let ask = Ask::Content { form, field };
        match self.ask(page, state.into(), ask).await? {
            (Answer::Content, body) => Ok(Some(text(body))),
            (Answer::NoSuchField, _) => Ok(None),
            (Answer::Refused(refusal), _) => Err(refusal.into()),
            (answer, _) => Err(beside(&answer).into()),
        }
    }

    /// All of a page in both forms.
    ///
    /// # Errors
    /// When the page cannot be read, or not now.
    pub async fn readable(&self, page: &PageId, state: impl Into<State>) -> Result<Readable, ReadError> {
        match self.ask(page, state.into(), Ask::Readable).await? {
            (Answer::Readable { json, misplaced }, mut body) => {
                Ok(run_blocking_if(body.len() as u64 > LARGE_STATE, || {
                    let plain = body.split_off(json.min(body.len()));
                    Readable {
                        content: serde_json::from_slice(&body).unwrap_or(Value::Null),
                        text: text(plain),
                        misplaced,
                    }
                }))
            }
            (answer, _) => Err(beside(&answer)),
        }
    }

    /// The names of a page's root types and what they are.
    ///
    /// # Errors
    /// When the page cannot be read, or not now.
    pub async fn fields(
        &self,
        page: &PageId,
        state: impl Into<State>,
    ) -> Result<Vec<(String, String)>, ReadError> {
        match self.ask(page, state.into(), Ask::Fields).await? {
            (Answer::Fields, body) => Ok(serde_json::from_slice(&body).unwrap_or_default()),
            (answer, _) => Err(beside(&answer)),
        }
    }

    /// The edits under `client` that a save, or a change of a component, is of a page. They become a part of it when their update is
    /// applied.
    ///
    /// # Errors
    /// When it is refused, or the page cannot be read, or not now.
    pub async fn merge(
        &self,
        page: &PageId,
        state: impl Into<State>,
        client: ClientId,
        change: &Change<impl Serialize>,
    ) -> Result<Merged<Box<RawValue>>, MergeError> {
        let asked = serde_json::to_vec(change).map_err(|error| MergeRefusal::Malformed {
            reason: error.to_string(),
        })?;
        let ask = Ask::Merge { client: client.0 };
        match self.ask_with(page, state.into(), ask, asked.into()).await? {
            (
                Answer::Merged {
                    update,
                    field,
                    format,
                    base,
                    differs,
                },
                mut body,
            ) => {
                let content = body.split_off(update.min(body.len()));
                Ok(Merged {
                    update: body.into(),
                    content: json(content)?,
                    field,
                    format,
                    base,
                    differs,
                })
            }
            (Answer::Refused(refusal), _) => Err(refusal.into()),
            (answer, _) => Err(beside(&answer).into()),
        }
    }

    /// The whole content of a page, or of one field. `None` when there is nothing.
    ///
    /// # Errors
    /// When the page holds something else than the format can show, or cannot be read, or not now.
    pub async fn whole(
        &self,
        page: &PageId,
        state: impl Into<State>,
        format: Option<Format>,
        default_format: Format,
        field: Option<String>,
    ) -> Result<Option<Box<RawValue>>, MergeError> {
        let ask = Ask::Whole {
            format,
            default_format,
            field,
        };
        match self.ask(page, state.into(), ask).await? {
            (Answer::Whole, body) => Ok(Some(json(body)?)),
            (Answer::Nothing, _) => Ok(None),
            (Answer::Refused(refusal), _) => Err(refusal.into()),
            (answer, _) => Err(beside(&answer).into()),
        }
    }

    /// The other form of each place; `None` where the page has no such place.
    ///
    /// # Errors
    /// When the page cannot be read, or not now.
    pub async fn places(
        &self,
        page: &PageId,
        state: impl Into<State>,
        default_format: Format,
        places: &[Place],
    ) -> Result<Vec<Option<Place>>, ReadError> {
        let asked = serde_json::to_vec(places).unwrap_or_default();
        let ask = Ask::Places { default_format };
        match self.ask_with(page, state.into(), ask, asked.into()).await? {
            (Answer::Places, body) => Ok(serde_json::from_slice(&body).unwrap_or_default()),
            (answer, _) => Err(beside(&answer)),
        }
    }

    /// Whether nothing could be read of the page when that was tried last.
    pub fn is_unreadable(&self, page: &PageId) -> bool {
        self.pool.marks.is_unreadable(page.as_str())
    }

    async fn ask(&self, page: &PageId, state: State, ask: Ask) -> Result<(Answer, Vec<u8>), ReadError> {
        self.ask_with(page, state, ask, Bytes::new()).await
    }

    async fn ask_with(
        &self,
        page: &PageId,
        state: State,
        ask: Ask,
        asked: Bytes,
    ) -> Result<(Answer, Vec<u8>), ReadError> {
        let version = digest(&state).await;
        let page: Arc<str> = match self.past {
            None => page.as_str().into(),
            // No page has a control character in its name.
            Some(seq) => format!("{page}\n{seq}").into(),
        };
        let (marks, now) = (&self.pool.marks, Instant::now());
        if let Some(error) = marks.forbids(&page, ask.kind(), &version, now) {
            return Err(error);
        }
        if state.len().saturating_add(asked.len() as u64) > self.pool.config.memory {
            let reason = TOO_LARGE.into();
            return Err(ReadError::Unreadable { reason });
        }
        let lane = match state.len() < LARGE_STATE {
            true => self.lane(&page).ok_or(ReadError::Busy)?,
            false => &self.pool.large,
        };
        let (reply, answer) = oneshot::channel();
        let job = Job {
            wanted: Wanted {
                page: page.clone(),
                version: version.clone(),
                state,
                ask,
                asked,
                keep: self.past.is_none(),
            },
            reply,
        };
        let queued = timeout(self.pool.config.timeout, lane.send(job)).await;
        if !matches!(queued, Ok(Ok(()))) {
            return Err(ReadError::Busy);
        }
        answer.await.unwrap_or(Err(ReadError::Busy))
    }

    fn lane(&self, page: &str) -> Option<&mpsc::Sender<Job>> {
        let mut hasher = DefaultHasher::new();
        page.hash(&mut hasher);
        let lane = hasher.finish() % self.pool.lanes.len().max(1) as u64;
        self.pool.lanes.get(lane as usize)
    }
}

impl std::fmt::Debug for Readers {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Readers").finish_non_exhaustive()
    }
}

impl ReadableView for Readers {
    fn readable(&self, page: &PageId, state: Bytes) -> BoxFuture<'static, Option<Readable>> {
        let (readers, page) = (self.clone(), page.clone());
        Box::pin(async move {
            // A page that cannot be read is logged where that is found out.
            Self::readable(&readers, &page, state).await.ok()
        })
    }
}

async fn digest(state: &State) -> Arc<str> {
    if state.len() < LARGE_STATE {
        return state.digest();
    }
    let large = state.clone();
    let digest = tokio::task::spawn_blocking(move || large.digest()).await;
    digest.unwrap_or_else(|_| state.digest())
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// An answer to another question: the worker is not the program that it should be.
fn beside(answer: &Answer) -> ReadError {
    tracing::error!(?answer, "a reader process answers beside the question");
    ReadError::Unavailable {
        reason: "it does not understand what it is asked".to_owned(),
    }
}

/// The text of a value, which stays as it is.
fn json(bytes: Vec<u8>) -> Result<Box<RawValue>, ReadError> {
    let value = String::from_utf8(bytes).ok().map(RawValue::from_string);
    match value {
        Some(Ok(value)) => Ok(value),
        Some(Err(_)) | None => Err(ReadError::Unavailable {
            reason: "it answers with something that is no JSON".to_owned(),
        }),
    }
}

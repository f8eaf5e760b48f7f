//! A lane: the questions that wait for one worker, and what happens when that ends, hangs or grows.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    ReadError, ReaderConfig,
    marks::{Marks, Scope},
    process::{Process, Wanted},
    protocol::Answer,
};

/// Workers that died one after the other without having answered anything: the next one is replaced at once, later ones after
/// pauses that double.
const AT_ONCE: u32 = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A worker that goes on dying is no longer replaced before somebody asks.
const GIVES_UP: u32 = 8;

pub(super) struct Job {
    pub(super) wanted: Wanted,
    pub(super) reply: oneshot::Sender<Result<(Answer, Vec<u8>), ReadError>>,
}

pub(super) struct Lane {
    config: Arc<ReaderConfig>,
    marks: Marks,
    process: Option<Process>,
    /// Workers that have died since one has answered.
    deaths: u32,
    died_at: Option<Instant>,
}

/// Why a question has no answer.
enum Failed {
    /// No worker can be started.
    Unavailable(ReadError),
    /// The page can be read by no worker.
    Page(&'static str),
    /// It can be read, and this question ends workers.
    Question(&'static str),
}

impl Lane {
    pub(super) fn new(config: Arc<ReaderConfig>, marks: Marks) -> Self {
        Self {
            config,
            marks,
            process: None,
            deaths: 0,
            died_at: None,
        }
    }

    /// Answers questions until nobody can ask any more.
    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        loop {
            let (is_due, pause) = (self.is_to_be_replaced(), self.pause());
            let job = tokio::select! {
                job = jobs.recv() => job,
                () = ended(&mut self.process) => {
                    self.lost("it has ended");
                    continue;
                }
                () = pause, if is_due => {
                    // When this fails the next question hears why.
                    let _ = self.start();
                    continue;
                }
            };
            let Some(Job { wanted, reply }) = job else {
                return;
            };
            if reply.is_closed() {
                continue;
            }
            // Who asked may be gone by now.
            let _ = reply.send(self.answer(&wanted).await);
        }
    }

    /// Answers a question, and notes for those that wait behind it whether the page can be read.
    async fn answer(&mut self, wanted: &Wanted) -> Result<(Answer, Vec<u8>), ReadError> {
        let Wanted { page, version, .. } = wanted;
        let kind = wanted.ask.kind();
        if let Some(error) = self.marks.forbids(page, kind, version, Instant::now()) {
            return Err(error);
        }
        let (scope, reason) = match self.ask(wanted).await {
            Ok((Answer::Unshown { reason }, _)) => return Err(ReadError::Unshown { reason }),
            Ok((Answer::Unreadable { reason }, _)) => (Scope::Page, reason.into()),
            Ok(answered) => {
                self.marks.succeeded(page, kind);
                return Ok(answered);
            }
            Err(Failed::Page(reason)) => (Scope::Page, reason.into()),
            Err(Failed::Question(reason)) => match kind {
                Some(kind) => (Scope::Question(kind), reason.into()),
                // What came with the question may be to blame, and the page not.
                None => {
                    let reason = reason.to_owned();
                    return Err(ReadError::Unshown { reason });
                }
            },
            Err(Failed::Unavailable(error)) => return Err(error),
        };
        tracing::error!(
            %page,
            digest = %version,
            %reason,
            ?scope,
            "a page cannot be read; it is tried again when it has changed"
        );
        let error = scope.error(&reason);
        self.marks
            .failed(page.clone(), scope, version.clone(), reason, Instant::now());
        Err(error)
    }

    /// Asks the worker, and when that is lost another one: a worker may have ended for reasons of its own. The second one first says
    /// whether it can read the page at all.
    async fn ask(&mut self, wanted: &Wanted) -> Result<(Answer, Vec<u8>), Failed> {
        if let Ok(answer) = self.put(wanted).await? {
            return Ok(answer);
        }
        if let Err(reason) = self.put(&wanted.fields()).await? {
            return Err(Failed::Page(reason));
        }
        self.put(wanted).await?.map_err(Failed::Question)
    }

    /// Puts a question to a worker, or says why that one is lost.
    async fn put(&mut self, wanted: &Wanted) -> Result<Result<(Answer, Vec<u8>), &'static str>, Failed> {
        if self.process.is_none() {
            self.pause().await;
            self.start().map_err(Failed::Unavailable)?;
        }
        let asking = async {
            match &mut self.process {
                Some(process) => process.ask(wanted).await.ok(),
                None => None,
            }
        };
        let reason = match timeout(self.config.timeout, asking).await {
            Ok(Some(answer)) => {
                self.deaths = 0;
                return Ok(Ok(answer));
            }
            Ok(None) => "reading it ends the reader process, or takes too much memory",
            Err(_) => "reading it takes too long",
        };
        self.lost(reason);
        Ok(Err(reason))
    }

    fn is_to_be_replaced(&self) -> bool {
        self.process.is_none() && (1..GIVES_UP).contains(&self.deaths)
    }

    fn start(&mut self) -> Result<(), ReadError> {
        match Process::start(&self.config) {
            Ok(process) => {
                self.process = Some(process);
                Ok(())
            }
            Err(error) => {
                self.died();
                tracing::error!(%error, "a reader process cannot be started");
                Err(ReadError::Unavailable {
                    reason: error.to_string(),
                })
            }
        }
    }

    /// Kills the worker, if it is still there.
    fn lost(&mut self, reason: &'static str) {
        self.process = None;
        self.died();
        tracing::warn!(reason, "a reader process is replaced");
    }

    fn died(&mut self) {
        self.deaths = self.deaths.saturating_add(1);
        self.died_at = Some(Instant::now());
    }

    /// Waits until the next worker may be started.
    fn pause(&self) -> impl Future<Output = ()> + use<> {
        let pause = match self.deaths.checked_sub(AT_ONCE) {
            None | Some(0) => Duration::ZERO,
            Some(deaths) => FIRST_PAUSE
                .saturating_mul(1 << (deaths - 1).min(16))
                .min(LONGEST_PAUSE),
        };
        let until = self.died_at.map(|died| died + pause);
        async move {
            if let Some(until) = until {
                sleep_until(until).await;
            }
        }
    }
}

async fn ended(process: &mut Option<Process>) {
    match process {
        Some(process) => process.ended().await,
        None => std::future::pending().await,
    }
}

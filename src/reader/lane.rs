//! A lane: the questions that wait for one worker, and what happens when that ends, hangs or grows.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use super::{
    ReadError, ReaderConfig,
    marks::Marks,
    process::{Process, Wanted},
    protocol::{Answer, Ask},
};

/// A worker may have ended for reasons of its own, so a question is put to a second one.
const TRIES: usize = 2;

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
        if let Some(reason) = self.marks.forbids(page, version, Instant::now()) {
            return Err(ReadError::Unreadable { reason });
        }
        let reason = match self.ask(wanted).await {
            Ok((Answer::Unreadable { reason }, _)) => reason.into(),
            // What is merged may be to blame, and the page not.
            Err(ReadError::Unreadable { reason }) if matches!(wanted.ask, Ask::Merge { .. }) => {
                let reason = reason.to_string();
                return Err(ReadError::Unshown { reason });
            }
            Err(ReadError::Unreadable { reason }) => reason,
            Ok((Answer::Unshown { reason }, _)) => return Err(ReadError::Unshown { reason }),
            Ok(answered) => {
                self.marks.succeeded(page);
                return Ok(answered);
            }
            Err(error) => return Err(error),
        };
        tracing::error!(
            %page,
            digest = %version,
            %reason,
            "a page cannot be read; it is tried again when it has changed"
        );
        self.marks
            .failed(page.clone(), version.clone(), reason.clone(), Instant::now());
        Err(ReadError::Unreadable { reason })
    }

    /// Asks the worker, and when that is lost another one.
    async fn ask(&mut self, wanted: &Wanted) -> Result<(Answer, Vec<u8>), ReadError> {
        let mut reason = "";
        for _ in 0..TRIES {
            if self.process.is_none() {
                self.pause().await;
                self.start()?;
            }
            let Some(process) = self.process.as_mut() else {
                break;
            };
            match timeout(self.config.timeout, process.ask(wanted)).await {
                Ok(Ok(answer)) => {
                    self.deaths = 0;
                    return Ok(answer);
                }
                Ok(Err(_)) => reason = "reading it ends the reader process, or takes too much memory",
                Err(_) => reason = "reading it takes too long",
            }
            self.lost(reason);
        }
        Err(ReadError::Unreadable {
            reason: reason.into(),
        })
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

//! The pages that a run makes: their names, which no other run has, and their removal over REST when it ends.

use std::{
    cell::{Cell, RefCell},
    time::Duration,
};

use futures_util::{StreamExt, TryStreamExt, stream};
use thiserror::Error;

use super::target::{Answer, Target};

/// How many pages are removed at the same time.
const REMOVING_MAX: usize = 16;
/// How long a server may take for one request: a purge waits until what the page's room holds is stored.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How often a request is made again that the server cannot serve just now, and after how long.
const TRIES_MAX: usize = 10;
const PAUSE: Duration = Duration::from_secs(1);
/// What a server has received and not stored when the connections end may make a page until then.
const STORE_PATIENCE: Duration = Duration::from_secs(1);
/// How often pages are looked for again that were not there.
const LOOKS_MAX: usize = 10;

/// Why the pages of a run stay where they are.
#[derive(Debug, Error)]
pub(super) enum RemoveError {
    /// The request failed.
    #[error("no answer: {0}")]
    Socket(#[from] std::io::Error),
    /// No answer in time.
    #[error("no answer within {} s", REQUEST_LIMIT.as_secs())]
    Late,
    /// The server does not do it, or not for this token.
    #[error("the server answers {0}")]
    Refused(Answer),
}

/// The pages of one run.
#[derive(Debug)]
pub(super) struct Made {
    run: u64,
    batches: Cell<u32>,
    prefix: RefCell<String>,
    pages: RefCell<Vec<String>>,
}

impl Default for Made {
    fn default() -> Self {
        Self {
            run: run_number(),
            batches: Cell::new(0),
            prefix: RefCell::default(),
            pages: RefCell::default(),
        }
    }
}

/// A number that no other run has.
pub(super) fn run_number() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "runs must not meet on a page")]
    let now = std::time::SystemTime::now();
    let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_millis() as u64 ^ (u64::from(std::process::id()) << 20)
}

impl Made {
    /// A name for pages that no other run has, and nothing in this one.
    pub(super) fn fresh(&self, what: &str) -> String {
        let prefix = format!("bench-{what}-{:x}", self.run);
        let batch = self.batches.replace(self.batches.get() + 1);
        let name = match batch {
            0 => prefix.clone(),
            _ => format!("{prefix}.{batch}"),
        };
        self.prefix.replace(prefix);
        name
    }

    /// A page of this run is about to be made.
    pub(super) fn add(&self, page: &str) {
        self.pages.borrow_mut().push(page.to_owned());
    }

    /// Whether there is nothing to remove.
    pub(super) fn is_empty(&self) -> bool {
        self.pages.borrow().is_empty()
    }

    /// What the names of the pages begin with.
    pub(super) fn prefix(&self) -> String {
        self.prefix.borrow().clone()
    }

    /// Puts the pages into the trash and empties it of them. Those that are not there are looked for again, until a look finds no more.
    pub(super) async fn remove(&self, target: &Target) -> Result<(), RemoveError> {
        let mut unseen = remove_all(target, self.pages.take()).await?;
        for _ in 0..LOOKS_MAX {
            if unseen.is_empty() {
                break;
            }
            tokio::time::sleep(STORE_PATIENCE).await;
            let before = unseen.len();
            unseen = remove_all(target, unseen).await?;
            if unseen.len() == before {
                break;
            }
        }
        Ok(())
    }
}

/// Removes pages; gives those that are not there.
async fn remove_all(target: &Target, pages: Vec<String>) -> Result<Vec<String>, RemoveError> {
    let removals = stream::iter(pages).map(|page| async move {
        let was_there = remove(target, &page).await?;
        Ok::<_, RemoveError>((!was_there).then_some(page))
    });
    removals
        .buffer_unordered(REMOVING_MAX)
        .try_filter_map(async |unseen| Ok(unseen))
        .try_collect()
        .await
}

/// Removes one page; gives whether it was there.
async fn remove(target: &Target, page: &str) -> Result<bool, RemoveError> {
    let deleted = ask(target, "DELETE", page, "").await?;
    match (deleted.status, deleted.code()) {
        (200..300, _) | (404, Some("page_deleted")) => {}
        (404, Some("not_found")) => return Ok(false),
        _ => return Err(RemoveError::Refused(deleted)),
    }
    let purged = ask(target, "POST", page, "/purge").await?;
    match purged.status {
        // Or somebody else has been faster.
        200..300 | 404 | 409 => Ok(true),
        _ => Err(RemoveError::Refused(purged)),
    }
}

async fn ask(target: &Target, method: &str, page: &str, action: &str) -> Result<Answer, RemoveError> {
    let mut tries = 1;
    loop {
        let asked = tokio::time::timeout(REQUEST_LIMIT, target.ask(method, page, action)).await;
        let answer = asked.map_err(|_| RemoveError::Late)??;
        if !matches!(answer.status, 429 | 503) || tries == TRIES_MAX {
            return Ok(answer);
        }
        tries += 1;
        tokio::time::sleep(PAUSE).await;
    }
}

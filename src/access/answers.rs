//! Answers of sources, kept as long as they are good, and the counters of changes that end them.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use moka::future::Cache;
use storage::{EVERYBODY, PageId, SharedRoom, UserRecord};

use super::Decision;
use crate::rooms::{Refusal, RoomName};

/// Answers that are kept, at most.
const MAX_ANSWERS: u64 = 200_000;
/// Longest time that anybody waits for an answer of a source.
pub(super) const SOURCE_TIMEOUT: Duration = Duration::from_secs(10);
/// Users share this many counters of changes.
const STAMPS: usize = 4096;

/// Something that is asked of a source. The stamp makes every question after a change a new one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Question {
    User(Stamp, Arc<str>),
    Role(Stamp, usize, Arc<str>, PageId),
    Whereabouts(Stamp, PageId),
    Room(Stamp, RoomName),
    Drive(Stamp, PageId),
    IsRemoved(Stamp, Arc<str>, RoomName),
}

#[derive(Clone, Debug)]
pub(super) enum Answer {
    /// With the version that the user's tokens must have, where that is known.
    User(UserRecord, Version),
    Role(Option<Decision>),
    Whereabouts(Whereabouts),
    Room(Option<Arc<SharedRoom>>),
    Drive(Option<RoomName>),
    IsRemoved(bool),
}

/// Where a page is to be found.
#[derive(Clone, Debug)]
pub(super) enum Whereabouts {
    /// Under its id, or nowhere yet.
    Here,
    /// In the trash.
    InTrash,
    /// Under this id.
    RenamedTo(PageId),
}

/// Which version a user's tokens must have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Any,
    Exactly(u64),
    /// The application does not know the user.
    None,
}

/// Counts changes, so that no answer outlives one.
pub(super) struct Stamps {
    everybody: AtomicU64,
    users: Vec<AtomicU64>,
    hasher: RandomState,
}

/// How many changes there had been, of everybody and of a user.
pub(super) type Stamp = (u64, u64);

impl Stamps {
    pub(super) fn new() -> Self {
        Self {
            everybody: AtomicU64::new(0),
            users: (0..STAMPS).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
        }
    }

    fn of(&self, user: &str) -> Option<&AtomicU64> {
        let index = self.hasher.hash_one(user) as usize % STAMPS;
        self.users.get(index)
    }

    pub(super) fn read(&self, user: Option<&str>) -> Stamp {
        let own = user.and_then(|user| self.of(user));
        (
            self.everybody.load(Ordering::SeqCst),
            own.map_or(0, |own| own.load(Ordering::SeqCst)),
        )
    }

    /// Notes a change for a user, or for everybody.
    pub(super) fn advance(&self, user: Option<&str>) {
        match user
            .filter(|user| *user != EVERYBODY)
            .and_then(|user| self.of(user))
        {
            Some(own) => own.fetch_add(1, Ordering::SeqCst),
            None => self.everybody.fetch_add(1, Ordering::SeqCst),
        };
    }
}

/// The answers that are kept.
pub(super) struct Answers {
    cache: Cache<Question, Answer>,
    keeps: bool,
}

impl Answers {
    /// Keeps each answer for so long, if at all.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self {
            cache: Cache::builder()
                .max_capacity(MAX_ANSWERS)
                .time_to_live(lifetime.max(Duration::from_millis(1)))
                .build(),
            keeps: !lifetime.is_zero(),
        }
    }

    /// An answer that is kept, or that somebody is waiting for already, or else a new one.
    pub(super) async fn get(
        &self,
        question: Question,
        asking: impl AsyncFnOnce() -> Result<Answer, Refusal>,
    ) -> Result<Answer, Refusal> {
        if self.keeps
            && let Some(answer) = self.cache.get(&question).await
        {
            return Ok(answer);
        }
        // In a box: it is as large as all that every future around it holds together.
        let asked = Box::pin(self.cache.try_get_with(question.clone(), asking()));
        let Ok(asked) = tokio::time::timeout(SOURCE_TIMEOUT, asked).await else {
            return Err(Refusal::unavailable(
                "what you may do cannot be found out now, try again",
            ));
        };
        if !self.keeps {
            // Only those who came while it was being asked share it.
            self.cache.invalidate(&question).await;
        }
        asked.map_err(|refusal| (*refusal).clone())
    }
}

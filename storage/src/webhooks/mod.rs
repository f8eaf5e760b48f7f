//! What a store keeps for webhooks: which events have been told of each page, and those that have not been delivered.
//!
//! Events of pages are not written when they happen. A page's head says how far the page has come, and a **mark** says how much of that
//! was told; [`WebhookStore::tell_webhooks`] puts the difference into the **outbox** and moves the mark, in one transaction. So nothing that
//! is stored goes untold, whatever dies when, and nothing on the way of an edit waits for this. Events of one page for one target form a
//! **queue**: its first event is claimed by one process at a time, and the others wait for it.

use std::{collections::BTreeSet, time::SystemTime};

use async_trait::async_trait;

use crate::{PageId, Seq, StoreError};

mod memory;
mod plan;
mod rows;
mod statements;
pub(crate) mod transactions;

pub use memory::WebhookTables;
pub(crate) use statements::{Statements, statements};
pub(crate) use transactions::{Decode, Transaction, Value};

/// Events of one page that wait for one target. Those beyond are dead at once, where all can see them.
pub const MAX_QUEUED_EVENTS: u64 = 100;

/// Rows that are forgotten, or given up, at once.
pub const MAX_WEBHOOK_ROWS_AT_ONCE: usize = 1000;

/// What webhooks are told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WebhookEvent {
    /// A page came into being.
    PageCreated,
    /// Something of a page was stored.
    PageChanged,
    /// A version of a page was made.
    VersionCreated,
    /// A page went to the trash.
    PageDeleted,
    /// A page came back from the trash.
    PageRestored,
    /// Somebody is at a page at which nobody was.
    FirstJoined,
    /// Nobody is at a page any more.
    LastLeft,
}

impl WebhookEvent {
    /// All of them, in the order in which those that are found at once are told.
    pub const ALL: [Self; 7] = [
        Self::PageCreated,
        Self::PageChanged,
        Self::VersionCreated,
        Self::PageDeleted,
        Self::PageRestored,
        Self::FirstJoined,
        Self::LastLeft,
    ];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PageCreated => "page.created",
            Self::PageChanged => "page.changed",
            Self::VersionCreated => "version.created",
            Self::PageDeleted => "page.deleted",
            Self::PageRestored => "page.restored",
            Self::FirstJoined => "page.first_joined",
            Self::LastLeft => "page.last_left",
        }
    }

    /// The event of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == name)
    }
}

/// A page whose head is to be compared with what was told of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The page.
    pub page: PageId,
    /// Whether it is told that the page has changed. Whatever else is new is told in any case.
    pub with_changes: bool,
}

/// An event that leaves no trace in what is stored of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The page, which may never have been stored.
    pub page: PageId,
    /// The event.
    pub event: WebhookEvent,
    /// What else it says: an object in JSON.
    pub detail: String,
    /// When it happened; kept to the millisecond.
    pub at: SystemTime,
}

/// What is to be told.
#[derive(Clone, Debug)]
pub struct Telling {
    /// The time.
    pub now: SystemTime,
    /// Whom to tell.
    pub targets: Vec<String>,
    /// What they want to know.
    pub events: BTreeSet<WebhookEvent>,
    /// Pages to look at, each once.
    pub looks: Vec<Look>,
    /// What happened besides.
    pub notices: Vec<Notice>,
}

/// Whether an event in the outbox is still to be delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// It is.
    Pending,
    /// It was given up.
    Dead,
}

impl DeliveryState {
    /// The word that is stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Dead => "dead",
        }
    }

    /// The state of this name.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Pending, Self::Dead]
            .into_iter()
            .find(|state| state.as_str() == word)
    }
}

/// An event for one target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookDelivery {
    /// Its place among all of them.
    pub number: u64,
    /// Its name, the same in every attempt.
    pub id: String,
    /// The page.
    pub page: String,
    /// Whom it is for.
    pub target: String,
    /// The name of the event.
    pub event: String,
    /// The page's generation, where it has one.
    pub generation: Option<String>,
    /// The row of the page's log that the event is about.
    pub seq: Option<Seq>,
    /// What else it says: an object in JSON.
    pub detail: String,
    /// When it happened.
    pub at: SystemTime,
    /// Since when it waits.
    pub since: SystemTime,
    /// Whether it still does.
    pub state: DeliveryState,
    /// How often it was sent, or was about to be.
    pub attempts: u64,
    /// What became of the last attempt.
    pub last_error: Option<String>,
    /// Since when it is dead.
    pub ended_at: Option<SystemTime>,
}

/// Who wants to deliver.
#[derive(Clone, Debug)]
pub struct DeliveryClaim {
    /// The process.
    pub owner: String,
    /// To whom.
    pub target: String,
    /// The time.
    pub now: SystemTime,
    /// From then on others may.
    pub until: SystemTime,
    /// At most so many.
    pub limit: usize,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// It was taken.
    Delivered,
    /// It was not, and is tried again.
    Again {
        /// When.
        at: SystemTime,
        /// What went wrong.
        problem: String,
    },
    /// It was not, and is given up.
    Dead {
        /// What went wrong.
        problem: String,
    },
}

/// An attempt that has ended.
#[derive(Clone, Debug)]
pub struct FinishedDelivery {
    /// Place of the event.
    pub number: u64,
    /// Its page.
    pub page: String,
    /// Its target.
    pub target: String,
    /// What became of it.
    pub outcome: DeliveryOutcome,
}

/// How much there is in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutboxDepth {
    /// Events that are to be delivered.
    pub pending: u64,
    /// Events that were given up.
    pub dead: u64,
    /// Since when the oldest pending one waits.
    pub oldest: Option<SystemTime>,
}

/// What is too old.
#[derive(Clone, Debug)]
pub struct OutboxLimits {
    /// The time.
    pub now: SystemTime,
    /// Whom events are delivered to.
    pub targets: Vec<String>,
    /// Pending events for others that wait since before this are given up.
    pub pending_before: SystemTime,
    /// Dead events since before this are forgotten.
    pub dead_before: SystemTime,
    /// So many dead events are kept, the newest.
    pub dead_count: u64,
    /// No attempt is made later than this: where one is to be, the clock has jumped.
    pub latest: SystemTime,
}

/// Pages that more is to be told of, in a stretch of all pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UntoldPages {
    /// The pages.
    pub pages: Vec<PageId>,
    /// The last page of the stretch; `None` when there was none.
    pub last: Option<String>,
}

/// The part of a store that keeps what is for webhooks. See the module.
#[async_trait]
pub trait WebhookStore: Send + Sync + 'static {
    /// Says that there are webhooks from now on. What happened before the first time is told nobody.
    async fn begin_webhooks(&self, now: SystemTime) -> Result<(), StoreError>;

    /// Puts into the outbox what has not been told, in one transaction, and says how many events that were for all targets. A page's
    /// change that waits and was not sent yet is replaced by a newer one.
    async fn tell_webhooks(&self, telling: &Telling) -> Result<u64, StoreError>;

    /// Looks through the `limit` pages after `after`, in the order of their ids, for those of which more is to be told.
    async fn untold_pages(&self, after: Option<&str>, limit: usize) -> Result<UntoldPages, StoreError>;

    /// Takes the first events of queues whose time has come. Nobody else gets them until the time that the claim names.
    async fn claim_webhooks(&self, claim: &DeliveryClaim) -> Result<Vec<WebhookDelivery>, StoreError>;

    /// Says what became of attempts, in one transaction. What `owner` has not claimed, or not in time, stays as it is.
    async fn finish_webhooks(
        &self,
        owner: &str,
        now: SystemTime,
        finished: &[FinishedDelivery],
    ) -> Result<(), StoreError>;

    /// Lists events in the outbox, the oldest first, those behind number `after`, at most `limit`.
    async fn webhooks(
        &self,
        state: DeliveryState,
        after: u64,
        limit: usize,
    ) -> Result<Vec<WebhookDelivery>, StoreError>;

    /// Finds an event in the outbox.
    async fn webhook(&self, id: &str) -> Result<Option<WebhookDelivery>, StoreError>;

    /// Lets dead events be delivered again, before all that wait behind them; says how many of these were dead.
    async fn replay_webhooks(&self, now: SystemTime, numbers: &[u64]) -> Result<u64, StoreError>;

    /// How much there is in the outbox.
    async fn outbox_depth(&self) -> Result<OutboxDepth, StoreError>;

    /// Gives up and forgets what is too old, of each at most [`MAX_WEBHOOK_ROWS_AT_ONCE`], and says how many events that were.
    async fn forget_webhooks(&self, limits: &OutboxLimits) -> Result<u64, StoreError>;
}

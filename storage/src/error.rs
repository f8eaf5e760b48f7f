//! Why a store could not do what it was asked: whose fault it is and whether trying again helps.

use crate::{PageId, Seq};

/// An operation on a store failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database cannot be reached or does not answer. Trying again helps when it is back.
    #[error("the store cannot be reached: {reason}")]
    Unavailable {
        /// What the driver said, without credentials.
        reason: String,
    },
    /// Another process holds some of the pages. Trying again helps when it has let go of them.
    #[error("another process holds {} of the pages of a batch", pages.len())]
    Busy {
        /// Which.
        pages: Vec<PageId>,
    },
    /// The disk is full. Trying again helps when the operator has made room.
    #[error("the store is full ({reason}): free disk space, nothing is lost meanwhile")]
    Full {
        /// What the driver said.
        reason: String,
    },
    /// The database may not be written. Trying again helps when the operator has mended it.
    #[error(
        "the store is read-only ({reason}): check the permissions of the file, its folder or the database role"
    )]
    ReadOnly {
        /// What the driver said.
        reason: String,
    },
    /// What is stored contradicts itself. Needs the operator.
    #[error("page {page:?} is stored inconsistently at seq {seq}: {problem}")]
    Corrupt {
        /// The page.
        page: PageId,
        /// Where.
        seq: Seq,
        /// What does not fit.
        problem: String,
    },
    /// The address of the store is no address, or of an unknown kind.
    #[error("{setting} {problem}")]
    Address {
        /// The setting that gives it.
        setting: &'static str,
        /// What is wrong with it, without credentials.
        problem: String,
    },
    /// The schema is newer than this program, or a migration failed.
    #[error("the schema of the store could not be brought up to date: {reason}")]
    Migration {
        /// What the driver said.
        reason: String,
    },
    /// The store refused a statement: a defect of this program or of its schema.
    #[error("the store refused a statement: {reason}")]
    Statement {
        /// What the driver said.
        reason: String,
    },
}

/// What gives the address of PostgreSQL itself.
const DIRECT_URL: &str = "PAGEROOM_DATABASE_DIRECT_URL";
/// What gives the address of another server's database.
const SOURCE: &str = "the address";

impl StoreError {
    /// The same of the address of PostgreSQL itself.
    pub(crate) fn directly(self) -> Self {
        self.of_setting(DIRECT_URL)
    }

    /// The same of the address of another server's database.
    pub(crate) fn of_source(self) -> Self {
        self.of_setting(SOURCE)
    }

    fn of_setting(mut self, name: &'static str) -> Self {
        if let Self::Address { setting, .. } = &mut self {
            *setting = name;
        }
        self
    }

    /// Whether the same call may succeed later without anybody changing the program.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. }
            | Self::Busy { .. }
            | Self::Full { .. }
            | Self::ReadOnly { .. }
            | Self::Statement { .. } => true,
            Self::Corrupt { .. } | Self::Address { .. } | Self::Migration { .. } => false,
        }
    }

    /// A short name for metrics and logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Busy { .. } => "busy",
            Self::Full { .. } => "full",
            Self::ReadOnly { .. } => "read_only",
            Self::Corrupt { .. } => "corrupt",
            Self::Address { .. } => "address",
            Self::Migration { .. } => "migration",
            Self::Statement { .. } => "statement",
        }
    }
}

/// What an error means that the driver found without asking the database: mostly that it is not there.
pub(crate) fn without_code(error: &sqlx::Error) -> StoreError {
    let reason = error.to_string();
    if matches!(
        error,
        sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolClosed
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::WorkerCrashed
    ) {
        StoreError::Unavailable { reason }
    } else {
        StoreError::Statement { reason }
    }
}

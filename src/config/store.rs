//! Where pages are kept, and how.

use std::time::Duration;

use clap::Args;
use storage::{DirectUrl, Keep};

use crate::{auth::Secret, history::HistoryConfig};

/// Where pages are kept.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Where pages are kept")]
pub(crate) struct StoreSettings {
    /// `sqlite://FILE`, `postgres://USER:PASSWORD@HOST/DATABASE`, or `memory:` (nothing survives).
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite://pageroom.db",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database_url: Secret,
    /// Address of PostgreSQL itself, where `DATABASE_URL` leads through a pooler that lends a connection for a transaction, such as
    /// PgBouncer. `LISTEN` and migrations need it.
    #[arg(
        long,
        env = "PAGEROOM_DATABASE_DIRECT_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    pub(crate) database_direct_url: Option<Secret>,
    /// Announce each commit on PostgreSQL's channel `pageroom_pages`, as `{"pageId","seq"}` of each page, to programs that `LISTEN`
    /// there, not through a pooler. PostgreSQL lets transactions that announce something commit one after the other.
    #[arg(
        long,
        env = "PAGEROOM_DATABASE_NOTIFY",
        default_value_t = false,
        action = clap::ArgAction::Set,
        value_parser = clap::builder::BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub(crate) database_notify: bool,
    /// Drop the content of what is deleted, as Yjs does; `false` keeps it, for clients that show earlier versions.
    #[arg(
        long,
        env = "PAGEROOM_GC",
        default_value_t = true,
        action = clap::ArgAction::Set,
        value_parser = clap::builder::BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub(crate) gc: bool,
    /// A busy store commits at most this often, so that a commit gathers what many rooms want stored. The first commit after a pause
    /// never waits.
    #[arg(
        long,
        env = "PAGEROOM_COMMIT_INTERVAL_MILLISECONDS",
        default_value_t = 33,
        value_name = "MILLISECONDS"
    )]
    pub(crate) commit_interval_milliseconds: u64,
    /// While the store fails: longest pause between two tries.
    #[arg(
        long,
        env = "PAGEROOM_STORE_RETRY_MILLISECONDS",
        default_value_t = 1000,
        value_name = "MILLISECONDS"
    )]
    pub(crate) store_retry_milliseconds: u64,
    /// While the store fails, rooms keep at most about this much in memory; beyond it connections are not read until it is back.
    #[arg(long, env = "PAGEROOM_MAX_UNSTORED_BYTES", default_value_t = 256 << 20, value_name = "BYTES")]
    pub(crate) max_unstored_bytes: u64,
    /// The readable snapshot of a page is at most this far behind its last edit.
    #[arg(
        long,
        env = "PAGEROOM_SNAPSHOT_INTERVAL_SECONDS",
        default_value_t = 5,
        value_name = "SECONDS"
    )]
    pub(crate) snapshot_interval_seconds: u64,
    /// Connections that read from the store; those that write are few and fixed.
    #[arg(
        long,
        env = "PAGEROOM_STORE_READERS",
        default_value_t = 4,
        value_name = "COUNT"
    )]
    pub(crate) store_readers: u32,
    /// How much of the past of pages is kept, for reading and restoring earlier states: `off`, `all`, `30 days`, or from the oldest
    /// of so many versions on (`100 versions`). Named versions stay. Policies that are set through REST count before it.
    #[arg(
        long,
        env = "PAGEROOM_HISTORY",
        default_value = "30 days",
        value_name = "HOW MUCH"
    )]
    pub(crate) history: Keep,
    /// What the past of one page may take; beyond it the oldest half goes, but for named versions. 0 for no limit.
    #[arg(
        long,
        env = "PAGEROOM_MAX_HISTORY_BYTES",
        default_value_t = 256 << 20,
        value_name = "BYTES"
    )]
    pub(crate) max_history_bytes: u64,
    /// How long a page stays in the trash before it is purged, with its history and its permissions. 0 for ever.
    #[arg(long, env = "PAGEROOM_TRASH_DAYS", default_value_t = 0, value_name = "DAYS")]
    pub(crate) trash_days: u32,
    /// A page that is edited all the time gets a version this often. 0 for never.
    #[arg(
        long,
        env = "PAGEROOM_VERSION_INTERVAL_SECONDS",
        default_value_t = 600,
        value_name = "SECONDS"
    )]
    pub(crate) version_interval_seconds: u64,
    /// A page that was edited gets a version when it has not been for this long. 0 for never.
    #[arg(
        long,
        env = "PAGEROOM_VERSION_QUIET_SECONDS",
        default_value_t = 120,
        value_name = "SECONDS"
    )]
    pub(crate) version_quiet_seconds: u64,
    /// Lets several servers on one machine use one SQLite file. They do not show each other's users, and edits of one reach the
    /// other's when it looks; in PostgreSQL that needs no leave.
    #[arg(
        long,
        env = "PAGEROOM_SHARED_FILE",
        default_value_t = false,
        action = clap::ArgAction::Set,
        value_parser = clap::builder::BoolishValueParser::new(),
        value_name = "BOOL"
    )]
    pub(crate) shared_file: bool,
}

impl StoreSettings {
    /// How the store is opened.
    pub(super) fn options(&self) -> storage::StoreOptions {
        storage::StoreOptions {
            readers: self.store_readers.max(1),
            alone: !self.shared_file,
            history: self.history != Keep::Nothing,
            notifies: self.database_notify,
            direct: self
                .database_direct_url
                .as_ref()
                .map(|url| DirectUrl::new(url.expose())),
            ..storage::StoreOptions::default()
        }
    }

    /// What addresses of the store say that nothing listens to.
    pub(super) fn warnings(&self) -> Vec<String> {
        let direct = self.database_direct_url.as_ref();
        let addresses = [
            ("DATABASE_URL", Some(&self.database_url)),
            ("PAGEROOM_DATABASE_DIRECT_URL", direct),
        ];
        let each = addresses.into_iter().flat_map(|(variable, url)| {
            let unused = url.map(|url| storage::unused_parameters(url.expose()));
            let unused = unused.unwrap_or_default().into_iter();
            unused.map(move |parameter| {
                let instead = match parameter {
                    "connection_limit" => {
                        "PAGEROOM_STORE_READERS says how many connections read, and a fixed number search and write"
                    }
                    _ => "no setting is in its place, because how long is waited is fixed",
                };
                format!("{variable}: `{parameter}` is not used: {instead}")
            })
        });
        each.collect()
    }

    /// How long pages stay in the trash; `None` for ever.
    pub(super) fn trash(&self) -> Option<Duration> {
        (self.trash_days != 0).then(|| Duration::from_secs(u64::from(self.trash_days) * 24 * 60 * 60))
    }

    /// What of the past is kept.
    pub(super) fn history(&self) -> HistoryConfig {
        let seconds = |seconds: u64| (seconds != 0).then(|| Duration::from_secs(seconds));
        HistoryConfig {
            keep: self.history,
            max_bytes: (self.max_history_bytes != 0).then_some(self.max_history_bytes),
            version_interval: seconds(self.version_interval_seconds),
            version_quiet: seconds(self.version_quiet_seconds),
        }
    }
}

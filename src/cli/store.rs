//! Which store a command works on.

use clap::Args;
use storage::{DirectUrl, SharedStore, StoreError, StoreOptions};

use crate::auth::Secret;

/// Where pages are kept.
#[derive(Args, Debug)]
pub(super) struct StoreArgs {
    /// Where pages are kept.
    #[arg(
        long,
        env = "DATABASE_URL",
        default_value = "sqlite://pageroom.db",
        value_name = "URL",
        hide_env_values = true
    )]
    database_url: Secret,
    /// Address of PostgreSQL itself, where that one leads through a pooler.
    #[arg(
        long,
        env = "PAGEROOM_DATABASE_DIRECT_URL",
        value_name = "URL",
        hide_env_values = true
    )]
    database_direct_url: Option<Secret>,
}

impl StoreArgs {
    /// Opens the store to read it: nothing of it is made or brought up to date.
    pub(super) async fn open(&self) -> Result<SharedStore, StoreError> {
        self.open_with(StoreOptions {
            migrate: false,
            create: false,
            ..StoreOptions::default()
        })
        .await
    }

    /// Opens the store to write into it; it is made if it is not there.
    pub(super) async fn open_for_writing(&self) -> Result<SharedStore, StoreError> {
        self.open_with(StoreOptions {
            // A server in another process would not see what is written into its file.
            alone: true,
            ..StoreOptions::default()
        })
        .await
    }

    async fn open_with(&self, options: StoreOptions) -> Result<SharedStore, StoreError> {
        let direct = self.database_direct_url.as_ref();
        let options = StoreOptions {
            direct: direct.map(|url| DirectUrl::new(url.expose())),
            ..options
        };
        storage::open(self.database_url.expose(), &options).await
    }
}

//! Databases for tests: an empty one for each test, gone afterwards.

use async_trait::async_trait;
use pageroom_storage::{
    SharedStore,
    testing::contract::{Place, UrlPlace},
};
use tempfile::TempDir;

/// A file in a folder of its own.
pub struct SqlitePlace {
    file: UrlPlace,
    _folder: TempDir,
}

impl SqlitePlace {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = UrlPlace(format!("sqlite://{}/pages.db", folder.path().display()));
        Self {
            file,
            _folder: folder,
        }
    }
}

#[async_trait]
impl Place for SqlitePlace {
    async fn open(&self) -> SharedStore {
        self.file.open().await
    }
}

//! Reads the heads of many pages at once.

use super::{PostgresStore, statements};
use crate::{PageRecord, StoreError, gathered::ReadHeads, rows::HeadRow};

impl ReadHeads for PostgresStore {
    async fn read_heads(&self, pages: &[&str]) -> Result<Vec<PageRecord>, StoreError> {
        let rows: Vec<HeadRow> = self
            .read(|| sqlx::query_as(statements::HEADS).bind(pages))
            .await?;
        rows.into_iter().map(HeadRow::into_record).collect()
    }
}

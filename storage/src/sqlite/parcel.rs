//! Packs a chunk of a batch into the four parameters of a script.

use std::borrow::Cow;

use serde::Serialize;
use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments, types::Json};

use crate::{PageCommit, Seq, batch::Chunk, readable};

/// The parameters of [`STORE_BATCH`](super::statements::STORE_BATCH) and its like.
pub(super) struct Parcel<'a> {
    heads: Vec<HeadItem<'a>>,
    rows: Vec<RowItem<'a>>,
    snapshots: Vec<SnapshotItem<'a>>,
    bytes: Vec<u8>,
}

/// Page, number of its rows, size.
#[derive(Serialize)]
struct HeadItem<'a>(&'a str, usize, Option<u64>);

/// Page, distance from its last row, offset and length of the data, user.
#[derive(Serialize)]
struct RowItem<'a>(&'a str, i64, usize, usize, Option<Cow<'a, str>>);

/// Page, number, offset, and the lengths of what is there: state, state vector, content, text.
#[derive(Serialize)]
struct SnapshotItem<'a>(&'a str, Seq, usize, usize, usize, Option<usize>, usize);

impl<'a> Parcel<'a> {
    pub(super) fn new(entries: &[&'a PageCommit], chunk: &Chunk<'a>) -> Self {
        let mut parcel = Self {
            heads: entries
                .iter()
                .map(|e| HeadItem(e.page.as_str(), e.updates.len(), e.size_bytes))
                .collect(),
            rows: Vec::with_capacity(chunk.rows.len()),
            snapshots: Vec::with_capacity(chunk.snapshots.len()),
            // SQLite takes an empty blob for NULL here, so there is always a byte. That also makes offsets start at 1, as it
            // counts them.
            bytes: vec![0],
        };
        for row in &chunk.rows {
            let offset = parcel.add(&row.update.data);
            let user = row.update.user.as_deref().map(readable::text);
            parcel.rows.push(RowItem(
                row.page.as_str(),
                row.from_last,
                offset,
                row.update.data.len(),
                user,
            ));
        }
        for (page, snapshot) in &chunk.snapshots {
            let content = readable::json(&snapshot.content);
            let text = readable::text(&snapshot.text);
            let offset = parcel.add(&snapshot.state);
            parcel.add(&snapshot.state_vector);
            parcel.add(content.as_deref().unwrap_or_default().as_bytes());
            parcel.add(text.as_bytes());
            parcel.snapshots.push(SnapshotItem(
                page.as_str(),
                snapshot.seq,
                offset,
                snapshot.state.len(),
                snapshot.state_vector.len(),
                content.map(|content| content.len()),
                text.len(),
            ));
        }
        parcel
    }

    /// Adds bytes and says where they are, counted from 1.
    fn add(&mut self, bytes: &[u8]) -> usize {
        let offset = self.bytes.len() + 1;
        self.bytes.extend_from_slice(bytes);
        offset
    }

    pub(super) fn bind<'q>(self, script: &'static str) -> Query<'q, Sqlite, SqliteArguments> {
        sqlx::query(script)
            .bind(Json(self.heads))
            .bind(Json(self.rows))
            .bind(Json(self.snapshots))
            .bind(self.bytes)
    }
}

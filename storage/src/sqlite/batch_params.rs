//! Packs a chunk of a batch into the three parameters of a script.

use std::borrow::Cow;

use serde::Serialize;
use sqlx::{Sqlite, query::Query, sqlite::SqliteArguments, types::Json};

use super::large_values::Written;
use crate::{PageCommit, batch::Chunk, readable};

/// The parameters of [`STORE_ROWS`](super::statements::STORE_ROWS) and its like.
pub(super) struct BatchParams<'a> {
    heads: Vec<HeadItem<'a>>,
    rows: Vec<RowItem<'a>>,
    bytes: Vec<u8>,
}

/// Page, number of its rows, size, generation.
#[derive(Serialize)]
struct HeadItem<'a>(&'a str, usize, Option<u64>, Option<&'a str>);

/// Page, distance from its last row, offset and length of the data, user, generation, number of a large value.
#[derive(Serialize)]
struct RowItem<'a>(
    &'a str,
    i64,
    usize,
    usize,
    Option<Cow<'a, str>>,
    Option<&'a str>,
    Option<i64>,
);

impl<'a> BatchParams<'a> {
    /// With what has been written of the rows.
    pub(super) fn new(entries: &[&'a PageCommit], chunk: &Chunk<'a>, written: &[Written<'_>]) -> Self {
        let mut parcel = Self {
            heads: entries
                .iter()
                .map(|entry| {
                    let generation = entry.generation.as_ref().map(|generation| &*generation.0);
                    HeadItem(
                        entry.page.as_str(),
                        entry.updates.len(),
                        entry.size_bytes,
                        generation,
                    )
                })
                .collect(),
            rows: Vec::with_capacity(chunk.rows.len()),
            // SQLite takes an empty blob for NULL here, so there is always a byte. That also makes offsets start at 1, as it
            // counts them.
            bytes: vec![0],
        };
        for (row, written) in chunk.rows.iter().zip(written) {
            let (bytes, large) = match *written {
                Written::Here(bytes) => (bytes, None),
                Written::Large(value) => (&[][..], Some(value)),
            };
            let offset = parcel.add(bytes);
            let user = row.update.user.as_deref().map(readable::text);
            parcel.rows.push(RowItem(
                row.page.as_str(),
                row.from_last,
                offset,
                bytes.len(),
                user,
                row.generation,
                large,
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
            .bind(self.bytes)
    }
}

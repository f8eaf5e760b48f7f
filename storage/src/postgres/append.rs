//! How a batch travels to PostgreSQL, and what the answer says.

use std::borrow::Cow;

use sqlx::{
    Postgres, Row,
    postgres::{PgArguments, PgRow},
    query::Query,
};

use super::{failure, statements};
use crate::{
    Committed, Generation, PageCommit, Seq, StoreError,
    batch::{self, Chunk, number},
    readable, rows,
};

/// The statements that append the rows of entries in the order of their pages.
pub(super) fn append<'q>(
    append: &'static str,
    entries: &[&PageCommit],
) -> Vec<Query<'q, Postgres, PgArguments>> {
    let mut statements = Vec::new();
    for (n, chunk) in batch::chunks(entries).iter().enumerate() {
        if n == 0 {
            statements.push(bind_rows(bind_heads(append, entries), chunk));
        } else if !chunk.rows.is_empty() {
            let generations = chunk.rows.iter().map(|row| row.generation).collect::<Vec<_>>();
            statements.push(bind_rows(sqlx::query(statements::APPEND_MORE), chunk).bind(generations));
        }
    }
    statements
}

pub(super) fn answers(batch: &[PageCommit], heads: &[PgRow]) -> Result<Vec<Committed>, StoreError> {
    let heads = heads.iter().map(head).collect::<Result<_, _>>();
    Ok(batch::answers(batch, &heads.map_err(failure)?))
}

fn bind_heads<'q>(append: &'static str, entries: &[&PageCommit]) -> Query<'q, Postgres, PgArguments> {
    sqlx::query(append)
        .bind(
            entries
                .iter()
                .map(|entry| entry.page.as_str())
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|entry| number(entry.updates.len()))
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|entry| entry.size_bytes.map(number))
                .collect::<Vec<_>>(),
        )
        .bind(
            entries
                .iter()
                .map(|entry| entry.generation.as_ref().map(|generation| &*generation.0))
                .collect::<Vec<_>>(),
        )
}

fn bind_rows<'q>(
    query: Query<'q, Postgres, PgArguments>,
    chunk: &Chunk<'_>,
) -> Query<'q, Postgres, PgArguments> {
    let users = chunk
        .rows
        .iter()
        .map(|row| row.update.user.as_deref().map(readable::text));
    query
        .bind(chunk.rows.iter().map(|row| row.page.as_str()).collect::<Vec<_>>())
        .bind(chunk.rows.iter().map(|row| row.from_last).collect::<Vec<_>>())
        .bind(chunk.rows.iter().map(|row| &*row.update.data).collect::<Vec<_>>())
        .bind(users.collect::<Vec<Option<Cow<'_, str>>>>())
}

/// The generation and the number of a page's last row, as [`statements::APPEND`] answers.
fn head(row: &PgRow) -> Result<(String, (Generation, Seq)), sqlx::Error> {
    let generation: String = row.try_get(1)?;
    Ok((
        row.try_get(0)?,
        (Generation(generation.into()), rows::count(row.try_get(2)?)),
    ))
}

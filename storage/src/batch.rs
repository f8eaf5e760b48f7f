//! What a store makes of a batch before it sends it: checked, sorted, cut into bounded chunks, and the answers put back in
//! the caller's order.

use std::collections::HashMap;

use crate::{Committed, Generation, NewUpdate, PageCommit, PageId, Seq, StoreError};

/// Most bytes of payload sent to a database in one statement. A single larger row goes alone.
const MAX_CHUNK_BYTES: usize = 32 << 20;

/// What one statement carries of a batch.
#[derive(Debug, Default)]
pub(crate) struct Chunk<'a> {
    pub(crate) rows: Vec<Row<'a>>,
    bytes: usize,
}

/// A row to append. Its number is the page's last number after the batch, less `from_last`.
#[derive(Debug)]
pub(crate) struct Row<'a> {
    pub(crate) page: &'a PageId,
    pub(crate) from_last: i64,
    pub(crate) update: &'a NewUpdate,
    /// The generation that its page has to have.
    pub(crate) generation: Option<&'a str>,
}

/// The entries in the order of their page ids, in which all writers lock pages. A page that occurs twice is refused.
pub(crate) fn in_page_order(batch: &[PageCommit]) -> Result<Vec<&PageCommit>, StoreError> {
    let mut entries: Vec<&PageCommit> = batch.iter().collect();
    entries.sort_unstable_by(|a, b| a.page.cmp(&b.page));
    match entries
        .iter()
        .zip(entries.iter().skip(1))
        .find(|(entry, next)| entry.page == next.page)
    {
        Some((twice, _)) => Err(StoreError::Statement {
            reason: format!("page {:?} occurs twice in a batch", twice.page),
        }),
        None => Ok(entries),
    }
}

/// All rows of the entries, in as few chunks as the bound allows, at least one.
pub(crate) fn chunks<'a>(entries: &[&'a PageCommit]) -> Vec<Chunk<'a>> {
    let mut full = Vec::new();
    let mut chunk = Chunk::default();
    for entry in entries {
        for (update, from_last) in entry.updates.iter().zip((0..number(entry.updates.len())).rev()) {
            chunk.make_room(update.data.len(), &mut full);
            chunk.rows.push(Row {
                page: &entry.page,
                from_last,
                update,
                generation: entry.generation.as_ref().map(|generation| &*generation.0),
            });
        }
    }
    full.push(chunk);
    full
}

/// The answers in the order of the batch, from what the database said about its pages in any order.
pub(crate) fn answers(batch: &[PageCommit], heads: &HashMap<String, (Generation, Seq)>) -> Vec<Committed> {
    batch
        .iter()
        .map(|entry| match heads.get(entry.page.as_str()) {
            Some((generation, last_seq)) => Committed {
                generation: generation.clone(),
                first_seq: (last_seq + 1).saturating_sub(entry.updates.len() as u64),
                last_seq: *last_seq,
            },
            None => Committed::nothing(),
        })
        .collect()
}

/// A length or a number as databases count. More than they can hold cannot occur and becomes the largest they can.
pub(crate) fn number(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

impl<'a> Chunk<'a> {
    /// Starts a new chunk when `bytes` more would be too many for this one.
    fn make_room(&mut self, bytes: usize, full: &mut Vec<Self>) {
        if self.bytes > 0 && self.bytes + bytes > MAX_CHUNK_BYTES {
            full.push(std::mem::take(self));
        }
        self.bytes += bytes;
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(page: &str, sizes: &[usize]) -> PageCommit {
        PageCommit {
            page: PageId::new(page).unwrap(),
            updates: sizes
                .iter()
                .map(|&size| NewUpdate {
                    data: Bytes::from(vec![7; size]),
                    user: None,
                })
                .collect(),
            size_bytes: None,
            generation: None,
        }
    }

    #[test]
    fn rows_are_numbered_backwards_from_the_last_and_cut_by_bytes() {
        let batch = [entry("b", &[1, MAX_CHUNK_BYTES + 1, 1]), entry("a", &[1])];
        let entries = in_page_order(&batch).unwrap();
        let chunks = chunks(&entries);
        let rows: Vec<Vec<_>> = chunks
            .iter()
            .map(|chunk| {
                chunk
                    .rows
                    .iter()
                    .map(|row| (row.page.as_str(), row.from_last))
                    .collect()
            })
            .collect();
        assert_eq!(rows, [vec![("a", 0), ("b", 2)], vec![("b", 1)], vec![("b", 0)]]);
    }

    #[test]
    fn a_page_twice_in_a_batch_is_refused() {
        let error = in_page_order(&[entry("a", &[1]), entry("b", &[1]), entry("a", &[1])]).unwrap_err();
        assert_eq!(error.kind(), "statement");
    }
}

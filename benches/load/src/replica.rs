//! A text as its only author sees it: turns "insert here, delete there" into Yjs updates.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use serde::Deserialize;
use thiserror::Error;

use super::updates::{Insertion, utf16_length, write_update};

/// Chunks are split when they grow beyond this many characters.
const CHUNK_LENGTH_MAX: usize = 1024;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// Why a trace could not be read.
#[derive(Debug, Error)]
pub enum TraceError {
    /// The file could not be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is something else.
    #[error("{} is no editing trace: {source}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// A trace of editing one text, as in the public `editing-traces` collection.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The text at the beginning.
    pub start_content: String,
    /// The text at the end.
    pub end_content: String,
    /// The edits in order.
    pub txns: Vec<Transaction>,
}

impl Trace {
    /// Reads a trace from JSON, which may be packed with gzip.
    ///
    /// # Errors
    /// When the file cannot be read or is something else.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let failed = |source| TraceError::File {
            path: path.to_owned(),
            source,
        };
        let mut bytes = std::fs::read(path).map_err(failed)?;
        if bytes.starts_with(&GZIP_MAGIC) {
            let mut plain = Vec::new();
            GzDecoder::new(&*bytes).read_to_end(&mut plain).map_err(failed)?;
            bytes = plain;
        }
        serde_json::from_slice(&bytes).map_err(|source| TraceError::Content {
            path: path.to_owned(),
            source,
        })
    }

    /// The edits that type the text again, as `client`.
    pub fn edits(&self, client: u64) -> Vec<Edit> {
        let mut replica = Replica::new(client);
        let mut edits = Vec::with_capacity(self.txns.len() + 1);
        if !self.start_content.is_empty() {
            edits.push(replica.edit(&[(0, 0, self.start_content.clone())]));
        }
        edits.extend(self.txns.iter().map(|txn| replica.edit(&txn.patches)));
        edits
    }
}

/// One edit of a [`Trace`].
#[derive(Debug, Deserialize)]
pub struct Transaction {
    /// Position, number of characters deleted there, and the text inserted there.
    pub patches: Vec<(usize, usize, String)>,
}

/// One edit, ready to be sent.
#[derive(Debug)]
pub struct Edit {
    /// The update.
    pub update: Vec<u8>,
    /// The author's clock after it.
    pub clock: u32,
    /// The characters it deletes, as `(clock, length)`.
    pub deletions: Vec<(u32, u32)>,
}

/// The text of one author, by the clocks of its characters.
#[derive(Debug)]
pub struct Replica {
    client: u64,
    /// The clocks of the visible characters in their order.
    chunks: Vec<Vec<u32>>,
    /// For each character the one after it, deleted ones included.
    after: Vec<Option<u32>>,
    first: Option<u32>,
    length: usize,
}

impl Replica {
    /// An empty text that `client` is going to write.
    pub fn new(client: u64) -> Self {
        Self {
            client,
            chunks: vec![Vec::new()],
            after: Vec::new(),
            first: None,
            length: 0,
        }
    }

    /// How many characters (UTF-16 units) are visible.
    pub fn length(&self) -> usize {
        self.length
    }

    /// The author's clock.
    fn clock(&self) -> u32 {
        u32::try_from(self.after.len()).unwrap_or(u32::MAX)
    }

    /// Makes one edit of patches like those of a [`Transaction`], positions in UTF-16 units; positions beyond the end
    /// mean the end.
    pub fn edit(&mut self, patches: &[(usize, usize, String)]) -> Edit {
        let clock = self.clock();
        let mut insertions = Vec::new();
        let mut deletions: Vec<(u32, u32)> = Vec::new();
        for (position, deleted, text) in patches {
            for _ in 0..*deleted {
                let Some(clock) = self.remove(*position) else {
                    break;
                };
                match deletions.last_mut() {
                    Some((start, length)) if *start + *length == clock => *length += 1,
                    _ => deletions.push((clock, 1)),
                }
            }
            if !text.is_empty() {
                let (origin, right_origin) = self.insert(*position, utf16_length(text.as_bytes()));
                insertions.push(Insertion {
                    origin,
                    right_origin,
                    text,
                });
            }
        }
        let mut update = Vec::new();
        write_update(&mut update, self.client, clock, &insertions, &deletions);
        Edit {
            update,
            clock: self.clock(),
            deletions,
        }
    }

    /// The chunk that holds `position` and the place in it.
    fn find(&self, position: usize) -> (usize, usize) {
        let mut rest = position;
        for (index, chunk) in self.chunks.iter().enumerate() {
            if rest <= chunk.len() {
                return (index, rest);
            }
            rest -= chunk.len();
        }
        let last = self.chunks.len() - 1;
        (last, self.chunks.get(last).map_or(0, Vec::len))
    }

    fn remove(&mut self, position: usize) -> Option<u32> {
        let (mut index, mut at) = self.find(position);
        while self.chunks.get(index)?.len() == at {
            index += 1;
            at = 0;
        }
        self.length -= 1;
        Some(self.chunks.get_mut(index)?.remove(at))
    }

    /// Puts the next `length` clocks at `position`; returns their neighbours.
    fn insert(&mut self, position: usize, length: u32) -> (Option<u32>, Option<u32>) {
        let start = self.clock();
        let (index, at) = self.find(position);
        let left = match at.checked_sub(1) {
            Some(before) => self
                .chunks
                .get(index)
                .and_then(|chunk| chunk.get(before))
                .copied(),
            None => self
                .chunks
                .iter()
                .take(index)
                .rev()
                .find_map(|chunk| chunk.last().copied()),
        };
        let right = match left.and_then(|left| self.after.get(left as usize)) {
            Some(after) => *after,
            None => self.first,
        };
        let end = start + length;
        self.after.extend((start + 1..end).map(Some));
        self.after.push(right);
        match left.and_then(|left| self.after.get_mut(left as usize)) {
            Some(after) => *after = Some(start),
            None => self.first = Some(start),
        }
        self.length += length as usize;
        if let Some(chunk) = self.chunks.get_mut(index) {
            chunk.splice(at..at, start..end);
            if chunk.len() > CHUNK_LENGTH_MAX {
                let second = chunk.split_off(chunk.len() / 2);
                self.chunks.insert(index + 1, second);
            }
        }
        (left, right)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_after(updates: &[Vec<u8>]) -> String {
        let limits = crdt::Limits::default();
        let mut document = crdt::Document::new(limits);
        for update in updates {
            let update = crdt::Update::parse(update.clone().into(), &limits).expect("a well-formed update");
            assert!(matches!(document.admit(update), Ok(crdt::Admission::New(_))));
        }
        document
            .content()
            .expect("content")
            .text(None)
            .expect("text")
            .unwrap_or_default()
    }

    #[test]
    fn a_document_that_gets_the_updates_has_the_text() {
        let mut replica = Replica::new(77);
        let edits = [
            (0, 0, "wrld".to_owned()),
            (0, 0, "hello 𝒳".to_owned()),
            (9, 0, "o".to_owned()),
            (6, 2, String::new()),
            (0, 1, "H".to_owned()),
            (11, 0, "!".to_owned()),
        ];
        let updates: Vec<_> = edits
            .into_iter()
            .map(|patch| replica.edit(&[patch]).update)
            .collect();
        assert_eq!(text_after(&updates), "Hello world!");
        assert_eq!(replica.length(), 12);
    }

    #[test]
    fn random_edits_end_like_the_same_edits_of_a_string() {
        let mut replica = Replica::new(3);
        let mut expected: Vec<char> = Vec::new();
        let mut updates = Vec::new();
        let mut state = 1_u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as usize % below
        };
        for _ in 0..3000 {
            let position = random(expected.len() + 1);
            let deleted = random(3).min(expected.len() - position);
            let text: String = (0..random(4))
                .map(|_| char::from(b'a' + random(26) as u8))
                .collect();
            expected.splice(position..position + deleted, text.chars());
            if deleted > 0 || !text.is_empty() {
                updates.push(replica.edit(&[(position, deleted, text)]).update);
            }
        }
        assert_eq!(text_after(&updates), expected.iter().collect::<String>());
    }
}

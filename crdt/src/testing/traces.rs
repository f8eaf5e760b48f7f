//! Recorded editing sessions as Yjs updates.

use std::io::Read;

use bytes::Bytes;
use serde::Deserialize;

use super::Replica;
use crate::encoding::Reader;
use crate::state_vector::ClientId;

/// A session of one author, or of several whose work was put in one order.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SequentialTrace {
    /// What the text must be in the end.
    pub end_content: String,
    txns: Vec<Sequential>,
}

#[derive(Debug, Deserialize)]
struct Sequential {
    patches: Vec<(u32, u32, String)>,
}

/// A session of several authors, with what each had seen when it edited.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConcurrentTrace {
    /// What the text must be in the end.
    pub end_content: String,
    /// How many authors there are.
    pub num_agents: usize,
    txns: Vec<Concurrent>,
}

#[derive(Debug, Deserialize)]
struct Concurrent {
    parents: Vec<usize>,
    agent: usize,
    patches: Vec<(u32, u32, String)>,
}

/// An update and which author made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthoredUpdate {
    /// Index of the author.
    pub author: usize,
    /// The update.
    pub update: Bytes,
}

impl SequentialTrace {
    /// Reads a packed trace (`.json.gz`).
    pub fn read(packed: &[u8]) -> Self {
        serde_json::from_slice(&unpack(packed)).expect("a sequential trace")
    }

    /// One update for each transaction, of one client, to the text `text`. The document library takes a while for it.
    pub fn updates(&self, client: ClientId) -> Vec<Bytes> {
        let mut replica = Replica::new(client);
        self.txns
            .iter()
            .map(|txn| {
                replica.patch(
                    txn.patches
                        .iter()
                        .map(|(at, deleted, text)| (*at, *deleted, text.as_str())),
                )
            })
            .collect()
    }
}

impl ConcurrentTrace {
    /// Reads a packed trace (`.json.gz`).
    pub fn read(packed: &[u8]) -> Self {
        serde_json::from_slice(&unpack(packed)).expect("a concurrent trace")
    }

    /// One update for each transaction to the text `text`, author `k` editing as client `first + k`. Each update
    /// depends at most on those before it.
    pub fn updates(&self, first: ClientId) -> Vec<AuthoredUpdate> {
        let mut replicas: Vec<_> = (0..self.num_agents)
            .map(|author| Replica::new(ClientId(first.0 + author as u64)))
            .collect();
        let mut updates: Vec<AuthoredUpdate> = Vec::with_capacity(self.txns.len());
        let mut seen: Vec<Vec<bool>> = vec![vec![false; self.txns.len()]; self.num_agents];
        for (index, txn) in self.txns.iter().enumerate() {
            let replica = &mut replicas[txn.agent];
            let seen = &mut seen[txn.agent];
            let mut missing = Vec::new();
            let mut open = txn.parents.clone();
            while let Some(parent) = open.pop() {
                if !std::mem::replace(&mut seen[parent], true) {
                    missing.push(parent);
                    open.extend(&self.txns[parent].parents);
                }
            }
            missing.sort_unstable();
            for parent in missing {
                replica.apply(&updates[parent].update);
            }
            let update = replica.patch(
                txn.patches
                    .iter()
                    .map(|(at, deleted, text)| (*at, *deleted, text.as_str())),
            );
            seen[index] = true;
            updates.push(AuthoredUpdate {
                author: txn.agent,
                update,
            });
        }
        updates
    }
}

/// One case of the y-crdt data set: updates of several clients, and what they add up to.
#[derive(Debug)]
pub struct MergeCase {
    /// The updates, in an order in which they can be applied.
    pub updates: Vec<Bytes>,
    /// The text `text`.
    pub text: String,
    /// The map `map`.
    pub map: serde_json::Value,
    /// The list `array`.
    pub array: serde_json::Value,
}

/// Reads the packed y-crdt data set (`small-test-dataset.bin.gz`).
pub fn merge_cases(packed: &[u8]) -> Vec<MergeCase> {
    let bytes = unpack(packed);
    let mut reader = Reader::new(&bytes);
    let cases = reader.count().expect("a count");
    (0..cases)
        .map(|_| {
            let updates = reader.count().expect("a count");
            MergeCase {
                updates: (0..updates)
                    .map(|_| Bytes::copy_from_slice(reader.buffer().expect("an update")))
                    .collect(),
                text: reader.string().expect("a text").to_owned(),
                map: any(&bytes, &mut reader),
                array: any(&bytes, &mut reader),
            }
        })
        .collect()
}

fn any<'a>(bytes: &'a [u8], reader: &mut Reader<'a>) -> serde_json::Value {
    let mut cursor = yrs::encoding::read::Cursor::new(bytes);
    cursor.next = reader.position();
    let value = yrs::Any::decode(&mut cursor).expect("a value");
    *reader = Reader::starting_at(bytes, cursor.next);
    serde_json::to_value(value).expect("JSON")
}

fn unpack(packed: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(packed)
        .read_to_end(&mut bytes)
        .expect("a gzip file");
    bytes
}

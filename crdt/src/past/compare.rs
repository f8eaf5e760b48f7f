//! What two states of a document have apart, in the order of the document, and which rows of the log did that.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use super::lists::{Item, Lists};
use super::{PastError, admitted, deleted_in};
use crate::document::Document;
use crate::encoding::Reader;
use crate::id_set::{ClockRange, IdSet};
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};
use crate::update::{ANY, EMBED, Id, STRING, TYPE, Update};

/// What became of something between two states.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// It is in both.
    Kept,
    /// It is in the later one only.
    Inserted,
    /// It is in the earlier one only.
    Deleted,
}

/// Something that is in one of two states, or in both.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// In how many nodes it is.
    pub depth: usize,
    /// The key under which it is, in a map or as an attribute.
    pub key: Option<String>,
    /// What it is.
    pub thing: Thing,
    /// What became of it.
    pub fate: Fate,
    /// The row that did that, by its place among the rows; of what was kept, the one that inserted it.
    pub row: Option<usize>,
}

/// What a piece is.
#[derive(Debug, Clone, PartialEq)]
pub enum Thing {
    /// Text.
    Text(String),
    /// A node, by its name; what is in it follows one level deeper.
    Node(String),
    /// A plain value: null where it is not a text, a number or a truth value.
    Value(Value),
    /// Something in a text that is no text.
    Embed,
}

/// Which row inserted and which deleted what.
#[derive(Debug, Default)]
struct Origins {
    inserted: RangeMap,
    deleted: RangeMap,
}

/// What belongs to ranges of ids.
#[derive(Debug, Default)]
struct RangeMap(BTreeMap<ClientId, BTreeMap<u32, (u32, usize)>>);

impl RangeMap {
    fn insert(&mut self, client: ClientId, range: ClockRange, row: usize) {
        self.0
            .entry(client)
            .or_default()
            .insert(range.start, (range.end, row));
    }

    fn get(&self, Id { client, clock }: Id) -> Option<usize> {
        let (_, &(end, row)) = self.0.get(&client)?.range(..=clock).next_back()?;
        (clock < end).then_some(row)
    }

    /// Where something else begins.
    fn bounds(&self) -> impl Iterator<Item = Id> {
        self.0.iter().flat_map(|(&client, ranges)| {
            let bounds = ranges.iter().flat_map(|(&start, &(end, _))| [start, end]);
            bounds.map(move |clock| Id { client, clock })
        })
    }
}

/// Compares the state `before` with the one after some rows: one field, or all of them by their names.
///
/// # Errors
/// When a row is no update, or the document broke.
pub fn compare(
    limits: Limits,
    before: impl IntoIterator<Item = Bytes>,
    rows: impl IntoIterator<Item = Bytes>,
    field: Option<&str>,
) -> Result<Vec<(String, Vec<Piece>)>, PastError> {
    let limits = Limits {
        keeps_deleted: true,
        ..limits
    };
    let mut document = Document::load(limits, before)?;
    let before = admitted(&mut document)?;
    let mut origins = Origins::default();
    let mut known = IdSet::default();
    for run in before.runs() {
        let (start, end) = (run.start, run.end);
        known.insert(run.client, ClockRange { start, end });
    }
    // From here on it is noted what is deleted.
    document.load_more(Bytes::from_static(&[0, 0]))?;
    for (row, update) in rows.into_iter().enumerate() {
        for of in document.load_more(update.clone())?.ranges() {
            origins.deleted.insert(of.client, of.range, row);
        }
        for run in Update::parse(update, &Limits::trusted())?.runs() {
            let (start, end) = (run.start, run.end);
            let range = ClockRange { start, end };
            known.missing_from(run.client, range, |new| {
                origins.inserted.insert(run.client, new, row)
            });
            known.insert(run.client, range);
        }
    }
    let after = admitted(&mut document)?;
    let mut comparison = Comparison {
        known: before.state_vector(),
        deleted_before: deleted_in(&before),
        deleted: deleted_in(&after),
        origins,
        lists: Lists::new(before, after)?,
    };
    comparison.cut();
    comparison.fields(field)
}

struct Comparison {
    /// What there was before.
    known: StateVector,
    deleted_before: IdSet,
    deleted: IdSet,
    origins: Origins,
    lists: Lists,
}

/// A chain that is being walked: the next item, and in how many nodes it is.
struct Walk {
    at: u32,
    depth: usize,
    key: Option<String>,
}

impl Comparison {
    /// Cuts items where something else became of them.
    fn cut(&mut self) {
        let mut bounds: Vec<Id> = self
            .origins
            .inserted
            .bounds()
            .chain(self.origins.deleted.bounds())
            .collect();
        for set in [&self.deleted_before, &self.deleted] {
            for of in set.ranges() {
                let id = |clock| Id {
                    client: of.client,
                    clock,
                };
                bounds.extend([id(of.range.start), id(of.range.end)]);
            }
        }
        let known = self.known.iter().map(|(client, clock)| Id { client, clock });
        bounds.extend(known);
        for Id { client, clock } in bounds {
            self.lists.cut(client, clock);
        }
    }

    fn fate(&self, Id { client, clock }: Id) -> Option<Fate> {
        let was = clock < self.known.get(client) && !self.deleted_before.contains(client, clock);
        let is = !self.deleted.contains(client, clock);
        match (was, is) {
            (true, true) => Some(Fate::Kept),
            (false, true) => Some(Fate::Inserted),
            (true, false) => Some(Fate::Deleted),
            (false, false) => None,
        }
    }

    fn fields(&mut self, field: Option<&str>) -> Result<Vec<(String, Vec<Piece>)>, PastError> {
        let mut roots: BTreeMap<String, Vec<(u32, Option<String>)>> = BTreeMap::new();
        for (name, key, first) in self.lists.roots() {
            if field.is_none_or(|field| field == name) {
                let of_root = roots.entry(name.to_owned()).or_default();
                of_root.push((first, key.map(str::to_owned)));
            }
        }
        let mut fields = Vec::new();
        for (name, chains) in roots {
            let mut pieces = Vec::new();
            let walks = chains
                .into_iter()
                .rev()
                .map(|(at, key)| Walk { at, depth: 0, key });
            self.walk(walks.collect(), &mut pieces)?;
            fields.push((name, pieces));
        }
        Ok(fields)
    }

    fn walk(&mut self, mut walks: Vec<Walk>, pieces: &mut Vec<Piece>) -> Result<(), PastError> {
        while let Some(walk) = walks.last_mut() {
            let Some(item) = self.lists.item(walk.at) else {
                walks.pop();
                continue;
            };
            walk.at = item.right;
            let (depth, key) = (walk.depth, walk.key.clone());
            let Some(fate) = self.fate(item.id) else {
                continue;
            };
            let row = match fate {
                Fate::Kept | Fate::Inserted => self.origins.inserted.get(item.id),
                Fate::Deleted => self.origins.deleted.get(item.id),
            };
            let Some(things) = self.things(&item)? else {
                continue;
            };
            for thing in things {
                let piece = Piece {
                    depth,
                    key: key.clone(),
                    thing,
                    fate,
                    row,
                };
                push(pieces, piece);
            }
            if item.kind == TYPE {
                // Attributes and keys first, then what is in it.
                let mut within: Vec<Walk> = Vec::new();
                for list in self.lists.within(item.id) {
                    if let Some(list) = self.lists.list(list) {
                        within.push(Walk {
                            at: list.first,
                            depth: depth + 1,
                            key: list.key.as_deref().map(str::to_owned),
                        });
                    }
                }
                within.sort_by(|left, right| {
                    (right.key.is_some(), &right.key).cmp(&(left.key.is_some(), &left.key))
                });
                within.reverse();
                walks.extend(within);
            }
        }
        Ok(())
    }

    /// What an item is; `None` of what is not shown.
    fn things(&mut self, item: &Item) -> Result<Option<Vec<Thing>>, PastError> {
        let mut content = Vec::new();
        let kind = self.lists.write_content(item, &mut content)?;
        let mut reader = Reader::new(&content);
        let read = match kind {
            STRING => vec![Thing::Text(
                reader
                    .string()
                    .map_err(crate::error::DecodeError::from)?
                    .to_owned(),
            )],
            TYPE => vec![Thing::Node(name_of(&mut reader))],
            ANY => {
                let count = reader.count().map_err(crate::error::DecodeError::from)?;
                let mut values = Vec::new();
                for _ in 0..count {
                    values.push(Thing::Value(plain(&mut reader)?));
                }
                values
            }
            EMBED => vec![Thing::Embed],
            _ => return Ok(None),
        };
        Ok(Some(read))
    }
}

/// Adds a piece, to the one before where that is text of the same kind.
fn push(pieces: &mut Vec<Piece>, piece: Piece) {
    if let (Some(last), Thing::Text(more)) = (pieces.last_mut(), &piece.thing)
        && (last.depth, &last.key, last.fate, last.row) == (piece.depth, &piece.key, piece.fate, piece.row)
        && let Thing::Text(text) = &mut last.thing
    {
        text.push_str(more);
        return;
    }
    pieces.push(piece);
}

/// What a type is called: its name, where it has one, and else what it is.
fn name_of(reader: &mut Reader<'_>) -> String {
    match reader.byte() {
        Ok(0) => "array".to_owned(),
        Ok(1) => "map".to_owned(),
        Ok(2) => "text".to_owned(),
        Ok(3 | 5) => reader.string().map(str::to_owned).unwrap_or_default(),
        Ok(4) => "fragment".to_owned(),
        Ok(6) => "#text".to_owned(),
        Ok(_) | Err(_) => String::new(),
    }
}

/// A plain value that is not made of others.
fn plain(reader: &mut Reader<'_>) -> Result<Value, PastError> {
    let mut ahead = reader.clone();
    crate::update::skip_any(reader, u16::MAX)?;
    let number = |number: f64| serde_json::Number::from_f64(number).map_or(Value::Null, Value::Number);
    let eight = |reader: &mut Reader<'_>| {
        let bytes = reader.exactly(8).ok()?;
        bytes.try_into().ok().map(u64::from_be_bytes)
    };
    Ok(match ahead.byte() {
        Ok(120) => Value::Bool(true),
        Ok(121) => Value::Bool(false),
        Ok(125) => ahead.signed_number().map_or(Value::Null, |number| {
            // What JavaScript cannot hold exactly does not occur.
            serde_json::json!(number)
        }),
        Ok(123) => eight(&mut ahead).map_or(Value::Null, |bits| number(f64::from_bits(bits))),
        Ok(119) => ahead
            .string()
            .map_or(Value::Null, |text| Value::String(text.to_owned())),
        Ok(_) | Err(_) => Value::Null,
    })
}

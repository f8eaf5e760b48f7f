//! JSON values as they stand in a document: objects as maps, lists of things that have an `id` as lists of maps in an order of their own.

use std::collections::BTreeSet;

use fractional_index::FractionalIndex;
use serde_json::{Map as Object, Value};
use yrs::types::text::YChange;
use yrs::{
    Any, Array, ArrayPrelim, ArrayRef, Map, MapPrelim, MapRef, Number, Out, ReadTxn, Text, TextPrelim,
    TransactionMut,
};

use super::MergeRefusal;
use crate::content;

/// The property of a thing in a list that says where it stands: a fraction in hexadecimal digits.
pub const ORDER: &str = "$order";

pub(super) const ID: &str = "id";
pub(super) const POSITION: &str = "position";
const COLUMN: &str = "columnIndex";

/// Deeper values are kept as plain ones.
pub(super) const MAX_DEPTH: usize = 32;

/// The id of a thing in a list, as text.
pub fn thing_id(value: &Value) -> Option<String> {
    match value {
        Value::String(id) => Some(id.clone()),
        Value::Number(id) => Some(id.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// The ids of a list of things that each have one; `None` for another list.
pub(super) fn ids(list: &[Value]) -> Option<Vec<String>> {
    let ids: Option<Vec<_>> = list
        .iter()
        .map(|thing| thing_id(thing.as_object()?.get(ID)?))
        .collect();
    ids.filter(|ids| ids.iter().collect::<BTreeSet<_>>().len() == ids.len())
}

/// A thing in a list.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub(super) id: String,
    pub(super) map: MapRef,
    pub(super) order: Option<FractionalIndex>,
}

/// A list of things.
#[derive(Debug, Clone)]
pub(super) struct Things {
    pub(super) list: ArrayRef,
}

impl Things {
    pub(super) fn new(list: ArrayRef) -> Self {
        Self { list }
    }

    /// The list under a key, which is made when there is none.
    pub(super) fn in_property(
        transaction: &mut TransactionMut<'_>,
        map: &MapRef,
        key: &str,
    ) -> Result<Self, MergeRefusal> {
        match map.get(transaction, key) {
            Some(Out::YArray(list)) => Ok(Self::new(list)),
            None | Some(Out::Any(Any::Null | Any::Undefined)) => {
                Ok(Self::new(map.insert(transaction, key, ArrayPrelim::default())))
            }
            Some(_) => Err(MergeRefusal::Conflict {
                held: "no list of things".to_owned(),
            }),
        }
    }

    /// The things in their order; of several with one id the first.
    pub(super) fn all(&self, transaction: &impl ReadTxn) -> Vec<Thing> {
        let mut order = None;
        let mut found = Vec::new();
        for (index, map) in maps(transaction, &self.list).into_iter().enumerate() {
            let Some(id) = map
                .get(transaction, ID)
                .and_then(|id| thing_id(&content::value(transaction, id)))
            else {
                continue;
            };
            if let Some(Out::Any(Any::String(text))) = map.get(transaction, ORDER)
                && let Ok(own) = FractionalIndex::from_string(&text)
            {
                order = Some(own);
            }
            let order = order.clone();
            found.push((index, Thing { id, map, order }));
        }
        found.sort_by(|(left_index, left), (right_index, right)| {
            (&left.order, left_index).cmp(&(&right.order, right_index))
        });
        let mut seen = BTreeSet::new();
        found.retain(|(_, thing)| seen.insert(thing.id.clone()));
        found.into_iter().map(|(_, thing)| thing).collect()
    }

    pub(super) fn find(&self, transaction: &impl ReadTxn, id: &str) -> Option<Thing> {
        self.all(transaction).into_iter().find(|thing| thing.id == id)
    }

    /// Puts a thing at the end, behind the order that the last one has.
    pub(super) fn push(
        &self,
        transaction: &mut TransactionMut<'_>,
        thing: &Object<String, Value>,
        last: Option<&FractionalIndex>,
    ) -> Thing {
        let order = match last {
            Some(last) => FractionalIndex::new_after(last),
            None => FractionalIndex::default(),
        };
        let map = self.list.push_back(transaction, MapPrelim::default());
        for (key, value) in thing.iter().filter(|(key, _)| *key != ORDER) {
            write(transaction, &map, key, value, 0);
        }
        map.insert(transaction, ORDER, order.to_string());
        Thing {
            id: thing.get(ID).and_then(thing_id).unwrap_or_default(),
            map,
            order: Some(order),
        }
    }

    /// Takes out all that have one of these ids.
    pub(super) fn remove(&self, transaction: &mut TransactionMut<'_>, ids: &BTreeSet<&str>) {
        if ids.is_empty() {
            return;
        }
        let maps = maps(transaction, &self.list);
        for (index, map) in maps.into_iter().enumerate().rev() {
            let own = map.get(transaction, ID).map(|id| content::value(transaction, id));
            let own = own.and_then(|own| thing_id(&own));
            if own.is_some_and(|own| ids.contains(own.as_str())) {
                self.list.remove(transaction, index as u32);
            }
        }
    }

    /// Puts a thing where so many others are before it.
    pub(super) fn place(&self, transaction: &mut TransactionMut<'_>, thing: &Thing, index: usize) {
        let mut others = self.all(transaction);
        let was_at = others.iter().position(|other| other.id == thing.id);
        others.retain(|other| other.id != thing.id);
        let index = index.min(others.len());
        if was_at == Some(index) && thing.order.is_some() {
            return;
        }
        let before = index
            .checked_sub(1)
            .and_then(|before| others.get(before)?.order.as_ref());
        // Programs that put things in at the same time may have given them the same fraction; then it goes behind all of these.
        let after = (others.get(index..).unwrap_or_default().iter())
            .filter_map(|other| other.order.as_ref())
            .find(|order| before.is_none_or(|before| before < *order));
        let order = FractionalIndex::new(before, after).unwrap_or_default();
        thing.map.insert(transaction, ORDER, order.to_string());
    }

    /// Puts a thing where its `position` says, among those that are in the same column.
    pub(super) fn place_by_position(&self, transaction: &mut TransactionMut<'_>, thing: &Thing) {
        let number =
            |map: &MapRef, key: &str, transaction: &TransactionMut<'_>| match map.get(transaction, key) {
                Some(Out::Any(Any::Number(Number::Int(number)))) => Some(number as f64),
                Some(Out::Any(Any::Number(Number::Float(number)))) => Some(number),
                _ => None,
            };
        let Some(position) = number(&thing.map, POSITION, transaction) else {
            return;
        };
        let column = number(&thing.map, COLUMN, transaction);
        let mut others = self.all(transaction);
        others.retain(|other| other.id != thing.id);
        let is_before = |other: &Thing| {
            let same_column = number(&other.map, COLUMN, transaction) == column;
            same_column && number(&other.map, POSITION, transaction).is_some_and(|other| other < position)
        };
        let is_behind = |other: &Thing| {
            number(&other.map, COLUMN, transaction) == column
                && number(&other.map, POSITION, transaction).is_some()
        };
        let index = match others.iter().rposition(is_before) {
            Some(last_before) => last_before + 1,
            None => others.iter().position(is_behind).unwrap_or(others.len()),
        };
        self.place(transaction, thing, index);
    }
}

/// What is in a list, if that is nothing but maps.
fn maps(transaction: &impl ReadTxn, list: &ArrayRef) -> Vec<MapRef> {
    // Read as a text with embedded objects: the library's walk over lists need not end.
    let text = yrs::TextRef::from(yrs::branch::BranchPtr::from(list.as_ref() as &yrs::branch::Branch));
    let pieces = text.diff(transaction, YChange::identity);
    let maps: Option<Vec<_>> = (pieces.into_iter())
        .map(|piece| piece.insert.cast().ok())
        .collect();
    maps.unwrap_or_default()
}

/// A map as JSON, with the things of its lists in their order.
pub(crate) fn shown_map(transaction: &impl ReadTxn, map: &MapRef) -> Object<String, Value> {
    map.iter(transaction)
        .filter(|(key, _)| *key != ORDER)
        .map(|(key, entry)| (key.to_owned(), shown_value(transaction, entry)))
        .collect()
}

/// Nesting is bounded by the gate, so this may recurse.
pub(super) fn shown_value(transaction: &impl ReadTxn, value: Out) -> Value {
    match value {
        Out::YMap(map) => Value::Object(shown_map(transaction, &map)),
        Out::YArray(list) => {
            let things = Things::new(list.clone()).all(transaction);
            match things.is_empty() {
                true => content::value(transaction, Out::YArray(list)),
                false => (things.iter())
                    .map(|thing| Value::Object(shown_map(transaction, &thing.map)))
                    .collect(),
            }
        }
        Out::Any(_)
        | Out::YText(_)
        | Out::YXmlElement(_)
        | Out::YXmlFragment(_)
        | Out::YXmlText(_)
        | Out::YDoc(_)
        | Out::UndefinedRef(_) => content::value(transaction, value),
    }
}

/// Writes a value under a key, in place of what is there.
pub(super) fn write(
    transaction: &mut TransactionMut<'_>,
    map: &MapRef,
    key: &str,
    value: &Value,
    depth: usize,
) {
    match value {
        Value::Object(object) if depth < MAX_DEPTH => {
            let inner = map.insert(transaction, key, MapPrelim::default());
            for (key, value) in object {
                write(transaction, &inner, key, value, depth + 1);
            }
        }
        Value::Array(list) if depth < MAX_DEPTH && ids(list).is_some() => {
            let things = Things::new(map.insert(transaction, key, ArrayPrelim::default()));
            let mut last = None;
            for thing in list.iter().filter_map(Value::as_object) {
                last = things.push(transaction, thing, last.as_ref()).order;
            }
        }
        Value::String(text) if has_several_words(text) => {
            map.insert(transaction, key, TextPrelim::new(text.as_str()));
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => {
            map.insert(transaction, key, any(value));
        }
    }
}

pub(super) fn has_several_words(text: &str) -> bool {
    text.split_whitespace().nth(1).is_some()
}

pub(super) fn any(value: &Value) -> Any {
    match value {
        Value::Null => Any::Null,
        Value::Bool(value) => Any::Bool(*value),
        Value::Number(number) => Any::Number(match number.as_i64() {
            Some(number) => Number::Int(number),
            None => Number::Float(number.as_f64().unwrap_or_default()),
        }),
        Value::String(text) => Any::from(text.as_str()),
        Value::Array(values) => Any::Array(values.iter().map(any).collect()),
        Value::Object(entries) => {
            let entries = entries.iter().map(|(key, value)| (key.clone(), any(value)));
            Any::Map(std::sync::Arc::new(entries.collect()))
        }
    }
}

/// Whether two values are the same to a program, for which 1 and 1.0 are.
pub(super) fn is_same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| is_same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left
                    .iter()
                    .all(|(key, left)| right.get(key).is_some_and(|right| is_same(left, right)))
        }
        _ => left == right,
    }
}

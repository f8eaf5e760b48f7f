//! Saves of JSON values, as edits of maps and lists: the *components* of an application, each a root map in a page of its own.
//!
//! | JSON | in the document |
//! |---|---|
//! | object | map |
//! | list of objects that each have an `id` of their own; empty list | list of maps, in the order of [`ORDER`] |
//! | string of several words | text |
//! | everything else | plain value, of which the later one counts |
//!
//! The order of the things in a list is a property of theirs: a fraction between those of its neighbours, so that moving a thing changes one
//! value and can never double it. A thing without one stays behind the thing that it stands behind in the list. Programs that open the
//! document themselves add a thing by inserting a map with its `id`, and move it by setting its fraction; the JSON that is shown has the
//! things in order and does not have the fraction.
//!
//! Whatever was deleted stays so, also when it has been changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use fractional_index::FractionalIndex;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Object, Value};
use yrs::types::text::YChange;
use yrs::{
    Any, Array, ArrayPrelim, ArrayRef, Map, MapPrelim, MapRef, Number, Out, ReadTxn, Text, TextPrelim,
    TransactionMut, WriteTxn,
};

use super::base::Candidate;
use super::row::Row;
use super::{Base, Format, MergeRefusal, Outcome, text};
use crate::content;

/// The root map of a component's page.
pub const COMPONENT_FIELD: &str = "data";

/// The property of a thing in a list that says where it stands: a fraction in hexadecimal digits.
pub const ORDER: &str = "$order";

const ID: &str = "id";
const POSITION: &str = "position";
const COLUMN: &str = "columnIndex";

/// Deeper values are kept as plain ones.
pub(super) const MAX_DEPTH: usize = 32;

/// A change of a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum ComponentChange {
    /// Some of its properties, each in the author's copy of it; or those of a thing in it.
    Update {
        /// The ids of the things that it is in, from the outside; none for the component itself.
        path: Vec<String>,
        /// The properties.
        updates: Object<String, Value>,
        /// The objects of which the author may have begun with these properties, the latest first.
        candidates: Vec<Candidate>,
        /// Whether what they are now is one of them, for certain.
        had_current: bool,
    },
    /// A new thing with an `id`. When there is one with this id it is updated.
    Create {
        /// The ids of the things that it is put in, from the outside; none for the component itself.
        path: Vec<String>,
        /// The property that is the list.
        list: String,
        /// The thing. A `position` is its place in the list, or among those of the same `columnIndex`.
        thing: Object<String, Value>,
    },
    /// A thing goes.
    Delete {
        /// Its id behind those of the things that it is in.
        path: Vec<String>,
    },
    /// A thing is put elsewhere in its list.
    Move {
        /// Its id behind those of the things that it is in.
        path: Vec<String>,
        /// How many things are before it then.
        index: usize,
    },
}

pub(super) fn merge(
    transaction: &mut TransactionMut<'_>,
    change: &ComponentChange,
) -> Result<Outcome, MergeRefusal> {
    let root = transaction.get_or_insert_map(COMPONENT_FIELD);
    let mut outcome = Outcome {
        content: Value::Null,
        field: COMPONENT_FIELD.to_owned(),
        format: Format::Json,
        base: None,
        differs: false,
    };
    match change {
        ComponentChange::Update {
            path,
            updates,
            candidates,
            had_current,
        } => {
            let target = inside(transaction, &root, path)?;
            let now = shown_map(transaction, &target);
            let base = Base::of_properties(updates, candidates, *had_current, &now);
            let begun_with = base.candidate.and_then(|(_, content)| content.as_object());
            outcome.base = base.index();
            let merging = Merging {
                deletes: base.is_certain,
            };
            merging.properties(transaction, &target, begun_with.unwrap_or(&now), updates);
            if let (Some(before), Some(Value::Number(after))) = (now.get(POSITION), updates.get(POSITION))
                && *before != Value::Number(after.clone())
                && let Ok((list, thing)) = found(transaction, &root, path)
            {
                list.place_by_position(transaction, &thing);
            }
            let after = shown_map(transaction, &target);
            outcome.differs = updates.iter().any(|(key, value)| after.get(key) != Some(value));
        }
        ComponentChange::Create { path, list, thing } => {
            let target = inside(transaction, &root, path)?;
            let id = (thing.get(ID).and_then(thing_id))
                .ok_or_else(|| MergeRefusal::malformed("a thing in a list has an `id`"))?;
            let things = Things::in_property(transaction, &target, list)?;
            match things.find(transaction, &id) {
                Some(known) => {
                    Merging { deletes: false }.properties(transaction, &known.map, &Object::new(), thing)
                }
                None => {
                    let last = things.all(transaction).pop().and_then(|last| last.order);
                    let new = things.push(transaction, thing, last.as_ref());
                    things.place_by_position(transaction, &new);
                }
            }
        }
        ComponentChange::Delete { path } => {
            let (list, thing) = found(transaction, &root, path)?;
            list.remove(transaction, &[thing.id.as_str()].into());
        }
        ComponentChange::Move { path, index } => {
            let (list, thing) = found(transaction, &root, path)?;
            list.place(transaction, &thing, *index);
        }
    }
    outcome.content = Value::Object(shown_map(transaction, &root));
    Ok(outcome)
}

fn not_found(id: &str) -> MergeRefusal {
    MergeRefusal::NotFound { id: id.to_owned() }
}

/// The map with these ids, each anywhere in the one before.
fn inside(transaction: &TransactionMut<'_>, root: &MapRef, path: &[String]) -> Result<MapRef, MergeRefusal> {
    match path.is_empty() {
        true => Ok(root.clone()),
        false => Ok(found(transaction, root, path)?.1.map),
    }
}

/// The thing with these ids. Says which is the first that is not there.
fn found(
    transaction: &TransactionMut<'_>,
    root: &MapRef,
    path: &[String],
) -> Result<(Things, Thing), MergeRefusal> {
    let (last, outer) = path.split_last().ok_or_else(|| not_found(""))?;
    let find = |map: &MapRef, id: &str| search(transaction, map, id, 0).ok_or_else(|| not_found(id));
    let mut map = root.clone();
    for id in outer {
        map = find(&map, id)?.1.map;
    }
    find(&map, last)
}

/// The thing with this id that is nearest to the surface.
fn search(transaction: &TransactionMut<'_>, map: &MapRef, id: &str, depth: usize) -> Option<(Things, Thing)> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut entries: Vec<_> = map.iter(transaction).collect();
    entries.sort_unstable_by(|left, right| left.0.cmp(right.0));
    let lists: Vec<_> = (entries.iter())
        .filter_map(|(_, entry)| entry.clone().cast().ok().map(Things::new))
        .collect();
    let here = lists
        .iter()
        .find_map(|list| Some((list.clone(), list.find(transaction, id)?)));
    let within_things = || {
        lists.iter().find_map(|list| {
            let mut things = list.all(transaction).into_iter();
            things.find_map(|thing| search(transaction, &thing.map, id, depth + 1))
        })
    };
    let within_maps = || {
        let mut maps = entries
            .iter()
            .filter_map(|(_, entry)| entry.clone().cast::<MapRef>().ok());
        maps.find_map(|map| search(transaction, &map, id, depth + 1))
    };
    here.or_else(within_maps).or_else(within_things)
}

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
struct Things {
    list: ArrayRef,
}

impl Things {
    fn new(list: ArrayRef) -> Self {
        Self { list }
    }

    /// The list under a key, which is made when there is none.
    fn in_property(
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
    fn all(&self, transaction: &impl ReadTxn) -> Vec<Thing> {
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

    fn find(&self, transaction: &impl ReadTxn, id: &str) -> Option<Thing> {
        self.all(transaction).into_iter().find(|thing| thing.id == id)
    }

    /// Puts a thing at the end, behind the order that the last one has.
    fn push(
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
    fn remove(&self, transaction: &mut TransactionMut<'_>, ids: &BTreeSet<&str>) {
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
    fn place(&self, transaction: &mut TransactionMut<'_>, thing: &Thing, index: usize) {
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
    fn place_by_position(&self, transaction: &mut TransactionMut<'_>, thing: &Thing) {
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
fn shown_value(transaction: &impl ReadTxn, value: Out) -> Value {
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
fn write(transaction: &mut TransactionMut<'_>, map: &MapRef, key: &str, value: &Value, depth: usize) {
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

fn has_several_words(text: &str) -> bool {
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

/// How copies are merged.
struct Merging {
    /// Whether what is in the base and not in the author's copy goes.
    deletes: bool,
}

impl Merging {
    /// Merges an author's copy of some properties of an object.
    fn properties(
        &self,
        transaction: &mut TransactionMut<'_>,
        map: &MapRef,
        base: &Object<String, Value>,
        saved: &Object<String, Value>,
    ) {
        for (key, saved) in saved.iter().filter(|(key, _)| *key != ORDER) {
            let base = base.get(key);
            let current = map.get(transaction, key);
            let is_gone = current.is_none() && base.is_some() && self.deletes;
            if base.is_some_and(|base| is_same(base, saved)) && current.is_some() || is_gone {
                continue;
            }
            self.value(transaction, (map, key), base, current, saved);
        }
    }

    /// Merges an author's copy of a whole object.
    fn object(
        &self,
        transaction: &mut TransactionMut<'_>,
        map: &MapRef,
        base: Option<&Object<String, Value>>,
        saved: &Object<String, Value>,
    ) {
        let nothing = Object::new();
        let base = base.unwrap_or(&nothing);
        self.properties(transaction, map, base, saved);
        let gone = base
            .keys()
            .filter(|key| !saved.contains_key(*key) && *key != ORDER && *key != ID);
        for key in gone.filter(|_| self.deletes) {
            map.remove(transaction, key);
        }
    }

    fn value(
        &self,
        transaction: &mut TransactionMut<'_>,
        (map, key): (&MapRef, &str),
        base: Option<&Value>,
        current: Option<Out>,
        saved: &Value,
    ) {
        match (current, saved) {
            (Some(Out::YMap(inner)), Value::Object(saved)) => {
                self.object(transaction, &inner, base.and_then(Value::as_object), saved);
            }
            (Some(Out::YText(inner)), Value::String(saved)) => {
                let base = base.and_then(Value::as_str);
                if !text::merge(transaction, &inner, base, saved, self.deletes || base.is_none()) {
                    map.insert(transaction, key, TextPrelim::new(saved.as_str()));
                }
            }
            (Some(Out::YArray(list)), Value::Array(saved_list)) => {
                let things = Things::new(list);
                let now = shown_value(transaction, Out::YArray(things.list.clone()));
                let holds_things = now.as_array().is_some_and(|now| ids(now).is_some());
                match ids(saved_list).filter(|_| holds_things) {
                    Some(_) => {
                        let base = base.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
                        self.things(transaction, &things, base, saved_list);
                    }
                    None if is_same(&now, saved) => {}
                    None => write(transaction, map, key, saved, 0),
                }
            }
            (Some(Out::Any(Any::String(current))), Value::String(saved)) => {
                let all = [Some(&*current), base.and_then(Value::as_str), Some(saved)];
                let outcome = match all {
                    [Some(current), Some(base), Some(saved)]
                        if all.into_iter().flatten().all(has_several_words) =>
                    {
                        text::merged(base, current, saved, self.deletes)
                    }
                    _ => saved.clone(),
                };
                if *outcome != *current {
                    write(transaction, map, key, &Value::String(outcome), 0);
                }
            }
            (Some(Out::Any(plain @ Any::Map(_))), Value::Object(saved)) => {
                // What a program has put in as one value is taken apart, to be merged by key.
                write(
                    transaction,
                    map,
                    key,
                    &content::value(transaction, Out::Any(plain)),
                    0,
                );
                if let Some(Out::YMap(inner)) = map.get(transaction, key) {
                    self.object(transaction, &inner, base.and_then(Value::as_object), saved);
                }
            }
            (Some(current), saved) if is_same(&shown_value(transaction, current.clone()), saved) => {}
            (_, saved) => write(transaction, map, key, saved, 0),
        }
    }

    /// Merges an author's copy of a list of things.
    fn things(&self, transaction: &mut TransactionMut<'_>, things: &Things, base: &[Value], saved: &[Value]) {
        let with_id = |list: &[Value]| -> Vec<(String, Object<String, Value>)> {
            let things = list.iter().filter_map(Value::as_object);
            things
                .filter_map(|thing| Some((thing_id(thing.get(ID)?)?, thing.clone())))
                .collect()
        };
        let (base, saved) = (with_id(base), with_id(saved));
        let in_base: BTreeMap<&str, usize> = (base.iter().enumerate())
            .map(|(index, (id, _))| (id.as_str(), index))
            .collect();
        if self.deletes {
            let kept: BTreeSet<&str> = saved.iter().map(|(id, _)| id.as_str()).collect();
            let gone = in_base.keys().copied().filter(|id| !kept.contains(id));
            things.remove(transaction, &gone.collect());
        }
        let was = |id: &str| in_base.get(id).copied();
        let order: Vec<_> = saved.iter().filter_map(|(id, _)| was(id)).collect();
        let stays = longest_rising(&order);
        let mut row = Row::new(things.all(transaction));
        let mut before = None;
        for (id, thing) in &saved {
            let was = was(id);
            let place = match (row.find(id), was) {
                (Some(place), _) => {
                    let base = was.and_then(|was| base.get(was)).map(|(_, base)| base);
                    if let Some(map) = row.map(place) {
                        self.object(transaction, &map, base, thing);
                    }
                    place
                }
                (None, Some(_)) if self.deletes => continue,
                (None, _) => row.push(things.push(transaction, thing, row.last_order())),
            };
            let is_moved = was.is_none_or(|was| stays.binary_search(&was).is_err());
            if is_moved
                && let Some(order) = row.put_behind(place, before)
                && let Some(map) = row.map(place)
            {
                map.insert(transaction, ORDER, order);
            }
            before = Some(place);
        }
    }
}

/// The longest rising part of a sequence of different numbers: all but this has been moved.
pub(super) fn longest_rising(numbers: &[usize]) -> Vec<usize> {
    // For each length the index of the lowest number in which a rising part of this length ends.
    let mut ends: Vec<usize> = Vec::new();
    let mut before = vec![None; numbers.len()];
    let at = |index: usize| numbers.get(index).copied().unwrap_or_default();
    for (index, &number) in numbers.iter().enumerate() {
        let length = ends.partition_point(|&end| at(end) < number);
        if let Some(slot) = before.get_mut(index) {
            *slot = length
                .checked_sub(1)
                .and_then(|shorter| ends.get(shorter).copied());
        }
        match ends.get_mut(length) {
            Some(end) => *end = index,
            None => ends.push(index),
        }
    }
    let mut found = Vec::new();
    let mut next = ends.last().copied();
    while let Some(index) = next {
        found.push(at(index));
        next = before.get(index).copied().flatten();
    }
    found.reverse();
    found
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

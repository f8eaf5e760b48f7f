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

use serde::{Deserialize, Serialize};
use serde_json::{Map as Object, Value};
use yrs::{Any, Map, MapRef, Out, TextPrelim, TransactionMut, WriteTxn};

use super::base::Candidate;
use super::rising::longest_rising;
use super::row::Row;
use super::things::{
    ID, MAX_DEPTH, ORDER, POSITION, Thing, Things, has_several_words, ids, is_same, shown_map, shown_value,
    thing_id, write,
};
use super::{Base, Format, MergeRefusal, Outcome, text};
use crate::content;

/// The root map of a component's page.
pub const COMPONENT_FIELD: &str = "data";

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

//! Saves of JSON, as edits of maps and lists: objects property by property, lists item by item, an item with an `id` as that item.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::{Map as Object, Value};
use yrs::{Any, Array, ArrayRef, GetString, Map, MapRef, Out, ReadTxn, TextRef, TransactionMut, WriteTxn};

use super::carry::{Edit, Mapping, carried_over};
use super::diff::hunks;
use super::edits::{write_items, write_key};
use super::things::any;
use super::{Format, MergeError, MergeRefusal, Merged, Outcome, Save, is_same, text, thing_id};
use crate::content::{self, FieldType};
use crate::state_vector::ClientId;
use crate::view::{View, ViewError};

impl View {
    /// Makes edits under `client` of a save in JSON, as [`Self::json`] gives it: of one root type, or of an object with all of them. The first
    /// candidate is the copy that the author began with, else what the page holds now.
    ///
    /// # Errors
    /// When something is saved that JSON cannot say, or the page cannot be read.
    pub(super) fn merge_values(&self, client: ClientId, save: &Save) -> Result<Merged, MergeError> {
        let current = self.json(save.field.as_deref())?;
        let base = match save.candidates.first() {
            Some(candidate) => &candidate.content,
            None => current.as_ref().unwrap_or(&Value::Null),
        };
        let nothing = Object::new();
        let roots: Vec<(&str, &Value, &Value)> = match &save.field {
            Some(field) => vec![(field, base, &save.content)],
            None => {
                let saved = save.content.as_object();
                let saved = saved
                    .ok_or_else(|| MergeRefusal::malformed("it is an object with the root types by name"))?;
                let base = base.as_object().unwrap_or(&nothing);
                let gone = base.iter().filter(|(name, _)| !saved.contains_key(*name));
                let kept = saved
                    .iter()
                    .map(|(name, saved)| (name.as_str(), base.get(name).unwrap_or(&Value::Null), saved));
                kept.chain(gone.map(|(name, base)| (name.as_str(), base, &Value::Null)))
                    .collect()
            }
        };
        let held: BTreeMap<String, FieldType> = self.fields().into_iter().collect();
        let kinds: Vec<_> = (roots.iter())
            .map(|(name, _, saved)| becoming(held.get(*name).copied().unwrap_or(FieldType::Unknown), saved))
            .collect();
        let mut merged = self.edit(client, |transaction| {
            let mut outcome = Object::new();
            for ((name, base, saved), kind) in roots.iter().zip(kinds) {
                if !is_same(base, saved) {
                    root(transaction, name, kind, base, saved)?;
                }
                let now = match transaction.get(name) {
                    // Nothing has been done with it here, so the library does not know its type.
                    None | Some(Out::UndefinedRef(_)) => content::root_json(transaction, name, kind),
                    Some(root) => content::value(transaction, root),
                };
                if !saved.is_null() || !is_empty(&now) {
                    outcome.insert((*name).to_owned(), now);
                }
            }
            let content = match &save.field {
                Some(field) => outcome.remove(field).unwrap_or_default(),
                None => Value::Object(outcome),
            };
            Ok(Outcome {
                content,
                field: save.field.clone().unwrap_or_default(),
                format: Format::Json,
                base: None,
                differs: false,
            })
        })?;
        merged.differs = !is_same(&merged.content, &save.content);
        Ok(merged)
    }
}

/// What a root type is when it holds what is saved.
fn becoming(kind: FieldType, saved: &Value) -> FieldType {
    match (kind, saved) {
        (FieldType::Unknown, Value::Object(_)) => FieldType::Map,
        (FieldType::Unknown, Value::Array(_)) => FieldType::Array,
        (FieldType::Unknown, Value::String(_)) => FieldType::Text,
        (kind, _) => kind,
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(entries) => entries.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

fn root(
    transaction: &mut TransactionMut<'_>,
    name: &str,
    kind: FieldType,
    base: &Value,
    saved: &Value,
) -> Result<(), MergeError> {
    let (no_entries, no_items) = (Object::new(), Vec::new());
    let other = || MergeError::from(MergeRefusal::conflict(kind));
    match (kind, saved) {
        (FieldType::Map, Value::Object(_) | Value::Null) => {
            let map = transaction.get_or_insert_map(name);
            let saved = saved.as_object().unwrap_or(&no_entries);
            object(transaction, &map, base.as_object().unwrap_or(&no_entries), saved)
        }
        (FieldType::Array, Value::Array(_) | Value::Null) => {
            let items = transaction.get_or_insert_array(name);
            let saved = saved.as_array().unwrap_or(&no_items);
            list(transaction, &items, base.as_array().unwrap_or(&no_items), saved)
        }
        (FieldType::Text, Value::String(_) | Value::Null) => {
            let shared = transaction.get_or_insert_text(name);
            let saved = saved.as_str().unwrap_or_default();
            match text::merge(transaction, &shared, base.as_str(), saved, true) {
                true => Ok(()),
                false => Err(ViewError::Field {
                    name: name.to_owned(),
                }
                .into()),
            }
        }
        (FieldType::Unknown, Value::Null) => Ok(()),
        _ => Err(other()),
    }
}

/// Nesting is bounded by how deep JSON may be nested, so this may recurse, as what is below may.
fn object(
    transaction: &mut TransactionMut<'_>,
    map: &MapRef,
    base: &Object<String, Value>,
    saved: &Object<String, Value>,
) -> Result<(), MergeError> {
    for (key, saved) in saved {
        let base = base.get(key);
        if base.is_some_and(|base| is_same(base, saved)) {
            continue;
        }
        match map.get(transaction, key) {
            None | Some(Out::Any(Any::Undefined)) => drop(map.insert(transaction, key.as_str(), any(saved))),
            Some(Out::Any(current)) => {
                let current = content::json(&current);
                let outcome = three_way(base, &current, saved);
                if !is_same(&outcome, &current) {
                    map.insert(transaction, key.as_str(), any(&outcome));
                }
            }
            Some(shared) => {
                if !value(transaction, &shared, base, saved)? {
                    write_key(transaction, map, key, saved, true);
                }
            }
        }
    }
    for (key, base) in base.iter().filter(|(key, _)| !saved.contains_key(*key)) {
        // What others have written into stays.
        let current = map
            .get(transaction, key)
            .map(|current| content::value(transaction, current));
        if current.is_some_and(|current| is_same(&current, base)) {
            map.remove(transaction, key);
        }
    }
    Ok(())
}

/// Merges into a shared type; says whether the save is of the same kind.
fn value(
    transaction: &mut TransactionMut<'_>,
    current: &Out,
    base: Option<&Value>,
    saved: &Value,
) -> Result<bool, MergeError> {
    match (current, saved) {
        (Out::YMap(map), Value::Object(saved)) => {
            let nothing = Object::new();
            object(
                transaction,
                map,
                base.and_then(Value::as_object).unwrap_or(&nothing),
                saved,
            )?;
        }
        (Out::YArray(items), Value::Array(saved)) => {
            list(
                transaction,
                items,
                base.and_then(Value::as_array).map_or(&[], Vec::as_slice),
                saved,
            )?;
        }
        (Out::YText(shared), Value::String(saved)) => {
            let shared: &TextRef = shared;
            let now = shared.get_string(transaction);
            let base = base.and_then(Value::as_str).unwrap_or(&now);
            return Ok(text::merge(transaction, shared, Some(base), saved, true));
        }
        // What JSON shows of it is less than it is.
        (Out::YXmlElement(_) | Out::YXmlFragment(_) | Out::YXmlText(_) | Out::YDoc(_), _) => {
            return Err(MergeRefusal::conflict(FieldType::Xml).into());
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn list(
    transaction: &mut TransactionMut<'_>,
    items: &ArrayRef,
    base: &[Value],
    saved: &[Value],
) -> Result<(), MergeError> {
    let held: Vec<Out> = items.iter(transaction).collect();
    let current: Vec<Value> = held
        .iter()
        .map(|item| content::value(transaction, item.clone()))
        .collect();
    let plan = Plan::new(base, &current, saved);
    for edit in plan.edits.iter().rev() {
        match edit {
            Edit::Delete(range) => {
                let gone: Vec<usize> = range.clone().filter(|at| plan.goes(*at)).collect();
                for run in gone.chunk_by(|one, next| one + 1 == *next).rev() {
                    if let [first, ..] = run {
                        items.remove_range(transaction, *first as u32, run.len() as u32);
                    }
                }
            }
            Edit::Insert { at, saved: range } => {
                let inserted = range.clone().filter_map(|index| {
                    // A row that was shared stays so where it goes.
                    let was = plan.was_at(index).and_then(|at| held.get(at));
                    let is_shared = matches!(was, Some(Out::YMap(_) | Out::YArray(_)));
                    Some((plan.inserted(index)?, is_shared))
                });
                write_items(transaction, items, *at as u32, inserted);
            }
        }
    }
    // Rows that stay, in what the author has changed of them.
    let changed = plan.base_ids.iter().filter_map(|(id, at)| {
        let (base, saved) = (base.get(*at)?, saved.get(*plan.saved_ids.get(id)?)?);
        (!is_same(base, saved)).then_some((id, (base, saved)))
    });
    let changed: BTreeMap<&String, (&Value, &Value)> = changed.collect();
    if changed.is_empty() {
        return Ok(());
    }
    let rows: Vec<Out> = items.iter(transaction).collect();
    for (at, row) in rows.into_iter().enumerate() {
        let shown = content::value(transaction, row.clone());
        let Some((base, saved)) = id_of(&shown).and_then(|id| changed.get(&id).copied()) else {
            continue;
        };
        if let Out::YMap(_) = row {
            value(transaction, &row, Some(base), saved)?;
            continue;
        }
        let outcome = three_way(Some(base), &shown, saved);
        if !is_same(&outcome, &shown) {
            items.remove(transaction, at as u32);
            items.insert(transaction, at as u32, any(&outcome));
        }
    }
    Ok(())
}

/// Plain values of three copies, merged. Of two that are no objects, lists or texts it is the author's.
fn three_way(base: Option<&Value>, current: &Value, saved: &Value) -> Value {
    match (base, current, saved) {
        (Some(base), current, saved) if is_same(base, saved) || is_same(current, saved) => current.clone(),
        (Some(base), current, saved) if is_same(base, current) => saved.clone(),
        (Some(Value::Object(base)), Value::Object(current), Value::Object(saved)) => {
            let mut out = current.clone();
            for (key, saved) in saved {
                let outcome = match (base.get(key), current.get(key)) {
                    (Some(base), None) if is_same(base, saved) => continue,
                    (base, Some(current)) => three_way(base, current, saved),
                    (_, None) => saved.clone(),
                };
                out.insert(key.clone(), outcome);
            }
            let is_gone = |key: &String, held: &Value| {
                !saved.contains_key(key) && base.get(key).is_some_and(|base| is_same(base, held))
            };
            out.retain(|key, held| !is_gone(key, held));
            Value::Object(out)
        }
        (Some(Value::Array(base)), Value::Array(current), Value::Array(saved)) => {
            let plan = Plan::new(base, current, saved);
            let mut out = current.clone();
            for edit in plan.edits.iter().rev() {
                match edit {
                    Edit::Delete(range) => {
                        for at in range.clone().rev().filter(|at| plan.goes(*at)) {
                            out.remove(at);
                        }
                    }
                    Edit::Insert { at, saved: range } => {
                        let items = range.clone().filter_map(|index| plan.inserted(index));
                        drop(out.splice(*at..*at, items.collect::<Vec<_>>()));
                    }
                }
            }
            Value::Array(out)
        }
        (Some(Value::String(base)), Value::String(current), Value::String(saved)) => {
            Value::String(text::merged(base, current, saved, true))
        }
        (_, _, saved) => saved.clone(),
    }
}

/// What becomes of a list.
struct Plan<'a> {
    base: &'a [Value],
    current: &'a [Value],
    saved: &'a [Value],
    edits: Vec<Edit>,
    /// What the edits take out of the current list.
    deleted: BTreeSet<usize>,
    base_ids: BTreeMap<String, usize>,
    current_ids: BTreeMap<String, usize>,
    saved_ids: BTreeMap<String, usize>,
}

/// Where each row is; of those with one id the first.
fn by_id(items: &[Value]) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        if let Some(id) = id_of(item) {
            found.entry(id).or_insert(at);
        }
    }
    found
}

impl<'a> Plan<'a> {
    fn new(base: &'a [Value], current: &'a [Value], saved: &'a [Value]) -> Self {
        let atoms = |items: &[Value]| items.iter().map(atom).collect::<Vec<_>>();
        let (from, now, to) = (atoms(base), atoms(current), atoms(saved));
        let mapping = Mapping::new(hunks(&from, &now), from.len(), now.len());
        let edits = carried_over(&mapping, &hunks(&from, &to), true);
        let deleted: BTreeSet<usize> = edits
            .iter()
            .filter_map(|edit| match edit {
                Edit::Delete(range) => Some(range.clone()),
                Edit::Insert { .. } => None,
            })
            .flatten()
            .collect();
        Self {
            deleted,
            edits,
            base,
            current,
            saved,
            base_ids: by_id(base),
            current_ids: by_id(current),
            saved_ids: by_id(saved),
        }
    }

    /// Whether an item that the author has taken out goes. One that the author has only moved does, and one into which others have written
    /// does not.
    fn goes(&self, at: usize) -> bool {
        let Some(held) = self.current.get(at) else {
            return false;
        };
        let Some(id) = id_of(held) else {
            return true;
        };
        let base = self.base_ids.get(&id).and_then(|at| self.base.get(*at));
        self.saved_ids.contains_key(&id) || base.is_some_and(|base| is_same(base, held))
    }

    /// Where an item that is put in stands now, if it has only been moved.
    fn was_at(&self, index: usize) -> Option<usize> {
        let id = id_of(self.saved.get(index)?)?;
        self.base_ids.get(&id)?;
        self.current_ids.get(&id).copied()
    }

    /// An item that is put in: one that has been moved with what others have made of it. `None` for one that others have taken out or
    /// put in, too.
    fn inserted(&self, index: usize) -> Option<Value> {
        let item = self.saved.get(index)?;
        let Some(id) = id_of(item) else {
            return Some(item.clone());
        };
        let base = self.base_ids.get(&id).and_then(|at| self.base.get(*at));
        let current = (self.current_ids.get(&id)).and_then(|at| Some((*at, self.current.get(*at)?)));
        match (base, current) {
            // Only where the one that has been moved goes, because there is no second one.
            (Some(base), Some((at, current))) => {
                (self.deleted.contains(&at)).then(|| three_way(Some(base), current, item))
            }
            (Some(base), None) if is_same(base, item) => None,
            (None, Some(_)) => None,
            (_, None) => Some(item.clone()),
        }
    }
}

fn id_of(item: &Value) -> Option<String> {
    thing_id(item.as_object()?.get("id")?)
}

/// What tells items apart: the id of one that has one, else all of it.
fn atom(item: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    match id_of(item) {
        Some(id) => (0_u8, id).hash(&mut hasher),
        None => (1_u8, item.to_string()).hash(&mut hasher),
    }
    hasher.finish()
}

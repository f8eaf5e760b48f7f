//! Values as they are put into maps and lists: in one piece, or as shared types whose parts can be edited at once by several.
//!
//! Nesting is bounded by how deep JSON may be nested, so all of this may recurse.

use std::borrow::Borrow;

use serde_json::{Map as Object, Value};
use yrs::{Any, Array, ArrayPrelim, ArrayRef, Map, MapPrelim, MapRef, TransactionMut};

use crate::merge::things::any;

/// Sets a value of a map.
pub(in crate::merge) fn write_key(
    transaction: &mut TransactionMut<'_>,
    map: &MapRef,
    key: &str,
    value: &Value,
    shared: bool,
) {
    match value {
        Value::Object(entries) if shared => {
            let inner = map.insert(transaction, key, MapPrelim::default());
            fill_map(transaction, &inner, entries, shared);
        }
        Value::Array(items) if shared => {
            let inner = map.insert(transaction, key, ArrayPrelim::default());
            fill_list(transaction, &inner, items, shared);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => drop(map.insert(transaction, key, any(value))),
    }
}

/// Puts a value into a list.
pub(super) fn write_item(
    transaction: &mut TransactionMut<'_>,
    list: &ArrayRef,
    at: u32,
    value: &Value,
    shared: bool,
) {
    match value {
        Value::Object(entries) if shared => {
            let inner = list.insert(transaction, at, MapPrelim::default());
            fill_map(transaction, &inner, entries, shared);
        }
        Value::Array(items) if shared => {
            let inner = list.insert(transaction, at, ArrayPrelim::default());
            fill_list(transaction, &inner, items, shared);
        }
        Value::Null
        | Value::Bool(_)
        | Value::Number(_)
        | Value::String(_)
        | Value::Array(_)
        | Value::Object(_) => drop(list.insert(transaction, at, any(value))),
    }
}

/// Puts values into a list, each as a shared type or not. Those in one piece are put in together: of many that are put in one by one the engine
/// makes one in the end, with a copy of all that it has joined so far for each.
pub(in crate::merge) fn write_items<V: Borrow<Value>>(
    transaction: &mut TransactionMut<'_>,
    list: &ArrayRef,
    mut at: u32,
    items: impl IntoIterator<Item = (V, bool)>,
) {
    let mut plain: Vec<Any> = Vec::new();
    let put = |transaction: &mut TransactionMut<'_>, at: u32, plain: &mut Vec<Any>| {
        let count = plain.len() as u32;
        list.insert_range(transaction, at, std::mem::take(plain));
        at + count
    };
    for (item, shared) in items {
        let value = item.borrow();
        if shared && matches!(value, Value::Object(_) | Value::Array(_)) {
            at = put(transaction, at, &mut plain);
            write_item(transaction, list, at, value, shared);
            at += 1;
        } else {
            plain.push(any(value));
        }
    }
    put(transaction, at, &mut plain);
}

pub(super) fn fill_map(
    transaction: &mut TransactionMut<'_>,
    map: &MapRef,
    entries: &Object<String, Value>,
    shared: bool,
) {
    for (key, value) in entries {
        write_key(transaction, map, key, value, shared);
    }
}

pub(super) fn fill_list(
    transaction: &mut TransactionMut<'_>,
    list: &ArrayRef,
    items: &[Value],
    shared: bool,
) {
    let start = list.len(transaction);
    write_items(transaction, list, start, items.iter().map(|item| (item, shared)));
}

//! Edits of values, by path.

use serde_json::{Value, json};
use yrs::{Any, Array, Map, Out, WriteTxn};

use super::place::{Located, Shared, index, plain};
use super::shared::{fill_list, fill_map, write_item, write_items, write_key};
use super::{Editing, Path};
use crate::content;
use crate::merge::MergeRefusal;

/// What the edits of one list may together write once more of what the page holds, in bytes: a copy of a copy is twice as large.
const MAX_REWRITTEN_BYTES: usize = 16 << 20;

impl Editing<'_, '_> {
    pub(super) fn add(&mut self, path: &Path, value: &Value, shared: bool) -> Result<(), MergeRefusal> {
        self.put(path, value, shared, false)
    }

    pub(super) fn set(&mut self, path: &Path, value: &Value, shared: bool) -> Result<(), MergeRefusal> {
        self.put(path, value, shared, true)
    }

    /// Puts a value to a place; in a list it is one more, unless it is to be in the place of another.
    fn put(&mut self, path: &Path, value: &Value, shared: bool, replaces: bool) -> Result<(), MergeRefusal> {
        match self.located(path)? {
            Located::Root(root) => self.fill(&root, path, value, shared),
            Located::Inside {
                holder,
                key,
                found: Some(found),
                rest,
            } if !rest.is_empty() => {
                let op = if replaces && has(&found, rest) {
                    "replace"
                } else {
                    "add"
                };
                let patched = patched(
                    path,
                    &found,
                    &json!([{ "op": op, "path": pointer(rest), "value": value }]),
                )?;
                self.rewrites(&patched)?;
                self.write(&holder, key, &patched, false, true, path)
            }
            Located::Inside { holder, key, .. } => self.write(&holder, key, value, shared, replaces, path),
        }
    }

    fn write(
        &mut self,
        holder: &Shared,
        key: &str,
        value: &Value,
        shared: bool,
        replaces: bool,
        path: &Path,
    ) -> Result<(), MergeRefusal> {
        match holder {
            Shared::Map(map) => {
                write_key(self.transaction, map, key, value, shared);
                Ok(())
            }
            Shared::List(list) => {
                let length = list.len(self.transaction);
                let at = match key {
                    "-" => length,
                    key => index(key)
                        .filter(|index| *index <= length)
                        .ok_or_else(|| Self::no_such_place(path))?,
                };
                if replaces && at < length {
                    list.remove_range(self.transaction, at, 1);
                }
                write_item(self.transaction, list, at, value, shared);
                Ok(())
            }
            Shared::Text(_) | Shared::Xml(_) => Err(Self::no_such_place(path)),
        }
    }

    /// Gives a root type another content.
    fn fill(&mut self, root: &Shared, path: &Path, value: &Value, shared: bool) -> Result<(), MergeRefusal> {
        let name = path.0.first().map(String::as_str).unwrap_or_default();
        let is_new = !self.kinds.contains_key(name);
        match (root, value) {
            (Shared::Map(map), Value::Object(entries)) => {
                map.clear(self.transaction);
                fill_map(self.transaction, map, entries, shared);
                Ok(())
            }
            (Shared::List(list), Value::Array(items)) => {
                let length = list.len(self.transaction);
                list.remove_range(self.transaction, 0, length);
                fill_list(self.transaction, list, items, shared);
                Ok(())
            }
            (Shared::Text(_), Value::Object(entries)) if is_new => {
                for (key, value) in entries {
                    let inner = Path(vec![name.to_owned(), key.clone()]);
                    self.kinds.insert(name.to_owned(), content::FieldType::Map);
                    self.put(&inner, value, shared, true)?;
                }
                Ok(())
            }
            (Shared::Text(_), Value::Array(items)) if is_new => {
                self.kinds.insert(name.to_owned(), content::FieldType::Array);
                let list = self.transaction.get_or_insert_array(name);
                fill_list(self.transaction, &list, items, shared);
                Ok(())
            }
            _ => Err(MergeRefusal::edit(format!(
                "`{path}` is a root type: it takes an object if it is a map and a list if it is a list"
            ))),
        }
    }

    pub(super) fn remove(&mut self, path: &Path) -> Result<(), MergeRefusal> {
        match self.located(path)? {
            Located::Root(Shared::Map(map)) => map.clear(self.transaction),
            Located::Root(Shared::List(list)) => {
                let length = list.len(self.transaction);
                list.remove_range(self.transaction, 0, length);
            }
            Located::Root(Shared::Text(_) | Shared::Xml(_)) | Located::Inside { found: None, .. } => {
                return Err(Self::no_such_place(path));
            }
            Located::Inside {
                holder,
                key,
                found: Some(found),
                rest,
            } if !rest.is_empty() => {
                let patched = patched(path, &found, &json!([{ "op": "remove", "path": pointer(rest) }]))?;
                self.rewrites(&patched)?;
                self.write(&holder, key, &patched, false, true, path)?;
            }
            Located::Inside { holder, key, .. } => match holder {
                Shared::Map(map) => drop(map.remove(self.transaction, key)),
                Shared::List(list) => {
                    let at = index(key).ok_or_else(|| Self::no_such_place(path))?;
                    list.remove(self.transaction, at);
                }
                Shared::Text(_) | Shared::Xml(_) => return Err(Self::no_such_place(path)),
            },
        }
        Ok(())
    }

    /// The value at a place, as it is read.
    pub(super) fn value_at(&mut self, path: &Path) -> Result<Value, MergeRefusal> {
        let found = match self.located(path)? {
            Located::Root(Shared::Map(map)) => Out::YMap(map),
            Located::Root(Shared::List(list)) => Out::YArray(list),
            Located::Root(Shared::Text(text) | Shared::Xml(text)) => Out::YText(yrs::TextRef::from(text)),
            Located::Inside { found, rest, .. } => {
                let found = found.filter(|found| !matches!(found, Out::Any(Any::Undefined)));
                let found = found.ok_or_else(|| Self::no_such_place(path))?;
                let value = content::value(self.transaction, found);
                return match rest.is_empty() {
                    true => Ok(value),
                    false => {
                        (value.pointer(&pointer(rest)).cloned()).ok_or_else(|| Self::no_such_place(path))
                    }
                };
            }
        };
        Ok(content::value(self.transaction, found))
    }

    /// A copy of a value, and whether it is of shared types. A text has no copy: what it looks like is more than a value says.
    pub(super) fn copied(&mut self, path: &Path) -> Result<(Value, bool), MergeRefusal> {
        let located = self.located(path)?;
        let shared = match &located {
            Located::Root(Shared::Map(_) | Shared::List(_)) => true,
            Located::Root(Shared::Text(_) | Shared::Xml(_)) => return Err(no_copy(path)),
            Located::Inside { found, rest, .. } => match found {
                Some(Out::YMap(_) | Out::YArray(_)) => rest.is_empty(),
                Some(Out::YText(_) | Out::YXmlElement(_) | Out::YXmlFragment(_) | Out::YXmlText(_)) => {
                    return Err(no_copy(path));
                }
                Some(Out::Any(_) | Out::YDoc(_) | Out::UndefinedRef(_)) | None => false,
            },
        };
        let value = self.value_at(path)?;
        self.rewrites(&value)?;
        Ok((value, shared))
    }

    /// Counts a value of the page that an edit writes once more.
    fn rewrites(&mut self, value: &Value) -> Result<(), MergeRefusal> {
        self.rewritten += bytes(value);
        match self.rewritten > MAX_REWRITTEN_BYTES {
            true => Err(MergeRefusal::TooMuch),
            false => Ok(()),
        }
    }

    /// Puts values to the end of a list, which `path` names.
    pub(super) fn append_all(&mut self, path: &Path, values: &[&Value]) -> Result<(), MergeRefusal> {
        match self.located(path)? {
            Located::Inside {
                holder: Shared::List(list),
                rest: [],
                ..
            } => {
                let at = list.len(self.transaction);
                write_items(
                    self.transaction,
                    &list,
                    at,
                    values.iter().map(|value| (*value, false)),
                );
                Ok(())
            }
            Located::Root(_) | Located::Inside { .. } => {
                values.iter().try_for_each(|value| self.add(path, value, false))
            }
        }
    }
}

/// About what a value takes, in bytes.
fn bytes(value: &Value) -> usize {
    let inside = match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(bytes).sum(),
        Value::Object(entries) => entries.iter().map(|(key, value)| key.len() + bytes(value)).sum(),
    };
    size_of::<Value>() + inside
}

fn no_copy(path: &Path) -> MergeRefusal {
    MergeRefusal::edit(format!("`{path}` is a text, which is neither moved nor copied"))
}

fn pointer(rest: &[String]) -> String {
    Path(rest.to_vec()).to_string()
}

fn has(found: &Out, rest: &[String]) -> bool {
    plain(found).is_some_and(|value| value.pointer(&pointer(rest)).is_some())
}

/// A plain value after an edit inside it.
fn patched(path: &Path, found: &Out, patch: &Value) -> Result<Value, MergeRefusal> {
    let nothing = || Editing::no_such_place(path);
    let mut value = plain(found).ok_or_else(nothing)?;
    let patch: json_patch::Patch = serde_json::from_value(patch.clone()).map_err(|_| nothing())?;
    json_patch::patch(&mut value, &patch).map_err(|_| nothing())?;
    Ok(value)
}

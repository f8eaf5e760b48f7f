//! Edits of values, by path.

use serde_json::{Map as Object, Value, json};
use yrs::{Any, Array, ArrayPrelim, ArrayRef, Map, MapPrelim, MapRef, Out};

use super::place::{Located, Shared, index, plain};
use super::{Editing, Path};
use crate::content;
use crate::merge::MergeRefusal;
use crate::merge::json::any;

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
                self.write_key(map, key, value, shared);
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
                self.write_item(list, at, value, shared);
                Ok(())
            }
            Shared::Text(_) | Shared::Xml(_) => Err(Self::no_such_place(path)),
        }
    }

    /// Nesting is bounded by how deep JSON may be nested, so this may recurse.
    fn write_key(&mut self, map: &MapRef, key: &str, value: &Value, shared: bool) {
        match value {
            Value::Object(entries) if shared => {
                let inner = map.insert(self.transaction, key, MapPrelim::default());
                self.fill_map(&inner, entries, shared);
            }
            Value::Array(items) if shared => {
                let inner = map.insert(self.transaction, key, ArrayPrelim::default());
                self.fill_list(&inner, items, shared);
            }
            value => drop(map.insert(self.transaction, key, any(value))),
        }
    }

    fn write_item(&mut self, list: &ArrayRef, at: u32, value: &Value, shared: bool) {
        match value {
            Value::Object(entries) if shared => {
                let inner = list.insert(self.transaction, at, MapPrelim::default());
                self.fill_map(&inner, entries, shared);
            }
            Value::Array(items) if shared => {
                let inner = list.insert(self.transaction, at, ArrayPrelim::default());
                self.fill_list(&inner, items, shared);
            }
            value => drop(list.insert(self.transaction, at, any(value))),
        }
    }

    fn fill_map(&mut self, map: &MapRef, entries: &Object<String, Value>, shared: bool) {
        for (key, value) in entries {
            self.write_key(map, key, value, shared);
        }
    }

    fn fill_list(&mut self, list: &ArrayRef, items: &[Value], shared: bool) {
        let start = list.len(self.transaction);
        for (at, item) in (start..).zip(items) {
            self.write_item(list, at, item, shared);
        }
    }

    /// Gives a root type another content.
    fn fill(&mut self, root: &Shared, path: &Path, value: &Value, shared: bool) -> Result<(), MergeRefusal> {
        let name = path.0.first().map(String::as_str).unwrap_or_default();
        let is_new = !self.kinds.contains_key(name);
        match (root, value) {
            (Shared::Map(map), Value::Object(entries)) => {
                map.clear(self.transaction);
                self.fill_map(map, entries, shared);
                Ok(())
            }
            (Shared::List(list), Value::Array(items)) => {
                let length = list.len(self.transaction);
                list.remove_range(self.transaction, 0, length);
                self.fill_list(list, items, shared);
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
                for item in items {
                    let inner = Path(vec![name.to_owned(), "-".to_owned()]);
                    self.kinds.insert(name.to_owned(), content::FieldType::Array);
                    self.put(&inner, item, shared, true)?;
                }
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
        Ok((self.value_at(path)?, shared))
    }
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

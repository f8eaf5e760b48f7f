//! Where a path leads: the shared type that holds the last part of it that is shared, and what is left of the path inside a plain value.

use std::collections::BTreeMap;

use yrs::branch::BranchPtr;
use yrs::{Any, Array, ArrayRef, Map, MapRef, Out, TransactionMut, WriteTxn};

use super::{Path, TransactionMut as Transaction};
use crate::content::{self, FieldType, xml};
use crate::merge::MergeRefusal;

/// A shared type.
#[derive(Clone)]
pub(super) enum Shared {
    Map(MapRef),
    List(ArrayRef),
    /// A text, outside of XML.
    Text(BranchPtr),
    /// A fragment, an element, or a text in one.
    Xml(BranchPtr),
}

impl Shared {
    fn of(value: &Out) -> Option<Self> {
        Some(match value {
            Out::YMap(map) => Self::Map(map.clone()),
            Out::YArray(list) => Self::List(list.clone()),
            Out::YText(text) => Self::Text(xml::branch(text)),
            Out::YXmlElement(element) => Self::Xml(xml::branch(element)),
            Out::YXmlFragment(fragment) => Self::Xml(xml::branch(fragment)),
            Out::YXmlText(text) => Self::Xml(xml::branch(text)),
            Out::Any(_) | Out::YDoc(_) | Out::UndefinedRef(_) => return None,
        })
    }
}

/// Where a path leads.
pub(super) enum Located<'p> {
    /// To a root type.
    Root(Shared),
    /// Into a shared type.
    Inside {
        holder: Shared,
        /// The key or index there.
        key: &'p str,
        /// What is there.
        found: Option<Out>,
        /// What is left of the path, inside a plain value.
        rest: &'p [String],
    },
}

/// Follows a path. What it leads to need not exist, but what it leads through.
pub(super) fn locate<'p>(
    transaction: &mut TransactionMut<'_>,
    kinds: &mut BTreeMap<String, FieldType>,
    work: &mut usize,
    path: &'p Path,
) -> Result<Located<'p>, MergeRefusal> {
    let nothing = || super::Editing::no_such_place(path);
    let (name, parts) = path.0.split_first().ok_or_else(nothing)?;
    let mut holder = root(transaction, kinds, name, parts.first().map(String::as_str));
    let mut parts = parts;
    while let Some((key, rest)) = parts.split_first() {
        let found = match &holder {
            Shared::Map(map) => map.get(transaction, key),
            Shared::List(list) => match index(key) {
                Some(index) => {
                    *work += index.min(list.len(transaction)) as usize;
                    list.get(transaction, index)
                }
                None if key == "-" => None,
                None => {
                    return Err(MergeRefusal::edit(format!(
                        "`{path}`: an index is a number, or `-`"
                    )));
                }
            },
            Shared::Text(_) | Shared::Xml(_) => return Err(nothing()),
        };
        match found.as_ref().and_then(Shared::of) {
            Some(inner) if !rest.is_empty() => holder = inner,
            _ => {
                if found.is_none() && !rest.is_empty() {
                    return Err(nothing());
                }
                return Ok(Located::Inside {
                    holder,
                    key,
                    found,
                    rest,
                });
            }
        }
        parts = rest;
    }
    Ok(Located::Root(holder))
}

/// A shared type at the end of a path.
pub(super) fn shared(located: Located<'_>) -> Option<Shared> {
    match located {
        Located::Root(shared) => Some(shared),
        Located::Inside { found, .. } => found.as_ref().and_then(Shared::of),
    }
}

/// An index as RFC 6902 writes it.
pub(super) fn index(key: &str) -> Option<u32> {
    let index: u32 = key.parse().ok()?;
    (index.to_string() == key).then_some(index)
}

/// A root type; one that does not exist is a list when its first key is an index, and else a map.
fn root(
    transaction: &mut Transaction<'_>,
    kinds: &mut BTreeMap<String, FieldType>,
    name: &str,
    key: Option<&str>,
) -> Shared {
    let is_index = |key: &str| key == "-" || index(key).is_some();
    let kind = match kinds.get(name) {
        None | Some(FieldType::Unknown) => match key {
            Some(key) if is_index(key) => FieldType::Array,
            Some(_) => FieldType::Map,
            None => FieldType::Unknown,
        },
        Some(kind) => *kind,
    };
    if key.is_some() {
        kinds.insert(name.to_owned(), kind);
    }
    match kind {
        FieldType::Map => Shared::Map(transaction.get_or_insert_map(name)),
        FieldType::Array => Shared::List(transaction.get_or_insert_array(name)),
        FieldType::Xml => Shared::Xml(xml::branch(&transaction.get_or_insert_xml_fragment(name))),
        FieldType::Text | FieldType::Unknown => {
            Shared::Text(xml::branch(&transaction.get_or_insert_text(name)))
        }
    }
}

/// What is plain in a document, as JSON.
pub(super) fn plain(found: &Out) -> Option<serde_json::Value> {
    match found {
        Out::Any(Any::Undefined) | Out::YDoc(_) | Out::UndefinedRef(_) => None,
        Out::Any(value) => Some(content::json(value)),
        Out::YMap(_)
        | Out::YArray(_)
        | Out::YText(_)
        | Out::YXmlElement(_)
        | Out::YXmlFragment(_)
        | Out::YXmlText(_) => None,
    }
}

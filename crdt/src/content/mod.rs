//! Readable views of a document: its root types, as JSON and as plain text.

mod xml;

use serde_json::Value;
use yrs::branch::BranchPtr;
use yrs::{Any, Array, ArrayRef, GetString, Map, MapRef, Out, ReadTxn, TextRef, Transaction};

use crate::error::ApplyError;
use crate::live::Live;
use crate::structs::{KEYED, LIST, TEXT, XML};

/// What a root type is, as far as its content tells. A document does not say it: the program that opens a root type does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// Plain or rich text.
    Text,
    /// A map.
    Map,
    /// A list.
    Array,
    /// XML: elements and text, as rich-text editors use it.
    Xml,
    /// Nothing that would tell is in it.
    Unknown,
}

impl FieldType {
    fn of(content: u8) -> Self {
        match content {
            content if content & XML != 0 => Self::Xml,
            content if content & TEXT != 0 => Self::Text,
            content if content & LIST != 0 => Self::Array,
            content if content & KEYED != 0 => Self::Map,
            _ => Self::Unknown,
        }
    }
}

/// A view of a document at one moment.
pub struct Content {
    roots: Vec<(String, u8)>,
    live: Live,
}

impl Content {
    pub(crate) fn new(roots: Vec<(String, u8)>, live: Live) -> Self {
        Self { roots, live }
    }

    /// The root types in the order of their names.
    pub fn fields(&self) -> Vec<(String, FieldType)> {
        self.roots
            .iter()
            .map(|(name, content)| (name.clone(), FieldType::of(*content)))
            .collect()
    }

    /// One root type, or an object of all of them by name: text as string, map as object, list as array, XML as string.
    /// A root type with nothing left in it that would tell what it is, is null. `None` when there is no such field.
    ///
    /// # Errors
    /// When the document broke.
    pub fn json(&self, field: Option<&str>) -> Result<Option<Value>, ApplyError> {
        self.live.read(|transaction| match field {
            Some(field) => self
                .roots
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(name, content)| root_json(transaction, name, FieldType::of(*content))),
            None => {
                let fields = self.roots.iter().map(|(name, content)| {
                    (
                        name.clone(),
                        root_json(transaction, name, FieldType::of(*content)),
                    )
                });
                Some(Value::Object(fields.collect()))
            }
        })
    }

    /// The plain text of one root type, or of all that hold text, in name order. XML blocks, and fields, are separated
    /// by newlines. `None` when there is no such field.
    ///
    /// # Errors
    /// When the document broke.
    pub fn text(&self, field: Option<&str>) -> Result<Option<String>, ApplyError> {
        self.live.read(|transaction| match field {
            Some(field) => self
                .roots
                .iter()
                .find(|(name, _)| *name == field)
                .map(|(name, content)| {
                    root_text(transaction, name, FieldType::of(*content)).unwrap_or_default()
                }),
            None => {
                let texts = self
                    .roots
                    .iter()
                    .filter_map(|(name, content)| root_text(transaction, name, FieldType::of(*content)));
                Some(texts.collect::<Vec<_>>().join("\n"))
            }
        })
    }
}

impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Content")
            .field("fields", &self.fields())
            .finish_non_exhaustive()
    }
}

/// A root type. The library only knows its type once a program has opened it as one, and here none does.
fn root(transaction: &Transaction<'_>, name: &str) -> Option<BranchPtr> {
    if let Out::UndefinedRef(branch) = transaction.get(name)? {
        Some(branch)
    } else {
        None
    }
}

fn root_json(transaction: &Transaction<'_>, name: &str, field: FieldType) -> Value {
    match field {
        FieldType::Text => root(transaction, name).map(|text| string(transaction, &TextRef::from(text))),
        FieldType::Map => root(transaction, name).map(|map| object(transaction, &MapRef::from(map))),
        FieldType::Array => root(transaction, name).map(|list| array(transaction, &ArrayRef::from(list))),
        FieldType::Xml => root(transaction, name).map(|nodes| Value::String(xml::nodes(transaction, nodes))),
        FieldType::Unknown => None,
    }
    .unwrap_or(Value::Null)
}

fn root_text(transaction: &Transaction<'_>, name: &str, field: FieldType) -> Option<String> {
    match field {
        FieldType::Text => root(transaction, name).map(|text| TextRef::from(text).get_string(transaction)),
        FieldType::Xml => root(transaction, name).map(|nodes| xml::text(transaction, nodes)),
        FieldType::Map | FieldType::Array | FieldType::Unknown => None,
    }
}

/// Nesting is bounded by the gate, so this may recurse.
fn value(transaction: &Transaction<'_>, value: Out) -> Value {
    match value {
        Out::Any(any) => json(&any),
        Out::YText(text) => string(transaction, &text),
        Out::YArray(list) => array(transaction, &list),
        Out::YMap(map) => object(transaction, &map),
        Out::YXmlElement(element) => Value::String(xml::element(transaction, &element)),
        Out::YXmlText(text) => Value::String(xml::formatted(transaction, &text)),
        Out::YXmlFragment(fragment) => Value::String(xml::nodes(transaction, xml::branch(&fragment))),
        Out::YDoc(document) => serde_json::json!({ "guid": document.guid().as_ref() }),
        Out::UndefinedRef(_) => Value::Null,
    }
}

fn string(transaction: &Transaction<'_>, text: &TextRef) -> Value {
    Value::String(text.get_string(transaction))
}

fn array(transaction: &Transaction<'_>, list: &ArrayRef) -> Value {
    // No program puts characters into a list, and the library's walk over one might not end if there were any.
    let characters = TextRef::from(xml::branch(list)).get_string(transaction);
    if !characters.is_empty() {
        return Value::String(characters);
    }
    list.iter(transaction)
        .map(|element| value(transaction, element))
        .collect()
}

/// The keys come out sorted.
fn object(transaction: &Transaction<'_>, map: &MapRef) -> Value {
    Value::Object(
        map.iter(transaction)
            .map(|(key, entry)| (key.to_owned(), value(transaction, entry)))
            .collect(),
    )
}

fn json(any: &Any) -> Value {
    match any {
        Any::Array(values) => values.iter().map(json).collect(),
        Any::Map(entries) => Value::Object(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), json(value)))
                .collect(),
        ),
        // What JSON cannot say (undefined, not a number, infinity) is null, as in JavaScript.
        Any::Null | Any::Undefined | Any::Bool(_) | Any::Number(_) | Any::String(_) | Any::Buffer(_) => {
            serde_json::to_value(any).unwrap_or(Value::Null)
        }
    }
}

//! Readable views of a document: its root types, as JSON and as plain text.

pub(crate) mod blocknote;
pub(crate) mod delta;
mod form;
pub(crate) mod html;
mod lines;
pub(crate) mod markdown;
pub(crate) mod nodes;
pub(crate) mod prosemirror;
mod script;
pub(crate) mod xml;

pub use form::Form;

use serde_json::Value;
use yrs::branch::BranchPtr;
use yrs::{Any, Array, ArrayRef, GetString, Map, MapRef, Out, ReadTxn, TextRef};

use crate::roots::Kinds;

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
    /// From the kinds of content that are in it. XML beside values is an element of a list, unless there are characters too.
    pub(crate) fn of(content: u8) -> Self {
        let has = |kind: u8| content & kind != 0;
        if has(Kinds::XML) && (has(Kinds::TEXT) || !has(Kinds::LIST)) {
            Self::Xml
        } else if has(Kinds::TEXT) {
            Self::Text
        } else if has(Kinds::LIST) {
            Self::Array
        } else if has(Kinds::KEYED) {
            Self::Map
        } else {
            Self::Unknown
        }
    }

    /// The name under which it is shown.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Map => "map",
            Self::Array => "array",
            Self::Xml => "xml",
            Self::Unknown => "unknown",
        }
    }
}

/// A root type. The library only knows its type once a program has opened it as one, and here none does.
pub(crate) fn root(transaction: &impl ReadTxn, name: &str) -> Option<BranchPtr> {
    if let Out::UndefinedRef(branch) = transaction.get(name)? {
        Some(branch)
    } else {
        None
    }
}

pub(crate) fn root_json(transaction: &impl ReadTxn, name: &str, field: FieldType) -> Value {
    match field {
        FieldType::Text => root(transaction, name).map(|text| string(transaction, &TextRef::from(text))),
        FieldType::Map => root(transaction, name).map(|map| object(transaction, &MapRef::from(map))),
        FieldType::Array => root(transaction, name).map(|list| array(transaction, &ArrayRef::from(list))),
        FieldType::Xml => root(transaction, name).map(|nodes| Value::String(xml::nodes(transaction, nodes))),
        FieldType::Unknown => None,
    }
    .unwrap_or(Value::Null)
}

pub(crate) fn root_text(transaction: &impl ReadTxn, name: &str, field: FieldType) -> Option<String> {
    match field {
        FieldType::Text => root(transaction, name).map(|text| TextRef::from(text).get_string(transaction)),
        FieldType::Xml => root(transaction, name).map(|nodes| xml::text(transaction, nodes)),
        FieldType::Map | FieldType::Array | FieldType::Unknown => None,
    }
}

/// Nesting is bounded by the gate, so this may recurse.
pub(crate) fn value(transaction: &impl ReadTxn, value: Out) -> Value {
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

fn string(transaction: &impl ReadTxn, text: &TextRef) -> Value {
    Value::String(text.get_string(transaction))
}

fn array(transaction: &impl ReadTxn, list: &ArrayRef) -> Value {
    // No program puts characters into a list, and the library's walk over one might not end if there were any.
    let characters = TextRef::from(xml::branch(list)).get_string(transaction);
    if !characters.is_empty() {
        return Value::String(characters);
    }
    list.iter(transaction)
        .map(|element| value(transaction, element))
        .collect()
}

/// The keys come out sorted. As `JSON.stringify` does, one whose value is undefined is left out.
fn object(transaction: &impl ReadTxn, map: &MapRef) -> Value {
    Value::Object(
        map.iter(transaction)
            .filter(|(_, entry)| !matches!(entry, Out::Any(Any::Undefined)))
            .map(|(key, entry)| (key.to_owned(), value(transaction, entry)))
            .collect(),
    )
}

/// As `JSON.stringify` writes what `toJSON` gives: bytes are an object by index.
pub(crate) fn json(any: &Any) -> Value {
    match any {
        Any::Array(values) => values.iter().map(json).collect(),
        Any::Map(entries) => Value::Object(
            entries
                .iter()
                .filter(|(_, value)| !matches!(value, Any::Undefined))
                .map(|(key, value)| (key.clone(), json(value)))
                .collect(),
        ),
        Any::Buffer(bytes) => Value::Object(
            bytes
                .iter()
                .enumerate()
                .map(|(index, byte)| (index.to_string(), Value::from(*byte)))
                .collect(),
        ),
        // What JSON cannot say (in a list undefined, not a number, infinity) is null, as in JavaScript.
        Any::Null | Any::Undefined | Any::Bool(_) | Any::Number(_) | Any::String(_) => {
            serde_json::to_value(any).unwrap_or(Value::Null)
        }
    }
}

//! Readable views of a document: its root types, as JSON and as plain text.

use std::marker::PhantomData;

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
    /// Nothing visible is in it.
    Unknown,
}

/// A view of a document at one moment.
#[derive(Debug)]
pub struct Content<'a> {
    document: PhantomData<&'a ()>,
}

impl Content<'_> {
    /// The root types in the order of their names.
    pub fn fields(&self) -> Vec<(String, FieldType)> {
        todo!("content")
    }

    /// One root type, or an object of all of them by name: text as string, map as object, list as array, XML as string.
    /// `None` when the field does not exist.
    pub fn json(&self, field: Option<&str>) -> Option<serde_json::Value> {
        let _ = (field, self.document);
        todo!("content")
    }

    /// The plain text of one root type, or of all that hold text, in name order. XML blocks are separated by newlines.
    /// `None` when the field does not exist.
    pub fn text(&self, field: Option<&str>) -> Option<String> {
        let _ = field;
        todo!("content")
    }
}

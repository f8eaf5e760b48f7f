//! What is read in a live document, with the kinds of its root types as the gate has noted them.

use serde_json::Value;

use super::{FieldType, root_json, root_text};
use crate::error::ApplyError;
use crate::gate::Gate;
use crate::live::Live;

/// A view of a document at one moment.
pub struct Content<'a> {
    gate: &'a Gate,
    live: &'a Live,
}

impl<'a> Content<'a> {
    pub(crate) fn new(gate: &'a Gate, live: &'a Live) -> Self {
        Self { gate, live }
    }

    /// Another document, read as if its root types were those of this one.
    pub(crate) fn of<'b>(&'b self, live: &'b Live) -> Content<'b> {
        Content {
            gate: self.gate,
            live,
        }
    }

    /// The root types in the order of their names.
    pub fn fields(&self) -> Vec<(String, FieldType)> {
        self.gate
            .roots()
            .map(|(name, content)| (name.to_owned(), FieldType::of(content)))
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
                .gate
                .roots()
                .find(|(name, _)| *name == field)
                .map(|(name, content)| root_json(transaction, name, FieldType::of(content))),
            None => {
                let fields = self.gate.roots().map(|(name, content)| {
                    (
                        name.to_owned(),
                        root_json(transaction, name, FieldType::of(content)),
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
                .gate
                .roots()
                .find(|(name, _)| *name == field)
                .map(|(name, content)| {
                    root_text(transaction, name, FieldType::of(content)).unwrap_or_default()
                }),
            None => {
                let texts = self
                    .gate
                    .roots()
                    .filter_map(|(name, content)| root_text(transaction, name, FieldType::of(content)));
                Some(texts.collect::<Vec<_>>().join("\n"))
            }
        })
    }
}

impl std::fmt::Debug for Content<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Content")
            .field("fields", &self.fields())
            .finish_non_exhaustive()
    }
}

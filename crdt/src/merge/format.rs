//! The formats of whole contents.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{COMPONENT_FIELD, MergeRefusal};
use crate::content::nodes::Unit;
use crate::content::{FieldType, html, markdown, prosemirror};

/// How a whole content is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Plain text.
    Text,
    /// HTML.
    Html,
    /// Markdown.
    Markdown,
    /// The JSON of a ProseMirror document.
    Prosemirror,
    /// A JSON object, of a component.
    Json,
}

impl Format {
    /// The root type that holds it where no other one is named.
    pub fn usual_field(self) -> &'static str {
        match self {
            Self::Text => "content",
            Self::Html | Self::Markdown | Self::Prosemirror => "default",
            Self::Json => COMPONENT_FIELD,
        }
    }

    pub(super) fn fits(self, kind: FieldType) -> bool {
        match self {
            Self::Text => matches!(kind, FieldType::Text | FieldType::Unknown),
            Self::Html | Self::Markdown | Self::Prosemirror => {
                matches!(kind, FieldType::Xml | FieldType::Unknown)
            }
            Self::Json => matches!(kind, FieldType::Map | FieldType::Unknown),
        }
    }
}

impl Format {
    /// Rich text in this form.
    pub(super) fn written(self, units: &[Unit]) -> Value {
        match self {
            Self::Prosemirror => prosemirror::write(units),
            Self::Html => Value::String(html::write(units)),
            Self::Markdown => Value::String(markdown::write(units)),
            Self::Text | Self::Json => Value::Null,
        }
    }

    /// Rich text from this form.
    pub(super) fn parsed(self, content: &Value) -> Result<Vec<Unit>, MergeRefusal> {
        match (self, content) {
            (Self::Prosemirror, Value::String(json)) => {
                let document =
                    serde_json::from_str(json).map_err(|error| MergeRefusal::malformed(error.to_string()))?;
                prosemirror::parse(&document).map_err(MergeRefusal::malformed)
            }
            (Self::Prosemirror, document) => prosemirror::parse(document).map_err(MergeRefusal::malformed),
            (Self::Html, content) => html::parse(string(content, "HTML")?).map_err(MergeRefusal::malformed),
            (Self::Markdown, content) => {
                markdown::parse(string(content, "Markdown")?).map_err(MergeRefusal::malformed)
            }
            (Self::Text | Self::Json, _) => Ok(Vec::new()),
        }
    }
}

pub(super) fn string<'a>(content: &'a Value, what: &str) -> Result<&'a str, MergeRefusal> {
    content
        .as_str()
        .ok_or_else(|| MergeRefusal::malformed(format!("{what} is a string")))
}

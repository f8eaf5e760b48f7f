//! The formats of whole contents.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{COMPONENT_FIELD, MergeRefusal};
use crate::content::nodes::Unit;
use crate::content::{FieldType, blocknote, html, markdown, prosemirror};

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
    /// The blocks of a BlockNote document, as a list.
    Blocknote,
    /// The operations of a Quill document, `{"ops": […]}`.
    Delta,
    /// A JSON object, of a component.
    Json,
}

impl Format {
    /// The root type that holds it where no other one is named.
    pub fn usual_field(self) -> &'static str {
        match self {
            Self::Text => "content",
            Self::Html | Self::Markdown | Self::Prosemirror => "default",
            Self::Blocknote => "document-store",
            Self::Delta => "quill",
            Self::Json => COMPONENT_FIELD,
        }
    }

    pub(super) fn fits(self, kind: FieldType) -> bool {
        match self {
            Self::Text | Self::Delta => matches!(kind, FieldType::Text | FieldType::Unknown),
            Self::Html | Self::Markdown | Self::Prosemirror | Self::Blocknote => {
                matches!(kind, FieldType::Xml | FieldType::Unknown)
            }
            Self::Json => matches!(kind, FieldType::Map | FieldType::Unknown),
        }
    }
}

/// What rich text is made of. A page is of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Schema {
    /// Blocks of text, as most editors have them.
    Plain,
    /// BlockNote's groups of blocks.
    Blocks,
}

impl Schema {
    /// The kind of a page: what it holds, and of an empty one that of what is saved.
    pub(super) fn of(current: &[Unit], format: Format, saved: &Value) -> Self {
        let is_blocks = match (current.is_empty(), format) {
            (false, _) => blocknote::is_in(current),
            (true, Format::Blocknote) => true,
            (true, Format::Prosemirror) => format.read(saved).is_ok_and(|units| blocknote::is_in(&units)),
            (true, Format::Html | Format::Markdown | Format::Text | Format::Delta | Format::Json) => false,
        };
        if is_blocks { Self::Blocks } else { Self::Plain }
    }
}

impl Format {
    /// Rich text in this form.
    pub(super) fn written(self, units: &[Unit]) -> Value {
        match self {
            Self::Prosemirror => prosemirror::write(units),
            Self::Html => Value::String(html::write(&blocknote::plain(units))),
            Self::Markdown => Value::String(markdown::write(&blocknote::plain(units))),
            Self::Blocknote => blocknote::write(&blocknote::blocks(units)),
            Self::Text | Self::Json | Self::Delta => Value::Null,
        }
    }

    /// Rich text from this form, for a page of a kind.
    pub(super) fn parsed(self, content: &Value, schema: Schema) -> Result<Vec<Unit>, MergeRefusal> {
        let units = self.read(content)?;
        match (self, schema) {
            // Whoever writes nodes has those of the page.
            (Self::Prosemirror, schema) => {
                let is_blocks = blocknote::is_in(&units);
                match units.is_empty() || is_blocks == (schema == Schema::Blocks) {
                    true => Ok(units),
                    false => Err(MergeRefusal::other_schema(!is_blocks)),
                }
            }
            (_, Schema::Blocks) if !blocknote::is_in(&units) => Ok(blocknote::blocks(&units).into_owned()),
            (_, Schema::Plain) if blocknote::is_in(&units) => Ok(blocknote::plain(&units).into_owned()),
            (_, Schema::Blocks | Schema::Plain) => Ok(units),
        }
    }

    /// Rich text as it is in this form.
    fn read(self, content: &Value) -> Result<Vec<Unit>, MergeRefusal> {
        let read = match (self, content) {
            (Self::Prosemirror | Self::Blocknote, Value::String(json)) => {
                let document =
                    serde_json::from_str(json).map_err(|error| MergeRefusal::malformed(error.to_string()))?;
                if self == Self::Blocknote {
                    blocknote::parse(&document)
                } else {
                    prosemirror::parse(&document)
                }
            }
            (Self::Prosemirror, document) => prosemirror::parse(document),
            (Self::Blocknote, blocks) => blocknote::parse(blocks),
            (Self::Html, content) => html::parse(string(content, "HTML")?),
            (Self::Markdown, content) => markdown::parse(string(content, "Markdown")?),
            (Self::Text | Self::Json | Self::Delta, _) => Ok(Vec::new()),
        };
        read.map_err(MergeRefusal::malformed)
    }

    /// Whether a page holds in this form what was saved; a block that came without an id has been given one.
    pub(super) fn is_same(self, held: &Value, saved: &Value) -> bool {
        match self {
            Self::Blocknote => blocknote::without_ids(held) == blocknote::without_ids(saved),
            Self::Text | Self::Html | Self::Markdown | Self::Prosemirror | Self::Delta | Self::Json => {
                held == saved
            }
        }
    }
}

pub(super) fn string<'a>(content: &'a Value, what: &str) -> Result<&'a str, MergeRefusal> {
    content
        .as_str()
        .ok_or_else(|| MergeRefusal::malformed(format!("{what} is a string")))
}

//! Whole contents of pages in events: what older clients save, and how they are sent what comes of it.

use serde::Deserialize;
use serde_json::Value as Json;
use socketioxide_core::Value;
use storage::{PageId, Seq};

use super::{page, read};
use crate::rooms::Refusal;

/// The event with which an author is sent contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wording {
    /// `page_updated`, for who has joined the page.
    PageUpdated,
    /// `document_update`, for who has joined the channel of the page.
    DocumentUpdate,
}

impl Wording {
    /// The name of the event.
    pub fn event(self) -> &'static str {
        match self {
            Self::PageUpdated => "page_updated",
            Self::DocumentUpdate => "document_update",
        }
    }
}

/// In which form an author saves and is sent contents; what is not named is as the page holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Shape {
    /// The format, by its name.
    pub format: Option<FormatName>,
    /// The root type.
    pub field: Option<String>,
}

/// A format of whole contents that clients can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FormatName {
    /// Plain text.
    Text,
    /// HTML.
    Html,
    /// The JSON of a ProseMirror document.
    Prosemirror,
}

impl From<FormatName> for crdt::Format {
    fn from(name: FormatName) -> Self {
        match name {
            FormatName::Text => Self::Text,
            FormatName::Html => Self::Html,
            FormatName::Prosemirror => Self::Prosemirror,
        }
    }
}

/// What an author saves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSave {
    /// The whole content.
    pub content: Json,
    /// Its form.
    pub shape: Shape,
    /// The sequence number of the page from which it was made, of a client that knows it.
    pub base: Option<Seq>,
}

impl ContentSave {
    /// About how many bytes it takes.
    pub fn payload_bytes(&self) -> usize {
        match &self.content {
            Json::String(text) => text.len(),
            // Documents are as large as their message let them be; what waits is bounded by messages, too.
            Json::Null | Json::Bool(_) | Json::Number(_) | Json::Array(_) | Json::Object(_) => 1024,
        }
    }
}

/// The payload of a save. The `version` that older clients count for themselves is the number of no state of the page, so it is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    page_id: String,
    content: Json,
    #[serde(default)]
    format: Option<FormatName>,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    base_version: Option<Seq>,
}

/// Reads the arguments of a save.
pub(super) fn save(arguments: &mut Value) -> Result<(PageId, ContentSave), Refusal> {
    let Saved {
        page_id,
        content,
        format,
        field,
        base_version,
    } = read(arguments)?;
    if !matches!(content, Json::String(_) | Json::Object(_)) {
        return Err(Refusal::malformed("content: a text or a document"));
    }
    let save = ContentSave {
        content,
        shape: Shape { format, field },
        base: base_version,
    };
    Ok((page(&page_id)?, save))
}

//! Whole contents of pages in events: what older clients save, and how they are sent what comes of it.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use socketioxide_core::Value;
use storage::{PageId, Seq};

use super::{malformed, page};
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

/// A whole content as JSON text. It is taken apart only where it is merged: values take many times as much memory as their text.
pub type Content = Arc<RawValue>;

/// What an author saves.
#[derive(Clone, Debug)]
pub struct ContentSave {
    /// The whole content.
    pub content: Content,
    /// Its form.
    pub shape: Shape,
    /// The sequence number of the page from which it was made, of a client that knows it.
    pub base: Option<Seq>,
}

impl PartialEq for ContentSave {
    fn eq(&self, other: &Self) -> bool {
        self.content.get() == other.content.get() && self.shape == other.shape && self.base == other.base
    }
}

impl Eq for ContentSave {}

impl ContentSave {
    /// Bytes of payload, for budgets.
    pub fn payload_bytes(&self) -> usize {
        self.content.get().len()
    }
}

/// The payload of a save. The `version` that older clients count for themselves is the number of no state of the page, so it is not read.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Saved {
    page_id: String,
    content: Box<RawValue>,
    #[serde(default)]
    format: Option<FormatName>,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    base_version: Option<Seq>,
}

/// Reads the arguments of a save.
pub(super) fn save(arguments: &Value) -> Result<(PageId, ContentSave), Refusal> {
    let Saved {
        page_id,
        content,
        format,
        field,
        base_version,
    } = argument(arguments)?;
    let save = ContentSave {
        content: content_of(content)?,
        shape: Shape { format, field },
        base: base_version,
    };
    Ok((page(&page_id)?, save))
}

/// A save by a backend, which has the page in the name of its channel.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SavedByBackend {
    content: Option<Box<RawValue>>,
    #[serde(default)]
    page_id: Option<String>,
    #[serde(default)]
    format: Option<FormatName>,
    #[serde(default)]
    field: Option<String>,
    #[serde(default)]
    base_version: Option<Seq>,
    #[serde(default)]
    user_id: Option<String>,
}

/// Reads what a backend saves in a page, and in whose name. `None` when it names no content: then it tells an event like any other.
///
/// # Errors
/// When the content is none, or of another page.
pub fn save_by_backend(
    page: &PageId,
    payload: &RawValue,
) -> Option<Result<(Option<String>, ContentSave), Refusal>> {
    let saved: SavedByBackend = match serde_json::from_str(payload.get()) {
        Ok(saved) => saved,
        Err(_) if !names_content(payload) => return None,
        Err(error) => return Some(Err(malformed(error))),
    };
    let content = saved.content?;
    Some(match saved.page_id {
        Some(other) if other != page.as_str() => Err(Refusal::malformed(
            "pageId: another page than that of the channel",
        )),
        Some(_) | None => content_of(content).map(|content| {
            let save = ContentSave {
                content,
                shape: Shape {
                    format: saved.format,
                    field: saved.field,
                },
                base: saved.base_version,
            };
            (saved.user_id, save)
        }),
    })
}

fn names_content(payload: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Any {
        content: Option<IgnoredAny>,
    }
    serde_json::from_str::<Any>(payload.get()).is_ok_and(|any| any.content.is_some())
}

fn content_of(content: Box<RawValue>) -> Result<Content, Refusal> {
    match content.get().starts_with(['"', '{']) {
        true => Ok(content.into()),
        false => Err(Refusal::malformed("content: a text or a document")),
    }
}

/// The first argument of an event behind its name.
fn argument(arguments: &Value) -> Result<Saved, Refusal> {
    let Value::Str(text, _) = arguments else {
        return Err(Refusal::malformed("an event is JSON"));
    };
    let arguments: Vec<&RawValue> = serde_json::from_str(text).map_err(malformed)?;
    let saved = arguments
        .get(1)
        .ok_or_else(|| Refusal::malformed("content: a text or a document"))?;
    serde_json::from_str(saved.get()).map_err(malformed)
}

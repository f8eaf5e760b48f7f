//! Content that comes piece by piece and goes to the end of a root type: what has come so far is a copy that grows, and each copy is merged.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use yrs::{GetString, WriteTxn};

use super::{Format, MergeError, MergeRefusal, Merged, Outcome, text, tree};
use crate::content::nodes::{self, Unit};
use crate::content::{FieldType, blocknote, markdown, prosemirror, xml};
use crate::places::RelativePosition;
use crate::places::end::Writing;
use crate::state_vector::ClientId;
use crate::view::{View, ViewError};

/// How much of the end of a page says where it ends: blocks of rich text.
const ANCHOR_BLOCKS: usize = 100;

/// The same of a plain text, in characters.
const ANCHOR_CHARACTERS: usize = 4096;

/// What goes to the end of a root type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Append {
    /// The root type; else the one that holds text, or the usual one of the format.
    pub field: Option<String>,
    /// How the content is written: text or Markdown. Markdown in a page of plain text is text.
    pub format: Format,
    /// The end of the root type when it began, as the outcome of the first piece gives it; `None` for the first piece.
    pub anchor: Option<Value>,
    /// What had come when the piece before this one was merged.
    pub before: String,
    /// What has come.
    pub now: String,
}

/// What has become of a piece: the content of its [`Merged`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AppendedPiece<A = Value> {
    /// The anchor for the pieces behind it. Who only passes it on keeps it as JSON text.
    pub anchor: A,
    /// Where the piece ends; `None` when it wrote nothing, or others have written much behind it.
    pub end: Option<RelativePosition>,
}

impl View {
    /// Makes edits under `client` of the next piece. The content of the outcome is an [`AppendedPiece`].
    ///
    /// # Errors
    /// When the root type holds neither text nor rich text, or the page cannot be read.
    pub fn append(&self, client: ClientId, append: &Append) -> Result<Merged, MergeError> {
        let found = self.rich_field(append.field.as_deref())?;
        let (field, kind) = match (found, &append.field) {
            (Some(found), _) => found,
            (None, field) => {
                let kind = match append.format {
                    Format::Text => FieldType::Text,
                    Format::Html
                    | Format::Markdown
                    | Format::Prosemirror
                    | Format::Blocknote
                    | Format::Delta
                    | Format::Json => FieldType::Xml,
                };
                (
                    field
                        .clone()
                        .unwrap_or_else(|| append.format.usual_field().to_owned()),
                    kind,
                )
            }
        };
        match kind {
            FieldType::Text => self.append_text(client, field, append),
            FieldType::Xml | FieldType::Map | FieldType::Array | FieldType::Unknown => {
                self.append_blocks(client, field, append)
            }
        }
    }

    fn append_text(&self, client: ClientId, field: String, append: &Append) -> Result<Merged, MergeError> {
        self.edit(client, |transaction| {
            let text = transaction.get_or_insert_text(&*field);
            let writing = Writing::begin(transaction, client);
            let anchor = match &append.anchor {
                Some(anchor) => anchor.as_str().unwrap_or_default().to_owned(),
                None => {
                    let whole = text.get_string(transaction);
                    let length = whole.chars().count();
                    whole
                        .chars()
                        .skip(length.saturating_sub(ANCHOR_CHARACTERS))
                        .collect()
                }
            };
            let base = format!("{anchor}{}", append.before);
            let saved = format!("{anchor}{}", append.now);
            if !text::merge(transaction, &text, Some(&base), &saved, true) {
                return Err(ViewError::Field { name: field }.into());
            }
            let appended = AppendedPiece {
                anchor: Value::String(anchor),
                end: writing.end_in_text(transaction),
            };
            outcome(field, Format::Text, &appended)
        })
    }

    fn append_blocks(&self, client: ClientId, field: String, append: &Append) -> Result<Merged, MergeError> {
        let parsed = |text: &str| -> Result<Vec<Unit>, MergeRefusal> {
            match append.format {
                Format::Text => Ok(markdown::paragraphs(text)),
                Format::Html
                | Format::Markdown
                | Format::Prosemirror
                | Format::Blocknote
                | Format::Delta
                | Format::Json => markdown::parse(text).map_err(MergeRefusal::malformed),
            }
        };
        let (before, now) = (parsed(&append.before)?, parsed(&append.now)?);
        self.edit(client, |transaction| {
            let fragment = transaction.get_or_insert_xml_fragment(&*field);
            let root = xml::branch(&fragment);
            let writing = Writing::begin(transaction, client);
            let mut parent = root;
            let mut current = nodes::read(transaction, root);
            let (mut before, mut now) = (before, now);
            // Blocks of BlockNote's go to the end of the group that they are in.
            if let Some(group) = blocknote::group(&current).cloned() {
                let blocks = |units: &[Unit]| match blocknote::group(&blocknote::blocks(units)) {
                    Some(group) => group.children.clone(),
                    None => Vec::new(),
                };
                (before, now) = (blocks(&before), blocks(&now));
                parent = group.live.as_ref().map_or(root, xml::branch);
                current = group.children;
            }
            let anchor = match &append.anchor {
                Some(anchor) => prosemirror::parse(anchor).map_err(MergeRefusal::malformed)?,
                None => current
                    .iter()
                    .skip(current.len().saturating_sub(ANCHOR_BLOCKS))
                    .cloned()
                    .collect(),
            };
            let written = prosemirror::write(&anchor);
            // As it comes back with the next piece, so that all pieces see the same.
            let anchor = prosemirror::parse(&written).map_err(MergeRefusal::malformed)?;
            let base: Vec<_> = anchor.iter().chain(&before).cloned().collect();
            let saved: Vec<_> = anchor.into_iter().chain(now).collect();
            let mut merge = tree::Merge {
                transaction,
                deletes: true,
                failed: false,
            };
            merge.children(parent, &base, &current, &saved);
            if merge.failed {
                return Err(ViewError::Field { name: field }.into());
            }
            let appended = AppendedPiece {
                anchor: written,
                end: writing.end_in_nodes(transaction, parent),
            };
            outcome(field, append.format, &appended)
        })
    }
}

fn outcome(field: String, format: Format, appended: &AppendedPiece) -> Result<Outcome, MergeError> {
    Ok(Outcome {
        content: serde_json::to_value(appended).map_err(|_| ViewError::Failed)?,
        field,
        format,
        base: None,
        differs: false,
    })
}

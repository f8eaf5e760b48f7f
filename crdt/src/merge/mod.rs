//! Saves of a whole content, as edits of the live document: what the author changed since the copy that it began with is carried over to
//! what the page holds now.
//!
//! ```text
//!             base ───────────► saved        what the author did
//!              │                  │
//!   others did │                  │ the same edits, of the current content
//!              ▼                  ▼
//!           current ──────────► outcome
//! ```
//!
//! Each insertion of either side is in the outcome once and in one piece. What one side deleted is gone, except for what the other one wrote
//! into it. Nothing that the author's copy could not show is touched: it is not in the base, so it counts as an insertion of others. The base
//! is the nearest of the contents that the author may have begun with; when it is not certain, nothing is deleted.

mod alike;
mod append;
mod base;
mod blocks;
mod carry;
mod delta;
mod diff;
mod edits;
mod format;
mod json;
mod live;
mod marks;
mod nearness;
mod refusal;
mod rising;
mod row;
mod same_ends;
mod shown;
mod text;
mod things;
mod tree;
mod values;
mod words;

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map as Object, Value};
use yrs::{GetString, TransactionMut, WriteTxn};

pub use append::{Append, AppendedPiece};
pub use base::{Candidate, Nearest, nearest};
pub use edits::SmallEdit;
pub use format::Format;
use format::{Schema, string};
pub use json::{COMPONENT_FIELD, ComponentChange};
pub use nearness::nearest_object;
pub use refusal::{MergeError, MergeRefusal};
pub use shown::thing_in;
pub use things::{ORDER, thing_id};

use crate::content::nodes;
use crate::content::{self, FieldType, Form, blocknote, xml};
use crate::state_vector::ClientId;
use crate::view::{View, ViewError};
use things::is_same;

/// A save of a whole content.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Save<C = Value> {
    /// The content: a string, or an object where it is ProseMirror's. Who only passes it on keeps it as JSON text.
    pub content: C,
    /// How it is written; else as what the page holds.
    pub format: Option<Format>,
    /// How it is written when the page is empty and nothing says it. An object is ProseMirror's.
    pub default_format: Format,
    /// The root type that it belongs to; else the usual one.
    pub field: Option<String>,
    /// The contents that the author may have begun with, the latest first.
    pub candidates: Vec<Candidate<C>>,
    /// Whether what the page holds now is one of them, and which the author had for certain. It is the last resort where there is no other.
    pub had_current: bool,
}

/// What has become of a save.
#[derive(Debug, Clone, PartialEq)]
pub struct Merged<C = Value> {
    /// The edits, as one update; empty when there is nothing to change.
    pub update: Bytes,
    /// What the root type holds afterwards, in the form of the save.
    pub content: C,
    /// The root type.
    pub field: String,
    /// The form of the save.
    pub format: Format,
    /// Which of the candidates was taken for the copy that the author began with; else it was the current content.
    pub base: Option<usize>,
    /// Whether the page holds something else now than what was saved.
    pub differs: bool,
}

/// A whole content of a page.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    /// The content: a string, or an object where it is ProseMirror's or a component's.
    pub content: Value,
    /// How it is written.
    pub format: Format,
    /// The root type that holds it.
    pub field: String,
}

impl View {
    /// Makes edits under `client` of a save of a whole content. The document itself stays as it is: the edits become a part of it when
    /// their update is applied.
    ///
    /// # Errors
    /// When the content is not what it is said to be, or the page holds something else, or cannot be read.
    pub fn merge(&self, client: ClientId, save: &Save) -> Result<Merged, MergeError> {
        let (field, format) = self.target(save)?;
        self.edit(client, |transaction| match format {
            Format::Text => merge_text(transaction, field, save),
            Format::Delta => delta::merge(transaction, field, save),
            Format::Html | Format::Markdown | Format::Prosemirror | Format::Blocknote => {
                merge_nodes(transaction, field, format, save)
            }
            Format::Json => Err(MergeRefusal::malformed("an object is saved by its properties").into()),
        })
    }

    /// The same for an author who has read the page as [`Self::shown`] gives it: where no field is named it is the one that was read, and a
    /// copy of now is what that gives now.
    ///
    /// # Errors
    /// As [`Self::merge`], and when several fields come into question.
    pub fn merge_shown(&self, client: ClientId, mut save: Save) -> Result<Merged, MergeError> {
        if save.format == Some(Format::Json) {
            return self.merge_values(client, &save);
        }
        let read = match (&save.field, save.format) {
            (Some(_), _) => None,
            (None, Some(Format::Text)) => self.only_rich_field()?,
            (None, _) => self.rich_field(None)?,
        };
        if let Some((field, kind)) = read
            && save.format.is_none_or(|format| format.fits(kind))
        {
            save.field = Some(field);
        }
        let form = match save.format {
            Some(Format::Html) => Some(Form::Html),
            Some(Format::Markdown) => Some(Form::Markdown),
            Some(Format::Text | Format::Prosemirror | Format::Blocknote | Format::Delta | Format::Json)
            | None => None,
        };
        if let (true, Some(form)) = (save.had_current, form) {
            let current = self.shown(form, save.field.as_deref())?;
            save.candidates.push(Candidate {
                content: Value::String(current.unwrap_or_default()),
                is_certain: true,
            });
            save.had_current = false;
        }
        self.merge(client, &save)
    }

    /// Makes an edit under `client` of a component, which is a map in a root type of its own.
    ///
    /// # Errors
    /// When there is no such thing on the page, or the page cannot be read.
    pub fn merge_component(&self, client: ClientId, change: &ComponentChange) -> Result<Merged, MergeError> {
        self.edit(client, |transaction| Ok(json::merge(transaction, change)?))
    }

    /// What a root type holds, in a format of whole contents. `None` when there is no such field or it holds something else.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub fn whole(&self, field: &str, format: Format) -> Result<Option<Value>, ViewError> {
        let kind = self.kind_of(field);
        if kind == FieldType::Unknown || !format.fits(kind) {
            return Ok(None);
        }
        match format {
            Format::Text => Ok(self.text(Some(field))?.map(Value::String)),
            Format::Json => self.json(Some(field)),
            Format::Delta => self.read(field, |transaction| {
                Some(content::delta::write(
                    transaction,
                    content::root(transaction, field)?,
                ))
            }),
            Format::Html | Format::Markdown | Format::Prosemirror | Format::Blocknote => {
                self.read(field, |transaction| {
                    let parent = content::root(transaction, field)?;
                    Some(format.written(&nodes::read(transaction, parent)))
                })
            }
        }
    }

    /// The whole content of the page, or of one root type. `None` when there is nothing.
    ///
    /// # Errors
    /// When it holds something else than this format can show, or cannot be shown.
    pub fn content(
        &self,
        format: Option<Format>,
        default_format: Format,
        field: Option<&str>,
    ) -> Result<Option<Whole>, MergeError> {
        if format == Some(Format::Json) {
            let content = self.component()?;
            let is_empty = content.as_object().is_none_or(Object::is_empty);
            return Ok((!is_empty).then(|| Whole {
                content,
                format: Format::Json,
                field: COMPONENT_FIELD.to_owned(),
            }));
        }
        let asked = Save {
            content: Value::Null,
            format,
            default_format,
            field: field.map(str::to_owned),
            candidates: Vec::new(),
            had_current: false,
        };
        let (field, format) = self.target(&asked)?;
        let field = field.to_owned();
        if self.is_blank(&field)? {
            return Ok(None);
        }
        Ok(self.whole(&field, format)?.map(|content| Whole {
            content,
            format,
            field,
        }))
    }

    /// A component as JSON, with the things of its lists in their order.
    ///
    /// # Errors
    /// When it cannot be shown.
    pub fn component(&self) -> Result<Value, ViewError> {
        self.read(COMPONENT_FIELD, |transaction| {
            match content::root(transaction, COMPONENT_FIELD) {
                Some(map) => Value::Object(things::shown_map(transaction, &map.into())),
                None => Value::Object(Object::new()),
            }
        })
    }

    /// The root type that a save belongs to and the format in which it is written.
    fn target(&self, save: &Save) -> Result<(String, Format), MergeError> {
        let holds = |format: Format| -> Result<bool, MergeError> {
            let field = format.usual_field();
            Ok(format.fits(self.kind_of(field)) && !self.is_blank(field)?)
        };
        let written = match (save.format, &save.content) {
            (Some(format), _) => Some(format),
            (None, Value::Object(_)) => Some(Format::Prosemirror),
            (None, _) => None,
        };
        let (field, format) = match (&save.field, written) {
            (Some(field), Some(format)) => (field.as_str(), format),
            (Some(field), None) => (
                field.as_str(),
                format_of(self.kind_of(field), save.default_format),
            ),
            (None, written) => {
                let held = [Format::Text, Format::Html].map(|format| (format, holds(format)));
                let [(_, text), (_, nodes)] = held;
                let (text, nodes) = (text?, nodes?);
                let format = match written {
                    Some(format) => format,
                    None if text && !nodes => format_of(FieldType::Text, save.default_format),
                    None if nodes && !text => format_of(FieldType::Xml, save.default_format),
                    None => save.default_format,
                };
                let is_other = match format {
                    Format::Text | Format::Delta => nodes && !text,
                    Format::Html | Format::Markdown | Format::Prosemirror | Format::Blocknote => {
                        text && !nodes
                    }
                    Format::Json => false,
                };
                if is_other {
                    let held = if text { FieldType::Text } else { FieldType::Xml };
                    return Err(MergeRefusal::conflict(held).into());
                }
                (format.usual_field(), format)
            }
        };
        let kind = self.kind_of(field);
        match format.fits(kind) {
            true => Ok((field.to_owned(), format)),
            false => Err(MergeRefusal::conflict(kind).into()),
        }
    }

    fn kind_of(&self, field: &str) -> FieldType {
        let fields = self.fields();
        let found = fields.iter().find(|(name, _)| name == field);
        found.map_or(FieldType::Unknown, |(_, kind)| *kind)
    }

    pub(crate) fn is_blank(&self, field: &str) -> Result<bool, ViewError> {
        Ok(match self.json(Some(field))? {
            None | Some(Value::Null) => true,
            Some(content) => content == "",
        })
    }
}

/// The format of what a root type holds; where two are possible the default one if it is one of them.
fn format_of(kind: FieldType, default: Format) -> Format {
    match kind {
        FieldType::Text => Format::Text,
        FieldType::Xml if matches!(default, Format::Text | Format::Json | Format::Delta) => Format::Html,
        FieldType::Xml | FieldType::Map | FieldType::Array | FieldType::Unknown => default,
    }
}

/// The outcome of an edit, before its update is known.
struct Outcome {
    content: Value,
    field: String,
    format: Format,
    base: Option<usize>,
    differs: bool,
}

impl View {
    /// Edits a copy of the document.
    fn edit(
        &self,
        client: ClientId,
        edit: impl FnOnce(&mut TransactionMut<'_>) -> Result<Outcome, MergeError>,
    ) -> Result<Merged, MergeError> {
        let mut outcome = None;
        let update = self.edited(client, |transaction| outcome = Some(edit(transaction)))?;
        let outcome = outcome.ok_or(ViewError::Failed)??;
        Ok(Merged {
            update,
            content: outcome.content,
            field: outcome.field,
            format: outcome.format,
            base: outcome.base,
            differs: outcome.differs,
        })
    }
}

/// The copy that an author began with.
struct Base<'a> {
    /// Its index among the candidates and its content; else it is what the page holds now.
    candidate: Option<(usize, &'a Value)>,
    is_certain: bool,
}

impl<'a> Base<'a> {
    /// The nearest of what an author may have begun with, with what the page holds now.
    fn of(save: &'a Save, current: &str) -> Self {
        let contents: Vec<_> = (save.candidates.iter())
            .map(|candidate| shown(&candidate.content))
            .collect();
        let current = (save.had_current || contents.is_empty()).then_some(current);
        let with_current = contents.iter().map(|content| &**content).chain(current);
        let nearest = nearest(with_current, &shown(&save.content));
        let is_certain = nearest.is_none_or(|nearest| nearest.is_certain);
        match nearest.and_then(|nearest| Some((nearest.index, save.candidates.get(nearest.index)?))) {
            Some((index, candidate)) => Self {
                candidate: Some((index, &candidate.content)),
                is_certain: is_certain && candidate.is_certain,
            },
            None => Self {
                candidate: None,
                is_certain: is_certain && save.had_current,
            },
        }
    }

    /// The same of an object of which only some properties were saved: the others say nothing.
    fn of_properties(
        updates: &Object<String, Value>,
        candidates: &'a [Candidate],
        had_current: bool,
        current: &Object<String, Value>,
    ) -> Self {
        let nothing = Object::new();
        let contents = candidates
            .iter()
            .map(|candidate| candidate.content.as_object().unwrap_or(&nothing));
        let current = (had_current || candidates.is_empty()).then_some(current);
        let nearest = nearest_object(contents.chain(current), updates);
        match nearest.and_then(|index| Some((index, candidates.get(index)?))) {
            Some((index, candidate)) => Self {
                candidate: Some((index, &candidate.content)),
                is_certain: candidate.is_certain,
            },
            None => Self {
                candidate: None,
                is_certain: had_current,
            },
        }
    }

    fn index(&self) -> Option<usize> {
        self.candidate.map(|(index, _)| index)
    }
}

/// A content as text, for its words to be compared.
fn shown(content: &Value) -> Cow<'_, str> {
    match content.as_str() {
        Some(text) => Cow::Borrowed(text),
        None => Cow::Owned(content.to_string()),
    }
}

fn merge_text(
    transaction: &mut TransactionMut<'_>,
    field: String,
    save: &Save,
) -> Result<Outcome, MergeError> {
    let text = transaction.get_or_insert_text(&*field);
    let base = Base::of(save, &text.get_string(transaction));
    let saved = string(&save.content, "plain text")?;
    let begun_with = base.candidate.and_then(|(_, content)| content.as_str());
    if !text::merge(transaction, &text, begun_with, saved, base.is_certain) {
        return Err(ViewError::Field { name: field }.into());
    }
    let content = text.get_string(transaction);
    Ok(Outcome {
        differs: content != saved,
        content: Value::String(content),
        field,
        format: Format::Text,
        base: base.index(),
    })
}

fn merge_nodes(
    transaction: &mut TransactionMut<'_>,
    field: String,
    format: Format,
    save: &Save,
) -> Result<Outcome, MergeError> {
    let fragment = transaction.get_or_insert_xml_fragment(&*field);
    let parent = xml::branch(&fragment);
    let current = nodes::read(transaction, parent);
    let schema = Schema::of(&current, format, &save.content);
    let now = format.written(&current);
    let base = Base::of(save, &shown(&now));
    let mut saved = format.parsed(&save.content, schema)?;
    if schema == Schema::Blocks && saved.is_empty() {
        saved = vec![blocknote::group_of(vec![blocknote::empty_block()])];
    }
    // What the page holds, as the author can have seen it.
    let begun_with = format.parsed(base.candidate.map_or(&now, |(_, content)| content), schema)?;
    let mut merge = tree::Merge {
        transaction,
        deletes: base.is_certain,
        failed: false,
    };
    match schema {
        Schema::Plain => merge.children(parent, &begun_with, &current, &saved),
        Schema::Blocks => merge.group(parent, &begun_with, &current, &saved),
    }
    if merge.failed {
        return Err(ViewError::Field { name: field }.into());
    }
    let content = format.written(&nodes::read(transaction, parent));
    Ok(Outcome {
        differs: !format.is_same(&content, &format.written(&saved)),
        content,
        field,
        format,
        base: base.index(),
    })
}

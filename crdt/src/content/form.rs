//! The forms in which a page is read, and which root type is meant where none is named.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::nodes::{self, Unit};
use super::{FieldType, blocknote, delta, html, lines, markdown, prosemirror, root};
use crate::merge::{MergeError, MergeRefusal};
use crate::view::View;

/// A form in which a page is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// Every root type by its name.
    Json,
    /// What can be read, without markup.
    Text,
    /// HTML that does nothing in the page that shows it.
    Html,
    /// CommonMark with GitHub's extensions.
    Markdown,
    /// The JSON of a ProseMirror document.
    Prosemirror,
    /// The blocks of a BlockNote document, as a list.
    Blocknote,
    /// The operations of a Quill document, `{"ops": […]}`.
    Delta,
}

impl View {
    /// The page in a form, or one root type of it. JSON and text without a field are of all root types; rich text is of the one that is the
    /// usual place for it, or else the only one there is. `None` when there is no such field.
    ///
    /// # Errors
    /// When the field holds something that has no such form, when several come into question, or when it cannot be shown.
    pub fn shown(&self, form: Form, field: Option<&str>) -> Result<Option<String>, MergeError> {
        match form {
            Form::Json => return Ok(self.json(field)?.map(|json| json.to_string())),
            Form::Text => return Ok(self.text(field)?),
            Form::Html | Form::Markdown | Form::Prosemirror | Form::Blocknote | Form::Delta => {}
        }
        let Some((field, kind)) = self.rich_field(field)? else {
            return Ok(None);
        };
        Ok(self.read(&field, |transaction| {
            let root = root(transaction, &field)?;
            let units = || match kind {
                FieldType::Text => lines::read(transaction, root),
                FieldType::Xml | FieldType::Map | FieldType::Array | FieldType::Unknown => {
                    nodes::read(transaction, root)
                }
            };
            Some(match form {
                Form::Html => html::write_safely(&blocknote::plain(&units())),
                Form::Markdown => markdown::write(&blocknote::plain(&units())),
                Form::Blocknote => blocknote::write(&blocknote::blocks(&units())).to_string(),
                Form::Delta => delta::write(transaction, root).to_string(),
                Form::Json | Form::Text | Form::Prosemirror => document(&units()).to_string(),
            })
        })?)
    }

    /// The root type that holds rich text, and what it is: the one that is named, or the usual one, or else the only one.
    pub(crate) fn rich_field(&self, field: Option<&str>) -> Result<Option<(String, FieldType)>, MergeError> {
        let is_rich = |kind: FieldType| matches!(kind, FieldType::Xml | FieldType::Text);
        let fields = self.fields();
        if let Some(field) = field {
            let found = fields.into_iter().find(|(name, _)| name == field);
            return match found {
                Some((_, kind)) if !is_rich(kind) && kind != FieldType::Unknown => {
                    Err(MergeRefusal::conflict(kind).into())
                }
                found => Ok(found.filter(|(_, kind)| is_rich(*kind))),
            };
        }
        let mut rich = self.rich_fields()?;
        for (usual, kind) in [("default", FieldType::Xml), ("content", FieldType::Text)] {
            let is_usual = |(name, found): &(String, FieldType)| name == usual && *found == kind;
            if let Some(at) = rich.iter().position(is_usual) {
                return Ok(Some(rich.swap_remove(at)));
            }
        }
        match rich.len() {
            0 | 1 => Ok(rich.pop()),
            _ => Err(ambiguous(rich).into()),
        }
    }

    /// The root type whose text a page is read as; a text of several cannot be taken apart again.
    ///
    /// # Errors
    /// When there are several with something in them.
    pub(crate) fn only_rich_field(&self) -> Result<Option<(String, FieldType)>, MergeError> {
        let mut rich = self.rich_fields()?;
        match rich.len() {
            0 | 1 => Ok(rich.pop()),
            _ => Err(ambiguous(rich).into()),
        }
    }

    /// The root types with rich text; if there are any with something in them, those.
    fn rich_fields(&self) -> Result<Vec<(String, FieldType)>, MergeError> {
        let is_rich = |kind: FieldType| matches!(kind, FieldType::Xml | FieldType::Text);
        let fields = self.fields();
        let mut rich: Vec<_> = fields.into_iter().filter(|(_, kind)| is_rich(*kind)).collect();
        let mut held = Vec::new();
        for (name, _) in &rich {
            if !self.is_blank(name)? {
                held.push(name.clone());
            }
        }
        if !held.is_empty() {
            rich.retain(|(name, _)| held.contains(name));
        }
        Ok(rich)
    }
}

fn ambiguous(rich: Vec<(String, FieldType)>) -> MergeRefusal {
    let names: Vec<_> = rich.into_iter().map(|(name, _)| name).collect();
    MergeRefusal::Ambiguous {
        fields: names.join("`, `"),
    }
}

fn document(units: &[Unit]) -> Value {
    prosemirror::write(units)
}

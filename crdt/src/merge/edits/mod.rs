//! Small edits by a backend: of a text by place or by what stands there, of rich text block by block, of values by path as RFC 6902 has it.
//! All of a list are made, or none.

mod data;
#[cfg(feature = "description")]
mod description;
mod place;
mod rich;
mod shared;

pub(super) use shared::{write_items, write_key};

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map as Object, Value};
use yrs::TransactionMut;

use super::{Format, MergeError, MergeRefusal, Merged, Outcome};
use crate::content::FieldType;
use crate::state_vector::ClientId;
use crate::view::View;
use place::Located;
use rich::{BlockEdit, Spot, TextEdit};

/// Units of content that the edits of one list may walk through together, to find places.
const MAX_WORK: usize = 50_000_000;

/// One edit. `path` is a JSON pointer, or a list of its parts; its first part is the name of a root type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "description", derive(utoipa::ToSchema))]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum SmallEdit {
    /// Puts text into a text: at a place in units of UTF-16, or behind or in front of what stands there once, or at the end.
    InsertText {
        /// The text, or the rich text.
        path: Path,
        /// The text that is put in.
        text: String,
        /// Where, in units of UTF-16.
        at: Option<u32>,
        /// Behind this.
        after: Option<String>,
        /// In front of this.
        before: Option<String>,
        /// Formats of it; without them it is as what stands in front of it.
        #[cfg_attr(feature = "description", schema(value_type = Option<BTreeMap<String, Value>>))]
        attributes: Option<Object<String, Value>>,
    },
    /// Takes text out of a text: so many units of UTF-16 at a place, or what stands there once.
    DeleteText {
        /// The text, or the rich text.
        path: Path,
        /// Where, in units of UTF-16.
        at: Option<u32>,
        /// How much, in units of UTF-16.
        length: Option<u32>,
        /// What.
        quote: Option<String>,
    },
    /// Puts text in the place of other text.
    ReplaceText {
        /// The text, or the rich text.
        path: Path,
        /// The text that is put in.
        text: String,
        /// Where, in units of UTF-16.
        at: Option<u32>,
        /// How much, in units of UTF-16.
        length: Option<u32>,
        /// What.
        quote: Option<String>,
    },
    /// Puts blocks into rich text: behind a heading, or behind or in front of the block in which something stands, or at the end.
    InsertBlocks {
        /// The rich text.
        path: Path,
        /// The blocks, in one of three forms.
        markdown: Option<String>,
        /// As HTML.
        html: Option<String>,
        /// As a document of ProseMirror.
        prosemirror: Option<Value>,
        /// Behind the heading with this text.
        after_heading: Option<String>,
        /// Behind the block in which this stands.
        after: Option<String>,
        /// In front of the block in which this stands.
        before: Option<String>,
        /// In front of all others.
        #[serde(default)]
        at_start: bool,
    },
    /// Sets a value of a map, or puts one into a list (`-` is its end).
    #[serde(alias = "insert")]
    Add {
        /// Where.
        path: Path,
        /// The value.
        value: Value,
        /// Whether objects and lists in it become shared types, whose parts can be edited at once by several. Else they are one value.
        #[serde(default)]
        shared: bool,
    },
    /// Sets a value of a map or a list, whether or not there is one.
    Set {
        /// Where.
        path: Path,
        /// The value.
        value: Value,
        /// As of [`Self::Add`].
        #[serde(default)]
        shared: bool,
    },
    /// Sets a value that there is.
    Replace {
        /// Where.
        path: Path,
        /// The value.
        value: Value,
        /// As of [`Self::Add`].
        #[serde(default)]
        shared: bool,
    },
    /// Takes out a value that there is.
    #[serde(alias = "delete")]
    Remove {
        /// Where.
        path: Path,
    },
    /// Puts a value to another place.
    Move {
        /// From where.
        from: Path,
        /// Where to.
        path: Path,
    },
    /// Puts a copy of a value to another place.
    Copy {
        /// From where.
        from: Path,
        /// Where to.
        path: Path,
    },
    /// Makes none of the edits if another value is there.
    Test {
        /// Where.
        path: Path,
        /// The value.
        value: Value,
    },
}

/// Where something is in a page: the name of a root type, and then keys and indexes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct Path(Vec<String>);

/// How a path is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Pointer(String),
    Parts(Vec<Part>),
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Part {
    Index(u32),
    Key(String),
}

impl TryFrom<Written> for Path {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let parts: Vec<String> = match written {
            Written::Pointer(pointer) => {
                let rest = pointer.strip_prefix('/').ok_or("a path begins with `/`")?;
                let part = |part: &str| part.replace("~1", "/").replace("~0", "~");
                rest.split('/').map(part).collect()
            }
            Written::Parts(parts) => parts
                .into_iter()
                .map(|part| match part {
                    Part::Index(index) => index.to_string(),
                    Part::Key(key) => key,
                })
                .collect(),
        };
        match parts.is_empty() {
            true => Err("a path names a root type"),
            false => Ok(Self(parts)),
        }
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in &self.0 {
            write!(f, "/{}", part.replace('~', "~0").replace('/', "~1"))?;
        }
        Ok(())
    }
}

impl View {
    /// Makes edits under `client`, one after the other, as one update.
    ///
    /// # Errors
    /// When one of them cannot be made; then none is.
    pub fn edit_small(&self, client: ClientId, edits: &[SmallEdit]) -> Result<Merged, MergeError> {
        let kinds: BTreeMap<String, FieldType> = self.fields().into_iter().collect();
        self.edit(client, |transaction| {
            let mut editing = Editing {
                transaction,
                kinds,
                work: 0,
                rewritten: 0,
            };
            for run in
                edits.chunk_by(|one, next| one.appended().is_some_and(|(path, _)| next.appends_to(path)))
            {
                match run {
                    [edit] => editing.make(edit)?,
                    run => editing.append_run(run)?,
                }
                if editing.work > MAX_WORK {
                    return Err(MergeRefusal::TooMuch.into());
                }
            }
            Ok(Outcome {
                content: Value::Null,
                field: String::new(),
                format: Format::Json,
                base: None,
                differs: false,
            })
        })
    }
}

/// A transaction in which edits are made.
struct Editing<'a, 't> {
    transaction: &'a mut TransactionMut<'t>,
    /// The root types and what they are. One that comes into being becomes what is done with it.
    kinds: BTreeMap<String, FieldType>,
    /// Units of content that have been walked through to find places.
    work: usize,
    /// Bytes of what the page holds that have been written once more.
    rewritten: usize,
}

impl SmallEdit {
    /// Where a value goes in one piece, if that is the end of a list.
    fn appended(&self) -> Option<(&Path, &Value)> {
        match self {
            Self::Add { path, value, shared } => {
                let is_end = path.0.len() > 1 && path.0.last().is_some_and(|last| last == "-");
                let is_in_parts = *shared && matches!(value, Value::Object(_) | Value::Array(_));
                (is_end && !is_in_parts).then_some((path, value))
            }
            Self::InsertText { .. }
            | Self::DeleteText { .. }
            | Self::ReplaceText { .. }
            | Self::InsertBlocks { .. }
            | Self::Set { .. }
            | Self::Replace { .. }
            | Self::Remove { .. }
            | Self::Move { .. }
            | Self::Copy { .. }
            | Self::Test { .. } => None,
        }
    }

    fn appends_to(&self, list: &Path) -> bool {
        self.appended().is_some_and(|(path, _)| path == list)
    }
}

impl Editing<'_, '_> {
    /// Makes edits of which each puts a value to the end of the same list.
    fn append_run(&mut self, run: &[SmallEdit]) -> Result<(), MergeRefusal> {
        let appended: Vec<_> = run.iter().filter_map(SmallEdit::appended).collect();
        let values: Vec<&Value> = appended.iter().map(|(_, value)| *value).collect();
        match appended.first() {
            Some((path, _)) => self.append_all(path, &values),
            None => Ok(()),
        }
    }

    fn make(&mut self, edit: &SmallEdit) -> Result<(), MergeRefusal> {
        match edit {
            SmallEdit::InsertText {
                path,
                text,
                at,
                after,
                before,
                attributes,
            } => self.edit_text(&TextEdit {
                path,
                spot: Spot::of_insertion(*at, after.as_deref(), before.as_deref())?,
                inserted: text,
                attributes: attributes.as_ref(),
            }),
            SmallEdit::DeleteText {
                path,
                at,
                length,
                quote,
            } => self.edit_text(&TextEdit {
                path,
                spot: Spot::of_deletion(*at, *length, quote.as_deref())?,
                inserted: "",
                attributes: None,
            }),
            SmallEdit::ReplaceText {
                path,
                text,
                at,
                length,
                quote,
            } => self.edit_text(&TextEdit {
                path,
                spot: Spot::of_deletion(*at, *length, quote.as_deref())?,
                inserted: text,
                attributes: None,
            }),
            SmallEdit::InsertBlocks {
                path,
                markdown,
                html,
                prosemirror,
                after_heading,
                after,
                before,
                at_start,
            } => self.insert_blocks(&BlockEdit {
                path,
                markdown: markdown.as_deref(),
                html: html.as_deref(),
                prosemirror: prosemirror.as_ref(),
                after_heading: after_heading.as_deref(),
                after: after.as_deref(),
                before: before.as_deref(),
                at_start: *at_start,
            }),
            SmallEdit::Add { path, value, shared } => self.add(path, value, *shared),
            SmallEdit::Set { path, value, shared } => self.set(path, value, *shared),
            SmallEdit::Replace { path, value, shared } => {
                self.value_at(path)?;
                self.set(path, value, *shared)
            }
            SmallEdit::Remove { path } => self.remove(path),
            SmallEdit::Move { from, path } => {
                let is_inside = path.0.len() > from.0.len() && path.0.starts_with(&from.0);
                if is_inside {
                    return Err(MergeRefusal::edit("nothing is moved into itself"));
                }
                let (value, shared) = self.copied(from)?;
                self.remove(from)?;
                self.add(path, &value, shared)
            }
            SmallEdit::Copy { from, path } => {
                let (value, shared) = self.copied(from)?;
                self.add(path, &value, shared)
            }
            SmallEdit::Test { path, value } => {
                let found = self.value_at(path)?;
                match super::is_same(&found, value) {
                    true => Ok(()),
                    false => Err(MergeRefusal::TestFailed {
                        path: path.to_string(),
                    }),
                }
            }
        }
    }

    fn no_such_place(path: &Path) -> MergeRefusal {
        MergeRefusal::NoSuchPlace {
            reason: format!("there is nothing at `{path}`"),
        }
    }

    fn located<'p>(&mut self, path: &'p Path) -> Result<Located<'p>, MergeRefusal> {
        place::locate(self.transaction, &mut self.kinds, &mut self.work, path)
    }
}

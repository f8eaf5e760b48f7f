//! Saves of a rich text as Quill has it, as edits of that text: characters, what is embedded among them, and the formats of each.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde_json::Value;
use yrs::types::text::{Diff, YChange};
use yrs::{Any, Out, Text, TextRef, TransactionMut, WriteTxn};

use super::carry::{Edit, Mapping, carried_over, kept_apart};
use super::diff::{Atom, difference};
use super::marks::{Cell, set_formats};
use super::things::any;
use super::{Base, Format, MergeError, MergeRefusal, Outcome, Save, is_same, shown};
use crate::content::nodes::{Marks, marks};
use crate::content::{delta, xml};
use crate::view::ViewError;

/// A character, or what is embedded in the place of one, with its formats.
#[derive(Debug, Clone)]
struct Piece {
    atom: Atom,
    /// What is embedded.
    embed: Option<Rc<Value>>,
    formats: Marks,
}

impl Piece {
    fn of_text(text: &str, formats: &Marks) -> impl Iterator<Item = Self> {
        text.chars().map(|character| Self {
            atom: Atom::Character(character),
            embed: None,
            formats: formats.clone(),
        })
    }

    fn of_embed(embed: Value, formats: Marks) -> Self {
        let mut hasher = DefaultHasher::new();
        embed.to_string().hash(&mut hasher);
        Self {
            atom: Atom::Node(hasher.finish()),
            embed: Some(Rc::new(embed)),
            formats,
        }
    }

    /// How many units of UTF-16 it takes.
    fn width(&self) -> u32 {
        match self.atom {
            Atom::Character(character) => character.len_utf16() as u32,
            Atom::Node(_) => 1,
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        self.atom == other.atom && self.formats == other.formats
    }
}

fn width(pieces: &[Piece]) -> u32 {
    pieces.iter().map(Piece::width).sum()
}

fn atoms(pieces: &[Piece]) -> Vec<Atom> {
    pieces.iter().map(|piece| piece.atom).collect()
}

/// What is in a text.
fn read(transaction: &TransactionMut<'_>, text: &TextRef) -> Vec<Piece> {
    let mut pieces = Vec::new();
    for piece in text.diff(transaction, YChange::identity) {
        let formats = marks(&piece);
        let Diff { insert, .. } = piece;
        if let Out::Any(Any::String(text)) = &insert {
            pieces.extend(Piece::of_text(text, &formats));
        } else {
            pieces.push(Piece::of_embed(delta::inserted(transaction, insert), formats));
        }
    }
    pieces
}

/// What is in a delta, which is the one of a whole document.
fn parse(content: &Value) -> Result<Vec<Piece>, MergeRefusal> {
    let malformed = |reason: &str| MergeRefusal::malformed(reason);
    let parsed;
    let mut content = content;
    if let Value::String(json) = content {
        parsed = serde_json::from_str(json).map_err(|error| MergeRefusal::malformed(error.to_string()))?;
        content = &parsed;
    }
    let ops = if content.is_object() {
        content.get("ops")
    } else {
        Some(content)
    };
    let ops = ops
        .and_then(Value::as_array)
        .ok_or_else(|| malformed("a delta has `ops`"))?;
    let mut pieces = Vec::new();
    for op in ops {
        let formats = match op.get("attributes") {
            None | Some(Value::Null) => Marks::default(),
            Some(Value::Object(attributes)) => {
                let set = attributes.iter().filter(|(_, value)| !value.is_null());
                Rc::new(
                    set.map(|(name, value)| (name.clone(), value.clone()))
                        .collect::<BTreeMap<_, _>>(),
                )
            }
            Some(_) => return Err(malformed("attributes are an object")),
        };
        match op.get("insert") {
            Some(Value::String(text)) => pieces.extend(Piece::of_text(text, &formats)),
            Some(embed @ Value::Object(_)) => pieces.push(Piece::of_embed(embed.clone(), formats)),
            Some(_) => return Err(malformed("what is inserted is a text or an object")),
            None => {
                return Err(malformed(
                    "the delta of a whole document has nothing but insertions",
                ));
            }
        }
    }
    Ok(pieces)
}

/// Merges a save into a text.
pub(super) fn merge(
    transaction: &mut TransactionMut<'_>,
    field: String,
    save: &Save,
) -> Result<Outcome, MergeError> {
    let text = transaction.get_or_insert_text(&*field);
    let written = |transaction: &TransactionMut<'_>| delta::write(transaction, xml::branch(&text));
    let now = written(transaction);
    let base = Base::of(save, &shown(&now));
    let saved = parse(&save.content)?;
    let current = read(transaction, &text);
    if width(&current) != text.len(transaction) {
        return Err(ViewError::Field { name: field }.into());
    }
    let begun_with = match base.candidate {
        Some((_, content)) => parse(content)?,
        None => current.clone(),
    };
    let target = edit(
        transaction,
        &text,
        [&begun_with, &current, &saved],
        base.is_certain,
    );
    if !format(transaction, &text, &target) {
        return Err(ViewError::Field { name: field }.into());
    }
    Ok(Outcome {
        differs: target.len() != saved.len()
            || target
                .iter()
                .zip(&saved)
                .any(|(held, saved)| !held.is_same(saved)),
        content: written(transaction),
        field,
        format: Format::Delta,
        base: base.index(),
    })
}

/// Makes the insertions and deletions of a save, and gives what is to be in the text then.
fn edit(
    transaction: &mut TransactionMut<'_>,
    text: &TextRef,
    [base, current, saved]: [&[Piece]; 3],
    deletes: bool,
) -> Vec<Piece> {
    let (base_atoms, current_atoms, saved_atoms) = (atoms(base), atoms(current), atoms(saved));
    let mapping = Mapping::new(difference(&base_atoms, &current_atoms), base.len(), current.len());
    let hunks = difference(&base_atoms, &saved_atoms);
    let in_saved = Mapping::new(hunks.clone(), base.len(), saved.len());
    let mut target = current.to_vec();
    for (at, before) in base.iter().enumerate() {
        let after = in_saved.kept(at).and_then(|at| saved.get(at));
        let now = mapping.kept(at).and_then(|at| target.get_mut(at));
        if let (Some(after), Some(now)) = (after, now)
            && before.formats != after.formats
        {
            now.formats = changed(&before.formats, &after.formats, &now.formats, deletes);
        }
    }
    let edits = carried_over(&mapping, &hunks, deletes);
    let edits = kept_apart(edits, &mapping, &current_atoms, &saved_atoms);
    // The last one first, so that the places of the others stay what they are.
    let (mut at, mut place) = (current.len(), width(current));
    for edit in edits.iter().rev() {
        let start = match edit {
            Edit::Delete(range) => range.start,
            Edit::Insert { at, .. } => *at,
        };
        place -= width(current.get(start..at).unwrap_or_default());
        at = start;
        match edit {
            Edit::Delete(range) => {
                let length = width(current.get(range.clone()).unwrap_or_default());
                text.remove_range(transaction, place, length);
                drop(target.drain(range.clone()));
            }
            Edit::Insert { saved: range, .. } => {
                let inserted = saved.get(range.clone()).unwrap_or_default();
                insert(transaction, text, place, inserted);
                drop(target.splice(start..start, inserted.iter().cloned()));
            }
        }
    }
    target
}

/// Formats with what an author has changed about them.
fn changed(before: &Marks, after: &Marks, now: &Marks, deletes: bool) -> Marks {
    let mut formats = BTreeMap::clone(now);
    for (name, value) in after.iter() {
        if !before.get(name).is_some_and(|before| is_same(before, value)) {
            formats.insert(name.clone(), value.clone());
        }
    }
    formats.retain(|name, _| !deletes || after.contains_key(name) || !before.contains_key(name));
    Rc::new(formats)
}

fn insert(transaction: &mut TransactionMut<'_>, text: &TextRef, mut place: u32, pieces: &[Piece]) {
    for run in pieces.chunk_by(|one, other| one.embed.is_none() && other.embed.is_none()) {
        match run {
            [
                Piece {
                    embed: Some(embed), ..
                },
            ] => {
                text.insert_embed(transaction, place, any(embed));
            }
            run => {
                let characters = run.iter().filter_map(|piece| match piece.atom {
                    Atom::Character(character) => Some(character),
                    Atom::Node(_) => None,
                });
                text.insert(transaction, place, &characters.collect::<String>());
            }
        }
        place += width(run);
    }
}

/// Gives what is in a text the formats that it is to have. Says whether it is what was planned.
fn format(transaction: &mut TransactionMut<'_>, text: &TextRef, target: &[Piece]) -> bool {
    let now = read(transaction, text);
    if width(&now) != width(target) || now.len() != target.len() {
        return false;
    }
    let cells: Vec<_> = (now.iter().zip(target))
        .map(|(now, target)| Cell {
            width: now.width(),
            now: &now.formats,
            target: &target.formats,
        })
        .collect();
    set_formats(transaction, text, &cells);
    true
}

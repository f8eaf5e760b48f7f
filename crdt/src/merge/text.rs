//! Saves of plain text, as edits of a text.

use yrs::types::text::YChange;
use yrs::{Any, Out, Text, TextRef, TransactionMut};

use super::carry::{Edit, Mapping, carried_over, kept_apart};
use super::diff::{Atom, atoms, difference};

/// What is in a text, each thing that is no character with a number of its own.
fn current_atoms(transaction: &TransactionMut<'_>, text: &TextRef) -> Vec<Atom> {
    let mut found = Vec::new();
    for piece in text.diff(transaction, YChange::identity) {
        if let Out::Any(Any::String(characters)) = piece.insert {
            found.extend(characters.chars().map(Atom::Character));
        } else {
            found.push(Atom::Node(found.len() as u64));
        }
    }
    found
}

/// How many units of UTF-16 a content takes, as the document counts.
fn units(atoms: &[Atom]) -> u32 {
    let units = |atom: &Atom| match atom {
        Atom::Character(character) => character.len_utf16() as u32,
        Atom::Node(_) => 1,
    };
    atoms.iter().map(units).sum()
}

/// Merges a save into a text. What is in the text and no plain text can show is not touched. Says whether it could: a text may hold
/// values that look like characters and do not take as much room.
pub(super) fn merge(
    transaction: &mut TransactionMut<'_>,
    text: &TextRef,
    base: Option<&str>,
    saved: &str,
    deletes: bool,
) -> bool {
    let current = current_atoms(transaction, text);
    if units(&current) != text.len(transaction) {
        return false;
    }
    let saved = atoms(saved);
    let base = match base {
        Some(base) => atoms(base),
        None => characters(&current),
    };
    let mapping = Mapping::new(difference(&base, &current), base.len(), current.len());
    let edits = carried_over(&mapping, &difference(&base, &saved), deletes);
    let edits = kept_apart(edits, &mapping, &current, &saved);
    apply(transaction, text, &current, &saved, &edits);
    true
}

fn characters(atoms: &[Atom]) -> Vec<Atom> {
    let is_shown = |atom: &&Atom| matches!(atom, Atom::Character(_));
    atoms.iter().filter(is_shown).copied().collect()
}

/// Makes edits, the last one first, so that the places of the others stay what they are.
fn apply(
    transaction: &mut TransactionMut<'_>,
    text: &TextRef,
    current: &[Atom],
    saved: &[Atom],
    edits: &[Edit],
) {
    let (mut at, mut place) = (current.len(), units(current));
    for edit in edits.iter().rev() {
        let start = match edit {
            Edit::Delete(range) => range.start,
            Edit::Insert { at, .. } => *at,
        };
        place -= units(current.get(start..at).unwrap_or_default());
        at = start;
        match edit {
            Edit::Delete(range) => {
                let length = units(current.get(range.clone()).unwrap_or_default());
                text.remove_range(transaction, place, length);
            }
            Edit::Insert { saved: range, .. } => {
                let inserted = saved.get(range.clone()).unwrap_or_default();
                text.insert(transaction, place, &string(inserted));
            }
        }
    }
}

fn string(atoms: &[Atom]) -> String {
    let characters = atoms.iter().filter_map(|atom| match atom {
        Atom::Character(character) => Some(*character),
        Atom::Node(_) => None,
    });
    characters.collect()
}

/// Three copies of a text that is kept as one value, merged.
pub(super) fn merged(base: &str, current: &str, saved: &str, deletes: bool) -> String {
    let (base, current, saved) = (atoms(base), atoms(current), atoms(saved));
    let mapping = Mapping::new(difference(&base, &current), base.len(), current.len());
    let mut out = current.clone();
    let edits = carried_over(&mapping, &difference(&base, &saved), deletes);
    for edit in kept_apart(edits, &mapping, &current, &saved).iter().rev() {
        match edit {
            Edit::Delete(range) => drop(out.drain(range.clone())),
            Edit::Insert { at, saved: range } => {
                let inserted = saved.get(range.clone()).unwrap_or_default();
                drop(out.splice(*at..*at, inserted.iter().copied()));
            }
        }
    }
    string(&out)
}

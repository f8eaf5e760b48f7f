//! Gives the characters of a text in a document the marks that they should have.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use serde_json::Value;
use yrs::types::{Attrs, Delta};
use yrs::{Any, In, Text, TextRef, TransactionMut, XmlTextRef};

use super::live::width;
use super::things::any;
use crate::content::nodes::{Marks, Unit, read_text};
use crate::content::xml;

/// A mark that some characters of a text are to have, or not to have any more.
#[derive(Debug)]
struct Format {
    start: u32,
    name: String,
    end: u32,
    value: Option<Value>,
}

/// A character, or what stands in the place of one, with the formats that it has and is to have.
pub(super) struct Cell<'a> {
    /// How many units of UTF-16 it takes.
    pub(super) width: u32,
    pub(super) now: &'a Marks,
    pub(super) target: &'a Marks,
}

impl Cell<'_> {
    fn is_like(&self, other: &Self) -> bool {
        let is_same = |one: &Marks, other: &Marks| Rc::ptr_eq(one, other) || one == other;
        is_same(self.now, other.now) && is_same(self.target, other.target)
    }
}

/// Gives the characters of a text their marks.
pub(super) fn format_text(transaction: &mut TransactionMut<'_>, text: &XmlTextRef, target: &[Unit]) {
    let now = read_text(transaction, text);
    let nothing = Marks::default();
    let cells: Vec<_> = (now.iter().zip(target))
        .map(|(unit, target)| {
            let (now, target) = match (unit, target) {
                (Unit::Character(_, now), Unit::Character(_, target)) => (now, target),
                _ => (&nothing, &nothing),
            };
            let width = width(std::slice::from_ref(unit));
            Cell { width, now, target }
        })
        .collect();
    set_formats(transaction, &TextRef::from(xml::branch(text)), &cells);
}

/// Gives what is in a text its formats: in one walk for all that do not overlap, and in the same order each time.
pub(super) fn set_formats(transaction: &mut TransactionMut<'_>, text: &TextRef, cells: &[Cell<'_>]) {
    let mut walks: Vec<(u32, Vec<Delta<In>>)> = Vec::new();
    for Format {
        start,
        name,
        end,
        value,
    } in formats(cells)
    {
        let walk = match walks.iter().position(|(at, _)| *at <= start) {
            Some(walk) => walk,
            None => {
                walks.push((0, Vec::new()));
                walks.len() - 1
            }
        };
        if let Some((at, walk)) = walks.get_mut(walk) {
            let value = value.as_ref().map_or(Any::Null, any);
            let format = Attrs::from([(name.into(), value)]);
            walk.extend((start > *at).then(|| Delta::Retain(start - *at, None)));
            walk.push(Delta::Retain(end - start, Some(Box::new(format))));
            *at = end;
        }
    }
    for (_, walk) in walks {
        text.apply_delta(transaction, walk);
    }
}

/// What is to be changed about the formats of a text, in its order.
fn formats(cells: &[Cell<'_>]) -> Vec<Format> {
    let (mut place, mut formats) = (0, Vec::new());
    let mut open: BTreeMap<&str, Format> = BTreeMap::new();
    for run in cells.chunk_by(Cell::is_like) {
        let start = place;
        place += run.iter().map(|cell| cell.width).sum::<u32>();
        let Some(Cell { now, target, .. }) = run.first() else {
            continue;
        };
        if now == target {
            continue;
        }
        let names: BTreeSet<&String> = now.keys().chain(target.keys()).collect();
        for name in names
            .into_iter()
            .filter(|name| now.get(*name) != target.get(*name))
        {
            let value = target.get(name);
            match open.get_mut(name.as_str()) {
                Some(open) if open.end == start && open.value.as_ref() == value => open.end = place,
                _ => {
                    let format = Format {
                        start,
                        name: name.clone(),
                        end: place,
                        value: value.cloned(),
                    };
                    formats.extend(open.insert(name, format));
                }
            }
        }
    }
    formats.extend(open.into_values());
    formats.sort_by(|one, other| (one.start, &one.name).cmp(&(other.start, &other.name)));
    formats
}

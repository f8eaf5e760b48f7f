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

/// Gives the characters of a text their marks: in one walk for all marks that do not overlap, and in the same order each time.
pub(super) fn format_text(transaction: &mut TransactionMut<'_>, text: &XmlTextRef, target: &[Unit]) {
    let now = read_text(transaction, text);
    let mut walks: Vec<(u32, Vec<Delta<In>>)> = Vec::new();
    for Format {
        start,
        name,
        end,
        value,
    } in formats(&now, target)
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
        TextRef::from(xml::branch(text)).apply_delta(transaction, walk);
    }
}

/// What is to be changed about the marks of a text, in its order.
fn formats(now: &[Unit], target: &[Unit]) -> Vec<Format> {
    let is_same = |one: &Marks, other: &Marks| Rc::ptr_eq(one, other) || one == other;
    let pairs: Vec<(&Unit, &Unit)> = now.iter().zip(target).collect();
    let runs = pairs.chunk_by(
        |(one_now, one), (other_now, other)| match (one_now, one, other_now, other) {
            (Unit::Character(_, a), Unit::Character(_, b), Unit::Character(_, c), Unit::Character(_, d)) => {
                is_same(a, c) && is_same(b, d)
            }
            _ => false,
        },
    );
    let (mut place, mut formats) = (0, Vec::new());
    let mut open: BTreeMap<&str, Format> = BTreeMap::new();
    for run in runs {
        let start = place;
        place += run
            .iter()
            .map(|(_, unit)| width(std::slice::from_ref(*unit)))
            .sum::<u32>();
        let Some((Unit::Character(_, now), Unit::Character(_, target))) = run.first() else {
            continue;
        };
        if is_same(now, target) {
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

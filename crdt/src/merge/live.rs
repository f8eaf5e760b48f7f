//! Edits of the nodes and texts of a document, as y-prosemirror would make them: a run of characters is one text, each mark a format of it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use serde_json::Value;
use yrs::branch::{BranchID, BranchPtr};
use yrs::types::Delta;
use yrs::{
    Any, In, Out, Text, TextRef, TransactionMut, Xml, XmlElementPrelim, XmlElementRef, XmlFragment,
    XmlFragmentRef, XmlTextPrelim, XmlTextRef,
};

use super::is_same;
use super::marks::format_text;
use super::things::any;
use crate::content::nodes::{Marks, Node, Unit, is_text, read_text};
use crate::content::{blocknote, xml};

/// A change of the units in a root type or an element. Places are those before any change.
#[derive(Debug)]
pub(super) enum Change {
    Insert(usize, Vec<Unit>),
    Delete(usize),
    /// Marks of a character are set or taken away.
    Mark(usize, Vec<(String, Option<Value>)>),
}

/// How many units of UTF-16 some units take in a list.
pub(super) fn width(units: &[Unit]) -> u32 {
    let width = |unit: &Unit| match unit {
        Unit::Character(character, _) => character.len_utf16() as u32,
        Unit::Node(_) | Unit::Other => 1,
    };
    units.iter().map(width).sum()
}

fn text_of(units: &[Unit]) -> String {
    let characters = units.iter().filter_map(|unit| match unit {
        Unit::Character(character, _) => Some(*character),
        Unit::Node(_) | Unit::Other => None,
    });
    characters.collect()
}

/// What a child of an element is.
#[derive(Debug)]
enum Kind {
    Text(XmlTextRef),
    /// Characters that are in the element itself.
    Bare,
    Single,
}

/// A child of an element, with the units that it holds.
#[derive(Debug)]
struct Segment {
    kind: Kind,
    units: Range<usize>,
    /// Where it is in the list of children.
    place: u32,
}

/// The children of an element; `None` when one of them does not take as much room as what is seen of it: a text may hold values that
/// look like characters.
fn segments(transaction: &TransactionMut<'_>, parent: BranchPtr) -> Option<Vec<Segment>> {
    let (mut at, mut place) = (0, 0);
    let mut segments = Vec::new();
    for child in xml::children(transaction, parent) {
        let (kind, length, width) = match child {
            Out::YXmlText(text) => {
                let units = read_text(transaction, &text);
                if TextRef::from(xml::branch(&text)).len(transaction) != width(&units) {
                    return None;
                }
                (Kind::Text(text), units.len(), 1)
            }
            Out::Any(Any::String(text)) => {
                let length = text.chars().count();
                (Kind::Bare, length, text.encode_utf16().count() as u32)
            }
            Out::Any(_)
            | Out::YText(_)
            | Out::YArray(_)
            | Out::YMap(_)
            | Out::YXmlElement(_)
            | Out::YXmlFragment(_)
            | Out::YDoc(_)
            | Out::UndefinedRef(_) => (Kind::Single, 1, 1),
        };
        segments.push(Segment {
            kind,
            units: at..at + length,
            place,
        });
        (at, place) = (at + length, place + width);
    }
    (TextRef::from(parent).len(transaction) == place).then_some(segments)
}

/// Makes changes of the units in `parent`, which are `current`. Says whether it could.
pub(super) fn apply(
    transaction: &mut TransactionMut<'_>,
    parent: BranchPtr,
    current: &[Unit],
    changes: Vec<Change>,
) -> bool {
    if changes.is_empty() {
        return true;
    }
    let Some(segments) = segments(transaction, parent) else {
        return false;
    };
    let mut inserted: BTreeMap<usize, Vec<Unit>> = BTreeMap::new();
    let mut deleted = BTreeSet::new();
    let mut marked: BTreeMap<usize, Vec<(String, Option<Value>)>> = BTreeMap::new();
    for change in changes {
        match change {
            Change::Insert(at, units) => inserted.entry(at).or_default().extend(units),
            Change::Delete(at) => drop(deleted.insert(at)),
            Change::Mark(at, marks) => drop(marked.insert(at, marks)),
        }
    }
    let mut editing = Editing {
        parent,
        segments,
        current,
        transaction,
    };
    // From the end, so that the places before stay what they are.
    let mut end = current.len();
    for at in (0..=current.len()).rev() {
        let goes = deleted.contains(&at);
        if !goes && at < end {
            editing.delete(at + 1..end);
            end = at;
        }
        if let Some(units) = inserted.get(&at) {
            editing.delete(at..end.max(at));
            editing.insert(at, units);
            end = at;
        } else if at == 0 {
            editing.delete(0..end);
        }
    }
    let mut target = Vec::with_capacity(current.len());
    for at in 0..=current.len() {
        target.extend(inserted.remove(&at).unwrap_or_default());
        match current.get(at) {
            Some(unit) if !deleted.contains(&at) => target.push(with_marks(unit, marked.get(&at))),
            _ => {}
        }
    }
    !target.iter().any(is_text) || format(transaction, parent, &target)
}

fn with_marks(unit: &Unit, changes: Option<&Vec<(String, Option<Value>)>>) -> Unit {
    match (unit, changes) {
        (Unit::Character(character, marks), Some(changes)) => {
            let mut marks = BTreeMap::clone(marks);
            for (name, value) in changes {
                match value {
                    Some(value) => marks.insert(name.clone(), value.clone()),
                    None => marks.remove(name),
                };
            }
            Unit::Character(*character, Marks::new(marks))
        }
        (unit, _) => unit.clone(),
    }
}

struct Editing<'a, 'doc> {
    transaction: &'a mut TransactionMut<'doc>,
    parent: BranchPtr,
    segments: Vec<Segment>,
    current: &'a [Unit],
}

impl Editing<'_, '_> {
    fn width(&self, units: Range<usize>) -> u32 {
        width(self.current.get(units).unwrap_or_default())
    }

    /// Takes out units. Texts stay where they are when they are empty, for what others write into them.
    fn delete(&mut self, units: Range<usize>) {
        if units.is_empty() {
            return;
        }
        let touched = self
            .segments
            .partition_point(|segment| segment.units.end <= units.start);
        let behind = self
            .segments
            .partition_point(|segment| segment.units.start < units.end);
        // The last one first.
        let mut gone: Vec<Range<u32>> = Vec::new();
        for index in (touched..behind).rev() {
            let Some(segment) = self.segments.get(index) else {
                continue;
            };
            let part = segment.units.start.max(units.start)..segment.units.end.min(units.end);
            let offset = self.width(segment.units.start..part.start);
            let length = self.width(part);
            match &segment.kind {
                Kind::Text(text) if length > 0 => {
                    TextRef::from(xml::branch(text)).remove_range(self.transaction, offset, length);
                }
                Kind::Text(_) => {}
                Kind::Bare | Kind::Single => {
                    let start = segment.place + offset;
                    match gone.last_mut() {
                        Some(next) if next.start == start + length => next.start = start,
                        Some(_) | None => gone.push(start..start + length),
                    }
                }
            }
        }
        self.remove(gone);
    }

    /// Takes children out of the list, the last ones first.
    fn remove(&mut self, mut places: Vec<Range<u32>>) {
        places.retain(|place| !place.is_empty());
        let list = TextRef::from(self.parent);
        if places.len() <= FEW {
            for place in places {
                list.remove_range(self.transaction, place.start, place.end - place.start);
            }
            return;
        }
        let mut at = 0;
        let edits = places.iter().rev().flat_map(|place| {
            let before = Delta::<In>::Retain(place.start - at, None);
            at = place.end;
            [before, Delta::Deleted(place.end - place.start)]
        });
        let edits: Vec<_> = edits
            .filter(|edit| !matches!(edit, Delta::Retain(0, _)))
            .collect();
        list.apply_delta(self.transaction, edits);
    }

    /// Puts units in before the unit `at`. What is behind it has been changed already, and the end of the text that it is in, too.
    fn insert(&mut self, at: usize, units: &[Unit]) {
        let first_node = units
            .iter()
            .position(|unit| !is_text(unit))
            .unwrap_or(units.len());
        let last_node = units
            .iter()
            .rposition(|unit| !is_text(unit))
            .map_or(units.len(), |last| last + 1);
        let (lead, rest) = units.split_at(first_node);
        let (nodes, trail) = rest.split_at(last_node.saturating_sub(first_node).min(rest.len()));
        let (mut nodes, mut trail) = (nodes.to_vec(), trail.to_vec());
        let left = self
            .segments
            .iter()
            .rposition(|segment| segment.units.start < at && at <= segment.units.end);
        let is_list = |segment: &Segment| matches!(segment.kind, Kind::Text(_));
        let right = self
            .segments
            .iter()
            .position(|segment| segment.units.start == at && is_list(segment));
        let place = self.place(at, left);
        match left.and_then(|left| self.segments.get(left)) {
            Some(Segment {
                kind: Kind::Text(text),
                units,
                ..
            }) => {
                let (text, offset) = (text.clone(), self.width(units.start..at));
                if !nodes.is_empty() && at < units.end {
                    // The text is divided.
                    let tail = self.cut(&text, at - units.start, offset);
                    trail.extend(tail);
                    nodes.append(&mut trail);
                }
                insert_text(self.transaction, &TextRef::from(xml::branch(&text)), offset, lead);
            }
            Some(Segment { kind: Kind::Bare, .. }) => {
                insert_text(self.transaction, &TextRef::from(self.parent), place, lead);
                let place = place + width(lead);
                return self.write(place, nodes, trail, None);
            }
            Some(_) | None if nodes.is_empty() => trail.splice(0..0, lead.iter().cloned()).for_each(drop),
            Some(_) | None => nodes.splice(0..0, lead.iter().cloned()).for_each(drop),
        }
        self.write(place, nodes, trail, right);
    }

    /// Where in the list of children something goes that is put before the unit `at`.
    fn place(&self, at: usize, left: Option<usize>) -> u32 {
        match left.and_then(|left| self.segments.get(left)) {
            Some(Segment {
                kind: Kind::Bare,
                units,
                place,
            }) => place + self.width(units.start..at),
            Some(segment) => segment.place + 1,
            None => 0,
        }
    }

    /// Takes the end out of a text.
    fn cut(&mut self, text: &XmlTextRef, from: usize, offset: u32) -> Vec<Unit> {
        let mut units = read_text(self.transaction, text);
        let tail = units.split_off(from.min(units.len()));
        let list = TextRef::from(xml::branch(text));
        if width(&tail) > 0 {
            list.remove_range(self.transaction, offset, width(&tail));
        }
        tail
    }

    /// Writes nodes, and characters behind them, into the text on the right if there is one.
    fn write(&mut self, place: u32, mut nodes: Vec<Unit>, trail: Vec<Unit>, right: Option<usize>) {
        match right.and_then(|right| self.segments.get(right)) {
            Some(Segment {
                kind: Kind::Text(text),
                ..
            }) => insert_text(self.transaction, &TextRef::from(xml::branch(text)), 0, &trail),
            Some(_) | None => nodes.extend(trail),
        }
        write_children(self.transaction, self.parent, place, &nodes);
    }
}

fn insert_text(transaction: &mut TransactionMut<'_>, list: &TextRef, at: u32, units: &[Unit]) {
    list.insert(transaction, at, &text_of(units));
}

/// So many children are put in, or taken out, one by one. The library looks for the place of each from the start of the list, so that of more
/// the list is gone through once.
const FEW: usize = 8;

/// Writes units into a list of children.
fn write_children(transaction: &mut TransactionMut<'_>, parent: BranchPtr, place: u32, units: &[Unit]) {
    let groups = units.chunk_by(|left, right| is_text(left) && is_text(right));
    let groups: Vec<&[Unit]> = groups.filter(|group| !matches!(group, [Unit::Other])).collect();
    let element = |node: &Node| XmlElementPrelim::empty(node.name.as_str());
    let text = |group: &[Unit]| XmlTextPrelim::new(text_of(group));
    let children: Vec<Out> = if groups.len() <= FEW {
        let list = XmlFragmentRef::from(parent);
        let put_in = |(place, group): (u32, &&[Unit])| match group {
            [Unit::Node(node)] => Out::YXmlElement(list.insert(transaction, place, element(node))),
            group => Out::YXmlText(list.insert(transaction, place, text(group))),
        };
        (place..).zip(&groups).map(put_in).collect()
    } else {
        let before = (place > 0).then_some(Delta::Retain(place, None));
        let inserted = groups.iter().map(|group| match group {
            [Unit::Node(node)] => Delta::Inserted(In::from(element(node)), None),
            group => Delta::Inserted(In::from(text(group)), None),
        });
        TextRef::from(parent).apply_delta(transaction, before.into_iter().chain(inserted));
        let mut at = 0;
        let is_before = |child: &Out| {
            let is_before = at < place;
            at += match child {
                Out::Any(Any::String(text)) => text.encode_utf16().count() as u32,
                Out::Any(_)
                | Out::YText(_)
                | Out::YArray(_)
                | Out::YMap(_)
                | Out::YXmlElement(_)
                | Out::YXmlFragment(_)
                | Out::YXmlText(_)
                | Out::YDoc(_)
                | Out::UndefinedRef(_) => 1,
            };
            is_before
        };
        xml::children(transaction, parent).skip_while(is_before).collect()
    };
    for (child, group) in children.into_iter().zip(groups) {
        match (child, group) {
            (Out::YXmlElement(element), [Unit::Node(node)]) => write_node(transaction, &element, node),
            (Out::YXmlText(text), group) => format_text(transaction, &text, group),
            _ => debug_assert!(false, "the children are those that were written"),
        }
    }
}

fn write_node(transaction: &mut TransactionMut<'_>, element: &XmlElementRef, node: &Node) {
    for (name, value) in &node.attributes {
        element.insert_attribute(transaction, name.as_str(), any(value));
    }
    if node.name == blocknote::CONTAINER && !node.attributes.contains_key("id") {
        // Its place in the document is its own, so a block that comes without an id has one that no other has.
        if let BranchID::Nested(id) = xml::branch(element).id() {
            element.insert_attribute(transaction, "id", format!("{}-{}", id.client, id.clock));
        }
    }
    if !node.children.is_empty() {
        write_children(transaction, xml::branch(element), 0, &node.children);
    }
}

/// Sets an attribute of a node, or takes it away.
pub(super) fn set_attribute(
    transaction: &mut TransactionMut<'_>,
    element: &XmlElementRef,
    current: &Node,
    name: &str,
    value: Option<Value>,
) {
    match (current.attributes.get(name), value) {
        (Some(current), Some(value)) if is_same(current, &value) => {}
        (_, Some(value)) => drop(element.insert_attribute(transaction, name, any(&value))),
        (Some(_), None) => element.remove_attribute(transaction, &name),
        (None, None) => {}
    }
}

/// Gives the characters in `parent` the marks that they should have. Says whether they are the characters that were planned.
fn format(transaction: &mut TransactionMut<'_>, parent: BranchPtr, target: &[Unit]) -> bool {
    let segments = segments(transaction, parent).unwrap_or_default();
    for segment in &segments {
        if let Kind::Text(text) = &segment.kind {
            let target = target.get(segment.units.clone()).unwrap_or_default();
            format_text(transaction, text, target);
        }
    }
    segments.last().is_some_and(|last| last.units.end == target.len())
}

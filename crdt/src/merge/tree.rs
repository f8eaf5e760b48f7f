//! Saves of rich text, as edits of the nodes that are there: a paragraph that others edit stays that paragraph.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use yrs::TransactionMut;
use yrs::branch::BranchPtr;

use super::alike::{Doubt, as_atoms, pairs};
use super::blocks::is_block;
use super::carry::{Edit, Mapping, carried_over, kept_apart};
use super::diff::hunks_between;
use super::is_same;
use super::live::{Change, apply};
use crate::content::nodes::{Marks, Node, Unit, is_text};
use crate::content::xml;

fn node(units: &[Unit], index: usize) -> Option<&Node> {
    match units.get(index) {
        Some(Unit::Node(node)) => Some(node),
        Some(Unit::Character(..) | Unit::Other) | None => None,
    }
}

/// Merges a save into what is in a root type or an element. `current` is what is in it now.
pub(super) struct Merge<'a, 'doc> {
    pub(super) transaction: &'a mut TransactionMut<'doc>,
    /// Whether what is in the base and not in the save goes.
    pub(super) deletes: bool,
    /// Whether something could not be edited, because it does not take the room that it seems to.
    pub(super) failed: bool,
}

impl Merge<'_, '_> {
    pub(super) fn children(&mut self, parent: BranchPtr, base: &[Unit], current: &[Unit], saved: &[Unit]) {
        // Of what is certain to be gone it is taken that it was rewritten; what would stay is not mixed with what it has nothing to do with.
        let doubt = if self.deletes {
            Doubt::Same
        } else {
            Doubt::Different
        };
        let saved_pairs = pairs(base, saved, doubt);
        let current_pairs = pairs(base, current, Doubt::Different);
        let in_saved: BTreeMap<_, _> = saved_pairs.iter().copied().collect();
        let mapping = Mapping::new(
            hunks_between(&current_pairs, base.len(), current.len()),
            base.len(),
            current.len(),
        );
        let mut changes = Vec::new();
        // What both have still: what the author has changed in it.
        for (index, unit) in base.iter().enumerate() {
            let Some(saved) = in_saved.get(&index).and_then(|index| saved.get(*index)) else {
                continue;
            };
            match (unit, mapping.kept(index), saved) {
                (Unit::Character(_, before), Some(at), Unit::Character(_, after)) if before != after => {
                    changes.push(Change::Mark(at, self.changed_marks(before, after)));
                }
                (Unit::Node(before), Some(at), Unit::Node(after))
                    if before.fingerprint != after.fingerprint =>
                {
                    if let Some(now) = node(current, at) {
                        self.node(before, now, after);
                    }
                }
                (Unit::Node(before), None, Unit::Node(after)) => {
                    // Gone meanwhile: what the author has written into it stays.
                    if let Some(written) = written(before, after, doubt) {
                        changes.push(Change::Insert(mapping.gap(index), vec![Unit::Node(written)]));
                    }
                }
                _ => {}
            }
        }
        let saved_hunks = hunks_between(&saved_pairs, base.len(), saved.len());
        let edits = carried_over(&mapping, &saved_hunks, self.deletes);
        for edit in kept_apart(edits, &mapping, &as_atoms(current), &as_atoms(saved)) {
            match edit {
                Edit::Insert { at, saved: range } => {
                    changes.push(Change::Insert(at, saved.get(range).unwrap_or_default().to_vec()));
                }
                Edit::Delete(range) => {
                    for at in range {
                        if !self.is_written_into(base, &mapping, current, at) {
                            changes.push(Change::Delete(at));
                        }
                    }
                }
            }
        }
        self.failed |= !apply(self.transaction, parent, current, changes);
    }

    /// Whether others have written into a node that the author deleted. What they have not written goes all the same.
    fn is_written_into(&mut self, base: &[Unit], mapping: &Mapping, current: &[Unit], at: usize) -> bool {
        let before = mapping.before(at).and_then(|index| node(base, index));
        let (Some(before), Some(now)) = (before, node(current, at)) else {
            return false;
        };
        if before.fingerprint == now.fingerprint {
            return false;
        }
        let written = put_in(before, now, Doubt::Different);
        if written.is_empty() {
            return false;
        }
        if let Some(live) = &now.live {
            let opening: Vec<_> = opening(before, &written).into_iter().collect();
            self.children(xml::branch(live), &before.children, &now.children, &opening);
        }
        true
    }

    pub(super) fn node(&mut self, base: &Node, current: &Node, saved: &Node) {
        let Some(live) = &current.live else { return };
        for (name, value) in self.changed(&base.attributes, &saved.attributes) {
            super::live::set_attribute(self.transaction, live, current, &name, value);
        }
        let live = xml::branch(live);
        match is_block(current) {
            true => self.block(live, base, current, saved),
            false => self.children(live, &base.children, &current.children, &saved.children),
        }
    }

    /// What the author has set, and what it has taken away.
    fn changed(
        &self,
        base: &BTreeMap<String, Value>,
        saved: &BTreeMap<String, Value>,
    ) -> Vec<(String, Option<Value>)> {
        let is_other = |key: &&String| match (base.get(*key), saved.get(*key)) {
            (Some(base), Some(saved)) => !is_same(base, saved),
            (None, None) => false,
            (None, Some(_)) => true,
            (Some(_), None) => self.deletes,
        };
        let keys: BTreeSet<_> = base.keys().chain(saved.keys()).filter(is_other).collect();
        keys.into_iter()
            .map(|key| (key.clone(), saved.get(key).cloned()))
            .collect()
    }

    fn changed_marks(&self, base: &Marks, saved: &Marks) -> Vec<(String, Option<Value>)> {
        self.changed(base, saved)
    }
}

/// What has been put into a node, in a node like it; `None` when nothing has.
fn written(before: &Node, after: &Node, doubt: Doubt) -> Option<Node> {
    let mut children = put_in(before, after, doubt);
    let opening = opening(after, &children);
    children.splice(0..0, opening).for_each(drop);
    (!children.is_empty()).then(|| Node::new(after.name.as_str(), after.attributes.clone(), children))
}

/// What an author has put into a node that is gone.
pub(super) fn written_into(before: &Node, after: &Node, deletes: bool) -> Option<Node> {
    written(
        before,
        after,
        if deletes { Doubt::Same } else { Doubt::Different },
    )
}

/// The same without what it needs besides.
fn put_in(before: &Node, after: &Node, doubt: Doubt) -> Vec<Unit> {
    let pairs = pairs(&before.children, &after.children, doubt);
    let mut pairs = pairs
        .into_iter()
        .map(|(old, new)| (new, old))
        .collect::<BTreeMap<_, _>>();
    let mut children = Vec::new();
    for (index, unit) in after.children.iter().enumerate() {
        match (
            pairs.remove(&index).and_then(|old| before.children.get(old)),
            unit,
        ) {
            (None, unit) => children.push(unit.clone()),
            (Some(Unit::Node(before)), Unit::Node(after)) if before.fingerprint != after.fingerprint => {
                children.extend(written(before, after, doubt).map(Unit::Node));
            }
            (Some(_), _) => {}
        }
    }
    children
}

/// What has to stay of a node of which only this stays: an item begins with a paragraph, also when what was in that is gone.
fn opening(node: &Node, left: &[Unit]) -> Option<Unit> {
    let (Some(Unit::Node(first)), Some(Unit::Node(left))) = (node.children.first(), left.first()) else {
        return None;
    };
    let is_text = first.name != left.name && first.children.iter().all(is_text);
    is_text.then(|| {
        Unit::Node(Node::new(
            first.name.as_str(),
            first.attributes.clone(),
            Vec::new(),
        ))
    })
}

//! Saves of BlockNote's blocks: a block stays that block, with one content and one group of blocks in it, whatever both sides make of it.

use yrs::branch::BranchPtr;

use super::live::{Change, apply};
use super::tree::{Merge, written_into};
use crate::content::blocknote::{self, CONTAINER, GROUP};
use crate::content::nodes::{self, Node, Unit};
use crate::content::xml;

/// A group without anything in it.
fn nothing() -> Node {
    Node::new(GROUP, Default::default(), Vec::new())
}

impl Merge<'_, '_> {
    /// Merges the group of blocks that a document, or a block, has.
    pub(super) fn group(&mut self, parent: BranchPtr, base: &[Unit], current: &[Unit], saved: &[Unit]) {
        let nothing = nothing();
        let base = blocknote::group(base);
        match (blocknote::group(current), blocknote::group(saved)) {
            (Some(current), saved) if base.is_some() || saved.is_some() => {
                self.node(base.unwrap_or(&nothing), current, saved.unwrap_or(&nothing));
                self.without_empty_group(parent);
            }
            (None, Some(saved)) => {
                // Gone meanwhile: what the author has written into it stays.
                let written = match base {
                    Some(base) => written_into(base, saved, self.deletes),
                    None => Some(saved.clone()),
                };
                if let Some(written) = written {
                    self.put(
                        parent,
                        vec![Change::Insert(usize::MAX, vec![Unit::Node(written)])],
                    );
                }
            }
            (Some(_) | None, _) => {}
        }
    }

    /// Merges a block: its content, which may have become one of another kind, and the blocks in it.
    pub(super) fn block(&mut self, parent: BranchPtr, base: &Node, current: &Node, saved: &Node) {
        let contents = [base, current, saved].map(blocknote::content);
        let [Some(before), Some(now), Some(after)] = contents else {
            return self.children(parent, &base.children, &current.children, &saved.children);
        };
        if before.fingerprint != after.fingerprint {
            if blocknote::is_alike(&now.name, &after.name) {
                self.node(before, now, after);
            }
            if after.name != before.name && now.name == before.name {
                self.become_other(parent, after);
            }
        }
        self.group(parent, &base.children, &current.children, &saved.children);
    }

    /// Makes the content of a block one of another kind, with the text that is in it now.
    fn become_other(&mut self, parent: BranchPtr, after: &Node) {
        let now = nodes::read(self.transaction, parent);
        let is_content = |unit: &Unit| matches!(unit, Unit::Node(node) if node.name != GROUP);
        let Some((at, Unit::Node(content))) = now.iter().enumerate().find(|(_, unit)| is_content(unit))
        else {
            return;
        };
        let other = match blocknote::is_alike(&content.name, &after.name) {
            true => blocknote::with_text(after, &content.children),
            false => after.clone(),
        };
        self.put(
            parent,
            vec![Change::Insert(at, vec![Unit::Node(other)]), Change::Delete(at)],
        );
    }

    /// A group in a block from which both sides have taken all blocks together; a document has one that is empty instead.
    fn without_empty_group(&mut self, parent: BranchPtr) {
        let now = nodes::read(self.transaction, parent);
        let is_empty =
            |unit: &Unit| matches!(unit, Unit::Node(node) if node.name == GROUP && node.children.is_empty());
        let Some((at, Unit::Node(group))) = now.iter().enumerate().find(|(_, unit)| is_empty(unit)) else {
            return;
        };
        match (now.len(), &group.live) {
            (1, Some(live)) => {
                self.put(
                    xml::branch(live),
                    vec![Change::Insert(0, vec![blocknote::empty_block()])],
                );
            }
            _ => self.put(parent, vec![Change::Delete(at)]),
        }
    }

    /// Makes changes of what is in an element now.
    fn put(&mut self, parent: BranchPtr, changes: Vec<Change>) {
        let now = nodes::read(self.transaction, parent);
        let changes = changes.into_iter().map(|change| match change {
            Change::Insert(at, units) => Change::Insert(at.min(now.len()), units),
            change @ (Change::Delete(_) | Change::Mark(..)) => change,
        });
        let changes = changes.collect();
        self.failed |= !apply(self.transaction, parent, &now, changes);
    }
}

/// Whether a node is a block.
pub(super) fn is_block(node: &Node) -> bool {
    node.name == CONTAINER
}

//! Saves of rich text, as edits of the nodes that are there: a paragraph that others edit stays that paragraph.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;
use yrs::TransactionMut;
use yrs::branch::BranchPtr;

use super::diff::{Atom, Edit, Hunk, Mapping, carried_over, difference, hunks_between, is_of_word};
use super::is_same;
use super::live::{Change, apply};
use crate::content::nodes::{Marks, Node, Unit};
use crate::content::xml;

/// Nodes of two versions are the same one when at least so many hundredths of them are.
const SIMILAR: usize = 30;

/// So many pairs of nodes are compared with each other to find those that are similar; where there are more, the nodes that stand in the same
/// order are taken for the same ones.
const MAX_PAIRS: usize = 10_000;

/// The atoms of units: nodes with the same content are the same.
fn as_atoms(units: &[Unit]) -> Vec<Atom> {
    let atom = |(index, unit): (usize, &Unit)| match unit {
        Unit::Character(character, _) => Atom::Character(*character),
        Unit::Node(node) => Atom::Node(node.fingerprint),
        Unit::Other => Atom::Node(index as u64),
    };
    units.iter().enumerate().map(atom).collect()
}

/// Which units of two versions are the same: those with the same content, and between those the nodes that are similar.
fn pairs(old: &[Unit], new: &[Unit]) -> Vec<(usize, usize)> {
    let (mut old_at, mut new_at) = (0, 0);
    let mut pairs = Vec::new();
    let end = [Hunk {
        old: old.len()..old.len(),
        new: new.len()..new.len(),
    }];
    for hunk in difference(&as_atoms(old), &as_atoms(new)).iter().chain(&end) {
        pairs.extend((old_at..hunk.old.start).zip(new_at..hunk.new.start));
        let nodes = |units: &[Unit], range: std::ops::Range<usize>| -> Vec<usize> {
            let is_node = |index: &usize| matches!(units.get(*index), Some(Unit::Node(_)));
            range.filter(is_node).collect()
        };
        let (old_nodes, new_nodes) = (nodes(old, hunk.old.clone()), nodes(new, hunk.new.clone()));
        pairs.extend(similar(old, &old_nodes, new, &new_nodes));
        (old_at, new_at) = (hunk.old.end, hunk.new.end);
    }
    pairs
}

fn node(units: &[Unit], index: usize) -> Option<&Node> {
    match units.get(index) {
        Some(Unit::Node(node)) => Some(node),
        Some(Unit::Character(..) | Unit::Other) | None => None,
    }
}

/// The pairs of similar nodes that are most similar in all, in the order in which they stand.
fn similar(old: &[Unit], old_nodes: &[usize], new: &[Unit], new_nodes: &[usize]) -> Vec<(usize, usize)> {
    let words = |units: &[Unit], nodes: &[usize]| -> Vec<BTreeMap<String, usize>> {
        let found = nodes
            .iter()
            .map(|&index| node(units, index).map(words).unwrap_or_default());
        found.collect()
    };
    if old_nodes.len().saturating_mul(new_nodes.len()) > MAX_PAIRS {
        let same_name = |(old_index, new_index): &(usize, usize)| {
            node(old, *old_index).map(|node| &node.name) == node(new, *new_index).map(|node| &node.name)
        };
        let in_order = old_nodes.iter().copied().zip(new_nodes.iter().copied());
        return in_order.filter(same_name).collect();
    }
    let (old_words, new_words) = (words(old, old_nodes), words(new, new_nodes));
    let width = new_nodes.len() + 1;
    // The best score of what is behind each pair of places.
    let mut best = vec![0_usize; (old_nodes.len() + 1) * width];
    let mut scores = vec![0_usize; best.len()];
    let read =
        |table: &[usize], row: usize, column: usize| table.get(row * width + column).copied().unwrap_or(0);
    for row in (0..old_nodes.len()).rev() {
        for column in (0..new_nodes.len()).rev() {
            let similarity = (|| {
                let old = node(old, *old_nodes.get(row)?)?;
                let new = node(new, *new_nodes.get(column)?)?;
                Some(similarity(old, old_words.get(row)?, new, new_words.get(column)?))
            })();
            let similarity = similarity
                .filter(|similarity| *similarity >= SIMILAR)
                .unwrap_or(0);
            let skipping = read(&best, row + 1, column).max(read(&best, row, column + 1));
            let taking = if similarity > 0 {
                similarity + read(&best, row + 1, column + 1)
            } else {
                0
            };
            if let (Some(best), Some(score)) = (
                best.get_mut(row * width + column),
                scores.get_mut(row * width + column),
            ) {
                (*best, *score) = (skipping.max(taking), similarity);
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut pairs = Vec::new();
    while let (Some(&old), Some(&new)) = (old_nodes.get(row), new_nodes.get(column)) {
        let score = read(&scores, row, column);
        if score > 0 && read(&best, row, column) == score + read(&best, row + 1, column + 1) {
            pairs.push((old, new));
            (row, column) = (row + 1, column + 1);
        } else if read(&best, row, column) == read(&best, row + 1, column) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

/// How often each word is in a node, and each node within it.
fn words(node: &Node) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let text = node.text();
    let words = text.split(|character: char| !is_of_word(character));
    let names = node.children.iter().filter_map(|unit| match unit {
        Unit::Node(child) => Some(format!("<{}>", child.name)),
        Unit::Character(..) | Unit::Other => None,
    });
    for word in words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .chain(names)
    {
        *counts.entry(word).or_insert(0) += 1;
    }
    counts
}

/// How much two nodes have in common, in hundredths.
fn similarity(
    old: &Node,
    old_words: &BTreeMap<String, usize>,
    new: &Node,
    new_words: &BTreeMap<String, usize>,
) -> usize {
    if old.name != new.name {
        return 0;
    }
    if old.children.is_empty() != new.children.is_empty() {
        // What is written into an empty block is written into that one.
        return SIMILAR;
    }
    let total = old_words.values().sum::<usize>() + new_words.values().sum::<usize>();
    let in_both = |(word, count): (&String, &usize)| new_words.get(word).map_or(0, |other| *count.min(other));
    let common = old_words.iter().map(in_both).sum::<usize>();
    // A node without words is told by its attributes.
    let keys: BTreeSet<_> = old.attributes.keys().chain(new.attributes.keys()).collect();
    let same = keys
        .iter()
        .filter(|key| old.attributes.get(**key) == new.attributes.get(**key));
    match (total, keys.len()) {
        (0, 0) => 100,
        (0, keys) => 100 * same.count() / keys,
        (total, _) => 200 * common / total,
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
        let saved_pairs = pairs(base, saved);
        let current_pairs = pairs(base, current);
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
                    if let Some(written) = written(before, after) {
                        changes.push(Change::Insert(mapping.gap(index), vec![Unit::Node(written)]));
                    }
                }
                _ => {}
            }
        }
        let saved_hunks = hunks_between(&saved_pairs, base.len(), saved.len());
        for edit in carried_over(&mapping, &saved_hunks, self.deletes) {
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
        let is_written_into = before.fingerprint != now.fingerprint && written(before, now).is_some();
        if is_written_into && let Some(live) = &now.live {
            self.children(xml::branch(live), &before.children, &now.children, &[]);
        }
        is_written_into
    }

    fn node(&mut self, base: &Node, current: &Node, saved: &Node) {
        let Some(live) = &current.live else { return };
        for (name, value) in self.changed(&base.attributes, &saved.attributes) {
            super::live::set_attribute(self.transaction, live, current, &name, value);
        }
        self.children(
            xml::branch(live),
            &base.children,
            &current.children,
            &saved.children,
        );
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
fn written(before: &Node, after: &Node) -> Option<Node> {
    let pairs = pairs(&before.children, &after.children);
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
                children.extend(written(before, after).map(Unit::Node));
            }
            (Some(_), _) => {}
        }
    }
    (!children.is_empty()).then(|| Node::new(after.name.as_str(), after.attributes.clone(), children))
}

#[cfg(test)]
mod tests {
    use super::{Unit, pairs};
    use crate::content::nodes::Node;

    fn paragraph(text: &str) -> Unit {
        let children = text
            .chars()
            .map(|character| Unit::Character(character, Default::default()));
        Unit::Node(Node::new("paragraph", Default::default(), children.collect()))
    }

    #[test]
    fn a_paragraph_that_has_changed_is_the_same_one() {
        let old = ["one and two", "three and four", "five and six"].map(paragraph);
        let new = ["new", "one and two more", "five and 6", "quite another"].map(paragraph);
        assert_eq!(pairs(&old, &new), [(0, 1), (2, 2)]);
    }
}

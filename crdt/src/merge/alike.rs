//! Which units of two versions of rich text are the same ones: characters by the words that they make up, nodes by what they have in common.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use super::base::words;
use super::diff::{Atom, Hunk, common_ends, difference};
use crate::content::blocknote;
use crate::content::nodes::{Node, Unit};

/// Nodes of two versions are the same one when at least so many hundredths of what is in them are in both.
const SIMILAR: usize = 30;

/// So many letters are in two nodes by coincidence at most. From there on a node of which enough is in a longer one is the same one.
const COINCIDENCE: usize = 8;

/// So many pairs of nodes are compared with each other to find those that are similar; where there are more, the nodes that stand in the same
/// order are taken for the same ones.
const MAX_PAIRS: usize = 10_000;

/// What a letter in common weighs. All that tells nodes with the same words apart is less than one.
const LETTER: usize = 16;

/// What the same id weighs: more than all letters of a large block.
const SAME_BLOCK: usize = 1 << 20;

/// What is taken for the same node where nothing in it says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Doubt {
    /// Nodes with nothing in common are different ones.
    Different,
    /// A node in the place of another one is that one, rewritten: an editor keeps it, and what others write into it at the same time stays.
    Same,
}

/// Which units of two versions are the same, in the order in which they stand.
pub(super) fn pairs(old: &[Unit], new: &[Unit], doubt: Doubt) -> Vec<(usize, usize)> {
    let (old_atoms, new_atoms) = (as_atoms(old), as_atoms(new));
    let is_node = |unit: &Unit| matches!(unit, Unit::Node(_));
    let are_nodes = old.iter().chain(new).all(is_node);
    let (start, end) = common_ends(&old_atoms, &new_atoms);
    let (old_end, new_end) = (old.len() - end, new.len() - end);
    let middle = Hunk {
        old: start..old_end,
        new: start..new_end,
    };
    if are_nodes && middle.old.len().saturating_mul(middle.new.len()) <= MAX_PAIRS {
        // A paragraph without words is no reason for others to be different ones.
        let mut pairs: Vec<_> = (0..start).map(|at| (at, at)).collect();
        pairs.extend(similar((old, middle.old), (new, middle.new), doubt));
        pairs.extend((old_end..old.len()).zip(new_end..new.len()));
        return pairs;
    }
    let (mut old_at, mut new_at) = (0, 0);
    let mut pairs = Vec::new();
    let end = [Hunk {
        old: old.len()..old.len(),
        new: new.len()..new.len(),
    }];
    for hunk in difference(&old_atoms, &new_atoms).iter().chain(&end) {
        pairs.extend((old_at..hunk.old.start).zip(new_at..hunk.new.start));
        pairs.extend(similar((old, hunk.old.clone()), (new, hunk.new.clone()), doubt));
        (old_at, new_at) = (hunk.old.end, hunk.new.end);
    }
    pairs
}

/// The atoms of units: nodes with the same content are the same.
pub(super) fn as_atoms(units: &[Unit]) -> Vec<Atom> {
    let atom = |(index, unit): (usize, &Unit)| match unit {
        Unit::Character(character, _) => Atom::Character(*character),
        Unit::Node(node) => Atom::Node(node.fingerprint),
        Unit::Other => Atom::Node(index as u64),
    };
    units.iter().enumerate().map(atom).collect()
}

/// A node with what tells it from others.
struct Told<'a> {
    index: usize,
    node: &'a Node,
    /// Its words as numbers, sorted, each as often as it is there, with its letters.
    words: Vec<(usize, usize)>,
    letters: usize,
}

/// Nodes of several versions, whose words have the same numbers.
#[derive(Default)]
struct Telling(BTreeMap<String, usize>);

impl Telling {
    fn nodes<'a>(&mut self, units: &'a [Unit], range: Range<usize>) -> Vec<Told<'a>> {
        let found = range.filter_map(|index| match units.get(index) {
            Some(Unit::Node(node)) => Some(self.told(index, node)),
            Some(Unit::Character(..) | Unit::Other) | None => None,
        });
        found.collect()
    }

    fn told<'a>(&mut self, index: usize, node: &'a Node) -> Told<'a> {
        let text = node.text();
        let mut found: Vec<_> = (words(&text).into_iter())
            .map(|word| (self.number(word.to_owned()), word.chars().count()))
            .collect();
        // What is in it besides words says a little, too.
        found.extend(node.children.iter().filter_map(|unit| match unit {
            Unit::Node(child) => Some((self.number(format!("<{}>", child.name)), 1)),
            Unit::Character(..) | Unit::Other => None,
        }));
        found.sort_unstable();
        Told {
            index,
            node,
            letters: found.iter().map(|(_, letters)| letters).sum(),
            words: found,
        }
    }

    fn number(&mut self, word: String) -> usize {
        let next = self.0.len();
        *self.0.entry(word).or_insert(next)
    }
}

impl Told<'_> {
    /// How many letters there are in the words of both.
    fn common(&self, other: &Self) -> usize {
        let mut others = other.words.iter().peekable();
        let of_both = self.words.iter().filter(|word| {
            while others.next_if(|other| other < word).is_some() {}
            others.next_if_eq(word).is_some()
        });
        of_both.map(|(_, letters)| letters).sum()
    }

    /// How much speaks for these being the same node; 0 when they are different ones.
    fn score(&self, other: &Self, doubt: Doubt) -> usize {
        if self.node.name != other.node.name {
            return 0;
        }
        if self.node.name == blocknote::CONTAINER
            && let Some(score) = self.block(other)
        {
            return score;
        }
        if self.node.fingerprint == other.node.fingerprint {
            return LETTER * self.letters + LETTER - 1;
        }
        match (self.node.children.is_empty(), other.node.children.is_empty()) {
            (true, true) => self.attributes(other),
            // What is written into an empty block is written into that one.
            (true, false) | (false, true) => 1,
            (false, false) => {
                let (common, total) = (self.common(other), self.letters + other.letters);
                let shorter = self.letters.min(other.letters);
                match (total, doubt) {
                    (0, _) => self.attributes(other),
                    _ if is_enough(2 * common, total)
                        || common >= COINCIDENCE && is_enough(common, shorter) =>
                    {
                        LETTER * common + 1 + (LETTER - 3) * 2 * common / total
                    }
                    (_, Doubt::Same) => 1,
                    (_, Doubt::Different) => 0,
                }
            }
        }
    }

    /// The same of BlockNote's blocks, as far as their ids and kinds tell.
    fn block(&self, other: &Self) -> Option<usize> {
        let content = |told: &Self| blocknote::content(told.node).map(|content| content.name.clone());
        if let (Some(own), Some(others)) = (content(self), content(other))
            && !blocknote::is_alike(&own, &others)
        {
            return Some(0);
        }
        match (self.node.attributes.get("id"), other.node.attributes.get("id")) {
            (Some(own), Some(others)) if own == others => Some(SAME_BLOCK),
            (Some(_), Some(_)) => Some(0),
            (Some(_), None) | (None, Some(_)) | (None, None) => None,
        }
    }

    /// The same of nodes without words.
    fn attributes(&self, other: &Self) -> usize {
        let (own, others) = (&self.node.attributes, &other.node.attributes);
        let keys: BTreeSet<_> = own.keys().chain(others.keys()).collect();
        let same = keys.iter().filter(|key| own.get(**key) == others.get(**key));
        match (same.count(), keys.len()) {
            (_, 0) => LETTER - 2,
            (same, all) if is_enough(same, all) => 1 + (LETTER - 3) * same / all,
            _ => 0,
        }
    }
}

fn is_enough(part: usize, whole: usize) -> bool {
    100 * part >= SIMILAR * whole
}

/// The pairs of similar nodes that have most in common in all, in the order in which they stand.
fn similar(
    (old, old_range): (&[Unit], Range<usize>),
    (new, new_range): (&[Unit], Range<usize>),
    doubt: Doubt,
) -> Vec<(usize, usize)> {
    let mut telling = Telling::default();
    let (old, new) = (telling.nodes(old, old_range), telling.nodes(new, new_range));
    if old.len().saturating_mul(new.len()) > MAX_PAIRS {
        let in_order = old.iter().zip(&new);
        let same_name = in_order.filter(|(old, new)| old.node.name == new.node.name);
        return same_name.map(|(old, new)| (old.index, new.index)).collect();
    }
    let width = new.len() + 1;
    // The best score of what is behind each pair of places.
    let mut best = vec![0_usize; (old.len() + 1) * width];
    let mut scores = vec![0_usize; best.len()];
    let read =
        |table: &[usize], row: usize, column: usize| table.get(row * width + column).copied().unwrap_or(0);
    for (row, old) in old.iter().enumerate().rev() {
        for (column, new) in new.iter().enumerate().rev() {
            let score = old.score(new, doubt);
            let skipping = read(&best, row + 1, column).max(read(&best, row, column + 1));
            let taking = match score {
                0 => 0,
                score => score + read(&best, row + 1, column + 1),
            };
            if let (Some(best), Some(kept)) = (
                best.get_mut(row * width + column),
                scores.get_mut(row * width + column),
            ) {
                (*best, *kept) = (skipping.max(taking), score);
            }
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut pairs = Vec::new();
    while let (Some(old), Some(new)) = (old.get(row), new.get(column)) {
        let score = read(&scores, row, column);
        if score > 0 && read(&best, row, column) == score + read(&best, row + 1, column + 1) {
            pairs.push((old.index, new.index));
            (row, column) = (row + 1, column + 1);
        } else if read(&best, row, column) == read(&best, row + 1, column) {
            row += 1;
        } else {
            column += 1;
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::{Doubt, pairs};
    use crate::content::nodes::{Node, Unit};

    fn paragraphs<const N: usize>(texts: [&str; N]) -> Vec<Unit> {
        let paragraph = |text: &str| {
            let children = text
                .chars()
                .map(|character| Unit::Character(character, Default::default()));
            Unit::Node(Node::new("paragraph", Default::default(), children.collect()))
        };
        texts.map(paragraph).to_vec()
    }

    #[test]
    fn a_paragraph_that_has_changed_is_the_same_one() {
        let old = paragraphs(["one and two", "three and four", "five and six"]);
        let new = paragraphs(["new", "one and two more", "five and 6", "quite another"]);
        assert_eq!(pairs(&old, &new, Doubt::Different), [(0, 1), (2, 2)]);
    }

    #[test]
    fn what_says_more_counts_more() {
        let is = |old: &[Unit], new: &[Unit], expected: &[(usize, usize)]| {
            assert_eq!(pairs(old, new, Doubt::Different), expected);
        };
        // An empty paragraph is none of the reasons for which a written one is another one.
        is(
            &paragraphs(["", "one two"]),
            &paragraphs(["one two three", "", "new"]),
            &[(1, 0)],
        );
        is(
            &paragraphs(["one two", ""]),
            &paragraphs(["", "one two", "new"]),
            &[(0, 1), (1, 2)],
        );
        // All of it is there, among much else.
        let long = "quite different paragraph of somebody who has written the whole afternoon and evening";
        let with = "quite different paragraph of somebody who has hardly anything written the whole afternoon and evening";
        is(
            &paragraphs(["hardly anything"]),
            &paragraphs([long, with]),
            &[(0, 1)],
        );
        // By the character where there are no spaces between words.
        is(
            &paragraphs(["これは本です", "犬が好き"]),
            &paragraphs(["犬が大好き"]),
            &[(1, 0)],
        );
    }

    #[test]
    fn a_paragraph_that_was_rewritten_is_the_same_one_where_it_is_to_be_in_doubt() {
        let (old, new) = (paragraphs(["one", "two"]), paragraphs(["one", "another"]));
        assert_eq!(pairs(&old, &new, Doubt::Different), [(0, 0)]);
        assert_eq!(pairs(&old, &new, Doubt::Same), [(0, 0), (1, 1)]);
    }
}

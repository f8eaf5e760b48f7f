//! Edits of one copy carried over to another one.

use std::ops::Range;

use super::diff::{Atom, Hunk, is_space};

/// Where each token of an earlier content is in a later one, and where something would go that is put between two of them.
#[derive(Debug)]
pub(super) struct Mapping {
    /// For each token its place, if it is still there.
    kept: Vec<Option<usize>>,
    /// For each token of the later content its place in the earlier one, if it was there.
    before: Vec<Option<usize>>,
    hunks: Vec<Hunk>,
}

impl Mapping {
    pub(super) fn new(hunks: Vec<Hunk>, old_length: usize, new_length: usize) -> Self {
        let mut kept = Vec::with_capacity(old_length);
        let mut at = 0;
        for hunk in &hunks {
            let same = hunk.old.start - kept.len();
            kept.extend((at..at + same).map(Some));
            kept.extend(hunk.old.clone().map(|_| None));
            at = hunk.new.end;
        }
        let rest = old_length - kept.len();
        kept.extend((at..at + rest).map(Some));
        let mut before = vec![None; new_length];
        for (old, new) in kept.iter().enumerate() {
            if let Some(place) = new.and_then(|new| before.get_mut(new)) {
                *place = Some(old);
            }
        }
        Self { kept, before, hunks }
    }

    pub(super) fn before(&self, new: usize) -> Option<usize> {
        self.before.get(new).copied().flatten()
    }

    pub(super) fn kept(&self, old: usize) -> Option<usize> {
        self.kept.get(old).copied().flatten()
    }

    /// Where that goes which stands before the token `old` of the earlier content: behind its left neighbour, or before its right one,
    /// or behind what stands in place of both.
    pub(super) fn gap(&self, old: usize) -> usize {
        let left = old.checked_sub(1);
        match (left, left.and_then(|left| self.kept(left)), self.kept(old)) {
            (_, Some(left), _) => left + 1,
            (None, _, _) => 0,
            (Some(_), None, Some(right)) => right,
            (Some(_), None, None) => {
                let around = self.hunks.partition_point(|hunk| hunk.old.end < old);
                self.hunks
                    .get(around)
                    .map_or(self.before.len(), |hunk| hunk.new.end)
            }
        }
    }
}

/// An edit of the current content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Edit {
    /// These tokens go.
    Delete(Range<usize>),
    /// Before the token `at` come these tokens of the saved content.
    Insert { at: usize, saved: Range<usize> },
}

/// What was changed between the base and the saved content, as edits of the current one, in its order. What somebody else has put in is not
/// touched; what is gone already stays so. Without `deletes` nothing is deleted.
pub(super) fn carried_over(current: &Mapping, saved: &[Hunk], deletes: bool) -> Vec<Edit> {
    let mut edits = Vec::new();
    for hunk in saved {
        if !hunk.new.is_empty() {
            edits.push(Edit::Insert {
                at: current.gap(hunk.old.start),
                saved: hunk.new.clone(),
            });
        }
        let gone = hunk.old.clone().filter_map(|old| current.kept(old));
        for at in gone.take(if deletes { usize::MAX } else { 0 }) {
            match edits.last_mut() {
                Some(Edit::Delete(range)) if range.end == at => range.end += 1,
                _ => edits.push(Edit::Delete(at..at + 1)),
            }
        }
    }
    edits
}

/// The same edits, where words do not run into each other that were parted by a space: what is put in into one beside which that was taken
/// out, or was to be, and what others have put in into one beside which it goes.
pub(super) fn kept_apart(
    mut edits: Vec<Edit>,
    mapping: &Mapping,
    current: &[Atom],
    saved: &[Atom],
) -> Vec<Edit> {
    let gone: Vec<Range<usize>> = (edits.iter())
        .filter_map(|edit| match edit {
            Edit::Delete(range) => Some(range.clone()),
            Edit::Insert { .. } => None,
        })
        .collect();
    // What is left in front of a place, and behind it.
    let before = |mut at: usize| {
        while let Some(range) = gone.get(gone.partition_point(|range| range.end < at))
            && range.start < at
        {
            at = range.start;
        }
        at
    };
    let behind = |mut at: usize| {
        while let Some(range) = gone.get(gone.partition_point(|range| range.end <= at))
            && range.start <= at
        {
            at = range.end;
        }
        at
    };
    let is_word = |atom: Option<&Atom>| atom.is_some_and(|atom| atom.is_of_word());
    let is_space = |atom: &Atom| is_space(std::slice::from_ref(atom));
    let is_space_at = |at: Option<usize>| at.and_then(|at| saved.get(at)).is_some_and(is_space);
    let insertions: Vec<usize> = (edits.iter())
        .filter_map(|edit| match edit {
            Edit::Insert { at, .. } => Some(*at),
            Edit::Delete(_) => None,
        })
        .collect();
    let mut apart = Vec::new();
    edits.retain_mut(|edit| {
        let Edit::Delete(range) = edit else {
            return true;
        };
        let (left, right) = (before(range.start), behind(range.end));
        let is_between = insertions.get(insertions.partition_point(|at| *at < left));
        let is_of_others = |at: usize| is_word(current.get(at)) && mapping.before(at).is_none();
        let meet = left.checked_sub(1).is_some_and(|left| {
            is_word(current.get(left))
                && is_word(current.get(right))
                && (is_of_others(left) || is_of_others(right))
        });
        if !meet || is_between.is_some_and(|at| *at <= right) {
            return true;
        }
        let mut gone = current.get(range.clone()).into_iter().flatten();
        let Some(space) = gone.position(is_space) else {
            return true;
        };
        let rest = range.start + space + 1..range.end;
        range.end = range.start + space;
        apart.extend((!rest.is_empty()).then_some(Edit::Delete(rest)));
        range.start < range.end
    });
    edits.append(&mut apart);
    edits.sort_by_key(|edit| match edit {
        Edit::Insert { at, .. } => (*at, false),
        Edit::Delete(range) => (range.start, true),
    });
    // What was put in last, and what is behind that.
    let mut last: Option<(usize, usize)> = None;
    for edit in &mut edits {
        let Edit::Insert { at, saved: range } = edit else {
            continue;
        };
        let left = match last {
            Some((place, end)) if place == behind(*at) => end.checked_sub(1).and_then(|end| saved.get(end)),
            _ => before(*at).checked_sub(1).and_then(|left| current.get(left)),
        };
        let start = range.start.checked_sub(1);
        if is_word(left) && is_word(saved.get(range.start)) && is_space_at(start) {
            range.start -= 1;
        }
        let right = current.get(behind(*at));
        let end = range.end.checked_sub(1).and_then(|end| saved.get(end));
        if is_word(end) && is_word(right) && is_space_at(Some(range.end)) {
            range.end += 1;
        }
        last = Some((behind(*at), range.end));
    }
    edits
}

#[cfg(test)]
mod tests {
    use super::{Edit, Mapping, carried_over, kept_apart};
    use crate::merge::diff::{Atom, atoms, difference};

    fn text(atoms: &[Atom]) -> String {
        let characters = atoms.iter().map(|atom| match atom {
            Atom::Character(character) => *character,
            Atom::Node(_) => '\u{fffc}',
        });
        characters.collect()
    }

    fn merged(base: &str, current: &str, saved: &str) -> String {
        let (base, current, saved) = (atoms(base), atoms(current), atoms(saved));
        let mapping = Mapping::new(difference(&base, &current), base.len(), current.len());
        let edits = carried_over(&mapping, &difference(&base, &saved), true);
        let edits = kept_apart(edits, &mapping, &current, &saved);
        let mut out = current.clone();
        let mut shift = 0_isize;
        for edit in edits {
            match edit {
                Edit::Delete(range) => {
                    let start = range.start.strict_add_signed(shift);
                    shift -= range.len() as isize;
                    out.drain(start..start + range.len());
                }
                Edit::Insert { at, saved: range } => {
                    let at = at.strict_add_signed(shift);
                    shift += range.len() as isize;
                    out.splice(at..at, saved[range].iter().copied());
                }
            }
        }
        text(&out)
    }

    #[test]
    fn both_sides_are_in_the_outcome() {
        for (base, current, saved, outcome) in [
            ("a c", "a b c", "a c d", "a b c d"),
            ("a b c", "a c", "a b c d", "a c d"),
            ("one two three", "one three", "one 2 three", "one 2 three"),
            ("one two", "two", "uno dos two", "uno dos two"),
            ("one two", "one new two", "one", "one new "),
            ("one two", "one two", "onetwo", "onetwo"),
            ("color", "colour", "colors", "colours"),
            ("keep gone keep", "keep goXne keep", "keep keep", "keep X keep"),
            ("x", "", "x y", " y"),
            ("a", "", "banana", "banana"),
            ("", "theirs", "ours", "ourstheirs"),
            // The spaces behind the words that go are no others between those that stay.
            (
                "h ixiy jxjy k l",
                "h  jxjy k l",
                "h+ i+xiy j+xjy  ",
                "h+ + j+xjy  ",
            ),
        ] {
            assert_eq!(
                merged(base, current, saved),
                outcome,
                "{base} → {current} | {saved}"
            );
        }
    }
}

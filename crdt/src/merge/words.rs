//! Changes of words as changes of characters: where a word has changed and where another one stands in its place.

use std::ops::Range;

use super::carry::Mapping;
use super::diff::{Atom, Hunk, common_ends, hunks, hunks_between, words};

/// The place of something in an earlier content, and in a later one.
type Pair = (usize, usize);

/// So many letters in a row are a part of a word, also far from its other parts.
const MIN_PART: usize = 3;

/// Up to so many characters a change of words is looked at character by character.
const MAX_REFINED: usize = 1000;

/// A change of words as changes of characters.
pub(super) fn refined(old: &[Atom], new: &[Atom], hunk: Hunk) -> Vec<Hunk> {
    if !hunk.is_replacement() {
        return vec![hunk];
    }
    // At the ends of the content there is no neighbour that has stayed.
    let begins = (hunk.old.start > 0).then_some((0, 0));
    let is_last = hunk.old.end == old.len();
    let old = old.get(hunk.old.clone()).unwrap_or_default();
    let new = new.get(hunk.new.clone()).unwrap_or_default();
    let ends = (!is_last).then_some((old.len(), new.len()));
    let (start, end) = common_ends(old, new);
    let middle = Hunk {
        old: start..old.len() - end,
        new: start..new.len() - end,
    };
    let found = match (middle.is_replacement(), old.len() + new.len() <= MAX_REFINED) {
        (_, false) => vec![slid_to_word(middle, old, new)],
        (true, true) => without_coincidences(old, hunks(old, new), new, (begins, ends)),
        (false, true) => {
            let slid = vec![slid_to_word(middle, old, new)];
            without_coincidences(old, slid, new, (begins, ends))
        }
    };
    let moved = found
        .into_iter()
        .map(|found| found.moved(hunk.old.start, hunk.new.start));
    moved.collect()
}

/// The same insertion or deletion as far to the left as it takes for it to stand between words: letters that what comes and what stays begin
/// with in common are not taken from one for the other.
fn slid_to_word(hunk: Hunk, old: &[Atom], new: &[Atom]) -> Hunk {
    let (side, range, other, at) = match (hunk.old.is_empty(), hunk.new.is_empty()) {
        (true, false) => (new, &hunk.new, old, hunk.old.start),
        (false, true) => (old, &hunk.old, new, hunk.new.start),
        (true, true) | (false, false) => return hunk,
    };
    let is_of_word = |at: usize| other.get(at).is_some_and(|atom| atom.is_of_word());
    let is_within_word = |at: usize| at > 0 && is_of_word(at - 1) && is_of_word(at);
    let most = hunk.old.start.min(hunk.new.start);
    let by = (0..=most)
        .take_while(|by| *by == 0 || side.get(range.start - by) == side.get(range.end - by))
        .find(|by| !is_within_word(at - by));
    let by = by.unwrap_or(0);
    Hunk {
        old: hunk.old.start - by..hunk.old.end - by,
        new: hunk.new.start - by..hunk.new.end - by,
    }
}

/// The same difference without the letters that other words happen to have too, and without what is between such words: a word of which
/// less than three quarters are left is another one, and so is one whose letters are scattered, or are the lesser part of other words.
fn without_coincidences(
    old: &[Atom],
    hunks: Vec<Hunk>,
    new: &[Atom],
    (begins, ends): (Option<Pair>, Option<Pair>),
) -> Vec<Hunk> {
    if hunks.iter().all(|hunk| hunk.new.is_empty()) {
        return hunks;
    }
    let mapping = Mapping::new(hunks, old.len(), new.len());
    let mut pairs: Vec<Pair> = Vec::new();
    // What is between words stays only beside one that is left.
    let (mut between, mut beside) = (Vec::new(), begins);
    let mut start = 0;
    for word in words(old) {
        let range = start..start + word.len();
        start = range.end;
        let kept = range.filter_map(|old| Some((old, mapping.kept(old)?)));
        if !word.iter().all(|atom| atom.is_of_word()) {
            between.extend(kept);
            continue;
        }
        let kept: Vec<_> = kept.collect();
        let stays = 4 * kept.len() >= 3 * word.len()
            && !are_scattered(&kept, new)
            && 2 * kept.len() >= letters_around(&kept, new);
        let kept = if stays { kept } else { Vec::new() };
        pairs.extend(beside_words(std::mem::take(&mut between), beside, kept.first()));
        beside = kept.last().map(|(old, new)| (old + 1, new + 1));
        pairs.extend(kept);
    }
    pairs.extend(beside_words(between, beside, ends.as_ref()));
    hunks_between(&pairs, old.len(), new.len())
}

/// Of what is between two words that which is next to the left one in both contents, where it ends, or to the right one.
fn beside_words(between: Vec<Pair>, mut left: Option<Pair>, right: Option<&Pair>) -> Vec<Pair> {
    let of_left = between.iter().take_while(|pair| {
        let is_next = left == Some(**pair);
        left = Some((pair.0 + 1, pair.1 + 1));
        is_next
    });
    let of_left = of_left.count();
    let mut right = right.copied();
    let of_right = between.iter().rev().take_while(|(old, new)| {
        let is_next = right == Some((old + 1, new + 1));
        right = Some((*old, *new));
        is_next
    });
    let from = between.len() - of_right.count();
    let kept = between.into_iter().enumerate();
    let kept = kept.filter(|(at, _)| *at < of_left || *at >= from);
    kept.map(|(_, pair)| pair).collect()
}

/// How many letters there are in the words in which letters of a word are found.
fn letters_around(kept: &[Pair], new: &[Atom]) -> usize {
    let is_kept = |range: &Range<usize>| {
        let next = kept.partition_point(|(_, at)| *at < range.start);
        kept.get(next).is_some_and(|(_, at)| range.contains(at))
    };
    let mut end = 0;
    let ranges = words(new).into_iter().map(|word| {
        end += word.len();
        end - word.len()..end
    });
    ranges.filter(is_kept).map(|range| range.len()).sum()
}

/// Whether letters of a word are found here and there: in several words that are not close together, and not as parts of the word either
/// between which somebody has written.
fn are_scattered(kept: &[Pair], new: &[Atom]) -> bool {
    let (Some((_, first)), Some((_, last))) = (kept.first(), kept.last()) else {
        return false;
    };
    let span = new.get(*first..=*last).unwrap_or_default();
    let is_space = |atom: &Atom| matches!(atom, Atom::Character(character) if character.is_whitespace());
    let mut parts = kept.chunk_by(|before, after| (before.0 + 1, before.1 + 1) == *after);
    2 * span.len() > 3 * kept.len() && span.iter().any(is_space) && parts.any(|part| part.len() < MIN_PART)
}

//! Differences between two sequences, by words and then by characters.

use std::hash::Hash;
use std::ops::Range;

use imara_diff::{Algorithm, Diff, InternedInput, Interner};

use super::carry::Mapping;
use super::rising::longest_rising;
use super::same_ends::common_words;
use super::words::refined;

/// A place where two sequences differ: `new` stands where `old` stood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hunk {
    pub(super) old: Range<usize>,
    pub(super) new: Range<usize>,
}

impl Hunk {
    pub(super) fn is_replacement(&self) -> bool {
        !self.old.is_empty() && !self.new.is_empty()
    }

    /// One hunk from here to the end of `later`.
    fn up_to(&self, later: &Self) -> Self {
        Self {
            old: self.old.start..later.old.end,
            new: self.new.start..later.new.end,
        }
    }

    pub(super) fn moved(self, old: usize, new: usize) -> Self {
        Self {
            old: self.old.start + old..self.old.end + old,
            new: self.new.start + new..self.new.end + new,
        }
    }
}

/// One unit of a content: a character, or something that stands in its place. Nodes that count as the same have the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Atom {
    Character(char),
    Node(u64),
}

impl Atom {
    pub(super) fn is_of_word(self) -> bool {
        match self {
            Self::Character(character) => is_of_word(character),
            Self::Node(_) => false,
        }
    }
}

/// Characters that make up words. Scripts that put no spaces between words are compared by the character.
pub(super) fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() && !is_without_spaces(character) || character == '_'
}

fn is_without_spaces(character: char) -> bool {
    matches!(character, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{2e80}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

pub(super) fn atoms(text: &str) -> Vec<Atom> {
    text.chars().map(Atom::Character).collect()
}

/// Up to so many tokens the smallest difference is looked for, as long as there is work left for it; that grows with their square.
const MAX_MINIMAL: usize = 4000;

/// Up to so many it is looked for in any case.
const ALWAYS_MINIMAL: usize = 256;

/// Pairs of tokens that are compared in the search for smallest differences.
const MAX_WORK: usize = 50_000_000;

/// So many tokens in a row that stand once in either sequence are the same ones. Longer rows are looked for where there are no shorter ones.
const ROWS: [usize; 3] = [1, 4, 16];

/// How often such rows are looked for between others.
const MAX_LEVELS: usize = 6;

/// Most hunks that a difference is made of. Whatever differs in more places is taken for one longer change around the shortest common
/// parts, because each hunk is an edit of the document.
const MAX_HUNKS: usize = 1000;

/// Where two sequences of tokens differ.
pub(super) fn hunks<T: Eq + Hash + Copy>(old: &[T], new: &[T]) -> Vec<Hunk> {
    hunks_between_anchors(old, new, [])
}

/// The same between pairs that are known to be the same.
fn hunks_between_anchors<T: Eq + Hash + Copy>(
    old: &[T],
    new: &[T],
    anchors: impl IntoIterator<Item = (usize, usize)>,
) -> Vec<Hunk> {
    let mut interner = Interner::new(old.len() + new.len());
    let mut interned =
        |tokens: &[T]| -> Vec<u32> { tokens.iter().map(|token| interner.intern(*token).0).collect() };
    let (old, new) = (interned(old), interned(new));
    let mut search = Search {
        work: MAX_WORK,
        found: Vec::new(),
    };
    let (mut old_from, mut new_from) = (0, 0);
    for (old_to, new_to) in anchors.into_iter().chain([(old.len(), new.len())]) {
        search.between(
            old.get(old_from..old_to).unwrap_or_default(),
            new.get(new_from..new_to).unwrap_or_default(),
            (old_from, new_from),
            MAX_LEVELS,
        );
        (old_from, new_from) = (old_to + 1, new_to + 1);
    }
    coarsened(search.found, MAX_HUNKS)
}

/// A search for differences, whose work is bounded: by what stands once in either sequence, and in between for the smallest ones.
struct Search {
    work: usize,
    found: Vec<Hunk>,
}

impl Search {
    /// Looks for the differences of two parts, which begin at `at`.
    fn between(&mut self, old: &[u32], new: &[u32], at: (usize, usize), levels: usize) {
        let (start, end) = common_ends(old, new);
        let old = old.get(start..old.len() - end).unwrap_or_default();
        let new = new.get(start..new.len() - end).unwrap_or_default();
        let (old_at, new_at) = (at.0 + start, at.1 + start);
        let size = old.len() + new.len();
        let work = old.len().saturating_mul(new.len());
        crate::work::steps(size);
        let is_affordable = size <= ALWAYS_MINIMAL || size <= MAX_MINIMAL && work <= self.work;
        if old.is_empty() || new.is_empty() {
            if size > 0 {
                self.push(0..old.len(), 0..new.len(), (old_at, new_at));
            }
        } else if is_affordable {
            self.work = self.work.saturating_sub(work);
            crate::work::steps(work);
            let mut input = InternedInput {
                before: Vec::new(),
                after: Vec::new(),
                interner: Interner::new(size),
            };
            input.update_before(old.iter().copied());
            input.update_after(new.iter().copied());
            for hunk in Diff::compute(Algorithm::MyersMinimal, &input).hunks() {
                let range = |range: Range<u32>| range.start as usize..range.end as usize;
                self.push(range(hunk.before), range(hunk.after), (old_at, new_at));
            }
        } else {
            let same = if levels > 0 { in_both(old, new) } else { Vec::new() };
            if same.is_empty() {
                return self.push(0..old.len(), 0..new.len(), (old_at, new_at));
            }
            let (mut old_from, mut new_from) = (0, 0);
            for (old_to, new_to) in same.into_iter().chain([(old.len(), new.len())]) {
                let part = |tokens, from, to| <[u32]>::get(tokens, from..to).unwrap_or_default();
                self.between(
                    part(old, old_from, old_to),
                    part(new, new_from, new_to),
                    (old_at + old_from, new_at + new_from),
                    levels - 1,
                );
                (old_from, new_from) = (old_to, new_to);
            }
        }
    }

    fn push(&mut self, old: Range<usize>, new: Range<usize>, at: (usize, usize)) {
        self.found.push(Hunk { old, new }.moved(at.0, at.1));
    }
}

/// The places of rows of tokens that stand once in either sequence, as many as are in the same order.
fn in_both(old: &[u32], new: &[u32]) -> Vec<(usize, usize)> {
    for row in ROWS {
        let rows = |tokens| <[u32]>::windows(tokens, row).enumerate();
        let of_old = rows(old).map(|(at, tokens)| (tokens, false, at));
        let of_new = rows(new).map(|(at, tokens)| (tokens, true, at));
        let mut all: Vec<_> = of_old.chain(of_new).collect();
        all.sort_unstable();
        let mut once: Vec<(usize, usize)> = (all.chunk_by(|one, other| one.0 == other.0))
            .filter_map(|same| match same {
                [(_, false, old), (_, true, new)] => Some((*old, *new)),
                _ => None,
            })
            .collect();
        once.sort_unstable();
        let in_new: Vec<_> = once.iter().map(|(_, new)| *new).collect();
        let rising = longest_rising(&in_new);
        let mut rising = rising.into_iter().peekable();
        once.retain(|(_, new)| rising.next_if_eq(new).is_some());
        if !once.is_empty() {
            return once;
        }
    }
    Vec::new()
}

/// How many tokens are the same at the start and, behind those, at the end.
pub(super) fn common_ends<T: Eq>(old: &[T], new: &[T]) -> (usize, usize) {
    let start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    let rest = old.len().min(new.len()) - start;
    let end = (old.iter().rev().zip(new.iter().rev()).take(rest))
        .take_while(|(old, new)| old == new)
        .count();
    (start, end)
}

/// Joins hunks around the shortest common parts until there are at most `most`.
fn coarsened(mut hunks: Vec<Hunk>, most: usize) -> Vec<Hunk> {
    let mut shortest = 1;
    while hunks.len() > most {
        hunks = joined(hunks, |before, after| {
            after.old.start - before.old.end <= shortest
        });
        shortest *= 2;
    }
    hunks
}

/// Joins neighbours of which `is_one` says that they are one change.
fn joined(hunks: Vec<Hunk>, is_one: impl Fn(&Hunk, &Hunk) -> bool) -> Vec<Hunk> {
    let mut done: Vec<Hunk> = Vec::with_capacity(hunks.len());
    for hunk in hunks {
        match done.last_mut() {
            Some(before) if is_one(before, &hunk) => *before = before.up_to(&hunk),
            _ => done.push(hunk),
        }
    }
    done
}

/// Where two contents differ. Words that have nothing to do with each other are replaced whole, so that an insertion stays in one piece.
pub(super) fn difference<'a>(old: &'a [Atom], new: &'a [Atom]) -> Vec<Hunk> {
    let (start, end) = common_words(old, new);
    let within = |atoms: &'a [Atom]| atoms.get(start..atoms.len() - end).unwrap_or_default();
    let by_atom = by_word(within(old), within(new)).into_iter();
    let by_atom: Vec<_> = by_atom.map(|hunk| hunk.moved(start, start)).collect();
    let by_atom = joined(slid_together(by_atom, old, new), |before, after| {
        let is_whole = |hunk: &Hunk| hunk.old.is_empty() || hunk.new.is_empty();
        // Spaces stay beside words that stay; with none in front of them or behind, they are what happens to be the same.
        let is_turned = before.old.is_empty() == after.new.is_empty() && {
            let common = old.get(before.old.end..after.old.start).unwrap_or_default();
            is_space(common)
        };
        (!(is_whole(before) && is_whole(after)) || is_turned) && is_between(before, after, old)
    });
    let refined = up_to_the_ends(by_atom, old, new)
        .into_iter()
        .flat_map(|hunk| refined(old, new, hunk));
    coarsened(refined.collect(), MAX_HUNKS)
}

/// Where words differ, and what is between them.
pub(super) fn by_word(old: &[Atom], new: &[Atom]) -> Vec<Hunk> {
    let (old_words, new_words) = (words(old), words(new));
    // What is between words waits for them: a word outweighs any number of spaces that would be the same without it, and so does a comma.
    let by_said = anchors(&old_words, &new_words, &[], is_said);
    let anchors = anchors(&old_words, &new_words, &by_said, |token| !is_space(token));
    let by_word = hunks_between_anchors(&old_words, &new_words, anchors);
    let (old_starts, new_starts) = (starts(&old_words), starts(&new_words));
    let at = |starts: &[usize], word: usize| starts.get(word).copied().unwrap_or_default();
    let by_atom = by_word.into_iter().map(|hunk| Hunk {
        old: at(&old_starts, hunk.old.start)..at(&old_starts, hunk.old.end),
        new: at(&new_starts, hunk.new.start)..at(&new_starts, hunk.new.end),
    });
    by_atom.collect()
}

/// Whether there is only a space or a comma between two changes. That changed words have it in common does not make two changes of one: which
/// of several is the common one may be a coincidence, too.
fn is_between(before: &Hunk, after: &Hunk, old: &[Atom]) -> bool {
    let common = old.get(before.old.end..after.old.start).unwrap_or_default();
    let is_between = |atom: &Atom| matches!(atom, Atom::Character(_)) && !atom.is_of_word();
    before.up_to(after).is_replacement() && common.len() <= 2 && common.iter().all(is_between)
}

/// The same changes, with two insertions as one where the space or comma between them is as well the one in front of both or behind both, and
/// two deletions likewise. Where it is not, it has stayed: it is not put in once more by each who changes what is around it.
fn slid_together(hunks: Vec<Hunk>, old: &[Atom], new: &[Atom]) -> Vec<Hunk> {
    let mut done: Vec<Hunk> = Vec::with_capacity(hunks.len());
    for hunk in hunks {
        let together = done.last().and_then(|before| {
            let common = before.old.end..hunk.old.start;
            if !is_between(before, &hunk, old) {
                return None;
            }
            let (atoms, first, second) = if before.old.is_empty() && hunk.old.is_empty() {
                (new, &before.new, &hunk.new)
            } else if before.new.is_empty() && hunk.new.is_empty() {
                (old, &before.old, &hunk.old)
            } else {
                return None;
            };
            let (all, length) = (before.up_to(&hunk), common.len());
            let common = old.get(common)?;
            if atoms.get(second.clone())?.ends_with(common) {
                return Some(Hunk {
                    old: all.old.start..all.old.end - length,
                    new: all.new.start..all.new.end - length,
                });
            }
            atoms.get(first.clone())?.starts_with(common).then(|| Hunk {
                old: all.old.start + length..all.old.end,
                new: all.new.start + length..all.new.end,
            })
        });
        match (together, done.last_mut()) {
            (Some(together), Some(before)) => *before = together,
            (Some(_), None) | (None, _) => done.push(hunk),
        }
    }
    done
}

/// The same changes, with the spaces between the last word that has changed and the end, and between the beginning and the first one: else a
/// word that is put beside one that stays would run into it.
fn up_to_the_ends(mut hunks: Vec<Hunk>, old: &[Atom], new: &[Atom]) -> Vec<Hunk> {
    let is_space = |atom: &Atom| is_space(std::slice::from_ref(atom));
    let is_between = |range: Option<&[Atom]>| range.is_some_and(|range| range.iter().all(is_space));
    if let Some(last) = hunks.last_mut()
        && last.is_replacement()
        && is_between(old.get(last.old.end..))
    {
        (last.old.end, last.new.end) = (old.len(), new.len());
    }
    if let Some(first) = hunks.first_mut()
        && first.is_replacement()
        && is_between(old.get(..first.old.start))
    {
        (first.old.start, first.new.start) = (0, 0);
    }
    hunks
}

/// The words of a content, and what is between them one by one.
pub(super) fn words(atoms: &[Atom]) -> Vec<&[Atom]> {
    atoms
        .chunk_by(|left, right| left.is_of_word() && right.is_of_word())
        .collect()
}

/// The pairs of such tokens that are the same, between pairs that are known to be.
fn anchors(
    old: &[&[Atom]],
    new: &[&[Atom]],
    known: &[(usize, usize)],
    is_such: impl Fn(&[Atom]) -> bool,
) -> Vec<(usize, usize)> {
    let such = |tokens: &[&[Atom]]| -> Vec<usize> {
        let such = tokens.iter().enumerate().filter(|(_, token)| is_such(token));
        such.map(|(at, _)| at).collect()
    };
    let (old_such, new_such) = (such(old), such(new));
    let place = |such: &[usize], at: &usize| such.binary_search(at).ok();
    let known = known
        .iter()
        .filter_map(|(old, new)| Some((place(&old_such, old)?, place(&new_such, new)?)));
    let hunks = hunks_between_anchors(&at(old, &old_such), &at(new, &new_such), known);
    let kept = Mapping::new(hunks, old_such.len(), new_such.len());
    let pairs = old_such.iter().enumerate().filter_map(|(number, old)| {
        let new = new_such.get(kept.kept(number)?)?;
        Some((*old, *new))
    });
    pairs.collect()
}

fn at<'a>(tokens: &[&'a [Atom]], places: &[usize]) -> Vec<&'a [Atom]> {
    places.iter().filter_map(|at| tokens.get(*at).copied()).collect()
}

/// Whether a token is more than what is between words.
pub(super) fn is_said(token: &[Atom]) -> bool {
    match token.first() {
        Some(Atom::Character(character)) => character.is_alphanumeric() || *character == '_',
        Some(Atom::Node(_)) => true,
        None => false,
    }
}

pub(super) fn is_space(token: &[Atom]) -> bool {
    matches!(token.first(), Some(Atom::Character(character)) if character.is_whitespace())
}

fn starts(words: &[&[Atom]]) -> Vec<usize> {
    let mut at = 0;
    let mut starts = vec![0];
    starts.extend(words.iter().map(|word| {
        at += word.len();
        at
    }));
    starts
}

/// The difference in which only these pairs are the same.
pub(super) fn hunks_between(pairs: &[(usize, usize)], old_length: usize, new_length: usize) -> Vec<Hunk> {
    let (mut old_at, mut new_at) = (0, 0);
    let mut hunks = Vec::new();
    for &(old, new) in pairs.iter().chain([&(old_length, new_length)]) {
        if old_at < old || new_at < new {
            hunks.push(Hunk {
                old: old_at..old,
                new: new_at..new,
            });
        }
        (old_at, new_at) = (old + 1, new + 1);
    }
    hunks
}

#[cfg(test)]
mod tests {
    use super::{Atom, atoms, difference};

    fn text(atoms: &[Atom]) -> String {
        let characters = atoms.iter().map(|atom| match atom {
            Atom::Character(character) => *character,
            Atom::Node(_) => '\u{fffc}',
        });
        characters.collect()
    }

    fn changes(old: &str, new: &str) -> Vec<(String, String)> {
        let (old, new) = (atoms(old), atoms(new));
        let hunks = difference(&old, &new);
        let shown = hunks
            .into_iter()
            .map(|hunk| (text(&old[hunk.old]), text(&new[hunk.new])));
        shown.collect()
    }

    #[test]
    fn words_are_compared_whole_and_their_ends_by_the_character() {
        for (old, new, expected) in [
            ("", "", &[][..]),
            ("the cat sat", "the car cat sat", &[("", "car ")]),
            ("colour", "colours", &[("", "s")]),
            ("a cat", "a tactic", &[("cat", "tactic")]),
            (
                "one two three",
                "uno dos tres",
                &[("one two three", "uno dos tres")],
            ),
            // Letters of a word here and there are not that word.
            (
                "lgabimcd fanigdhe",
                "gnmhfing fldbcfoh\nqjjkiafo qkldldbj ililefkl bkjbdjcn",
                &[(
                    "lgabimcd fanigdhe",
                    "gnmhfing fldbcfoh\nqjjkiafo qkldldbj ililefkl bkjbdjcn",
                )],
            ),
            // And so does what is between words and is no space.
            (
                "a one two + b",
                "a + uno dos b",
                &[("one two ", ""), ("", "uno dos ")],
            ),
            // A word outweighs the spaces that would be the same without it.
            (
                "a one two three four word b",
                "a word uno dos tres quattro b",
                &[("one two three four ", ""), ("", "uno dos tres quattro ")],
            ),
            // What is put in on both sides of something stays apart from it, unless it is one insertion in front of it.
            ("% } %", "% one } two %", &[("", "one "), ("", "two ")]),
            ("a, b", "a, one, two, b", &[("", "one, two, ")]),
            // A word that is the lesser part of another one is not that word.
            ("one a two", "one banana two", &[("a", "banana")]),
            ("aaa1 b", "paragraph1ada b", &[("aaa1", "paragraph1ada")]),
            // What comes begins with the same letter as what it comes before.
            ("a island", "a is inisland", &[("", "is in")]),
            ("hello", "he[A]llo", &[("", "[A]")]),
            ("helloworld", "he[A]llowo[B]rld", &[("", "[A]"), ("", "[B]")]),
            ("これは本です", "これは古い本です", &[("", "古い")]),
        ] {
            let found = changes(old, new);
            let found: Vec<_> = (found.iter())
                .map(|(old, new)| (old.as_str(), new.as_str()))
                .collect();
            assert_eq!(found, expected, "{old} → {new}");
        }
    }

    #[test]
    fn what_has_nothing_in_common_is_few_changes() {
        let words = |seed: u64| {
            let mut state = seed;
            let mut out = String::new();
            while out.len() < 400_000 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                out.push_str(
                    ["the ", "of ", "and ", "house ", "\n", "water ", "is "][(state >> 33) as usize % 7],
                );
                out.push_str(&format!("{:x} ", state >> 44));
            }
            out
        };
        let (old, new) = (atoms(&words(1)), atoms(&words(2)));
        let hunks = difference(&old, &new);
        assert!(hunks.len() <= super::MAX_HUNKS, "{}", hunks.len());
    }

    /// Two long contents of one shape that differ in many places.
    fn long(shape: &str) -> (String, String) {
        let (mut old, mut new) = (String::new(), String::new());
        let mut state = 1_u64;
        for index in 0..30_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (one, other) = ((state >> 34) as usize, (state >> 44) as usize);
            let few = ["a ", "b ", "c ", "d "];
            let (in_old, in_new) = match shape {
                "one word" => ("word ".to_owned(), "ward ".to_owned()),
                "two words in turn" => (few[index % 2].to_owned(), few[(index + 1) % 2].to_owned()),
                "few words" => (few[one % 4].to_owned(), few[other % 4].to_owned()),
                "every second word" if index % 2 == 0 => (format!("{state:x} "), "x ".to_owned()),
                "every second word" => (format!("{state:x} "), format!("{state:x} ")),
                "one long word" => (few[one % 2][..1].to_owned(), few[other % 2][..1].to_owned()),
                _ => (format!("{one:x} "), format!("{other:x} ")),
            };
            old.push_str(&in_old);
            new.push_str(&in_new);
        }
        (old, new)
    }

    #[test]
    fn long_contents_are_compared_within_bounded_work() {
        for shape in [
            "one word",
            "two words in turn",
            "few words",
            "every second word",
            "one long word",
            "other words",
        ] {
            let (old, new) = long(shape);
            let (old, new) = (atoms(&old), atoms(&new));
            let (hunks, steps) = crate::testing::steps_of(|| difference(&old, &new));
            assert!(hunks.len() <= super::MAX_HUNKS, "{shape}: {}", hunks.len());
            let most = super::MAX_WORK + 600 * (old.len() + new.len());
            assert!(steps <= most as u64, "{shape}: {steps} steps for {}", old.len());
            // What is not in a hunk is the same.
            let (mut old_at, mut new_at) = (0, 0);
            for hunk in &hunks {
                assert_eq!(
                    old[old_at..hunk.old.start],
                    new[new_at..hunk.new.start],
                    "{shape}"
                );
                (old_at, new_at) = (hunk.old.end, hunk.new.end);
            }
            assert_eq!(old[old_at..], new[new_at..], "{shape}");
        }
    }

    #[test]
    fn words_that_stay_among_many_others_are_the_same_ones() {
        let words = |changed: &str| -> String {
            let word = |index: usize| match index % 40 {
                0 => format!("{changed} "),
                _ => format!("w{index} "),
            };
            (0..20_000).map(word).collect()
        };
        let (old, new) = (atoms(&words("old")), atoms(&words("new")));
        let hunks = difference(&old, &new);
        assert_eq!(hunks.len(), 500);
        let changed = |hunk: &super::Hunk| {
            text(&old[hunk.old.clone()]) == "old" && text(&new[hunk.new.clone()]) == "new"
        };
        assert!(hunks.iter().all(changed));
    }
}

//! What two contents begin and end with in common, as far as it cannot matter for where they differ in between.

use super::diff::{Atom, is_said};

/// How much at the start and at the end the comparison of words takes for the same in any case: it is left out of it, because a large content
/// mostly differs in few places. What is at the end begins with a word, between which and others nothing slides.
pub(super) fn common_words(old: &[Atom], new: &[Atom]) -> (usize, usize) {
    let is_within_word = |atoms: &[Atom], at: usize| {
        let is_of_word = |at: usize| atoms.get(at).is_some_and(|atom| atom.is_of_word());
        at > 0 && is_of_word(at - 1) && is_of_word(at)
    };
    let mut start = old.iter().zip(new).take_while(|(old, new)| old == new).count();
    while is_within_word(old, start) || is_within_word(new, start) {
        start -= 1;
    }
    // Words go on to be the same from the start on, whatever is between them, and are so before those at the end are.
    let (mut old_same, mut new_same) = (start, start);
    let behind = said_words(old, start).zip(said_words(new, start));
    for ((old_end, old_word), (new_end, new_word)) in behind {
        if old_word != new_word {
            break;
        }
        (old_same, new_same) = (old_end, new_end);
    }
    let ends = old.iter().rev().zip(new.iter().rev());
    let ends = ends.take((old.len() - old_same).min(new.len() - new_same));
    let mut end = ends.take_while(|(old, new)| old == new).count();
    while end > 0 {
        let (old_at, new_at) = (old.len() - end, new.len() - end);
        let is_whole = !is_within_word(old, old_at) && !is_within_word(new, new_at);
        if is_whole && old.get(old_at..).is_some_and(is_said) {
            break;
        }
        end -= 1;
    }
    (start, end)
}

/// The words of a content from `at` on without what is between them, each with where it ends.
fn said_words(atoms: &[Atom], mut at: usize) -> impl Iterator<Item = (usize, &[Atom])> {
    let behind = atoms.get(at..).unwrap_or_default();
    let words = behind.chunk_by(|left, right| left.is_of_word() && right.is_of_word());
    let words = words.map(move |word| {
        at += word.len();
        (at, word)
    });
    words.filter(|(_, word)| is_said(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::common_words;
    use crate::merge::diff::{atoms, by_word};

    /// Few words and much that is between them, so that much is the same by coincidence.
    fn content() -> impl Strategy<Value = String> {
        proptest::collection::vec(
            prop_oneof![
                Just("a"),
                Just("b"),
                Just("ab"),
                Just(" "),
                Just(" "),
                Just(","),
                Just("界")
            ],
            0..24,
        )
        .prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]

        #[test]
        fn what_is_left_out_changes_nothing(old in content(), new in content(), start in content(), end in content()) {
            let (old, new) = (format!("{start}{old}{end}"), format!("{start}{new}{end}"));
            let (old, new) = (atoms(&old), atoms(&new));
            let (start, end) = common_words(&old, &new);
            prop_assert_eq!(&old[..start], &new[..start]);
            prop_assert_eq!(&old[old.len() - end..], &new[new.len() - end..]);
            let within = by_word(&old[start..old.len() - end], &new[start..new.len() - end]);
            let within: Vec<_> = within.into_iter().map(|hunk| hunk.moved(start, start)).collect();
            prop_assert_eq!(within, by_word(&old, &new));
        }
    }

    #[test]
    fn a_changed_word_is_all_that_is_left() {
        let (old, new) = (atoms("one two, three four"), atoms("one two, drei four"));
        assert_eq!(common_words(&old, &new), (9, 4));
        // A comma between two words that may be either is left to the comparison.
        let (old, new) = (atoms("a, b"), atoms("a, a, b"));
        assert_eq!(common_words(&old, &new), (3, 1));
    }
}

//! Which copy an author edited: of all that it can have had, the one from which its content is nearest.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::diff::{atoms, difference, hunks, is_of_word};

/// A content that the author of a save may have begun with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate<C = Value> {
    /// The whole content, in the form of the save.
    pub content: C,
    /// Whether what is in it and not in the save has been deleted by the author. Not so where the author may have begun with something
    /// else that is not known: then nothing is deleted.
    pub is_certain: bool,
}

/// How much dearer a word is that would have been put in than one that would have been taken out. An insertion that was none is
/// there twice in the end, so it takes many deletions to make it the likelier one.
pub(super) const INSERTED: usize = 4;

/// How many candidates are compared word by word: those that have the most words in common with the save.
const MAX_COMPARED: usize = 8;

/// So many words may be in two contents by coincidence.
const COINCIDENCE: usize = 1;

/// How many words have been put in and taken out between two contents.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Distance {
    inserted: usize,
    deleted: usize,
}

impl Distance {
    fn between(from: &[&str], to: &[&str]) -> Self {
        let hunks = hunks(from, to);
        Self {
            inserted: hunks.iter().map(|hunk| hunk.new.len()).sum(),
            deleted: hunks.iter().map(|hunk| hunk.old.len()).sum(),
        }
    }

    /// The same without regard to the order of the words, which is never more and quickly found.
    fn at_least(from: &[&str], to: &BTreeMap<&str, usize>) -> Self {
        let (mut left, mut deleted) = (to.clone(), 0);
        for word in from {
            match left.get_mut(word) {
                Some(count) if *count > 0 => *count -= 1,
                _ => deleted += 1,
            }
        }
        Self {
            inserted: left.values().sum(),
            deleted,
        }
    }

    fn cost(self) -> usize {
        INSERTED * self.inserted + self.deleted
    }
}

/// The words of a text. What is between them says little of where it comes from.
pub(super) fn words(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let end = at + character.len_utf8();
        let goes_on = characters.peek().is_some_and(|(_, next)| is_of_word(*next));
        if is_of_word(character) && goes_on {
            continue;
        }
        let word = text.get(start..end).unwrap_or_default();
        start = end;
        if character.is_alphanumeric() || character == '_' {
            found.push(word);
        }
    }
    found
}

/// A candidate that was compared word by word.
struct Compared<'a> {
    index: usize,
    content: &'a str,
    plain: Cow<'a, str>,
    distance: Distance,
}

/// The candidate that is nearest to a save.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearest {
    /// Its index.
    pub index: usize,
    /// Whether the author had this one. If not, it may as well have had another one, and then what is in this one and not in the save was
    /// not deleted by it.
    pub is_certain: bool,
}

/// The content that is nearest to `saved`; of equally near ones the first.
pub fn nearest<'a>(candidates: impl Iterator<Item = &'a str>, saved: &str) -> Option<Nearest> {
    let mut candidates = candidates.enumerate();
    let first = candidates.next()?;
    let Some(second) = candidates.next() else {
        // Nothing else comes into question, however far it is.
        let (index, is_certain) = (first.0, true);
        return Some(Nearest { index, is_certain });
    };
    let candidates = [first, second].into_iter().chain(candidates);
    let saved_plain = plain(saved);
    let saved_words = words(&saved_plain);
    let mut counts = BTreeMap::new();
    for word in &saved_words {
        *counts.entry(*word).or_insert(0) += 1;
    }
    let mut by_bound = Vec::new();
    for (index, candidate) in candidates {
        if candidate == saved {
            let is_certain = true;
            return Some(Nearest { index, is_certain });
        }
        let plain = plain(candidate);
        let bound = Distance::at_least(&words(&plain), &counts).cost();
        by_bound.push((bound, index, candidate, plain));
    }
    by_bound.sort_unstable();
    by_bound.truncate(MAX_COMPARED);
    let mut compared: Vec<_> = (by_bound.into_iter())
        .map(|(_, index, content, plain)| Compared {
            index,
            content,
            distance: Distance::between(&words(&plain), &saved_words),
            plain,
        })
        .collect();
    compared.sort_by_key(|compared| {
        let between = middle(compared.content, saved);
        (compared.distance.cost(), between, compared.index)
    });
    let (best, others) = compared.split_first()?;
    // Nearer only by a coincidence, and then what others have just written would go.
    let mut rivals = others.iter().filter(|other| {
        other.distance.inserted <= best.distance.inserted + COINCIDENCE
            && deletes_what_is_new(&best.plain, &saved_plain, &other.plain)
    });
    let deletes_less = |rival: &&Compared<'_>| !deletes_what_is_new(&rival.plain, &saved_plain, &best.plain);
    let Some(rival) = rivals.next() else {
        let (index, is_certain) = (best.index, true);
        return Some(Nearest { index, is_certain });
    };
    let safe = [rival].into_iter().chain(rivals).find(deletes_less);
    // Each of the others would take something away that the nearest has not got, as the nearest does itself.
    Some(Nearest {
        index: safe.unwrap_or(best).index,
        is_certain: safe.is_some(),
    })
}

/// The names of elements that stand within words.
const INLINE: [&str; 13] = [
    "a", "b", "code", "del", "em", "i", "mark", "s", "span", "strong", "sub", "sup", "u",
];

/// What is to be read of a content: its markup says little of where it comes from.
fn plain(content: &str) -> Cow<'_, str> {
    if content.starts_with('<') {
        let mut plain = String::new();
        for part in content.split('<') {
            let (tag, text) = part.split_once('>').unwrap_or(("", part));
            let name = tag.trim_start_matches('/').split([' ', '/']).next();
            if !INLINE.contains(&name.unwrap_or_default()) {
                plain.push('\n');
            }
            plain.push_str(text);
        }
        return Cow::Owned(plain);
    }
    let document = content.starts_with('{').then(|| serde_json::from_str(content));
    let Some(Ok(document)) = document else {
        return Cow::Borrowed(content);
    };
    let mut plain = String::new();
    let mut open = vec![&document];
    while let Some(node) = open.pop() {
        let Value::Object(node) = node else {
            continue;
        };
        match node.get("text") {
            Some(Value::String(text)) => plain.push_str(text),
            _ => plain.push('\n'),
        }
        if let Some(Value::Array(children)) = node.get("content") {
            open.extend(children.iter().rev());
        }
    }
    Cow::Owned(plain)
}

/// How much there is between what two texts begin and end with in common: which of two is nearer that differ in no word more.
fn middle(from: &str, to: &str) -> usize {
    let is_same = |(one, other): &(u8, u8)| one == other;
    let begin = from.bytes().zip(to.bytes()).take_while(is_same).count();
    let longest = from.len().min(to.len()) - begin;
    let ends = from.bytes().rev().zip(to.bytes().rev()).take(longest);
    let end = ends.take_while(is_same).count();
    INSERTED * (to.len() - begin - end) + (from.len() - begin - end)
}

/// Whether something that is in `from` and not yet in `earlier` is not in `saved`.
fn deletes_what_is_new(from: &str, saved: &str, earlier: &str) -> bool {
    let (from, saved, earlier) = (atoms(from), atoms(saved), atoms(earlier));
    let new = difference(&earlier, &from);
    let gone = difference(&from, &saved);
    let mut new = new
        .iter()
        .map(|hunk| &hunk.new)
        .filter(|range| !range.is_empty())
        .peekable();
    gone.iter().map(|hunk| &hunk.old).any(|gone| {
        while new.next_if(|new| new.end <= gone.start).is_some() {}
        new.peek()
            .is_some_and(|new| new.start < gone.end && !gone.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[track_caller]
    fn is_nearest<const N: usize>(candidates: [&str; N], saved: &str, expected: usize) {
        let nearest = nearest(candidates.into_iter(), saved);
        assert_eq!(nearest.map(|nearest| nearest.index), Some(expected), "{saved}");
    }

    #[test]
    fn the_nearest_is_the_one_that_the_author_edited() {
        // What it saved itself, though a longer version came meanwhile.
        is_nearest(["a b c by others", "a b c"], "a b c d", 1);
        // What it was sent: else the words of others would be there twice.
        is_nearest(["a b c by others now", "a b c"], "a b c others now", 0);
        // The order of the words counts.
        is_nearest(["b a", "a b"], "a b c", 1);
        // A word that two authors happened to write makes nobody delete the words of the other one.
        is_nearest(["one two by bob", "one two"], "one two by ada", 1);
        is_nearest(["one two by bob", "one two"], "one two by bobby", 0);
        // Where no word tells, what is between them does.
        is_nearest(["a b c", "a b c!"], "a c!", 1);
        // The same again.
        is_nearest(["x", "a b", "a b"], "a b", 1);
        assert_eq!(nearest([].into_iter(), "a"), None);
        // The only one, however far it is.
        is_nearest(["x y z"], "a", 0);
    }

    #[test]
    fn markup_says_nothing_of_where_a_content_comes_from() {
        let theirs = "<p>by <strong>others</strong></p>";
        is_nearest([theirs, ""], "<p>by <strong>me</strong> and me</p>", 1);
        is_nearest([theirs, ""], "<p>by <strong>others</strong> and me</p>", 0);
        let paragraph = |text: &str| {
            let content = [serde_json::json!({ "type": "text", "text": text })];
            let paragraph = serde_json::json!({ "type": "paragraph", "content": content });
            serde_json::json!({ "type": "doc", "content": [paragraph] }).to_string()
        };
        let (theirs, nothing) = (paragraph("by others"), r#"{"type":"doc","content":[]}"#);
        is_nearest([&theirs, nothing], &paragraph("mine alone"), 1);
        is_nearest([&theirs, nothing], &paragraph("by others and me"), 0);
    }

    #[test]
    fn a_copy_is_not_certain_where_each_that_is_as_near_loses_something_of_another() {
        // Its author has taken out two words of its own, or two of others.
        let certainty = |candidates: [&str; 2], saved| {
            let nearest = nearest(candidates.into_iter(), saved);
            nearest.map(|nearest| nearest.is_certain)
        };
        let candidates = ["a b c mine own d e", "a b c d e their words"];
        assert_eq!(certainty(candidates, "a b c d new e"), Some(false));
        assert_eq!(certainty(candidates, "a b c mine own d new e"), Some(true));
    }
}

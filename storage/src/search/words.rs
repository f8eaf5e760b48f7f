//! The words of a text, as every store looks for them: in lower case, in one form of Unicode, each character of a script that is written
//! without spaces as a word of its own.

use unicode_normalization::{UnicodeNormalization, char::is_combining_mark};

/// How much of a page's text can be found, in characters of its words and of the spaces between them. A `tsvector` of PostgreSQL has room
/// for 1 MiB, which no words of this length exceed, whatever they are.
pub(crate) const MAX_SEARCHED_CHARS: usize = 200_000;

/// How much of a text is gone through for its words, in characters: of a text that is mostly something else, not all is found.
const MAX_READ_CHARS: usize = 4_000_000;

/// Longest word, in characters. What is longer is no word of a language, and is found by its beginning.
const MAX_WORD_CHARS: usize = 100;

/// The words of a text with one space between them, up to the bound.
pub(crate) fn words(text: &str) -> String {
    let mut words = Words::default();
    for letter in text
        .chars()
        .take(MAX_READ_CHARS)
        .nfkc()
        .flat_map(char::to_lowercase)
    {
        words.take(letter);
        if words.chars >= MAX_SEARCHED_CHARS {
            break;
        }
    }
    words.found
}

#[derive(Default)]
struct Words {
    found: String,
    chars: usize,
    /// Characters of the word that is under way; 0 between words.
    word: usize,
}

impl Words {
    fn take(&mut self, letter: char) {
        if is_word_alone(letter) {
            self.word = 0;
            self.put(letter);
            self.word = 0;
        } else if letter.is_alphanumeric() || (self.word > 0 && is_combining_mark(letter)) {
            self.put(match letter {
                // The form at the end of a word.
                'ς' => 'σ',
                letter => letter,
            });
        } else {
            self.word = 0;
        }
    }

    fn put(&mut self, letter: char) {
        if self.word == 0 && !self.found.is_empty() {
            self.found.push(' ');
            self.chars += 1;
        }
        self.word += 1;
        if self.word <= MAX_WORD_CHARS {
            self.found.push(letter);
            self.chars += 1;
        }
    }
}

/// Whether a character is of a script that does not put spaces between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
fn is_word_alone(letter: char) -> bool {
    matches!(
        letter,
        '\u{0e00}'..='\u{0eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{3040}'..='\u{30ff}'
            | '\u{31f0}'..='\u{31ff}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}'
    ) && letter.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_in_one_form() {
        let table = [
            ("", ""),
            (" \t\n ", ""),
            ("Hello, World!", "hello world"),
            (
                "don't e-mail bob@example.com/x_y",
                "don t e mail bob example com x y",
            ),
            // Composed, decomposed, a ligature, full width.
            (
                "Caf\u{e9} cafe\u{301} \u{fb01}n \u{ff21}\u{ff11}",
                "café café fin a1",
            ),
            ("ΟΔΟΣ οδος", "οδοσ οδοσ"),
            ("\u{130}stanbul", "i\u{307}stanbul"),
            ("東京タワー and 1e5", "東 京 タ ワ ー and 1e5"),
            ("한국어 문서", "한국어 문서"),
            ("हिन्दी", "हिन्दी"),
            ("a\u{0}b\u{fffd}c", "a b c"),
            ("😀 ok", "ok"),
        ];
        for (text, found) in table {
            assert_eq!(words(text), found, "{text:?}");
        }
    }

    #[test]
    fn long_words_and_texts_are_cut() {
        assert_eq!(words(&"x".repeat(1000)), "x".repeat(MAX_WORD_CHARS));
        let long = "word ".repeat(1 << 20);
        let chars = words(&long).chars().count();
        assert!(
            (MAX_SEARCHED_CHARS..MAX_SEARCHED_CHARS + 2).contains(&chars),
            "{chars}"
        );
        let hidden = " ".repeat(MAX_READ_CHARS) + "word";
        assert_eq!(words(&hidden), "");
        assert_eq!(words(&hidden[1..]), "w");
        let wide = "東".repeat(1 << 20);
        assert!(words(&wide).chars().count() < MAX_SEARCHED_CHARS + 2);
    }
}

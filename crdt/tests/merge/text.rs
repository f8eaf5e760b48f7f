//! Saves of whole texts become edits of the live document: nothing that anybody wrote is lost or there twice.

use crate::page::{Page, certain, conflict, save, uncertain};
use pageroom_crdt::testing::Replica;
use pageroom_crdt::{ClientId, Format, Save};
use proptest::prelude::*;
use serde_json::json;
use yrs::updates::decoder::Decode;
use yrs::{Text, Transact};

fn text_save(content: &str) -> Save {
    save(json!(content), Format::Text)
}

fn page_of(text: &str) -> Page {
    let mut page = Page::new();
    page.save(&text_save(text));
    page
}

#[test]
fn a_save_on_an_empty_page_writes_it_once() {
    let mut page = Page::new();
    let merged = page.save(&text_save("hello world"));
    assert_eq!((merged.content, merged.differs), (json!("hello world"), false));
    assert_eq!(page.text("content"), "hello world");
    // The same bytes for the same client id, so that they can be put in twice.
    let again = [1, 2].map(|_| {
        let mut empty = Page::new();
        empty
            .view()
            .merge(ClientId(5), &text_save("hello 🌍 world"))
            .unwrap()
            .update
    });
    assert_eq!(again[0], again[1]);
}

#[test]
fn each_base_gives_the_edits_that_were_made_of_it() {
    for (name, page, candidates, saved, outcome) in [
        (
            "a save that crossed a message",
            "one two three by bob",
            vec![certain("one two three by bob"), certain("one two three")],
            "one two three by ada",
            "one two three by ada by bob",
        ),
        (
            "an old copy of a tab that comes back",
            "a much longer text of today",
            vec![certain("a much longer text of today"), certain("a text")],
            "a text of mine",
            "a much longer text of mine of today",
        ),
        (
            "the same save again",
            "hello world and more",
            vec![certain("hello world")],
            "hello world",
            "hello world and more",
        ),
        (
            "a content that we never saw",
            "loaded from elsewhere, by ada",
            vec![uncertain("loaded from elsewhere, by ada"), uncertain("")],
            "loaded from elsewhere, by bob",
            "loaded from elsewhere, by bobada",
        ),
        (
            "a word that goes while another one comes into it",
            "keep unbelievXable keep",
            vec![certain("keep unbelievable keep")],
            "keep keep",
            "keep X keep",
        ),
    ] {
        let mut page = page_of(page);
        let saved = Save {
            candidates,
            ..text_save(saved)
        };
        let merged = page.save(&saved);
        assert_eq!(merged.content, json!(outcome), "{name}");
        assert_eq!(page.text("content"), outcome, "{name}");
        assert_eq!(merged.differs, merged.content != saved.content, "{name}");
    }
}

#[test]
fn without_anything_to_compare_with_the_page_itself_is_the_base() {
    let mut page = page_of("one two three");
    let unsure = Save {
        had_current: false,
        ..text_save("one three four")
    };
    assert_eq!(page.save(&unsure).content, json!("one two three four"));
    let sure = Save {
        had_current: true,
        ..text_save("one four")
    };
    let merged = page.save(&sure);
    assert_eq!((merged.content, merged.base), (json!("one four"), None));
    assert!(page.save(&sure).update.is_empty(), "nothing to change");
}

#[test]
fn a_page_of_one_kind_takes_no_save_of_another() {
    let mut page = page_of("text");
    for format in [Format::Html, Format::Prosemirror] {
        let refused = page.view().merge(ClientId(9), &save(json!("<p>x</p>"), format));
        assert_eq!(refused.unwrap_err(), conflict("text"));
    }
    // What does not say its format has the one of the page.
    let unsaid = Save {
        format: None,
        default_format: Format::Html,
        candidates: vec![certain("text")],
        ..text_save("text and more")
    };
    assert_eq!(page.save(&unsaid).format, Format::Text);
    assert_eq!(page.text("content"), "text and more");
    let named = Save {
        field: Some("content".to_owned()),
        ..save(json!("<p>x</p>"), Format::Html)
    };
    let refused = page.view().merge(ClientId(9), &named);
    assert_eq!(refused.unwrap_err(), conflict("text"));
}

#[test]
fn what_plain_text_cannot_show_stays() {
    let mut page = Page::new();
    // "abc" with a picture before "c" in root `content`.
    page.apply(&[
        1, 3, 1, 0, 4, 1, 7, b'c', b'o', b'n', b't', b'e', b'n', b't', 2, b'a', b'b', 0x85, 1, 1, 4, b't',
        b'r', b'u', b'e', 0x84, 1, 2, 1, b'c', 0,
    ]);
    let merged = page.save(&Save {
        candidates: vec![certain("abc")],
        ..text_save("aX")
    });
    assert_eq!(merged.content, json!("aX"));
    let gone = Save {
        candidates: vec![certain("aX")],
        ..text_save("")
    };
    assert_eq!(page.save(&gone).content, json!(""));
    let state = page.encode();
    let doc = yrs::Doc::new();
    doc.transact_mut()
        .apply_update(yrs::Update::decode_v1(&state).unwrap())
        .unwrap();
    assert_eq!(
        doc.get_or_insert_text("content").len(&doc.transact()),
        1,
        "the picture"
    );
}

/// Edits of a text of unique words: what is put in where, and which words go.
#[derive(Debug, Clone)]
struct Edits {
    insertions: Vec<prop::sample::Index>,
    deleted: Vec<prop::sample::Index>,
}

fn edits() -> impl Strategy<Value = Edits> {
    let indexes = || prop::collection::vec(any::<prop::sample::Index>(), 0..4);
    (indexes(), indexes()).prop_map(|(insertions, deleted)| Edits { insertions, deleted })
}

const WORDS: usize = 12;

fn base_word(index: usize) -> String {
    // No word is a part of another one.
    let letter = char::from(b'a' + index as u8);
    [letter, 'x', letter, 'y', letter].into_iter().collect()
}

fn base_text() -> String {
    (0..WORDS).map(base_word).collect::<Vec<_>>().join(" ")
}

impl Edits {
    /// The text with the edits of the author `name` in it, with what was put in.
    fn of_base(&self, name: &str) -> (String, Vec<String>) {
        let mut words: Vec<_> = (0..WORDS).map(base_word).collect();
        for index in self.deleted() {
            words[index].clear();
        }
        let mut text = words.join(" ");
        let mut inserted = Vec::new();
        for (number, at) in self.insertions.iter().enumerate() {
            let token = format!("⟨{name}{number}⟩");
            // Not into what was put in before: that would tear it.
            let places: Vec<_> = (text.char_indices().map(|(at, _)| at).chain([text.len()]))
                .filter(|&at| text[..at].matches('⟨').count() == text[..at].matches('⟩').count())
                .collect();
            text.insert_str(*at.get(&places), &token);
            inserted.push(token);
        }
        (text, inserted)
    }

    fn deleted(&self) -> impl Iterator<Item = usize> {
        self.deleted.iter().map(|index| index.index(WORDS))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn of_two_saves_and_a_typist_nothing_is_lost_or_doubled(ada in edits(), bob in edits(), typist in edits(), order in any::<bool>()) {
        let in_field = |content: &str| Save { field: Some("text".to_owned()), ..text_save(content) };
        let mut page = Page::new();
        page.save(&in_field(&base_text()));
        // The typist has the page as it was, and is heard last.
        let mut replica = Replica::new(ClientId(77));
        replica.apply(&page.encode());
        let mut inserted = Vec::new();
        let mut typed = Vec::new();
        for (number, at) in typist.insertions.iter().enumerate() {
            let token = format!("⟨T{number}⟩");
            let text = replica.text();
            let places: Vec<_> = (0..=text.chars().count())
                .filter(|&at| {
                    let before: String = text.chars().take(at).collect();
                    before.matches('⟨').count() == before.matches('⟩').count()
                })
                .collect();
            typed.push(replica.insert(*at.get(&places) as u32, &token));
            inserted.push(token);
        }
        let mut saves = [("ADA", &ada), ("BOB", &bob)];
        if order {
            saves.reverse();
        }
        let mut deleted: Vec<usize> = Vec::new();
        for (name, edits) in saves {
            let (text, tokens) = edits.of_base(name);
            deleted.extend(edits.deleted());
            inserted.extend(tokens);
            page.save(&Save { candidates: vec![certain(base_text())], ..in_field(&text) });
        }
        for update in &typed {
            page.apply(update);
        }
        let text = page.text("text");
        for token in &inserted {
            prop_assert_eq!(text.matches(token.as_str()).count(), 1, "{} in {}", token, text);
        }
        let mut bare = text.clone();
        for token in &inserted {
            bare = bare.replace(token.as_str(), "");
        }
        for word in 0..WORDS {
            let expected = usize::from(!deleted.contains(&word));
            prop_assert_eq!(bare.matches(&base_word(word)).count(), expected, "{} in {}", base_word(word), text);
        }
        // Another replica that hears everything has the same.
        replica.apply(&page.encode());
        prop_assert_eq!(replica.text(), text);
    }
}

//! Deltas of Quill are merged into the text that they are of: nothing that anybody wrote is lost or there twice, and formats of one side stay
//! where the other one did not change them.

use std::collections::BTreeSet;

use pageroom_crdt::testing::Random;
use pageroom_crdt::{ClientId, Form, Format, MergeError, MergeRefusal, Save};
use serde_json::{Map, Value, json};

use crate::page::{Page, certain, conflict, save};

fn delta(ops: Value) -> Value {
    json!({ "ops": ops })
}

fn page_of(ops: Value) -> Page {
    let mut page = Page::new();
    page.save(&save(delta(ops), Format::Delta));
    page
}

fn read(page: &mut Page) -> Value {
    let read = page.view().shown(Form::Delta, Some("quill")).unwrap().unwrap();
    composed(&serde_json::from_str(&read).unwrap())
}

/// A delta with texts of the same formats in one, as Quill has it. Yjs parts them where a format ended.
fn composed(delta: &Value) -> Value {
    let mut ops: Vec<Value> = Vec::new();
    for op in delta["ops"].as_array().unwrap() {
        match ops.last_mut() {
            Some(last)
                if last["insert"].is_string()
                    && op["insert"].is_string()
                    && last.get("attributes") == op.get("attributes") =>
            {
                let text = format!(
                    "{}{}",
                    last["insert"].as_str().unwrap(),
                    op["insert"].as_str().unwrap()
                );
                last["insert"] = json!(text);
            }
            _ => ops.push(op.clone()),
        }
    }
    json!({ "ops": ops })
}

#[track_caller]
fn merges(base: Value, theirs: Value, ours: Value, outcome: Value) {
    let mut page = page_of(base.clone());
    assert_eq!(read(&mut page), delta(base.clone()));
    let of_base = |ops: Value| Save {
        candidates: vec![certain(delta(base.clone()))],
        ..save(delta(ops), Format::Delta)
    };
    let merged = page.save(&of_base(theirs.clone()));
    assert_eq!(
        (composed(&merged.content), merged.differs),
        (delta(theirs.clone()), false)
    );
    let merged = page.save(&of_base(ours.clone()));
    assert_eq!(composed(&merged.content), delta(outcome.clone()));
    assert_eq!(merged.differs, ours != outcome);
    assert_eq!(read(&mut page), delta(outcome.clone()));
    let again = Save {
        had_current: true,
        ..save(delta(outcome), Format::Delta)
    };
    assert!(page.save(&again).update.is_empty(), "nothing to change");
}

#[test]
fn text_formats_and_embeds_of_both_sides_are_in_the_outcome() {
    merges(
        json!([{ "insert": "one two three\n" }]),
        json!([{ "insert": "one " }, { "insert": "two", "attributes": { "bold": true } }, { "insert": " three by bob\n" }]),
        json!([{ "insert": "one 2 three\n" }]),
        json!([{ "insert": "one 2 three by bob\n" }]),
    );
    merges(
        json!([{ "insert": "one two" }, { "insert": "\n", "attributes": { "header": 1 } }]),
        json!([{ "insert": "one two", "attributes": { "italic": true } }, { "insert": "\n", "attributes": { "header": 1 } }]),
        json!([{ "insert": "one ", "attributes": { "bold": true } }, { "insert": "two and three" }, { "insert": "\n", "attributes": { "header": 2 } }]),
        json!([
            { "insert": "one ", "attributes": { "bold": true, "italic": true } }, { "insert": "two", "attributes": { "italic": true } },
            { "insert": " and three" }, { "insert": "\n", "attributes": { "header": 2 } },
        ]),
    );
    merges(
        json!([{ "insert": "a" }, { "insert": { "image": "x.png" } }, { "insert": "b\n" }]),
        json!([{ "insert": "a" }, { "insert": { "image": "x.png" }, "attributes": { "width": "100" } }, { "insert": "b🌍\n" }]),
        json!([{ "insert": "new a" }, { "insert": { "image": "x.png" } }, { "insert": "b" }, { "insert": { "formula": "e" } }, { "insert": "\n" }]),
        json!([
            { "insert": "new a" }, { "insert": { "image": "x.png" }, "attributes": { "width": "100" } }, { "insert": "b" },
            { "insert": { "formula": "e" } }, { "insert": "🌍\n" },
        ]),
    );
    merges(
        json!([{ "insert": "link", "attributes": { "link": "a" } }, { "insert": " and " }, { "insert": "bold", "attributes": { "bold": true, "color": "red" } }, { "insert": "\n" }]),
        json!([{ "insert": "link", "attributes": { "link": "b" } }, { "insert": " and bold\n" }]),
        json!([{ "insert": "link", "attributes": { "link": "a" } }, { "insert": " and " }, { "insert": "bold", "attributes": { "bold": true, "color": "blue" } }, { "insert": "\n" }]),
        json!([{ "insert": "link", "attributes": { "link": "b" } }, { "insert": " and " }, { "insert": "bold", "attributes": { "color": "blue" } }, { "insert": "\n" }]),
    );
}

#[test]
fn what_is_put_in_has_the_formats_that_it_was_sent_with() {
    let base = json!([{ "insert": "bold", "attributes": { "bold": true } }, { "insert": "\n" }]);
    merges(
        base.clone(),
        base.clone(),
        json!([{ "insert": "bo", "attributes": { "bold": true } }, { "insert": "plain" }, { "insert": "ld", "attributes": { "bold": true } }, { "insert": "\n" }]),
        json!([{ "insert": "bo", "attributes": { "bold": true } }, { "insert": "plain" }, { "insert": "ld", "attributes": { "bold": true } }, { "insert": "\n" }]),
    );
}

#[test]
fn types_in_a_text_stay_where_they_are() {
    let mut page = Page::new();
    page.save(&save(json!("<p>a</p>"), Format::Html));
    let refused = page.view().merge(
        ClientId(9),
        &Save {
            field: Some("default".to_owned()),
            ..save(delta(json!([])), Format::Delta)
        },
    );
    assert_eq!(refused.unwrap_err(), conflict("xml"));
    // A map in a text, as another program may put it there.
    let doc = yrs::Doc::with_client_id(5);
    let update = {
        use yrs::{Text, Transact};
        let text = doc.get_or_insert_text("quill");
        let mut transaction = doc.transact_mut();
        text.insert(&mut transaction, 0, "ab");
        text.insert_embed(&mut transaction, 1, yrs::MapPrelim::from([("k", 1)]));
        transaction.encode_update_v1()
    };
    let mut page = Page::new();
    page.apply(&update);
    assert_eq!(
        read(&mut page),
        delta(json!([{ "insert": "a" }, { "insert": { "k": 1 } }, { "insert": "b" }]))
    );
    let changed = delta(json!([{ "insert": "new a" }, { "insert": { "k": 1 } }, { "insert": "b\n" }]));
    let merged = page.save(&Save {
        had_current: true,
        ..save(changed.clone(), Format::Delta)
    });
    assert_eq!(merged.content, changed);
}

#[test]
fn what_is_no_delta_of_a_document_is_refused() {
    for content in [
        json!({}),
        json!("x"),
        delta(json!([{ "retain": 1 }])),
        delta(json!([{ "delete": 1 }])),
        delta(json!([{ "insert": 1 }])),
        delta(json!([{ "insert": "a", "attributes": [] }])),
        delta(json!(["a"])),
    ] {
        let refused = Page::new().try_save(&save(content.clone(), Format::Delta));
        assert!(
            matches!(refused, Err(MergeError::Refused(MergeRefusal::Malformed { .. }))),
            "{content}: {refused:?}"
        );
    }
}

/// A word, or an embed, with its formats.
#[derive(Debug, Clone, PartialEq)]
struct Word {
    text: String,
    formats: BTreeSet<&'static str>,
}

const FORMATS: [&str; 3] = ["bold", "italic", "strike"];
const WORDS: usize = 12;

fn base_words() -> Vec<Word> {
    let word = |index: usize| {
        let letter = char::from(b'a' + index as u8);
        let text = [letter, 'x', letter, 'y', letter].into_iter().collect();
        let formats = FORMATS
            .into_iter()
            .enumerate()
            .filter(|(at, _)| index.is_multiple_of(at + 3));
        Word {
            text,
            formats: formats.map(|(_, name)| name).collect(),
        }
    };
    (0..WORDS).map(word).collect()
}

/// Words as a delta, with a plain space between them; a word in brackets is an embed.
fn ops(words: &[Word]) -> Value {
    let mut ops = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if at > 0 {
            ops.push(json!({ "insert": " " }));
        }
        let insert = match word.text.starts_with('[') {
            true => json!({ "image": word.text }),
            false => json!(word.text),
        };
        let attributes: Map<String, Value> = word
            .formats
            .iter()
            .map(|name| ((*name).to_owned(), json!(true)))
            .collect();
        ops.push(if attributes.is_empty() {
            json!({ "insert": insert })
        } else {
            json!({ "insert": insert, "attributes": attributes })
        });
    }
    delta(Value::Array(ops))
}

/// What an author did to the words of the base.
#[derive(Debug, Default)]
struct Done {
    inserted: Vec<Word>,
    deleted: BTreeSet<String>,
    /// Words with a format that was set or taken away.
    formatted: Vec<(String, &'static str, bool)>,
}

fn author(name: &str, random: &mut Random) -> (Vec<Word>, Done) {
    let (mut words, mut done) = (base_words(), Done::default());
    for number in 0..1 + random.below(6) {
        match random.below(4) {
            0 => {
                let at = random.below(words.len() as u32 + 1) as usize;
                let text = match random.below(3) {
                    0 => format!("[{name}{number}]"),
                    _ => format!("{name}{number}"),
                };
                let formats = FORMATS.into_iter().filter(|_| random.below(3) == 0).collect();
                let word = Word { text, formats };
                done.inserted.push(word.clone());
                words.insert(at, word);
            }
            1 if words.len() > 2 => {
                let word = words.remove(random.below(words.len() as u32) as usize);
                done.inserted.retain(|inserted| *inserted != word);
                done.formatted.retain(|(formatted, ..)| *formatted != word.text);
                done.deleted.insert(word.text);
            }
            _ => {
                let at = random.below(words.len() as u32) as usize;
                let format = FORMATS[random.below(FORMATS.len() as u32) as usize];
                let word = &mut words[at];
                if word.text.contains(name) {
                    continue;
                }
                let is_set = !word.formats.remove(format);
                if is_set {
                    word.formats.insert(format);
                }
                done.formatted
                    .retain(|(text, name, _)| (text, *name) != (&word.text, format));
                let base = base_words().into_iter().find(|base| base.text == word.text);
                if base.is_some_and(|base| base.formats.contains(format) != is_set) {
                    done.formatted.push((word.text.clone(), format, is_set));
                }
            }
        }
    }
    (words, done)
}

/// The formats of a word in a delta, if it is there once and has the same ones throughout.
fn formats_of(delta: &Value, word: &str) -> Vec<BTreeSet<String>> {
    let mut characters: Vec<(char, BTreeSet<String>)> = Vec::new();
    let mut found = Vec::new();
    for op in delta["ops"].as_array().unwrap() {
        let formats: BTreeSet<String> = op["attributes"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, _)| name.clone())
            .collect();
        if let Some(text) = op["insert"].as_str() {
            characters.extend(text.chars().map(|character| (character, formats.clone())));
            continue;
        }
        characters.push(('\u{fffc}', formats.clone()));
        if op["insert"]["image"] == word {
            found.push(formats);
        }
    }
    let text: String = characters.iter().map(|(character, _)| *character).collect();
    for (at, _) in text.match_indices(word) {
        let start = text[..at].chars().count();
        let of_word = &characters[start..start + word.chars().count()];
        assert!(
            of_word.iter().all(|(_, formats)| *formats == of_word[0].1),
            "{word} in {delta}"
        );
        found.push(of_word[0].1.clone());
    }
    found
}

#[test]
fn of_two_saves_nothing_is_lost_or_doubled_and_formats_are_on_their_words() {
    for seed in 0..1500 {
        let mut random = Random::new(seed);
        let mut page = page_of(ops(&base_words())["ops"].clone());
        let (adas, ada) = author("ADA", &mut random);
        let (bobs, bob) = author("BOB", &mut random);
        for words in [&adas, &bobs] {
            page.save(&Save {
                candidates: vec![certain(ops(&base_words()))],
                ..save(ops(words), Format::Delta)
            });
        }
        let outcome = read(&mut page);
        for word in ada.inserted.iter().chain(&bob.inserted) {
            let expected: BTreeSet<String> = word.formats.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(
                formats_of(&outcome, &word.text),
                [expected],
                "{} of {seed}: {outcome}",
                word.text
            );
        }
        for word in base_words() {
            let found = formats_of(&outcome, &word.text);
            if ada.deleted.contains(&word.text) || bob.deleted.contains(&word.text) {
                assert!(found.is_empty(), "{} of {seed}: {outcome}", word.text);
                continue;
            }
            let mut expected: BTreeSet<String> = word.formats.iter().map(|name| (*name).to_owned()).collect();
            for (text, name, is_set) in ada.formatted.iter().chain(&bob.formatted) {
                match (*text == word.text, is_set) {
                    (true, true) => drop(expected.insert((*name).to_owned())),
                    (true, false) => drop(expected.remove(*name)),
                    (false, _) => {}
                }
            }
            assert_eq!(found, [expected], "{} of {seed}: {outcome}", word.text);
        }
    }
}

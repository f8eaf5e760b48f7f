//! Saves of rich text are merged node by node, and what others edit stays what it is.

use pageroom_crdt::{ClientId, Format, Save};
use proptest::prelude::*;
use serde_json::{Value, json};
use yrs::updates::decoder::Decode;
use yrs::{GetString, ReadTxn, Text, Transact, XmlFragment, XmlOut};

use crate::page::{Page, certain, conflict, save, uncertain};

fn doc(content: Vec<Value>) -> Value {
    json!({ "type": "doc", "content": content })
}

fn paragraph(text: &str) -> Value {
    match text {
        "" => json!({ "type": "paragraph" }),
        text => json!({ "type": "paragraph", "content": [{ "type": "text", "text": text }] }),
    }
}

fn paragraphs(text: &str) -> Value {
    doc(text.split('|').map(paragraph).collect())
}

fn document_save(document: &Value, candidates: &[&Value]) -> Save {
    Save {
        candidates: candidates
            .iter()
            .map(|candidate| certain((*candidate).clone()))
            .collect(),
        ..save(document.clone(), Format::Prosemirror)
    }
}

fn page_of(document: &Value) -> Page {
    let mut page = Page::new();
    assert_eq!(page.save(&document_save(document, &[])).content, *document);
    page
}

#[track_caller]
fn merges(base: &Value, current: &Value, saved: &Value, outcome: &Value) {
    let mut page = page_of(base);
    assert_eq!(
        page.save(&document_save(current, &[base])).content,
        *current,
        "one edit alone"
    );
    let merged = page.save(&document_save(saved, &[base]));
    assert_eq!(merged.content, *outcome);
    assert_eq!(merged.differs, outcome != saved);
    // Saved once more it is the same.
    assert!(page.save(&document_save(outcome, &[outcome])).update.is_empty());
}

#[track_caller]
fn merges_paragraphs(base: &str, current: &str, saved: &str, outcome: &str) {
    merges(
        &paragraphs(base),
        &paragraphs(current),
        &paragraphs(saved),
        &paragraphs(outcome),
    );
}

#[test]
fn edits_of_the_same_and_of_different_paragraphs_are_in_the_outcome() {
    merges_paragraphs(
        "one two|three",
        "one 1 two|three",
        "one two|three 3",
        "one 1 two|three 3",
    );
    merges_paragraphs(
        "one two three",
        "one two four three",
        "zero one two three",
        "zero one two four three",
    );
    merges_paragraphs("a|b|c", "a|theirs|b|c", "a|b|ours|c", "a|theirs|b|ours|c");
    merges_paragraphs("a|b|c", "b|c", "a|b", "b");
    merges_paragraphs("", "theirs", "ours", "ourstheirs");
    merges_paragraphs("a b c|d e f", "a b c|d e f", "a b|c|d e f", "a b|c|d e f");
}

#[test]
fn what_is_written_into_something_deleted_stays() {
    merges_paragraphs("a b c d|two", "a b new c d|two", "two", "new |two");
    merges_paragraphs("a b c d|two", "two", "a b new c d|two", "new |two");
    // Deleted by both, and deleted here and only made shorter there.
    merges_paragraphs("a b c|two", "two", "two", "two");
    merges_paragraphs("a b c|two", "a b|two", "two", "two");
}

#[test]
fn marks_and_attributes_are_merged_one_by_one() {
    let text = |text: &str, marks: &[&str]| {
        let marks: Vec<_> = marks.iter().map(|mark| json!({ "type": mark })).collect();
        match marks.is_empty() {
            true => json!({ "type": "text", "text": text }),
            false => json!({ "type": "text", "marks": marks, "text": text }),
        }
    };
    let heading = |level: u8, class: &str, content: Vec<Value>| {
        doc(vec![
            json!({ "type": "heading", "attrs": { "level": level, "class": class }, "content": content }),
        ])
    };
    merges(
        &heading(1, "a", vec![text("one two three", &[])]),
        &heading(
            2,
            "a",
            vec![text("one ", &[]), text("two", &["bold"]), text(" three", &[])],
        ),
        &heading(
            1,
            "b",
            vec![
                text("one ", &[]),
                text("two three", &["italic"]),
                text(" four", &[]),
            ],
        ),
        &heading(
            2,
            "b",
            vec![
                text("one ", &[]),
                text("two", &["bold", "italic"]),
                text(" three", &["italic"]),
                text(" four", &[]),
            ],
        ),
    );
    // A link that is another one, and bold that goes.
    let link = |href: &str| json!({ "type": "text", "marks": [{ "type": "link", "attrs": { "href": href } }], "text": "here" });
    merges(
        &doc(vec![
            json!({ "type": "paragraph", "content": [text("bold", &["bold"]), link("a")] }),
        ]),
        &doc(vec![
            json!({ "type": "paragraph", "content": [text("bold", &["bold"]), link("b")] }),
        ]),
        &doc(vec![
            json!({ "type": "paragraph", "content": [text("bold", &[]), link("a"), text("!", &[])] }),
        ]),
        &doc(vec![
            json!({ "type": "paragraph", "content": [text("bold", &[]), link("b"), text("!", &[])] }),
        ]),
    );
    // Two comments at one place.
    let comment = |id: u8| json!({ "type": "comment", "attrs": { "id": id } });
    let commented = doc(vec![json!({
        "type": "paragraph",
        "content": [{ "type": "text", "marks": [comment(1), comment(2)], "text": "here" }],
    })]);
    let mut page = page_of(&commented);
    let more = paragraphs("here|more");
    let unknown = Save {
        candidates: vec![certain(paragraphs("here"))],
        ..document_save(&more, &[])
    };
    assert_eq!(page.save(&unknown).content["content"][0], commented["content"][0]);
}

#[test]
fn nodes_within_text_are_put_in_and_taken_out() {
    let line = |parts: Vec<Value>| doc(vec![json!({ "type": "paragraph", "content": parts })]);
    let text = |text: &str| json!({ "type": "text", "text": text });
    let mention = |id: &str| json!({ "type": "mention", "attrs": { "id": id, "label": "Ada" } });
    merges(
        &line(vec![text("hello world")]),
        &line(vec![text("hello big world")]),
        &line(vec![text("hello "), mention("1"), text(" world")]),
        &line(vec![text("hello "), mention("1"), text(" big world")]),
    );
    merges(
        &line(vec![text("a "), mention("1"), text(" b")]),
        &line(vec![text("a 🌍 "), mention("1"), text(" b")]),
        &line(vec![text("a "), mention("2"), mention("3"), text(" b!")]),
        &line(vec![text("a 🌍 "), mention("2"), mention("3"), text(" b!")]),
    );
    merges(
        &line(vec![mention("1")]),
        &line(vec![text("x"), mention("1")]),
        &line(vec![mention("1"), text("y"), json!({ "type": "hardBreak" })]),
        &line(vec![
            text("x"),
            mention("1"),
            text("y"),
            json!({ "type": "hardBreak" }),
        ]),
    );
}

#[test]
fn many_nodes_are_put_in_and_taken_out_at_once() {
    let many = |name: &str, count: usize| {
        (0..count)
            .map(|index| format!("{name}{index}"))
            .collect::<Vec<_>>()
            .join("|")
    };
    let (ours, theirs) = (many("ours", 30), many("theirs", 30));
    merges_paragraphs(
        "first|last",
        &format!("first|{theirs}|last"),
        &format!("first!|last|{ours}"),
        &format!("first!|{theirs}|last|{ours}"),
    );
    merges_paragraphs(
        &format!("first|{theirs}|last"),
        &format!("first|{theirs}|last!"),
        "first|last",
        "first|last!",
    );
    let line = |parts: Vec<Value>| doc(vec![json!({ "type": "paragraph", "content": parts })]);
    let text = |text: &str| json!({ "type": "text", "text": text });
    let mentions = |count: usize| (0..count).map(|id| json!({ "type": "mention", "attrs": { "id": id } }));
    let between = |count| {
        line(
            [text("one two three four five six seven eight 🌍")]
                .into_iter()
                .chain(mentions(count))
                .chain([text("b")])
                .collect(),
        )
    };
    let after = |count| {
        let bold = json!({ "type": "text", "marks": [{ "type": "bold" }], "text": "one two three four five six seven eight 🌍" });
        line(
            [bold]
                .into_iter()
                .chain(mentions(count))
                .chain([text("b!")])
                .collect(),
        )
    };
    merges(
        &line(vec![text("one two three four five six seven eight 🌍b")]),
        &line(vec![text("one two three four five six seven eight 🌍b!")]),
        &between(20),
        &line({
            let start = [text("one two three four five six seven eight 🌍")].into_iter();
            start.chain(mentions(20)).chain([text("b!")]).collect()
        }),
    );
    merges(&between(20), &between(5), &after(20), &after(5));
}

#[test]
fn a_typist_keeps_the_paragraph() {
    let base = paragraphs("first|second words|third");
    let mut page = page_of(&base);
    let state = page.encode();
    let saved = paragraphs("new|first|second other words|");
    let merged = page.save(&document_save(&saved, &[&base]));
    assert_eq!(merged.content, saved);
    // Meanwhile a Yjs program has typed into the second paragraph.
    let doc = yrs::Doc::with_client_id(55);
    let fragment = doc.get_or_insert_xml_fragment("default");
    let mut transaction = doc.transact_mut();
    transaction
        .apply_update(yrs::Update::decode_v1(&state).unwrap())
        .unwrap();
    let Some(XmlOut::Element(second)) = fragment.get(&transaction, 1) else {
        panic!("a paragraph")
    };
    let Some(XmlOut::Text(text)) = second.get(&transaction, 0) else {
        panic!("a text")
    };
    text.insert(&mut transaction, 12, "!");
    drop(transaction);
    let known = page.view().state_vector().clone();
    assert_eq!(known.get(ClientId(55)), 0);
    page.apply(&doc.transact().encode_diff_v1(&yrs::StateVector::default()));
    doc.transact_mut()
        .apply_update(yrs::Update::decode_v1(&page.encode()).unwrap())
        .unwrap();
    let shown = "<paragraph>new</paragraph><paragraph>first</paragraph><paragraph>second other words!</paragraph><paragraph></paragraph>";
    assert_eq!(fragment.get_string(&doc.transact()), shown);
    assert_eq!(page.view().json(Some("default")).unwrap().unwrap(), shown);
}

#[test]
fn what_a_format_cannot_show_stays() {
    let mut page = page_of(&paragraphs("one|two"));
    // A picture in a text.
    let doc = yrs::Doc::with_client_id(55);
    let fragment = doc.get_or_insert_xml_fragment("default");
    let mut transaction = doc.transact_mut();
    transaction
        .apply_update(yrs::Update::decode_v1(&page.encode()).unwrap())
        .unwrap();
    let Some(XmlOut::Element(first)) = fragment.get(&transaction, 0) else {
        panic!("a paragraph")
    };
    let Some(XmlOut::Text(text)) = first.get(&transaction, 0) else {
        panic!("a text")
    };
    text.insert_embed(&mut transaction, 1, yrs::Any::from(true));
    drop(transaction);
    page.apply(&doc.transact().encode_diff_v1(&yrs::StateVector::default()));
    let sure = Save {
        had_current: true,
        ..document_save(&paragraphs("o|more"), &[])
    };
    assert_eq!(page.save(&sure).content, paragraphs("o|more"));
    doc.transact_mut()
        .apply_update(yrs::Update::decode_v1(&page.encode()).unwrap())
        .unwrap();
    assert_eq!(text.len(&doc.transact()), 2, "the picture and a letter");
}

#[test]
fn a_content_that_was_never_seen_deletes_nothing() {
    let mut page = page_of(&paragraphs("loaded|by ada|more"));
    let unseen = Save {
        candidates: vec![uncertain(paragraphs("loaded|by ada|more"))],
        ..document_save(&paragraphs("loaded|more|bob wrote this"), &[])
    };
    assert_eq!(
        page.save(&unseen).content,
        paragraphs("loaded|by ada|more|bob wrote this")
    );
}

#[test]
fn what_is_no_document_is_refused() {
    let mut page = page_of(&paragraphs("one"));
    for content in [
        json!("x"),
        json!([]),
        json!({ "type": "paragraph" }),
        json!({ "type": "doc", "content": [{}] }),
    ] {
        assert!(page.try_save(&save(content, Format::Prosemirror)).is_err());
    }
    assert_eq!(
        page.try_save(&save(json!("text"), Format::Text)).unwrap_err(),
        conflict("xml")
    );
    let unsaid = Save {
        format: None,
        ..document_save(&paragraphs("one"), &[])
    };
    assert_eq!(page.save(&unsaid).format, Format::Prosemirror);
}

/// What somebody does with paragraphs of unique words.
#[derive(Debug, Clone)]
struct Edits {
    fates: Vec<u8>,
    added: Vec<(usize, bool)>,
}

const PARAGRAPHS: usize = 5;

fn edits() -> impl Strategy<Value = Edits> {
    let fates = prop::collection::vec(0..6_u8, PARAGRAPHS);
    let added = prop::collection::vec((0..PARAGRAPHS, any::<bool>()), 0..3);
    (fates, added).prop_map(|(fates, added)| Edits { fates, added })
}

fn base_paragraph(index: usize) -> String {
    let letter = char::from(b'a' + index as u8);
    (1..5)
        .map(|word| format!("{}{word}", letter.to_string().repeat(3)))
        .collect::<Vec<_>>()
        .join(" ")
}

impl Edits {
    /// The paragraphs with the edits of the author `name`, what was put in, and what was taken out.
    fn of_base(&self, name: &str) -> (Value, Vec<String>, Vec<String>) {
        let (mut inserted, mut deleted, mut out) = (Vec::new(), Vec::new(), Vec::new());
        for (index, fate) in self.fates.iter().enumerate() {
            for (number, _) in self.added.iter().enumerate().filter(|(_, (at, _))| *at == index) {
                let text = format!("{name}NEW{number} paragraph{name}{number}");
                out.push(paragraph(&text));
                inserted.push(text);
            }
            let text = base_paragraph(index);
            let words: Vec<_> = text.split(' ').collect();
            let token = format!("{name}P{index}");
            match fate {
                0 => deleted.extend(words.into_iter().map(str::to_owned)),
                1 => {
                    out.push(paragraph(&format!(
                        "{} {token} {} {} {}",
                        words[0], words[1], words[2], words[3]
                    )));
                    inserted.push(token);
                }
                2 => {
                    out.push(paragraph(&format!("{} {} {}", words[0], words[2], words[3])));
                    deleted.push(words[1].to_owned());
                }
                3 => {
                    let content = json!([
                        { "type": "text", "text": format!("{} ", words[0]) },
                        { "type": "mention", "attrs": { "id": token } },
                        { "type": "text", "text": format!(" {} {} {}", words[1], words[2], words[3]) },
                    ]);
                    out.push(json!({ "type": "paragraph", "content": content }));
                    inserted.push(token);
                }
                4 => {
                    let content = json!([
                        { "type": "text", "text": format!("{} ", words[0]) },
                        { "type": "text", "marks": [{ "type": name }], "text": format!("{} {}", words[1], words[2]) },
                        { "type": "text", "text": format!(" {}", words[3]) },
                    ]);
                    out.push(json!({ "type": "paragraph", "content": content }));
                }
                _ => out.push(paragraph(&text)),
            }
        }
        (doc(out), inserted, deleted)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn of_two_saves_nothing_is_lost_or_doubled(ada in edits(), bob in edits(), turned in any::<bool>()) {
        let base = doc((0..PARAGRAPHS).map(|index| paragraph(&base_paragraph(index))).collect());
        let mut page = page_of(&base);
        let mut saves = [("ADA", &ada), ("BOB", &bob)];
        if turned {
            saves.reverse();
        }
        let (mut inserted, mut deleted) = (Vec::new(), Vec::new());
        let mut outcome = Value::Null;
        for (name, edits) in saves {
            let (saved, put_in, taken_out) = edits.of_base(name);
            inserted.extend(put_in);
            deleted.extend(taken_out);
            outcome = page.save(&document_save(&saved, &[&base])).content;
        }
        let shown = outcome.to_string();
        for token in &inserted {
            prop_assert_eq!(shown.matches(token.as_str()).count(), 1, "{} in {}", token, shown);
        }
        for index in 0..PARAGRAPHS {
            for word in base_paragraph(index).split(' ') {
                let expected = usize::from(!deleted.iter().any(|gone| gone == word));
                prop_assert_eq!(shown.matches(word).count(), expected, "{} in {}", word, shown);
            }
        }
        let replica = yrs::Doc::with_client_id(55);
        replica.transact_mut().apply_update(yrs::Update::decode_v1(&page.encode()).unwrap()).unwrap();
        let seen = replica.get_or_insert_xml_fragment("default").get_string(&replica.transact());
        // Where all is gone nothing says any more of which kind the root type is.
        let shown = page.view().json(Some("default")).unwrap().unwrap();
        prop_assert_eq!(json!(seen), if shown.is_null() { json!("") } else { shown });
    }
}

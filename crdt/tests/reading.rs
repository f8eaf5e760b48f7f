//! Documents as the bindings of real editors write them, and what is read in them.
#![expect(clippy::unwrap_used, reason = "a test stops at the first error")]

use bytes::Bytes;
use pageroom_crdt::View;
use serde_json::json;

fn hex(digits: &str) -> Bytes {
    let digit = |digit: u8| char::from(digit).to_digit(16).unwrap() as u8;
    digits
        .as_bytes()
        .chunks(2)
        .map(|pair| digit(pair[0]) << 4 | digit(pair[1]))
        .collect()
}

/// Checks what is read in a document that Yjs 13 has encoded.
#[track_caller]
fn check(update: &str, json: &serde_json::Value, text: &str) {
    let mut view = View::new(true);
    view.apply(&hex(update)).unwrap();
    assert_eq!(view.json(None).unwrap().as_ref(), Some(json));
    assert_eq!(view.text(None).unwrap().as_deref(), Some(text));
}

/// Elements with texts in them, next to each other where two people have typed at once, and with an element in a line.
#[test]
fn blocks_as_prosemirror_has_them() {
    check(
        "010c0100070103786d6c030170070001000604000101016187010103026272870103060400010401628701040604000106016387010003017\
         087010803017007000109060400010a016400",
        &json!({ "xml": "<p>a<br></br>bc</p><p></p><p>d</p>" }),
        "a\nbc\n\nd",
    );
}

/// A text of texts: a paragraph with a link in its line, a list of two items, an empty paragraph, an emoji.
#[test]
fn blocks_as_slate_has_them() {
    check(
        "010d0100070105736c61746506040001000473656520870104060400010504686572658401050121870100060700010b060400010c036f6e65\
         87010c06040001100374776f87010b06870114060400011504f09f988000",
        &json!({ "slate": "see here!onetwo😀" }),
        "see here!\none\ntwo\n\n😀",
    );
}

/// The same, with a map before each run of characters: a paragraph of two runs, a list of an item and an empty one.
#[test]
fn blocks_as_lexical_has_them() {
    check(
        "010d0100070104726f6f7406070001000128000101065f5f747970650177047465787484010101618701030128000104065f5f747970650177\
         04746578748401040162870100060700010706070001080128000109065f5f7479706501770474657874840109036f6e658701080600",
        &json!({ "root": "abone" }),
        "ab\none\n",
    );
}

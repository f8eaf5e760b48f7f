//! Where what is appended ends, piece by piece: the place of the cursor of whoever writes.

use pageroom_crdt::{Append, AppendedPiece, ClientId, Format, Place, RelativePosition, Save, SmallEdit};
use serde_json::{Value, json};

use crate::page::{Page, save};

/// Content that comes piece by piece.
struct Appending(Append);

impl Appending {
    fn begin(format: Format, field: Option<&str>) -> Self {
        Self(Append {
            field: field.map(str::to_owned),
            format,
            anchor: None,
            before: String::new(),
            now: String::new(),
        })
    }

    fn piece(&mut self, page: &mut Page, piece: &str) -> Option<RelativePosition> {
        self.0.now.push_str(piece);
        let merged = page.view().append(ClientId(7), &self.0).unwrap();
        let piece: AppendedPiece = serde_json::from_value(merged.content).unwrap();
        self.0.anchor.get_or_insert(piece.anchor);
        self.0.before = self.0.now.clone();
        if !merged.update.is_empty() {
            page.apply(&merged.update);
        }
        piece.end
    }
}

/// The number of a place in the page as it is.
fn number(page: &mut Page, place: &RelativePosition) -> u32 {
    let places = [Place::Position(place.clone())];
    match page.view().places(&places, Format::Html).unwrap().as_slice() {
        [Some(Place::Offset(offset))] => offset.at,
        other => panic!("{other:?}"),
    }
}

fn edit(page: &mut Page, edit: Value) {
    let edits: Vec<SmallEdit> = serde_json::from_value(json!([edit])).unwrap();
    let merged = page.view().edit_small(ClientId(8), &edits).unwrap();
    page.apply(&merged.update);
}

/// Each piece with where it ends, as a position of ProseMirror.
#[track_caller]
fn ends(format: Format, pieces: &[(&str, u32)]) {
    let (mut page, mut appending) = (Page::new(), Appending::begin(format, None));
    let mut last = None;
    for (piece, expected) in pieces {
        // A piece that only takes something away, or marks it, ends where the one before it does.
        last = appending.piece(&mut page, piece).or(last);
        let end = last.clone().unwrap();
        assert_eq!(number(&mut page, &end), *expected, "behind {:?}", appending.0.now);
    }
}

#[test]
fn rich_text_ends_in_its_last_block() {
    ends(
        Format::Markdown,
        &[
            ("# Head\n\n", 5),
            ("text **bo", 16),
            ("ld**", 16),
            (" and\n\n", 20),
            ("- a\n- b", 30),
            ("\n\n1. \u{1f600}", 38),
        ],
    );
    ends(Format::Markdown, &[("```\nco", 3), ("de\n```", 5)]);
    ends(
        Format::Markdown,
        &[("a  \nb", 4), (" [c](https://", 17), ("x)", 6)],
    );
    ends(Format::Markdown, &[("> quoted", 8), ("\n> more", 13)]);
    ends(Format::Markdown, &[("- [ ] do", 5), (" it", 8)]);
    ends(Format::Markdown, &[("|a|b|\n|-|-|\n|c|d", 22), ("e|\n", 23)]);
    // Behind what holds nothing, and in what holds nothing yet.
    ends(Format::Markdown, &[("x\n\n---\n", 4)]);
    ends(Format::Markdown, &[("x\n\n- ", 5)]);
    ends(Format::Text, &[("one\ntw", 6), ("o\nthree", 13)]);
}

#[test]
fn what_others_write_behind_it_does_not_move_it() {
    let mut page = Page::new();
    page.save(&save(json!("<p>before</p>"), Format::Html));
    let mut appending = Appending::begin(Format::Markdown, None);
    let end = appending.piece(&mut page, "the answer in words").unwrap();
    assert_eq!(number(&mut page, &end), 28);
    edit(
        &mut page,
        json!({ "op": "insert_text", "path": "/default", "after": "words", "text": ", Ada" }),
    );
    edit(
        &mut page,
        json!({ "op": "insert_blocks", "path": "/default", "markdown": "the end" }),
    );
    edit(
        &mut page,
        json!({ "op": "insert_text", "path": "/default", "after": "before", "text": "!!" }),
    );
    assert_eq!(number(&mut page, &end), 30);
    let end = appending.piece(&mut page, " goes on").unwrap();
    assert_eq!(
        page.text("default"),
        "before!!\nthe answer in words goes on, Ada\nthe end"
    );
    assert_eq!(number(&mut page, &end), 38);
    // Where a piece is put in front of what was written before, its end is its own.
    edit(
        &mut page,
        json!({ "op": "replace_text", "path": "/default", "quote": "the answer in", "text": "quite other" }),
    );
    let end = appending.piece(&mut page, "\n\nand more").unwrap();
    let at = page.text("default").find("more").unwrap() as u32 + 4;
    assert_eq!(number(&mut page, &end), at + 3, "{}", page.text("default"));
}

#[test]
fn plain_text_ends_behind_its_last_unit() {
    let mut page = Page::new();
    let mut other = Appending::begin(Format::Text, Some("text"));
    assert_eq!(other.piece(&mut page, ""), None, "nothing was written");
    page.save(&Save {
        field: Some("text".to_owned()),
        ..save(json!("before "), Format::Text)
    });
    let mut appending = Appending::begin(Format::Markdown, Some("text"));
    let end = appending.piece(&mut page, "one \u{1f600}").unwrap();
    assert_eq!(number(&mut page, &end), 13);
    edit(
        &mut page,
        json!({ "op": "insert_text", "path": "/text", "at": 13, "text": "x".repeat(500) }),
    );
    edit(
        &mut page,
        json!({ "op": "insert_text", "path": "/text", "at": 0, "text": "Well: " }),
    );
    let end = appending.piece(&mut page, " two").unwrap();
    assert_eq!(number(&mut page, &end), 23);
}

//! Small edits by backends: all of a list are made, or none.

use pageroom_crdt::{ClientId, Format, MergeError, MergeRefusal, SmallEdit};
use serde_json::{Value, json};

use crate::page::{Page, save};

/// Makes edits of a page.
fn edit(page: &mut Page, edits: Value) -> Result<(), MergeRefusal> {
    let edits: Vec<SmallEdit> = serde_json::from_value(edits).unwrap();
    match page.view().edit_small(ClientId(77), &edits) {
        Ok(merged) => {
            page.apply(&merged.update);
            Ok(())
        }
        Err(MergeError::Refused(refusal)) => Err(refusal),
        Err(MergeError::View(error)) => panic!("{error}"),
    }
}

#[track_caller]
fn edits(start: &mut Page, list: Value, field: &str, expected: Value) {
    let mut page = start.copy();
    edit(&mut page, list).unwrap();
    assert_eq!(page.view().json(Some(field)).unwrap(), Some(expected));
}

#[track_caller]
fn refuses(start: &mut Page, list: Value, expected: &str) {
    let mut page = start.copy();
    let before = page.view().json(None).unwrap();
    let refusal = edit(&mut page, list).unwrap_err();
    assert_eq!(refusal.to_string(), expected);
    assert_eq!(page.view().json(None).unwrap(), before);
}

#[test]
fn values_are_edited_by_path() {
    let mut page = Page::new();
    edit(
        &mut page,
        json!([
            { "op": "add", "path": "/data", "value": { "title": "One", "plain": { "a": { "b": [1, 2] } } } },
            { "op": "add", "path": "/data/shared", "value": { "x": [1, { "y": 2 }] }, "shared": true },
            { "op": "add", "path": "/list/-", "value": "first" },
            { "op": "add", "path": ["list", 0], "value": "zeroth" },
        ]),
    )
    .unwrap();
    let whole = json!({
        "data": { "title": "One", "plain": { "a": { "b": [1, 2] } }, "shared": { "x": [1, { "y": 2 }] } },
        "list": ["zeroth", "first"],
    });
    assert_eq!(page.view().json(None).unwrap(), Some(whole.clone()));
    edits(
        &mut page,
        json!([{ "op": "set", "path": "/data/title", "value": "Two" }]),
        "data",
        {
            let mut data = whole["data"].clone();
            data["title"] = json!("Two");
            data
        },
    );
    edits(
        &mut page,
        json!([
            { "op": "test", "path": "/data/shared/x/1/y", "value": 2 },
            { "op": "replace", "path": "/data/shared/x/1/y", "value": 3.5 },
            { "op": "remove", "path": "/data/shared/x/0" },
            { "op": "add", "path": "/data/plain/a/b/-", "value": 3 },
            { "op": "remove", "path": "/data/plain/a/b/0" },
            { "op": "move", "from": "/data/title", "path": "/data/name" },
        ]),
        "data",
        json!({ "name": "One", "plain": { "a": { "b": [2, 3] } }, "shared": { "x": [{ "y": 3.5 }] } }),
    );
    edits(
        &mut page,
        json!([
            { "op": "copy", "from": "/data/shared", "path": "/list/1" },
            { "op": "set", "path": "/list/0", "value": null },
            { "op": "delete", "path": "/list/2" },
            { "op": "insert", "path": "/list/1", "value": true },
        ]),
        "list",
        json!([null, true, { "x": [1, { "y": 2 }] }]),
    );
    edits(
        &mut page,
        json!([{ "op": "add", "path": "/list", "value": [1] }]),
        "list",
        json!([1]),
    );
    edits(
        &mut page,
        json!([{ "op": "add", "path": "/a~1b/c~0d", "value": 1 }]),
        "a/b",
        json!({ "c~d": 1 }),
    );
    for (list, refusal) in [
        (
            json!({ "op": "test", "path": "/data/title", "value": "No" }),
            "the value at `/data/title` is another one",
        ),
        (
            json!({ "op": "remove", "path": "/data/none" }),
            "there is nothing at `/data/none`",
        ),
        (
            json!({ "op": "replace", "path": "/data/none", "value": 1 }),
            "there is nothing at `/data/none`",
        ),
        (
            json!({ "op": "add", "path": "/data/none/x", "value": 1 }),
            "there is nothing at `/data/none/x`",
        ),
        (
            json!({ "op": "add", "path": "/list/3", "value": 1 }),
            "there is nothing at `/list/3`",
        ),
        (
            json!({ "op": "add", "path": "/list/01", "value": 1 }),
            "the edit is malformed: `/list/01`: an index is a number, or `-`",
        ),
        (
            json!({ "op": "add", "path": "/data/title/x", "value": 1 }),
            "there is nothing at `/data/title/x`",
        ),
        (
            json!({ "op": "move", "from": "/data/shared", "path": "/data/shared/x/0" }),
            "the edit is malformed: nothing is moved into itself",
        ),
    ] {
        let first = json!({ "op": "set", "path": "/data/title", "value": "changed" });
        let is_test = list["op"] == "test";
        let lists = if is_test {
            json!([list])
        } else {
            json!([first, list])
        };
        refuses(&mut page, lists, refusal);
    }
}

#[test]
fn text_is_edited_by_place_and_by_quote() {
    let mut page = Page::new();
    edit(
        &mut page,
        json!([{ "op": "insert_text", "path": "/content", "text": "One 😀 two two" }]),
    )
    .unwrap();
    for (list, text) in [
        (
            json!({ "op": "insert_text", "path": "/content", "at": 0, "text": "> " }),
            "> One 😀 two two",
        ),
        (
            json!({ "op": "insert_text", "path": "/content", "after": "😀", "text": "!" }),
            "One 😀! two two",
        ),
        (
            json!({ "op": "insert_text", "path": "/content", "before": "😀", "text": "!" }),
            "One !😀 two two",
        ),
        (
            json!({ "op": "insert_text", "path": "/content", "at": 14, "text": "." }),
            "One 😀 two two.",
        ),
        (
            json!({ "op": "delete_text", "path": "/content", "at": 4, "length": 3 }),
            "One two two",
        ),
        (
            json!({ "op": "delete_text", "path": "/content", "quote": " 😀" }),
            "One two two",
        ),
        (
            json!({ "op": "replace_text", "path": "/content", "quote": "One", "text": "Eins" }),
            "Eins 😀 two two",
        ),
        (
            json!({ "op": "replace_text", "path": "/content", "at": 7, "length": 3, "text": "2" }),
            "One 😀 2 two",
        ),
    ] {
        edits(&mut page, json!([list]), "content", json!(text));
    }
    for (list, refusal) in [
        (
            json!({ "op": "insert_text", "path": "/content", "at": 5, "text": "." }),
            "the text has 14 units of UTF-16, and these are none of its characters",
        ),
        (
            json!({ "op": "delete_text", "path": "/content", "at": 13, "length": 2 }),
            "the text has 14 units of UTF-16, and these are none of its characters",
        ),
        (
            json!({ "op": "delete_text", "path": "/content", "quote": "two" }),
            "what is to be found stands there 2 times: say more of it",
        ),
        (
            json!({ "op": "delete_text", "path": "/content", "quote": "three" }),
            "what is to be found does not stand there",
        ),
        (
            json!({ "op": "delete_text", "path": "/content", "at": 1 }),
            "the edit is malformed: a range is `at` and `length`, or a `quote`",
        ),
    ] {
        refuses(&mut page, json!([list]), refusal);
    }
    // A text in a map is one, too.
    let bold = json!([{ "op": "insert_text", "path": "/content", "at": 3, "text": "!", "attributes": { "bold": true } }]);
    edit(&mut page, bold).unwrap();
    let delta = page
        .view()
        .shown(pageroom_crdt::Form::Delta, None)
        .unwrap()
        .unwrap();
    let expected = json!({ "ops": [
        { "insert": "One" }, { "insert": "!", "attributes": { "bold": true } }, { "insert": " 😀 two two" },
    ] });
    assert_eq!(serde_json::from_str::<Value>(&delta).unwrap(), expected);
}

#[test]
fn rich_text_is_edited_by_what_stands_there() {
    let mut page = Page::new();
    let html = "<h1>Title</h1><p>One <strong>two</strong> three</p><h2>Next</h2><p>four</p>";
    page.save(&save(json!(html), Format::Html));
    let shown = |page: &mut Page| page.view().whole("default", Format::Html).unwrap().unwrap();
    for (list, html) in [
        (
            json!({ "op": "replace_text", "path": "/default", "quote": "wo", "text": "oo" }),
            "<h1>Title</h1><p>One <strong>too</strong> three</p><h2>Next</h2><p>four</p>",
        ),
        (
            json!({ "op": "delete_text", "path": "/default", "quote": "two three" }),
            "<h1>Title</h1><p>One </p><h2>Next</h2><p>four</p>",
        ),
        (
            json!({ "op": "insert_blocks", "path": "/default", "after_heading": "Next", "markdown": "- a\n- **b**" }),
            "<h1>Title</h1><p>One <strong>two</strong> three</p><h2>Next</h2><ul><li><p>a</p></li><li><p><strong>b</strong></p></li></ul>\
             <p>four</p>",
        ),
        (
            json!({ "op": "insert_blocks", "path": "/default", "before": "One", "html": "<p>zero</p>" }),
            "<h1>Title</h1><p>zero</p><p>One <strong>two</strong> three</p><h2>Next</h2><p>four</p>",
        ),
        (
            json!({ "op": "insert_blocks", "path": "/default", "markdown": "end" }),
            "<h1>Title</h1><p>One <strong>two</strong> three</p><h2>Next</h2><p>four</p><p>end</p>",
        ),
    ] {
        let mut edited = page.copy();
        edit(&mut edited, json!([list])).unwrap();
        assert_eq!(shown(&mut edited), json!(html));
    }
    refuses(
        &mut page,
        json!([{ "op": "insert_text", "path": "/default", "at": 0, "text": "x" }]),
        "the edit is malformed: in rich text a place is said by what stands there, as `after`, `before` or `quote`",
    );
    let mut empty = Page::new();
    edit(
        &mut empty,
        json!([{ "op": "insert_blocks", "path": "/notes", "markdown": "# New" }]),
    )
    .unwrap();
    assert_eq!(
        empty.view().whole("notes", Format::Html).unwrap(),
        Some(json!("<h1>New</h1>"))
    );
}

#[test]
fn what_walks_through_a_large_page_again_and_again_is_refused() {
    let mut page = Page::new();
    let text = "word ".repeat(40_000);
    edit(
        &mut page,
        json!([{ "op": "insert_text", "path": "/content", "text": text }]),
    )
    .unwrap();
    let again = json!({ "op": "insert_text", "path": "/content", "at": 0, "text": "x" });
    let many = Value::Array(vec![again; 1000]);
    refuses(
        &mut page,
        many,
        "these are too many edits of a page this large: make them in several requests",
    );
}

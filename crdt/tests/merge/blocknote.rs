//! Pages of BlockNote's blocks: read and saved in every form, they stay what BlockNote reads.

use pageroom_crdt::testing::Random;
use pageroom_crdt::{AppendedPiece, ClientId, Form, Format, MergeError, MergeRefusal, Save, SmallEdit};
use serde_json::{Value, json};

use crate::page::{Page, certain, save};

const FIELD: &str = "document-store";

fn block(id: &str, kind: &str, text: &str, children: Value) -> Value {
    json!({ "id": id, "type": kind, "content": [{ "type": "text", "text": text, "styles": {} }], "children": children })
}

fn page_of(blocks: &Value) -> Page {
    let mut page = Page::new();
    page.save(&save(blocks.clone(), Format::Blocknote));
    page
}

fn read(page: &mut Page, form: Form) -> String {
    let shown = page.view().shown(form, Some(FIELD)).unwrap().unwrap();
    is_document(page);
    shown
}

fn blocks(page: &mut Page) -> Value {
    serde_json::from_str(&read(page, Form::Blocknote)).unwrap()
}

/// Saves what an author made of what it had read.
fn put(page: &mut Page, format: Format, base: Value, content: Value) {
    let save = Save {
        field: Some(FIELD.to_owned()),
        candidates: vec![certain(base)],
        ..save(content, format)
    };
    let merged = page.view().merge_shown(ClientId(79), save).unwrap();
    if !merged.update.is_empty() {
        page.apply(&merged.update);
    }
    is_document(page);
}

/// Checks that a page is what BlockNote's schema allows: a group of blocks, each with one content and at most one group in it.
#[track_caller]
fn is_document(page: &mut Page) {
    let document = page.view().whole(FIELD, Format::Prosemirror).unwrap().unwrap();
    let groups = document["content"].as_array().unwrap();
    assert_eq!(groups.len(), 1, "{document}");
    is_group(&groups[0]);
}

#[track_caller]
fn is_group(group: &Value) {
    assert_eq!(group["type"], "blockGroup", "{group}");
    let blocks = group["content"].as_array().unwrap();
    for block in blocks {
        assert_eq!(block["type"], "blockContainer", "{block}");
        assert!(block["attrs"]["id"].is_string(), "{block}");
        match block["content"].as_array().unwrap().as_slice() {
            [content] => assert_ne!(content["type"], "blockGroup"),
            [content, group] => {
                assert_ne!(content["type"], "blockGroup");
                is_group(group);
            }
            others => panic!("{} things in a block: {block}", others.len()),
        }
    }
}

fn texts(blocks: &Value) -> Value {
    let text = |block: &Value| {
        let parts = block["content"].as_array().into_iter().flatten();
        let text: String = parts.filter_map(|part| part["text"].as_str()).collect();
        json!([block["type"], text, texts(&block["children"])])
    };
    blocks.as_array().unwrap().iter().map(text).collect()
}

fn document() -> Value {
    json!([
        { "id": "a", "type": "heading", "props": { "level": 2, "textColor": "red" }, "content": "Title" },
        { "id": "b", "type": "paragraph", "props": { "textAlignment": "center" }, "content": [
            { "type": "text", "text": "one\ntwo ", "styles": {} },
            { "type": "text", "text": "bold", "styles": { "bold": true, "backgroundColor": "blue" } },
            { "type": "link", "href": "https://example.org", "content": [{ "type": "text", "text": "link", "styles": { "italic": true } }] },
            { "type": "mention", "props": { "id": "ada", "label": "Ada" } },
        ], "children": [block("c", "bulletListItem", "inner", json!([block("d", "bulletListItem", "deep", json!([]))]))] },
        { "id": "e", "type": "numberedListItem", "props": { "start": 3 }, "content": "three" },
        { "id": "f", "type": "numberedListItem", "content": "four" },
        { "id": "g", "type": "checkListItem", "props": { "checked": true }, "content": "done" },
        { "id": "h", "type": "toggleListItem", "content": "toggle", "children": [block("i", "paragraph", "hidden", json!([]))] },
        { "id": "j", "type": "codeBlock", "props": { "language": "rust" }, "content": "let a;\n\nlet *b*;" },
        { "id": "k", "type": "quote", "content": "said" },
        { "id": "l", "type": "divider" },
        { "id": "m", "type": "table", "content": { "type": "tableContent", "headerRows": 1, "columnWidths": [100, null], "rows": [
            { "cells": ["a", [{ "type": "text", "text": "b", "styles": { "bold": true } }]] },
            { "cells": [{ "type": "tableCell", "content": "c", "props": { "backgroundColor": "red" } }, ""] },
        ] } },
        { "id": "n", "type": "image", "props": { "url": "https://example.org/a.png", "name": "a cat", "caption": "Tom", "previewWidth": 200 } },
        { "id": "o", "type": "video", "props": { "url": "https://example.org/a.mp4" } },
        { "id": "p", "type": "paragraph" },
    ])
}

#[test]
fn blocks_are_read_as_html_markdown_and_text() {
    let mut page = page_of(&document());
    assert_eq!(
        read(&mut page, Form::Markdown),
        "## Title\n\none\\\ntwo **bold**[*link*](https://example.org)<span data-type=\"mention\" data-id=\"ada\" data-label=\"Ada\">@Ada</span>\n\n\
         <div data-type=\"children\">\n\n- inner\n  - deep\n\n</div>\n\n3. three\n4. four\n\n<!-- end list -->\n\n- [x] done\n\n\
         <details><summary>toggle</summary><p>hidden</p></details>\n\n```rust\nlet a;\n\nlet *b*;\n```\n\n> said\n\n-----\n\n\
         | a | **b** |\n| --- | --- |\n| c |  |\n\n![a cat](https://example.org/a.png \"Tom\")\n\n\
         [https://example.org/a.mp4](https://example.org/a.mp4)\n"
            .replace("[https://example.org/a.mp4](https://example.org/a.mp4)", "<https://example.org/a.mp4>")
    );
    assert_eq!(
        read(&mut page, Form::Html),
        "<h2 data-text-color=\"red\" style=\"color:red\">Title</h2><p data-text-alignment=\"center\" style=\"text-align:center\">one<br>two \
         <span data-mark=\"backgroundColor\" data-value=\"blue\" style=\"background-color:blue\"><strong>bold</strong></span>\
         <a href=\"https://example.org\"><em>link</em></a><span data-type=\"mention\" data-id=\"ada\" data-label=\"Ada\">@Ada</span></p>\
         <div data-type=\"children\"><ul><li><p>inner</p><ul><li><p>deep</p></li></ul></li></ul></div>\
         <ol start=\"3\"><li><p>three</p></li><li><p>four</p></li></ol><ul data-type=\"taskList\"><li data-checked=\"true\" data-type=\"taskItem\">\
         <label><input checked=\"checked\" type=\"checkbox\"><span></span></label><div><p>done</p></div></li></ul><details><summary>toggle</summary>\
         <p>hidden</p></details><pre><code class=\"language-rust\">let a;\n\nlet *b*;</code></pre><blockquote><p>said</p></blockquote><hr>\
         <table><tbody><tr><th><p>a</p></th><th><p><strong>b</strong></p></th></tr><tr><td data-background-color=\"red\" style=\"background-color:red\">\
         <p>c</p></td><td><p></p></td></tr></tbody></table><img alt=\"a cat\" src=\"https://example.org/a.png\" title=\"Tom\">\
         <p><a data-type=\"video\" href=\"https://example.org/a.mp4\">https://example.org/a.mp4</a></p><p></p>"
    );
    let text = read(&mut page, Form::Text);
    assert!(text.starts_with("Title\none\ntwo boldlink"), "{text}");
    assert!(
        text.contains("inner\ndeep\nthree\nfour\ndone\ntoggle\nhidden\nlet a;"),
        "{text}"
    );
}

#[test]
fn blocks_come_back_from_every_form() {
    let mut page = page_of(&document());
    let held = blocks(&mut page);
    // With what they have by default.
    assert_eq!(
        held[0]["props"],
        json!({
            "backgroundColor": "default", "isToggleable": false, "level": 2, "textAlignment": "left", "textColor": "red",
        })
    );
    assert_eq!(held[9]["content"]["columnWidths"], json!([100, null]));
    assert_eq!(held[9]["content"]["headerRows"], 1);
    assert_eq!(held[9]["content"]["headerCols"], Value::Null);
    for (form, format, is_json) in [
        (Form::Blocknote, Format::Blocknote, true),
        (Form::Prosemirror, Format::Prosemirror, true),
        (Form::Html, Format::Html, false),
        (Form::Markdown, Format::Markdown, false),
    ] {
        let shown = read(&mut page, form);
        let content = if is_json {
            serde_json::from_str(&shown).unwrap()
        } else {
            json!(shown)
        };
        // Saved as it was read, nothing changes.
        let again = Save {
            field: Some(FIELD.to_owned()),
            had_current: true,
            ..save(content.clone(), format)
        };
        let merged = page.view().merge_shown(ClientId(79), again).unwrap();
        assert!(merged.update.is_empty(), "{form:?}");
        // A page of its own: only those two know the ids, and Markdown does not know how it looks.
        if is_json {
            let mut other = Page::new();
            other.save(&Save {
                field: Some(FIELD.to_owned()),
                ..save(content, format)
            });
            assert_eq!(blocks(&mut other), held, "{format:?}");
            continue;
        }
        let mut other = page_of(&json!([{ "id": "z", "type": "paragraph" }]));
        let read_there = json!(read(&mut other, form));
        put(&mut other, format, read_there, content);
        // A link to a film is only a link there.
        let known = held
            .as_array()
            .unwrap()
            .iter()
            .map(|block| match block["type"].as_str() {
                Some("video") if format == Format::Markdown => json!(["paragraph", "", []]),
                _ => texts(&json!([block]))[0].clone(),
            });
        let is_said = |block: &Value| *block != json!(["paragraph", "", []]);
        let known: Vec<_> = known.filter(is_said).collect();
        let mut now = texts(&blocks(&mut other)).as_array().unwrap().clone();
        now.retain(is_said);
        assert_eq!(now, known, "{format:?}");
    }
}

#[test]
fn edits_of_both_sides_are_in_the_blocks() {
    let base = json!([
        block("a", "paragraph", "one two three", json!([])),
        block(
            "b",
            "bulletListItem",
            "item",
            json!([block("c", "paragraph", "within", json!([]))])
        ),
        block("d", "paragraph", "last", json!([])),
    ]);
    let theirs = json!([
        block(
            "a",
            "paragraph",
            "one two three by bob",
            json!([block("x", "paragraph", "his", json!([]))])
        ),
        block("b", "bulletListItem", "item", json!([])),
        block("d", "paragraph", "last", json!([])),
    ]);
    let ours = json!([
        block("n", "paragraph", "new", json!([])),
        block(
            "a",
            "heading",
            "one 2 three",
            json!([block("y", "paragraph", "hers", json!([]))])
        ),
        block(
            "b",
            "checkListItem",
            "item of ada",
            json!([
                block("c", "paragraph", "within", json!([])),
                block("e", "quote", "more", json!([]))
            ])
        ),
    ]);
    let mut page = page_of(&base);
    let read_by_both = blocks(&mut page);
    put(&mut page, Format::Blocknote, read_by_both.clone(), theirs);
    put(&mut page, Format::Blocknote, read_by_both, ours);
    let now = blocks(&mut page);
    assert_eq!(
        texts(&now),
        json!([
            ["paragraph", "new", []],
            [
                "heading",
                "one 2 three by bob",
                [["paragraph", "hers", []], ["paragraph", "his", []]]
            ],
            ["checkListItem", "item of ada", [["quote", "more", []]]],
        ])
    );
    assert_eq!([&now[0]["id"], &now[1]["id"], &now[2]["id"]], ["n", "a", "b"]);
}

#[test]
fn two_kinds_of_one_block_are_one_kind() {
    let mut page = page_of(&json!([block("a", "paragraph", "text", json!([]))]));
    let base = blocks(&mut page);
    put(
        &mut page,
        Format::Blocknote,
        base.clone(),
        json!([block("a", "heading", "text by bob", json!([]))]),
    );
    put(
        &mut page,
        Format::Blocknote,
        base.clone(),
        json!([block("a", "quote", "ada's text", json!([]))]),
    );
    assert_eq!(
        texts(&blocks(&mut page)),
        json!([["heading", "ada's text by bob", []]])
    );
    // What has no text cannot be what others write in.
    put(
        &mut page,
        Format::Blocknote,
        base,
        json!([{ "id": "a", "type": "divider" }]),
    );
    let now = texts(&blocks(&mut page));
    assert!(
        now.to_string().contains("by bob") && now.to_string().contains("divider"),
        "{now}"
    );
}

#[test]
fn blocks_that_both_sides_take_out_together_leave_a_document() {
    let mut page = page_of(&json!([
        block(
            "a",
            "paragraph",
            "one",
            json!([
                block("b", "paragraph", "two", json!([])),
                block("c", "paragraph", "three", json!([]))
            ])
        ),
        block("d", "paragraph", "four", json!([])),
    ]));
    let base = blocks(&mut page);
    let a = |children: Value| block("a", "paragraph", "one", children);
    put(
        &mut page,
        Format::Blocknote,
        base.clone(),
        json!([a(json!([block("b", "paragraph", "two", json!([]))]))]),
    );
    put(
        &mut page,
        Format::Blocknote,
        base.clone(),
        json!([
            a(json!([block("c", "paragraph", "three", json!([]))])),
            block("d", "paragraph", "four", json!([]))
        ]),
    );
    assert_eq!(texts(&blocks(&mut page)), json!([["paragraph", "one", []]]));
    put(&mut page, Format::Blocknote, base, json!([]));
    assert_eq!(texts(&blocks(&mut page)), json!([["paragraph", "", []]]));
}

#[test]
fn markdown_and_html_become_blocks_among_blocks() {
    let mut page = page_of(&document());
    let base = json!(read(&mut page, Form::Markdown));
    let changed = base
        .as_str()
        .unwrap()
        .replace("three", "three and a half")
        .replace(
            "## Title",
            "## The title\n\nnew *words* ![p](p.png) behind\n\n- [ ] open\n  - nested",
        );
    put(&mut page, Format::Markdown, base, json!(changed));
    let base = json!(read(&mut page, Form::Html));
    let changed = base.as_str().unwrap().replace("<hr>", "<hr><section><kbd>key</kbd> and <mark>mark</mark><p style=\"color: green\">x<sub>2</sub></p></section>");
    put(&mut page, Format::Html, base, json!(changed));
    let now = blocks(&mut page);
    let kinds: Vec<_> = now
        .as_array()
        .unwrap()
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(
        kinds,
        [
            "heading",
            "paragraph",
            "image",
            "paragraph",
            "checkListItem",
            "paragraph",
            "numberedListItem",
            "numberedListItem",
            "checkListItem",
            "toggleListItem",
            "codeBlock",
            "quote",
            "divider",
            "paragraph",
            "paragraph",
            "table",
            "image",
            "video",
            "paragraph",
        ]
    );
    // What is not shown in Markdown stays.
    assert_eq!(
        (&now[0]["id"], &now[0]["props"]["textColor"]),
        (&json!("a"), &json!("red"))
    );
    assert_eq!(now[4]["children"][0]["type"], "bulletListItem");
    assert_eq!(now[6]["content"][0]["text"], "three and a half");
    assert_eq!(now[14]["props"]["textColor"], "green");
    assert_eq!(
        now[13]["content"][1]["styles"],
        json!({ "backgroundColor": "yellow" })
    );
    assert_eq!(
        (&now[15]["id"], &now[15]["content"]["columnWidths"]),
        (&json!("m"), &json!([100, null]))
    );
    assert_eq!(now[16]["props"]["previewWidth"], 200);
}

#[test]
fn blocks_and_other_nodes_are_not_mixed() {
    let mut page = page_of(&document());
    let tiptap = json!({ "type": "doc", "content": [{ "type": "paragraph" }] });
    let refused = page.view().merge(
        ClientId(9),
        &Save {
            field: Some(FIELD.to_owned()),
            ..save(tiptap, Format::Prosemirror)
        },
    );
    assert!(
        matches!(refused, Err(MergeError::Refused(MergeRefusal::Conflict { .. }))),
        "{refused:?}"
    );
    // A page of another editor's has what is saved as blocks as its own nodes.
    let mut page = Page::new();
    page.save(&save(json!("<h1>A</h1><ul><li><p>b</p></li></ul>"), Format::Html));
    let read = page.view().shown(Form::Blocknote, None).unwrap().unwrap();
    let mut blocks: Value = serde_json::from_str(&read).unwrap();
    assert_eq!(
        texts(&blocks),
        json!([["heading", "A", []], ["bulletListItem", "b", []]])
    );
    blocks
        .as_array_mut()
        .unwrap()
        .push(json!({ "type": "bulletListItem", "content": "c" }));
    let save_blocks = Save {
        had_current: true,
        ..save(blocks, Format::Blocknote)
    };
    let merged = page.view().merge_shown(ClientId(79), save_blocks).unwrap();
    page.apply(&merged.update);
    assert_eq!(
        page.view().whole("default", Format::Html).unwrap(),
        Some(json!("<h1>A</h1><ul><li><p>b</p></li><li><p>c</p></li></ul>"))
    );
    let group = json!({ "type": "doc", "content": [{ "type": "blockGroup", "content": [] }] });
    let refused = page.view().merge(ClientId(9), &save(group, Format::Prosemirror));
    assert!(
        matches!(refused, Err(MergeError::Refused(MergeRefusal::Conflict { .. }))),
        "{refused:?}"
    );
}

#[test]
fn edits_and_what_is_appended_become_blocks() {
    let mut page = page_of(&json!([
        block("a", "heading", "Plan", json!([])),
        block("b", "paragraph", "one", json!([]))
    ]));
    let edit = json!({ "op": "insert_blocks", "path": "/document-store", "after_heading": "Plan", "markdown": "- until\n- Friday" });
    let edit: SmallEdit = serde_json::from_value(edit).unwrap();
    let merged = page.view().edit_small(ClientId(78), &[edit]).unwrap();
    page.apply(&merged.update);
    is_document(&mut page);
    let mut append = pageroom_crdt::Append {
        field: None,
        format: Format::Markdown,
        anchor: None,
        before: String::new(),
        now: "> sa".to_owned(),
    };
    for now in ["> said", "> said\n\nend"] {
        let merged = page.view().append(ClientId(80), &append).unwrap();
        page.apply(&merged.update);
        is_document(&mut page);
        let piece: AppendedPiece = serde_json::from_value(merged.content).unwrap();
        assert!(piece.end.is_some(), "it ends in a block");
        append.anchor.get_or_insert(piece.anchor);
        append.before = std::mem::replace(&mut append.now, now.to_owned());
    }
    let merged = page.view().append(ClientId(80), &append).unwrap();
    page.apply(&merged.update);
    assert_eq!(
        texts(&blocks(&mut page)),
        json!([
            ["heading", "Plan", []],
            ["bulletListItem", "until", []],
            ["bulletListItem", "Friday", []],
            ["paragraph", "one", []],
            ["quote", "said", []],
            ["paragraph", "end", []],
        ])
    );
}

#[test]
fn what_is_no_list_of_blocks_is_refused() {
    for content in [
        json!({}),
        json!(["x"]),
        json!([{ "type": 7 }]),
        json!([{ "type": "blockGroup" }]),
        json!([{ "type": "paragraph", "content": [{ "type": "text" }] }]),
        json!([{ "type": "paragraph", "props": [] }]),
        json!([{ "type": "paragraph", "children": "x" }]),
        json!([{ "type": "table", "content": {} }]),
        json!([{ "type": "table", "content": { "rows": [{ "cells": [{ "type": "tableCell", "props": { "colspan": 1_000_000 } }, "a"] }] } }]),
        (0..100).fold(json!([]), |children, _| json!([{ "children": children }])),
    ] {
        let refused = Page::new().try_save(&save(content.clone(), Format::Blocknote));
        assert!(
            matches!(refused, Err(MergeError::Refused(MergeRefusal::Malformed { .. }))),
            "{content}: {refused:?}"
        );
    }
}

/// Blocks at their ways through the tree, in its order.
fn ways(blocks: &Value, way: &[usize], found: &mut Vec<Vec<usize>>) {
    for (at, block) in blocks.as_array().unwrap().iter().enumerate() {
        let way: Vec<_> = way.iter().copied().chain([at]).collect();
        ways(&block["children"], &way, found);
        found.push(way);
    }
}

/// The list in which a block is.
fn list<'a>(blocks: &'a mut Value, way: &[usize]) -> &'a mut Vec<Value> {
    let (_, above) = way.split_last().unwrap();
    let list = above
        .iter()
        .fold(blocks, |blocks, at| &mut blocks[*at]["children"]);
    list.as_array_mut().unwrap()
}

const KINDS: [&str; 6] = [
    "paragraph",
    "heading",
    "bulletListItem",
    "checkListItem",
    "quote",
    "codeBlock",
];

/// What an author makes of blocks, and the words that it puts in. Blocks with its own words stay.
fn author(name: &str, base: &Value, random: &mut Random) -> (Value, Vec<String>) {
    let (mut blocks, mut words) = (base.clone(), Vec::new());
    for number in 0..1 + random.below(5) {
        let mut found = Vec::new();
        ways(&blocks, &[], &mut found);
        let way = random.pick(&found).clone();
        let at = *way.last().unwrap();
        let word = format!("{name}{number}");
        match random.below(5) {
            0 => {
                let kind = random.pick(&KINDS);
                list(&mut blocks, &way).insert(at, block(&word, kind, &word, json!([])));
                words.push(word);
            }
            1 => {
                let children = list(&mut blocks, &way)[at]["children"].as_array_mut().unwrap();
                children.push(block(&word, "paragraph", &word, json!([])));
                words.push(word);
            }
            2 => {
                let one = &mut list(&mut blocks, &way)[at];
                let text = format!("{word} {}", one["content"][0]["text"].as_str().unwrap());
                one["content"] = json!([{ "type": "text", "text": text, "styles": {} }]);
                words.push(word);
            }
            3 if found.len() > 3 && !list(&mut blocks, &way)[at].to_string().contains(name) => {
                list(&mut blocks, &way).remove(at);
            }
            _ => list(&mut blocks, &way)[at]["type"] = json!(random.pick(&KINDS)),
        }
    }
    (blocks, words)
}

#[test]
fn whatever_two_do_to_blocks_is_a_document_with_the_words_of_both() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let word = |index: u32| format!("{0}x{0}y{0}", char::from(b'a' + index as u8));
        let leaf = |index: u32, children: Value| {
            block(
                &word(index),
                KINDS[index as usize % 5],
                &format!("{} of the base", word(index)),
                children,
            )
        };
        let base = json!([
            leaf(
                0,
                json!([leaf(1, json!([leaf(2, json!([]))])), leaf(3, json!([]))])
            ),
            leaf(4, json!([])),
            leaf(5, json!([leaf(6, json!([]))])),
            leaf(7, json!([])),
        ]);
        let mut page = page_of(&base);
        let read_by_both = blocks(&mut page);
        let (adas, ada) = author("ADA", &base, &mut random);
        let (bobs, bob) = author("BOB", &base, &mut random);
        for theirs in [&adas, &bobs] {
            put(&mut page, Format::Blocknote, read_by_both.clone(), theirs.clone());
        }
        let now = blocks(&mut page);
        let text = texts(&now).to_string();
        for word in ada.iter().chain(&bob) {
            let count = text
                .split(|letter: char| !letter.is_alphanumeric())
                .filter(|found| found == word)
                .count();
            assert_eq!(
                count,
                1,
                "{word} of {seed}: {text}\n{}\n{}",
                texts(&adas),
                texts(&bobs)
            );
        }
    }
}

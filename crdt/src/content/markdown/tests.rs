//! What goes into Markdown comes out of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::json;

use super::{parse, write};
use crate::content::nodes::{Node, Unit};
use crate::content::{html, prosemirror};

#[test]
fn markdown_comes_out_as_it_went_in() {
    for markdown in [
        "",
        "One **two** *three* ~~four~~ `five`\n",
        "# Title\n\nText\n\n## Sub *title*\n",
        "- one\n- two\n  - inner\n- three\n",
        "3. three\n4. four\n",
        "- [ ] open\n- [x] done\n",
        "> said\n> \n> by her\n",
        "```rust\nfn main() {\n\n    \"`\";\n}\n```\n",
        "a\\\nb\n",
        "[link **bold**](https://example.org/?a=1&b=2 \"title\") and ![alt](x.png)\n",
        "| a | b |\n| --- | --- |\n| c \\| d | **e** |\n",
        "-----\n",
        "1\\. no list, \\# no heading, \\* no star, \\[no link\\](x), \\<b\\>, a\\_b\n",
        "H<sub>2</sub>O <u>under **strong**</u>\n",
        "- one\n  \n  two\n\n- three\n",
        "- one\n  \n  3. three\n\n- two\n",
    ] {
        let units = parse(markdown).expect(markdown);
        assert_eq!(write(&units), markdown, "{}", html::write(&units));
    }
}

#[test]
fn what_tiptap_writes_has_a_form_in_markdown() {
    for (from, to) in [
        ("<p></p><p>a</p>", "a\n"),
        (
            "<p><strong>bold </strong>plain</p>",
            "<strong>bold </strong>plain\n",
        ),
        (
            "<p><strong>a<em>b</em></strong><em>c</em></p>",
            "**a<em>b</em>**<em>c</em>\n",
        ),
        ("<p><em><strong>a</strong> b</em></p>", "***a** b*\n"),
        ("<p><strong>a <em>b</em> c</strong></p>", "**a *b* c**\n"),
        ("<p>a<em>b</em>c, <em>!</em>c</p>", "a*b*c, <em>\\!</em>c\n"),
        ("<p><em class=\"loud\">a</em></p>", "<em class=\"loud\">a</em>\n"),
        (
            "<p><a href=\"/grün\" title=\"&amp;lt;\">a</a></p>",
            "<a href=\"/grün\" title=\"&amp;lt;\">a</a>\n",
        ),
        ("<p>  two spaces</p>", "&#32; two spaces\n"),
        (
            "<img src=\"cat.png\" alt=\"a [cat]\">",
            "![a \\[cat\\]](cat.png)\n",
        ),
        ("<h2>a<br>b</h2>", "## a<br>b\n"),
        (
            "<table><tbody><tr><td><p>a</p><p>b</p></td><td><p>c</p></td></tr></tbody></table>",
            "|  |  |\n| --- | --- |\n| a<br>b | c |\n",
        ),
        (
            "<p>Hi <span data-type=\"mention\" data-id=\"7\" data-label=\"Ada\">@Ada</span></p>",
            "Hi <span data-type=\"mention\" data-id=\"7\" data-label=\"Ada\">@Ada</span>\n",
        ),
        (
            "<div class=\"x\"><p>a</p><ul><li><p>b</p></li></ul></div>",
            "<div class=\"x\">\n\na\n\n- b\n\n</div>\n",
        ),
        (
            "<ul><li><div><p>a</p></div></li></ul>",
            "- <div>\n  \n  a\n  \n  </div>\n",
        ),
        (
            "<p>a <abbr title=\"*\">*b*</abbr></p>",
            "a <abbr title=\"*\">&#42;b&#42;</abbr>\n",
        ),
        ("<blockquote></blockquote>", "> \n"),
        (
            "<details><summary>more</summary><p>a</p></details>",
            "<details><summary>more</summary><p>a</p></details>\n",
        ),
        ("<p><a href=\"javascript:alert(1)\">x</a></p>", "x\n"),
    ] {
        assert_eq!(write(&html::parse(from).expect(from)), to);
    }
}

#[test]
fn what_is_read_is_read_as_an_editor_has_it() {
    for (markdown, written) in [
        ("text", "<p>text</p>"),
        (
            "- [x] done\n- [ ] open **b**",
            "<ul data-type=\"taskList\"><li data-checked=\"true\" data-type=\"taskItem\"><label><input type=\"checkbox\" \
             checked=\"checked\"><span></span></label><div><p>done</p></div></li><li data-checked=\"false\" data-type=\"taskItem\">\
             <label><input type=\"checkbox\"><span></span></label><div><p>open <strong>b</strong></p></div></li></ul>",
        ),
        ("```\na\n\nb\n```", "<pre><code>a\n\nb</code></pre>"),
        ("![a](b.png)", "<img alt=\"a\" src=\"b.png\">"),
        (
            "|a|b|\n|-|-|\n|c|d|",
            "<table><tbody><tr><th><p>a</p></th><th><p>b</p></th></tr><tr><td><p>c</p></td><td><p>d</p></td></tr></tbody></table>",
        ),
        ("a<script>alert(1)</script>b", "<p>ab</p>"),
    ] {
        assert_eq!(html::write(&parse(markdown).expect(markdown)), written);
    }
}

/// Begins of several marks at one place, of which the outer one goes on: found by `marks_are_read_where_they_were`.
#[test]
fn a_sign_that_stands_before_another_one_is_read() {
    let marked = |text: &str, names: &[&str]| -> Vec<Unit> {
        let marks = Rc::new(
            names
                .iter()
                .map(|name| ((*name).to_owned(), json!({})))
                .collect::<BTreeMap<_, _>>(),
        );
        text.chars()
            .map(|character| Unit::Character(character, marks.clone()))
            .collect()
    };
    for (outer, inner) in [
        ("strike", "bold"),
        ("strike", "italic"),
        ("bold", "strike"),
        ("italic", "strike"),
        ("bold", "italic"),
        ("italic", "bold"),
    ] {
        for (before, within, behind) in [
            ("a", "a", "!"),
            ("a", "!", "a"),
            ("!", "a", "a"),
            (" ", "!", "!"),
            ("a", "a", "a"),
        ] {
            let line = [
                marked(before, &[]),
                marked(within, &[outer, inner]),
                marked(behind, &[outer]),
            ]
            .concat();
            let units = vec![Unit::Node(Node::new("paragraph", BTreeMap::new(), line))];
            let markdown = write(&units);
            let again = parse(&markdown).expect("Markdown");
            assert_eq!(
                prosemirror::write(&again),
                prosemirror::write(&units),
                "{markdown}"
            );
        }
    }
}

/// Elements of HTML stand for the marks whose signs would not be read as such.
#[test]
fn a_sign_beside_one_of_another_kind_is_read() {
    for (from, to) in [
        ("<p>a<s><strong>b</strong>*</s></p>", "a<s>**b**\\*</s>\n"),
        ("<p>a <s><strong>b</strong>c</s></p>", "a ~~**b**c~~\n"),
        ("<p>a<strong><em>b</em>c</strong></p>", "a***b*c**\n"),
    ] {
        let units = html::parse(from).expect(from);
        let markdown = write(&units);
        assert_eq!(markdown, to);
        assert_eq!(
            prosemirror::write(&parse(&markdown).expect(to)),
            prosemirror::write(&units)
        );
    }
}

/// Lines of text with marks: white space stands only where Markdown keeps it.
fn line() -> impl Strategy<Value = Vec<Unit>> {
    let names = prop::sample::select(vec!["bold", "italic", "strike", "underline", "link", "code"]);
    let marks = prop::collection::btree_set(names, 0..3);
    let piece = ("[a-c*_~`!\\[\\]<>&;#.|\\\\é🌍\u{a0} -]{1,4}", marks).prop_map(|(text, marks)| {
        let marks = marks.into_iter().map(|name| match name {
            "link" => (name.to_owned(), json!({ "href": "https://example.org/?a=1&b=2" })),
            name => (name.to_owned(), json!({})),
        });
        let marks = Rc::new(marks.collect::<BTreeMap<_, _>>());
        text.chars()
            .map(|character| Unit::Character(character, marks.clone()))
            .collect::<Vec<_>>()
    });
    let is_space = |unit: Option<&Unit>| matches!(unit, Some(Unit::Character(' ', _)));
    prop::collection::vec(piece, 1..6)
        .prop_map(|pieces| pieces.into_iter().flatten().collect::<Vec<_>>())
        .prop_filter("spaces at the end are none", move |line| !is_space(line.last()))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn marks_are_read_where_they_were(line in line()) {
        let heading = BTreeMap::from([("level".to_owned(), json!(2))]);
        let item = |line: Vec<Unit>| Unit::Node(Node::new("paragraph", BTreeMap::new(), line));
        let cell = |name: &str, line: Vec<Unit>| Unit::Node(Node::new(name, BTreeMap::new(), vec![item(line)]));
        let row = |cell: Unit| Unit::Node(Node::new("tableRow", BTreeMap::new(), vec![cell]));
        let rows = vec![row(cell("tableHeader", line.clone())), row(cell("tableCell", line.clone()))];
        let units = vec![
            item(line.clone()),
            Unit::Node(Node::new("heading", heading, line.clone())),
            Unit::Node(Node::new("blockquote", BTreeMap::new(), vec![item(line)])),
            Unit::Node(Node::new("table", BTreeMap::new(), rows)),
        ];
        let markdown = write(&units);
        let again = parse(&markdown).expect("Markdown");
        prop_assert_eq!(prosemirror::write(&again), prosemirror::write(&units), "{}", markdown);
    }
}

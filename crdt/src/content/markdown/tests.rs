//! What goes into Markdown comes out of it.

use super::{parse, write};
use crate::content::html;

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
    ] {
        let units = parse(markdown).expect(markdown);
        assert_eq!(write(&units), markdown, "{}", html::write(&units));
    }
}

#[test]
fn what_tiptap_writes_has_a_form_in_markdown() {
    for (from, to) in [
        ("<p></p><p>a</p>", "a\n"),
        ("<p><strong>bold </strong>plain</p>", "**bold&#32;**plain\n"),
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
        ("<div><p>a</p></div>", "a\n"),
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

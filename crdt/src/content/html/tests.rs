//! What goes into HTML comes out of it.

use std::collections::BTreeMap;
use std::rc::Rc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{dom, parse, safe, write, write_safely};
use crate::content::nodes::{Node, Unit};
use crate::content::prosemirror;

#[test]
fn documents_come_out_as_they_went_in() {
    for html in [
        "",
        "<p></p>",
        "<p>One <strong>two</strong> <em>three</em></p><h2>Four</h2>",
        "<p>a &amp; b &lt;c&gt; \"d\" 'e'&nbsp;f</p>",
        "<p>x <a href=\"https://example.org/?a=1&amp;b=2\" rel=\"noopener\" target=\"_blank\">link <strong>bold</strong></a></p>",
        "<ul><li><p>one</p><ul><li><p>inner</p></li></ul></li><li><p>two</p></li></ul>",
        "<ol start=\"3\"><li><p>three</p></li></ol>",
        "<ul data-type=\"taskList\"><li data-checked=\"true\" data-type=\"taskItem\"><label><input type=\"checkbox\" checked=\"checked\">\
         <span></span></label><div><p>done</p></div></li><li data-checked=\"false\" data-type=\"taskItem\"><label>\
         <input type=\"checkbox\"><span></span></label><div><p>open</p></div></li></ul>",
        "<table><tbody><tr><th colspan=\"2\" rowspan=\"1\"><p>head</p></th></tr><tr><td colspan=\"1\" colwidth=\"100\" rowspan=\"1\">\
         <p>a</p></td><td colspan=\"1\" rowspan=\"1\"><p>b</p></td></tr></tbody></table>",
        "<pre><code class=\"language-rust\">fn main() {\n    \"&lt;p&gt;\";\n}</code></pre><pre><code>\n</code></pre>",
        "<blockquote><p>said</p><hr><p>by<br>her</p></blockquote>",
        "<img alt=\"a cat\" src=\"cat.png\"><p>in <img src=\"x.png\"> line</p>",
        "<p><span data-type=\"mention\" data-id=\"7\" data-label=\"Ada\" data-mention-suggestion-char=\"@\">@Ada</span> hello</p>",
        "<section class=\"hero\" id=\"top\"><p>kept</p></section><my-widget size=\"3\">text</my-widget>",
        "<p class=\"lead\" style=\"text-align: center\">attributes</p>",
        "<p>H<sub>2</sub>O and <code>code</code> <u>u</u> <s>s</s> <mark>m</mark></p>",
        "<div data-node=\"customNode\" data-attributes=\"{&quot;camelCase&quot;:1,&quot;list&quot;:[true]}\"><p>in it</p></div>",
        "<p>two  spaces and one at the end </p>",
        "<details><summary>more</summary><p>text</p></details>",
        "<p><small>small <strong>print</strong></small></p>",
    ] {
        let units = parse(html).expect(html);
        let wrapped = if html.contains("</my-widget>") {
            html.replace("<my-widget", "<p><my-widget")
                .replace("</my-widget>", "</my-widget></p>")
        } else {
            html.to_owned()
        };
        assert_eq!(write(&units), wrapped);
    }
}

#[test]
fn a_long_attribute_is_not_repeated_without_end() {
    let href = format!("https://example.org/{}", "x".repeat(50_000));
    for (piece, count) in [("<br>", 10_000), ("<b>x</b>y", 5_000)] {
        let html = format!("<p><a href=\"{href}\">{}</a></p>", piece.repeat(count));
        assert!(parse(&html).is_err(), "{piece}");
    }
    // Around few pieces it is as long as it is, and around many a short one is.
    let html = format!("<p><a href=\"{href}\">one <b>two</b></a></p>");
    assert!(parse(&html).is_ok());
    let short = format!(
        "<p><a href=\"https://example.org/{}\">{}</a></p>",
        "x".repeat(200),
        "<b>x</b>y".repeat(5_000)
    );
    assert!(parse(&short).is_ok());
    // What is no mark is not repeated.
    let block = format!(
        "<section data-x=\"{href}\">{}</section>",
        "<p>x</p>".repeat(5_000)
    );
    assert!(parse(&block).is_ok());
}

#[test]
fn tag_soup_becomes_a_tree() {
    for (soup, html) in [
        ("text", "<p>text</p>"),
        ("<p>one<p>two", "<p>one</p><p>two</p>"),
        (
            "<b>bold<i>both</b>italic</i>",
            "<p><strong>bold<em>both</em></strong><em>italic</em></p>",
        ),
        (
            "<ul><li>a<li>b</ul>",
            "<ul><li><p>a</p></li><li><p>b</p></li></ul>",
        ),
        ("<p>a</b></i></p></div>", "<p>a</p>"),
        (
            "<table><tr><td>a<td>b<tr><td>c</table>",
            "<table><tbody><tr><td><p>a</p></td><td><p>b</p></td></tr><tr><td><p>c</p></td></tr></tbody></table>",
        ),
        (
            "<html><head><title>t</title><style>p{}</style></head><body>\n <p>\n  a\n  b\n </p>\n</body></html>",
            "<p>a b</p>",
        ),
        ("<!-- c --><p>x<script>alert(1)</script></p>", "<p>x</p>"),
        ("<p>a<br class=\"ProseMirror-trailingBreak\"></p>", "<p>a</p>"),
        (
            "<a href=x>one<a href=y>two</a>",
            "<p><a href=\"x\">one</a><a href=\"y\">two</a></p>",
        ),
        (
            "<b>in<p>block</p></b>",
            "<p><strong>in</strong></p><p><strong>block</strong></p>",
        ),
        ("a < b && c", "<p>a &lt; b &amp;&amp; c</p>"),
        (
            "<ul data-type=taskList><li data-type=taskItem data-checked=true><p>x</p></li></ul>",
            "<ul data-type=\"taskList\"><li data-checked=\"true\" data-type=\"taskItem\"><label><input type=\"checkbox\" checked=\"checked\"><span></span></label><div><p>x</p></div></li></ul>",
        ),
    ] {
        let units = parse(soup).expect(soup);
        assert_eq!(write(&units), html);
        assert_eq!(write(&parse(html).expect(html)), html, "and stays it");
    }
    assert!(parse(&"<div>".repeat(100_000)).is_err(), "bounded");
}

const NAMES: [&str; 26] = [
    "paragraph",
    "heading",
    "blockquote",
    "bulletList",
    "orderedList",
    "listItem",
    "taskList",
    "taskItem",
    "codeBlock",
    "horizontalRule",
    "hardBreak",
    "image",
    "table",
    "tableRow",
    "tableCell",
    "tableHeader",
    "mention",
    "div",
    "span",
    "p",
    "li",
    "script",
    "customNode",
    "x-y",
    "svg",
    "a",
];

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[a-z<>&\"' ]{0,6}".prop_map(Value::from),
        (0..9_i64).prop_map(Value::from),
        Just(json!(true)),
        Just(json!({ "a": [1, "b"] })),
    ]
}

fn attributes() -> impl Strategy<Value = BTreeMap<String, Value>> {
    let names = prop::sample::select(vec![
        "id",
        "level",
        "href",
        "class",
        "style",
        "checked",
        "language",
        "colspan",
        "colwidth",
        "camelCase",
        "data-type",
        "data-node",
        "data-id",
        "data-checked",
        "label",
        "b\"d",
        "data-attributes",
    ]);
    prop::collection::btree_map(names.prop_map(str::to_owned), value(), 0..3)
}

/// Text of which white space is read as it is.
fn text() -> impl Strategy<Value = Vec<Unit>> {
    let names = prop::sample::select(vec!["bold", "italic", "link", "code", "comment"]);
    let marks = prop::collection::btree_map(names.prop_map(str::to_owned), attributes(), 0..3);
    ("[a-z<>&🌍é\u{a0}]{1,6}", marks).prop_map(|(text, marks)| {
        let marks = marks
            .into_iter()
            .map(|(name, attributes)| (name, Value::Object(attributes.into_iter().collect())));
        let marks = Rc::new(marks.collect::<BTreeMap<_, _>>());
        text.chars()
            .map(|character| Unit::Character(character, marks.clone()))
            .collect()
    })
}

fn tree() -> impl Strategy<Value = Vec<Unit>> {
    let node = |children: Vec<Vec<Unit>>, name: &str, attributes: BTreeMap<String, Value>| {
        vec![Unit::Node(Node::new(
            name,
            attributes,
            children.into_iter().flatten().collect(),
        ))]
    };
    let names = || prop::sample::select(NAMES.to_vec());
    let leaf = prop_oneof![
        text(),
        (names(), attributes()).prop_map(move |(name, attributes)| node(Vec::new(), name, attributes))
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        (prop::collection::vec(inner, 0..4), names(), attributes())
            .prop_map(move |(children, name, attributes)| node(children, name, attributes))
    })
}

/// Says what in sanitised HTML could do something.
fn acts(dom: &[dom::Dom]) -> Option<String> {
    dom.iter().find_map(|node| {
        let dom::Dom::Element(element) = node else {
            return None;
        };
        let is_kept = |(name, _): &(&String, &String)| {
            safe::keeps(&element.name, name) || (element.name.as_str(), name.as_str()) == ("input", "type")
        };
        let acting = element.attributes.iter().find(|attribute| !is_kept(attribute));
        let mut addresses = element.attributes.iter();
        let leading = addresses.find(|(name, address)| {
            matches!(name.as_str(), "href" | "src" | "cite") && !safe::shows_safely(address)
        });
        match (safe::is_element(&element.name), acting.or(leading)) {
            (false, _) => Some(element.name.clone()),
            (true, Some((name, value))) => Some(format!("{}: {name}={value}", element.name)),
            (true, None) => acts(&element.children),
        }
    })
}

#[test]
fn what_is_shown_does_nothing() {
    for attack in [
        "<script>alert(1)</script>",
        "<SCRIPT SRC=//evil.example/x.js></SCRIPT>",
        "<scr<script>ipt>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<img src=\"x\" onerror=\"&#97;lert(1)\">",
        "<img/src=x/onerror=alert(1)>",
        "<img src=`javascript:alert(1)`>",
        "<img src=javascript:alert(1)>",
        "<img \"\"\"><script>alert(1)</script>\">",
        "<svg onload=alert(1)>",
        "<svg><script>alert(1)</script></svg>",
        "<svg><a xlink:href=\"javascript:alert(1)\"><text>x</text></a></svg>",
        "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
        "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=1 onerror=alert(1)&gt;\">",
        "<noscript><p title=\"</noscript><img src=x onerror=alert(1)>\">",
        "<iframe src=javascript:alert(1)></iframe>",
        "<iframe srcdoc=\"<script>alert(1)</script>\"></iframe>",
        "<object data=\"data:text/html,<script>alert(1)</script>\"></object>",
        "<embed src=javascript:alert(1)>",
        "<base href=//evil.example/>",
        "<meta http-equiv=refresh content=\"0;url=javascript:alert(1)\">",
        "<link rel=stylesheet href=//evil.example/x.css>",
        "<style>@import '//evil.example/x.css';</style>",
        "<form action=javascript:alert(1)><input type=submit><button formaction=javascript:alert(1)>x</button></form>",
        "<input type=password name=password autofocus onfocus=alert(1)>",
        "<a href=\"javascript:alert(1)\">x</a>",
        "<a href=\"JaVaScRiPt:alert(1)\">x</a>",
        "<a href=\" &#14; javascript:alert(1)\">x</a>",
        "<a href=\"jav&#x09;ascript:alert(1)\">x</a>",
        "<a href=\"jav&#x0A;ascript:alert(1)\">x</a>",
        "<a href=\"&#x6A;avascript&colon;alert(1)\">x</a>",
        "<a href=\"vbscript:msgbox(1)\">x</a>",
        "<a href=\"data:text/html;base64,PHNjcmlwdD4=\">x</a>",
        "<a href=\"blob:https://example.org/1\">x</a>",
        "<blockquote cite=\"javascript:alert(1)\">x</blockquote>",
        "<div style=\"background:url(javascript:alert(1))\">x</div>",
        "<div style=\"width:1px;position:fixed;z-index:9\">x</div>",
        "<p id=location name=cookie>x</p>",
        "<p class=\"x\" onmouseover=alert(1)>x</p>",
        "<details open ontoggle=alert(1)>x</details>",
        "<video><source onerror=alert(1)></video><audio src=x onerror=alert(1)>",
        "<marquee onstart=alert(1)>x</marquee>",
        "<my-element onclick=alert(1) src=x>x</my-element>",
        "<template><script>alert(1)</script></template>",
        "<textarea></textarea><img src=x onerror=alert(1)>",
        "<span data-mark=\"link\" data-attributes='{\"href\":\"javascript:alert(1)\"}'>x</span>",
        "<div data-node=\"script\">alert(1)</div>",
        "<div data-node=\"image\" data-attributes='{\"src\":\"javascript:alert(1)\",\"onerror\":\"alert(1)\"}'></div>",
    ] {
        let shown = does_nothing(attack);
        for style in ["url(", "position", "z-index"] {
            assert!(!shown.contains(style), "{attack}\n{shown}");
        }
    }
}

#[test]
fn what_is_long_is_shown_in_pieces_that_are_quick_to_serialise() {
    for piece in ["&", "a", "\u{a0}", "\u{ab}\u{1f600}"] {
        let text = piece.repeat(20_000);
        let value = json!({ "type": "doc", "content": [{ "type": "paragraph", "content": [
            { "type": "text", "text": "head" },
            { "type": "text", "text": text, "marks": [{ "type": "bold" }] },
            { "type": "text", "text": text },
        ] }] });
        let units = prosemirror::parse(&value).expect("a document");
        let divided = write::written_as(&units, true);
        let longest = divided.split('<').map(str::len).max();
        assert!(longest < Some(6 * 4096 + 100), "{longest:?}");
        assert_eq!(write_safely(&units), write(&units), "the pieces are not seen");
    }
}

#[test]
fn the_pieces_of_long_text_are_not_seen_in_elements_that_hold_no_markup_either() {
    for element in [
        "textarea",
        "title",
        "style",
        "script",
        "xmp",
        "iframe",
        "noembed",
        "noframes",
        "noscript",
        "plaintext",
        "pre",
        "code",
        "codeBlock",
        "template",
        "svg",
        "math",
    ] {
        let text = json!({ "type": "text", "text": "word & ".repeat(2_000) });
        let value = json!({ "type": "doc", "content": [
            { "type": element, "content": [text] },
            { "type": "paragraph", "content": [{ "type": "text", "text": "behind" }] },
        ] });
        let shown = write_safely(&prosemirror::parse(&value).expect("a document"));
        assert!(
            !shown.contains("--"),
            "{element}: {}",
            &shown[..shown.len().min(200)]
        );
        assert!(shown.contains("behind"), "{element}");
    }
}

#[test]
fn a_value_that_takes_long_to_serialise_is_not_shown() {
    let shown = |title: &str| {
        let html = format!("<p title=\"{}\">x</p>", title.replace('&', "&amp;"));
        let units = parse(&html).expect("HTML");
        (write_safely(&units) == html, write(&units) == html)
    };
    assert_eq!(shown(&"a&b".repeat(5000)), (true, true));
    assert_eq!(shown(&"a".repeat(1_000_000)), (true, true));
    assert_eq!(shown(&"a&b".repeat(100_000)), (false, true));
}

/// What is shown of HTML, which does nothing.
fn does_nothing(html: &str) -> String {
    let shown = write_safely(&parse(html).expect(html));
    let read = dom::parse(&shown).expect("HTML");
    assert_eq!(acts(&read), None, "{html}\n{shown}");
    shown
}

#[test]
fn what_others_have_attacked_with_does_nothing() {
    #[derive(serde::Deserialize)]
    struct Attack {
        payload: String,
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/attacks/dompurify.json");
    let attacks = std::fs::read_to_string(file).expect(file);
    let attacks: Vec<Attack> = serde_json::from_str(&attacks).expect(file);
    assert!(attacks.len() > 200);
    for Attack { payload } in attacks {
        let shown = does_nothing(&payload);
        // Nor when somebody saves what is shown.
        does_nothing(&shown);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_in_a_page_comes_out_of_its_html(units in tree()) {
        // At the top there are blocks.
        let units = vec![Unit::Node(Node::new("section", BTreeMap::new(), units))];
        let html = write(&units);
        let again = parse(&html).expect("HTML");
        prop_assert_eq!(prosemirror::write(&again), prosemirror::write(&units), "{}", html);
    }

    #[test]
    fn whatever_is_in_a_page_does_nothing_where_it_is_shown(units in tree()) {
        let shown = write_safely(&units);
        let read = dom::parse(&shown).expect("HTML");
        prop_assert_eq!(acts(&read), None, "{}", shown);
    }

    #[test]
    fn whatever_is_said_to_be_html_becomes_something_that_stays(soup in "(<(/?)(p|b|i|a href=x|ul|li|table|tr|td|div|pre|code|br|span|h1|span data-node=\"x\")>|[a-z &\n]{1,4}){0,12}") {
        let html = write(&parse(&soup).expect("HTML"));
        let again = write(&parse(&html).expect("HTML"));
        prop_assert_eq!(again, html, "{}", soup);
    }

    #[test]
    fn documents_of_prosemirror_come_out_as_they_went_in(units in tree()) {
        let document = prosemirror::write(&units);
        let again = prosemirror::parse(&document).expect("a document");
        prop_assert_eq!(prosemirror::write(&again), document);
    }
}

//! Pages are read in every form, and saved in the form in which they were read.

use pageroom_crdt::{ClientId, Form, Format, MergeError, MergeRefusal, Save, SmallEdit};
use serde_json::{Value, json};

use crate::page::{Page, save};

fn shown(page: &mut Page, form: Form, field: Option<&str>) -> Option<String> {
    page.view().shown(form, field).unwrap()
}

/// A page with a text as Quill has it.
fn quill(ops: &[(&str, Value)]) -> Page {
    let mut page = Page::new();
    for (text, attributes) in ops {
        let edit = json!({ "op": "insert_text", "path": "/quill", "text": text, "attributes": attributes });
        let edit: SmallEdit = serde_json::from_value(edit).unwrap();
        let merged = page.view().edit_small(ClientId(78), &[edit]).unwrap();
        page.apply(&merged.update);
    }
    page
}

#[test]
fn rich_text_has_every_form() {
    let mut page = Page::new();
    page.save(&save(json!("<h1>A</h1><p>b <em>c</em></p>"), Format::Html));
    assert_eq!(
        shown(&mut page, Form::Html, None).unwrap(),
        "<h1>A</h1><p>b <em>c</em></p>"
    );
    assert_eq!(shown(&mut page, Form::Markdown, None).unwrap(), "# A\n\nb *c*\n");
    assert_eq!(shown(&mut page, Form::Text, None).unwrap(), "A\nb c");
    let document: Value = serde_json::from_str(&shown(&mut page, Form::Prosemirror, None).unwrap()).unwrap();
    assert_eq!(
        document["content"][1]["content"][1]["marks"],
        json!([{ "type": "italic" }])
    );
    let delta: Value = serde_json::from_str(&shown(&mut page, Form::Delta, None).unwrap()).unwrap();
    assert_eq!(
        delta["ops"][0],
        json!({ "insert": {
            "name": "heading", "attributes": { "level": 1 }, "ops": [{ "insert": { "ops": [{ "insert": "A" }] } }],
        } })
    );
    assert_eq!(shown(&mut page, Form::Html, Some("none")), None);
}

#[test]
fn a_text_of_quill_has_the_forms_of_rich_text() {
    let mut page = quill(&[
        ("Title", json!({})),
        ("\n", json!({ "header": 2 })),
        ("plain ", json!({})),
        ("bold", json!({ "bold": true })),
        (" and ", json!({})),
        ("link", json!({ "link": "https://example.org" })),
        ("\n", json!({})),
        ("one", json!({})),
        ("\n", json!({ "list": "bullet" })),
        ("inner", json!({})),
        ("\n", json!({ "list": "ordered", "indent": 1 })),
        ("two", json!({})),
        ("\n", json!({ "list": "bullet" })),
        ("done", json!({})),
        ("\n", json!({ "list": "checked" })),
        ("let a;", json!({})),
        ("\n", json!({ "code-block": "js" })),
        ("let b;", json!({})),
        ("\n", json!({ "code-block": "js" })),
        ("said", json!({})),
        ("\n", json!({ "blockquote": true })),
        ("end\n", json!({})),
    ]);
    assert_eq!(
        shown(&mut page, Form::Markdown, None).unwrap(),
        "## Title\n\nplain **bold** and [link](https://example.org)\n\n- one\n  1. inner\n- two\n\n<!-- end list -->\n\n- [x] done\n\n\
         <!-- end list -->\n\n```js\nlet a;\nlet b;\n```\n\n> said\n\nend\n"
    );
    assert_eq!(
        shown(&mut page, Form::Html, Some("quill")).unwrap(),
        "<h2>Title</h2><p>plain <strong>bold</strong> and <a href=\"https://example.org\">link</a></p><ul><li><p>one</p><ol><li>\
         <p>inner</p></li></ol></li><li><p>two</p></li></ul><ul data-type=\"taskList\"><li data-checked=\"true\" data-type=\"taskItem\">\
         <label><input checked=\"checked\" type=\"checkbox\"><span></span></label><div><p>done</p></div></li></ul><pre>\
         <code class=\"language-js\">let a;\nlet b;</code></pre><blockquote><p>said</p></blockquote><p>end</p>"
    );
}

#[test]
fn what_does_something_is_not_shown() {
    for (saved, read) in [
        (
            "<p onclick=\"alert(1)\">a</p>",
            "<p data-attributes=\"{&quot;onclick&quot;:&quot;alert(1)&quot;}\">a</p>",
        ),
        ("<p><a href=\"javascript:alert(1)\">a</a></p>", "<p><a>a</a></p>"),
        (
            "<p><a href=\"java\tscript:alert(1)\">a</a></p>",
            "<p><a>a</a></p>",
        ),
        ("<p><a href=\"data:text/html,x\">a</a></p>", "<p><a>a</a></p>"),
        ("<p><a href=\"da\tta:text/html,x\">a</a></p>", "<p><a>a</a></p>"),
        ("<img src=\"data:image/svg+xml,x\">", "<img>"),
        (
            "<img src=\"data:image/png;base64,AA==\">",
            "<img src=\"data:image/png;base64,AA==\">",
        ),
        (
            "<p style=\"position:fixed;color:red\">a</p>",
            "<p style=\"color:red\">a</p>",
        ),
        (
            "<section><my-app src=\"x\">a</my-app></section>",
            "<section><span data-node=\"my-app\" data-attributes=\"{&quot;src&quot;:&quot;x&quot;}\">a</span></section>",
        ),
        (
            "<form action=\"/x\"><p>a</p></form>",
            "<div data-node=\"form\" data-attributes=\"{&quot;action&quot;:&quot;/x&quot;}\"><p>a</p></div>",
        ),
    ] {
        let mut page = Page::new();
        page.save(&save(json!(saved), Format::Html));
        assert_eq!(shown(&mut page, Form::Html, None).unwrap(), read, "{saved}");
        // Saved as it was read, nothing changes: what was not shown stays.
        let again = Save {
            had_current: true,
            ..save(json!(read), Format::Html)
        };
        let merged = page.view().merge_shown(ClientId(79), again).unwrap();
        assert!(merged.update.is_empty(), "{saved}");
    }
}

#[test]
fn a_copy_in_markdown_changes_what_its_author_changed() {
    let mut page = Page::new();
    let html = "<p style=\"text-align: center\">one <u>two</u> three</p><p></p><p>four</p>";
    page.save(&save(json!(html), Format::Html));
    let read = shown(&mut page, Form::Markdown, None).unwrap();
    assert_eq!(read, "one <u>two</u> three\n\nfour\n");
    let changed = Save {
        had_current: true,
        ..save(
            json!("one <u>two</u> **3**\n\nfour\n\n- five\n"),
            Format::Markdown,
        )
    };
    let merged = page.view().merge_shown(ClientId(79), changed).unwrap();
    page.apply(&merged.update);
    assert_eq!(
        page.view().whole("default", Format::Html).unwrap(),
        Some(json!(
            "<p style=\"text-align: center\">one <u>two</u> <strong>3</strong></p><p></p><p>four</p><ul><li><p>five</p></li></ul>"
        ))
    );
}

#[test]
fn where_no_field_is_named_it_is_the_only_one() {
    let mut page = quill(&[("one\n", json!({}))]);
    assert_eq!(shown(&mut page, Form::Html, None).unwrap(), "<p>one</p>");
    let edit = json!({ "op": "insert_text", "path": "/other", "text": "two" });
    let edit: SmallEdit = serde_json::from_value(edit).unwrap();
    let merged = page.view().edit_small(ClientId(78), &[edit]).unwrap();
    page.apply(&merged.update);
    assert_eq!(
        page.view().shown(Form::Html, None),
        Err(MergeError::Refused(MergeRefusal::Ambiguous {
            fields: "other`, `quill".to_owned()
        }))
    );
    assert_eq!(shown(&mut page, Form::Html, Some("other")).unwrap(), "<p>two</p>");
    page.save(&save(json!("usual"), Format::Text));
    assert_eq!(shown(&mut page, Form::Html, None).unwrap(), "<p>usual</p>");
}

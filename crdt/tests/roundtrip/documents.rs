//! Documents as people write them: read in a form and saved in it, they are what they were.

use std::fs;

use pageroom_crdt::Form;

use crate::normal::normal;
use crate::page::{Page, data};

fn read(name: &str) -> String {
    fs::read_to_string(data("documents").join(name)).unwrap()
}

#[test]
fn documents_in_markdown_are_the_same_page_in_every_form() {
    for name in ["readme.md", "minutes.md"] {
        let mut page = Page::of_markdown(&read(name));
        let lost = page.lost_in();
        assert!(lost.is_empty(), "{name}: {lost:#?}");
        // What was written once is written again.
        let markdown = page.shown(Form::Markdown);
        assert_eq!(
            Page::of_markdown(&markdown).shown(Form::Markdown),
            markdown,
            "{name}"
        );
    }
}

#[test]
fn a_document_of_an_editor_loses_in_markdown_only_how_it_looks() {
    let html = read("tiptap.html");
    let mut page = Page::of_html(html.trim_end());
    assert_eq!(page.html(), html.trim_end());
    // Styles are written anew for those who show them.
    let shown = html
        .replace("text-align: center", "text-align:center")
        .replace("color: red", "color:red");
    assert_eq!(Page::of_html(&page.shown(Form::Html)).html(), shown.trim_end());
    let lost: Vec<_> = page.lost_in().into_iter().map(|lost| lost.form).collect();
    assert_eq!(lost, ["markdown", "html"]);
    // Links that open elsewhere, widths and spans of cells, paragraphs without anything, the alignment and the colour of text.
    let markdown = page.shown(Form::Markdown);
    let mut again = Page::of_markdown(&markdown);
    assert_eq!(
        again.shown(Form::Markdown),
        markdown,
        "and nothing more after that"
    );
    let looks = [
        " rel=\"noopener noreferrer nofollow\"",
        " target=\"_blank\"",
        " colspan=\"1\"",
        " colwidth=\"120\"",
        " rowspan=\"1\"",
        " rowspan=\"2\"",
        " style=\"text-align: center\"",
        "<span data-mark=\"textStyle\" style=\"color: red\">",
        "<p></p>",
    ];
    let plain = looks
        .iter()
        .fold(html.clone(), |html, look| html.replace(look, ""));
    let plain = plain
        .replace("red</span>", "red")
        .replace("<p>Bob</p><p>and", "<p>Bob<br>and");
    // In the last row there is a cell that the span of another one leaves out.
    let plain = plain.replace("<tr><td></td></tr>", "<tr><td></td><td></td></tr>");
    assert_eq!(normal(&again.html()), normal(&plain));
}

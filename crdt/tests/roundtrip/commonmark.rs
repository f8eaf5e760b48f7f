//! The examples of CommonMark's specification: each is a page, and stays that page in every form.

use std::collections::BTreeSet;
use std::fs;

use pageroom_crdt::Form;
use serde::Deserialize;

use crate::normal::normal;
use crate::page::{Page, data};

#[derive(Deserialize)]
struct Example {
    markdown: String,
    html: String,
    example: u16,
    section: String,
}

fn examples() -> Vec<Example> {
    let examples: Vec<Example> =
        serde_json::from_str(&fs::read_to_string(data("spec.json")).unwrap()).unwrap();
    assert_eq!(examples.len(), 652, "all of them");
    examples
}

// What several examples have in common.
const RAW: &str = "an element that is shown by its name in an attribute, because it may do something";
const ID: &str = "programs look for an id, so that it stands in an attribute that does nothing";
const PROGRAM: &str = "a program or a style is nothing that people read";
const ADDRESS: &str = "its address has a scheme of which nobody knows what it does, so that it leads nowhere";

/// Examples that do not come back from a form as the page that they are, with the reason.
const LOST: &[(u16, &[&str], &str)] = &[
    (500, &["markdown", "html"], ADDRESS),
    (596, &["markdown", "html"], ADDRESS),
    (598, &["markdown", "html"], ADDRESS),
    (599, &["markdown", "html"], ADDRESS),
    (601, &["markdown", "html"], ADDRESS),
];

/// Examples of which a page shows other HTML than the specification has, with the reason.
const OTHER_HTML: &[(u16, &str)] = &[
    (
        148,
        "a paragraph in a block of code, which is text and nothing else elsewhere",
    ),
    (150, RAW),
    (153, ID),
    (154, ID),
    (163, RAW),
    (169, "the language of code is the class of its element"),
    (170, PROGRAM),
    (171, RAW),
    (172, PROGRAM),
    (173, PROGRAM),
    (176, PROGRAM),
    (178, PROGRAM),
    (
        191,
        "a row of a table with something else than cells in it, which a parser would put in front of the table",
    ),
    (201, RAW),
    (491, RAW),
    (500, ADDRESS),
    (524, RAW),
    (536, RAW),
    (596, ADDRESS),
    (598, ADDRESS),
    (599, ADDRESS),
    (601, ADDRESS),
    (613, RAW),
    (614, RAW),
    (615, RAW),
    (616, RAW),
    (617, RAW),
];

#[test]
fn an_example_is_the_same_page_in_every_form() {
    let mut lost = BTreeSet::new();
    let mut told = String::new();
    for example in examples() {
        let mut page = Page::of_markdown(&example.markdown);
        for found in page.lost_in() {
            let form = found.form;
            if !lost_in(example.example).contains(&form) {
                let Example {
                    example,
                    section,
                    markdown,
                    ..
                } = &example;
                told.push_str(&format!("{example} ({section}): {markdown:?}\n{found:#?}\n"));
            }
            lost.insert((example.example, form));
        }
    }
    assert!(told.is_empty(), "{told}");
    for (number, forms, reason) in LOST {
        for form in *forms {
            assert!(
                lost.contains(&(*number, *form)),
                "{number} comes back from {form} although {reason}"
            );
        }
    }
}

/// The forms from which an example is known not to come back.
fn lost_in(number: u16) -> &'static [&'static str] {
    LOST.iter()
        .find(|(known, ..)| *known == number)
        .map_or(&[], |(_, forms, _)| forms)
}

#[test]
fn an_example_is_shown_as_the_specification_shows_it() {
    let mut other = BTreeSet::new();
    let mut told = String::new();
    for example in examples() {
        let html = Page::of_markdown(&example.markdown).shown(Form::Html);
        // The end of the last line of code is none of the code.
        let expected = example.html.replace("\n</code></pre>", "</code></pre>");
        let (shown, expected) = (normal(&html), normal(&expected));
        if shown == expected {
            continue;
        }
        if !OTHER_HTML.iter().any(|(number, _)| *number == example.example) {
            told.push_str(&format!(
                "{} ({}): {:?}\nexpected {:?}\n{expected}\nshown {html:?}\n{shown}\n",
                example.example, example.section, example.markdown, example.html
            ));
        }
        other.insert(example.example);
    }
    assert!(told.is_empty(), "{told}");
    for (number, reason) in OTHER_HTML {
        assert!(
            other.contains(number),
            "{number} is shown as it should be although {reason}"
        );
    }
}

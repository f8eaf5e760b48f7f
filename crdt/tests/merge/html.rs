//! Saves of HTML are merged into pages that other programs edit as nodes.

use pageroom_crdt::{Format, Save};
use serde_json::json;

use crate::page::{Page, certain, save};

fn html_save(html: &str, candidates: &[&str]) -> Save {
    Save {
        candidates: candidates.iter().map(|html| certain(*html)).collect(),
        ..save(json!(html), Format::Html)
    }
}

#[track_caller]
fn merges(base: &str, current: &str, saved: &str, outcome: &str) {
    let mut page = Page::new();
    page.save(&html_save(base, &[]));
    page.save(&html_save(current, &[base]));
    let merged = page.save(&html_save(saved, &[base]));
    assert_eq!(merged.content, json!(outcome));
    assert_eq!(merged.differs, saved != outcome);
    assert!(page.save(&html_save(outcome, &[outcome])).update.is_empty());
}

#[test]
fn edits_of_html_are_in_the_outcome() {
    merges(
        "<p>one two</p>",
        "<p>one <strong>two</strong></p><p>more</p>",
        "<h2>title</h2><p>one two three</p>",
        "<h2>title</h2><p>one <strong>two</strong> three</p><p>more</p>",
    );
    let list = |items: &str| {
        format!(
            "<ul>{}</ul>",
            items
                .split(' ')
                .map(|item| format!("<li><p>{item}</p></li>"))
                .collect::<String>()
        )
    };
    merges(
        &list("a b c"),
        &list("a theirs b c"),
        &list("a c ours"),
        &list("a theirs c ours"),
    );
    let row = |cells: &str| {
        let cells = cells
            .split(' ')
            .map(|cell| format!("<td colspan=\"1\" rowspan=\"1\"><p>{cell}</p></td>"));
        format!("<tr>{}</tr>", cells.collect::<String>())
    };
    let table = |rows: &[&str]| {
        format!(
            "<table><tbody>{}</tbody></table>",
            rows.iter().map(|cells| row(cells)).collect::<String>()
        )
    };
    merges(
        &table(&["a1 a2", "b1 b2"]),
        &table(&["a1 a2x", "b1 b2"]),
        &table(&["a1 a2", "b1y b2", "c1 c2"]),
        &table(&["a1 a2x", "b1y b2", "c1 c2"]),
    );
    merges(
        "<p>see <a href=\"a\">here</a></p>",
        "<p>see <a href=\"b\">here</a></p>",
        "<p>please see <a href=\"a\">here</a></p><video src=\"x\"></video>",
        "<p>please see <a href=\"b\">here</a></p><p><video src=\"x\"></video></p>",
    );
}

#[test]
fn html_and_prosemirror_are_two_ways_to_write_one_page() {
    let mut page = Page::new();
    page.save(&html_save("<h1>Title</h1><p>text</p>", &[]));
    let document = page
        .view()
        .whole("default", Format::Prosemirror)
        .unwrap()
        .unwrap();
    assert_eq!(
        document,
        json!({ "type": "doc", "content": [
            { "type": "heading", "attrs": { "level": 1 }, "content": [{ "type": "text", "text": "Title" }] },
            { "type": "paragraph", "content": [{ "type": "text", "text": "text" }] },
        ] })
    );
    let mut changed = document.clone();
    changed["content"][1]["content"][0]["text"] = json!("text and more");
    page.save(&Save {
        candidates: vec![certain(document)],
        ..save(changed, Format::Prosemirror)
    });
    let html = page.view().whole("default", Format::Html).unwrap();
    assert_eq!(html, Some(json!("<h1>Title</h1><p>text and more</p>")));
    assert_eq!(page.view().whole("default", Format::Text).unwrap(), None);
}

/// Text of many words in lines, different for each seed.
fn long(seed: u64, line: impl Fn(&str) -> String) -> String {
    let mut state = seed;
    let mut out = String::new();
    while out.len() < 400_000 {
        let words: Vec<_> = (0..12)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let common = ["the", "of", "and", "house", "water", "is"];
                match common.get((state >> 33) as usize % 12) {
                    Some(word) => (*word).to_owned(),
                    None => format!("w{:x}", state >> 48),
                }
            })
            .collect();
        out.push_str(&line(&words.join(" ")));
    }
    out
}

#[test]
fn contents_that_have_nothing_in_common_are_few_edits() {
    for (format, line) in [
        (Format::Text, (|words| format!("{words}\n")) as fn(&str) -> String),
        (Format::Html, |words| format!("<p>{words}</p>")),
    ] {
        let mut page = Page::new();
        let (old, new) = (long(1, line), long(2, line));
        page.save(&save(json!(old), format));
        let merged = page.save(&Save {
            candidates: vec![certain(old)],
            ..save(json!(new), format)
        });
        assert_eq!(merged.content, json!(new));
        assert!(
            merged.update.len() < 4 * new.len(),
            "{} bytes",
            merged.update.len()
        );
    }
}

#[test]
fn many_breaks_between_words_go_and_come_together() {
    let line = |from: usize, to: usize| {
        let lines: Vec<String> = (from..to).map(|number| format!("{number} a")).collect();
        format!("<p>{}</p>", lines.join("<br>"))
    };
    let (many, few) = (line(0, 200), line(60, 90));
    let divided = format!("{}<p>between</p>{}", line(0, 100), line(100, 200));
    for (before, after) in [
        (&many, &few),
        (&few, &many),
        (&many, &divided),
        (&divided, &many),
        (&divided, &few),
    ] {
        let mut page = Page::new();
        page.save(&save(before.as_str().into(), Format::Html));
        let mut change = save(after.as_str().into(), Format::Html);
        change.candidates = vec![certain(before.as_str())];
        let merged = page.save(&change);
        assert!(!merged.differs, "{before}\n{after}");
        assert_eq!(merged.content.as_str(), Some(after.as_str()));
    }
}

//! HTML in a normal form, for what looks the same to be the same: runs of text with the elements around them as a set, white space as it is
//! shown, and no difference between an item that is a line and one that is a paragraph. What is around a picture is not told: in a page only text
//! has marks.

use std::collections::BTreeSet;

use html5gum::{Token, Tokenizer};

const VOID: [&str; 3] = ["br", "hr", "img"];

/// Elements within a line, with the name under which they are the same.
const MARKS: [(&str, &str); 8] = [
    ("a", "a"),
    ("b", "strong"),
    ("code", "code"),
    ("del", "s"),
    ("em", "em"),
    ("i", "em"),
    ("s", "s"),
    ("strong", "strong"),
];

/// Parts of a table that are none of a document.
const NOTHING: [&str; 3] = ["tbody", "tfoot", "thead"];

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    /// Text with the marks around it.
    Text(String, BTreeSet<String>),
    /// An element with its attributes, as a start tag.
    Element(String, Vec<Piece>),
}

/// The normal form of HTML, one element or run of text a line.
pub(crate) fn normal(html: &str) -> String {
    let mut open: Vec<(String, String, Vec<Piece>)> = vec![Default::default()];
    let mut marks: Vec<(String, String)> = Vec::new();
    for token in Tokenizer::new(html) {
        let Ok(token) = token;
        match token {
            Token::StartTag(tag) => {
                let name = same(text(&tag.name));
                let attributes = tag.attributes.into_iter();
                let attributes = attributes.map(|(name, value)| (text(&name), text(&value)));
                let is_said = |(name, value): &(String, String)| name != "alt" || !value.is_empty();
                let attributes = attributes
                    .filter(is_said)
                    .map(|(name, value)| format!(" {name}={value:?}"));
                let written = format!("<{name}{}>", attributes.collect::<String>());
                let in_code = open.iter().any(|(name, ..)| name == "pre");
                if NOTHING.contains(&name.as_str()) {
                    continue;
                }
                if VOID.contains(&name.as_str()) {
                    push(&mut open, Piece::Element(written, Vec::new()));
                } else if MARKS.iter().any(|(_, mark)| *mark == name) && !in_code {
                    marks.push((name, written));
                } else {
                    open.push((name, written, Vec::new()));
                }
            }
            Token::EndTag(tag) => {
                let name = same(text(&tag.name));
                if let Some(at) = marks.iter().rposition(|(mark, _)| *mark == name) {
                    marks.remove(at);
                } else if open.iter().skip(1).any(|(open, ..)| *open == name) {
                    while let Some((closed, written, pieces)) = open.pop_if(|_| true) {
                        push(&mut open, Piece::Element(written, pieces));
                        if closed == name {
                            break;
                        }
                    }
                }
            }
            Token::String(characters) => {
                let marks = marks.iter().map(|(_, written)| written.clone()).collect();
                push(&mut open, Piece::Text(text(&characters), marks));
            }
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    while open.len() > 1 {
        let Some((_, written, pieces)) = open.pop() else {
            break;
        };
        push(&mut open, Piece::Element(written, pieces));
    }
    let mut out = String::new();
    write(&mut out, &shown(&open.remove(0).2), 0);
    out
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The name under which an element is the same as others.
fn same(name: String) -> String {
    MARKS
        .iter()
        .find(|(element, _)| *element == name)
        .map_or(name, |(_, same)| (*same).to_owned())
}

fn push(open: &mut [(String, String, Vec<Piece>)], piece: Piece) {
    if let Some((_, _, pieces)) = open.last_mut() {
        match (pieces.last_mut(), piece) {
            (Some(Piece::Text(before, marks)), Piece::Text(text, more)) if *marks == more => {
                before.push_str(&text)
            }
            (_, piece) => pieces.push(piece),
        }
    }
}

fn name(written: &str) -> &str {
    let end = written.find([' ', '>']).unwrap_or(written.len());
    written.get(1..end).unwrap_or_default()
}

/// What is within a line.
fn is_inline(piece: &Piece) -> bool {
    match piece {
        Piece::Text(..) => true,
        Piece::Element(written, _) => matches!(name(written), "br" | "img"),
    }
}

/// Pieces as they are shown.
fn shown(pieces: &[Piece]) -> Vec<Piece> {
    let mut out = Vec::new();
    for line in pieces.chunk_by(|one, other| is_inline(one) == is_inline(other)) {
        if line.first().is_some_and(is_inline) {
            out.extend(shown_line(line));
            continue;
        }
        for piece in line {
            let Piece::Element(written, children) = piece else {
                continue;
            };
            match name(written) {
                // A line of its own is a line, in whatever it is.
                "p" => out.extend(shown_line(children)),
                "pre" => out.push(code(written, children)),
                _ => out.push(Piece::Element(written.clone(), shown(children))),
            }
        }
    }
    out
}

/// A line without white space at its ends, and around a break of it.
fn shown_line(pieces: &[Piece]) -> Option<Piece> {
    let is_break = |piece: &Piece| matches!(piece, Piece::Element(written, _) if name(written) == "br");
    let mut line: Vec<Piece> = Vec::new();
    for part in pieces.split_inclusive(is_break) {
        let (part, end) = match part.split_last() {
            Some((last, part)) if is_break(last) => (part, Some(last)),
            _ => (part, None),
        };
        line.extend(trimmed(part));
        line.extend(end.cloned());
    }
    (!line.is_empty()).then(|| Piece::Element("<line>".to_owned(), line))
}

fn trimmed(pieces: &[Piece]) -> Vec<Piece> {
    let mut line: Vec<Piece> = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Text(text, marks) => Piece::Text(with_spaces(text), marks.clone()),
            Piece::Element(..) => piece.clone(),
        })
        .collect();
    let is_code = |marks: &BTreeSet<String>| marks.contains("<code>");
    while let Some(Piece::Text(text, marks)) = line.first_mut()
        && !is_code(marks)
    {
        *text = text.trim_start_matches(' ').to_owned();
        if !text.is_empty() {
            break;
        }
        line.remove(0);
    }
    while let Some(Piece::Text(text, marks)) = line.last_mut()
        && !is_code(marks)
    {
        *text = text.trim_end_matches(' ').to_owned();
        if !text.is_empty() {
            break;
        }
        line.pop();
    }
    line
}

/// White space with the end of a line or a tab in it is one space.
fn with_spaces(text: &str) -> String {
    let is_space = |character: char| matches!(character, ' ' | '\t' | '\n' | '\r');
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_white = is_space(first);
        let end = rest.find(|next| is_space(next) != is_white).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        out.push_str(if run.contains(['\t', '\n', '\r']) {
            " "
        } else {
            run
        });
    }
    out
}

/// A block of code.
fn code(written: &str, children: &[Piece]) -> Piece {
    let children = children.iter().map(|child| match child {
        Piece::Text(text, _) => Piece::Text(text.clone(), BTreeSet::new()),
        Piece::Element(written, children) => code(written, children),
    });
    let children = children.filter(|child| !matches!(child, Piece::Text(text, _) if text.is_empty()));
    Piece::Element(written.to_owned(), children.collect())
}

fn write(out: &mut String, pieces: &[Piece], depth: usize) {
    for piece in pieces {
        out.push_str(&"  ".repeat(depth));
        match piece {
            Piece::Text(text, marks) => {
                let marks: String = marks.iter().map(String::as_str).collect();
                out.push_str(&format!("{marks}{text:?}\n"));
            }
            Piece::Element(written, children) => {
                out.push_str(written);
                out.push('\n');
                write(out, children, depth + 1);
            }
        }
    }
}

#[test]
fn what_looks_the_same_is_the_same() {
    for (one, other) in [
        ("<p>a\nb</p>\n", "<p>a b</p>"),
        (
            "<em>a <strong>b</strong></em>",
            "<em>a </em><strong><em>b</em></strong>",
        ),
        ("<ul>\n<li>a</li>\n</ul>", "<ul><li><p>a</p></li></ul>"),
        ("<p>a \t b\t</p>", "<p>a b</p>"),
        ("<del>a</del>", "<s>a</s>"),
        ("<p>\n<em>\na </em> <br> b</p>", "<em>a</em><br>b"),
        ("<p>a<br />\nb</p>", "<p>a<br>b</p>"),
    ] {
        assert_eq!(normal(one), normal(other));
    }
    for (one, other) in [
        ("<p>a b</p>", "<p>a  b</p>"),
        ("<p>a</p><p>b</p>", "<p>a b</p>"),
        ("<em>a</em>", "<strong>a</strong>"),
        ("<a href=\"x\">a</a>", "<a href=\"y\">a</a>"),
        ("<ul><li>a</li></ul>", "<ol><li>a</li></ol>"),
        ("<pre><code>a\n</code></pre>", "<pre><code>a</code></pre>"),
    ] {
        assert_ne!(normal(one), normal(other));
    }
}

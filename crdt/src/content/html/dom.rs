//! Tag soup as a tree: end tags that are missing are supplied, and elements that cross are taken apart.

use std::collections::BTreeMap;

use html5gum::{DefaultEmitter, Token, Tokenizer};

/// Deeper documents are refused.
const MAX_DEPTH: usize = 200;

#[derive(Debug, Clone)]
pub(super) enum Dom {
    Text(String),
    Element(Element),
}

#[derive(Debug, Clone, Default)]
pub(super) struct Element {
    pub(super) name: String,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) children: Vec<Dom>,
}

const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// Elements that end where another one ends in which they were opened, and go on behind it.
const FORMATTING: [&str; 13] = [
    "a", "b", "code", "del", "em", "i", "mark", "s", "strike", "strong", "sub", "sup", "u",
];

const ENDS_PARAGRAPH: [&str; 37] = [
    "address",
    "article",
    "aside",
    "blockquote",
    "center",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "li",
    "main",
    "menu",
    "nav",
    "ol",
    "p",
    "pre",
    "section",
    "summary",
    "table",
    "ul",
    "tr",
];

/// What a start tag ends, and in which element that must be.
fn ended_by(name: &str) -> Option<(&'static [&'static str], &'static [&'static str])> {
    Some(match name {
        "li" => (&["li"], &["ul", "ol", "menu"]),
        "dt" | "dd" => (&["dt", "dd"], &["dl"]),
        "td" | "th" => (&["td", "th"], &["tr", "table"]),
        "tr" => (&["tr"], &["table"]),
        "thead" | "tbody" | "tfoot" => (&["thead", "tbody", "tfoot", "colgroup"], &["table"]),
        "option" => (&["option"], &["select"]),
        _ => return None,
    })
}

struct Builder {
    /// The elements that are open, the root first.
    open: Vec<Element>,
}

/// Takes HTML apart.
///
/// # Errors
/// When it is nested too deeply.
pub(super) fn parse(html: &str) -> Result<Vec<Dom>, &'static str> {
    let mut builder = Builder {
        open: vec![Element::default()],
    };
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for Ok(token) in Tokenizer::new_with_emitter(html, emitter) {
        match token {
            Token::StartTag(tag) => {
                let attributes = tag.attributes.into_iter();
                let attributes = attributes.map(|(name, value)| (text(&name), text(&value)));
                builder.start(text(&tag.name), attributes.collect())?;
            }
            Token::EndTag(tag) => builder.end(&text(&tag.name)),
            Token::String(characters) => builder.push(Dom::Text(text(&characters))),
            Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    builder.close_to(1);
    Ok(builder.open.pop().unwrap_or_default().children)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Builder {
    fn push(&mut self, node: Dom) {
        let Some(parent) = self.open.last_mut() else {
            return;
        };
        match (parent.children.last_mut(), node) {
            (Some(Dom::Text(before)), Dom::Text(text)) => before.push_str(&text),
            (_, node) => parent.children.push(node),
        }
    }

    fn start(&mut self, name: String, attributes: BTreeMap<String, String>) -> Result<(), &'static str> {
        // They hold nothing that is not there without them.
        if matches!(name.as_str(), "html" | "head" | "body") {
            return Ok(());
        }
        if ENDS_PARAGRAPH.contains(&name.as_str()) {
            self.end_within(
                &["p"],
                &["td", "th", "li", "blockquote", "div", "button", "table"],
            );
        }
        if let Some((ended, within)) = ended_by(&name) {
            self.end_within(ended, within);
        }
        if name == "a" {
            self.end_within(&["a"], &["table"]);
        }
        let element = Element {
            name,
            attributes,
            children: Vec::new(),
        };
        if VOID.contains(&element.name.as_str()) {
            self.push(Dom::Element(element));
        } else if self.open.len() > MAX_DEPTH {
            return Err("it is nested too deeply");
        } else {
            self.open.push(element);
        }
        Ok(())
    }

    /// Ends the innermost of these elements, unless one of `within` is open in it.
    fn end_within(&mut self, ended: &[&str], within: &[&str]) {
        let found = self.open.iter().rposition(|open| {
            let name = open.name.as_str();
            ended.contains(&name) || within.contains(&name)
        });
        if let Some(at) = found
            && self
                .open
                .get(at)
                .is_some_and(|open| ended.contains(&open.name.as_str()))
        {
            self.close_to(at);
        }
    }

    fn end(&mut self, name: &str) {
        let Some(at) = self
            .open
            .iter()
            .rposition(|open| open.name == name)
            .filter(|at| *at > 0)
        else {
            return;
        };
        let is_formatting = FORMATTING.contains(&name);
        let above = self.open.get(at + 1..).unwrap_or_default();
        // A mark does not end a block.
        let all_formatting = above.iter().all(|open| FORMATTING.contains(&open.name.as_str()));
        if is_formatting && !all_formatting {
            return;
        }
        let goes_on: Vec<_> = (above.iter().filter(|_| is_formatting))
            .map(|open| Element {
                children: Vec::new(),
                ..open.clone()
            })
            .collect();
        self.close_to(at);
        self.open.extend(goes_on);
    }

    /// Ends elements until so many are open.
    fn close_to(&mut self, open: usize) {
        while self.open.len() > open.max(1) {
            if let Some(element) = self.open.pop() {
                self.push(Dom::Element(element));
            }
        }
    }
}

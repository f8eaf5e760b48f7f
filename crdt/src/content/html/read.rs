//! Units from HTML.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value};

use super::dom::{self, Dom, Element};
use super::{ATTRIBUTES, MARK, MARKS, NODE, NUMBERS, is_block};
use crate::content::nodes::{Marks, Node, Unit};

/// Stands for white space with a line break in it: at the edge of a block it is nothing, elsewhere a space.
const BREAK: char = '\n';

/// Bytes that marks with attributes may come to in a document, where they stand with each piece of text that they are around.
const MAX_REPEATED_BYTES: usize = 16 << 20;

/// What is in HTML.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn parse(html: &str) -> Result<Vec<Unit>, &'static str> {
    let dom = dom::parse(html)?;
    if repeated(&dom, 0) > MAX_REPEATED_BYTES {
        return Err("marks with long attributes are around too many pieces of text");
    }
    Ok(flow(units(&dom, &Marks::default(), false)))
}

/// Bytes of the attributes of marks in a document, which stand there with each piece of text. Nesting is bounded, so this may recurse.
fn repeated(dom: &[Dom], above: usize) -> usize {
    let pieces = dom.iter().map(|child| match child {
        Dom::Text(_) => above,
        Dom::Element(element) => {
            let attributes = element
                .attributes
                .iter()
                .map(|(name, value)| name.len() + value.len());
            let own: usize = if mark_of(element).is_some() {
                attributes.sum()
            } else {
                0
            };
            repeated(&element.children, above.saturating_add(own)).saturating_add(above)
        }
    });
    pieces.fold(0, usize::saturating_add)
}

/// Nesting is bounded, so this may recurse.
fn units(dom: &[Dom], marks: &Marks, is_code: bool) -> Vec<Unit> {
    let mut out = Vec::new();
    for child in dom {
        match child {
            Dom::Text(text) if is_code => out.extend(
                text.chars()
                    .map(|character| Unit::Character(character, marks.clone())),
            ),
            Dom::Text(text) => push_text(&mut out, text, marks),
            Dom::Element(element) => push_element(&mut out, element, marks, is_code),
        }
    }
    out
}

fn push_text(out: &mut Vec<Unit>, text: &str, marks: &Marks) {
    let is_space = |character: char| matches!(character, ' ' | '\n' | '\r' | '\t' | '\u{c}');
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let is_white = is_space(first);
        let end = rest.find(|next| is_space(next) != is_white).unwrap_or(rest.len());
        let (run, behind) = rest.split_at(end);
        rest = behind;
        match is_white && run.chars().any(|character| character != ' ') {
            true => out.push(Unit::Character(BREAK, marks.clone())),
            false => out.extend(
                run.chars()
                    .map(|character| Unit::Character(character, marks.clone())),
            ),
        }
    }
}

fn push_element(out: &mut Vec<Unit>, element: &Element, marks: &Marks, is_code: bool) {
    let name = element.name.as_str();
    if let Some(mark) = mark_of(element) {
        let mut inner = BTreeMap::clone(marks);
        inner.insert(
            mark,
            Value::Object(attributes(element, &[MARK]).into_iter().collect::<Map<_, _>>()),
        );
        return out.extend(units(&element.children, &Rc::new(inner), is_code));
    }
    match name {
        // Nothing that people read.
        "script" | "style" | "title" | "template" | "colgroup" | "col" | "meta" | "link" | "base" => return,
        // Parts of a table that are none of a document.
        "thead" | "tbody" | "tfoot" => return out.extend(units(&element.children, marks, is_code)),
        "br" if element
            .attributes
            .get("class")
            .is_some_and(|class| class.contains("trailingBreak")) =>
        {
            return;
        }
        "span" if element.attributes.is_empty() => {
            return out.extend(units(&element.children, marks, is_code));
        }
        _ => {}
    }
    out.push(Unit::Node(node(element, marks)));
}

fn mark_of(element: &Element) -> Option<String> {
    if element.name == "span" {
        return element.attributes.get(MARK).cloned();
    }
    let (_, mark) = MARKS.iter().find(|(tag, _)| *tag == element.name)?;
    (*mark != "link" || element.attributes.contains_key("href")).then(|| (*mark).to_owned())
}

fn node(element: &Element, marks: &Marks) -> Node {
    let data_type = element.attributes.get("data-type").map(String::as_str);
    let children = || units(&element.children, marks, false);
    match (element.name.as_str(), data_type) {
        ("div" | "span", _) if element.attributes.contains_key(NODE) => {
            let name = element.attributes.get(NODE).cloned().unwrap_or_default();
            let children = match name.as_str() {
                "codeBlock" => units(&element.children, marks, true),
                _ => loose(children()),
            };
            Node {
                is_block: element.name == "div" || children.iter().any(is_block_unit),
                ..Node::new(name, attributes(element, &[NODE]), children)
            }
        }
        ("p", _) => Node::new("paragraph", attributes(element, &[]), loose(children())),
        ("h1" | "h2" | "h3" | "h4" | "h5" | "h6", _) => {
            let mut attributes = attributes(element, &[]);
            let level = element.name.get(1..).and_then(|level| level.parse::<u8>().ok());
            attributes.insert("level".to_owned(), Value::from(level));
            Node::new("heading", attributes, loose(children()))
        }
        ("blockquote", _) => Node::new("blockquote", attributes(element, &[]), flow(children())),
        ("ul", Some("taskList")) => Node::new(
            "taskList",
            attributes(element, &["data-type"]),
            nodes_only(children()),
        ),
        // As Markdown's task lists are written.
        ("ul", _) if is_task_list(element) => {
            Node::new("taskList", BTreeMap::new(), nodes_only(tasks(element, marks)))
        }
        ("ul", _) => Node::new("bulletList", attributes(element, &[]), nodes_only(children())),
        ("ol", _) => Node::new("orderedList", attributes(element, &[]), nodes_only(children())),
        ("li", Some("taskItem")) => task_item(element, marks),
        ("li", _) => Node::new("listItem", attributes(element, &[]), flow(children())),
        ("pre", _) => code_block(element, marks),
        ("hr", _) => Node::new("horizontalRule", attributes(element, &[]), Vec::new()),
        ("br", _) => Node::new("hardBreak", attributes(element, &[]), Vec::new()),
        ("img", _) => Node::new("image", attributes(element, &[]), Vec::new()),
        // Its style is how wide the columns are together.
        ("table", _) => Node::new("table", attributes(element, &["style"]), nodes_only(children())),
        ("tr", _) => Node::new("tableRow", attributes(element, &[]), nodes_only(children())),
        ("td", _) => Node::new("tableCell", attributes(element, &[]), flow(children())),
        ("th", _) => Node::new("tableHeader", attributes(element, &[]), flow(children())),
        ("span", Some("mention")) => mention(element),
        (name, _) => {
            let children = loose(children());
            Node {
                is_block: children.iter().any(is_block_unit),
                ..Node::new(name, attributes(element, &[]), children)
            }
        }
    }
}

/// Whether a list has nothing but tasks: items that begin with a box.
fn is_task_list(list: &Element) -> bool {
    let mut items = items(list).peekable();
    items.peek().is_some() && items.all(|item| box_of(item).is_some())
}

fn items(list: &Element) -> impl Iterator<Item = &Element> {
    list.children.iter().filter_map(|child| match child {
        Dom::Element(item) if item.name == "li" => Some(item),
        Dom::Element(_) | Dom::Text(_) => None,
    })
}

/// The box that an item begins with; in a list with space between its items it is in the first paragraph.
fn box_of(item: &Element) -> Option<&Element> {
    let is_white = |child: &&Dom| matches!(child, Dom::Text(text) if text.trim().is_empty());
    match item.children.iter().find(|child| !is_white(child))? {
        Dom::Element(first) if first.name == "input" => (first
            .attributes
            .get("type")
            .is_some_and(|kind| kind == "checkbox"))
        .then_some(first),
        Dom::Element(first) if first.name == "p" => box_of(first),
        Dom::Element(_) | Dom::Text(_) => None,
    }
}

fn tasks(list: &Element, marks: &Marks) -> Vec<Unit> {
    let task = |item: &Element| {
        let is_checked = box_of(item).is_some_and(|first| first.attributes.contains_key("checked"));
        let attributes = BTreeMap::from([("checked".to_owned(), Value::Bool(is_checked))]);
        let content = units(&without_box(&item.children), marks, false);
        Unit::Node(Node::new("taskItem", attributes, flow(content)))
    };
    items(list).map(task).collect()
}

/// What is in an item beside its box and the space behind that.
fn without_box(children: &[Dom]) -> Vec<Dom> {
    let mut out = Vec::new();
    let mut rest = children.iter();
    for child in rest.by_ref() {
        match child {
            Dom::Text(text) if text.trim().is_empty() => {}
            Dom::Element(first) if first.name == "input" => {
                let behind = rest.next().cloned();
                out.extend(behind.map(|behind| match behind {
                    Dom::Text(text) => Dom::Text(text.trim_start().to_owned()),
                    Dom::Element(_) => behind,
                }));
                break;
            }
            Dom::Element(first) => {
                out.push(Dom::Element(Element {
                    children: without_box(&first.children),
                    ..first.clone()
                }));
                break;
            }
            Dom::Text(_) => {
                out.push(child.clone());
                break;
            }
        }
    }
    out.extend(rest.cloned());
    out
}

fn task_item(element: &Element, marks: &Marks) -> Node {
    let is_box =
        |child: &&Dom| matches!(child, Dom::Element(child) if child.name == "label" || child.name == "input");
    let mut children: Vec<_> = element
        .children
        .iter()
        .filter(|child| !is_box(child))
        .cloned()
        .collect();
    children.retain(|child| !matches!(child, Dom::Text(text) if text.trim().is_empty()));
    if let [Dom::Element(only)] = &children[..]
        && only.name == "div"
        && only.attributes.is_empty()
    {
        children = only.children.clone();
    }
    let mut attributes = attributes(element, &["data-type", "data-checked"]);
    if let Some(checked) = element.attributes.get("data-checked") {
        attributes.insert("checked".to_owned(), Value::Bool(checked != "false"));
    }
    Node::new("taskItem", attributes, flow(units(&children, marks, false)))
}

fn code_block(element: &Element, marks: &Marks) -> Node {
    let mut attributes = attributes(element, &[]);
    let mut inside = &element.children;
    let mut text = None;
    match &inside[..] {
        [Dom::Element(code)] if code.name == "code" => {
            let language = code
                .attributes
                .get("class")
                .and_then(|class| class.strip_prefix("language-"));
            if let Some(language) = language {
                attributes.insert("language".to_owned(), Value::from(language));
            }
            inside = &code.children;
        }
        // The first line break behind the tag is none of the text.
        [Dom::Text(first), rest @ ..] if first.starts_with('\n') => {
            let first = Dom::Text(first.get(1..).unwrap_or_default().to_owned());
            text = Some(
                std::iter::once(first)
                    .chain(rest.iter().cloned())
                    .collect::<Vec<_>>(),
            );
        }
        _ => {}
    }
    Node::new(
        "codeBlock",
        attributes,
        units(text.as_ref().unwrap_or(inside), marks, true),
    )
}

/// The attributes of a mention, with the names of their HTML.
pub(super) const MENTION: [(&str, &str); 3] = [
    ("id", "data-id"),
    ("label", "data-label"),
    ("mentionSuggestionChar", "data-mention-suggestion-char"),
];

fn mention(element: &Element) -> Node {
    let mut attributes = attributes(element, &["data-type"]);
    for (name, written) in MENTION {
        if let Some(value) = attributes.remove(written) {
            attributes.insert(name.to_owned(), value);
        }
    }
    Node::new("mention", attributes, Vec::new())
}

/// The attributes of an element without those that say what it is.
fn attributes(element: &Element, without: &[&str]) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for (name, text) in &element.attributes {
        if name == ATTRIBUTES {
            if let Ok(Value::Object(more)) = serde_json::from_str(text) {
                found.extend(more.into_iter().filter(|(_, value)| !value.is_null()));
            }
        } else if !without.contains(&name.as_str()) {
            found.insert(name.clone(), value(name, text));
        }
    }
    found
}

fn value(name: &str, text: &str) -> Value {
    let number = || {
        text.parse::<i64>()
            .ok()
            .filter(|number| number.to_string() == text)
    };
    match name {
        "colwidth" => {
            let widths: Option<Vec<i64>> = text.split(',').map(|width| width.parse().ok()).collect();
            widths.map_or_else(|| Value::from(text), Value::from)
        }
        name if NUMBERS.contains(&name) => number().map_or_else(|| Value::from(text), Value::from),
        _ => Value::from(text),
    }
}

/// What is in a line: white space with a line break is a space, and nothing at the ends.
fn line(units: Vec<Unit>) -> Vec<Unit> {
    let is_break = |unit: &Unit| matches!(unit, Unit::Character(BREAK, _));
    let start = units.iter().take_while(|unit| is_break(unit)).count();
    let end = units.iter().rev().take_while(|unit| is_break(unit)).count();
    let length = units.len().saturating_sub(start + end);
    let inner = units.into_iter().skip(start).take(length);
    inner
        .map(|unit| match unit {
            Unit::Character(BREAK, marks) => Unit::Character(' ', marks),
            unit @ (Unit::Character(..) | Unit::Node(_) | Unit::Other) => unit,
        })
        .collect()
}

fn is_block_unit(unit: &Unit) -> bool {
    matches!(unit, Unit::Node(node) if node.is_block || is_block(&node.name))
}

fn is_white(unit: &Unit) -> bool {
    matches!(unit, Unit::Character(BREAK | ' ', _))
}

/// Parts of a content: blocks one by one, and what is in lines between them without white space alone.
fn parts(units: Vec<Unit>) -> Vec<Vec<Unit>> {
    let mut parts: Vec<Vec<Unit>> = Vec::new();
    let mut open = false;
    for unit in units {
        let is_block = is_block_unit(&unit);
        match parts.last_mut() {
            Some(part) if open && !is_block => part.push(unit),
            _ => parts.push(vec![unit]),
        }
        open = !is_block;
    }
    parts.retain(|part| !part.iter().all(is_white));
    parts
}

/// A content of blocks: what stands in lines between them becomes paragraphs. Pictures may stand alone.
fn flow(units: Vec<Unit>) -> Vec<Unit> {
    let is_alone = |unit: &Unit| match unit {
        Unit::Node(node) => is_block_unit(unit) || node.name == "image",
        Unit::Character(..) | Unit::Other => is_white(unit),
    };
    let mut out = Vec::new();
    for part in parts(units) {
        if part.iter().all(is_alone) {
            out.extend(part.into_iter().filter(|unit| matches!(unit, Unit::Node(_))));
        } else {
            out.push(Unit::Node(Node::new("paragraph", BTreeMap::new(), line(part))));
        }
    }
    out
}

/// A content of an unknown kind: a line if there is no block in it, else blocks with lines between them.
fn loose(units: Vec<Unit>) -> Vec<Unit> {
    match units.iter().any(is_block_unit) {
        true => parts(units).into_iter().flat_map(line).collect(),
        false => line(units),
    }
}

/// A content of nodes alone; text that stands among them has no place, so it gets a node.
fn nodes_only(units: Vec<Unit>) -> Vec<Unit> {
    flow(units)
}

//! HTML from units. Whatever the names, attributes and nesting of nodes are, the elements never cross, and a parser finds the same nodes.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::read::MENTION;
use super::safe;
use super::{ATTRIBUTES, BLOCKS, MARK, MARKS, NODE, NUMBERS, is_block, is_inline, is_plain_name};
use crate::content::nodes::{Marks, Node, Run, Unit, runs};
use crate::content::prosemirror::plain_name;

/// What `data-type` tells of an element whose tag does not.
const TYPES: [&str; 3] = ["mention", "taskItem", "taskList"];

/// The HTML that has these units in it.
pub(crate) fn write(units: &[Unit]) -> String {
    written_as(units, false)
}

/// The same for a page that shows it as it is: only elements, attributes and addresses that do nothing. An element or an attribute that is
/// no such one is in `data-node` or `data-attributes`, where it does nothing either.
pub(crate) fn write_safely(units: &[Unit]) -> String {
    safe::sanitised(&written_as(units, true))
}

/// The same of one node that stands among text.
pub(crate) fn write_safely_in_line(node: &Node) -> String {
    let mut out = Out::new(true);
    let line = Node::new("paragraph", BTreeMap::new(), Vec::new());
    write_node(&mut out, node, Some(&line));
    safe::sanitised(&out.html)
}

/// The start tag of a mark that has an element of its own, and that element: only with attributes that do nothing.
pub(crate) fn mark_safely(name: &str, attributes: &Value) -> Option<(String, &'static str)> {
    let tag = mark_tag(name, attributes)?;
    let mut out = Out::new(true);
    open_mark(&mut out, name, attributes);
    close_tag(&mut out, tag);
    let sanitised = safe::sanitised(&out.html);
    let end = format!("</{tag}>");
    Some((sanitised.strip_suffix(&end)?.to_owned(), tag))
}

pub(super) fn written_as(units: &[Unit], is_safe: bool) -> String {
    let mut out = Out::new(is_safe);
    write_units(&mut out, units, None);
    out.html
}

/// The serialiser of sanitised HTML looks from each character that it escapes to the end of the text or value that it is in, which takes
/// time with the square of that. Comments divide text into pieces of so many bytes; they are not left in what is shown.
const PIECE_BYTES: usize = 4096;

/// What the serialiser may look at in one value, in bytes. Values that take more are not shown.
const VALUE_WORK: usize = 1 << 28;

/// What has been written.
struct Out {
    html: String,
    /// Whether it is for a page that shows it as it is.
    is_safe: bool,
    /// Bytes of text since it was divided last.
    undivided: usize,
}

impl Out {
    fn new(is_safe: bool) -> Self {
        Self {
            html: String::new(),
            is_safe,
            undivided: 0,
        }
    }

    fn push(&mut self, character: char) {
        self.html.push(character);
    }

    fn push_str(&mut self, text: &str) {
        self.html.push_str(text);
    }
}

/// Nesting is bounded by the gate, so this may recurse.
fn write_units(out: &mut Out, units: &[Unit], parent: Option<&Node>) {
    // Marks that go on are not closed in between.
    let mut open: Vec<(String, Value)> = Vec::new();
    for run in runs(units) {
        let marks = match &run {
            Run::Text(_, marks) => ordered(marks),
            Run::Node(_) | Run::Other => Vec::new(),
        };
        let stays = open
            .iter()
            .zip(&marks)
            .take_while(|(open, mark)| open == mark)
            .count();
        close_marks(out, &mut open, stays);
        for (name, attributes) in marks.into_iter().skip(stays) {
            open_mark(out, &name, &attributes);
            open.push((name, attributes));
        }
        match run {
            Run::Text(text, _) => write_text(out, &text),
            Run::Node(node) => write_node(out, node, parent),
            Run::Other => {}
        }
    }
    close_marks(out, &mut open, 0);
}

/// A link is around the others, because its parts would be several links.
fn ordered(marks: &Marks) -> Vec<(String, Value)> {
    let (links, others): (Vec<_>, Vec<_>) = (marks.iter())
        .map(|(name, attributes)| (name.clone(), attributes.clone()))
        .partition(|(name, _)| name == "link");
    links.into_iter().chain(others).collect()
}

/// The element of a mark.
fn mark_tag(name: &str, attributes: &Value) -> Option<&'static str> {
    let (tag, _) = MARKS.iter().find(|(_, mark)| *mark == name)?;
    let has_address = attributes.get("href").is_some_and(Value::is_string);
    let is_object = matches!(attributes, Value::Object(_) | Value::Bool(true));
    (is_object && (name != "link" || has_address)).then_some(*tag)
}

fn open_mark(out: &mut Out, name: &str, attributes: &Value) {
    let nothing = Map::new();
    let written = attributes.as_object().unwrap_or(&nothing);
    match mark_tag(name, attributes) {
        Some(tag) => open_tag(out, tag, &[], written.iter()),
        None => {
            // The digest behind the name tells it from others at its place.
            debug_assert!(name.starts_with(plain_name(name)));
            open_tag(out, "span", &[(MARK, name)], written.iter());
        }
    }
}

fn close_marks(out: &mut Out, open: &mut Vec<(String, Value)>, stays: usize) {
    for (name, attributes) in open.drain(stays.min(open.len())..).rev() {
        close_tag(out, mark_tag(&name, &attributes).unwrap_or("span"));
    }
}

fn open_tag<'a>(
    out: &mut Out,
    tag: &str,
    fixed: &[(&str, &str)],
    attributes: impl Iterator<Item = (&'a String, &'a Value)>,
) {
    out.push('<');
    out.push_str(tag);
    for (name, value) in fixed {
        write_attribute(out, name, value);
    }
    let mut more = Map::new();
    for (name, value) in attributes {
        let is_taken = [NODE, MARK, ATTRIBUTES].contains(&name.as_str())
            || fixed.iter().any(|(fixed, _)| fixed == name)
            || name == "data-type" && value.as_str().is_some_and(|value| TYPES.contains(&value));
        match written(name, value) {
            Some(text) if !is_taken && is_plain_name(name) && (!out.is_safe || safe::keeps(tag, name)) => {
                write_attribute(out, name, &text);
            }
            _ => drop(more.insert(name.clone(), value.clone())),
        }
    }
    if !more.is_empty() {
        write_attribute(out, ATTRIBUTES, &Value::Object(more).to_string());
    }
    out.push('>');
}

/// A value of an attribute as it is written, if it is read as the same again.
fn written(name: &str, value: &Value) -> Option<String> {
    match (name, value) {
        ("colwidth", Value::Array(widths)) => {
            let widths: Option<Vec<_>> = widths
                .iter()
                .map(|width| Some(width.as_i64()?.to_string()))
                .collect();
            widths
                .filter(|widths| !widths.is_empty())
                .map(|widths| widths.join(","))
        }
        ("colwidth", _) => None,
        (name, Value::Number(number)) if NUMBERS.contains(&name) => Some(number.as_i64()?.to_string()),
        (name, _) if NUMBERS.contains(&name) => None,
        (_, Value::String(text)) => Some(text.clone()),
        _ => None,
    }
}

fn write_attribute(out: &mut Out, name: &str, value: &str) {
    if out.is_safe && serialising_work(value) > VALUE_WORK {
        return;
    }
    out.push(' ');
    out.push_str(name);
    out.push_str("=\"");
    escape(out, value, true);
    out.push('"');
}

fn close_tag(out: &mut Out, tag: &str) {
    out.push_str("</");
    out.push_str(tag);
    out.push('>');
}

/// How many bytes the serialiser looks at in a value, about.
fn serialising_work(value: &str) -> usize {
    let is_looked_at = |byte: &&u8| matches!(byte, b'&' | 0xC2);
    let stops = value.as_bytes().iter().filter(is_looked_at).count();
    stops.saturating_mul(value.len())
}

fn write_text(out: &mut Out, text: &str) {
    let mut rest = text;
    while out.is_safe && out.undivided + rest.len() > PIECE_BYTES {
        let piece = rest.floor_char_boundary(PIECE_BYTES.saturating_sub(out.undivided));
        let (now, later) = rest.split_at(piece);
        escape(out, now, false);
        out.push_str("<!---->");
        (rest, out.undivided) = (later, 0);
    }
    escape(out, rest, false);
    out.undivided += rest.len();
}

fn escape(out: &mut Out, text: &str, is_attribute: bool) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\u{a0}' => out.push_str("&nbsp;"),
            '"' if is_attribute => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            character => out.push(character),
        }
    }
}

fn is_in(parent: Option<&Node>, names: &[&str]) -> bool {
    parent.is_some_and(|parent| names.contains(&parent.name.as_str()))
}

fn has_block(units: &[Unit]) -> bool {
    units.iter().any(|unit| match unit {
        Unit::Node(node) => is_block(&node.name) || has_block(&node.children),
        Unit::Character(..) | Unit::Other => false,
    })
}

fn holds_only(node: &Node, names: &[&str]) -> bool {
    let is_one = |unit: &Unit| matches!(unit, Unit::Node(child) if names.contains(&child.name.as_str()));
    node.children.iter().all(is_one)
}

/// Whether a table is made of rows of cells: a parser puts everything else in front of it.
fn is_table(node: &Node) -> bool {
    let is_row = |unit: &Unit| matches!(unit, Unit::Node(row) if row.name == "tableRow" && holds_only(row, &["tableCell", "tableHeader"]));
    node.children.iter().all(is_row)
}

/// Whether what is in a block of blocks is read as it is written: text between them would become a paragraph.
fn is_flow(node: &Node) -> bool {
    let is_block =
        |unit: &Unit| matches!(unit, Unit::Node(child) if is_block(&child.name) || child.name == "image");
    node.children.iter().all(is_block)
}

/// Whether a parser would give back what is in the line.
fn is_line(node: &Node) -> bool {
    !has_block(&node.children)
}

fn write_node(out: &mut Out, node: &Node, parent: Option<&Node>) {
    let attributes = || node.attributes.iter();
    let without = |name: &'static str| node.attributes.iter().filter(move |(key, _)| *key != name);
    let is_empty = node.children.is_empty();
    let tag = match node.name.as_str() {
        "paragraph" if is_line(node) => "p",
        "heading" if is_line(node) => {
            let level = node.attributes.get("level").and_then(Value::as_u64);
            let tag = level.and_then(|level| {
                ["h1", "h2", "h3", "h4", "h5", "h6"]
                    .get(level.checked_sub(1)? as usize)
                    .copied()
            });
            match tag {
                Some(tag) => return element(out, tag, &[], without("level"), node),
                None => return other(out, node, parent),
            }
        }
        "blockquote" if is_flow(node) => "blockquote",
        "bulletList" if holds_only(node, &["listItem"]) => "ul",
        "orderedList" if holds_only(node, &["listItem"]) => "ol",
        "listItem" if is_flow(node) && is_in(parent, &["bulletList", "orderedList"]) => "li",
        "taskList" if holds_only(node, &["taskItem"]) => {
            return element(out, "ul", &[("data-type", "taskList")], attributes(), node);
        }
        "taskItem"
            if is_flow(node)
                && is_in(parent, &["taskList"])
                && !node.attributes.contains_key("data-checked") =>
        {
            return task_item(out, node);
        }
        "codeBlock" if !node.children.iter().any(|unit| matches!(unit, Unit::Node(_))) => {
            return code_block(out, node);
        }
        "horizontalRule" if is_empty => return open_tag(out, "hr", &[], attributes()),
        "hardBreak" if is_empty => return open_tag(out, "br", &[], attributes()),
        "image" if is_empty => return open_tag(out, "img", &[], attributes()),
        "table" if is_table(node) && !node.attributes.contains_key("style") => {
            open_tag(out, "table", &[], attributes());
            out.push_str("<tbody>");
            write_units(out, &node.children, Some(node));
            out.push_str("</tbody></table>");
            return;
        }
        "tableRow" if is_in(parent, &["table"]) && holds_only(node, &["tableCell", "tableHeader"]) => "tr",
        "tableCell" if is_in(parent, &["tableRow"]) && is_flow(node) => "td",
        "tableHeader" if is_in(parent, &["tableRow"]) && is_flow(node) => "th",
        "mention"
            if is_empty
                && !MENTION
                    .iter()
                    .any(|(_, written)| node.attributes.contains_key(*written)) =>
        {
            return mention(out, node);
        }
        name if BLOCKS.contains(&name) && (!out.is_safe || safe::is_element(name)) => name,
        name if (is_inline(name) && (!out.is_safe || safe::is_element(name)))
            && !has_block(&node.children)
            && !(name == "span" && node.attributes.is_empty()) =>
        {
            name
        }
        _ => return other(out, node, parent),
    };
    element(out, tag, &[], attributes(), node);
}

fn element<'a>(
    out: &mut Out,
    tag: &str,
    fixed: &[(&str, &str)],
    attributes: impl Iterator<Item = (&'a String, &'a Value)>,
    node: &Node,
) {
    open_tag(out, tag, fixed, attributes);
    write_units(out, &node.children, Some(node));
    close_tag(out, tag);
}

/// A node that no element stands for.
fn other(out: &mut Out, node: &Node, parent: Option<&Node>) {
    let in_line = parent.is_some_and(|parent| !has_block(&parent.children))
        && !is_block(&node.name)
        && !has_block(&node.children);
    let tag = if in_line { "span" } else { "div" };
    element(out, tag, &[(NODE, &node.name)], node.attributes.iter(), node);
}

fn task_item(out: &mut Out, node: &Node) {
    let is_checked = node.attributes.get("checked").and_then(Value::as_bool);
    let checked = is_checked.map(|checked| ("data-checked", if checked { "true" } else { "false" }));
    let fixed: Vec<_> = checked.into_iter().chain([("data-type", "taskItem")]).collect();
    let is_other = |name: &str| name != "checked" || is_checked.is_none();
    open_tag(
        out,
        "li",
        &fixed,
        node.attributes.iter().filter(|(name, _)| is_other(name)),
    );
    let mark = if is_checked == Some(true) {
        " checked=\"checked\""
    } else {
        ""
    };
    out.push_str("<label><input type=\"checkbox\"");
    out.push_str(mark);
    out.push_str("><span></span></label><div>");
    write_units(out, &node.children, Some(node));
    out.push_str("</div></li>");
}

fn code_block(out: &mut Out, node: &Node) {
    let language = node.attributes.get("language").and_then(Value::as_str);
    let attributes = node
        .attributes
        .iter()
        .filter(|(name, _)| language.is_none() || *name != "language");
    open_tag(out, "pre", &[], attributes);
    let class = language.map(|language| format!("language-{language}"));
    let fixed: Vec<_> = class.iter().map(|class| ("class", class.as_str())).collect();
    open_tag(out, "code", &fixed, [].into_iter());
    write_units(out, &node.children, Some(node));
    out.push_str("</code></pre>");
}

fn mention(out: &mut Out, node: &Node) {
    let text = |name: &str| node.attributes.get(name).and_then(Value::as_str);
    let written: Vec<_> = (MENTION.iter())
        .filter_map(|(name, written)| Some((*written, text(name)?)))
        .collect();
    let fixed: Vec<_> = std::iter::once(("data-type", "mention")).chain(written).collect();
    let is_written = |name: &str| MENTION.iter().any(|(other, _)| *other == name) && text(name).is_some();
    open_tag(
        out,
        "span",
        &fixed,
        node.attributes.iter().filter(|(name, _)| !is_written(name)),
    );
    write_text(out, text("mentionSuggestionChar").unwrap_or("@"));
    write_text(out, text("label").or(text("id")).unwrap_or_default());
    close_tag(out, "span");
}

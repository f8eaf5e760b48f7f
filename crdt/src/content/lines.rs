//! The lines of a rich text as Quill keeps it, as units: what a line is stands as the format of its line break.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use yrs::branch::BranchPtr;
use yrs::types::text::YChange;
use yrs::{Any, Out, ReadTxn, Text, TextRef};

use super::nodes::{Marks, Node, Unit, marks};
use super::value;

/// Formats of a line break that say what the line is.
const OF_LINES: [&str; 6] = ["align", "blockquote", "code-block", "direction", "header", "list"];

/// Formats with another name than the marks of editors that are built on ProseMirror.
const MARKS: [(&str, &str); 1] = [("background", "highlight")];

/// Most levels that the indent of a line makes.
const MAX_INDENT: u64 = 8;

struct Line {
    units: Vec<Unit>,
    formats: Marks,
}

/// Units from a text.
pub(crate) fn read(transaction: &impl ReadTxn, text: BranchPtr) -> Vec<Unit> {
    let mut lines = Vec::new();
    let mut open: Vec<Unit> = Vec::new();
    for piece in TextRef::from(text).diff(transaction, YChange::identity) {
        let formats = marks(&piece);
        let Out::Any(Any::String(text)) = piece.insert else {
            open.push(embed(value(transaction, piece.insert)));
            continue;
        };
        let inline = inline(&formats);
        for character in text.chars() {
            match character {
                '\n' => lines.push(Line {
                    units: std::mem::take(&mut open),
                    formats: formats.clone(),
                }),
                character => open.push(Unit::Character(character, inline.clone())),
            }
        }
    }
    if !open.is_empty() {
        lines.push(Line {
            units: open,
            formats: Marks::default(),
        });
    }
    blocks(&lines)
}

/// The marks of characters.
fn inline(formats: &Marks) -> Marks {
    let mut marks = BTreeMap::new();
    for (name, value) in formats
        .iter()
        .filter(|(name, _)| !OF_LINES.contains(&name.as_str()))
    {
        let (name, attributes) = match (name.as_str(), value) {
            (_, Value::Null | Value::Bool(false)) => continue,
            ("link", Value::String(href)) => ("link", json!({ "href": href })),
            ("script", Value::String(script)) if script == "sub" => ("subscript", json!({})),
            ("script", Value::String(script)) if script == "super" => ("superscript", json!({})),
            (name, value) => {
                let name = MARKS
                    .iter()
                    .find(|(quill, _)| *quill == name)
                    .map_or(name, |(_, mark)| mark);
                let attributes = match value {
                    Value::Object(_) => value.clone(),
                    Value::Bool(_) => json!({}),
                    Value::Null | Value::Number(_) | Value::String(_) | Value::Array(_) => {
                        json!({ "value": value })
                    }
                };
                (name, attributes)
            }
        };
        marks.insert(name.to_owned(), attributes);
    }
    Rc::new(marks)
}

/// What is no character: an object with its kind as its only key.
fn embed(value: Value) -> Unit {
    let Value::Object(entries) = value else {
        return Unit::Other;
    };
    let Some((kind, content)) = entries.into_iter().next() else {
        return Unit::Other;
    };
    let attribute = match kind.as_str() {
        "image" | "video" => "src",
        _ => "value",
    };
    let attributes = if let Value::Object(attributes) = content {
        attributes.into_iter().collect()
    } else {
        BTreeMap::from([(attribute.to_owned(), content)])
    };
    Unit::Node(Node::new(kind, attributes, Vec::new()))
}

/// Lines that belong together are one block.
fn blocks(lines: &[Line]) -> Vec<Unit> {
    let mut out = Vec::new();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let kind = first.kind();
        let length = rest
            .iter()
            .take_while(|line| kind.goes_on_with(&line.kind()))
            .count()
            .max(1);
        let (block, behind) = rest.split_at(length.min(rest.len()));
        rest = behind;
        match kind {
            Kind::List { .. } => out.extend(lists(block, 0)),
            Kind::Code(language) => out.push(code(block, language)),
            Kind::Quote => out.push(node("blockquote", [], block.iter().map(paragraph).collect())),
            Kind::Heading(level) => out.push(node(
                "heading",
                [("level", Value::from(level))],
                first.units.clone(),
            )),
            Kind::Paragraph => {
                let is_picture = |unit: &Unit| matches!(unit, Unit::Node(node) if node.name == "image");
                match first.units.is_empty() || !first.units.iter().all(is_picture) {
                    true => out.push(paragraph(first)),
                    false => out.extend(first.units.iter().cloned()),
                }
            }
        }
    }
    out
}

fn node<const N: usize>(name: &str, attributes: [(&str, Value); N], children: Vec<Unit>) -> Unit {
    let attributes = attributes.map(|(name, value)| (name.to_owned(), value));
    Unit::Node(Node::new(name, attributes.into(), children))
}

fn paragraph(line: &Line) -> Unit {
    match line.formats.get("align") {
        Some(align @ Value::String(_)) => {
            node("paragraph", [("textAlign", align.clone())], line.units.clone())
        }
        _ => node("paragraph", [], line.units.clone()),
    }
}

/// Code as one text, whose marks say nothing.
fn code(lines: &[Line], language: Option<String>) -> Unit {
    let mut units = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let marks = Marks::default();
        if at > 0 {
            units.push(Unit::Character('\n', marks.clone()));
        }
        units.extend(line.units.iter().filter_map(|unit| match unit {
            Unit::Character(character, _) => Some(Unit::Character(*character, marks.clone())),
            Unit::Node(_) | Unit::Other => None,
        }));
    }
    let language = language.map(|language| ("language".to_owned(), Value::from(language)));
    Unit::Node(Node::new("codeBlock", language.into_iter().collect(), units))
}

/// The lists of lines that are indented at least this far: one for each run of items of a kind.
fn lists(lines: &[Line], indent: u64) -> Vec<Unit> {
    let mut out: Vec<(&str, Vec<Node>)> = Vec::new();
    let mut rest = lines;
    while let Some(first) = rest.first() {
        let Kind::List { name, checked } = first.kind() else {
            break;
        };
        let deeper = rest
            .iter()
            .skip(1)
            .take_while(|line| line.indent() > indent)
            .count();
        let (block, behind) = rest.split_at(1 + deeper);
        rest = behind;
        let mut children = vec![paragraph(first)];
        children.extend(lists(block.get(1..).unwrap_or_default(), indent + 1));
        let checked = checked.map(|checked| ("checked".to_owned(), Value::Bool(checked)));
        let item = if name == "taskList" {
            "taskItem"
        } else {
            "listItem"
        };
        let item = Node::new(item, checked.into_iter().collect(), children);
        match out.last_mut() {
            Some((open, items)) if *open == name => items.push(item),
            _ => out.push((name, vec![item])),
        }
    }
    let list = |(name, items): (&str, Vec<Node>)| node(name, [], items.into_iter().map(Unit::Node).collect());
    out.into_iter().map(list).collect()
}

/// What a line is.
#[derive(PartialEq)]
enum Kind {
    Paragraph,
    Heading(u64),
    Quote,
    Code(Option<String>),
    List {
        name: &'static str,
        checked: Option<bool>,
    },
}

impl Kind {
    /// Whether a line of another kind is in the same block.
    fn goes_on_with(&self, next: &Self) -> bool {
        match (self, next) {
            (Self::List { .. }, Self::List { .. }) => true,
            (Self::Quote | Self::Code(_), next) => self == next,
            _ => false,
        }
    }
}

impl Line {
    fn kind(&self) -> Kind {
        let format = |name: &str| {
            self.formats
                .get(name)
                .filter(|value| **value != Value::Bool(false))
        };
        if let Some(list) = format("list").and_then(Value::as_str) {
            let (name, checked) = match list {
                "ordered" => ("orderedList", None),
                "checked" => ("taskList", Some(true)),
                "unchecked" => ("taskList", Some(false)),
                _ => ("bulletList", None),
            };
            return Kind::List { name, checked };
        }
        if let Some(code) = format("code-block") {
            let language = code
                .as_str()
                .filter(|language| !matches!(*language, "plain" | "true"));
            return Kind::Code(language.map(str::to_owned));
        }
        if let Some(level) = format("header").and_then(Value::as_u64) {
            return Kind::Heading(level.clamp(1, 6));
        }
        match format("blockquote") {
            Some(_) => Kind::Quote,
            None => Kind::Paragraph,
        }
    }

    fn indent(&self) -> u64 {
        let indent = self.formats.get("indent").and_then(Value::as_u64);
        indent.unwrap_or_default().min(MAX_INDENT)
    }
}

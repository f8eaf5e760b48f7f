//! What is in a line of BlockNote's: text with styles, links, and nodes of an application.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use crate::content::html;
use crate::content::nodes::{Marks, Node, Run, Unit, runs};
use crate::content::prosemirror::plain_name;

/// Marks with a value, and the property of a style that shows it.
const COLOURS: [(&str, &str); 2] = [("textColor", "color"), ("backgroundColor", "background-color")];

/// The value of a mark that has one.
const VALUE: &str = "stringValue";

/// Marks that no block shows: what people say of it.
const ASIDE: [&str; 4] = ["comment", "deletion", "insertion", "modification"];

/// Characters as they are in code.
pub(super) fn code(units: &[Unit]) -> Vec<Unit> {
    let marks = Marks::default();
    let mut out = Vec::new();
    for unit in units {
        match unit {
            Unit::Character(character, _) => out.push(Unit::Character(*character, marks.clone())),
            Unit::Node(node) if node.name == "hardBreak" => out.push(Unit::Character('\n', marks.clone())),
            Unit::Node(node) => out.extend(code(&node.children)),
            Unit::Other => {}
        }
    }
    out
}

fn with_marks(units: &[Unit], change: impl Fn(&Marks) -> Marks) -> Vec<Unit> {
    let mut last: Option<(Marks, Marks)> = None;
    let changed = units.iter().map(|unit| match unit {
        Unit::Character(character, marks) => {
            let changed = match &last {
                Some((before, changed)) if Rc::ptr_eq(before, marks) => changed.clone(),
                _ => change(marks),
            };
            last = Some((marks.clone(), changed.clone()));
            Unit::Character(*character, changed)
        }
        Unit::Node(_) | Unit::Other => unit.clone(),
    });
    changed.collect()
}

/// A line as other forms have it.
pub(super) fn plain(units: &[Unit]) -> Vec<Unit> {
    with_marks(units, |marks| {
        let plain = marks.iter().map(|(name, attributes)| {
            let colour = COLOURS.iter().find(|(mark, _)| *mark == plain_name(name));
            let value = attributes.get(VALUE).and_then(Value::as_str);
            let attributes = match (colour, value) {
                (Some((_, property)), Some(value)) => {
                    json!({ "data-value": value, "style": format!("{property}:{value}") })
                }
                _ => attributes.clone(),
            };
            (name.clone(), attributes)
        });
        Rc::new(plain.collect())
    })
}

/// Parts of a line: what may stand in a block, and pictures, which are blocks.
pub(super) enum Part {
    Line(Vec<Unit>),
    Picture(Node),
}

/// A line in parts that may stand in blocks.
pub(super) fn parts(units: &[Unit]) -> Vec<Part> {
    let mut parts = Vec::new();
    push_parts(&mut parts, units);
    parts
}

/// Nesting is bounded, so this may recurse.
fn push_parts(parts: &mut Vec<Part>, units: &[Unit]) {
    for unit in with_marks(units, styles) {
        match unit {
            Unit::Node(node) if node.name == "image" => parts.push(Part::Picture(node)),
            // Elements that an editor would not know.
            Unit::Node(node) if html::is_inline(&node.name) || html::is_block(&node.name) => {
                push_parts(parts, &node.children);
            }
            Unit::Other => {}
            unit @ (Unit::Character(..) | Unit::Node(_)) => match parts.last_mut() {
                Some(Part::Line(line)) => line.push(unit),
                Some(Part::Picture(_)) | None => parts.push(Part::Line(vec![unit])),
            },
        }
    }
}

/// A line without pictures.
pub(super) fn line(units: &[Unit]) -> Vec<Unit> {
    let lines = parts(units).into_iter().filter_map(|part| match part {
        Part::Line(line) => Some(line),
        Part::Picture(_) => None,
    });
    lines.flatten().collect()
}

/// Marks that BlockNote has.
fn styles(marks: &Marks) -> Marks {
    let style = |(name, attributes): (&String, &Value)| {
        let attributes = match name.as_str() {
            "highlight" => return Some(("backgroundColor".to_owned(), json!({ VALUE: "yellow" }))),
            "subscript" | "superscript" => return None,
            "link" => json!({ "href": attributes.get("href")? }),
            "bold" | "italic" | "underline" | "strike" | "code" => json!({}),
            name if COLOURS.iter().any(|(mark, _)| *mark == plain_name(name)) => {
                let value = attributes.get("data-value").or(attributes.get(VALUE))?;
                json!({ VALUE: value })
            }
            _ => attributes.clone(),
        };
        Some((name.clone(), attributes))
    };
    Rc::new(marks.iter().filter_map(style).collect())
}

/// Text in BlockNote's JSON while it is written: a break of a line belongs to the text in front of it.
#[derive(Default)]
struct Written {
    done: Vec<Value>,
    open: Option<Open>,
}

struct Open {
    href: Option<Value>,
    texts: Vec<(String, Map<String, Value>)>,
}

impl Written {
    fn close(&mut self) {
        let Some(Open { href, texts }) = self.open.take() else {
            return;
        };
        let text = |(text, styles): (String, Map<String, Value>)| json!({ "type": "text", "text": text, "styles": styles });
        let texts: Vec<_> = texts.into_iter().map(text).collect();
        match href {
            Some(href) => self
                .done
                .push(json!({ "type": "link", "href": href, "content": texts })),
            None => self.done.extend(texts),
        }
    }

    fn text(&mut self, text: &str, marks: &Marks) {
        let href = marks.iter().find(|(name, _)| plain_name(name) == "link");
        let href = href.map(|(_, link)| link.get("href").cloned().unwrap_or_default());
        let styles = written_styles(marks);
        match &mut self.open {
            Some(open) if open.href == href => match open.texts.last_mut() {
                Some((before, same)) if *same == styles => before.push_str(text),
                _ => open.texts.push((text.to_owned(), styles)),
            },
            Some(_) | None => {
                self.close();
                let texts = vec![(text.to_owned(), styles)];
                self.open = Some(Open { href, texts });
            }
        }
    }
}

fn written_styles(marks: &Marks) -> Map<String, Value> {
    let style = |(name, attributes): (&String, &Value)| {
        let name = plain_name(name);
        if name == "link" || ASIDE.contains(&name) {
            return None;
        }
        let is_plain = attributes.as_object().is_none_or(Map::is_empty);
        match (is_plain, attributes.get(VALUE)) {
            (_, Some(value)) => Some((name.to_owned(), value.clone())),
            (true, None) => Some((name.to_owned(), Value::Bool(true))),
            (false, None) => None,
        }
    };
    marks.iter().filter_map(style).collect()
}

/// A line in BlockNote's JSON.
pub(super) fn write(units: &[Unit]) -> Vec<Value> {
    let mut written = Written::default();
    for run in runs(units) {
        match run {
            Run::Text(text, marks) => written.text(&text, marks),
            Run::Node(node) if node.name == "hardBreak" => match &mut written.open {
                Some(open) => open
                    .texts
                    .last_mut()
                    .into_iter()
                    .for_each(|(text, _)| text.push('\n')),
                None => written.text("\n", &Marks::default()),
            },
            Run::Node(node) => {
                written.close();
                let mut out = json!({ "type": node.name, "props": node.attributes });
                if !node.children.is_empty() {
                    out["content"] = Value::Array(write(&node.children));
                }
                written.done.push(out);
            }
            Run::Other => {}
        }
    }
    written.close();
    written.done
}

/// A line from BlockNote's JSON.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn read(content: &Value, is_code: bool, depth: usize) -> Result<Vec<Unit>, &'static str> {
    let mut units = Vec::new();
    match content {
        Value::Null => {}
        Value::String(text) => push_text(&mut units, text, &Marks::default(), is_code),
        Value::Array(parts) => {
            for part in parts {
                push_part(&mut units, part, is_code, depth)?;
            }
        }
        Value::Bool(_) | Value::Number(_) | Value::Object(_) => {
            return Err("the content of a block is a text or a list");
        }
    }
    Ok(units)
}

fn push_part(units: &mut Vec<Unit>, part: &Value, is_code: bool, depth: usize) -> Result<(), &'static str> {
    if depth > super::json::MAX_DEPTH {
        return Err("it is nested too deeply");
    }
    if let Some(text) = part.as_str() {
        push_text(units, text, &Marks::default(), is_code);
        return Ok(());
    }
    let kind = part
        .get("type")
        .and_then(Value::as_str)
        .ok_or("what is in a line has a type")?;
    match kind {
        "text" => push_styled(units, part, None, is_code),
        "link" => {
            let href = part
                .get("href")
                .and_then(Value::as_str)
                .ok_or("a link has a href")?;
            match part.get("content") {
                Some(Value::String(text)) => {
                    let marks = BTreeMap::from([("link".to_owned(), json!({ "href": href }))]);
                    push_text(units, text, &Rc::new(marks), is_code);
                    Ok(())
                }
                Some(Value::Array(texts)) => texts
                    .iter()
                    .try_for_each(|text| push_styled(units, text, Some(href), is_code)),
                _ => Err("a link has a content"),
            }
        }
        kind => {
            let attributes = properties(part.get("props"))?;
            let children = read(part.get("content").unwrap_or(&Value::Null), false, depth + 1)?;
            units.push(Unit::Node(Node::new(kind, attributes, children)));
            Ok(())
        }
    }
}

fn push_styled(
    units: &mut Vec<Unit>,
    part: &Value,
    href: Option<&str>,
    is_code: bool,
) -> Result<(), &'static str> {
    let text = part.get("text").and_then(Value::as_str).or(part.as_str());
    let text = text.ok_or("a text has a text")?;
    let mut marks = BTreeMap::new();
    match part.get("styles") {
        None | Some(Value::Null) => {}
        Some(Value::Object(styles)) => {
            for (name, value) in styles {
                match value {
                    Value::Bool(true) => drop(marks.insert(name.clone(), json!({}))),
                    Value::String(value) if !value.is_empty() => {
                        marks.insert(name.clone(), json!({ VALUE: value }));
                    }
                    Value::Null | Value::Bool(false) | Value::String(_) => {}
                    Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                        return Err("a style is true or a text");
                    }
                }
            }
        }
        Some(_) => return Err("styles are an object"),
    }
    if let Some(href) = href {
        marks.insert("link".to_owned(), json!({ "href": href }));
    }
    push_text(units, text, &Rc::new(marks), is_code);
    Ok(())
}

fn push_text(units: &mut Vec<Unit>, text: &str, marks: &Marks, is_code: bool) {
    for character in text.chars() {
        units.push(match (character, is_code) {
            ('\n', false) => Unit::Node(Node::new("hardBreak", BTreeMap::new(), Vec::new())),
            (character, true) => Unit::Character(character, Marks::default()),
            (character, false) => Unit::Character(character, marks.clone()),
        });
    }
}

/// Properties: null is what they are when they are missing.
pub(super) fn properties(properties: Option<&Value>) -> Result<BTreeMap<String, Value>, &'static str> {
    match properties {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(properties)) => Ok((properties.iter())
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()),
        Some(_) => Err("properties are an object"),
    }
}

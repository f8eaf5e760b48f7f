//! ProseMirror's JSON, to and from units. In a document y-prosemirror keeps a node as an element of its type's name and text as one text
//! with a format for each mark, so each node and each mark is one here.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Map, Value, json};

use super::nodes::{Marks, Node, Run, Unit, runs};

/// Deeper documents are refused.
const MAX_DEPTH: usize = 200;

/// A mark of which several may be at the same place has this between its name and a digest of eight characters.
const APART: &str = "--";
const DIGEST: usize = 8;

/// The document that has these units in it.
pub(crate) fn write(units: &[Unit]) -> Value {
    json!({ "type": "doc", "content": content(units) })
}

fn content(units: &[Unit]) -> Vec<Value> {
    let written = runs(units).into_iter().filter_map(|run| match run {
        Run::Text(text, marks) => Some(match marks.is_empty() {
            true => json!({ "type": "text", "text": text }),
            false => {
                json!({ "type": "text", "marks": marks.iter().map(mark).collect::<Vec<_>>(), "text": text })
            }
        }),
        Run::Node(node) => Some(written(node)),
        Run::Other => None,
    });
    written.collect()
}

fn written(node: &Node) -> Value {
    let mut out = Map::new();
    out.insert("type".to_owned(), Value::from(node.name.as_str()));
    if !node.attributes.is_empty() {
        out.insert(
            "attrs".to_owned(),
            node.attributes.clone().into_iter().collect::<Map<_, _>>().into(),
        );
    }
    let content = content(&node.children);
    if !content.is_empty() {
        out.insert("content".to_owned(), Value::Array(content));
    }
    Value::Object(out)
}

fn mark((name, attributes): (&String, &Value)) -> Value {
    match attributes
        .as_object()
        .is_some_and(|attributes| !attributes.is_empty())
    {
        true => json!({ "type": plain_name(name), "attrs": attributes }),
        false => json!({ "type": plain_name(name) }),
    }
}

/// The name of a mark without the digest that tells it from others of its name.
pub(crate) fn plain_name(name: &str) -> &str {
    match name.rsplit_once(APART) {
        Some((plain, digest)) if is_digest(digest) => plain,
        _ => name,
    }
}

fn is_digest(text: &str) -> bool {
    let is_base64 = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=');
    text.len() == DIGEST && text.bytes().all(is_base64)
}

/// What is in a document.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn parse(document: &Value) -> Result<Vec<Unit>, &'static str> {
    match document.get("type").and_then(Value::as_str) {
        Some("doc") => units(document, 0),
        _ => Err("it is no node of type `doc`"),
    }
}

fn units(node: &Value, depth: usize) -> Result<Vec<Unit>, &'static str> {
    if depth > MAX_DEPTH {
        return Err("it is nested too deeply");
    }
    let children = match node.get("content") {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(children)) => children,
        Some(_) => return Err("the content of a node is a list"),
    };
    let mut units = Vec::new();
    for child in children {
        let name = child
            .get("type")
            .and_then(Value::as_str)
            .ok_or("a node has a type")?;
        if name == "text" {
            let text = child
                .get("text")
                .and_then(Value::as_str)
                .ok_or("a text has a text")?;
            let marks = marks(child)?;
            units.extend(
                text.chars()
                    .map(|character| Unit::Character(character, marks.clone())),
            );
        } else {
            let children = self::units(child, depth + 1)?;
            units.push(Unit::Node(Node::new(
                name,
                attributes(child.get("attrs"))?,
                children,
            )));
        }
    }
    Ok(units)
}

/// Attributes that are null are not kept: that is what they are when they are missing.
fn attributes(attributes: Option<&Value>) -> Result<BTreeMap<String, Value>, &'static str> {
    match attributes {
        None | Some(Value::Null) => Ok(BTreeMap::new()),
        Some(Value::Object(attributes)) => Ok((attributes.iter())
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()),
        Some(_) => Err("attributes are an object"),
    }
}

fn marks(node: &Value) -> Result<Marks, &'static str> {
    let marks = match node.get("marks") {
        None | Some(Value::Null) => return Ok(Marks::default()),
        Some(Value::Array(marks)) => marks,
        Some(_) => return Err("marks are a list"),
    };
    let mut found: BTreeMap<String, Value> = BTreeMap::new();
    for mark in marks {
        let name = mark
            .get("type")
            .and_then(Value::as_str)
            .ok_or("a mark has a type")?;
        let attributes = match mark.get("attrs") {
            None | Some(Value::Null) => json!({}),
            Some(attributes) => attributes.clone(),
        };
        let name = match found.get(name) {
            Some(other) if *other != attributes => apart(name, &attributes),
            _ => name.to_owned(),
        };
        found.insert(name, attributes);
    }
    Ok(Rc::new(found))
}

/// A name for one more mark of the same name at the same place.
fn apart(name: &str, attributes: &Value) -> String {
    let digest = Node::new(attributes.to_string(), BTreeMap::new(), Vec::new()).fingerprint;
    format!("{name}{APART}{:08x}", digest as u32)
}

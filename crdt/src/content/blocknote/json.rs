//! BlockNote's own JSON: a list of blocks, `{"id", "type", "props", "content", "children"}`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    BARE, COLUMNS, CONTAINER, GROUP, TEXTS, contained, content, group, grouped, inline, table, with_defaults,
};
use crate::content::nodes::{Node, Unit};

/// Deeper documents are refused.
pub(super) const MAX_DEPTH: usize = 60;

/// The blocks of a document of BlockNote's.
pub(crate) fn write(units: &[Unit]) -> Value {
    let groups = units.iter().filter_map(|unit| match unit {
        Unit::Node(node) if node.name == GROUP => Some(node),
        Unit::Character(..) | Unit::Node(_) | Unit::Other => None,
    });
    groups.flat_map(|group| blocks(&group.children)).collect()
}

/// Nesting is bounded by the gate, so this may recurse.
fn blocks(units: &[Unit]) -> Vec<Value> {
    let block = |unit: &Unit| match unit {
        Unit::Node(node) => Some(block(node)),
        Unit::Character(..) | Unit::Other => None,
    };
    units.iter().filter_map(block).collect()
}

fn block(node: &Node) -> Value {
    let own = if node.name == CONTAINER {
        content(node)
    } else {
        None
    };
    let mut properties = node.attributes.clone();
    let id = properties.remove("id");
    let kind = own.map_or(node.name.as_str(), |own| own.name.as_str());
    properties.extend(own.iter().flat_map(|own| own.attributes.clone()));
    let mut out = json!({ "type": kind, "props": with_defaults(kind, properties) });
    if let Some(id) = id {
        out["id"] = id;
    }
    match own {
        Some(own) if kind == "table" => out["content"] = table::write(own),
        Some(own) if TEXTS.contains(&kind) || !BARE.contains(&kind) && !own.children.is_empty() => {
            out["content"] = Value::Array(inline::write(&own.children));
        }
        Some(_) | None => {}
    }
    let children = match own {
        Some(_) => group(&node.children).map(|group| blocks(&group.children)),
        None if node.name == CONTAINER => group(&node.children).map(|group| blocks(&group.children)),
        None => Some(blocks(&node.children)),
    };
    out["children"] = Value::Array(children.unwrap_or_default());
    out
}

/// A document of BlockNote's that has these blocks.
///
/// # Errors
/// Says what is wrong with it.
pub(crate) fn parse(blocks: &Value) -> Result<Vec<Unit>, &'static str> {
    Ok(grouped(read(blocks, 0)?).into_iter().collect())
}

fn read(blocks: &Value, depth: usize) -> Result<Vec<Unit>, &'static str> {
    if depth > MAX_DEPTH {
        return Err("it is nested too deeply");
    }
    match blocks {
        Value::Null => Ok(Vec::new()),
        Value::Array(blocks) => blocks.iter().map(|block| read_block(block, depth)).collect(),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Object(_) => Err("blocks are a list"),
    }
}

fn read_block(block: &Value, depth: usize) -> Result<Unit, &'static str> {
    if !block.is_object() {
        return Err("a block is an object");
    }
    let kind = match block.get("type") {
        None | Some(Value::Null) => "paragraph",
        Some(Value::String(kind)) if !kind.is_empty() && kind != GROUP && kind != CONTAINER => kind.as_str(),
        Some(_) => return Err("a block has a type"),
    };
    let id = match block.get("id") {
        None | Some(Value::Null) => None,
        Some(Value::String(id)) => Some(id.as_str()),
        Some(_) => return Err("an id is a text"),
    };
    let children = read(block.get("children").unwrap_or(&Value::Null), depth + 1)?;
    let properties = inline::properties(block.get("props"))?;
    let node = if COLUMNS.contains(&kind) {
        Node::new(kind, properties, children)
    } else {
        let written = block.get("content").unwrap_or(&Value::Null);
        let content = match kind {
            "table" => table::read(written, depth)?,
            kind if BARE.contains(&kind) => Vec::new(),
            kind => inline::read(written, kind == "codeBlock", depth)?,
        };
        match contained(
            Node::new(kind, with_defaults(kind, properties), content),
            children,
        ) {
            Unit::Node(node) => node,
            unit @ (Unit::Character(..) | Unit::Other) => return Ok(unit),
        }
    };
    let mut attributes = node.attributes;
    attributes.extend(id.map(|id| ("id".to_owned(), Value::from(id))));
    Ok(Unit::Node(Node::new(node.name, attributes, node.children)))
}

/// Blocks without the ids of those: they are given to a block that comes without one.
pub(crate) fn without_ids(blocks: &Value) -> Value {
    let Value::Array(blocks) = blocks else {
        return blocks.clone();
    };
    let without = |block: &Value| {
        let mut entries: BTreeMap<String, Value> = block
            .as_object()
            .into_iter()
            .flatten()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        entries.remove("id");
        if let Some(children) = entries.get_mut("children") {
            *children = without_ids(children);
        }
        Value::Object(entries.into_iter().collect())
    };
    blocks.iter().map(without).collect()
}

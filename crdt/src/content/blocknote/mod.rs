//! BlockNote's documents: a group of blocks, each in a container with a content and, if it has blocks in it, a group of these.
//!
//! ```text
//! blockGroup ─┬─ blockContainer ─┬─ heading
//!             │                  └─ blockGroup ── blockContainer ── paragraph
//!             └─ blockContainer ── table
//! ```
//!
//! A page that holds this is read in other forms as an ordinary document, and what is saved in another form becomes blocks: no page holds a mix
//! of both.

mod blocks;
mod inline;
mod json;
mod plain;
mod table;

pub(crate) use blocks::blocks;
pub(crate) use json::{parse, without_ids, write};
pub(crate) use plain::plain;

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::nodes::{Node, Unit};

pub(crate) const GROUP: &str = "blockGroup";
pub(crate) const CONTAINER: &str = "blockContainer";
const COLUMNS: [&str; 2] = ["columnList", "column"];
const TABLE_LINE: &str = "tableParagraph";

/// Blocks in which there is text, of each of which the others can be made.
const TEXTS: [&str; 8] = [
    "bulletListItem",
    "checkListItem",
    "codeBlock",
    "heading",
    "numberedListItem",
    "paragraph",
    "quote",
    "toggleListItem",
];

/// Blocks without a content of their own.
const BARE: [&str; 6] = ["audio", "divider", "file", "image", "pageBreak", "video"];

/// What a property is where it is not there.
fn default_of(block: &str, property: &str) -> Option<Value> {
    let is_of = |blocks: &[&str]| blocks.contains(&block);
    let is_line = is_of(&TEXTS) && !is_of(&["codeBlock"]);
    let is_media = is_of(&["audio", "file", "image", "video"]);
    Some(match property {
        "backgroundColor" if is_line || is_media || is_of(&CELLS) => json!("default"),
        "textColor" if is_line || is_of(&["table"]) || is_of(&CELLS) => json!("default"),
        "textAlignment" if is_line && block != "quote" || is_of(&["image", "video"]) || is_of(&CELLS) => {
            json!("left")
        }
        "colspan" | "rowspan" if is_of(&CELLS) => json!(1),
        "level" if block == "heading" => json!(1),
        "isToggleable" if block == "heading" => json!(false),
        "checked" if block == "checkListItem" => json!(false),
        "language" if block == "codeBlock" => json!("text"),
        "caption" | "name" | "url" if is_media => json!(""),
        "showPreview" if is_of(&["audio", "image", "video"]) => json!(true),
        _ => return None,
    })
}

const CELLS: [&str; 2] = ["tableCell", "tableHeader"];

/// The properties that a block may have by default.
const DEFAULTED: [&str; 13] = [
    "backgroundColor",
    "caption",
    "checked",
    "colspan",
    "isToggleable",
    "language",
    "level",
    "name",
    "rowspan",
    "showPreview",
    "textAlignment",
    "textColor",
    "url",
];

/// The properties of a block with those that it has by default, and without those of other blocks, which it may have from what it was.
fn with_defaults(block: &str, mut properties: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let is_known =
        TEXTS.contains(&block) || BARE.contains(&block) || CELLS.contains(&block) || block == "table";
    for name in DEFAULTED {
        match (default_of(block, name), is_known) {
            (Some(value), _) => drop(properties.entry(name.to_owned()).or_insert(value)),
            (None, true) => drop(properties.remove(name)),
            (None, false) => {}
        }
    }
    properties
}

/// Whether a document is one of BlockNote's.
pub(crate) fn is_in(units: &[Unit]) -> bool {
    group(units).is_some()
}

/// The group of blocks that a document, or a container, has.
pub(crate) fn group(units: &[Unit]) -> Option<&Node> {
    units.iter().find_map(|unit| match unit {
        Unit::Node(node) if node.name == GROUP => Some(node),
        Unit::Character(..) | Unit::Node(_) | Unit::Other => None,
    })
}

/// The content of a container.
pub(crate) fn content(container: &Node) -> Option<&Node> {
    container.children.iter().find_map(|unit| match unit {
        Unit::Node(node) if node.name != GROUP => Some(node),
        Unit::Character(..) | Unit::Node(_) | Unit::Other => None,
    })
}

/// Whether one content can become the other one, with the text that is in it.
pub(crate) fn is_alike(one: &str, other: &str) -> bool {
    one == other || TEXTS.contains(&one) && TEXTS.contains(&other)
}

/// A content with other text in it: code has neither marks nor breaks.
pub(crate) fn with_text(content: &Node, units: &[Unit]) -> Node {
    let units = match content.name.as_str() {
        "codeBlock" => inline::code(units),
        _ => units.to_vec(),
    };
    Node::new(content.name.as_str(), content.attributes.clone(), units)
}

/// A block that a document has at least.
pub(crate) fn empty_block() -> Unit {
    contained(Node::new("paragraph", BTreeMap::new(), Vec::new()), Vec::new())
}

/// A group of blocks.
pub(crate) fn group_of(blocks: Vec<Unit>) -> Unit {
    Unit::Node(Node::new(GROUP, BTreeMap::new(), blocks))
}

/// A container with a content and the blocks in it.
fn contained(content: Node, children: Vec<Unit>) -> Unit {
    let mut inside = vec![Unit::Node(content)];
    inside.extend(grouped(children));
    Unit::Node(Node::new(CONTAINER, BTreeMap::new(), inside))
}

fn grouped(blocks: Vec<Unit>) -> Option<Unit> {
    (!blocks.is_empty()).then(|| group_of(blocks))
}

//! A document of BlockNote's as other forms have it: lists are made of the items that stand next to each other, and what is in a block that is
//! none of a list follows it in a section of its own.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};

use super::{CONTAINER, GROUP, TABLE_LINE, content, group, inline};
use crate::content::nodes::{Node, Unit};

/// What is in a block: the `data-type` of the section behind it.
pub(super) const CHILDREN: &str = "children";

/// Properties that are attributes of HTML, with the property of a style that shows them, and what they are where nothing is said.
pub(super) const LOOKS: [(&str, &str, &str, &str); 3] = [
    (
        "backgroundColor",
        "data-background-color",
        "background-color",
        "default",
    ),
    ("textColor", "data-text-color", "color", "default"),
    ("textAlignment", "data-text-alignment", "text-align", "left"),
];

/// Blocks that stand for a file: a link to it, with the kind of block as its `data-type`.
pub(super) const FILES: [&str; 3] = ["audio", "file", "video"];

/// The lists that items make: of each the item, the list, the item in it.
pub(super) const LISTS: [(&str, &str, &str); 3] = [
    ("bulletListItem", "bulletList", "listItem"),
    ("numberedListItem", "orderedList", "listItem"),
    ("checkListItem", "taskList", "taskItem"),
];

/// The document as other forms have it; another one as it is.
pub(crate) fn plain(units: &[Unit]) -> Cow<'_, [Unit]> {
    if !super::is_in(units) {
        return Cow::Borrowed(units);
    }
    let mut out = Vec::new();
    for unit in units {
        match unit {
            Unit::Node(node) if node.name == GROUP => out.extend(plain_group(&node.children)),
            Unit::Character(..) | Unit::Node(_) | Unit::Other => out.push(unit.clone()),
        }
    }
    Cow::Owned(out)
}

/// A list that goes on.
struct List {
    name: &'static str,
    attributes: BTreeMap<String, Value>,
    items: Vec<Unit>,
}

impl List {
    fn node(self) -> Unit {
        Unit::Node(Node::new(self.name, self.attributes, self.items))
    }
}

/// Nesting is bounded by the gate, so this may recurse.
fn plain_group(units: &[Unit]) -> Vec<Unit> {
    let mut out = Vec::new();
    let mut open: Option<List> = None;
    for unit in units {
        let Unit::Node(node) = unit else {
            continue;
        };
        let own = if node.name == CONTAINER {
            content(node)
        } else {
            None
        };
        let children = || {
            group(&node.children)
                .map(|group| plain_group(&group.children))
                .unwrap_or_default()
        };
        let list = own.and_then(|own| LISTS.iter().find(|(item, ..)| *item == own.name));
        if let (Some(own), Some((_, list, item))) = (own, list) {
            let start = own.attributes.get("start").filter(|_| *list == "orderedList");
            let is_next = open.as_ref().is_some_and(|open| open.name == *list) && start.is_none();
            if !is_next {
                out.extend(open.take().map(List::node));
            }
            let open = open.get_or_insert_with(|| List {
                name: list,
                attributes: start
                    .map(|start| ("start".to_owned(), start.clone()))
                    .into_iter()
                    .collect(),
                items: Vec::new(),
            });
            let mut attributes = looks(own);
            if *item == "taskItem" {
                let checked = own
                    .attributes
                    .get("checked")
                    .cloned()
                    .unwrap_or(Value::Bool(false));
                attributes.insert("checked".to_owned(), checked);
            }
            let mut inside = vec![line("paragraph", BTreeMap::new(), own)];
            inside.extend(children());
            open.items.push(Unit::Node(Node::new(*item, attributes, inside)));
            continue;
        }
        out.extend(open.take().map(List::node));
        match own {
            Some(own) if own.name == "toggleListItem" => {
                let mut inside = vec![line("summary", BTreeMap::new(), own)];
                inside.extend(children());
                out.push(Unit::Node(Node::new("details", looks(own), inside)));
            }
            Some(own) => {
                out.push(plain_content(own));
                let children = children();
                if !children.is_empty() {
                    let kind = BTreeMap::from([("data-type".to_owned(), json!(CHILDREN))]);
                    out.push(Unit::Node(Node::new("div", kind, children)));
                }
            }
            None if node.name == CONTAINER => out.extend(children()),
            // Columns, and what an application has besides.
            None => out.push(Unit::Node(Node {
                is_block: true,
                ..Node::new(node.name.as_str(), BTreeMap::new(), plain_group(&node.children))
            })),
        }
    }
    out.extend(open.map(List::node));
    out
}

fn line(name: &str, attributes: BTreeMap<String, Value>, own: &Node) -> Unit {
    Unit::Node(Node::new(name, attributes, inline::plain(&own.children)))
}

/// How a block looks, as attributes of HTML.
fn looks(node: &Node) -> BTreeMap<String, Value> {
    let mut out = BTreeMap::new();
    let mut style = Vec::new();
    for (property, attribute, shown, default) in LOOKS {
        let value = node.attributes.get(property).and_then(Value::as_str);
        if let Some(value) = value.filter(|value| *value != default) {
            out.insert(attribute.to_owned(), Value::from(value));
            style.push(format!("{shown}:{value}"));
        }
    }
    if !style.is_empty() {
        out.insert("style".to_owned(), Value::from(style.join(";")));
    }
    out
}

fn plain_content(own: &Node) -> Unit {
    let text = |name: &str| {
        own.attributes
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    match own.name.as_str() {
        "paragraph" => line("paragraph", looks(own), own),
        "heading" => {
            let mut attributes = looks(own);
            let level = own.attributes.get("level").cloned().unwrap_or(json!(1));
            attributes.insert("level".to_owned(), level);
            line("heading", attributes, own)
        }
        "quote" => {
            let quoted = line("paragraph", BTreeMap::new(), own);
            Unit::Node(Node::new("blockquote", looks(own), vec![quoted]))
        }
        "codeBlock" => {
            let language = own
                .attributes
                .get("language")
                .filter(|language| *language != "text");
            let attributes = language.map(|language| ("language".to_owned(), language.clone()));
            Unit::Node(Node::new(
                "codeBlock",
                attributes.into_iter().collect(),
                inline::code(&own.children),
            ))
        }
        "divider" => Unit::Node(Node::new("horizontalRule", BTreeMap::new(), Vec::new())),
        "image" => {
            let names = [("url", "src"), ("name", "alt"), ("caption", "title")];
            let attributes = names
                .into_iter()
                .filter(|(name, _)| !text(name).is_empty() || *name == "url");
            let attributes =
                attributes.map(|(name, attribute)| (attribute.to_owned(), Value::from(text(name))));
            Unit::Node(Node::new("image", attributes.collect(), Vec::new()))
        }
        name if FILES.contains(&name) => {
            let shown = [text("name"), text("caption"), text("url"), name];
            let shown = shown
                .into_iter()
                .find(|shown| !shown.is_empty())
                .unwrap_or_default();
            let link = json!({ "href": text("url"), "data-type": name });
            let marks = Rc::new(BTreeMap::from([("link".to_owned(), link)]));
            let shown = shown
                .chars()
                .map(|character| Unit::Character(character, marks.clone()));
            Unit::Node(Node::new("paragraph", BTreeMap::new(), shown.collect()))
        }
        "table" => {
            let rows = own.children.iter().map(plain_row);
            Unit::Node(Node::new("table", looks(own), rows.collect()))
        }
        _ => Unit::Node(Node {
            is_block: true,
            ..own.clone()
        }),
    }
}

fn plain_row(row: &Unit) -> Unit {
    let Unit::Node(row) = row else {
        return row.clone();
    };
    let cells = row.children.iter().map(|unit| match unit {
        Unit::Node(cell) => {
            let lines = cell.children.iter().map(|line_of| match line_of {
                Unit::Node(own) if own.name == TABLE_LINE => line("paragraph", BTreeMap::new(), own),
                Unit::Character(..) | Unit::Node(_) | Unit::Other => line_of.clone(),
            });
            let mut attributes = looks(cell);
            for name in ["colspan", "rowspan"] {
                let span = cell.attributes.get(name).filter(|span| **span != 1);
                attributes.extend(span.map(|span| (name.to_owned(), span.clone())));
            }
            Unit::Node(Node::new(cell.name.as_str(), attributes, lines.collect()))
        }
        Unit::Character(..) | Unit::Other => unit.clone(),
    });
    Unit::Node(Node::new(row.name.as_str(), BTreeMap::new(), cells.collect()))
}

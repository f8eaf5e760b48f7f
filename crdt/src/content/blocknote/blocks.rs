//! A document of other forms as BlockNote's blocks. What BlockNote has no block for is what is in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::inline::{self, Part};
use super::plain::{CHILDREN, FILES, LISTS, LOOKS};
use super::{COLUMNS, CONTAINER, GROUP, TABLE_LINE, contained, grouped};
use crate::content::html;
use crate::content::nodes::{Node, Unit};

/// The document as BlockNote has it; one that is so already as it is.
pub(crate) fn blocks(units: &[Unit]) -> Cow<'_, [Unit]> {
    if super::is_in(units) {
        return Cow::Borrowed(units);
    }
    let mut blocks = Blocks::default();
    blocks.read(units);
    Cow::Owned(grouped(blocks.done).into_iter().collect())
}

#[derive(Default)]
struct Blocks {
    done: Vec<Unit>,
}

impl Blocks {
    /// Nesting is bounded, so this may recurse.
    fn read(&mut self, units: &[Unit]) {
        let mut line: Vec<Unit> = Vec::new();
        for unit in units {
            match unit {
                Unit::Node(node) if is_block(node) => {
                    self.loose(&mut line);
                    self.block(node);
                }
                Unit::Character(..) | Unit::Node(_) => line.push(unit.clone()),
                Unit::Other => {}
            }
        }
        self.loose(&mut line);
    }

    fn of(units: &[Unit]) -> Vec<Unit> {
        let mut blocks = Self::default();
        blocks.read(units);
        blocks.done
    }

    /// Text that stands in no block.
    fn loose(&mut self, line: &mut Vec<Unit>) {
        let line = std::mem::take(line);
        if !line.is_empty() {
            self.line("paragraph", BTreeMap::new(), &line, Vec::new());
        }
    }

    fn push(&mut self, content: Node, children: Vec<Unit>) {
        self.done.push(contained(content, children));
    }

    /// A block of text; pictures in it are blocks of their own.
    fn line(
        &mut self,
        name: &str,
        properties: BTreeMap<String, Value>,
        units: &[Unit],
        mut children: Vec<Unit>,
    ) {
        let parts = inline::parts(units);
        if parts.is_empty() {
            return self.push(Node::new(name, properties, Vec::new()), children);
        }
        let last = parts.len() - 1;
        for (at, part) in parts.into_iter().enumerate() {
            let content = match part {
                Part::Line(line) => Node::new(name, properties.clone(), line),
                Part::Picture(node) => picture(&node),
            };
            let children = if at == last {
                std::mem::take(&mut children)
            } else {
                Vec::new()
            };
            self.push(content, children);
        }
    }

    fn block(&mut self, node: &Node) {
        let name = node.name.as_str();
        if let Some((block, ..)) = LISTS.iter().find(|(_, list, _)| *list == name) {
            return self.list(node, block);
        }
        match name {
            "paragraph" => match file(node) {
                Some(file) => self.push(file, Vec::new()),
                None => self.line("paragraph", properties(node), &node.children, Vec::new()),
            },
            "heading" => {
                let mut properties = properties(node);
                properties.extend(
                    node.attributes
                        .get("level")
                        .map(|level| ("level".to_owned(), level.clone())),
                );
                self.line("heading", properties, &node.children, Vec::new());
            }
            "blockquote" => {
                let (line, rest) = first_lines(node);
                let mut properties = properties(node);
                properties.remove("textAlignment");
                self.line("quote", properties, &line, Self::of(rest));
            }
            "details" => {
                let is_summary = |unit: &&Unit| matches!(unit, Unit::Node(node) if node.name == "summary");
                let summary = node.children.iter().find(is_summary);
                let line = match summary {
                    Some(Unit::Node(summary)) => summary.children.as_slice(),
                    _ => &[],
                };
                let rest: Vec<_> = node
                    .children
                    .iter()
                    .filter(|unit| !is_summary(unit))
                    .cloned()
                    .collect();
                self.line("toggleListItem", properties(node), line, Self::of(&rest));
            }
            "codeBlock" => {
                let language = node
                    .attributes
                    .get("language")
                    .map(|language| ("language".to_owned(), language.clone()));
                let content = Node::new(
                    "codeBlock",
                    language.into_iter().collect(),
                    inline::code(&node.children),
                );
                self.push(content, Vec::new());
            }
            "horizontalRule" => self.push(Node::new("divider", BTreeMap::new(), Vec::new()), Vec::new()),
            "image" => self.push(picture(node), Vec::new()),
            "table" => match table(node) {
                Some(table) => self.push(table, Vec::new()),
                None => self.read(&node.children),
            },
            "div"
                if node
                    .attributes
                    .get("data-type")
                    .is_some_and(|kind| kind == CHILDREN) =>
            {
                let children = Self::of(&node.children);
                self.nest(children);
            }
            name if COLUMNS.contains(&name) => {
                let children = Self::of(&node.children);
                self.done
                    .push(Unit::Node(Node::new(name, BTreeMap::new(), children)));
            }
            name if html::is_block(name) || name == GROUP || name == CONTAINER => self.read(&node.children),
            // A block of an application, as it came out of a page.
            _ => {
                let content = Node::new(name, node.attributes.clone(), inline::line(&node.children));
                self.push(content, Vec::new());
            }
        }
    }

    fn list(&mut self, list: &Node, block: &str) {
        let mut start = list.attributes.get("start").filter(|start| **start != 1);
        for unit in &list.children {
            let Unit::Node(item) = unit else { continue };
            let (line, rest) = first_line(item);
            let mut properties = properties(item);
            if block == "checkListItem" {
                let checked = item
                    .attributes
                    .get("checked")
                    .cloned()
                    .unwrap_or(Value::Bool(false));
                properties.insert("checked".to_owned(), checked);
            }
            if block == "numberedListItem" {
                properties.extend(start.take().map(|start| ("start".to_owned(), start.clone())));
            }
            self.line(block, properties, line, Self::of(rest));
        }
    }

    /// Puts blocks into the last one.
    fn nest(&mut self, children: Vec<Unit>) {
        match self.done.pop() {
            Some(Unit::Node(last)) if last.name == CONTAINER && super::group(&last.children).is_none() => {
                let mut inside = last.children;
                inside.extend(grouped(children));
                self.done
                    .push(Unit::Node(Node::new(CONTAINER, last.attributes, inside)));
            }
            last => {
                self.done.extend(last);
                self.done.extend(children);
            }
        }
    }
}

fn is_block(node: &Node) -> bool {
    node.is_block
        || node.name == "image"
        || html::is_block(&node.name)
        || COLUMNS.contains(&node.name.as_str())
}

/// The line that an item begins with, and what is behind it.
fn first_line(item: &Node) -> (&[Unit], &[Unit]) {
    match item.children.split_first() {
        Some((Unit::Node(first), rest)) if first.name == "paragraph" => (&first.children, rest),
        _ => (&[], &item.children),
    }
}

/// The lines that a quote begins with as one, and what is behind them.
fn first_lines(quote: &Node) -> (Vec<Unit>, &[Unit]) {
    let is_line = |unit: &&Unit| matches!(unit, Unit::Node(node) if node.name == "paragraph");
    let count = quote.children.iter().take_while(is_line).count();
    let (lines, rest) = quote.children.split_at(count);
    let mut out = Vec::new();
    for (at, unit) in lines.iter().enumerate() {
        if at > 0 {
            out.push(Unit::Node(Node::new("hardBreak", BTreeMap::new(), Vec::new())));
        }
        if let Unit::Node(line) = unit {
            out.extend(line.children.iter().cloned());
        }
    }
    (out, rest)
}

/// The properties of a block, from its attributes and from its style.
fn properties(node: &Node) -> BTreeMap<String, Value> {
    let style = node
        .attributes
        .get("style")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mut out = BTreeMap::new();
    for (property, attribute, shown, _) in LOOKS {
        let of_style = style.split(';').filter_map(|part| part.split_once(':'));
        let mut of_style = of_style
            .filter(|(name, _)| name.trim() == shown)
            .map(|(_, value)| Value::from(value.trim()));
        let value = node
            .attributes
            .get(attribute)
            .cloned()
            .or_else(|| of_style.next_back());
        out.extend(value.map(|value| (property.to_owned(), value)));
    }
    // As Tiptap has it.
    if let (None, Some(align)) = (out.get("textAlignment"), node.attributes.get("textAlign")) {
        out.insert("textAlignment".to_owned(), align.clone());
    }
    out
}

fn picture(node: &Node) -> Node {
    let names = [("src", "url"), ("alt", "name"), ("title", "caption")];
    let properties = names.into_iter().filter_map(|(attribute, name)| {
        let value = node.attributes.get(attribute)?;
        Some((name.to_owned(), value.clone()))
    });
    Node::new("image", properties.collect(), Vec::new())
}

/// The file that a paragraph stands for: a link to it and nothing else.
fn file(node: &Node) -> Option<Node> {
    let Some(Unit::Character(_, marks)) = node.children.first() else {
        return None;
    };
    let link = marks.get("link")?;
    let kind = link.get("data-type").and_then(Value::as_str)?;
    let is_of_link =
        |unit: &Unit| matches!(unit, Unit::Character(_, other) if other.get("link") == Some(link));
    if !FILES.contains(&kind) || !node.children.iter().all(is_of_link) {
        return None;
    }
    let href = link.get("href").cloned().unwrap_or(json!(""));
    let mut properties = BTreeMap::from([("url".to_owned(), href.clone())]);
    let shown = node.text();
    if href != shown {
        properties.insert("name".to_owned(), Value::from(shown));
    }
    Some(Node::new(kind, properties, Vec::new()))
}

/// A table; `None` when it is made of something else than cells.
fn table(node: &Node) -> Option<Node> {
    let mut rows = Vec::new();
    for unit in &node.children {
        let Unit::Node(row) = unit else { return None };
        let mut cells = Vec::new();
        for unit in &row.children {
            let Unit::Node(cell) = unit else { return None };
            if !super::CELLS.contains(&cell.name.as_str()) {
                return None;
            }
            let mut lines = Vec::new();
            push_lines(&mut lines, &cell.children);
            let mut attributes = properties(cell);
            for name in ["colspan", "rowspan"] {
                attributes.extend(
                    cell.attributes
                        .get(name)
                        .map(|span| (name.to_owned(), span.clone())),
                );
            }
            let line = Node::new(TABLE_LINE, BTreeMap::new(), inline::line(&lines));
            cells.push(Unit::Node(Node::new(
                cell.name.as_str(),
                attributes,
                vec![Unit::Node(line)],
            )));
        }
        rows.push(Unit::Node(Node::new("tableRow", BTreeMap::new(), cells)));
    }
    let mut properties = properties(node);
    properties.retain(|name, _| name == "textColor");
    Some(Node::new("table", properties, rows))
}

/// What is in blocks as one line, with breaks between these.
fn push_lines(out: &mut Vec<Unit>, units: &[Unit]) {
    for unit in units {
        match unit {
            Unit::Node(node) if is_block(node) => {
                if !out.is_empty() {
                    out.push(Unit::Node(Node::new("hardBreak", BTreeMap::new(), Vec::new())));
                }
                push_lines(out, &node.children);
            }
            Unit::Character(..) | Unit::Node(_) | Unit::Other => out.push(unit.clone()),
        }
    }
}

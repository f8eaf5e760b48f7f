//! Markdown from units, by way of the tree that the library writes.

use comrak::Arena;
use comrak::nodes::{
    AstNode, ListDelimType, ListType, NodeCodeBlock, NodeHeading, NodeList, NodeTaskItem, NodeValue,
    Sourcepos,
};
use serde_json::Value;

use super::options;
use super::table::is_table;
use crate::content::html;
use crate::content::nodes::{Node, Run, Unit, runs};

pub(super) type Parent<'a> = &'a AstNode<'a>;

/// Nodes that only hold others: what is in them is shown in their place.
const WRAPPERS: [&str; 5] = ["blockContainer", "blockGroup", "columnList", "column", "doc"];

/// Elements that only hold others: what is in them is Markdown between their tags.
const SECTIONS: [&str; 7] = ["article", "center", "div", "footer", "header", "main", "section"];

/// Writes units as Markdown.
pub(crate) fn write(units: &[Unit]) -> String {
    let arena = Arena::new();
    let tree = Tree { arena: &arena };
    let root = tree.make(NodeValue::Document);
    tree.blocks(root, units);
    let mut out = String::new();
    // Writing into a string does not fail.
    let _ = comrak::format_commonmark(root, &options(), &mut out);
    out
}

/// Where text stands: a line break cannot be written everywhere in the same way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Paragraph,
    /// In one line.
    Line,
}

pub(super) struct Tree<'a> {
    arena: &'a Arena<'a>,
}

impl<'a> Tree<'a> {
    fn make(&self, value: NodeValue) -> Parent<'a> {
        self.arena.alloc(AstNode::from(value))
    }

    pub(super) fn add(&self, parent: Parent<'a>, value: NodeValue) -> Parent<'a> {
        let node = self.make(value);
        parent.append(node);
        node
    }

    fn blocks(&self, parent: Parent<'a>, units: &[Unit]) {
        let mut line: Vec<Unit> = Vec::new();
        let mut rest = units.iter().peekable();
        while let Some(unit) = rest.next() {
            match unit {
                Unit::Node(node) if is_block(node) => {
                    self.paragraph(parent, &std::mem::take(&mut line));
                    if is_item(&node.name) {
                        let mut items = vec![node];
                        while let Some(Unit::Node(next)) =
                            rest.next_if(|unit| matches!(unit, Unit::Node(next) if next.name == node.name))
                        {
                            items.push(next);
                        }
                        self.list(parent, &node.name, None, &items);
                    } else {
                        self.block(parent, node);
                    }
                }
                Unit::Character(..) | Unit::Node(_) | Unit::Other => line.push(unit.clone()),
            }
        }
        self.paragraph(parent, &line);
    }

    fn paragraph(&self, parent: Parent<'a>, line: &[Unit]) {
        if !line.is_empty() {
            let paragraph = self.make(NodeValue::Paragraph);
            self.inline(paragraph, line, Place::Paragraph);
            if paragraph.first_child().is_some() {
                parent.append(paragraph);
            }
        }
    }

    fn block(&self, parent: Parent<'a>, node: &Node) {
        let has_blocks = node
            .children
            .iter()
            .any(|unit| matches!(unit, Unit::Node(node) if is_block(node)));
        match node.name.as_str() {
            "paragraph" if !has_blocks => self.paragraph(parent, &node.children),
            "heading" if !has_blocks => {
                let level = node.attributes.get("level").and_then(Value::as_u64).unwrap_or(1);
                let heading = self.add(
                    parent,
                    NodeValue::Heading(NodeHeading {
                        level: level.clamp(1, 6) as u8,
                        ..NodeHeading::default()
                    }),
                );
                self.inline(heading, &node.children, Place::Line);
            }
            "bulletList" | "orderedList" | "taskList" => {
                let items: Vec<_> = nodes(node).collect();
                let start = node.attributes.get("start").and_then(Value::as_u64);
                self.list(parent, &node.name, start, &items);
            }
            "blockquote" | "quote" => {
                let quote = self.add(parent, NodeValue::BlockQuote);
                self.blocks(quote, &node.children);
            }
            "codeBlock" => self.code_block(parent, node),
            "horizontalRule" => {
                self.add(parent, NodeValue::ThematicBreak);
            }
            "image" => {
                let paragraph = self.add(parent, NodeValue::Paragraph);
                self.image(paragraph, node);
            }
            "table" if is_table(node) => self.table(parent, node),
            "paragraph" | "heading" | "listItem" | "taskItem" | "tableRow" | "tableCell" | "tableHeader" => {
                self.blocks(parent, &node.children);
            }
            name if WRAPPERS.contains(&name) => self.blocks(parent, &node.children),
            name if is_section(node) => {
                // A line without anything behind it ends the HTML.
                let tags = html_of(&Node::new(name, node.attributes.clone(), Vec::new()));
                let end = format!("</{name}>");
                self.html_block(parent, tags.strip_suffix(&end).unwrap_or(&tags));
                self.blocks(parent, &node.children);
                self.html_block(parent, &end);
            }
            _ => self.html_block(parent, &html_of(node)),
        }
    }

    /// In a paragraph, which may stand at the beginning of an item.
    fn html_block(&self, parent: Parent<'a>, html: &str) {
        let line = self.add(parent, NodeValue::Paragraph);
        self.add(line, NodeValue::HtmlInline(html.to_owned()));
    }

    fn list(&self, parent: Parent<'a>, name: &str, start: Option<u64>, items: &[&Node]) {
        if items.is_empty() {
            return;
        }
        let list_type = match name {
            "orderedList" | "numberedListItem" => ListType::Ordered,
            _ => ListType::Bullet,
        };
        let is_task = |item: &Node| item.name == "taskItem" || item.name == "checkListItem";
        // Only a list that begins with one may follow right behind a line.
        let is_far = |node: &Node| {
            node.name == "orderedList" && node.attributes.get("start").is_some_and(|start| *start != 1)
        };
        let is_short = |item: &&Node| {
            let paragraphs = nodes(item).filter(|node| !is_list(&node.name)).count();
            paragraphs <= 1 && !nodes(item).any(|node| is_html(node) || is_far(node))
        };
        let description = NodeList {
            list_type,
            start: usize::try_from(start.unwrap_or(1)).unwrap_or(1),
            delimiter: ListDelimType::Period,
            bullet_char: b'-',
            tight: items.iter().all(is_short),
            is_task_list: items.iter().any(|item| is_task(item)),
            ..NodeList::default()
        };
        let list = self.add(parent, NodeValue::List(description));
        for item in items {
            let value = match is_task(item) {
                true => NodeValue::TaskItem(NodeTaskItem {
                    symbol: (item.attributes.get("checked").and_then(Value::as_bool) == Some(true))
                        .then_some('x'),
                    symbol_sourcepos: Sourcepos::from((0, 0, 0, 0)),
                }),
                false => NodeValue::Item(description),
            };
            let node = self.add(list, value);
            self.blocks(node, &item.children);
        }
    }

    fn code_block(&self, parent: Parent<'a>, node: &Node) {
        let language = node.attributes.get("language").and_then(Value::as_str);
        let is_plain = |language: &&str| {
            language
                .chars()
                .all(|c| !c.is_whitespace() && !c.is_control() && !"`\\&~".contains(c))
        };
        let mut literal = String::new();
        for run in runs(&node.children) {
            if let Run::Text(text, _) = run {
                literal.push_str(&text);
            }
        }
        if !literal.is_empty() {
            literal.push('\n');
        }
        self.add(
            parent,
            NodeValue::CodeBlock(Box::new(NodeCodeBlock {
                fenced: true,
                fence_char: b'`',
                fence_length: 3,
                fence_offset: 0,
                info: language.filter(is_plain).unwrap_or_default().to_owned(),
                literal,
                closed: true,
            })),
        );
    }
}

/// A node as HTML in one line, because a line without anything would end it.
pub(super) fn html_of(node: &Node) -> String {
    let html = html::write_safely(&[Unit::Node(node.clone())]);
    html.replace('\n', "&#10;").replace('\r', "&#13;")
}

/// The same among text: what is in its elements would be read as Markdown.
pub(super) fn html_in_line(node: &Node) -> String {
    let html = html::write_safely_in_line(node);
    let (mut out, mut is_tag, mut quote) = (String::with_capacity(html.len()), false, false);
    for character in html.chars() {
        match character {
            '<' if !quote => is_tag = true,
            '>' if !quote => is_tag = false,
            '"' if is_tag => quote = !quote,
            _ => {}
        }
        match character {
            '\n' | '\r' => out.push_str(&format!("&#{};", character as u32)),
            '*' | '_' | '`' | '~' | '[' | ']' | '!' | '\\' if !is_tag => {
                out.push_str(&format!("&#{};", character as u32));
            }
            character => out.push(character),
        }
    }
    out
}

/// Whether all that is in an element are blocks, so that it can be Markdown.
fn is_section(node: &Node) -> bool {
    let is_block = |unit: &Unit| matches!(unit, Unit::Node(node) if is_block(node));
    SECTIONS.contains(&node.name.as_str()) && !node.children.is_empty() && node.children.iter().all(is_block)
}

/// Whether a block is written as HTML, or something in it is that ends where nothing parts it from the next block.
fn is_html(node: &Node) -> bool {
    match node.name.as_str() {
        "paragraph" | "heading" | "codeBlock" | "horizontalRule" | "image" => nodes(node).any(is_block),
        "table" => !is_table(node),
        "blockquote" | "bulletList" | "listItem" | "orderedList" | "quote" | "taskItem" | "taskList" => {
            nodes(node).any(is_html)
        }
        name => is_block(node) && !WRAPPERS.contains(&name),
    }
}

pub(super) fn nodes(node: &Node) -> impl Iterator<Item = &Node> {
    node.children.iter().filter_map(|unit| match unit {
        Unit::Node(node) => Some(node),
        Unit::Character(..) | Unit::Other => None,
    })
}

fn is_list(name: &str) -> bool {
    matches!(name, "bulletList" | "orderedList" | "taskList")
}

/// An item that stands without a list around it.
fn is_item(name: &str) -> bool {
    matches!(name, "bulletListItem" | "numberedListItem" | "checkListItem")
}

fn is_block(node: &Node) -> bool {
    node.is_block
        || html::is_block(&node.name)
        || is_item(&node.name)
        || WRAPPERS.contains(&node.name.as_str())
        || node.name == "quote"
        || nodes(node).any(is_block)
}

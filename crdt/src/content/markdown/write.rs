//! Markdown from units, by way of the tree that the library writes.

use comrak::Arena;
use comrak::nodes::{
    AstNode, ListDelimType, ListType, NodeCode, NodeCodeBlock, NodeHeading, NodeHtmlBlock, NodeLink,
    NodeList, NodeTaskItem, NodeValue, Sourcepos,
};
use serde_json::Value;

use super::options;
use super::table::is_table;
use crate::content::html;
use crate::content::nodes::{Marks, Node, Run, Unit, runs};

pub(super) type Parent<'a> = &'a AstNode<'a>;

/// Marks with elements of HTML, where Markdown has nothing.
const HTML_MARKS: [(&str, &str); 4] = [
    ("highlight", "mark"),
    ("subscript", "sub"),
    ("superscript", "sup"),
    ("underline", "u"),
];

/// Nodes that only hold others: what is in them is shown in their place.
const WRAPPERS: [&str; 12] = [
    "article",
    "blockContainer",
    "blockGroup",
    "center",
    "columnList",
    "column",
    "div",
    "doc",
    "footer",
    "header",
    "main",
    "section",
];

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
                let quote = self.make(NodeValue::BlockQuote);
                self.blocks(quote, &node.children);
                if quote.first_child().is_some() {
                    parent.append(quote);
                }
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
            "paragraph" | "heading" | "listItem" | "taskItem" | "tableRow" | "tableCell" | "tableHeader"
            | "table" => {
                self.blocks(parent, &node.children);
            }
            name if WRAPPERS.contains(&name) => self.blocks(parent, &node.children),
            _ => {
                let html = html_of(node);
                self.add(
                    parent,
                    NodeValue::HtmlBlock(NodeHtmlBlock {
                        block_type: 6,
                        literal: html,
                    }),
                );
            }
        }
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
        let is_short = |item: &&Node| {
            let paragraphs = nodes(item).filter(|node| !is_list(&node.name)).count();
            paragraphs <= 1
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
                .all(|c| c.is_alphanumeric() || "-_+#.".contains(c))
        };
        let mut literal = String::new();
        for run in runs(&node.children) {
            if let Run::Text(text, _) = run {
                literal.push_str(&text);
            }
        }
        literal.push('\n');
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

    pub(super) fn html(&self, parent: Parent<'a>, html: &str) {
        self.add(parent, NodeValue::HtmlInline(html.replace('|', "&#124;")));
    }

    pub(super) fn image(&self, parent: Parent<'a>, node: &Node) {
        let text = |name: &str| {
            let text = node.attributes.get(name).and_then(Value::as_str);
            text.unwrap_or_default().replace(['\n', '\r'], " ")
        };
        let image = self.add(
            parent,
            NodeValue::Image(Box::new(NodeLink {
                url: Some(text("src"))
                    .filter(|address| html::shows_safely(address))
                    .unwrap_or_default(),
                title: text("title"),
            })),
        );
        if !text("alt").is_empty() {
            self.add(image, NodeValue::Text(text("alt").into()));
        }
    }

    pub(super) fn inline(&self, parent: Parent<'a>, units: &[Unit], place: Place) {
        // Marks that go on are not closed in between.
        let mut open: Vec<(Wrap, Parent<'a>)> = Vec::new();
        let close = |open: &mut Vec<(Wrap, Parent<'a>)>, stays: usize| {
            for (wrap, outside) in open.drain(stays.min(open.len())..).rev() {
                if let Wrap::Html(element) = wrap {
                    self.html(outside, &format!("</{element}>"));
                }
            }
        };
        for run in runs(units) {
            let marks = match &run {
                Run::Text(_, marks) => Some(*marks),
                Run::Node(_) | Run::Other => None,
            };
            let wraps = marks.map(wraps).unwrap_or_default();
            let stays = open
                .iter()
                .zip(&wraps)
                .take_while(|((open, _), wrap)| open == *wrap)
                .count();
            close(&mut open, stays);
            for wrap in wraps.into_iter().skip(stays) {
                let outside = innermost(parent, &open);
                let inside = match &wrap {
                    Wrap::Html(element) => {
                        self.html(outside, &format!("<{element}>"));
                        None
                    }
                    Wrap::Link(link) => Some(NodeValue::Link(Box::new(link.clone()))),
                    Wrap::Strong => Some(NodeValue::Strong),
                    Wrap::Emphasis => Some(NodeValue::Emph),
                    Wrap::Strike => Some(NodeValue::Strikethrough),
                };
                let inside = inside.map_or(outside, |value| self.add(outside, value));
                open.push((wrap, inside));
            }
            let inside = innermost(parent, &open);
            match run {
                Run::Text(text, marks) if marks.contains_key("code") => {
                    let code = NodeCode {
                        num_backticks: 0,
                        literal: text.replace(['\n', '\r'], " "),
                    };
                    self.add(inside, NodeValue::Code(code));
                }
                Run::Text(text, _) => self.text(inside, &text, place),
                Run::Node(node) => self.inline_node(inside, node, place),
                Run::Other => {}
            }
        }
        close(&mut open, 0);
    }

    fn text(&self, parent: Parent<'a>, text: &str, place: Place) {
        for (at, line) in text.split('\n').enumerate() {
            if at > 0 {
                self.line_break(parent, place);
            }
            // Spaces at the beginning of a line would be none, or make code of it.
            let is_first = parent.last_child().is_none();
            let line = match line.strip_prefix([' ', '\t']) {
                Some(rest) if is_first || at > 0 => {
                    self.add(parent, NodeValue::Raw("&#32;".to_owned()));
                    rest
                }
                _ => line,
            };
            if !line.is_empty() {
                self.add(parent, NodeValue::Text(line.to_owned().into()));
            }
        }
    }

    fn line_break(&self, parent: Parent<'a>, place: Place) {
        match place {
            Place::Paragraph => drop(self.add(parent, NodeValue::LineBreak)),
            Place::Line => self.html(parent, "<br>"),
        }
    }

    fn inline_node(&self, parent: Parent<'a>, node: &Node, place: Place) {
        match node.name.as_str() {
            "hardBreak" => self.line_break(parent, place),
            "image" => self.image(parent, node),
            _ => self.html(parent, &html_of(node)),
        }
    }
}

/// What a mark puts around text.
#[derive(Clone, PartialEq)]
enum Wrap {
    Link(NodeLink),
    Strong,
    Emphasis,
    Strike,
    Html(&'static str),
}

fn wraps(marks: &Marks) -> Vec<Wrap> {
    let link = marks.get("link").and_then(|link| {
        let text = |name: &str| {
            let text = link.get(name).and_then(Value::as_str);
            text.map(|text| text.replace(['\n', '\r'], " "))
        };
        Some(Wrap::Link(NodeLink {
            url: text("href").filter(|address| html::leads_safely(address))?,
            title: text("title").unwrap_or_default(),
        }))
    });
    let plain = [
        ("bold", Wrap::Strong),
        ("italic", Wrap::Emphasis),
        ("strike", Wrap::Strike),
    ];
    let plain = plain.into_iter().filter(|(name, _)| marks.contains_key(*name));
    let html = HTML_MARKS
        .iter()
        .filter(|(name, _)| marks.contains_key(*name))
        .map(|(_, element)| Wrap::Html(element));
    let outer = link.into_iter().chain(html);
    outer.chain(plain.map(|(_, wrap)| wrap)).collect()
}

fn innermost<'a>(parent: Parent<'a>, open: &[(Wrap, Parent<'a>)]) -> Parent<'a> {
    open.last().map_or(parent, |(_, inside)| inside)
}

/// A node as HTML in one line, because a line without anything would end it.
pub(super) fn html_of(node: &Node) -> String {
    let html = html::write_safely(&[Unit::Node(node.clone())]);
    html.replace('\n', "&#10;").replace('\r', "&#13;")
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

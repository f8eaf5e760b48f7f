//! Markdown, to and from units: CommonMark with GitHub's tables, task lists and struck text. What Markdown has no way to say is HTML in it,
//! which is what Markdown has for that.

mod inline;
mod marks;
mod table;
mod write;

pub(crate) use write::write;

use std::collections::BTreeMap;

use comrak::Options;

use super::html;
use super::nodes::{Marks, Node, Unit};

fn options() -> Options<'static> {
    let mut options = Options::default();
    options.extension.strikethrough = true;
    options.extension.table = true;
    options.extension.tasklist = true;
    // What HTML does is the concern of those who show it.
    options.render.r#unsafe = true;
    options.render.prefer_fenced = true;
    options
}

/// Units from Markdown.
///
/// # Errors
/// When it is nested too deeply.
pub(crate) fn parse(markdown: &str) -> Result<Vec<Unit>, &'static str> {
    let html = comrak::markdown_to_html(markdown, &options());
    Ok(as_edited(html::parse(&html)?))
}

/// Lines of plain text as paragraphs.
pub(crate) fn paragraphs(text: &str) -> Vec<Unit> {
    let marks = Marks::default();
    let paragraph = |line: &str| {
        let characters = line
            .chars()
            .map(|character| Unit::Character(character, marks.clone()));
        Unit::Node(Node::new("paragraph", BTreeMap::new(), characters.collect()))
    };
    text.lines().map(paragraph).collect()
}

/// As editors have it: a paragraph with nothing but pictures is those pictures, one with nothing in it is none, and the line break at the end
/// of code is none of the code. What Markdown can only say with more than there is, is not there: the headers of a table that has none, a
/// description of a picture without any, spaces at the end of a line.
fn as_edited(units: Vec<Unit>) -> Vec<Unit> {
    let is_picture = |unit: &Unit| matches!(unit, Unit::Node(node) if node.name == "image");
    let mut out = Vec::new();
    for unit in units {
        let Unit::Node(mut node) = unit else {
            out.push(unit);
            continue;
        };
        node.children = without_space_behind_breaks(node.children);
        match node.name.as_str() {
            "paragraph" | "heading" => {
                let is_space = |unit: &mut Unit| matches!(unit, Unit::Character(' ', marks) if !marks.contains_key("code"));
                while node.children.pop_if(is_space).is_some() {}
            }
            "codeBlock" => {
                (node.children).pop_if(|last| matches!(last, Unit::Character('\n', _)));
            }
            "image" => node.attributes.retain(|name, value| name != "alt" || value != ""),
            "table" if has_empty_headers(&node) => drop(node.children.remove(0)),
            _ => {}
        }
        let node = Node {
            is_block: node.is_block,
            ..Node::new(node.name, node.attributes, as_edited(node.children))
        };
        match node.name.as_str() {
            "paragraph" if node.children.iter().all(is_picture) => out.extend(node.children),
            _ => out.push(Unit::Node(node)),
        }
    }
    out
}

/// Whether there is nothing in the headers of a table that has rows.
fn has_empty_headers(table: &Node) -> bool {
    let mut rows = write::nodes(table);
    let is_empty =
        |row: &Node| write::nodes(row).all(|cell| cell.name == "tableHeader" && cell.children.is_empty());
    rows.next().is_some_and(is_empty) && rows.next().is_some()
}

/// A line break in the source behind a break of the line is no space.
fn without_space_behind_breaks(units: Vec<Unit>) -> Vec<Unit> {
    let mut is_behind = false;
    let mut out = Vec::with_capacity(units.len());
    for unit in units {
        let is_space = matches!(unit, Unit::Character(' ', _));
        if !(is_behind && is_space) {
            is_behind = matches!(&unit, Unit::Node(node) if node.name == "hardBreak");
            out.push(unit);
        }
    }
    out
}

#[cfg(test)]
mod tests;

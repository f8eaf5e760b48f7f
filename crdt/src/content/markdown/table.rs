//! Tables in Markdown.

use comrak::nodes::{NodeTable, NodeValue, TableAlignment};
use serde_json::Value;

use super::write::{Parent, Place, Tree, html_in_line, nodes};
use crate::content::nodes::Node;

/// Columns that a cell is taken to span at most.
const MAX_SPAN: u64 = 1000;

impl<'a> Tree<'a> {
    /// Markdown's tables have a first row of headers, so one that has none has an empty one there.
    pub(super) fn table(&self, parent: Parent<'a>, node: &Node) {
        let rows: Vec<Vec<Option<&Node>>> = nodes(node).map(cells).collect();
        let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
        let has_headers = nodes(node)
            .next()
            .is_some_and(|row| nodes(row).all(|cell| cell.name == "tableHeader"));
        let table = self.add(
            parent,
            NodeValue::Table(Box::new(NodeTable {
                alignments: alignments(node, columns),
                num_columns: columns,
                num_rows: rows.len(),
                num_nonempty_cells: 0,
            })),
        );
        let empty = (!has_headers).then(Vec::new);
        for (at, row) in empty.into_iter().chain(rows).enumerate() {
            let line = self.add(table, NodeValue::TableRow(at == 0));
            for column in 0..columns {
                let cell = self.add(line, NodeValue::TableCell);
                let Some(content) = row.get(column).copied().flatten() else {
                    continue;
                };
                self.cell(cell, content);
            }
        }
    }

    /// Blocks in a cell are lines of it.
    fn cell(&self, cell: Parent<'a>, node: &Node) {
        let lines = nodes(node).collect::<Vec<_>>();
        if lines.is_empty() {
            return self.inline(cell, &node.children, Place::Line);
        }
        for (at, line) in lines.into_iter().enumerate() {
            if at > 0 {
                self.html(cell, "<br>");
            }
            match line.name.as_str() {
                "paragraph" => self.inline(cell, &line.children, Place::Line),
                "image" => self.image(cell, line),
                _ => self.html(cell, &html_in_line(line)),
            }
        }
    }
}

/// How the columns are aligned: as the cells of the first row are.
fn alignments(table: &Node, columns: usize) -> Vec<TableAlignment> {
    let first = nodes(table).next().map(cells).unwrap_or_default();
    let alignment = |column: usize| {
        let cell = first.get(column).copied().flatten();
        match cell.and_then(|cell| cell.attributes.get("align")?.as_str()) {
            Some("left") => TableAlignment::Left,
            Some("center") => TableAlignment::Center,
            Some("right") => TableAlignment::Right,
            Some(_) | None => TableAlignment::None,
        }
    };
    (0..columns).map(alignment).collect()
}

pub(super) fn is_table(node: &Node) -> bool {
    nodes(node).next().is_some()
        && nodes(node).all(|row| {
            row.name == "tableRow"
                && nodes(row).all(|cell| matches!(cell.name.as_str(), "tableCell" | "tableHeader"))
        })
}

/// The cells of a row; one that spans several columns is followed by as many empty ones.
fn cells(row: &Node) -> Vec<Option<&Node>> {
    let mut out = Vec::new();
    for cell in nodes(row) {
        let span = cell.attributes.get("colspan").and_then(Value::as_u64);
        out.push(Some(cell));
        out.extend((1..span.unwrap_or(1).min(MAX_SPAN)).map(|_| None));
    }
    out
}

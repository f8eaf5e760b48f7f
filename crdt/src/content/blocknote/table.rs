//! Tables of BlockNote's JSON: rows of cells, with the widths of columns beside them.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{TABLE_LINE, inline, with_defaults};
use crate::content::nodes::{Node, Unit};

/// Columns that a table has at most: each of them takes a place in a list.
const MAX_COLUMNS: usize = 1000;

fn nodes(node: &Node) -> impl Iterator<Item = &Node> {
    node.children.iter().filter_map(|unit| match unit {
        Unit::Node(node) => Some(node),
        Unit::Character(..) | Unit::Other => None,
    })
}

fn span(cell: &Node, name: &str) -> usize {
    let span = cell.attributes.get(name).and_then(Value::as_u64).unwrap_or(1);
    usize::try_from(span).unwrap_or(MAX_COLUMNS).clamp(1, MAX_COLUMNS)
}

/// The content of a table.
pub(super) fn write(table: &Node) -> Value {
    let mut widths = Vec::new();
    for cell in nodes(table).next().into_iter().flat_map(nodes) {
        match cell.attributes.get("colwidth") {
            Some(Value::Array(of_cell)) => widths.extend(of_cell.iter().cloned()),
            _ => widths.extend(vec![Value::Null; span(cell, "colspan")]),
        }
    }
    widths.truncate(MAX_COLUMNS);
    let headers: Vec<Vec<bool>> = nodes(table)
        .map(|row| nodes(row).map(|cell| cell.name == "tableHeader").collect())
        .collect();
    let rows = headers
        .iter()
        .filter(|row| row.iter().all(|is_header| *is_header))
        .count();
    let columns = headers.first().map(Vec::len).unwrap_or_default();
    let columns = (0..columns)
        .filter(|column| {
            headers
                .iter()
                .all(|row| row.get(*column).copied().unwrap_or_default())
        })
        .count();
    let cells = |row: &Node| json!({ "cells": nodes(row).map(cell).collect::<Vec<_>>() });
    let mut out = json!({
        "type": "tableContent",
        "columnWidths": widths,
        "rows": nodes(table).map(cells).collect::<Vec<_>>(),
    });
    if rows > 0 {
        out["headerRows"] = Value::from(rows);
    }
    if columns > 0 {
        out["headerCols"] = Value::from(columns);
    }
    out
}

fn cell(cell: &Node) -> Value {
    let mut line: Vec<Unit> = Vec::new();
    for (at, node) in nodes(cell).enumerate() {
        if at > 0 {
            line.push(Unit::Node(Node::new("hardBreak", BTreeMap::new(), Vec::new())));
        }
        line.extend(node.children.iter().cloned());
    }
    let mut properties = with_defaults(&cell.name, cell.attributes.clone());
    properties.remove("colwidth");
    json!({ "type": "tableCell", "content": inline::write(&line), "props": properties })
}

/// The rows of a table.
///
/// # Errors
/// Says what is wrong with it.
pub(super) fn read(content: &Value, depth: usize) -> Result<Vec<Unit>, &'static str> {
    let rows = content
        .get("rows")
        .and_then(Value::as_array)
        .ok_or("a table has rows")?;
    let count = |name: &str| content.get(name).and_then(Value::as_u64).unwrap_or_default();
    let (header_rows, header_columns) = (count("headerRows"), count("headerCols"));
    let widths = content.get("columnWidths").and_then(Value::as_array);
    let widths = widths.map(Vec::as_slice).unwrap_or_default();
    // For each column the rows that a cell above still takes.
    let mut taken: Vec<usize> = Vec::new();
    let mut out = Vec::new();
    for (row_at, row) in rows.iter().enumerate() {
        let cells = row
            .get("cells")
            .and_then(Value::as_array)
            .ok_or("a row of a table has cells")?;
        let (mut column, mut read) = (0, Vec::new());
        for (cell_at, cell) in cells.iter().enumerate() {
            while taken.get(column).is_some_and(|rows| *rows > 0) {
                column += 1;
            }
            let is_header = (row_at as u64) < header_rows || (cell_at as u64) < header_columns;
            let name = if is_header { "tableHeader" } else { "tableCell" };
            let cell = read_cell(name, cell, widths, column, depth)?;
            let end = column + span(&cell, "colspan");
            if end > MAX_COLUMNS {
                return Err("a table has too many columns");
            }
            taken.resize(taken.len().max(end), 0);
            let rows = span(&cell, "rowspan");
            taken
                .get_mut(column..end)
                .into_iter()
                .flatten()
                .for_each(|taken| *taken = rows);
            column = end;
            read.push(Unit::Node(cell));
        }
        taken.iter_mut().for_each(|rows| *rows = rows.saturating_sub(1));
        out.push(Unit::Node(Node::new("tableRow", BTreeMap::new(), read)));
    }
    Ok(out)
}

fn read_cell(
    name: &str,
    cell: &Value,
    widths: &[Value],
    column: usize,
    depth: usize,
) -> Result<Node, &'static str> {
    let of_cell = cell
        .as_object()
        .filter(|cell| cell.get("type").is_some_and(|kind| kind == "tableCell"));
    let (content, properties) = match of_cell {
        Some(cell) => (
            cell.get("content").unwrap_or(&Value::Null),
            inline::properties(cell.get("props"))?,
        ),
        None => (cell, BTreeMap::new()),
    };
    let line = inline::read(content, false, depth + 1)?;
    let mut attributes = with_defaults(name, properties);
    attributes.remove("colwidth");
    let line = Node::new(TABLE_LINE, BTreeMap::new(), line);
    let mut cell = Node::new(name, attributes, vec![Unit::Node(line)]);
    let width = |column: usize| widths.get(column).cloned().unwrap_or_default();
    let own: Vec<_> = (column..column + span(&cell, "colspan")).map(width).collect();
    if own.iter().any(|width| !width.is_null()) {
        cell.attributes.insert("colwidth".to_owned(), Value::Array(own));
    }
    Ok(Node::new(cell.name, cell.attributes, cell.children))
}

//! What two states have apart, as JSON and as HTML with marks (pure).

use std::{collections::BTreeMap, fmt::Write, sync::Arc};

use crdt::{Fate, Piece, Thing};
use serde::Serialize;
use serde_json::Value;
use storage::Seq;
use utoipa::ToSchema;

/// The row behind which a piece stands: its number, and who wrote it.
pub type Author = (Seq, Option<Arc<str>>);

/// Pieces of fields by their names.
#[derive(Debug, Serialize, ToSchema)]
#[serde(transparent)]
pub struct MarkedFields(BTreeMap<String, Vec<MarkedPiece>>);

/// A piece of a page: a text, a node, a value or something embedded, and who wrote it.
#[derive(Debug, Serialize, ToSchema)]
struct MarkedPiece {
    /// `keep`, `insert` or `delete`, where states are compared.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    op: Option<&'static str>,
    #[serde(flatten)]
    thing: MarkedThing,
    /// In how many nodes it stands.
    depth: usize,
    /// The key under which it stands in a map, or as an attribute.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    key: Option<String>,
    /// Null for a guest, for a backend, and where it is not known.
    #[schema(required)]
    user: Option<String>,
    /// The number of the row in which it was written; null where it is not known.
    #[schema(required)]
    seq: Option<u64>,
}

/// What a piece is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum MarkedThing {
    Text(String),
    /// The name of a node, in which the deeper pieces behind it are.
    Node(String),
    Value(Value),
    /// Always true.
    Embed(bool),
}

/// Pieces of fields by their names, as JSON. With `all_kept` their fate is not said.
pub fn json(fields: &[(String, Vec<Piece>)], rows: &[Author], all_kept: bool) -> MarkedFields {
    let field = |(name, pieces): &(String, Vec<Piece>)| {
        let pieces = pieces.iter().map(|piece| described(piece, rows, all_kept));
        (name.clone(), pieces.collect())
    };
    MarkedFields(fields.iter().map(field).collect())
}

fn described(piece: &Piece, rows: &[Author], all_kept: bool) -> MarkedPiece {
    let author = piece.row.and_then(|row| rows.get(row));
    MarkedPiece {
        op: (!all_kept).then(|| word(piece.fate)),
        thing: match &piece.thing {
            Thing::Text(text) => MarkedThing::Text(text.clone()),
            Thing::Node(node) => MarkedThing::Node(node.clone()),
            Thing::Value(value) => MarkedThing::Value(value.clone()),
            Thing::Embed => MarkedThing::Embed(true),
        },
        depth: piece.depth,
        key: piece.key.clone(),
        user: author.and_then(|(_, user)| user.as_deref().map(str::to_owned)),
        seq: author.map(|(seq, _)| *seq),
    }
}

fn word(fate: Fate) -> &'static str {
    match fate {
        Fate::Kept => "keep",
        Fate::Inserted => "insert",
        Fate::Deleted => "delete",
    }
}

/// Pieces of fields by their names, as HTML: what was inserted in `ins`, what was deleted in `del`. Nothing of what people write becomes
/// markup: nodes are `div`s, and their names are data.
pub fn html(fields: &[(String, Vec<Piece>)], rows: &[Author]) -> String {
    let mut out = String::new();
    for (name, pieces) in fields {
        let _ = write!(out, "<section data-field=\"{}\">", escaped(name));
        // The marks of nodes that are open.
        let mut open: Vec<Option<&str>> = Vec::new();
        for piece in pieces {
            while open.len() > piece.depth {
                close(&mut out, open.pop());
            }
            let mark = begin(&mut out, piece, rows);
            let key = piece.key.as_deref().map(escaped);
            let key = key.map_or_else(String::new, |key| format!(" data-key=\"{key}\""));
            let _ = match &piece.thing {
                Thing::Text(text) if key.is_empty() => write!(out, "{}", escaped(text)),
                Thing::Text(text) => write!(out, "<span{key}>{}</span>", escaped(text)),
                Thing::Value(value) => write!(out, "<code{key}>{}</code>", escaped(&value.to_string())),
                Thing::Embed => write!(out, "<span data-embed{key}></span>"),
                Thing::Node(node) => write!(out, "<div data-node=\"{}\"{key}>", escaped(node)),
            };
            match piece.thing {
                Thing::Node(_) => open.push(mark),
                Thing::Text(_) | Thing::Value(_) | Thing::Embed => end(&mut out, mark),
            }
        }
        while !open.is_empty() {
            close(&mut out, open.pop());
        }
        out.push_str("</section>");
    }
    out
}

/// Opens the mark of a piece.
fn begin(out: &mut String, piece: &Piece, rows: &[Author]) -> Option<&'static str> {
    let mark = match piece.fate {
        Fate::Kept => return None,
        Fate::Inserted => "ins",
        Fate::Deleted => "del",
    };
    let _ = write!(out, "<{mark}");
    if let Some((seq, user)) = piece.row.and_then(|row| rows.get(row)) {
        let _ = write!(out, " data-seq=\"{seq}\"");
        if let Some(user) = user {
            let _ = write!(out, " data-user=\"{}\"", escaped(user));
        }
    }
    out.push('>');
    Some(mark)
}

fn end(out: &mut String, mark: Option<&str>) {
    if let Some(mark) = mark {
        let _ = write!(out, "</{mark}>");
    }
}

fn close(out: &mut String, node: Option<Option<&str>>) {
    if let Some(mark) = node {
        out.push_str("</div>");
        end(out, mark);
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{json as marked, *};

    fn piece(depth: usize, fate: Fate, row: Option<usize>, thing: Thing) -> Piece {
        Piece {
            depth,
            key: None,
            thing,
            fate,
            row,
        }
    }

    #[test]
    fn what_people_write_becomes_no_markup_and_every_mark_is_closed() {
        let text = |text: &str| Thing::Text(text.to_owned());
        let evil = "\"><script>alert('x')</script>&";
        let pieces = vec![
            piece(0, Fate::Inserted, Some(0), Thing::Node(evil.to_owned())),
            Piece {
                key: Some("align".to_owned()),
                ..piece(1, Fate::Inserted, Some(0), Thing::Value(json!("left")))
            },
            piece(1, Fate::Inserted, Some(0), text("new")),
            piece(0, Fate::Kept, None, Thing::Node("p".to_owned())),
            piece(1, Fate::Kept, None, text("kept")),
            piece(1, Fate::Deleted, Some(1), text(evil)),
            piece(1, Fate::Deleted, None, Thing::Embed),
        ];
        let rows = [(7, Some(Arc::from("a\"da"))), (8, None)];
        let quoted = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;";
        assert_eq!(
            html(&[("x".to_owned(), pieces.clone())], &rows),
            format!(
                "<section data-field=\"x\">\
                 <ins data-seq=\"7\" data-user=\"a&quot;da\"><div data-node=\"{quoted}\">\
                 <ins data-seq=\"7\" data-user=\"a&quot;da\"><code data-key=\"align\">&quot;left&quot;</code></ins>\
                 <ins data-seq=\"7\" data-user=\"a&quot;da\">new</ins></div></ins>\
                 <div data-node=\"p\">kept<del data-seq=\"8\">{quoted}</del>\
                 <del><span data-embed></span></del></div></section>"
            )
        );
        let told = json!(marked(&[("x".to_owned(), pieces)], &rows, false));
        assert_eq!(
            told["x"][1],
            json!({ "op": "insert", "value": "left", "key": "align", "depth": 1, "user": "a\"da", "seq": 7 })
        );
        assert_eq!(
            told["x"][6],
            json!({ "op": "delete", "embed": true, "depth": 1, "user": null, "seq": null })
        );
    }
}

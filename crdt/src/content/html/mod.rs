//! HTML, to and from units: as Tiptap writes StarterKit, tables, task lists, links, images and mentions.
//!
//! Every element has one node or mark, and every node and mark one element. What is not known is kept: an unknown element is a node of its
//! name, an unknown attribute one of its name. What HTML has no way to say (names and values that would not come out of it as they went in)
//! is in these attributes:
//!
//! | attribute | of | says |
//! |---|---|---|
//! | `data-node` | `div`, `span` | the name of a node |
//! | `data-mark` | `span` | the name of a mark |
//! | `data-attributes` | every element | more attributes, as a JSON object |

mod dom;
mod read;
mod safe;
mod write;

pub(crate) use read::parse;
pub(crate) use safe::{leads_safely, shows_safely};
pub(crate) use write::{mark_safely, write, write_safely, write_safely_in_line};

const NODE: &str = "data-node";
const MARK: &str = "data-mark";
const ATTRIBUTES: &str = "data-attributes";

/// The elements that are marks, with the names of these. The first of several elements is the one that is written.
const MARKS: [(&str, &str); 13] = [
    ("strong", "bold"),
    ("b", "bold"),
    ("em", "italic"),
    ("i", "italic"),
    ("s", "strike"),
    ("del", "strike"),
    ("strike", "strike"),
    ("u", "underline"),
    ("code", "code"),
    ("sub", "subscript"),
    ("sup", "superscript"),
    ("mark", "highlight"),
    ("a", "link"),
];

/// Unknown elements that are blocks. All others are within a line.
const BLOCKS: [&str; 21] = [
    "address",
    "article",
    "aside",
    "center",
    "dd",
    "details",
    "dialog",
    "div",
    "dl",
    "dt",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "form",
    "header",
    "hgroup",
    "main",
    "nav",
    "section",
    "summary",
];

/// Unknown elements within a line that come out of HTML as they went in, and so do those with a hyphen in their name.
const INLINE: [&str; 19] = [
    "abbr", "audio", "bdi", "bdo", "big", "canvas", "cite", "data", "dfn", "ins", "kbd", "label", "output",
    "q", "samp", "small", "span", "time", "video",
];

/// Nodes that are blocks, by their names.
const BLOCK_NODES: [&str; 13] = [
    "blockquote",
    "bulletList",
    "codeBlock",
    "heading",
    "horizontalRule",
    "listItem",
    "orderedList",
    "paragraph",
    "table",
    "tableCell",
    "tableHeader",
    "tableRow",
    "taskItem",
];

/// Attributes that are numbers.
const NUMBERS: [&str; 4] = ["colspan", "level", "rowspan", "start"];

pub(crate) fn is_block(name: &str) -> bool {
    BLOCK_NODES.contains(&name) || name == "taskList" || BLOCKS.contains(&name)
}

/// Whether a name is that of an element within a line.
pub(crate) fn is_inline(name: &str) -> bool {
    INLINE.contains(&name) || name.contains('-') && is_plain_name(name)
}

/// Names that an HTML parser gives back as they are.
fn is_plain_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_lowercase())
        && bytes.all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
        })
}

#[cfg(test)]
mod tests;

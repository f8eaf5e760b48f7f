//! Places in a page's text: numbers, as programs without Yjs count them, and Yjs's relative positions, each made of the other.
//!
//! In plain and rich text a number counts UTF-16 units from the beginning, and one for each embedded object: Yjs's index. In XML it is a
//! position of ProseMirror: a UTF-16 unit of text counts one, and so do the beginning and the end of each node; nodes that hold nothing
//! by their nature, such as images, count one in all. A document does not say which nodes those are, so an element without content
//! is one when its name is that of a well-known one. Numbers of ProseMirror's JSON and numbers of its editors are the same.

pub(crate) mod end;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use yrs::branch::{BranchID, BranchPtr};
use yrs::{Any, Assoc, ID, IndexScope, Out, StickyIndex, Text, TextRef, Transaction};

use crate::content::{FieldType, root, xml};
use crate::merge::Format;
use crate::view::{View, ViewError};

/// The id of an item of a document, as Yjs writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemId {
    client: u64,
    clock: u32,
}

/// Client ids are numbers that JavaScript can write.
const MAX_CLIENT: u64 = (1 << 53) - 1;

impl ItemId {
    fn of(id: &ID) -> Self {
        Self {
            client: id.client.get(),
            clock: id.clock,
        }
    }

    fn id(self) -> Option<ID> {
        (self.client <= MAX_CLIENT).then(|| ID::new(yrs::ClientID::new(self.client), self.clock))
    }
}

/// A place that stays where it is while others edit, as Yjs writes it. All four members are always there: programs look for them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelativePosition {
    /// The type that it is in, unless that is a root type.
    #[serde(rename = "type", default)]
    kind: Option<ItemId>,
    /// The root type that it is in.
    #[serde(default)]
    tname: Option<String>,
    /// What it is before; nothing for the end.
    #[serde(default)]
    item: Option<ItemId>,
    /// Below zero if it belongs to what is before it.
    #[serde(default)]
    assoc: i32,
}

impl RelativePosition {
    /// Whether it says where it is at all.
    pub fn is_somewhere(&self) -> bool {
        self.kind.is_some() || self.tname.is_some() || self.item.is_some()
    }

    fn index(&self) -> Option<StickyIndex> {
        let scope = match (self.item, self.kind, &self.tname) {
            (Some(item), ..) => IndexScope::Relative(item.id()?),
            (None, Some(kind), _) => IndexScope::Nested(kind.id()?),
            (None, None, Some(name)) => IndexScope::Root(name.as_str().into()),
            (None, None, None) => return None,
        };
        let assoc = if self.assoc < 0 {
            Assoc::Before
        } else {
            Assoc::After
        };
        Some(StickyIndex::new(scope, assoc))
    }
}

/// A place as a number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    /// The root type, if that is not the one that holds the page's content.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub field: Option<String>,
    /// The number.
    pub at: u32,
}

/// A place in one of its two forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// A number.
    Offset(Offset),
    /// A relative position.
    Position(RelativePosition),
}

impl View {
    /// The other form of each place; `None` where the page has no such place. The root type that holds the page's content is the usual
    /// one of whole contents, or else the only one that holds text.
    ///
    /// # Errors
    /// When the document cannot be read.
    pub fn places(&self, places: &[Place], default_format: Format) -> Result<Vec<Option<Place>>, ViewError> {
        self.read("", |transaction| {
            let map = Map::new(transaction, self.fields(), default_format);
            let other = places.iter().map(|place| match place {
                Place::Offset(offset) => map.position(offset).map(Place::Position),
                Place::Position(position) => map.offset(position).map(Place::Offset),
            });
            other.collect()
        })
    }
}

/// Where everything in a page is that a place can be in.
struct Map<'a, 'doc> {
    transaction: &'a Transaction<'doc>,
    fields: BTreeMap<String, Field>,
    /// The root type that holds the page's content.
    main: Option<String>,
    /// The nodes of XML by their ids, with the root type that they are in.
    nodes: BTreeMap<BranchID, (Nodes, String)>,
}

struct Field {
    branch: BranchPtr,
    is_xml: bool,
}

/// What is in a node, in its order.
struct Nodes {
    branch: BranchPtr,
    entries: Vec<Entry>,
    /// The number behind the last one.
    end: u32,
}

struct Entry {
    start: u32,
    end: u32,
    content: Content,
}

#[derive(Clone, Copy)]
enum Content {
    /// A text, in which indices are numbers.
    Text(BranchPtr),
    /// A node that can hold something.
    Node(BranchPtr),
    /// Something that counts as a whole.
    Leaf,
}

impl<'a, 'doc> Map<'a, 'doc> {
    fn new(
        transaction: &'a Transaction<'doc>,
        fields: Vec<(String, FieldType)>,
        default_format: Format,
    ) -> Self {
        let fields: BTreeMap<_, _> = (fields.into_iter())
            .filter(|(_, kind)| matches!(kind, FieldType::Text | FieldType::Xml))
            .filter_map(|(name, kind)| {
                let branch = root(transaction, &name)?;
                let is_xml = kind == FieldType::Xml;
                Some((name, Field { branch, is_xml }))
            })
            .collect();
        let mut map = Self {
            transaction,
            main: main_field(transaction, &fields, default_format),
            fields,
            nodes: BTreeMap::new(),
        };
        let xml: Vec<_> = (map.fields.iter())
            .filter(|(_, field)| field.is_xml)
            .map(|(name, field)| (name.clone(), field.branch))
            .collect();
        for (name, branch) in xml {
            map.lay_out(&name, branch, 0);
        }
        map
    }

    /// Gives the number behind what is in a node. Nesting is bounded by the gate, so this may recurse.
    fn lay_out(&mut self, field: &str, branch: BranchPtr, start: u32) -> u32 {
        let (mut entries, mut end) = (Vec::new(), start);
        for child in xml::children(self.transaction, branch) {
            let (count, size, content) = match child {
                Out::YXmlText(text) => {
                    let text = xml::branch(&text);
                    self.nodes
                        .insert(text.id(), (Nodes::text(text, end), field.to_owned()));
                    (1, length(self.transaction, text), Content::Text(text))
                }
                Out::YXmlElement(element) => {
                    let inside = xml::branch(&element);
                    if length(self.transaction, inside) == 0 && is_leaf(element.tag()) {
                        (1, 1, Content::Leaf)
                    } else {
                        let behind = self.lay_out(field, inside, end.saturating_add(1));
                        (1, (behind - end).saturating_add(1), Content::Node(inside))
                    }
                }
                // Each character is a child of its own.
                Out::Any(Any::String(text)) => (text.encode_utf16().count(), 1, Content::Leaf),
                Out::Any(_)
                | Out::YText(_)
                | Out::YArray(_)
                | Out::YMap(_)
                | Out::YXmlFragment(_)
                | Out::YDoc(_)
                | Out::UndefinedRef(_) => (1, 1, Content::Leaf),
            };
            for _ in 0..count {
                let start = end;
                end = end.saturating_add(size);
                entries.push(Entry { start, end, content });
            }
        }
        let nodes = Nodes { branch, entries, end };
        self.nodes.insert(branch.id(), (nodes, field.to_owned()));
        end
    }

    fn offset(&self, position: &RelativePosition) -> Option<Offset> {
        let found = position.index()?.get_offset(self.transaction)?;
        let id = found.branch.id();
        let (at, name) = match &id {
            BranchID::Root(name) if self.fields.get(&**name).is_some_and(|field| !field.is_xml) => {
                (found.index, name.to_string())
            }
            BranchID::Root(_) | BranchID::Nested(_) => {
                let (nodes, name) = self.nodes.get(&id)?;
                (nodes.number(found.index), name.clone())
            }
        };
        let field = Some(name).filter(|name| Some(name) != self.main.as_ref());
        Some(Offset { field, at })
    }

    fn position(&self, offset: &Offset) -> Option<RelativePosition> {
        let name = offset.field.as_ref().or(self.main.as_ref())?;
        let field = self.fields.get(name)?;
        let (branch, index) = match field.is_xml {
            true => self.descend(field.branch, offset.at)?,
            false => (field.branch, offset.at),
        };
        let length = length(self.transaction, branch);
        let item = match index < length {
            true => StickyIndex::at(self.transaction, branch, index, Assoc::After)?
                .id()
                .copied(),
            // Whoever counts a text that has become shorter meanwhile is at its end.
            false => None,
        };
        let (kind, tname) = match branch.id() {
            BranchID::Nested(id) => (Some(ItemId::of(&id)), None),
            BranchID::Root(name) => (None, Some(name.to_string())),
        };
        let item = item.as_ref().map(ItemId::of);
        Some(RelativePosition {
            kind,
            tname,
            item,
            assoc: 0,
        })
    }

    /// What a number is in, and the index there.
    fn descend(&self, mut branch: BranchPtr, number: u32) -> Option<(BranchPtr, u32)> {
        loop {
            let (nodes, _) = self.nodes.get(&branch.id())?;
            let number = number.min(nodes.end);
            let first = nodes.entries.partition_point(|entry| entry.end < number);
            let mut inside = None;
            let mut index = first;
            while let Some(entry) = nodes.entries.get(index) {
                match entry.content {
                    Content::Text(text) if entry.start <= number => {
                        return Some((text, number - entry.start));
                    }
                    _ if number <= entry.start => break,
                    Content::Node(node) if number < entry.end => {
                        inside = Some(node);
                        break;
                    }
                    Content::Text(_) | Content::Node(_) | Content::Leaf => index += 1,
                }
            }
            match inside {
                Some(node) => branch = node,
                None => return Some((nodes.branch, u32::try_from(index).ok()?)),
            }
        }
    }
}

impl Nodes {
    /// A text that begins at a number.
    fn text(branch: BranchPtr, start: u32) -> Self {
        Self {
            branch,
            entries: Vec::new(),
            end: start,
        }
    }

    fn number(&self, index: u32) -> u32 {
        let entry = usize::try_from(index)
            .ok()
            .and_then(|index| self.entries.get(index));
        match entry {
            Some(entry) => entry.start,
            None if self.entries.is_empty() => self.end.saturating_add(index),
            None => self.end,
        }
    }
}

fn length(transaction: &Transaction<'_>, branch: BranchPtr) -> u32 {
    TextRef::from(branch).len(transaction)
}

fn main_field(
    transaction: &Transaction<'_>,
    fields: &BTreeMap<String, Field>,
    default_format: Format,
) -> Option<String> {
    let holds = |name: &str, is_xml: bool| {
        let field = fields.get(name).filter(|field| field.is_xml == is_xml);
        field.is_some_and(|field| length(transaction, field.branch) > 0)
    };
    let (text, nodes) = (Format::Text.usual_field(), Format::Html.usual_field());
    match (holds(text, false), holds(nodes, true)) {
        (true, true) => Some(default_format.usual_field().to_owned()),
        (true, false) => Some(text.to_owned()),
        (false, true) => Some(nodes.to_owned()),
        (false, false) => {
            let mut held = fields
                .iter()
                .filter(|(_, field)| length(transaction, field.branch) > 0);
            let only = held.next().filter(|_| held.next().is_none());
            only.map(|(name, _)| name.clone())
        }
    }
}

/// Nodes that hold nothing by their nature, in the two ways in which editors write their names.
fn is_leaf(name: &str) -> bool {
    const LEAVES: [&str; 15] = [
        "hardBreak",
        "hard_break",
        "horizontalRule",
        "horizontal_rule",
        "image",
        "imageBlock",
        "mention",
        "emoji",
        "video",
        "audio",
        "iframe",
        "youtube",
        "inlineMath",
        "blockMath",
        "pageBreak",
    ];
    LEAVES.contains(&name)
}

#[cfg(test)]
mod tests;

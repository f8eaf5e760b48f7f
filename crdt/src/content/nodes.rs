//! Rich text as units: characters with their marks, and nodes that hold units. Every format of rich text is read into this form and
//! written from it, and so is the document.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use serde_json::Value;
use yrs::branch::BranchPtr;
use yrs::types::text::{Diff, YChange};
use yrs::{Any, Out, ReadTxn, Text, TextRef, Xml, XmlElementRef, XmlTextRef};

use super::{json, value, xml};

/// The marks of a character by their names, each with its attributes.
pub(crate) type Marks = Rc<BTreeMap<String, Value>>;

/// A character, or what stands in the place of one.
#[derive(Debug, Clone)]
pub(crate) enum Unit {
    Character(char, Marks),
    Node(Node),
    /// Something in a document that is neither text nor a node.
    Other,
}

/// A node: a block, or something within a line.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) attributes: BTreeMap<String, Value>,
    pub(crate) children: Vec<Unit>,
    /// Whether it was read as a block, which its name need not say.
    pub(crate) is_block: bool,
    /// Nodes with the same content have the same one.
    pub(crate) fingerprint: u64,
    /// Where it is in a document.
    pub(crate) live: Option<XmlElementRef>,
}

impl Node {
    pub(crate) fn new(
        name: impl Into<String>,
        attributes: BTreeMap<String, Value>,
        children: Vec<Unit>,
    ) -> Self {
        let name = name.into();
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        for (key, value) in &attributes {
            key.hash(&mut hasher);
            value.to_string().hash(&mut hasher);
        }
        // Runs of characters, because marks are written out to be hashed.
        for run in runs(&children) {
            match run {
                Run::Text(text, marks) => {
                    text.hash(&mut hasher);
                    for (name, value) in marks.iter() {
                        name.hash(&mut hasher);
                        value.to_string().hash(&mut hasher);
                    }
                }
                Run::Node(node) => node.fingerprint.hash(&mut hasher),
                Run::Other => 0_u8.hash(&mut hasher),
            }
        }
        Self {
            name,
            attributes,
            children,
            is_block: false,
            fingerprint: hasher.finish(),
            live: None,
        }
    }

    /// The text in it, with a space between what is in different nodes.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        write_text(&mut out, &self.children);
        out
    }
}

fn write_text(out: &mut String, units: &[Unit]) {
    for unit in units {
        match unit {
            Unit::Character(character, _) => out.push(*character),
            Unit::Node(node) => {
                out.push(' ');
                write_text(out, &node.children);
            }
            Unit::Other => {}
        }
    }
}

/// Neighbours that belong together.
#[derive(Debug)]
pub(crate) enum Run<'a> {
    /// Characters with the same marks.
    Text(String, &'a Marks),
    Node(&'a Node),
    Other,
}

pub(crate) fn runs(units: &[Unit]) -> Vec<Run<'_>> {
    let mut runs: Vec<Run<'_>> = Vec::new();
    for unit in units {
        match unit {
            Unit::Character(character, marks) => match runs.last_mut() {
                Some(Run::Text(text, open)) if *open == marks => text.push(*character),
                _ => runs.push(Run::Text(character.to_string(), marks)),
            },
            Unit::Node(node) => runs.push(Run::Node(node)),
            Unit::Other => runs.push(Run::Other),
        }
    }
    runs
}

pub(crate) fn is_text(unit: &Unit) -> bool {
    matches!(unit, Unit::Character(..))
}

/// What is in a root type or an element. Nesting is bounded by the gate, so this may recurse.
pub(crate) fn read(transaction: &impl ReadTxn, parent: BranchPtr) -> Vec<Unit> {
    let mut units = Vec::new();
    for child in xml::children(transaction, parent) {
        match child {
            Out::YXmlElement(element) => units.push(Unit::Node(read_element(transaction, element))),
            Out::YXmlText(text) => units.extend(read_text(transaction, &text)),
            Out::Any(Any::String(text)) => {
                let marks = Marks::default();
                units.extend(
                    text.chars()
                        .map(|character| Unit::Character(character, marks.clone())),
                );
            }
            Out::Any(_)
            | Out::YText(_)
            | Out::YArray(_)
            | Out::YMap(_)
            | Out::YXmlFragment(_)
            | Out::YDoc(_)
            | Out::UndefinedRef(_) => units.push(Unit::Other),
        }
    }
    units
}

fn read_element(transaction: &impl ReadTxn, element: XmlElementRef) -> Node {
    let attributes = element.attributes(transaction);
    let attributes = attributes.map(|(name, attribute)| (name.to_owned(), value(transaction, attribute)));
    let attributes = attributes.filter(|(_, value)| !value.is_null()).collect();
    let children = read(transaction, xml::branch(&element));
    Node {
        live: Some(element.clone()),
        ..Node::new(element.tag().as_ref(), attributes, children)
    }
}

pub(crate) fn read_text(transaction: &impl ReadTxn, text: &XmlTextRef) -> Vec<Unit> {
    let pieces = TextRef::from(xml::branch(text)).diff(transaction, YChange::identity);
    let mut units = Vec::new();
    for piece in pieces {
        let marks = marks(&piece);
        if let Out::Any(Any::String(text)) = piece.insert {
            units.extend(
                text.chars()
                    .map(|character| Unit::Character(character, marks.clone())),
            );
        } else {
            units.push(Unit::Other);
        }
    }
    units
}

/// The formats of a piece of text by their names.
pub(crate) fn marks<T>(piece: &Diff<T>) -> Marks {
    let attributes = piece.attributes.iter().flat_map(|attributes| attributes.iter());
    let marks = attributes.map(|(name, value)| (name.to_string(), json(value)));
    Rc::new(marks.collect())
}

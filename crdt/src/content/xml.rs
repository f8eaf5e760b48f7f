//! XML nodes as Yjs's `toString` gives them, and the plain text in them.

use yrs::branch::{Branch, BranchPtr};
use yrs::types::text::YChange;
use yrs::{Any, GetString, Out, ReadTxn, Text, TextRef, Xml, XmlElementRef, XmlTextRef};

use super::script;

/// The nodes in a fragment, one after the other.
pub(super) fn nodes(transaction: &impl ReadTxn, parent: BranchPtr) -> String {
    let mut out = String::new();
    write_nodes(&mut out, transaction, parent);
    out
}

/// An element with its attributes, in the order of their names, and everything in it.
pub(super) fn element(transaction: &impl ReadTxn, element: &XmlElementRef) -> String {
    let mut out = String::new();
    write_element(&mut out, transaction, element);
    out
}

/// A text with its formatting as elements around it, in the order of their names.
pub(super) fn formatted(transaction: &impl ReadTxn, text: &XmlTextRef) -> String {
    let mut out = String::new();
    write_formatted(&mut out, transaction, text);
    out
}

/// Nesting is bounded by the gate, so this may recurse.
fn write_nodes(out: &mut String, transaction: &impl ReadTxn, parent: BranchPtr) {
    for node in children(transaction, parent) {
        write_node(out, transaction, &node);
    }
}

fn write_node(out: &mut String, transaction: &impl ReadTxn, node: &Out) {
    match node {
        Out::YXmlElement(element) => write_element(out, transaction, element),
        Out::YXmlText(text) => write_formatted(out, transaction, text),
        Out::YXmlFragment(fragment) => write_nodes(out, transaction, branch(fragment)),
        // What a text is made of, and newer clients write text straight into an element.
        Out::Any(Any::String(text)) => out.push_str(text),
        Out::Any(_) | Out::YText(_) | Out::YArray(_) | Out::YMap(_) | Out::YDoc(_) | Out::UndefinedRef(_) => {
        }
    }
}

fn write_element(out: &mut String, transaction: &impl ReadTxn, element: &XmlElementRef) {
    let name = element.tag().to_lowercase();
    let mut attributes: Vec<_> = element.attributes(transaction).collect();
    attributes.sort_unstable_by(|left, right| left.0.cmp(right.0));
    out.push('<');
    out.push_str(&name);
    for (key, value) in attributes {
        write_attribute(out, key, &shown(transaction, &value));
    }
    out.push('>');
    write_nodes(out, transaction, branch(element));
    close(out, &name);
}

/// Some editors keep their blocks as texts within a text, so what is in it need not be characters.
fn write_formatted(out: &mut String, transaction: &impl ReadTxn, text: &XmlTextRef) {
    for piece in text.diff(transaction, YChange::identity) {
        let formats = script::formats(&piece);
        let before = out.len();
        for (name, attributes) in &formats {
            out.push('<');
            out.push_str(name);
            for (key, value) in attributes {
                write_attribute(out, key, value);
            }
            out.push('>');
        }
        let inside = out.len();
        write_node(out, transaction, &piece.insert);
        if out.len() == inside {
            // Nothing that markup could show.
            out.truncate(before);
            continue;
        }
        for (name, _) in formats.iter().rev() {
            close(out, name);
        }
    }
}

fn write_attribute(out: &mut String, key: &str, value: &str) {
    out.push(' ');
    out.push_str(key);
    out.push_str("=\"");
    out.push_str(value);
    out.push('"');
}

fn close(out: &mut String, name: &str) {
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

fn shown(transaction: &impl ReadTxn, value: &Out) -> String {
    match value {
        Out::Any(any) => script::string(any),
        Out::YText(text) => text.get_string(transaction),
        Out::YXmlElement(node) => element(transaction, node),
        Out::YXmlText(text) => formatted(transaction, text),
        Out::YXmlFragment(fragment) => nodes(transaction, branch(fragment)),
        Out::YArray(_) | Out::YMap(_) | Out::YDoc(_) | Out::UndefinedRef(_) => script::OBJECT.to_owned(),
    }
}

/// The nodes in a list, read as a text with embedded objects: the library's walk over lists never ends when there
/// is a character beyond the Basic Multilingual Plane in one, and its walk over XML nodes ends at the first that is none.
fn children(transaction: &impl ReadTxn, parent: BranchPtr) -> impl Iterator<Item = Out> {
    TextRef::from(parent)
        .diff(transaction, YChange::identity)
        .into_iter()
        .map(|piece| piece.insert)
}

/// The plain text in XML nodes: what stands next to each other in one element is one line, and so is each of the texts that
/// are all there is in a text or at the root.
pub(super) fn text(transaction: &impl ReadTxn, parent: BranchPtr) -> String {
    let mut lines = Lines::default();
    lines.read_text(transaction, parent);
    lines.close();
    lines.done.join("\n")
}

#[derive(Default)]
struct Lines {
    done: Vec<String>,
    open: Option<String>,
}

impl Lines {
    /// Reads what goes on in the open line, until a block ends it.
    fn read(&mut self, transaction: &impl ReadTxn, parent: BranchPtr) {
        for node in children(transaction, parent) {
            match node {
                Out::YXmlText(text) => {
                    self.open.get_or_insert_default();
                    self.read(transaction, branch(&text));
                }
                Out::YXmlElement(element) => self.element(transaction, &element),
                Out::YXmlFragment(fragment) => self.read(transaction, branch(&fragment)),
                Out::Any(Any::String(text)) => self.open.get_or_insert_default().push_str(&text),
                Out::Any(_)
                | Out::YText(_)
                | Out::YArray(_)
                | Out::YMap(_)
                | Out::YDoc(_)
                | Out::UndefinedRef(_) => {}
            }
        }
    }

    /// Reads a text, or a root, which may be one. With characters of its own it is a line, and without any it is made of
    /// blocks: some editors keep theirs as texts within a text.
    fn read_text(&mut self, transaction: &impl ReadTxn, parent: BranchPtr) {
        let is_line = children(transaction, parent).any(|node| matches!(node, Out::Any(Any::String(_))));
        if is_line {
            return self.read(transaction, parent);
        }
        for node in children(transaction, parent) {
            match node {
                Out::YXmlText(text) => self.block(transaction, branch(&text)),
                Out::YXmlElement(element) => self.element(transaction, &element),
                Out::YXmlFragment(fragment) => self.read_text(transaction, branch(&fragment)),
                Out::Any(_)
                | Out::YText(_)
                | Out::YArray(_)
                | Out::YMap(_)
                | Out::YDoc(_)
                | Out::UndefinedRef(_) => {}
            }
        }
    }

    /// A text that is a block of its own. One in which there is nothing is an empty line.
    fn block(&mut self, transaction: &impl ReadTxn, text: BranchPtr) {
        self.close();
        let before = self.done.len();
        self.read_text(transaction, text);
        self.close();
        if self.done.len() == before {
            self.done.push(String::new());
        }
    }

    fn element(&mut self, transaction: &impl ReadTxn, element: &XmlElementRef) {
        let in_line = self.open.is_some();
        self.close();
        let inside = branch(element);
        // An empty block is an empty line; an empty element within a line, such as a hard break, only ends it.
        if !in_line && children(transaction, inside).next().is_none() {
            self.done.push(String::new());
        }
        self.read(transaction, inside);
        self.close();
    }

    fn close(&mut self) {
        self.done.extend(self.open.take());
    }
}

/// The list of a node's children.
pub(super) fn branch(node: &impl AsRef<Branch>) -> BranchPtr {
    BranchPtr::from(node.as_ref())
}

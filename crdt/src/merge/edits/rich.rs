//! Edits of text and of rich text.

use serde_json::{Map as Object, Value};
use yrs::branch::BranchPtr;
use yrs::types::Attrs;
use yrs::types::text::YChange;
use yrs::{Any, Out, Text, TextRef, WriteTxn};

use super::place::{Shared, shared};
use super::{Editing, Path};
use crate::content::nodes::{self, Node, Unit};
use crate::content::{FieldType, blocknote, html, markdown, prosemirror, xml};
use crate::merge::MergeRefusal;
use crate::merge::live::{self, Change};
use crate::merge::things::any;

/// Stands for what is no character.
const NO_CHARACTER: char = '\u{fffc}';

/// A range of a text, in units of UTF-16.
struct Range {
    text: TextRef,
    at: u32,
    length: u32,
}

/// An edit of a text.
pub(super) struct TextEdit<'e> {
    pub(super) path: &'e Path,
    pub(super) spot: Spot<'e>,
    pub(super) inserted: &'e str,
    pub(super) attributes: Option<&'e Object<String, Value>>,
}

/// Blocks that are put into rich text.
pub(super) struct BlockEdit<'e> {
    pub(super) path: &'e Path,
    pub(super) markdown: Option<&'e str>,
    pub(super) html: Option<&'e str>,
    pub(super) prosemirror: Option<&'e Value>,
    pub(super) after_heading: Option<&'e str>,
    pub(super) after: Option<&'e str>,
    pub(super) before: Option<&'e str>,
    pub(super) at_start: bool,
}

/// Where a text is edited.
pub(super) enum Spot<'e> {
    End,
    /// So many units of UTF-16 at a place.
    Range(u32, u32),
    /// What stands there once.
    Quote(&'e str),
    Before(&'e str),
    After(&'e str),
}

impl<'e> Spot<'e> {
    /// Where something is put in.
    pub(super) fn of_insertion(
        at: Option<u32>,
        after: Option<&'e str>,
        before: Option<&'e str>,
    ) -> Result<Self, MergeRefusal> {
        match (at, after, before) {
            (None, None, None) => Ok(Self::End),
            (Some(at), None, None) => Ok(Self::Range(at, 0)),
            (None, Some(quote), None) => Ok(Self::After(quote)),
            (None, None, Some(quote)) => Ok(Self::Before(quote)),
            _ => Err(MergeRefusal::edit("a place is `at`, `after` or `before`")),
        }
    }

    /// What is taken out.
    pub(super) fn of_deletion(
        at: Option<u32>,
        length: Option<u32>,
        quote: Option<&'e str>,
    ) -> Result<Self, MergeRefusal> {
        match (at, length, quote) {
            (Some(at), Some(length), None) => Ok(Self::Range(at, length)),
            (None, None, Some(quote)) => Ok(Self::Quote(quote)),
            _ => Err(MergeRefusal::edit("a range is `at` and `length`, or a `quote`")),
        }
    }
}

impl Editing<'_, '_> {
    pub(super) fn edit_text(&mut self, edit: &TextEdit<'_>) -> Result<(), MergeRefusal> {
        let TextEdit {
            path,
            spot,
            inserted,
            attributes,
        } = edit;
        let texts = self.texts(path)?;
        let range = match (spot, texts.as_slice()) {
            (Spot::Quote(quote), texts) => self.quoted(texts, quote)?,
            (Spot::Before(quote), texts) => Range {
                length: 0,
                ..self.quoted(texts, quote)?
            },
            (Spot::After(quote), texts) => {
                let quoted = self.quoted(texts, quote)?;
                Range {
                    at: quoted.at + quoted.length,
                    length: 0,
                    ..quoted
                }
            }
            (Spot::End, [text]) => self.range(text, None, 0)?,
            (Spot::Range(at, length), [text]) => self.range(text, Some(*at), *length)?,
            (Spot::End | Spot::Range(..), _) => {
                return Err(MergeRefusal::edit(
                    "in rich text a place is said by what stands there, as `after`, `before` or `quote`",
                ));
            }
        };
        let Range { text, at, length } = range;
        // In front of what goes, so that it is as that is.
        if !inserted.is_empty() {
            match attributes {
                Some(attributes) => {
                    text.insert_with_attributes(self.transaction, at + length, inserted, formats(attributes));
                }
                None => text.insert(self.transaction, at + length, inserted),
            }
        }
        if length > 0 {
            text.remove_range(self.transaction, at, length);
        }
        Ok(())
    }

    /// The texts at a place: one, or all of rich text.
    fn texts(&mut self, path: &Path) -> Result<Vec<TextRef>, MergeRefusal> {
        let located = self.located(path)?;
        match shared(located) {
            Some(Shared::Text(text)) => {
                if let [name] = path.0.as_slice() {
                    self.kinds.insert(name.clone(), FieldType::Text);
                }
                Ok(vec![TextRef::from(text)])
            }
            Some(Shared::Xml(parent)) => {
                let mut texts = Vec::new();
                self.collect(parent, &mut texts);
                Ok(texts)
            }
            Some(Shared::Map(_) | Shared::List(_)) | None => {
                Err(MergeRefusal::edit(format!("there is no text at `{path}`")))
            }
        }
    }

    /// Nesting is bounded by the gate, so this may recurse.
    fn collect(&self, parent: BranchPtr, texts: &mut Vec<TextRef>) {
        let children: Vec<Out> = xml::children(self.transaction, parent).collect();
        if children
            .iter()
            .any(|child| matches!(child, Out::Any(Any::String(_))))
        {
            texts.push(TextRef::from(parent));
        }
        for child in children {
            if let Out::YXmlElement(element) = child {
                self.collect(xml::branch(&element), texts);
            } else if let Out::YXmlText(text) = child {
                self.collect(xml::branch(&text), texts);
            }
        }
    }

    /// What is in a text, with a sign for what is no character.
    fn characters(&mut self, text: &TextRef) -> String {
        let mut out = String::new();
        for piece in text.diff(self.transaction, YChange::identity) {
            if let Out::Any(Any::String(characters)) = piece.insert {
                out.push_str(&characters);
            } else {
                out.push(NO_CHARACTER);
            }
        }
        self.work += out.len();
        out
    }

    /// A range by its place. It may be the end of the text, and must not be inside of a character.
    fn range(&mut self, text: &TextRef, at: Option<u32>, length: u32) -> Result<Range, MergeRefusal> {
        let whole = text.len(self.transaction);
        let at = at.unwrap_or(whole);
        let characters = self.characters(text);
        let mut ends = (at == 0, at.checked_add(length) == Some(0));
        let mut place = 0_u32;
        for character in characters.chars() {
            place += character.len_utf16() as u32;
            ends = (
                ends.0 || place == at,
                ends.1 || at.checked_add(length) == Some(place),
            );
        }
        match ends == (true, true) && place == whole {
            true => Ok(Range {
                text: text.clone(),
                at,
                length,
            }),
            false => Err(MergeRefusal::NoSuchPlace {
                reason: format!("the text has {whole} units of UTF-16, and these are none of its characters"),
            }),
        }
    }

    /// The one place where something stands.
    fn quoted(&mut self, texts: &[TextRef], quote: &str) -> Result<Range, MergeRefusal> {
        if quote.is_empty() {
            return Err(MergeRefusal::edit("a quote is a text"));
        }
        let mut found = None;
        let mut count = 0_usize;
        for text in texts {
            let characters = self.characters(text);
            for (at, _) in characters.match_indices(quote) {
                count += 1;
                let before = characters.get(..at).unwrap_or_default();
                found = Some((text, before.encode_utf16().count() as u32));
            }
        }
        match (found, count) {
            (Some((text, at)), 1) => self.range(text, Some(at), quote.encode_utf16().count() as u32),
            _ => Err(stands(count)),
        }
    }

    pub(super) fn insert_blocks(&mut self, edit: &BlockEdit<'_>) -> Result<(), MergeRefusal> {
        let BlockEdit {
            path,
            markdown,
            html,
            prosemirror,
            after_heading,
            after,
            before,
            at_start,
        } = edit;
        let blocks = match (markdown, html, prosemirror) {
            (Some(markdown), None, None) => markdown::parse(markdown),
            (None, Some(html), None) => html::parse(html),
            (None, None, Some(document)) => prosemirror::parse(document),
            _ => Err("blocks are `markdown`, `html` or `prosemirror`"),
        };
        let blocks = blocks.map_err(MergeRefusal::edit)?;
        if let [name] = path.0.as_slice()
            && matches!(self.kinds.get(name), None | Some(FieldType::Unknown))
        {
            self.transaction.get_or_insert_xml_fragment(name.as_str());
            self.kinds.insert(name.clone(), FieldType::Xml);
        }
        let located = self.located(path)?;
        let Some(Shared::Xml(parent)) = shared(located) else {
            return Err(MergeRefusal::edit(format!("there is no rich text at `{path}`")));
        };
        let mut current = nodes::read(self.transaction, parent);
        self.work += current.iter().map(size).sum::<usize>();
        let (mut parent, mut blocks) = (parent, blocks);
        if let Some(group) = blocknote::group(&current).cloned() {
            parent = group.live.as_ref().map_or(parent, xml::branch);
            blocks = blocknote::group(&blocknote::blocks(&blocks))
                .map_or(Vec::new(), |group| group.children.clone());
            current = group.children;
        } else if blocknote::is_in(&blocks) {
            return Err(MergeRefusal::other_schema(false));
        }
        let at = match (after_heading, after, before, at_start) {
            (Some(heading), None, None, false) => {
                let is_it = |node: &Node| {
                    let node = blocknote::content(node)
                        .filter(|_| node.name == blocknote::CONTAINER)
                        .unwrap_or(node);
                    node.name == "heading" && node.text().trim() == heading.trim()
                };
                only(&current, is_it)? + 1
            }
            (None, Some(quote), None, false) => only(&current, |node| node.text().contains(quote))? + 1,
            (None, None, Some(quote), false) => only(&current, |node| node.text().contains(quote))?,
            (None, None, None, true) => 0,
            (None, None, None, false) => current.len(),
            _ => {
                return Err(MergeRefusal::edit(
                    "a place is `after_heading`, `after`, `before` or `at_start`",
                ));
            }
        };
        match live::apply(
            self.transaction,
            parent,
            &current,
            vec![Change::Insert(at, blocks)],
        ) {
            true => Ok(()),
            false => Err(MergeRefusal::edit(format!(
                "what is at `{path}` cannot be edited"
            ))),
        }
    }
}

/// The index of the only node that is looked for.
fn only(units: &[Unit], is_it: impl Fn(&Node) -> bool) -> Result<usize, MergeRefusal> {
    let is_it = |unit: &Unit| matches!(unit, Unit::Node(node) if is_it(node));
    let mut found = units.iter().enumerate().filter(|(_, unit)| is_it(unit));
    match (found.next(), found.count()) {
        (Some((at, _)), 0) => Ok(at),
        (first, others) => Err(stands(others + usize::from(first.is_some()))),
    }
}

/// How much is in a unit.
fn size(unit: &Unit) -> usize {
    match unit {
        Unit::Node(node) => 1 + node.children.iter().map(size).sum::<usize>(),
        Unit::Character(..) | Unit::Other => 1,
    }
}

fn stands(count: usize) -> MergeRefusal {
    MergeRefusal::NoSuchPlace {
        reason: match count {
            0 => "what is to be found does not stand there".to_owned(),
            count => format!("what is to be found stands there {count} times: say more of it"),
        },
    }
}

fn formats(attributes: &Object<String, Value>) -> Attrs {
    attributes
        .iter()
        .map(|(name, value)| (name.as_str().into(), any(value)))
        .collect()
}

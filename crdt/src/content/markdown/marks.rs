//! Marks as Markdown has them: a sign, a link, or an element of HTML; and where a sign is read as one.

use comrak::nodes::{NodeLink, NodeValue};
use serde_json::Value;

use crate::content::html;
use crate::content::nodes::Marks;

/// The marks that are shown, links apart, and the sign that Markdown has for each; else it is an element of HTML.
const SHOWN: [(&str, Option<Sign>); 7] = [
    ("highlight", None),
    ("subscript", None),
    ("superscript", None),
    ("underline", None),
    ("bold", Some(Sign::Strong)),
    ("italic", Some(Sign::Emphasis)),
    ("strike", Some(Sign::Strike)),
];

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Strong,
    Emphasis,
    Strike,
}

impl Sign {
    /// Whether one is read together with the other one where both stand side by side.
    pub(super) fn is_like(self, other: Self) -> bool {
        (self == Self::Strike) == (other == Self::Strike)
    }

    pub(super) fn value(self) -> NodeValue {
        match self {
            Self::Strong => NodeValue::Strong,
            Self::Emphasis => NodeValue::Emph,
            Self::Strike => NodeValue::Strikethrough,
        }
    }
}

/// A mark as it is shown.
#[derive(Clone, PartialEq)]
pub(super) struct Mark {
    /// Its place among others that begin and end where it does.
    pub(super) rank: usize,
    pub(super) sign: Option<Sign>,
    pub(super) link: Option<NodeLink>,
    /// Its start tag in HTML, and its element.
    pub(super) tag: (String, &'static str),
}

/// What is on one side of a sign: that decides whether it is read as one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// A letter or digit.
    Word,
    /// White space, or an end of the line.
    Space,
    /// Punctuation, or something that Markdown writes with it.
    Punctuation,
    Break,
    Unsure,
}

impl Side {
    pub(super) fn of(character: char) -> Self {
        match character {
            '\n' | '\r' => Self::Break,
            character if character.is_alphanumeric() => Self::Word,
            character if character.is_whitespace() => Self::Space,
            character if character.is_ascii_punctuation() => Self::Punctuation,
            _ => Self::Unsure,
        }
    }

    /// Whether a sign between both is read as one that begins or ends something. White space inside is written as what it is called.
    pub(super) fn reads(outside: Self, inside: Self) -> bool {
        inside != Self::Break
            && (inside == Self::Word || matches!(outside, Self::Space | Self::Punctuation | Self::Break))
    }

    /// Whether a sign that begins something could be read as one that ends something else.
    pub(super) fn could_end(outside: Self, inside: Self) -> bool {
        !matches!(
            (outside, inside),
            (Self::Space | Self::Break, _) | (Self::Punctuation, Self::Word)
        )
    }
}

/// The marks of a text that are shown.
pub(super) fn shown(marks: &Marks) -> Vec<Mark> {
    let link = marks.get("link").and_then(|link| {
        let text = |name: &str| link.get(name).and_then(Value::as_str);
        let address_of = text("href").filter(|address| html::leads_safely(address))?;
        let tag = html::mark_safely("link", link)?;
        Some(Mark {
            rank: 0,
            sign: None,
            link: is_kept(address_of).then(|| NodeLink {
                url: address_of.to_owned(),
                title: title(text("title").unwrap_or_default()),
            }),
            tag,
        })
    });
    let others = SHOWN.iter().enumerate().filter_map(|(at, (name, sign))| {
        let attributes = marks.get(*name)?;
        let is_plain = attributes.as_object().is_none_or(serde_json::Map::is_empty);
        Some(Mark {
            rank: at + 1,
            sign: sign.filter(|_| is_plain),
            link: None,
            tag: html::mark_safely(name, if is_plain { &Value::Bool(true) } else { attributes })?,
        })
    });
    link.into_iter().chain(others).collect()
}

/// Whether an address comes out of Markdown as it went in: it encodes what is not to be in an address, and reads names of characters.
fn is_kept(address: &str) -> bool {
    let bytes = address.as_bytes();
    let is_safe = |(at, byte): (usize, &u8)| match byte {
        b'%' => {
            let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
            is_digit(at + 1) && is_digit(at + 2)
        }
        byte => byte.is_ascii_alphanumeric() || b"-_.+!*(),#@?=;:/$~&'".contains(byte),
    };
    bytes.iter().enumerate().all(is_safe) && !has_name(address)
}

/// Whether something in a text could be the name of a character.
fn has_name(text: &str) -> bool {
    text.split_once('&').is_some_and(|(_, rest)| rest.contains(';'))
}

/// A text in which no name of a character is read.
fn without_names(text: &str) -> String {
    match has_name(text) {
        true => text.replace('&', "&amp;"),
        false => text.to_owned(),
    }
}

/// An address in which no name of a character is read.
pub(super) fn address(address: &str) -> String {
    without_names(&address.replace(['\n', '\r'], " "))
}

/// A title in which no name of a character is read, and no line ends.
pub(super) fn title(title: &str) -> String {
    without_names(title).replace('\n', "&#10;").replace('\r', "&#13;")
}

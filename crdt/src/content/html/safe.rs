//! HTML that does nothing in the page that shows it: an allow list of elements, attributes, addresses and styles.

use std::borrow::Cow;
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};

/// Elements that do nothing but show what is in them.
const ELEMENTS: [&str; 72] = [
    "a",
    "abbr",
    "address",
    "article",
    "aside",
    "b",
    "bdi",
    "bdo",
    "big",
    "blockquote",
    "br",
    "center",
    "cite",
    "code",
    "data",
    "dd",
    "del",
    "details",
    "dfn",
    "div",
    "dl",
    "dt",
    "em",
    "fieldset",
    "figcaption",
    "figure",
    "footer",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "header",
    "hgroup",
    "hr",
    "i",
    "img",
    "input",
    "ins",
    "kbd",
    "label",
    "li",
    "main",
    "mark",
    "nav",
    "ol",
    "p",
    "pre",
    "q",
    "s",
    "samp",
    "section",
    "small",
    "span",
    "strike",
    "strong",
    "sub",
    "summary",
    "sup",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tfoot",
    "time",
    "tr",
    "u",
    "ul",
    "col",
    "colgroup",
];

/// Attributes of every element. What begins with `data-` does nothing either. An `id` does: it stands in the way of what programs look for.
const EVERYWHERE: [&str; 7] = ["align", "class", "dir", "lang", "style", "title", "translate"];

/// Attributes of some elements.
const SOMEWHERE: [(&str, &[&str]); 14] = [
    ("a", &["href", "rel", "target"]),
    ("blockquote", &["cite"]),
    ("data", &["value"]),
    ("del", &["cite", "datetime"]),
    ("details", &["open"]),
    ("img", &["alt", "height", "src", "width"]),
    ("input", &["checked", "disabled"]),
    ("ins", &["cite", "datetime"]),
    ("ol", &["reversed", "start", "type"]),
    ("q", &["cite"]),
    ("table", &["border"]),
    ("td", &["colspan", "colwidth", "headers", "rowspan"]),
    ("th", &["colspan", "colwidth", "headers", "rowspan", "scope"]),
    ("time", &["datetime"]),
];

/// Properties of a style that only change how text looks where it stands: none moves an element over others or fetches anything.
const STYLES: [&str; 20] = [
    "background-color",
    "color",
    "font-family",
    "font-size",
    "font-style",
    "font-variant",
    "font-weight",
    "height",
    "letter-spacing",
    "line-height",
    "margin-left",
    "margin-right",
    "max-width",
    "min-width",
    "padding-left",
    "text-align",
    "text-decoration",
    "text-indent",
    "white-space",
    "width",
];

/// Where a link may lead.
const SCHEMES: [&str; 6] = ["data", "ftp", "http", "https", "mailto", "tel"];

/// Pictures may be in the address itself: these kinds run no program.
const PICTURES: [&str; 5] = [
    "data:image/gif;",
    "data:image/jpeg;",
    "data:image/png;",
    "data:image/webp;",
    "data:image/avif;",
];

/// Whether an element is shown as what it is.
pub(super) fn is_element(name: &str) -> bool {
    ELEMENTS.contains(&name)
}

/// Whether an attribute of an element is shown as what it is.
pub(super) fn keeps(element: &str, attribute: &str) -> bool {
    attribute.starts_with("data-")
        || EVERYWHERE.contains(&attribute)
        || SOMEWHERE
            .iter()
            .any(|(name, attributes)| *name == element && attributes.contains(&attribute))
}

/// Takes out all that does more than show something.
pub(super) fn sanitised(html: &str) -> String {
    SANITISER.clean(html).to_string()
}

static SANITISER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    for (element, attributes) in SOMEWHERE {
        builder.add_tag_attributes(element, attributes);
    }
    builder
        .tags(ELEMENTS.into())
        .clean_content_tags(["script", "style"].into())
        // No other kind of field: one that takes text could ask for a password.
        .set_tag_attribute_value("input", "type", "checkbox")
        .generic_attributes(EVERYWHERE.into())
        .generic_attribute_prefixes(["data-"].into())
        .filter_style_properties(STYLES.into())
        .url_schemes(SCHEMES.into())
        .url_relative(UrlRelative::PassThrough)
        .link_rel(None)
        .attribute_filter(|element, attribute, value| {
            let is_kept = match (element, attribute) {
                ("img", "src") => shows_safely(value),
                (_, "cite" | "href" | "src") => leads_safely(value),
                _ => true,
            };
            is_kept.then_some(Cow::Borrowed(value))
        });
    builder
});

/// Whether a link to an address leads somewhere and runs nothing.
pub(crate) fn leads_safely(address: &str) -> bool {
    scheme(address).is_none_or(|scheme| scheme != "data" && SCHEMES.contains(&&*scheme))
}

/// Whether a picture at an address is one and runs nothing.
pub(crate) fn shows_safely(address: &str) -> bool {
    leads_safely(address) || {
        let start: String = read(address).take(KIND_LENGTH).collect();
        PICTURES.iter().any(|kind| start.starts_with(kind))
    }
}

/// Longer than each of the [`PICTURES`].
const KIND_LENGTH: usize = 32;

/// The scheme of an address; one that is relative has none.
fn scheme(address: &str) -> Option<String> {
    let mut scheme = String::new();
    for character in read(address) {
        match character {
            ':' => return Some(scheme),
            '/' | '?' | '#' => return None,
            character => scheme.push(character),
        }
    }
    None
}

/// An address as a browser reads it: without what it leaves out.
fn read(address: &str) -> impl Iterator<Item = char> {
    let read = address
        .chars()
        .filter(|character| !character.is_control() && *character != ' ');
    read.map(|character| character.to_ascii_lowercase())
}

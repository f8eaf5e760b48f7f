//! Rich text in Quill's form: a list of what is inserted, with its formats.

use serde_json::{Map as Object, Value, json};
use yrs::branch::BranchPtr;
use yrs::types::text::YChange;
use yrs::{Out, ReadTxn, Text, TextRef, Xml};

use super::{self as content, xml};

/// What a text holds, as `toDelta` gives it. A type in it is an object that holds its delta: `{"name", "attributes", "ops"}`, as the trees of
/// Slate and Lexical are made of texts in texts.
pub(crate) fn write(transaction: &impl ReadTxn, text: BranchPtr) -> Value {
    let pieces = TextRef::from(text).diff(transaction, YChange::identity);
    let ops = pieces.into_iter().map(|piece| {
        let mut op = Object::new();
        let attributes: Object<String, Value> = (piece.attributes.iter())
            .flat_map(|attributes| attributes.iter())
            .map(|(name, value)| (name.to_string(), content::json(value)))
            .collect();
        op.insert("insert".to_owned(), inserted(transaction, piece.insert));
        if !attributes.is_empty() {
            op.insert("attributes".to_owned(), Value::Object(attributes));
        }
        Value::Object(op)
    });
    json!({ "ops": ops.collect::<Vec<_>>() })
}

/// What one piece of a text is. Nesting is bounded by the gate, so this may recurse.
pub(crate) fn inserted(transaction: &impl ReadTxn, inserted: Out) -> Value {
    let nested = |name: Option<&str>, attributes: Object<String, Value>, branch: BranchPtr| {
        let mut out = Object::new();
        if let Some(name) = name {
            out.insert("name".to_owned(), name.into());
        }
        if !attributes.is_empty() {
            out.insert("attributes".to_owned(), Value::Object(attributes));
        }
        if let Value::Object(ops) = write(transaction, branch) {
            out.extend(ops);
        }
        Value::Object(out)
    };
    match inserted {
        Out::YXmlText(text) => {
            let attributes = text.attributes(transaction);
            let attributes =
                attributes.map(|(name, value)| (name.to_owned(), content::value(transaction, value)));
            nested(None, attributes.collect(), xml::branch(&text))
        }
        Out::YXmlElement(element) => {
            let attributes = element.attributes(transaction);
            let attributes =
                attributes.map(|(name, value)| (name.to_owned(), content::value(transaction, value)));
            nested(Some(element.tag()), attributes.collect(), xml::branch(&element))
        }
        Out::YXmlFragment(fragment) => nested(None, Object::new(), xml::branch(&fragment)),
        Out::YText(text) => nested(None, Object::new(), xml::branch(&text)),
        other @ (Out::Any(_) | Out::YArray(_) | Out::YMap(_) | Out::YDoc(_) | Out::UndefinedRef(_)) => {
            content::value(transaction, other)
        }
    }
}

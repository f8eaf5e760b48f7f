//! An editing client: the document library as a Yjs program would use it, with root types `text`, `map`, `array` and `xml`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use yrs::types::text::YChange;
use yrs::updates::decoder::Decode;
use yrs::{
    Any, Array, ArrayPrelim, ArrayRef, Doc, GetString, In, Map, MapPrelim, MapRef, OffsetKind, Options, Out,
    ReadTxn, Text, TextPrelim, TextRef, Transact, TransactionMut, Update, WriteTxn, Xml, XmlElementPrelim,
    XmlFragment, XmlFragmentRef, XmlOut, XmlTextPrelim, XmlTextRef,
};

use super::Random;
use crate::document::Document;
use crate::limits::Limits;
use crate::state_vector::{ClientId, StateVector};

/// A client that edits, without any gate: early updates wait inside it, as in Yjs.
#[derive(Debug)]
pub struct Replica {
    doc: Doc,
    text: TextRef,
    map: MapRef,
    array: ArrayRef,
    xml: XmlFragmentRef,
    /// The names of the formatting of its own making.
    marks: &'static [&'static str],
}

impl Replica {
    /// An empty document edited under this client id.
    pub fn new(client: ClientId) -> Self {
        Self::with_marks(client, &["bold", "em"])
    }

    /// A replica whose random edits are the same in each run. Of text with several kinds of formatting the library ends them in the
    /// order of a hash map with random keys, so this one has one kind.
    pub fn repeatable(client: ClientId) -> Self {
        Self::with_marks(client, &["bold"])
    }

    fn with_marks(client: ClientId, marks: &'static [&'static str]) -> Self {
        let guid = format!("replica {client}").as_str().into();
        let mut options = Options::with_guid_and_client_id(guid, yrs::ClientID::new(client.0));
        options.offset_kind = OffsetKind::Utf16;
        options.skip_gc = true;
        let doc = Doc::with_options(options);
        Self {
            text: doc.get_or_insert_text("text"),
            map: doc.get_or_insert_map("map"),
            array: doc.get_or_insert_array("array"),
            xml: doc.get_or_insert_xml_fragment("xml"),
            doc,
            marks,
        }
    }

    /// The client id it edits under.
    pub fn client(&self) -> ClientId {
        ClientId(self.doc.client_id().get())
    }

    /// Applies an update from elsewhere. What it depends on may be missing.
    pub fn apply(&mut self, update: &[u8]) {
        let update = Update::decode_v1(update).expect("an update");
        let mut transaction = self.doc.transact_mut();
        transaction.apply_update(update).expect("an update that fits");
        self.commit(transaction);
    }

    fn commit(&self, mut transaction: TransactionMut<'_>) {
        transaction.commit();
        let deleted = transaction.delete_set().clone();
        drop(transaction);
        collect_deleted(&self.doc, &deleted);
    }

    /// Whether updates wait for others.
    pub fn is_waiting(&self) -> bool {
        self.doc.transact().has_missing_updates()
    }

    /// How much it knows.
    pub fn state_vector(&self) -> StateVector {
        let known = self.doc.transact().state_vector();
        known
            .iter()
            .map(|(client, &clock)| (ClientId(client.get()), clock))
            .collect()
    }

    /// What a replica with this state vector lacks.
    pub fn diff(&self, known: &StateVector) -> Bytes {
        let mut remote = yrs::StateVector::default();
        for (client, clock) in known.iter() {
            remote.set_max(yrs::ClientID::new(client.0), clock);
        }
        self.doc.transact().encode_diff_v1(&remote).into()
    }

    /// The whole document.
    pub fn encode(&self) -> Bytes {
        self.diff(&StateVector::new())
    }

    /// The text `text`.
    pub fn text(&self) -> String {
        self.text.get_string(&self.doc.transact())
    }

    /// Its content as a document would show it.
    pub fn json(&self) -> serde_json::Value {
        let mut document = Document::load(Limits::default(), [self.encode()]).expect("a document");
        let content = document.content().expect("content");
        content.json(None).expect("content").expect("an object")
    }

    /// Inserts into the text `text` at an offset in UTF-16 units.
    pub fn insert(&mut self, at: u32, text: &str) -> Bytes {
        self.change(|replica, transaction| replica.text.insert(transaction, at, text))
    }

    /// Replaces a range of the text `text`; offsets in UTF-16 units.
    pub fn replace(&mut self, at: u32, deleted: u32, text: &str) -> Bytes {
        self.change(|replica, transaction| {
            if deleted > 0 {
                replica.text.remove_range(transaction, at, deleted);
            }
            if !text.is_empty() {
                replica.text.insert(transaction, at, text);
            }
        })
    }

    /// Makes several replacements in the text `text` in one transaction.
    pub fn patch<'a>(&mut self, patches: impl IntoIterator<Item = (u32, u32, &'a str)>) -> Bytes {
        self.change(|replica, transaction| {
            for (at, deleted, text) in patches {
                if deleted > 0 {
                    replica.text.remove_range(transaction, at, deleted);
                }
                if !text.is_empty() {
                    replica.text.insert(transaction, at, text);
                }
            }
        })
    }

    /// The texts in the root type `xml`, without their formatting, in the order of the document.
    pub fn xml_texts(&self) -> Vec<String> {
        let transaction = self.doc.transact();
        let texts = self.xml_text_refs(&transaction);
        let plain = |text: &XmlTextRef| -> String {
            let pieces = text.diff(&transaction, YChange::identity).into_iter();
            let strings = pieces.filter_map(|piece| piece.insert.cast::<String>().ok());
            strings.collect()
        };
        texts.iter().map(plain).collect()
    }

    fn xml_text_refs(&self, transaction: &impl ReadTxn) -> Vec<XmlTextRef> {
        let nodes = self.xml.successors(transaction);
        let texts = nodes.filter_map(|node| match node {
            XmlOut::Text(text) => Some(text),
            XmlOut::Element(_) | XmlOut::Fragment(_) => None,
        });
        texts.collect()
    }

    /// Replaces a range of one of the texts in the root type `xml`; offsets in UTF-16 units.
    pub fn replace_in_xml(&mut self, index: usize, at: u32, deleted: u32, text: &str) -> Bytes {
        self.change(|replica, transaction| {
            let texts = replica.xml_text_refs(transaction);
            let Some(place) = texts.get(index) else {
                return;
            };
            if deleted > 0 {
                place.remove_range(transaction, at, deleted);
            }
            if !text.is_empty() {
                place.insert(transaction, at, text);
            }
        })
    }

    /// Inserts a paragraph into the root type `xml`, as a ProseMirror document has them; at its end when it has fewer.
    pub fn insert_paragraph(&mut self, at: u32, text: &str) -> Bytes {
        self.change(|replica, transaction| {
            let at = at.min(replica.xml.len(transaction));
            let paragraph = replica
                .xml
                .insert(transaction, at, XmlElementPrelim::empty("paragraph"));
            paragraph.insert(transaction, 0, XmlTextPrelim::new(text));
        })
    }

    /// Makes one random edit of any kind and gives the update.
    pub fn edit(&mut self, random: &mut Random) -> Bytes {
        self.change(|replica, transaction| {
            for _ in 0..=random.below(2) {
                replica.edit_in(transaction, random);
            }
        })
    }

    fn change(&mut self, change: impl FnOnce(&Self, &mut TransactionMut<'_>)) -> Bytes {
        let mut transaction = self.doc.transact_mut();
        change(self, &mut transaction);
        transaction.commit();
        let update = transaction.encode_update_v1().into();
        self.commit(transaction);
        update
    }

    fn edit_in(&self, transaction: &mut TransactionMut<'_>, random: &mut Random) {
        match random.below(16) {
            0..=5 => edit_text(&self.text, transaction, random, self.marks),
            6..=8 => self.edit_map(transaction, random),
            9..=11 => self.edit_array(transaction, random),
            12..=14 => self.edit_xml(transaction, random),
            _ => {
                let other = transaction.get_or_insert_text(*random.pick(&["notes", "title"]));
                edit_text(&other, transaction, random, self.marks);
            }
        }
    }

    fn edit_map(&self, transaction: &mut TransactionMut<'_>, random: &mut Random) {
        let key = *random.pick(&["a", "b", "c", "a long key"]);
        match (self.map.get(transaction, key), random.below(8)) {
            (_, 0) => drop(self.map.remove(transaction, key)),
            (_, 1) => drop(self.map.insert(transaction, key, nested(random))),
            (Some(Out::YText(text)), 2..=6) => edit_text(&text, transaction, random, self.marks),
            (Some(Out::YMap(map)), 2..=6) => drop(map.insert(transaction, "x", nested(random))),
            (Some(Out::YArray(array)), 2..=6) => drop(array.push_back(transaction, nested(random))),
            _ => drop(self.map.insert(transaction, key, value(random))),
        }
    }

    fn edit_array(&self, transaction: &mut TransactionMut<'_>, random: &mut Random) {
        let length = self.array.len(transaction);
        if length > 0 && random.below(3) == 0 {
            let at = random.below(length);
            let count = 1 + random.below((length - at).min(3));
            self.array.remove_range(transaction, at, count);
            return;
        }
        let at = random.below(length + 1);
        if random.below(4) == 0 {
            self.array.insert(transaction, at, nested(random));
        } else {
            let values: Vec<_> = (0..=random.below(3)).map(|_| value(random)).collect();
            self.array.insert_range(transaction, at, values);
        }
    }

    fn edit_xml(&self, transaction: &mut TransactionMut<'_>, random: &mut Random) {
        let length = self.xml.len(transaction);
        if length == 0 || random.below(4) == 0 {
            let at = random.below(length + 1);
            let paragraph = self
                .xml
                .insert(transaction, at, XmlElementPrelim::empty("paragraph"));
            paragraph.insert(transaction, 0, XmlTextPrelim::new(word(random)));
            return;
        }
        let at = random.below(length);
        if random.below(8) == 0 {
            self.xml.remove_range(transaction, at, 1);
            return;
        }
        let Some(XmlOut::Element(element)) = self.xml.get(transaction, at) else {
            return;
        };
        match (element.get(transaction, 0), random.below(4)) {
            (_, 0) => {
                element.insert_attribute(transaction, *random.pick(&["level", "align"]), word(random));
            }
            (Some(XmlOut::Text(text)), _) => {
                let length = text.len(transaction);
                let at = random.below(length + 1);
                match random.below(4) {
                    0 if at < length => {
                        text.remove_range(transaction, at, 1 + random.below((length - at).min(3)))
                    }
                    1 if at < length => text.format(transaction, at, length - at, mark(random, self.marks)),
                    _ => text.insert(transaction, at, word(random)),
                }
            }
            _ => drop(element.insert(transaction, 0, XmlTextPrelim::new(word(random)))),
        }
    }
}

const WORDS: &[&str] = &[
    "a",
    "b ",
    "word",
    "é",
    "日本",
    "😀",
    "a😀b",
    "line\n",
    "longer text with spaces ",
];

fn word(random: &mut Random) -> &'static str {
    WORDS[random.below(WORDS.len() as u32) as usize]
}

fn edit_text(text: &TextRef, transaction: &mut TransactionMut<'_>, random: &mut Random, marks: &[&str]) {
    let length = text.len(transaction);
    // Any offset, also one between the halves of a surrogate pair.
    let at = random.below(length + 1);
    let rest = length - at;
    match random.below(10) {
        0..=2 if rest > 0 => text.remove_range(transaction, at, 1 + random.below(rest.min(8))),
        3 if rest > 0 => text.format(transaction, at, 1 + random.below(rest), mark(random, marks)),
        4 => drop(text.insert_embed(transaction, at, Any::from_json(r#"{"image":"x"}"#).expect("JSON"))),
        5 => text.insert_with_attributes(transaction, at, word(random), mark(random, marks)),
        6 => text.insert(transaction, length, word(random)),
        _ => text.insert(transaction, at, word(random)),
    }
}

fn mark(random: &mut Random, marks: &[&str]) -> HashMap<Arc<str>, Any> {
    let value = if random.below(3) == 0 {
        Any::Null
    } else {
        Any::Bool(true)
    };
    HashMap::from([(Arc::from(*random.pick(marks)), value)])
}

fn value(random: &mut Random) -> Any {
    match random.below(9) {
        0 => Any::Null,
        1 => Any::Bool(true),
        2 => Any::from(f64::from(random.below(1000)) + 0.5),
        3 => Any::from(i64::from(random.below(u32::MAX)) << 8),
        4 => Any::Buffer(Arc::from([1u8, 2, 3])),
        5 => Any::Array(Arc::from([Any::from("x"), Any::Null])),
        6 => Any::Map(Arc::new(HashMap::from([("k".to_owned(), Any::from(1i64))]))),
        _ => Any::from(word(random)),
    }
}

fn nested(random: &mut Random) -> In {
    match random.below(4) {
        0 => TextPrelim::new(word(random)).into(),
        1 => ArrayPrelim::from([Any::from(1i64), Any::from("two")]).into(),
        2 => MapPrelim::from([("x", Any::from(true))]).into(),
        _ => In::Any(value(random)),
    }
}

/// Frees what a transaction deleted, in a transaction of its own: when the library does it with the first one, it goes on
/// to say goodbye to subdocuments whose place in the document it has just freed.
fn collect_deleted(doc: &Doc, deleted: &yrs::IdSet) {
    if !deleted.is_empty() {
        let mut transaction = doc.transact_mut();
        transaction.gc(Some(deleted));
        transaction.commit();
    }
}

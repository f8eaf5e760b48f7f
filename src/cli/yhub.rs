//! Documents in the table of y/hub: which of its rows is which page, and the update in a row.
//!
//! `yhub_ydoc_v1` has a row for each state of a branch of a document of an organisation, which together make it. A value is an object in
//! lib0's encoding of values: the update itself (`{type: "asset:ydoc:v1", update}`), or a word that it is kept elsewhere
//! (`{type: "asset:retrievable:v1", plugin}`). What y/hub holds in Redis and has not written yet is in no table.

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use bytes::Bytes;
use crdt::encoding::{ReadError, Reader};
use percent_encoding::percent_decode_str;

use super::archive::Described;

/// Whether the table of deleted documents is there, which earlier versions do not have.
pub(super) const HAS_TOMBSTONES: &str =
    "SELECT coalesce(to_regclass('yhub_ydoc_tombstones_v1')::text, ''), ''::bytea";

/// The rows with the name of their page as JSON, in the order of the table's key.
const ROWS: &str =
    "SELECT json_build_array(org, docid, branch, NULL)::text, coalesce(gcdoc, nongcdoc, ''::bytea)
    FROM yhub_ydoc_v1 ORDER BY org, docid, branch, t";

/// The same without what is being erased, and with the time of what was deleted, in milliseconds since 1970.
const ROWS_AND_TOMBSTONES: &str =
    "SELECT json_build_array(org, docid, branch, deleted_at)::text, coalesce(gcdoc, nongcdoc, ''::bytea)
    FROM yhub_ydoc_v1 LEFT JOIN yhub_ydoc_tombstones_v1 USING (org, docid, branch)
    WHERE hard IS NOT TRUE ORDER BY org, docid, branch, t";

/// What is said when all has been read.
pub(super) const UNREAD: &str = "what y/hub holds in Redis and has not written into its table yet was not read: to have all of it, let nobody edit there, wait \
     until its workers have nothing to do, and import again";

/// When the year 10000 begins, in milliseconds after 1970.
const YEAR_10000: u64 = 253_402_300_800_000;

/// The branch that a document has without being asked for.
const MAIN: &str = "main";
/// The words of lib0's encoding that stand for kinds of values.
const TEXT: u8 = 119;
const OBJECT: u8 = 118;
const BYTES: u8 = 116;

/// Why a row was not read as a page.
#[derive(Debug, thiserror::Error)]
pub(super) enum RowError {
    #[error("its content is kept elsewhere ({0}) and not in the table, where only y/hub can fetch it")]
    Elsewhere(String),
    #[error("it is of a kind that is not known: {0}")]
    Kind(String),
    #[error("it is no value that y/hub writes")]
    Unknown,
    #[error("it was deleted at a time that is none: {0} ms after 1970")]
    Time(u64),
    #[error("it ends too early, or is no value that y/hub writes: {0}")]
    Broken(#[from] ReadError),
    #[error(
        "it could not be told from another one: its organisation has a `/`, its document or branch a `#`, or the same name is written in \
         another way"
    )]
    Name,
}

/// What reads the rows.
pub(super) fn rows(has_tombstones: bool) -> &'static str {
    match has_tombstones {
        true => ROWS_AND_TOMBSTONES,
        false => ROWS,
    }
}

/// The documents that have been read whose names can be written in several ways, by the page that they became. For y/hub each way is a
/// document of its own; here all of them lead to one page.
#[derive(Debug, Default)]
pub(super) struct Documents(BTreeMap<String, String>);

impl Documents {
    /// The page of a row, and the update in it, unless another document has become this page.
    pub(super) fn read(&mut self, name: &str, value: &Bytes) -> (Described, Result<Bytes, RowError>) {
        let (described, update, is_plain) = read(name, value);
        if update.is_err() || is_plain {
            return (described, update);
        }
        let first = self.0.entry(described.page_id.clone());
        match first.or_insert_with(|| name.to_owned()) == name {
            true => (described, update),
            false => (described, Err(RowError::Name)),
        }
    }
}

/// Whether a sign stands for itself in every address.
fn is_unreserved(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || "-_.~".contains(sign)
}

/// Whether a name is written in a way that no client writes, and is another document's without it.
fn is_encoded_in_vain(name: &str) -> bool {
    let decoded = decoded(name);
    decoded != name && decoded.chars().all(is_unreserved)
}

/// The page of a row, the update in it, and whether the name of the document is written in one way by everybody.
fn read(name: &str, value: &Bytes) -> (Described, Result<Bytes, RowError>, bool) {
    let Ok((org, document, branch, deleted_at)) =
        serde_json::from_str::<(String, String, String, Option<u64>)>(name)
    else {
        let described = Described {
            page_id: name.to_owned(),
            ..Described::default()
        };
        return (described, Err(RowError::Name), false);
    };
    let is_plain = [&org, &document]
        .iter()
        .all(|name| name.chars().all(is_unreserved));
    let (page_id, is_one) = page(&decoded(&org), &decoded(&document), &branch);
    let is_one = is_one && ![&org, &document].iter().any(|name| is_encoded_in_vain(name));
    // Later times cannot be written.
    let never = deleted_at.filter(|at| *at >= YEAR_10000);
    let deleted_at = deleted_at.filter(|at| *at < YEAR_10000);
    let deleted_at = deleted_at.map(|at| UNIX_EPOCH + Duration::from_millis(at));
    let described = Described {
        page_id,
        deleted_at: deleted_at.map(|at| humantime::format_rfc3339_millis(at).to_string()),
        ..Described::default()
    };
    let update = match (is_one, never) {
        (false, _) => Err(RowError::Name),
        (true, Some(at)) => Err(RowError::Time(at)),
        (true, None) => update(value),
    };
    (described, update, is_plain)
}

/// Names are kept as they stood in an address, where other servers see what is meant.
fn decoded(name: &str) -> String {
    let decoded = percent_decode_str(name).decode_utf8();
    decoded.map_or_else(|_| name.to_owned(), Into::into)
}

/// The page of a document, as its clients name it in their address, and whether no other one is called so.
fn page(org: &str, document: &str, branch: &str) -> (String, bool) {
    let is_one =
        !org.is_empty() && !org.contains('/') && ![document, branch].iter().any(|name| name.contains('#'));
    let page = match branch {
        MAIN => format!("{org}/{document}"),
        branch => format!("{org}/{document}#{branch}"),
    };
    (page, is_one)
}

/// The update in a value.
fn update(value: &Bytes) -> Result<Bytes, RowError> {
    let mut reader = Reader::new(value);
    if reader.byte()? != OBJECT {
        return Err(RowError::Unknown);
    }
    let (mut kind, mut plugin, mut update) = (None, None, None);
    for _ in 0..reader.number()? {
        let name = reader.string()?;
        match (name, reader.byte()?) {
            ("type", TEXT) => kind = Some(reader.string()?),
            ("plugin", TEXT) => plugin = Some(reader.string()?),
            ("update", BYTES) => update = Some(reader.buffer()?),
            // Whatever else newer versions say.
            (_, TEXT | BYTES) => {
                reader.buffer()?;
            }
            _ => return Err(RowError::Unknown),
        }
    }
    match (kind, update) {
        (Some("asset:ydoc:v1"), Some(update)) if reader.is_at_end() => Ok(value.slice_ref(update)),
        (Some("asset:retrievable:v1"), _) => Err(RowError::Elsewhere(plugin.unwrap_or("unknown").to_owned())),
        (Some("asset:ydoc:v1") | None, _) => Err(RowError::Unknown),
        (Some(kind), _) => Err(RowError::Kind(kind.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What lib0's `encodeAny` writes for an object of these.
    fn object(fields: &[(&str, u8, &[u8])]) -> Bytes {
        let mut bytes = vec![OBJECT, u8::try_from(fields.len()).expect("few")];
        for (name, kind, value) in fields {
            for (kind, text) in [(None, name.as_bytes()), (Some(*kind), *value)] {
                bytes.extend(kind);
                bytes.push(u8::try_from(text.len()).expect("short"));
                bytes.extend(text);
            }
        }
        bytes.into()
    }

    #[test]
    fn a_value_is_an_update_or_says_where_it_is() {
        let whole = object(&[("type", TEXT, b"asset:ydoc:v1"), ("update", BYTES, &[0, 0])]);
        assert_eq!(update(&whole).expect("an update"), [0, 0][..]);
        let turned = object(&[("update", BYTES, &[0, 0]), ("type", TEXT, b"asset:ydoc:v1")]);
        assert_eq!(update(&turned).expect("an update"), [0, 0][..]);
        let elsewhere = object(&[
            ("type", TEXT, b"asset:retrievable:v1"),
            ("plugin", TEXT, b"S3Persistence:v1"),
        ]);
        assert!(
            matches!(update(&elsewhere), Err(RowError::Elsewhere(plugin)) if plugin == "S3Persistence:v1")
        );
        let newer = object(&[("type", TEXT, b"asset:ydoc:v2"), ("update", BYTES, &[0, 0])]);
        assert!(matches!(update(&newer), Err(RowError::Kind(kind)) if kind == "asset:ydoc:v2"));
        for end in 0..whole.len() {
            assert!(update(&whole.slice(..end)).is_err(), "{end}");
        }
        let longer = [&whole[..], &[0]].concat();
        let alien = object(&[("type", 125, b"")]);
        for broken in [
            longer.into(),
            alien,
            Bytes::from_static(&[0, 0]),
            Bytes::from_static(&[118, 255, 255, 255, 255, 15]),
        ] {
            assert!(update(&broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn a_page_is_called_as_clients_call_it_and_no_two_are_one() {
        for (name, expected, is_one) in [
            (r#"["acme","notes","main",null]"#, "acme/notes", true),
            (r#"["acme","team%2Fplan","main",null]"#, "acme/team/plan", true),
            (r#"["acme","100%","main",null]"#, "acme/100%", true),
            (r#"["acme","notes","draft",null]"#, "acme/notes#draft", true),
            (r#"["acme%2Fteam","plan","main",null]"#, "acme/team/plan", false),
            (
                r#"["acme","notes%23draft","main",null]"#,
                "acme/notes#draft",
                false,
            ),
            (r#"["acme","n%6Ftes","main",null]"#, "acme/notes", false),
            (r#"["","notes","main",null]"#, "/notes", false),
            ("notes", "notes", false),
        ] {
            let value = object(&[("type", TEXT, b"asset:ydoc:v1"), ("update", BYTES, &[0, 0])]);
            let (described, update, _) = read(name, &value);
            assert_eq!(
                (described.page_id.as_str(), update.is_ok()),
                (expected, is_one),
                "{name}"
            );
            assert_eq!(described.deleted_at, None);
        }
        let (deleted, _, _) = read(r#"["acme","notes","main",1700000000123]"#, &Bytes::new());
        assert_eq!(deleted.deleted_at.as_deref(), Some("2023-11-14T22:13:20.123Z"));
        for (at, is_time) in [(YEAR_10000 - 1, true), (YEAR_10000, false), (u64::MAX, false)] {
            let whole = object(&[("type", TEXT, b"asset:ydoc:v1"), ("update", BYTES, &[0, 0])]);
            let (described, update, _) = read(&format!(r#"["acme","notes","main",{at}]"#), &whole);
            assert_eq!(
                (described.deleted_at.is_some(), update.is_ok()),
                (is_time, is_time),
                "{at}"
            );
        }
    }

    #[test]
    fn of_documents_that_would_be_one_page_the_first_is_read() {
        let value = object(&[("type", TEXT, b"asset:ydoc:v1"), ("update", BYTES, &[0, 0])]);
        let mut documents = Documents::default();
        for (name, is_read) in [
            (r#"["acme", "team%2Fplan", "main", null]"#, true),
            (r#"["acme", "team%2Fplan", "main", null]"#, true),
            (r#"["acme", "team%2fplan", "main", null]"#, false),
            (r#"["acme", "a:b", "main", null]"#, true),
            (r#"["acme", "a%3Ab", "main", null]"#, false),
            (r#"["acme", "a%3Ab", "draft", null]"#, true),
            (r#"["acme", "a,b", "main", null]"#, true),
            (r#"["acme", "a%2Cb", "main", null]"#, false),
            (r#"["acme", "a b", "main", null]"#, true),
            (r#"["acme", "a%20b", "main", null]"#, false),
            (r#"["acme", "[a]", "main", null]"#, true),
            (r#"["acme", "%5Ba%5D", "main", null]"#, false),
            (r#"["acme", "notes", "main", null]"#, true),
            (r#"["acme", "n%6Ftes", "main", null]"#, false),
        ] {
            assert_eq!(documents.read(name, &value).1.is_ok(), is_read, "{name}");
        }
        assert_eq!(documents.0.len(), 6, "of plain names nothing is remembered");
    }
}

//! Makes of an update what the document library can read: it misreads the obsolete JSON content, knows no hooks, and takes neither half a
//! character nor an integer of more than 63 bits inside embedded JSON.

use bytes::Bytes;

use super::structs::{HAS_KEY, HAS_ORIGIN, HAS_RIGHT_ORIGIN, KIND};
use super::{ANY, EMBED, FORMAT, JSON, TYPE, Update, read_struct};
use crate::encoding::{Reader, Write};
use crate::limits::Limits;

const XML_ELEMENT: u8 = 3;
const XML_HOOK: u8 = 5;

impl Update {
    /// The update with JSON content as the plain values it stands for, and hooks as elements of their name. Lengths, and what is seen,
    /// are the same.
    pub(crate) fn readable(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.len());
        let limits = Limits::trusted();
        let mut copied = 0;
        for section in self.sections() {
            let mut reader = Reader::starting_at(self.bytes(), section.first as usize);
            for _ in 0..section.count {
                let at = reader.position();
                let Ok(read) = read_struct::<true>(&mut reader, &limits) else {
                    debug_assert!(false, "the structs were checked when the update was parsed");
                    return self.bytes().clone();
                };
                let is_hook = read.kind() == TYPE && self.bytes().get(read.content) == Some(&XML_HOOK);
                if matches!(read.kind(), EMBED | FORMAT) {
                    let mut value = Reader::starting_at(self.bytes(), read.content);
                    if read.kind() == FORMAT && value.buffer().is_err() {
                        continue;
                    }
                    let start = value.position();
                    let text = value.string().unwrap_or_default();
                    if yrs::Any::from_json(text).is_err() {
                        out.put_raw(self.bytes().get(copied..start).unwrap_or_default());
                        let readable = readable_json(text);
                        // What is no JSON, or nested too deeply to be read, is shown as nothing.
                        match yrs::Any::from_json(&readable) {
                            Ok(_) => out.put_string(&readable),
                            Err(_) => out.put_string("null"),
                        }
                        copied = value.position();
                    }
                    continue;
                }
                if read.kind() != JSON && !is_hook {
                    continue;
                }
                out.put_raw(self.bytes().get(copied..at).unwrap_or_default());
                if is_hook {
                    out.put_raw(self.bytes().get(at..read.content).unwrap_or_default());
                    out.put_byte(XML_ELEMENT);
                    copied = read.content + 1;
                } else {
                    let head = read.info & (HAS_KEY | HAS_ORIGIN | HAS_RIGHT_ORIGIN);
                    debug_assert_eq!(head, read.info & !KIND);
                    out.put_byte(head | ANY);
                    out.put_raw(self.bytes().get(at + 1..read.content).unwrap_or_default());
                    put_values(
                        &mut out,
                        Reader::starting_at(self.bytes(), read.content),
                        read.length,
                    );
                    copied = reader.position();
                }
            }
        }
        if copied == 0 {
            return self.bytes().clone();
        }
        out.put_raw(self.bytes().get(copied..).unwrap_or_default());
        out.into()
    }
}

/// JSON with U+FFFD for each half of a character, and integers of more than 63 bits as the floating-point numbers that they are in
/// JavaScript.
fn readable_json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        if in_string && character == '\\' {
            let taken = escape(rest, &mut out);
            rest = rest.get(taken..).unwrap_or_default();
            continue;
        }
        if !in_string && (character == '-' || character.is_ascii_digit()) {
            let end = rest
                .find(|next: char| !matches!(next, '0'..='9' | '-' | '+' | '.' | 'e' | 'E'))
                .unwrap_or(rest.len());
            let number = rest.get(..end).unwrap_or_default();
            out.push_str(number);
            let is_integer = number.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
            if is_integer && number.parse::<i64>().is_err() {
                out.push_str(".0");
            }
            rest = rest.get(end..).unwrap_or_default();
            continue;
        }
        in_string ^= character == '"';
        out.push(character);
        rest = rest.get(character.len_utf8()..).unwrap_or_default();
    }
    out
}

/// Copies an escape; says how many bytes it took.
fn escape(rest: &str, out: &mut String) -> usize {
    let unit = |at: usize| {
        let hex = rest
            .get(at..)
            .and_then(|rest| rest.strip_prefix("\\u"))?
            .get(..4)?;
        u16::from_str_radix(hex, 16).ok()
    };
    let length = match (unit(0), unit(6)) {
        (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
        (Some(0xd800..=0xdfff), _) => {
            out.push(char::REPLACEMENT_CHARACTER);
            return 6;
        }
        (Some(_), _) => 6,
        // A backslash and what it stands before.
        (None, _) => {
            1 + rest
                .get(1..)
                .and_then(|rest| rest.chars().next())
                .map_or(0, char::len_utf8)
        }
    };
    out.push_str(rest.get(..length).unwrap_or_default());
    length
}

fn put_values(out: &mut Vec<u8>, mut reader: Reader<'_>, count: u32) {
    out.put_number(u64::from(count));
    let read = reader.count();
    debug_assert!(read.is_ok(), "the values were checked when the update was parsed");
    for _ in 0..count {
        let value = match reader.string().unwrap_or_default() {
            "undefined" => yrs::Any::Undefined,
            text => yrs::Any::from_json(&readable_json(text)).unwrap_or(yrs::Any::Null),
        };
        value.encode(out);
    }
}

#[cfg(test)]
mod tests {
    use super::readable_json;

    #[test]
    fn json_becomes_what_the_library_reads_and_means_the_same() {
        for (text, readable) in [
            (r#"{"a":"x\"12","b":12}"#, r#"{"a":"x\"12","b":12}"#),
            (r#""\ud83d""#, "\"\u{fffd}\""),
            (r#""\ude00\ud83d\ude00""#, "\"\u{fffd}\\ud83d\\ude00\""),
            (
                "[10000000000000000000,-1,1e19]",
                "[10000000000000000000.0,-1,1e19]",
            ),
        ] {
            assert_eq!(readable_json(text), readable);
            assert!(yrs::Any::from_json(&readable_json(text)).is_ok(), "{text}");
        }
    }
}

//! Makes of an update what the document library can read: it misreads the obsolete JSON content, and knows no hooks.

use bytes::Bytes;

use super::structs::{HAS_KEY, HAS_ORIGIN, HAS_RIGHT_ORIGIN, KIND};
use super::{ANY, JSON, TYPE, Update, read_struct};
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

fn put_values(out: &mut Vec<u8>, mut reader: Reader<'_>, count: u32) {
    out.put_number(u64::from(count));
    let read = reader.count();
    debug_assert!(read.is_ok(), "the values were checked when the update was parsed");
    for _ in 0..count {
        let value = match reader.string().unwrap_or_default() {
            "undefined" => yrs::Any::Undefined,
            text => yrs::Any::from_json(text).unwrap_or(yrs::Any::Null),
        };
        value.encode(out);
    }
}

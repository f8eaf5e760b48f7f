//! Readable dumps of updates, for tests that show what is on the wire.

use std::fmt::Write as _;

use crate::encoding::Reader;
use crate::limits::Limits;
use crate::update::{Parent, SKIP, Update, read_struct};

const KINDS: [&str; 11] = [
    "gc", "deleted", "json", "binary", "string", "embed", "format", "type", "any", "doc", "skip",
];

/// One line for each struct and each deleted range; an error message for what is not an update.
pub fn dump(update: &[u8]) -> String {
    let update = match Update::parse(bytes::Bytes::copy_from_slice(update), &Limits::trusted()) {
        Ok(update) => update,
        Err(error) => return format!("{error}\n"),
    };
    let mut out = String::new();
    for section in update.sections() {
        let mut reader = Reader::starting_at(update.bytes(), section.first as usize);
        let mut clock = section.start;
        for _ in 0..section.count {
            let read = read_struct::<true>(&mut reader, &Limits::trusted()).expect("checked before");
            let kind = KINDS.get(read.kind() as usize).copied().unwrap_or("unknown");
            let _ = write!(out, "{}:{clock}+{} {kind}", section.client, read.length);
            if let Some(origin) = read.origin {
                let _ = write!(out, " after {}:{}", origin.client, origin.clock);
            }
            if let Some(right) = read.right_origin {
                let _ = write!(out, " before {}:{}", right.client, right.clock);
            }
            match read.parent {
                Some(Parent::Root(name)) => drop(write!(out, " in {name:?}")),
                Some(Parent::Nested(id)) => drop(write!(out, " in {}:{}", id.client, id.clock)),
                None => {}
            }
            if let Some(key) = read.key {
                let _ = write!(out, " at {key:?}");
            }
            if read.kind() != 0 && read.kind() != SKIP {
                let content = update
                    .bytes()
                    .get(read.content..reader.position())
                    .unwrap_or_default();
                let _ = write!(out, " {}", content.escape_ascii());
            }
            out.push('\n');
            clock += read.length;
        }
    }
    update.each_delete(|deleted| {
        let _ = writeln!(
            out,
            "delete {}:{}..{}",
            deleted.client, deleted.range.start, deleted.range.end
        );
    });
    out
}

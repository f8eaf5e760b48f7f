//! Real histories of edits, as updates.

use std::path::Path;

use bytes::Bytes;
use pageroom_load::replica::Trace;

/// The author of all traces. Yjs draws 32 bits, nearly always five bytes on the wire.
const CLIENT: u64 = 0x9ace_700b;

/// The edits of a trace, one update each.
pub(crate) fn updates(name: &str) -> Vec<Bytes> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/traces")
        .join(format!("{name}.json.gz"));
    let trace = Trace::read(&path).unwrap_or_else(|error| panic!("{error}"));
    trace
        .edits(CLIENT)
        .into_iter()
        .map(|edit| edit.update.into())
        .collect()
}

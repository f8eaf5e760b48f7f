//! Makes a document of what a store keeps of a page.

use crdt::{Document, Limits, LoadError};
use storage::{LoggedUpdate, StoredSnapshot};

use super::heavily;

/// Opens the document of a stored page. One that a snapshot covers whole stays asleep: nobody may ever ask for more than the
/// stored bytes.
pub fn open_document(
    limits: Limits,
    snapshot: Option<StoredSnapshot>,
    log: Vec<LoggedUpdate>,
) -> Result<Document, LoadError> {
    if let (Some(snapshot), []) = (&snapshot, log.as_slice()) {
        return heavily(true, || {
            Document::asleep(limits, snapshot.state.clone(), &snapshot.state_vector)
        });
    }
    let parts = snapshot
        .map(|snapshot| snapshot.state)
        .into_iter()
        .chain(log.into_iter().map(|row| row.data));
    heavily(true, || Document::load(limits, parts))
}

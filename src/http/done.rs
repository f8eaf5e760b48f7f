//! What follows when a request has changed what may be done with a page: a line in the audit log, and everybody concerned is asked about
//! again.

use storage::{AccessChange, PageId};

use super::{App, now};
use crate::access::Note;

impl App {
    /// Notes that something was done with a page, by a user or for one; `None` for a backend.
    pub(super) fn note_done(&self, user: Option<&str>, page: &PageId, action: &str, detail: &str) {
        let note = Note {
            action,
            outcome: "ok",
            user,
            page: Some(page.as_str()),
            detail,
            ..Note::default()
        };
        self.around.access.audit().note(now(), note);
    }

    /// Has everybody who is at a page asked about again, or one user. Returns when all of them have been told.
    pub(super) async fn tell_of_change(&self, page: &PageId, user: Option<&str>) {
        let change = AccessChange {
            user: user.map(str::to_owned),
            page: Some(page.as_str().to_owned()),
        };
        self.around.access.changed(&change).await;
    }
}

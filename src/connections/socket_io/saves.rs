//! Saves of whole contents by a client that speaks in events: made edits of at the page's desk, posted through the client's own seat.

use serde_json::json;

use super::{
    joined_page::{Authorship, PostedEdit, Saving},
    page_session::{PageSession, State},
};
use crate::{
    events::PreparedSave,
    protocols::{
        Frame,
        events::{ContentSave, Wording, answer, event, refused},
    },
    rooms::{Refusal, RefusalCode},
};

impl PageSession {
    /// The client is sent whole contents from now on.
    pub(super) fn write(&mut self, wording: Wording) {
        if let State::Open(open) = &mut self.state {
            open.authorship.get_or_insert_with(|| {
                let desks = &self.events.services().desks;
                Authorship::new(desks, &self.page, self.events.id(), wording)
            });
        }
    }

    /// Has edits made of a save.
    pub(super) fn save(
        &mut self,
        save: ContentSave,
        wording: Wording,
        ack: Option<i64>,
        frames: &mut Vec<Frame>,
    ) {
        self.write(wording);
        let State::Open(open) = &mut self.state else {
            return;
        };
        if !open.seat.seat().role().may_edit() {
            return self.save_refused(ack, wording, &Refusal::read_only(), frames);
        }
        let (desks, page, author) = (
            self.events.services().desks.clone(),
            self.page.clone(),
            (self.events.id(), self.events.user_id()),
        );
        let preparing = Box::pin(async move { desks.prepare(&page, author, save).await });
        open.saving = Some(Saving {
            work: preparing,
            ack,
            wording,
        });
    }

    /// Posts the edits of a save.
    pub(super) fn prepared(
        &mut self,
        prepared: Result<PreparedSave, Refusal>,
        ack: Option<i64>,
        wording: Wording,
        frames: &mut Vec<Frame>,
    ) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        match prepared {
            Err(refusal) => self.save_refused(ack, wording, &refusal, frames),
            Ok(prepared) if prepared.update.is_empty() => {
                let seq = prepared.stored(self.events.id(), None);
                answer(ack, &json!({ "ok": true, "seq": seq }), frames);
            }
            Ok(prepared) => {
                let update = prepared.update.clone();
                let save = Some((prepared, wording));
                open.posted.push_back(PostedEdit { ack, save });
                open.seat.post(update, 0);
            }
        }
    }

    pub(super) fn save_refused(
        &self,
        ack: Option<i64>,
        wording: Wording,
        refusal: &Refusal,
        frames: &mut Vec<Frame>,
    ) {
        match (wording, ack) {
            (Wording::DocumentUpdate, None) => {
                let message = match refusal.code {
                    RefusalCode::Forbidden => "Access denied: No access to this page",
                    RefusalCode::ReadOnly => "Access denied: Requires edit permission",
                    RefusalCode::Unavailable => "Access denied: Authorization check failed",
                    RefusalCode::Unauthenticated
                    | RefusalCode::TokenExpired
                    | RefusalCode::TokenRevoked
                    | RefusalCode::PageDeleted
                    | RefusalCode::RoomFull
                    | RefusalCode::RateLimited
                    | RefusalCode::TooLarge
                    | RefusalCode::Malformed
                    | RefusalCode::NotFound
                    | RefusalCode::Conflict
                    | RefusalCode::Draining
                    | RefusalCode::Internal => &refusal.message,
                };
                let body = json!({ "event": wording.event(), "message": message });
                event("error", &body, frames);
            }
            (Wording::DocumentUpdate | Wording::PageUpdated, _) => {
                refused(ack, Some(&self.page), refusal, None, frames);
            }
        }
    }
}

//! Saves of whole contents by a client that speaks in events: made edits of at the page's desk, posted through the client's own seat.

use serde_json::json;
use storage::Seq;

use super::{
    joined_page::Saving,
    page_session::{PageSession, State},
};
use crate::{
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
                desks.enter(&self.page, self.events.id(), wording, self.events.has_returned())
            });
        }
    }

    /// Has edits made of a save. Who has opened the page only for that and may not change it leaves again.
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
            let is_here_for_this = !open.has_joined && open.arriving.is_empty() && !open.is_synced;
            self.save_refused(ack, wording, &Refusal::read_only(), frames);
            if is_here_for_this {
                self.leave(None);
            }
            return;
        }
        let bytes = save.payload_bytes();
        let traces = open.seat.trace("save", bytes);
        let (desks, seat) = (self.events.services().desks.clone(), open.seat.seat().clone());
        let (page, author, name) = (self.page.clone(), self.events.id(), Some(self.events.user_id()));
        let user = self.events.identity().user.clone();
        // To its end here, whatever its author does meanwhile: others wait for it.
        let work = Box::pin(async move {
            let prepared = desks.prepare(&page, (author, name), save).await?;
            if prepared.update.is_empty() {
                return Ok(prepared.stored(author, None));
            }
            let answer = seat.post(user, prepared.update.clone(), traces).await;
            drop(seat);
            let stored = match answer {
                Some(answer) => answer.await.unwrap_or_else(|_| Err(gone())),
                None => Err(gone()),
            };
            Ok(prepared.stored(author, Some(stored?)))
        });
        open.saving = Some(Saving {
            work,
            ack,
            wording,
            bytes,
        });
    }

    /// Answers a save.
    pub(super) fn saved(
        &mut self,
        saved: Result<Seq, Refusal>,
        ack: Option<i64>,
        wording: Wording,
        frames: &mut Vec<Frame>,
    ) {
        match saved {
            Ok(seq) => answer(ack, &json!({ "ok": true, "seq": seq }), frames),
            Err(refusal) => self.save_refused(ack, wording, &refusal, frames),
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
                    | RefusalCode::PageRenamed
                    | RefusalCode::PageRebuilt
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

fn gone() -> Refusal {
    Refusal::unavailable("the page is being rebuilt, save again")
}

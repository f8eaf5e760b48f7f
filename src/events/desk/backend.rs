//! Saves of whole contents by a backend: what it tells of a page as `page_updated` with a content becomes edits of the page.

use std::sync::{Arc, atomic::Ordering};

use storage::{PageId, Seq};

use super::{ContentSave, Desks, SocketId, Wording};
use crate::{
    events::{Broadcast, BroadcastWork, EventServices, Told},
    protocols::events::save_by_backend,
    rooms::{Refusal, RoomKind, is_id},
};

/// A save of a backend.
struct Save {
    page: PageId,
    /// In whose name.
    user: Option<String>,
    content: ContentSave,
}

/// What an event of a backend saves, if it does.
fn read(broadcast: &Broadcast) -> Option<Result<Save, Refusal>> {
    let room = &broadcast.room;
    if room.kind() != RoomKind::Page || broadcast.event != Wording::PageUpdated.event() {
        return None;
    }
    let page = PageId::new(room.id()).ok()?;
    let save = save_by_backend(&page, &broadcast.payload)?;
    Some(save.and_then(|(user, content)| match user.as_deref() {
        Some(user) if !is_id(user) => Err(Refusal::malformed("userId: an id of 1 to 255 bytes")),
        Some(_) | None => Ok(Save { page, user, content }),
    }))
}

/// Says what is wrong with what an event of a backend saves.
pub(in crate::events) fn check(broadcast: &Broadcast) -> Result<(), Refusal> {
    read(broadcast).map_or(Ok(()), |save| save.map(drop))
}

/// Does what an event of a backend saves, if it does.
pub(in crate::events) fn broadcast(services: &EventServices, broadcast: &Broadcast) -> Option<BroadcastWork> {
    let (room, save) = (broadcast.room.clone(), read(broadcast)?);
    let (desks, rooms) = (services.desks.clone(), services.rooms.clone());
    Some(Box::pin(async move {
        let Save { page, user, content } = save?;
        desks.save(&page, user, content).await?;
        Ok(Told {
            count: rooms.count(&room),
            stored_at: None,
        })
    }))
}

impl Desks {
    /// Saves a content in the name of a user, or of nobody, who is at the page for as long as this takes. Gives the sequence number when it
    /// is stored.
    async fn save(
        self: &Arc<Self>,
        page: &PageId,
        user: Option<String>,
        save: ContentSave,
    ) -> Result<Seq, Refusal> {
        let _open = self.registry.hold(page).await?;
        // No socket has a number as large as these.
        let author = SocketId(u64::MAX - self.backends.fetch_add(1, Ordering::Relaxed));
        let _author = self.enter(page, author, Wording::PageUpdated, false);
        let prepared = self.prepare(page, (author, user.clone()), save).await?;
        if prepared.update.is_empty() {
            return Ok(prepared.stored(author, None));
        }
        let posting = self
            .registry
            .post(page, user.map(Arc::from), prepared.update.clone());
        let seq = posting.await?;
        Ok(prepared.stored(author, Some(seq)))
    }
}

//! What a page was like before it had authors here, read from its history: a program comes back with a copy from before the server was
//! started, and its next save is made from that.

use bytes::Bytes;
use storage::Seq;

use super::{Content, ContentSave, Desks, MAX_MERGING_KIB, Refusal, Shape, SocketId, lock, page::Desk};
use crate::{
    events::Older,
    history::{PastError, parts},
    reader::State,
};

/// Bytes of the states that are read of one page, all of them together. Of a page of this size none is read.
const MAX_OLDER_BYTES: usize = 8 * 1024 * 1024;

/// Why the past of a page was not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum OlderError {
    #[error(transparent)]
    History(#[from] PastError),
    #[error(transparent)]
    Reader(#[from] Refusal),
}

impl From<OlderError> for Refusal {
    fn from(error: OlderError) -> Self {
        match error {
            OlderError::Reader(refusal) => refusal,
            OlderError::History(error) => {
                tracing::warn!(%error, "the past of a page cannot be read");
                Self::unavailable("what the page was like cannot be read now, try again")
            }
        }
    }
}

impl Desk {
    /// Learns what the page was like before, if the author of a save may have a copy of that and it has not been read yet. If it cannot be
    /// read, nothing is deleted on the author's account.
    pub(super) async fn look_back(&self, desks: &Desks, author: SocketId, save: &ContentSave) {
        let unread = {
            let state = lock(&self.state);
            let versions = state.shapes.get(&save.shape);
            versions.and_then(|versions| versions.unread_past(author, &save.content))
        };
        let Some(before) = unread else {
            return;
        };
        let count = desks.config.versions.count;
        let older = self.older(desks, &save.shape, before, count).await;
        let mut state = lock(&self.state);
        let Some(versions) = state.shapes.get_mut(&save.shape) else {
            return;
        };
        match older {
            Ok(older) => versions.learn_past(older),
            Err(error) => {
                tracing::warn!(page = %self.page, %error, "it is not known what a page was like before, so a save deletes nothing");
                versions.lacks_past(author);
            }
        }
    }

    /// The latest contents that the page had in a form before row `before`, at most `count`, and fewer of a large page. Nothing of what is
    /// not kept.
    pub(super) async fn older(
        &self,
        desks: &Desks,
        shape: &Shape,
        before: Seq,
        count: usize,
    ) -> Result<Older, OlderError> {
        let (_, whole) = self.read(desks).await?;
        let bytes = whole.map_or(1, |whole| whole.len().max(1));
        let count = count.min(MAX_OLDER_BYTES / bytes) as Seq;
        let last = before.saturating_sub(1);
        if count == 0 {
            return Ok(Older::default());
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let room = desks.merging.acquire_many(kib.min(MAX_MERGING_KIB)).await;
        let _room = room.map_err(|_| Refusal::draining())?;
        let kept = desks.store.history(&self.page).await.map_err(PastError::from)?;
        let first = (kept.first_seq).max((last + 1).saturating_sub(count)).max(1);
        if first > last {
            return Ok(Older::default());
        }
        let past = desks.store.past(&self.page, first, last).await;
        let generation = lock(&self.state).left.generation.clone();
        let past = past.map_err(PastError::from)?;
        let Some(past) = past.filter(|past| Some(&past.generation) == generation.as_ref()) else {
            return Ok(Older::default());
        };
        let (covered, base) = (past.covered, usize::from(past.base.is_some()));
        let parts: Vec<Bytes> = parts(past).collect();
        let mut contents: Vec<(Seq, Content)> = Vec::new();
        for seq in (first..=last).rev() {
            let rows = usize::try_from(seq.saturating_sub(covered)).unwrap_or(usize::MAX);
            let Some(state) = parts.get(..base.saturating_add(rows)) else {
                continue;
            };
            let readers = desks.readers.of_past(seq);
            let content = self
                .content(desks, &readers, State::from(state.to_vec()), shape)
                .await?;
            contents.extend(content.map(|content| (seq, content)));
        }
        Ok(Older {
            contents,
            are_more: first > 1,
        })
    }
}

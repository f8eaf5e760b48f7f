//! A seat of the server's own, which keeps a page open and says when it has changed.

use std::sync::Arc;

use bytes::Bytes;
use storage::PageId;

use super::{
    Capabilities, ClientMessage, Departure, Next, Outbox, Refusal, Registry, Role, Seat, ServerMessage,
};

/// What waits for such a seat, which only hears that something has changed, in bytes.
const MAX_OUTBOX_BYTES: usize = 1024 * 1024;

/// A page that is followed.
#[derive(Debug)]
pub struct Follower {
    seat: Seat,
    outbox: Arc<Outbox>,
    /// What the room had when it asked for what the member has, until it is asked back.
    greeted: Option<Bytes>,
}

impl Registry {
    /// Follows a page, opening its room if it is not open. Nobody is let into anything by this.
    ///
    /// # Errors
    /// When the room cannot be opened, or not now.
    pub async fn follow(&self, page: &PageId) -> Result<Follower, Refusal> {
        let outbox = Outbox::with_capabilities(MAX_OUTBOX_BYTES, Capabilities::default());
        let seat = self.join(page, Role::View, None, None, &outbox).await?;
        Ok(Follower {
            seat,
            outbox,
            greeted: None,
        })
    }
}

impl Follower {
    /// Waits until something has happened in the room. `false` when the room has ended.
    pub async fn changed(&mut self) -> bool {
        loop {
            // Only who has asked is told what others edit.
            if let Some(state_vector) = &self.greeted {
                let question = ClientMessage::SyncStep1(state_vector.clone());
                if let Some(place) = self.seat.place(std::slice::from_ref(&question)).await {
                    place.say(vec![question].into());
                }
                self.greeted = None;
            }
            match std::future::poll_fn(|context| self.outbox.poll_next(context)).await {
                Next::Message(message) => {
                    if let ServerMessage::SyncStep1(state_vector) = message.message() {
                        self.greeted = Some(state_vector.clone());
                    }
                    return true;
                }
                Next::Receipt { .. } => {}
                Next::CaughtUp => {
                    if let Some(place) = self.seat.place(&[]).await {
                        place.caught_up();
                    }
                }
                Next::Close(_) => return false,
            }
        }
    }

    /// Follows it no more.
    pub async fn leave(self) {
        self.seat.leave(Departure::Clean).await;
    }
}

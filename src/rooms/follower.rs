//! A seat of the server's own, which keeps a page open and says when it has changed.

use std::sync::Arc;

use storage::PageId;

use super::{Capabilities, Departure, Next, Outbox, Refusal, Registry, Role, Seat};

/// What waits for such a seat, which only hears that something has changed, in bytes.
const MAX_OUTBOX_BYTES: usize = 1024 * 1024;

/// A page that is followed.
#[derive(Debug)]
pub struct Follower {
    seat: Seat,
    outbox: Arc<Outbox>,
}

impl Registry {
    /// Follows a page, opening its room if it is not open. Nobody is let into anything by this.
    ///
    /// # Errors
    /// When the room cannot be opened, or not now.
    pub async fn follow(&self, page: &PageId) -> Result<Follower, Refusal> {
        let outbox = Outbox::with_capabilities(MAX_OUTBOX_BYTES, Capabilities::default());
        let seat = self.join(page, Role::View, None, None, &outbox).await?;
        Ok(Follower { seat, outbox })
    }
}

impl Follower {
    /// Waits until something has happened in the room. `false` when the room has ended.
    pub async fn changed(&mut self) -> bool {
        loop {
            match std::future::poll_fn(|context| self.outbox.poll_next(context)).await {
                Next::Message(_) => return true,
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

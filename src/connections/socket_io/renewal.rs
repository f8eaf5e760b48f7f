//! A fresh token of the user of a connection, shown in all pages and rooms that it is in.

use std::{net::IpAddr, sync::Arc};

use futures_util::{TryStreamExt as _, stream};
use storage::PageId;

use crate::{
    access::{LiveSeat, LiveSocket, RoomSeat},
    auth::{Credential, Identity},
    connections::context::ServerContext,
    rooms::{Refusal, RefusalCode, RoomName},
};

/// Rooms in which a fresh token is shown at once.
const MAX_RENEWED_AT_ONCE: usize = 16;

/// Who the user is by the fresh token.
pub(super) type Renewed = Result<(Arc<Identity>, LiveSocket), Refusal>;

/// Where a fresh token is to be shown.
pub(super) struct Renewal {
    /// Who the user is by the token of before.
    pub(super) before: Arc<Identity>,
    pub(super) address: IpAddr,
    pub(super) seats: Vec<(PageId, Arc<LiveSeat>)>,
    pub(super) rooms: Vec<(RoomName, Arc<RoomSeat>)>,
}

impl Renewal {
    /// Looks at a token and shows it everywhere.
    ///
    /// # Errors
    /// When it is not good, is another user's, or cannot be looked at now: the old one counts then.
    pub(super) async fn renew(self, token: String, context: Arc<ServerContext>) -> Renewed {
        let access = &context.access;
        let identified = access.identify(Some(&Credential::Given(token))).await;
        if let Err(refusal) = &identified {
            context.delay_bad_token(self.address, refusal).await;
        }
        let identity = Arc::new(identified?);
        if identity.kind != self.before.kind || identity.user != self.before.user {
            return Err(Refusal::new(
                RefusalCode::Forbidden,
                "a connection stays with the user who opened it",
            ));
        }
        for (page, seat) in self.seats {
            match access.membership_of(identity.clone(), &page).await {
                Ok(membership) => seat.renew(membership).await?,
                Err(refusal) if refusal.code.is_retryable() => return Err(refusal),
                // The fresh token says less than the old one.
                Err(refusal) => seat.handle().remove(refusal),
            }
        }
        let renewing = self
            .rooms
            .into_iter()
            .map(|(_, room)| Ok((room, identity.clone())));
        stream::iter(renewing)
            .try_for_each_concurrent(MAX_RENEWED_AT_ONCE, async |(room, identity)| {
                room.renew(identity).await
            })
            .await?;
        let live = access.watch_socket(identity.clone()).await;
        Ok((identity, live))
    }
}

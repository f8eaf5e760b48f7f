//! A connection that comes back after a loss: the same name, the same rooms, and what was told there meanwhile.
//!
//! Clients of Socket.IO 4.6 and newer do this by themselves: the server tells each a secret when it connects (`pid`), which it shows when it
//! connects again, together with the offset of the last event that it has heard (see the module of [`Recent`](super::super::recent)). Rights
//! are asked for anew: a room that is closed by now is not entered, and nothing of it is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures_util::{StreamExt as _, stream};

use socketioxide_core::Sid;

use super::{EventServices, EventSocket};
use crate::{
    access::Caller,
    auth::Identity,
    events::{SessionName, Way},
    rooms::RoomName,
};

/// Rooms whose rights are asked for at once.
const MAX_ASKED_AT_ONCE: usize = 16;

/// What a client shows of the connection that it has lost.
#[derive(Clone, Debug)]
pub struct LostSession {
    /// The secret.
    pub secret: String,
    /// The offset of the last event that it has heard, if it has heard any.
    pub offset: Option<String>,
}

impl EventSocket {
    /// Begins a session that may go on over another connection. Gives the secret for its client.
    pub fn begin_session(&self) -> Arc<str> {
        let secret: Arc<str> = format!("{}{}", Sid::new(), Sid::new()).into();
        let name = SessionName {
            secret: secret.clone(),
            name: self.name.clone(),
            user: self.identity().user.clone(),
        };
        self.services.rooms.begin_session(self.id, name);
        secret
    }

    /// Goes on with the session of a connection that was lost; `None` when that is not possible: the user is another one, it is too
    /// late, or not all that was missed is known any more. If the server believes the old connection alive, that one ends.
    pub async fn recover(
        (identity, caller): (Arc<Identity>, Caller),
        lost: &LostSession,
        max_outbox_bytes: usize,
        services: Arc<EventServices>,
    ) -> Option<Arc<Self>> {
        let rooms = services.rooms.clone();
        let (name, stays) = rooms.returning(&lost.secret, identity.user.as_ref())?;
        let after = match &lost.offset {
            Some(text) => Some(services.history.epoch().read(text)?),
            None => None,
        };
        let socket = Self::outside(
            identity.clone(),
            (name.clone(), caller),
            true,
            max_outbox_bytes,
            services,
        );
        let shown: Vec<RoomName> = stays
            .iter()
            .filter(|(_, ways)| ways.contains(&Way::Presence))
            .map(|(room, _)| room.clone())
            .collect();
        let asked = stays.into_iter().filter(|(_, ways)| !ways.contains(&Way::Own));
        let asking = asked.map(async |(room, _)| {
            let seat = socket.take_seat(&room).await;
            (room, seat)
        });
        let seats: Vec<_> = stream::iter(asking)
            .buffer_unordered(MAX_ASKED_AT_ONCE)
            .collect()
            .await;
        let (mut closed, mut seated) = (Vec::new(), BTreeMap::new());
        for (room, seat) in seats {
            match seat {
                Ok(seat) => drop(seated.insert(room, seat)),
                Err(refusal) if refusal.code.is_retryable() => return None,
                Err(refusal) => closed.push((room, refusal)),
            }
        }
        let session = SessionName {
            secret: lost.secret.as_str().into(),
            name,
            user: identity.user.clone(),
        };
        let own: BTreeSet<RoomName> = identity
            .user
            .iter()
            .flat_map(|user| RoomName::personal(user))
            .collect();
        let may_enter = |room: &RoomName| own.contains(room) || seated.contains_key(room);
        if !rooms.resume(socket.id, session, after, may_enter) {
            return None;
        }
        for (room, seat) in seated {
            let way = match shown.binary_search(&room) {
                Ok(_) => Way::Presence,
                Err(_) => Way::Room,
            };
            socket.appear(&room, way);
            socket.join(&room).await;
            // What was closed while the rest was asked for.
            if let Err(refusal) = socket.stay(&room, &seat) {
                closed.push((room, refusal));
            }
        }
        socket.services.profiles.clone().returned(&socket).await;
        for (room, refusal) in closed {
            socket.tell_revoked(&room, &refusal);
        }
        Some(socket)
    }
}

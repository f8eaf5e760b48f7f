//! A connection that comes back after a loss: the same name, the same rooms, and what was told there meanwhile.
//!
//! Clients of Socket.IO 4.6 and newer do this by themselves: the server tells each a secret when it connects (`pid`), which it shows when it
//! connects again, together with the offset of the last event that it has heard (see the module of [`Recent`](super::super::recent)). Rights
//! are asked for anew: a room that is closed by now is not entered, and nothing of it is told.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use socketioxide_core::Sid;

use super::{Control, EventServices, EventSocket, lock};
use crate::{
    auth::Identity,
    events::{SessionName, Way},
    rooms::{Refusal, RoomName},
};

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
        (identity, address): (Arc<Identity>, IpAddr),
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
            (name.clone(), address),
            max_outbox_bytes,
            services,
        );
        let (mut closed, mut shown) = (Vec::new(), Vec::new());
        for (room, ways) in stays {
            if ways.contains(&Way::Presence) {
                shown.push(room.clone());
            }
            if ways.contains(&Way::Own) {
                continue;
            }
            match socket.take_seat(&room).await {
                Ok(()) => {}
                Err(refusal) if refusal.code.is_retryable() => return None,
                Err(refusal) => closed.push((room, refusal)),
            }
        }
        let session = SessionName {
            secret: lost.secret.as_str().into(),
            name,
            user: identity.user.clone(),
        };
        let own: BTreeMap<RoomName, ()> = identity
            .user
            .iter()
            .flat_map(|user| RoomName::personal(user))
            .map(|room| (room, ()))
            .collect();
        let may_enter = |room: &RoomName| own.contains_key(room) || lock(&socket.seats).contains_key(room);
        if !rooms.resume(socket.id, session, after, may_enter) {
            return None;
        }
        // What was closed while the rest was asked for.
        let entered: Vec<_> = socket.seats().into_iter().map(|(room, _)| room).collect();
        for room in entered {
            if let Some(refusal) = socket.take_if_removed(&room) {
                closed.push((room, refusal));
                continue;
            }
            socket.appear(
                &room,
                if shown.contains(&room) {
                    Way::Presence
                } else {
                    Way::Room
                },
            );
            socket.join(&room).await;
        }
        for (room, refusal) in closed {
            socket.tell_revoked(&room, &refusal);
        }
        Some(socket)
    }

    /// Asks whether it may enter a room, and follows its right there from now on.
    async fn take_seat(self: &Arc<Self>, room: &RoomName) -> Result<(), Refusal> {
        let access = &self.services.access;
        let membership = access.room_membership(self.identity(), room).await?;
        let control = Arc::new(Control {
            socket: Arc::downgrade(self),
            room: room.clone(),
        });
        let seat = access.watch_room(room, membership, control).await;
        match seat.removed() {
            Some(refusal) => Err(refusal),
            None => {
                let before = lock(&self.seats).insert(room.clone(), Arc::new(seat));
                drop(before);
                Ok(())
            }
        }
    }
}

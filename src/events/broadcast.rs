//! Events that a backend tells in a room.

use std::{sync::Arc, time::Duration};

use moka::future::Cache;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::EventServices;
use crate::rooms::{Refusal, RoomName, is_id};

/// How long it is remembered which event an id was used for.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Ids that are remembered, at most.
const MAX_REMEMBERED: u64 = 100_000;

/// Names of events that only the server itself may use, in ascending order.
const RESERVED: &[&str] = &[
    "access_revoked",
    "auth_expiring",
    "component:cursor",
    "component:typing",
    "component:user-joined",
    "component:user-left",
    "connect",
    "connect_error",
    "connection-confirmed",
    "connection-rejected",
    "cross-thread-activity",
    "cursor_left",
    "cursor_moved",
    "cursors_moved",
    "disconnect",
    "disconnecting",
    "error",
    "joined_page",
    "missed-messages-response",
    "newListener",
    "page_awareness",
    "page_delta",
    "page_sync",
    "presence:drive",
    "presence:page_viewers",
    "presence:workspace",
    "rate-limited",
    "removeListener",
    "room-error",
    "room-joined",
    "room-left",
    "room-participants",
    "shell:error",
    "typing_updated",
    "user-channel-joined",
    "user-channel-left",
    "user-disconnected",
    "user-joined-room",
    "user-thread-switch",
    "user-typing",
    "user_stopped_typing",
    "user_typing",
    "validation-error",
    "validation_error",
    "viewers_changed",
    "viewers_updated",
    "workspace:joined",
];

/// Whether only the server itself may use the name of an event.
pub fn is_reserved(event: &str) -> bool {
    RESERVED.binary_search(&event).is_ok()
}

/// An event that a backend tells in a room.
#[derive(Clone, Debug)]
pub struct Broadcast {
    /// The room.
    pub room: RoomName,
    /// The name of the event.
    pub event: String,
    /// What is told, byte for byte as the backend wrote it.
    pub payload: Arc<RawValue>,
    /// What the backend calls this event, so that it can be sent again and is told once.
    pub id: Option<String>,
    digest: [u8; 32],
}

/// Why an event is not told. The words are those that backends of this kind of bridge know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BroadcastError {
    /// The body is no JSON.
    #[error("Invalid JSON")]
    Json,
    /// The body lacks something or has something else instead.
    #[error("Invalid broadcast payload")]
    Payload,
    /// There is no such room, or it is not the backend's.
    #[error("Broadcast audience not authorized")]
    Audience,
    /// Only the server itself may use this name.
    #[error("Reserved event name")]
    Reserved,
    /// The id was used for another event.
    #[error("The id was used for another event")]
    Conflict,
    /// What the event wants done was refused.
    #[error("{}", .0.message)]
    Refused(Refusal),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    channel_id: String,
    event: String,
    payload: Box<RawValue>,
    #[serde(default)]
    id: Option<String>,
}

impl Broadcast {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// In the order of [`BroadcastError`]'s variants.
    pub fn read(body: &[u8]) -> Result<Self, BroadcastError> {
        let body: Body = serde_json::from_slice(body).map_err(|error| match error.classify() {
            serde_json::error::Category::Data => BroadcastError::Payload,
            serde_json::error::Category::Syntax
            | serde_json::error::Category::Eof
            | serde_json::error::Category::Io => BroadcastError::Json,
        })?;
        let is_valid = !body.channel_id.is_empty()
            && is_id(&body.event)
            && body.payload.get() != "null"
            && body.id.as_deref().is_none_or(is_id);
        if !is_valid {
            return Err(BroadcastError::Payload);
        }
        let room = RoomName::parse(&body.channel_id).ok_or(BroadcastError::Audience)?;
        if is_reserved(&body.event) {
            return Err(BroadcastError::Reserved);
        }
        let mut digest = Sha256::new();
        for part in [room.as_str(), &body.event, body.payload.get()] {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        Ok(Self {
            room,
            event: body.event,
            payload: body.payload.into(),
            id: body.id,
            digest: digest.finalize().into(),
        })
    }

    /// Splits the body of a request with many events.
    ///
    /// # Errors
    /// When it is no list.
    pub fn split(body: &[u8]) -> Result<Vec<Box<RawValue>>, BroadcastError> {
        serde_json::from_slice(body).map_err(|error| match error.is_data() {
            true => BroadcastError::Payload,
            false => BroadcastError::Json,
        })
    }
}

/// Remembers which event an id was used for, and how many sockets were told.
#[derive(Clone)]
pub struct BroadcastIds(Cache<String, ([u8; 32], usize)>);

impl Default for BroadcastIds {
    fn default() -> Self {
        let ids = Cache::builder()
            .max_capacity(MAX_REMEMBERED)
            .time_to_live(REMEMBERED);
        Self(ids.build())
    }
}

impl EventServices {
    /// Tells an event of a backend. Gives how many sockets are told. An event with an id is told once, however often it is sent, also
    /// when it comes again while it is being told.
    ///
    /// # Errors
    /// When its id was used for another event, or what it wants done is refused.
    pub async fn broadcast(&self, broadcast: Broadcast) -> Result<usize, BroadcastError> {
        let (id, digest) = (broadcast.id.clone(), broadcast.digest);
        let Some(id) = id else {
            return self.tell_broadcast(broadcast).await;
        };
        let telling = async {
            let delivered = self.tell_broadcast(broadcast).await?;
            Ok((digest, delivered))
        };
        let told: Result<_, Arc<BroadcastError>> = self.broadcasts.0.try_get_with(id, telling).await;
        match told {
            Ok((known, delivered)) if known == digest => Ok(delivered),
            Ok(_) => Err(BroadcastError::Conflict),
            Err(error) => Err((*error).clone()),
        }
    }

    async fn tell_broadcast(&self, broadcast: Broadcast) -> Result<usize, BroadcastError> {
        if let Some(done) = self.profiles.broadcast(self, &broadcast) {
            return done.await.map_err(BroadcastError::Refused);
        }
        let Broadcast {
            room, event, payload, ..
        } = broadcast;
        let told = self.tell_in(&room, &event, &payload).await;
        told.map_err(BroadcastError::Refused)
    }

    /// Tells everybody in a room an event that is more than a gesture. Gives how many sockets are told.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn tell_in(
        &self,
        room: &RoomName,
        event: &str,
        payload: &Arc<RawValue>,
    ) -> Result<usize, Refusal> {
        Ok(self.rooms.tell(std::slice::from_ref(room), None, event, payload))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_in_order() {
        assert!(RESERVED.is_sorted());
        assert!(is_reserved("access_revoked") && !is_reserved("new_message"));
    }

    #[test]
    fn bodies_are_checked_in_their_order() {
        for (body, expected) in [
            ("{", BroadcastError::Json),
            ("", BroadcastError::Json),
            ("[]", BroadcastError::Payload),
            ("null", BroadcastError::Payload),
            (
                r#"{"channelId":1,"event":"e","payload":{}}"#,
                BroadcastError::Payload,
            ),
            (r#"{"channelId":"p","payload":{}}"#, BroadcastError::Payload),
            (
                r#"{"channelId":"p","event":"","payload":{}}"#,
                BroadcastError::Payload,
            ),
            (
                r#"{"channelId":"p","event":"e","payload":null}"#,
                BroadcastError::Payload,
            ),
            (r#"{"channelId":"p","event":"e"}"#, BroadcastError::Payload),
            (
                r#"{"channelId":"p","event":"e","payload":{},"id":1}"#,
                BroadcastError::Payload,
            ),
            (
                r#"{"channelId":"global:drives","event":"access_revoked","payload":{}}"#,
                BroadcastError::Audience,
            ),
            (
                r#"{"channelId":"p","event":"access_revoked","payload":{}}"#,
                BroadcastError::Reserved,
            ),
        ] {
            assert_eq!(Broadcast::read(body.as_bytes()).err(), Some(expected), "{body}");
        }
        let payload = r#"{ "n": 1.0, "big": 12345678901234567890 }"#;
        let body = format!(r#"{{"channelId":"p","event":"new_message","payload":{payload}}}"#);
        let broadcast = Broadcast::read(body.as_bytes()).expect("a broadcast");
        assert_eq!(broadcast.payload.get(), payload, "byte for byte");
        assert_eq!(broadcast.room.as_str(), "page:p");
    }
}

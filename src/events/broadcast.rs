//! Events that a backend tells in a room.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use moka::{future::Cache, policy::EvictionPolicy};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use utoipa::{
    ToSchema,
    openapi::{
        Object, ObjectBuilder,
        schema::{AdditionalProperties, SchemaType, Type},
    },
};

use super::{EventServices, GivenId, Told, desk};
use crate::{
    auth::now,
    rooms::{Refusal, RoomName, is_id},
};

/// How long it is remembered which event an id was used for.
const REMEMBERED: Duration = Duration::from_secs(24 * 60 * 60);
/// Ids that are remembered, at most.
const MAX_REMEMBERED: u64 = 100_000;

/// Names of events that only the server itself may use, in ascending order.
const RESERVED: &[&str] = &[
    "access_revoked",
    "auth_expiring",
    "chat-error",
    "component:cursor",
    "component:cursor-left",
    "component:typing",
    "component:typing-ended",
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
    "document-error",
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
    "sidebar-error",
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
    "workspace:left",
];

/// Events that say nothing any more when the next one is there: they have no offset, and are not told to those who have missed them.
const MOMENTARY: [&str; 13] = [
    "component:cursor",
    "component:cursor-left",
    "component:typing",
    "component:typing-ended",
    "cross-thread-activity",
    "cursor_left",
    "cursor_moved",
    "cursors_moved",
    "typing",
    "typing_updated",
    "user-typing",
    "user_stopped_typing",
    "user_typing",
];

/// Whether an event says nothing any more when the next one is there.
pub(super) fn is_momentary(event: &str) -> bool {
    MOMENTARY.binary_search(&event).is_ok()
}

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

/// What a backend sends for an event.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastBody {
    /// The room: `drive:ID`, `user:ID`, `room:CODE`, …
    #[schema(min_length = 1)]
    channel_id: String,
    /// The name of the event, which must not be one of the server's own: 1 to 255 bytes without control characters.
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$"
    )]
    event: String,
    /// What is told: anything but null.
    #[schema(schema_with = anything_but_null)]
    payload: Box<RawValue>,
    /// What the backend calls this event: with the same id it is told once, within 24 hours. 1 to 255 bytes without control characters.
    #[serde(default)]
    #[schema(
        min_length = 1,
        max_length = 255,
        pattern = r"^[^\u0000-\u001F\u007F-\u009F]+$"
    )]
    id: Option<String>,
}

fn anything_but_null() -> Object {
    let types = [
        Type::Object,
        Type::Array,
        Type::String,
        Type::Number,
        Type::Boolean,
    ];
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter(types))
        .additional_properties(Some(AdditionalProperties::FreeForm(true)))
        .description(Some("What is told: anything but null"))
        .build()
}

impl Broadcast {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// In the order of [`BroadcastError`]'s variants.
    pub fn read(body: &[u8]) -> Result<Self, BroadcastError> {
        // A list of the fields would be read, too.
        if body.trim_ascii_start().first() == Some(&b'[') {
            return Err(match serde_json::from_slice::<IgnoredAny>(body) {
                Ok(_) => BroadcastError::Payload,
                Err(_) => BroadcastError::Json,
            });
        }
        let body: BroadcastBody = serde_json::from_slice(body).map_err(|error| match error.classify() {
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

    /// What the backend calls the event, with what stands for it.
    pub fn given_id(&self) -> Option<GivenId> {
        let (id, digest) = (self.id.clone()?, self.digest);
        Some(GivenId { id, digest })
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
pub struct BroadcastIds(Cache<String, Done>);

/// What was done with an event.
#[derive(Clone)]
pub struct Done {
    digest: [u8; 32],
    told: Told,
}

impl Default for BroadcastIds {
    fn default() -> Self {
        let ids = Cache::builder()
            .max_capacity(MAX_REMEMBERED)
            // When there are too many, the oldest goes: the default would rather take no new one.
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(REMEMBERED);
        Self(ids.build())
    }
}

impl EventServices {
    /// Looks at all events of a list before the first is told: an id that was used for another event, also in the list, and changes that
    /// cannot be made.
    ///
    /// # Errors
    /// What is wrong first, and at which place of the list.
    pub async fn check_broadcasts(&self, broadcasts: &[Broadcast]) -> Result<(), (usize, BroadcastError)> {
        let mut ids = BTreeMap::new();
        for (index, broadcast) in broadcasts.iter().enumerate() {
            let checked = match &broadcast.id {
                Some(id) if *ids.entry(id).or_insert(broadcast.digest) != broadcast.digest => {
                    Err(BroadcastError::Conflict)
                }
                Some(_) | None => self.check_broadcast(broadcast).await,
            };
            checked.map_err(|error| (index, error))?;
        }
        Ok(())
    }

    async fn check_broadcast(&self, broadcast: &Broadcast) -> Result<(), BroadcastError> {
        if let Some(id) = &broadcast.id {
            let known = match self.broadcasts.0.get(id).await {
                Some(done) => Some(done.digest),
                None => self
                    .known_broadcast(id, broadcast)
                    .await?
                    .map(|(digest, _)| digest),
            };
            match known {
                Some(digest) if digest == broadcast.digest => return Ok(()),
                Some(_) => return Err(BroadcastError::Conflict),
                None => {}
            }
        }
        let checked = desk::check(broadcast).and_then(|()| self.profiles.check(broadcast));
        checked.map_err(BroadcastError::Refused)
    }

    /// For which event the store knows an id, and how many sockets were told.
    async fn known_broadcast(
        &self,
        id: &str,
        broadcast: &Broadcast,
    ) -> Result<Option<([u8; 32], usize)>, BroadcastError> {
        let rules = self.history.rules();
        match rules.keep(&broadcast.room, &broadcast.event) {
            None => Ok(None),
            Some(_) => {
                let known = self.history.known_id(id, now()).await;
                known.map_err(BroadcastError::Refused)
            }
        }
    }

    /// Tells an event of a backend. An event with an id is told once, however often it is sent, also when it comes again while it is
    /// being told; for events that are kept, also after a restart.
    ///
    /// # Errors
    /// When its id was used for another event, or what it wants done is refused.
    pub async fn begin_broadcast(&self, broadcast: Broadcast) -> Result<Done, BroadcastError> {
        let (id, digest) = (broadcast.id.clone(), broadcast.digest);
        let done = match id {
            None => self.do_broadcast(broadcast).await?,
            Some(id) => {
                let doing = self.do_broadcast_once(id.clone(), broadcast);
                let done: Result<_, Arc<BroadcastError>> = self.broadcasts.0.try_get_with(id, doing).await;
                done.map_err(|error| (*error).clone())?
            }
        };
        match done.digest == digest {
            true => Ok(done),
            false => Err(BroadcastError::Conflict),
        }
    }

    /// Waits until what was told is stored, if it is to be. Gives how many sockets were told.
    ///
    /// # Errors
    /// When it cannot be stored now. What has an id is not told again when it is sent again.
    pub async fn end_broadcast(&self, done: Done) -> Result<usize, BroadcastError> {
        self.stored(done.told).await.map_err(BroadcastError::Refused)?;
        Ok(done.told.count)
    }

    /// Waits until what was told is stored, if it is to be.
    ///
    /// # Errors
    /// When it cannot be stored now.
    pub async fn stored(&self, told: Told) -> Result<(), Refusal> {
        match told.stored_at {
            Some(number) => self.history.stored(number).await,
            None => Ok(()),
        }
    }

    /// Tells an event unless the store knows that it was told.
    async fn do_broadcast_once(&self, id: String, broadcast: Broadcast) -> Result<Done, BroadcastError> {
        match self.known_broadcast(&id, &broadcast).await? {
            Some((digest, count)) => {
                let told = Told {
                    count,
                    stored_at: None,
                };
                Ok(Done { digest, told })
            }
            None => self.do_broadcast(broadcast).await,
        }
    }

    /// Tells everybody in a room an event that may be kept, with what a backend calls it.
    ///
    /// # Errors
    /// When it is to be kept and cannot be now.
    pub fn tell_in(
        &self,
        room: &RoomName,
        event: &str,
        payload: &Arc<RawValue>,
        given: Option<GivenId>,
    ) -> Result<Told, Refusal> {
        let room = std::slice::from_ref(room);
        self.rooms.tell_kept(room, None, event, payload, given)
    }

    async fn do_broadcast(&self, broadcast: Broadcast) -> Result<Done, BroadcastError> {
        let digest = broadcast.digest;
        let saves = || desk::broadcast(self, &broadcast);
        let told = match saves().or_else(|| self.profiles.broadcast(self, &broadcast)) {
            Some(telling) => telling.await,
            None => {
                let given = broadcast.given_id();
                self.tell_in(&broadcast.room, &broadcast.event, &broadcast.payload, given)
            }
        };
        let told = told.map_err(BroadcastError::Refused)?;
        Ok(Done { digest, told })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_newest_ids_are_remembered_however_many_there_were() {
        let ids = BroadcastIds::default();
        let told = Told {
            count: 0,
            stored_at: None,
        };
        let done = Done {
            digest: [0; 32],
            told,
        };
        let all = MAX_REMEMBERED + 10_000;
        for id in 0..all {
            ids.0.insert(id.to_string(), done.clone()).await;
        }
        ids.0.run_pending_tasks().await;
        let is_known = |id: u64| ids.0.contains_key(&id.to_string());
        assert!((all - 1000..all).all(is_known), "what was told just now");
        assert!(!is_known(0), "no more than there may be");
    }

    #[test]
    fn reserved_names_are_in_order() {
        assert!(RESERVED.is_sorted() && MOMENTARY.is_sorted());
        for name in [
            "access_revoked",
            "chat-error",
            "document-error",
            "sidebar-error",
            "workspace:left",
        ] {
            assert!(is_reserved(name), "{name}");
        }
        // The last two the server tells by itself, and so does the application: of who was removed, and at the end of a stream.
        for name in ["new_message", "user-left-room", "ai-error"] {
            assert!(!is_reserved(name), "{name}");
        }
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

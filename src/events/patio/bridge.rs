//! What backends tell that wants more than to be told.

use std::sync::Arc;

use serde::{Deserialize, de::IgnoredAny};
use serde_json::value::RawValue;

use super::hall::timestamp;
use crate::{
    access::REMOVED,
    events::{Broadcast, BroadcastWork, EventServices},
    rooms::{Refusal, RefusalCode, RoomKind, is_id, spellings},
};

pub(super) fn broadcast(services: &EventServices, broadcast: &Broadcast) -> Option<BroadcastWork> {
    let given = broadcast.given_id();
    let Broadcast {
        room, event, payload, ..
    } = broadcast.clone();
    let services = services.clone();
    let is_shared = room.kind() == RoomKind::Shared;
    match event.as_str() {
        "user-removed-from-room" if is_shared => Some(Box::pin(async move {
            let removed = removed_user(&payload);
            for user in removed.iter().flat_map(|user| spellings(user)) {
                // First, so that nobody slips back in.
                services.access.keep_out(&room, &user).await.map_err(unstored)?;
            }
            let told = services.tell_in(&room, &event, &payload, given);
            // Also when the event cannot be told.
            for user in removed.iter().flat_map(|user| spellings(user)) {
                let refusal = Refusal::new(RefusalCode::Forbidden, REMOVED);
                services.access.send_away(Some(&user), None, |at| {
                    (at == Some(&room)).then(|| refusal.clone())
                });
                services.patio.forget(&room, &user);
            }
            told
        })),
        "room-deleted" if is_shared => Some(Box::pin(async move {
            services.access.forget_room(&room).await.map_err(unstored)?;
            let told = services.tell_in(&room, &event, &payload, given);
            let refusal = Refusal::new(RefusalCode::NotFound, "Room not found");
            services
                .access
                .send_away(None, None, |at| (at == Some(&room)).then(|| refusal.clone()));
            told
        })),
        name if is_shared && name.starts_with("ai-") => Some(Box::pin(async move {
            services.patio.tell_ai(&room, (&event, &payload), given)
        })),
        _ => {
            let stamped = stamped(&payload)?;
            Some(Box::pin(async move {
                services.tell_in(&room, &event, &stamped, given)
            }))
        }
    }
}

fn unstored(error: storage::StoreError) -> Refusal {
    tracing::warn!(%error, "a change of a shared room cannot be stored");
    Refusal::unavailable("the change cannot be stored now, try again")
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Removal {
    removed_user: RemovedUser,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RemovedUser {
    user_id: Option<String>,
}

/// The user whom a removal is about.
fn removed_user(payload: &RawValue) -> Option<String> {
    let removal: Removal = serde_json::from_str(payload.get()).ok()?;
    removal.removed_user.user_id.filter(|user| is_id(user))
}

/// What says that a row of a table has changed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope {
    #[serde(rename = "eventType")]
    _event_type: String,
    #[serde(rename = "table")]
    _table: String,
    timestamp: Option<IgnoredAny>,
}

/// An envelope with the time, where it has none. All else of it stays as the backend wrote it, byte for byte.
fn stamped(payload: &RawValue) -> Option<Arc<RawValue>> {
    let envelope: Envelope = serde_json::from_str(payload.get()).ok()?;
    if envelope.timestamp.is_some() {
        return None;
    }
    let open = payload.get().trim_end().strip_suffix('}')?;
    let text = format!("{open},\"timestamp\":\"{}\"}}", timestamp());
    RawValue::from_string(text).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON")
    }

    #[test]
    fn only_envelopes_without_a_time_are_stamped_and_nothing_else_of_them_changes() {
        for text in [
            r#"{"eventType":"INSERT","table":"t","timestamp":"then"}"#,
            r#"{"eventType":"INSERT"}"#,
            r#"{"table":"t"}"#,
            "[]",
            "7",
        ] {
            assert!(stamped(&raw(text)).is_none(), "{text}");
        }
        let text =
            r#"{ "new": { "n": 1.0, "big": 12345678901234567890 }, "eventType":"INSERT", "table":"t" }"#;
        let stamped = stamped(&raw(text)).expect("an envelope");
        let before = text.strip_suffix('}').expect("an object");
        assert!(stamped.get().starts_with(before), "{stamped}");
        let value: serde_json::Value = serde_json::from_str(stamped.get()).expect("JSON");
        assert!(value["timestamp"].is_string());
    }

    #[test]
    fn the_removed_user_is_named_by_an_id() {
        for (text, expected) in [
            (r#"{"removedUser":{"userId":"ada"}}"#, Some("ada")),
            (
                r#"{"removedUser":{"userId":"auth_ada","displayName":"Ada"}}"#,
                Some("auth_ada"),
            ),
            (r#"{"removedUser":{"userId":null}}"#, None),
            (r#"{"removedUser":{}}"#, None),
            ("{}", None),
        ] {
            assert_eq!(removed_user(&raw(text)).as_deref(), expected, "{text}");
        }
    }
}

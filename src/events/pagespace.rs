//! The vocabulary of PageSpace: rooms of drives, channels, conversations, sessions and activities.
#![doc = include_str!("pagespace.md")]

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{Answer, Call, EventSocket, Profile, Way, not_found};
use crate::rooms::{Refusal, RefusalCode, RoomName, is_id};

pub(super) static PROFILE: Profile = Profile {
    name: "pagespace",
    speaks,
    enters: |event| event == "presence:join_page" || topic(event).is_some_and(|(joins, _)| joins),
    handle,
    refused,
    ..Profile::SILENT
};

/// What the rooms of a pair of events are made of.
struct Topic {
    /// What follows `join_` and `leave_`.
    event: &'static str,
    /// How the id is called in what is told of a bad one.
    noun: &'static str,
    /// The rooms, before and behind the id.
    rooms: &'static [(&'static str, &'static str)],
}

static TOPICS: [Topic; 7] = [
    Topic {
        event: "channel",
        noun: "Page",
        rooms: &[("page:", "")],
    },
    Topic {
        event: "drive",
        noun: "Drive",
        rooms: &[("drive:", ""), ("drive:", ":calendar")],
    },
    Topic {
        event: "dm_conversation",
        noun: "Conversation",
        rooms: &[("dm:", "")],
    },
    Topic {
        event: "conversation",
        noun: "Conversation",
        rooms: &[("conv:", "")],
    },
    Topic {
        event: "session",
        noun: "Session",
        rooms: &[("session:", "")],
    },
    Topic {
        event: "activity_drive",
        noun: "Drive",
        rooms: &[("activity:drive:", "")],
    },
    Topic {
        event: "activity_page",
        noun: "Page",
        rooms: &[("activity:page:", "")],
    },
];

/// Whether the topic of an event is joined, or left.
fn topic(event: &str) -> Option<(bool, &'static Topic)> {
    let (joins, rest) = match (event.strip_prefix("join_"), event.strip_prefix("leave_")) {
        (Some(rest), _) => (true, rest),
        (_, Some(rest)) => (false, rest),
        (None, None) => return None,
    };
    let topic = TOPICS.iter().find(|topic| topic.event == rest)?;
    Some((joins, topic))
}

fn speaks(event: &str) -> bool {
    let others = [
        "join",
        "leave",
        "presence:join_page",
        "presence:leave_page",
        "shell:connect",
        "shell:input",
        "shell:resize",
        "shell:disconnect",
    ];
    topic(event).is_some() || others.contains(&event)
}

fn handle(socket: Arc<EventSocket>, call: Call) -> BoxFuture<'static, Answer> {
    Box::pin(async move {
        if let Some((joins, topic)) = topic(&call.name) {
            let id = id(&call.payload, topic.noun)?;
            return match joins {
                true => join(&socket, topic, &id).await,
                false => leave(&socket, topic, &id),
            };
        }
        match call.name.as_str() {
            "presence:join_page" => {
                let room = page(&call.payload)?;
                let role = socket.enter(&room, Way::Presence).await?;
                Ok(json!({ "pageId": room.id(), "role": role.as_str() }))
            }
            "presence:leave_page" => {
                let room = page(&call.payload)?;
                socket.leave(&room, Way::Presence);
                Ok(json!({ "pageId": room.id() }))
            }
            "join" | "leave" => Ok(json!({})),
            _ => shell(&socket, &call),
        }
    })
}

/// The id in a payload that is nothing else.
fn id(payload: &Json, noun: &str) -> Result<String, Refusal> {
    let Json::String(id) = payload else {
        return Err(Refusal::malformed(format!("{noun} ID must be a string")));
    };
    match is_id(id) {
        true => Ok(id.clone()),
        false => Err(Refusal::malformed(match noun {
            "Page" => "invalid Page ID format".to_owned(),
            _ => format!("{noun} ID must be a valid ID"),
        })),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfPage {
    page_id: String,
}

/// The room of the page that an object names.
fn page(payload: &Json) -> Result<RoomName, Refusal> {
    let OfPage { page_id } =
        OfPage::deserialize(payload).map_err(|_| Refusal::malformed("Invalid payload: pageId required"))?;
    RoomName::page(&page_id).ok_or_else(|| Refusal::malformed("invalid Page ID format"))
}

fn rooms(topic: &Topic, id: &str) -> Result<Vec<RoomName>, Refusal> {
    // Pages are joined under both names of their rooms.
    let id = match topic.event {
        "channel" => id.strip_prefix("page:").unwrap_or(id),
        _ => id,
    };
    let rooms = topic.rooms.iter().map(|(before, behind)| {
        let room = RoomName::parse(&format!("{before}{id}{behind}"));
        room.ok_or_else(|| Refusal::malformed(format!("{} ID must be a valid ID", topic.noun)))
    });
    rooms.collect()
}

async fn join(socket: &Arc<EventSocket>, topic: &Topic, id: &str) -> Answer {
    let rooms = rooms(topic, id)?;
    let (mut role, mut entered) = (None, Vec::new());
    for room in &rooms {
        let was_there = socket.role(room).is_some();
        match socket.enter(room, Way::Room).await {
            Ok(given) => role = Some(given),
            Err(refusal) => {
                for room in entered {
                    socket.leave(room, Way::Room);
                }
                return Err(refusal);
            }
        }
        if !was_there {
            entered.push(room);
        }
    }
    let role = role.map(|role| role.as_str());
    Ok(json!({ "room": rooms.first().map(RoomName::told), "role": role }))
}

fn leave(socket: &EventSocket, topic: &Topic, id: &str) -> Answer {
    let rooms = rooms(topic, id)?;
    for room in &rooms {
        socket.leave(room, Way::Room);
    }
    Ok(json!({ "room": rooms.first().map(RoomName::told) }))
}

/// Terminals are served by another program: clients are told, and do not wait.
fn shell(socket: &EventSocket, call: &Call) -> Answer {
    let mut error = json!({ "message": "there are no terminals on this server" });
    if let Some(connection @ Json::String(_)) = call.payload.get("connectionId") {
        error["connectionId"] = connection.clone();
    }
    socket.tell("shell:error", &error);
    Err(not_found("there are no terminals on this server"))
}

/// Who has said something malformed is told so; other refusals of events without an answer are nothing to PageSpace's programs.
pub(super) fn refused(socket: &EventSocket, call: &Call, refusal: &Refusal) {
    if refusal.code == RefusalCode::Malformed {
        let body = json!({ "event": call.name, "error": refusal.message });
        socket.tell("validation_error", &body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_of_a_topic_with_rooms() {
        for (event, expected) in [
            ("join_channel", Some((true, vec!["page:a"]))),
            ("leave_drive", Some((false, vec!["drive:a", "drive:a:calendar"]))),
            ("join_dm_conversation", Some((true, vec!["dm:a"]))),
            ("join_conversation", Some((true, vec!["conv:a"]))),
            ("join_session", Some((true, vec!["session:a"]))),
            ("leave_activity_drive", Some((false, vec!["activity:drive:a"]))),
            ("join_activity_page", Some((true, vec!["activity:page:a"]))),
            ("join_page", None),
            ("join_", None),
            ("channel", None),
        ] {
            let found = topic(event).map(|(joins, topic)| {
                let rooms = rooms(topic, "a").expect("rooms");
                let names: Vec<_> = rooms.iter().map(|room| room.as_str().to_owned()).collect();
                (joins, names)
            });
            let expected =
                expected.map(|(joins, names)| (joins, names.into_iter().map(str::to_owned).collect()));
            assert_eq!(found, expected, "{event}");
            assert_eq!(speaks(event), found.is_some(), "{event}");
        }
    }

    #[test]
    fn ids_are_texts_and_nothing_that_can_be_made_one() {
        for (payload, expected) in [
            (json!(1), "Drive ID must be a string"),
            (json!({ "toString": "x" }), "Drive ID must be a string"),
            (Json::Null, "Drive ID must be a string"),
            (json!(""), "Drive ID must be a valid ID"),
            (json!("a\u{0}b"), "Drive ID must be a valid ID"),
            (json!("x".repeat(256)), "Drive ID must be a valid ID"),
        ] {
            let refused = id(&payload, "Drive").expect_err("no id");
            assert_eq!(refused.message, expected, "{payload}");
        }
        assert_eq!(id(&json!("d1"), "Drive").as_deref(), Ok("d1"));
        let refused = page(&json!({ "page": "x" })).expect_err("no page");
        assert_eq!(refused.message, "Invalid payload: pageId required");
    }
}

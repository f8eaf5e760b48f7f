//! Typing, cursors and looking away, as clients say them.
//!
//! | event | |
//! |---|---|
//! | `typing_start`, `typing_stop` `{pageId}` | again at least every five seconds while it lasts |
//! | `cursor_move` `{pageId, cursor}` | any JSON; `null` for nowhere |
//! | `presence:activity` `{idle}` | whether the user looks away from all of it |
//!
//! What programs with Yjs show in awareness is told to these in the same events, and these are shown in awareness: `typing: true` is typing,
//! and a `cursor` is a cursor. Of a cursor `{anchor, head}` with two numbers, or with two relative positions of Yjs, each kind hears its own
//! form; any other is passed on as it is. Numbers count UTF-16 units from the beginning of the text, with one for each object embedded in it;
//! in rich text of XML, as ProseMirror has it, they are ProseMirror's positions: a UTF-16 unit counts one, and so do the beginning and the
//! end of each node, and a node without an inside. They are of the text as it is when they come, and follow it from then on. A cursor in
//! another root type than the one that holds the page's content has its name in `field`, both ways. Where the text cannot be read the cursor
//! is not shown.
//!
//! Whoever types or points is in the page's room, by whichever event it came there. Names and ids are those of its token. However often these
//! events come, they are not refused for that: the last one counts.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use serde::Deserialize;
use serde_json::{Value as Json, json, value::RawValue};

use super::{Answer, Call, EventSocket, Profile, components, cursors::MAX_CURSOR_BYTES, pagespace};
use crate::rooms::{Refusal, RefusalCode, RoomName};

/// Spoken whatever applications are: these events are of documents.
pub(super) static PROFILE: Profile = Profile {
    name: "gestures",
    speaks,
    handle: |socket, call| {
        let answer = handle(&socket, &call);
        Box::pin(std::future::ready(answer)) as BoxFuture<'static, Answer>
    },
    refused: pagespace::refused,
    ..Profile::SILENT
};

/// The events.
const EVENTS: [&str; 4] = ["typing_start", "typing_stop", "cursor_move", "presence:activity"];

/// Whether an event is one of these.
fn speaks(event: &str) -> bool {
    EVENTS.contains(&event)
}

/// Whether of an event only the last one counts, so that it may come as often as it does.
pub fn is_coalesced(event: &str) -> bool {
    speaks(event) || components::is_gesture(event)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfPage {
    page_id: String,
    #[serde(default)]
    cursor: Json,
}

#[derive(Deserialize)]
struct Activity {
    idle: bool,
}

/// Does what one of these events wants.
fn handle(socket: &EventSocket, call: &Call) -> Answer {
    if call.name == "presence:activity" {
        let Activity { idle } = call.read()?;
        socket.set_away(idle);
        return Ok(json!({ "idle": idle }));
    }
    let of_page = OfPage::deserialize(&call.payload);
    let OfPage { page_id, cursor } =
        of_page.map_err(|_| Refusal::malformed("Invalid payload: pageId required"))?;
    let room = RoomName::page(&page_id).ok_or_else(|| Refusal::malformed("invalid Page ID format"))?;
    let presence = &socket.services().presence;
    let is_there = match call.name.as_str() {
        "cursor_move" => presence.point_at(&room, socket.id(), place(&cursor)?),
        event => presence.type_at(&room, socket.id(), event == "typing_start"),
    };
    match is_there {
        true => Ok(json!({ "pageId": room.id() })),
        false => Err(Refusal::new(RefusalCode::Conflict, "join the page first")),
    }
}

fn place(cursor: &Json) -> Result<Option<Arc<RawValue>>, Refusal> {
    if cursor.is_null() {
        return Ok(None);
    }
    let place =
        serde_json::value::to_raw_value(cursor).map_err(|error| Refusal::malformed(error.to_string()))?;
    match place.get().len() {
        0..=MAX_CURSOR_BYTES => Ok(Some(place.into())),
        _ => Err(Refusal::too_large(format!(
            "a cursor has at most {MAX_CURSOR_BYTES} bytes"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_are_any_json_of_a_size() {
        assert!(matches!(place(&Json::Null), Ok(None)));
        for cursor in [
            json!(7),
            json!({ "anchor": 1, "head": 2 }),
            json!("x".repeat(MAX_CURSOR_BYTES - 2)),
        ] {
            let text = place(&cursor).expect("a place").expect("somewhere");
            assert_eq!(text.get(), cursor.to_string());
        }
        let refused = place(&json!("x".repeat(MAX_CURSOR_BYTES - 1))).expect_err("too large");
        assert_eq!(refused.code, RefusalCode::TooLarge);
    }
}

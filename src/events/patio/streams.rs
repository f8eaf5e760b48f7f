//! Answers of an AI that are being told in shared rooms, as far as they have come. Pure: time is an argument.
//!
//! Who comes while one is told gets its beginning and its text so far, and then goes on with the others. The text that is kept is bounded: of
//! a longer one the first part is kept, and whoever comes is told that it is cut.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::rooms::RoomName;

/// Text that is kept of one answer, in bytes.
const MAX_TEXT_BYTES: usize = 256 * 1024;
/// Text that is kept of all answers, in bytes.
const MAX_ALL_BYTES: usize = 64 * 1024 * 1024;
/// Answers at once of one room.
const MAX_OF_ROOM: usize = 16;
/// An answer that says nothing for this long is over.
const SILENCE: Duration = Duration::from_secs(300);

/// An answer as far as it has come.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    /// What was told when it began.
    pub(super) start: Arc<RawValue>,
    pub(super) text: String,
    /// There is more than is kept.
    pub(super) is_cut: bool,
    until: Instant,
}

/// What a backend tells of an answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Part {
    thread_id: String,
    #[serde(default)]
    chunk: Option<String>,
}

/// The answers that are being told.
#[derive(Default)]
pub(super) struct Streams {
    streams: BTreeMap<(RoomName, String), Stream>,
    due: BTreeSet<(Instant, RoomName, String)>,
    bytes: usize,
}

impl Streams {
    /// A backend has told an event in a room.
    pub(super) fn hear(&mut self, now: Instant, room: &RoomName, event: &str, payload: &Arc<RawValue>) {
        let Ok(part) = serde_json::from_str::<Part>(payload.get()) else {
            // It is told all the same; only nothing of it is kept.
            return;
        };
        let key = (room.clone(), part.thread_id);
        match event {
            "ai-stream-start" => self.begin(now, key, payload.clone()),
            "ai-stream-chunk" => self.append(now, &key, part.chunk.as_deref().unwrap_or_default()),
            "ai-stream-end" | "ai-error" | "ai-stopped" | "ai-stream-stopped" => self.end(&key),
            _ => {}
        }
    }

    fn begin(&mut self, now: Instant, key: (RoomName, String), start: Arc<RawValue>) {
        self.end(&key);
        if self.of_room(&key.0).count() >= MAX_OF_ROOM || start.get().len() > MAX_TEXT_BYTES {
            return;
        }
        let until = now + SILENCE;
        self.due.insert((until, key.0.clone(), key.1.clone()));
        let stream = Stream {
            start,
            text: String::new(),
            is_cut: false,
            until,
        };
        self.streams.insert(key, stream);
    }

    fn append(&mut self, now: Instant, key: &(RoomName, String), chunk: &str) {
        let Some(stream) = self.streams.get_mut(key) else {
            return;
        };
        let has_place = stream.text.len() + chunk.len() <= MAX_TEXT_BYTES
            && self.bytes + chunk.len() <= MAX_ALL_BYTES
            && !stream.is_cut;
        if has_place {
            stream.text.push_str(chunk);
            self.bytes += chunk.len();
        } else {
            stream.is_cut = true;
        }
        self.due.remove(&(stream.until, key.0.clone(), key.1.clone()));
        stream.until = now + SILENCE;
        self.due.insert((stream.until, key.0.clone(), key.1.clone()));
    }

    fn end(&mut self, key: &(RoomName, String)) {
        if let Some(stream) = self.streams.remove(key) {
            self.bytes -= stream.text.len();
            self.due.remove(&(stream.until, key.0.clone(), key.1.clone()));
        }
    }

    /// The answers that are being told in a room, by thread.
    pub(super) fn of_room(&self, room: &RoomName) -> impl Iterator<Item = (&str, &Stream)> {
        let all = self.streams.range((room.clone(), String::new())..);
        all.take_while(move |((of, _), _)| of == room)
            .map(|((_, thread), stream)| (thread.as_str(), stream))
    }

    /// When the next one has been silent for too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, ..)| *due)
    }

    /// Forgets those that have been silent for too long.
    pub(super) fn forget_silent(&mut self, now: Instant) {
        while let Some((_, room, thread)) = self.due.first().filter(|(due, ..)| *due <= now).cloned() {
            self.end(&(room, thread));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(text: &str) -> Arc<RawValue> {
        RawValue::from_string(text.to_owned()).expect("JSON").into()
    }

    fn room() -> RoomName {
        RoomName::parse("room:a").expect("a room")
    }

    fn hear(streams: &mut Streams, now: Instant, event: &str, text: &str) {
        streams.hear(now, &room(), event, &payload(text));
    }

    fn texts(streams: &Streams) -> Vec<(String, String, bool)> {
        let room = room();
        let all = streams.of_room(&room);
        all.map(|(thread, stream)| (thread.to_owned(), stream.text.clone(), stream.is_cut))
            .collect()
    }

    #[test]
    fn the_text_so_far_is_kept_until_the_answer_ends() {
        let now = crate::events::ticker::now();
        let mut streams = Streams::default();
        hear(
            &mut streams,
            now,
            "ai-stream-chunk",
            r#"{"threadId":"t","chunk":"lost"}"#,
        );
        assert!(texts(&streams).is_empty(), "it has not begun");
        hear(
            &mut streams,
            now,
            "ai-stream-start",
            r#"{"threadId":"t","modelId":"m"}"#,
        );
        for chunk in ["Hel", "lo"] {
            let text = format!(r#"{{"threadId":"t","chunk":"{chunk}"}}"#);
            hear(&mut streams, now, "ai-stream-chunk", &text);
        }
        for bad in ["[]", "{}", r#"{"threadId":1}"#] {
            hear(&mut streams, now, "ai-stream-chunk", bad);
        }
        assert_eq!(texts(&streams), [("t".to_owned(), "Hello".to_owned(), false)]);
        for end in ["ai-stream-end", "ai-error", "ai-stopped", "ai-stream-stopped"] {
            hear(&mut streams, now, "ai-stream-start", r#"{"threadId":"t"}"#);
            hear(
                &mut streams,
                now,
                "ai-stream-chunk",
                r#"{"threadId":"t","chunk":"x"}"#,
            );
            hear(&mut streams, now, end, r#"{"threadId":"t"}"#);
            assert!(texts(&streams).is_empty(), "{end}");
        }
        assert_eq!((streams.bytes, streams.due.len()), (0, 0));
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_is_silent_is_forgotten() {
        let now = crate::events::ticker::now();
        let mut streams = Streams::default();
        for thread in 0..MAX_OF_ROOM + 1 {
            hear(
                &mut streams,
                now,
                "ai-stream-start",
                &format!(r#"{{"threadId":"{thread}"}}"#),
            );
        }
        assert_eq!(texts(&streams).len(), MAX_OF_ROOM);
        let chunk = "x".repeat(MAX_TEXT_BYTES - 1);
        let later = now + Duration::from_secs(1);
        for chunk in [chunk.as_str(), "yz", "y"] {
            let text = format!(r#"{{"threadId":"0","chunk":"{chunk}"}}"#);
            hear(&mut streams, later, "ai-stream-chunk", &text);
        }
        let first = texts(&streams).swap_remove(0);
        assert_eq!(
            (first.1.len(), first.2),
            (chunk.len(), true),
            "nothing behind a gap is kept"
        );
        assert_eq!(streams.next_deadline(), Some(now + SILENCE));
        streams.forget_silent(now + SILENCE);
        assert_eq!(texts(&streams).len(), 1, "one had more to say");
        streams.forget_silent(later + SILENCE);
        assert_eq!((streams.bytes, streams.next_deadline()), (0, None));
    }
}

//! What readers are asked: where selections are, in the other form than the one in which they were said.

use std::time::{Duration, Instant};

use crdt::Place;

use super::{
    super::{
        cursors::Cursors,
        states::{Pointer, Range},
        watchers::Source,
    },
    Mirror,
};

/// Cursors that are asked about at once, at most.
const MAX_ASKED: usize = 32;
/// Shortest time between two questions.
const ASK_PAUSE: Duration = Duration::from_millis(50);
/// Of a page that is asked about, so much is gone through a second, in bytes.
const ASKED_BYTES_PER_SECOND: u64 = 4 * 1024 * 1024;
/// Pause after an answer, in times that it has taken.
const REST: u32 = 4;
/// Pause after a question that was not answered.
const RETRY: Duration = Duration::from_secs(2);

/// Selections whose other form is wanted.
#[derive(Debug)]
pub(in crate::events) struct Question {
    pub(super) asked: Vec<(Source, Range)>,
    since: Instant,
}

/// What an answer has cost.
#[derive(Clone, Copy, Debug)]
pub(in crate::events) struct Cost {
    pub(in crate::events) time: Duration,
    /// The page's size.
    pub(in crate::events) bytes: u64,
}

impl Question {
    /// The ends of the selections.
    pub(in crate::events) fn places(&self) -> Vec<Place> {
        self.asked.iter().flat_map(|(_, range)| range.places()).collect()
    }
}

impl Mirror {
    /// Gives what is to be asked, if it is time to.
    pub(super) fn question(&mut self, now: Instant) -> Option<Question> {
        if self.is_asking || self.ask_from.is_some_and(|from| now < from) {
            return None;
        }
        if std::mem::take(&mut self.is_edited) {
            let clients = self.clients.iter().filter(|(_, client)| client.range.is_some());
            clients.for_each(|(client, _)| self.unresolved.add(Source::Client(*client)));
        }
        let mut asked = Vec::new();
        while asked.len() < MAX_ASKED
            && let Some(source) = self.unresolved.take()
        {
            let range = match source {
                Source::Client(client) => self.clients.get(&client).and_then(|client| client.range.as_ref()),
                Source::Socket(socket) => self.sockets.get(&socket).and_then(|shown| match &shown.pointer {
                    Some(Pointer::Range(range)) => Some(range),
                    Some(Pointer::Plain(_)) | None => None,
                }),
            };
            asked.extend(range.map(|range| (source, range.clone())));
        }
        if asked.is_empty() {
            return None;
        }
        self.is_asking = true;
        Some(Question { asked, since: now })
    }

    /// Takes the answer to a question; `None` if there is none.
    pub(in crate::events) fn answered(
        &mut self,
        now: Instant,
        question: Question,
        answer: Option<(Vec<Option<Place>>, Cost)>,
        cursors: &mut Cursors,
    ) {
        self.is_asking = false;
        let (places, from) = match answer {
            Some((places, Cost { time, bytes })) => {
                let reading = Duration::from_millis(bytes.saturating_mul(1000) / ASKED_BYTES_PER_SECOND);
                let pause = question.since + reading.max(ASK_PAUSE);
                (places, pause.max(now + time.saturating_mul(REST)))
            }
            None => (Vec::new(), now + RETRY),
        };
        self.ask_from = Some(from);
        let (pairs, _) = places.as_chunks::<2>();
        let mut pairs = pairs.iter();
        for (source, range) in question.asked {
            let place = match pairs.next() {
                Some([Some(anchor), Some(head)]) => range.with(anchor, head),
                Some(_) | None => None,
            };
            match source {
                Source::Client(client) => {
                    let Some(client) = self.clients.get(&client).filter(|client| client.range.is_some())
                    else {
                        continue;
                    };
                    match place {
                        Some(place) => cursors.moved(source, client.owner.clone(), place),
                        None => cursors.left(source),
                    }
                }
                Source::Socket(socket) => {
                    if let Some(shown) = self.sockets.get_mut(&socket)
                        && matches!(shown.pointer, Some(Pointer::Range(_)))
                    {
                        shown.resolved = place;
                        self.make_ready(socket);
                    }
                }
            }
        }
    }
}

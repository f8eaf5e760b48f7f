//! A page that a client speaking in events has entered.

use std::{
    collections::VecDeque,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use serde_json::{Map, Value as Json};
use storage::{PageId, Seq};

use crate::{
    connections::{protocol::Work, seat_io::SeatIo},
    events::{Authorship, EventSocket, Form},
    protocols::{
        Frame,
        events::{Joined, PageWords, Wording, refused},
        socket_io::{SLOT, attachment},
    },
    rooms::{ClientMessage, Outgoing, Refusal, RefusalCode, RoomName, ServerMessage},
};

/// Questions that may wait for their answers.
const MAX_QUESTIONS: usize = 100;

/// A page that it has entered.
pub(super) struct JoinedPage {
    pub(super) seat: SeatIo,
    pub(super) words: PageWords,
    /// It takes part in the document.
    pub(super) is_synced: bool,
    /// It has been told that it has joined.
    pub(super) has_joined: bool,
    /// The room has said hello, by asking for what it lacks.
    pub(super) is_greeted: bool,
    /// What the room had when it last said so.
    pub(super) state_vector: Bytes,
    /// Where it hears of the others at the page, and in which form.
    pub(super) room: RoomName,
    pub(super) events: Arc<EventSocket>,
    pub(super) form: Form,
    /// It waits to hear that it has joined.
    pub(super) arriving: VecDeque<Arrival>,
    /// Questions for what somebody lacks. Only the first is with the room: its answer has no number on it.
    pub(super) questions: VecDeque<Question>,
    pub(super) is_asked: bool,
    /// Numbers of the edits that are to be answered, in their order.
    pub(super) posted: VecDeque<Option<i64>>,
    /// It is sent whole contents.
    pub(super) authorship: Option<Authorship>,
    /// A save that is being made edits of.
    pub(super) saving: Option<Saving>,
}

/// A save of a whole content that is being made edits of, and stored.
pub(super) struct Saving {
    /// Becomes the sequence number, when it is stored.
    pub(super) work: Work<Result<Seq, Refusal>>,
    /// The number under which the client waits for the answer.
    pub(super) ack: Option<i64>,
    /// How the client is told.
    pub(super) wording: Wording,
    /// Bytes of the content.
    pub(super) bytes: usize,
}

pub(super) struct Arrival {
    pub(super) ack: Option<i64>,
    /// What it lacks and what the room has, if it takes part in the document.
    pub(super) synced: Option<(Bytes, Bytes)>,
    pub(super) missed: Missed,
}

/// What it is answered about what it has missed in the page's room.
pub(super) enum Missed {
    /// That is being looked for.
    Sought(Work<Map<String, Json>>),
    /// This.
    Found(Map<String, Json>),
}

impl Missed {
    fn poll(&mut self, context: &mut Context<'_>) -> bool {
        if let Self::Sought(work) = self
            && let Poll::Ready(found) = work.as_mut().poll(context)
        {
            *self = Self::Found(found);
        }
        matches!(self, Self::Found(_))
    }
}

pub(super) struct Question {
    pub(super) ack: Option<i64>,
    pub(super) state_vector: Bytes,
    /// The answer belongs to a `join_page`.
    pub(super) joins: Option<Missed>,
}

impl JoinedPage {
    pub(super) fn new(page: &PageId, seat: SeatIo, (room, events): (RoomName, Arc<EventSocket>)) -> Self {
        Self {
            seat,
            words: PageWords::new(page.clone()),
            is_synced: false,
            has_joined: false,
            is_greeted: false,
            state_vector: crdt::StateVector::new().encode(),
            room,
            events,
            form: Form::Each,
            arriving: VecDeque::new(),
            questions: VecDeque::new(),
            is_asked: false,
            posted: VecDeque::new(),
            authorship: None,
            saving: None,
        }
    }

    /// Goes on with looking for what those who arrive have missed.
    pub(super) fn poll_arrivals(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) {
        let found = self
            .arriving
            .iter_mut()
            .map(|arrival| arrival.missed.poll(context));
        if found.fold(false, |any, is_found| any | is_found) {
            self.tell_joined(frames);
        }
    }

    pub(super) fn poll_work(&mut self, context: &mut Context<'_>) {
        if !self.is_asked
            && self.seat.may_send()
            && let Some(question) = self.questions.front()
        {
            self.is_asked = true;
            self.seat.send(ClientMessage::QueryStateVector);
            self.seat
                .send(ClientMessage::SyncStep1(question.state_vector.clone()));
        }
        self.seat.poll_work(context);
    }

    /// Whether the room has yet to answer something that is not an edit, or a save is yet to become one.
    pub(super) fn has_questions(&self) -> bool {
        !self.arriving.is_empty() || !self.questions.is_empty() || self.saving.is_some()
    }

    /// Whether it is being looked for what somebody who arrives has missed.
    pub(super) fn is_seeking(&self) -> bool {
        let asking = self
            .questions
            .iter()
            .filter_map(|question| question.joins.as_ref());
        let arriving = self.arriving.iter().map(|arrival| &arrival.missed);
        asking
            .chain(arriving)
            .any(|missed| matches!(missed, Missed::Sought(_)))
    }

    pub(super) fn ask(
        &mut self,
        page: &PageId,
        ack: Option<i64>,
        state_vector: Bytes,
        joins: Option<Missed>,
        frames: &mut Vec<Frame>,
    ) {
        if self.questions.len() >= MAX_QUESTIONS {
            let refusal = Refusal::new(RefusalCode::RateLimited, "too many questions wait for an answer");
            return refused(ack, Some(page), &refusal, None, frames);
        }
        self.questions.push_back(Question {
            ack,
            state_vector,
            joins,
        });
    }

    /// Takes in what the room says.
    pub(super) fn on_message(&mut self, page: &PageId, message: &Arc<Outgoing>, frames: &mut Vec<Frame>) {
        match message.message() {
            ServerMessage::SyncStep1(state_vector) => {
                self.state_vector = state_vector.clone();
                let is_hello = !std::mem::replace(&mut self.is_greeted, true);
                if self.is_synced && !self.is_asked && !is_hello {
                    self.words.ask(state_vector.clone(), frames);
                }
                if is_hello {
                    self.follow(state_vector);
                    self.tell_joined(frames);
                }
            }
            ServerMessage::SyncStep2(update) if self.is_asked => {
                self.is_asked = false;
                if let Some(authorship) = &self.authorship {
                    authorship.page_changed();
                }
                if let Some(question) = self.questions.pop_front() {
                    self.answered(question, update.clone(), frames);
                }
            }
            ServerMessage::SyncStep2(_) | ServerMessage::Delta(_) => {
                if let Some(authorship) = &self.authorship {
                    authorship.page_changed();
                }
                if self.is_synced {
                    self.words.delta(message.wire(SLOT, attachment), frames);
                }
            }
            ServerMessage::Awareness(_) => {
                if self.is_synced {
                    self.words.awareness(message.wire(SLOT, attachment), frames);
                }
            }
            ServerMessage::Refused(refusal) => refused(None, Some(page), refusal, None, frames),
            // Each edit is answered by itself, and there are no words for the rest.
            ServerMessage::Stored(_)
            | ServerMessage::Mark(_)
            | ServerMessage::Receipts { .. }
            | ServerMessage::QueryAwareness
            | ServerMessage::Stateless(_) => {}
        }
    }

    /// Asks for what there is beyond that, if nobody asks for more: only who has asked is told what others edit.
    fn follow(&mut self, state_vector: &Bytes) {
        if self.questions.is_empty() {
            self.questions.push_back(Question {
                ack: None,
                state_vector: state_vector.clone(),
                joins: None,
            });
        }
    }

    pub(super) fn answered(&mut self, question: Question, update: Bytes, frames: &mut Vec<Frame>) {
        let state_vector = self.state_vector.clone();
        match question.joins {
            Some(missed) => {
                self.arriving.push_back(Arrival {
                    ack: question.ack,
                    synced: Some((update, state_vector)),
                    missed,
                });
                self.tell_joined(frames);
            }
            None => self.words.synced(question.ack, update, state_vector, frames),
        }
    }

    /// Tells those who wait for it that they have joined, and who else is there. What changes from then on is told behind that.
    pub(super) fn tell_joined(&mut self, frames: &mut Vec<Frame>) {
        // A room that does not take it in says no hello.
        if self.arriving.is_empty() || !self.is_greeted {
            return;
        }
        let seat = self.seat.seat();
        let viewers = self.events.viewers(&self.room);
        // Each when it is known what it has missed, in their order.
        while let Some(first) = self.arriving.front_mut()
            && let Missed::Found(missed) = &mut first.missed
        {
            let missed = std::mem::take(missed);
            let Some(Arrival { ack, synced, .. }) = self.arriving.pop_front() else {
                break;
            };
            self.has_joined = true;
            let joined = Joined {
                role: seat.role().as_str(),
                seq: seat.seq(),
                synced,
                missed,
            };
            self.words.joined(ack, &viewers, joined, frames);
        }
        if self.has_joined {
            self.events.hear(&self.room, self.form, self.is_synced);
        }
    }
}

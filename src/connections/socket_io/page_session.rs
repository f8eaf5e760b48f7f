//! One page of a client that speaks in events: what it asks is done in its order, and it waits for nobody but its own page.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use serde_json::{Map, json};
use storage::{PageId, Seq};
use tokio::time::timeout;

use super::{
    joined_page::{Arrival, JoinedPage, Missed, Saving},
    joining::JoinContext,
};
use crate::{
    access::LiveSeat,
    connections::{
        protocol::Work,
        seat_io::{Answer, MAX_POSTED, SeatEvent, SeatIo, poll_answer},
    },
    events::{Authorship, EventSocket, Form, HeldEvents},
    protocols::Frame,
    protocols::events::{PageRequest, Wording, answer, refused},
    rooms::{ClientMessage, Departure, Refusal, RefusalCode, RoomName},
};

/// A client that leaves while it saves keeps its seat for so long at most.
const SAVE_PATIENCE: Duration = Duration::from_secs(5);
/// What may wait for a page that is being opened: requests, and their payload in bytes (one larger request alone passes).
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 64 * 1024;

/// A page that a client has asked for.
pub(super) struct PageSession {
    pub(super) page: PageId,
    room: RoomName,
    pub(super) events: Arc<EventSocket>,
    pub(super) state: State,
    /// What it wants done, with the number under which it waits for the answer.
    waiting: VecDeque<(PageRequest, Option<i64>)>,
    waiting_bytes: usize,
    /// Edits of before it left that are to be answered.
    outstanding: VecDeque<(Option<i64>, Answer)>,
}

pub(super) enum State {
    Closed,
    Opening {
        work: Work<Result<SeatIo, Refusal>>,
        /// What is wanted of the page once it is open.
        request: Option<(PageRequest, Option<i64>)>,
    },
    Open(Box<JoinedPage>),
    /// `Some` with the number under which the client waits to hear that it has left, if it does.
    Leaving(Work<()>, Option<Option<i64>>),
}

impl PageSession {
    pub(super) fn new(page: PageId, events: &Arc<EventSocket>) -> Self {
        Self {
            room: RoomName::of_page(&page),
            events: events.clone(),
            page,
            state: State::Closed,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            outstanding: VecDeque::new(),
        }
    }

    /// Takes a request. Ask [`Self::may_receive`] before more is taken.
    pub(super) fn take(&mut self, request: PageRequest, ack: Option<i64>) {
        self.waiting_bytes += request.payload_bytes();
        self.waiting.push_back((request, ack));
    }

    /// Whether nothing is left of it.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed) && self.waiting.is_empty() && self.outstanding.is_empty()
    }

    /// Whether it can take more.
    pub(super) fn may_receive(&self) -> bool {
        if self.outstanding.len() >= MAX_POSTED {
            return false;
        }
        match &self.state {
            State::Open(open) => self.waiting.is_empty() && open.seat.may_send(),
            State::Closed | State::Opening { .. } | State::Leaving(..) => {
                self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
            }
        }
    }

    /// Bytes of what it has taken and not yet done.
    pub(super) fn held_bytes(&self) -> usize {
        let held = match &self.state {
            State::Open(open) => open.saving.as_ref().map_or(0, |saving| saving.bytes),
            State::Opening { request, .. } => {
                let request = request.as_ref();
                request.map_or(0, |(request, _)| request.payload_bytes())
            }
            State::Closed | State::Leaving(..) => 0,
        };
        self.waiting_bytes + held
    }

    /// Its being an author of whole contents, if it is one.
    pub(super) fn authorship(&self) -> Option<&Authorship> {
        match &self.state {
            State::Open(open) => open.authorship.as_ref(),
            State::Closed | State::Opening { .. } | State::Leaving(..) => None,
        }
    }

    /// Whether the client has the page open.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open(_))
    }

    /// The client has shown a fresh token: a page that is being opened is opened with that.
    pub(super) fn renewed(&mut self, join: &JoinContext) {
        if let State::Opening { work, .. } = &mut self.state {
            *work = join.open(self.page.clone());
        }
    }

    /// Its seat, once it has one.
    pub(super) fn seat(&self) -> Option<(PageId, Arc<LiveSeat>)> {
        match &self.state {
            State::Open(open) => Some((self.page.clone(), open.seat.seat().clone())),
            State::Closed | State::Opening { .. } | State::Leaving(..) => None,
        }
    }

    /// Goes on with what is wanted, as far as that is possible now.
    pub(super) fn poll_work(
        &mut self,
        context: &mut Context<'_>,
        join: &JoinContext,
        frames: &mut Vec<Frame>,
    ) {
        loop {
            match &mut self.state {
                State::Closed => {
                    let Some((request, ack)) = self.next_request() else {
                        return;
                    };
                    self.request_unjoined(request, ack, join, frames);
                }
                State::Opening { work, request } => {
                    let Poll::Ready(opened) = work.as_mut().poll(context) else {
                        return;
                    };
                    let request = request.take();
                    self.opened(opened, request, frames);
                }
                State::Leaving(work, told) => {
                    if work.as_mut().poll(context).is_pending() {
                        return;
                    }
                    if let Some(ack) = told.take() {
                        left(&self.page, ack, frames);
                    }
                    self.state = State::Closed;
                }
                State::Open(open) => {
                    open.poll_work(context);
                    if let Some(Saving {
                        work, ack, wording, ..
                    }) = &mut open.saving
                    {
                        let Poll::Ready(saved) = work.as_mut().poll(context) else {
                            return;
                        };
                        let (ack, wording) = (*ack, *wording);
                        open.saving = None;
                        self.saved(saved, ack, wording, frames);
                        continue;
                    }
                    let must_wait = match self.waiting.front() {
                        Some((PageRequest::Leave, _)) => open.has_questions(),
                        // What was missed is read from the store, once at a time for a client's page.
                        Some((PageRequest::Join { .. }, _)) => open.is_seeking(),
                        Some(_) | None => false,
                    };
                    if must_wait || !open.seat.may_send() {
                        return;
                    }
                    let Some((request, ack)) = self.next_request() else {
                        return;
                    };
                    self.request(request, ack, None, frames);
                }
            }
        }
    }

    fn next_request(&mut self) -> Option<(PageRequest, Option<i64>)> {
        let (request, ack) = self.waiting.pop_front()?;
        self.waiting_bytes -= request.payload_bytes();
        Some((request, ack))
    }

    /// Does what somebody wants who is not there.
    fn request_unjoined(
        &mut self,
        request: PageRequest,
        ack: Option<i64>,
        join: &JoinContext,
        frames: &mut Vec<Frame>,
    ) {
        match request {
            // Who listens to a page's channel saves it without having joined the page.
            PageRequest::Join { .. } | PageRequest::Save(_, Wording::DocumentUpdate) => {
                self.state = State::Opening {
                    work: join.open(self.page.clone()),
                    request: Some((request, ack)),
                };
            }
            PageRequest::Leave => {
                // It may still hear events of a page that it had open before its connection was lost.
                self.events.set_page(&self.room, false);
                left(&self.page, ack, frames);
            }
            PageRequest::Delta(_)
            | PageRequest::Sync(_)
            | PageRequest::Awareness(_)
            | PageRequest::Save(_, Wording::PageUpdated) => {
                let refusal = Refusal::new(RefusalCode::Conflict, "join the page first");
                refused(ack, Some(&self.page), &refusal, None, frames);
            }
        }
    }

    fn opened(
        &mut self,
        opened: Result<SeatIo, Refusal>,
        request: Option<(PageRequest, Option<i64>)>,
        frames: &mut Vec<Frame>,
    ) {
        match opened {
            Ok(seat) => {
                // A page that was renamed has the room of the id that it has now.
                if let Some(page) = seat.seat().page() {
                    self.room = RoomName::of_page(page);
                }
                // Before it is told anything of the page's room.
                let held = match &request {
                    Some((PageRequest::Join { since: Some(_), .. }, _)) => Some(self.events.hold()),
                    Some(_) | None => None,
                };
                self.events.set_page(&self.room, true);
                let (room, events) = (self.room.clone(), self.events.clone());
                self.state = State::Open(Box::new(JoinedPage::new(&self.page, seat, (room, events))));
                if let Some((request, ack)) = request {
                    self.request(request, ack, held, frames);
                }
            }
            Err(refusal) => {
                self.state = State::Closed;
                match request {
                    Some((PageRequest::Save(_, wording), ack)) => {
                        self.save_refused(ack, wording, &refusal, frames);
                    }
                    Some((_, ack)) => refused(ack, Some(&self.page), &refusal, None, frames),
                    None => {}
                }
            }
        }
    }

    /// Does what somebody wants who is there. What it is told of the room may be held already.
    fn request(
        &mut self,
        request: PageRequest,
        ack: Option<i64>,
        held: Option<HeldEvents>,
        frames: &mut Vec<Frame>,
    ) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        match request {
            PageRequest::Join {
                since,
                state_vector,
                in_object,
            } => {
                let missed = match in_object {
                    true => {
                        let (events, rooms) = (self.events.clone(), BTreeSet::from([self.room.clone()]));
                        let since = since.map(|since| (since, held.unwrap_or_else(|| events.hold())));
                        Missed::Sought(Box::pin(async move { events.missed(&rooms, since).await }))
                    }
                    false => Missed::Found(Map::new()),
                };
                open.form = match in_object {
                    true => Form::Sets,
                    false => Form::Each,
                };
                match state_vector {
                    None => {
                        open.arriving.push_back(Arrival {
                            ack,
                            synced: None,
                            missed,
                        });
                        open.tell_joined(frames);
                        self.write(Wording::PageUpdated);
                    }
                    Some(state_vector) => {
                        open.is_synced = true;
                        open.ask(&self.page, ack, state_vector, Some(missed), frames);
                    }
                }
            }
            PageRequest::Sync(state_vector) => open.ask(&self.page, ack, state_vector, None, frames),
            PageRequest::Delta(update) => {
                open.posted.push_back(ack);
                // The answers come in the order of the posts, so none needs a number.
                open.seat.post(update, 0);
            }
            PageRequest::Awareness(update) => {
                open.seat.send(ClientMessage::Awareness(update));
                answer(ack, &json!({ "ok": true }), frames);
            }
            PageRequest::Save(save, wording) => self.save(*save, wording, ack, frames),
            PageRequest::Leave => self.leave(Some(ack)),
        }
    }

    /// Gives the seat back, and goes on waiting for what is to be answered. `told` as in [`State::Leaving`].
    pub(super) fn leave(&mut self, told: Option<Option<i64>>) {
        if let State::Open(mut open) = std::mem::replace(&mut self.state, State::Closed) {
            self.events.set_page(&self.room, false);
            let answers = open.seat.take_answers();
            // There are no more answers than numbers: each edit that the room has not been given lacks one.
            self.outstanding.extend(open.posted.drain(..).zip(answers));
            let leaving = Box::pin(open.seat.end(Departure::Clean));
            self.state = State::Leaving(leaving, told);
        }
    }

    /// Writes the next thing that the page has to say. A refusal is why the client has to leave with everything else.
    pub(super) fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        while let Some((_, answer)) = self.outstanding.front_mut()
            && let Poll::Ready(stored) = poll_answer(answer, context)
            && let Some((ack, _)) = self.outstanding.pop_front()
        {
            self.stored(ack, stored, frames);
            if !frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        loop {
            let State::Open(open) = &mut self.state else {
                return Poll::Pending;
            };
            open.poll_arrivals(context, frames);
            if !frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
            match open.seat.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(SeatEvent::Posted(_, stored)) => {
                    let ack = open.posted.pop_front().flatten();
                    self.stored(ack, stored, frames);
                }
                // Each edit is answered by itself.
                Poll::Ready(SeatEvent::Receipt { .. } | SeatEvent::TokenEnds) => {}
                Poll::Ready(SeatEvent::Message(message)) => open.on_message(&self.page, &message, frames),
                Poll::Ready(SeatEvent::Close(refusal)) => {
                    return Poll::Ready(self.sent_away(refusal, frames).map_or(Ok(()), Err));
                }
            }
            if !frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Tells what has become of an edit.
    fn stored(&self, ack: Option<i64>, stored: Result<Seq, Refusal>, frames: &mut Vec<Frame>) {
        match stored {
            Ok(seq) => answer(ack, &json!({ "ok": true, "seq": seq }), frames),
            Err(refusal) => refused(ack, Some(&self.page), &refusal, None, frames),
        }
    }

    /// Answers what has no other answer to come, and tells the client that it is out. Gives back why it should leave with everything
    /// else, if so.
    fn sent_away(&mut self, refusal: Refusal, frames: &mut Vec<Frame>) -> Option<Refusal> {
        let State::Open(open) = &mut self.state else {
            return None;
        };
        let arriving = open.arriving.drain(..).map(|arrival| arrival.ack);
        let asking = open.questions.drain(..).map(|question| question.ack);
        // An edit that is still on its way to the room will not be taken in.
        let given = open.seat.answers();
        let unheard = open.posted.split_off(given.min(open.posted.len()));
        let saving = open.saving.take().map(|saving| saving.ack);
        for ack in arriving.chain(asking).chain(unheard).chain(saving).flatten() {
            refused(Some(ack), Some(&self.page), &refusal, None, frames);
        }
        let has_joined = open.has_joined;
        self.leave(None);
        if !has_joined {
            return None;
        }
        // Clients come back by themselves when their connection ends, and then join again.
        if refusal.code.is_retryable() {
            return Some(refusal);
        }
        self.events.tell_revoked(&self.room, &refusal);
        Some(refusal).filter(|refusal| refusal.code.is_about_token())
    }

    /// Is given up, whatever it is doing, because its user may not be here any more and the connection ends.
    pub(super) fn expel(&mut self, refusal: &Refusal, frames: &mut Vec<Frame>) {
        while let Some((_, ack)) = self.next_request() {
            refused(ack, Some(&self.page), refusal, None, frames);
        }
        if let State::Opening { request, .. } = &mut self.state {
            let ack = request.take().and_then(|(_, ack)| ack);
            // A seat that is still being taken is given back when it is.
            self.state = State::Closed;
            refused(ack, Some(&self.page), refusal, None, frames);
        } else {
            // The connection ends anyway.
            let _ = self.sent_away(refusal.clone(), frames);
        }
    }

    /// Leaves, whatever it is doing.
    pub(super) async fn end(self, departure: Departure) {
        match self.state {
            State::Open(mut open) => {
                // What was saved counts, although nobody is there any more to be told. It is not waited for when that takes long.
                if let Some(saving) = open.saving.take() {
                    let _ = timeout(SAVE_PATIENCE, tokio::spawn(saving.work)).await;
                }
                open.seat.end(departure).await;
            }
            State::Leaving(leaving, _) => leaving.await,
            // A seat that is still being taken is given back when it is.
            State::Opening { .. } | State::Closed => {}
        }
    }
}

fn left(page: &PageId, ack: Option<i64>, frames: &mut Vec<Frame>) {
    answer(ack, &json!({ "ok": true, "pageId": page.as_str() }), frames);
}

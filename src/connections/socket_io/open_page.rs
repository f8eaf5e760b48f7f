//! One page of a client that speaks in events: what it asks is done in its order, and it waits for nobody but its own page.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use serde_json::json;
use storage::{PageId, Seq};

use crate::{
    auth::{Access, Identity, LiveSeat},
    connections::{
        attendance::{Answer, Attendance, Attended, MAX_POSTED, Work, poll_answer},
        engine_io::Frame,
    },
    protocols::{
        events::{Joined, PageRequest, PageWords, access_revoked, answer, refused},
        socket_io::{SLOT, attachment},
    },
    rooms::{Capabilities, ClientMessage, Departure, Outbox, Outgoing, Refusal, RefusalCode, ServerMessage},
};

/// What may wait for a page that is being opened: requests, and their payload in bytes (one larger request alone passes).
const MAX_WAITING: usize = 64;
const MAX_WAITING_BYTES: usize = 64 * 1024;
/// Questions that may wait for their answers.
const MAX_QUESTIONS: usize = 100;

/// What a client enters pages with.
pub(super) struct Entrance {
    pub(super) access: Access,
    pub(super) identity: Arc<Identity>,
    /// What the client calls its connection.
    pub(super) socket: Arc<str>,
    /// Where it comes from.
    pub(super) address: IpAddr,
    pub(super) max_outbox_bytes: usize,
    /// How long opening a page may take.
    pub(super) patience: Duration,
}

impl Entrance {
    fn open(&self, page: PageId) -> Work<Result<Attendance, Refusal>> {
        let (access, identity, socket) = (self.access.clone(), self.identity.clone(), self.socket.clone());
        let capabilities = Capabilities {
            viewers: true,
            // Each edit is answered by itself, so hearing what it has written says nothing to it.
            receipts: true,
            ..Capabilities::default()
        };
        let outbox = Outbox::with_capabilities(self.max_outbox_bytes, capabilities);
        let (address, patience) = (self.address, self.patience);
        Box::pin(async move {
            let opening = async {
                let admitted = access.admit(Ok(identity), &page, address, |_| Ok(()));
                let (mut membership, ()) = admitted.await?;
                membership.socket = Some(socket);
                Attendance::begin(&access, &page, membership, outbox).await
            };
            tokio::time::timeout(patience, opening)
                .await
                .unwrap_or_else(|_| Err(Refusal::unavailable("the page took too long to open")))
        })
    }
}

/// What has come of letting a page speak.
pub(super) enum Spoken {
    /// Frames to send.
    Frames,
    /// The client has to leave the page, and has been told. If it were to leave with everything else, this is why.
    Left(Option<Refusal>),
}

/// A page that a client has asked for.
pub(super) struct OpenPage {
    page: PageId,
    state: State,
    /// What it wants done, with the number under which it waits for the answer.
    waiting: VecDeque<(PageRequest, Option<i64>)>,
    waiting_bytes: usize,
    /// Edits of before it left that are to be answered.
    outstanding: VecDeque<(Option<i64>, Answer)>,
}

enum State {
    Closed,
    Opening {
        work: Work<Result<Attendance, Refusal>>,
        request: Option<Bytes>,
        ack: Option<i64>,
    },
    Open(Box<Open>),
    /// `Some` with the number under which the client waits to hear that it has left, if it does.
    Leaving(Work<()>, Option<Option<i64>>),
}

/// A page that it has entered.
struct Open {
    attendance: Attendance,
    words: PageWords,
    /// It takes part in the document.
    is_synced: bool,
    /// It has been told that it has joined.
    has_joined: bool,
    /// The room has said hello, by asking for what it lacks.
    is_greeted: bool,
    /// What the room had when it last said so.
    state_vector: Bytes,
    /// Who has the page open.
    viewers: Option<Arc<Outgoing>>,
    /// It waits to hear that it has joined.
    arriving: Vec<Arrival>,
    /// Questions for what somebody lacks. Only the first is with the room: its answer has no number on it.
    questions: VecDeque<Question>,
    is_asked: bool,
    /// Numbers of the edits that are to be answered, in their order.
    posted: VecDeque<Option<i64>>,
}

struct Arrival {
    ack: Option<i64>,
    /// What it lacks and what the room has, if it takes part in the document.
    synced: Option<(Bytes, Bytes)>,
}

struct Question {
    ack: Option<i64>,
    state_vector: Bytes,
    /// The answer belongs to a `join_page`.
    joins: bool,
}

impl OpenPage {
    pub(super) fn new(page: PageId) -> Self {
        Self {
            page,
            state: State::Closed,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            outstanding: VecDeque::new(),
        }
    }

    /// Takes a request. Ask [`Self::is_idle`] before more is taken.
    pub(super) fn take(&mut self, request: PageRequest, ack: Option<i64>) {
        self.waiting_bytes += request.payload_bytes();
        self.waiting.push_back((request, ack));
    }

    /// Whether nothing is left of it.
    pub(super) fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed) && self.waiting.is_empty() && self.outstanding.is_empty()
    }

    /// Whether it can take more.
    pub(super) fn is_idle(&self) -> bool {
        if self.outstanding.len() >= MAX_POSTED {
            return false;
        }
        match &self.state {
            State::Open(open) => self.waiting.is_empty() && open.attendance.may_say(),
            State::Closed | State::Opening { .. } | State::Leaving(..) => {
                self.waiting.len() < MAX_WAITING && self.waiting_bytes < MAX_WAITING_BYTES
            }
        }
    }

    /// Its seat, once it has one.
    pub(super) fn seat(&self) -> Option<(PageId, Arc<LiveSeat>)> {
        match &self.state {
            State::Open(open) => Some((self.page.clone(), open.attendance.seat().clone())),
            State::Closed | State::Opening { .. } | State::Leaving(..) => None,
        }
    }

    /// Goes on with what is wanted, as far as that is possible now.
    pub(super) fn poll_work(
        &mut self,
        context: &mut Context<'_>,
        entrance: &Entrance,
        frames: &mut Vec<Frame>,
    ) {
        loop {
            match &mut self.state {
                State::Closed => {
                    let Some((request, ack)) = self.next_request() else {
                        return;
                    };
                    self.knock(request, ack, entrance, frames);
                }
                State::Opening { work, request, ack } => {
                    let Poll::Ready(opened) = work.as_mut().poll(context) else {
                        return;
                    };
                    let (request, ack) = (request.take(), *ack);
                    self.opened(opened, request, ack, frames);
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
                    let leaves = matches!(self.waiting.front(), Some((PageRequest::Leave, _)));
                    if !open.attendance.may_say() || (leaves && open.has_questions()) {
                        return;
                    }
                    let Some((request, ack)) = self.next_request() else {
                        return;
                    };
                    self.request(request, ack, frames);
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
    fn knock(
        &mut self,
        request: PageRequest,
        ack: Option<i64>,
        entrance: &Entrance,
        frames: &mut Vec<Frame>,
    ) {
        match request {
            PageRequest::Join(request) => {
                let work = entrance.open(self.page.clone());
                self.state = State::Opening { work, request, ack };
            }
            PageRequest::Leave => left(&self.page, ack, frames),
            PageRequest::Delta(_) | PageRequest::Sync(_) | PageRequest::Awareness(_) => {
                let refusal = Refusal::new(RefusalCode::Conflict, "join the page first");
                refused(ack, Some(&self.page), &refusal, None, frames);
            }
        }
    }

    fn opened(
        &mut self,
        opened: Result<Attendance, Refusal>,
        request: Option<Bytes>,
        ack: Option<i64>,
        frames: &mut Vec<Frame>,
    ) {
        match opened {
            Ok(attendance) => {
                self.state = State::Open(Box::new(Open::new(&self.page, attendance)));
                self.request(PageRequest::Join(request), ack, frames);
            }
            Err(refusal) => {
                refused(ack, Some(&self.page), &refusal, None, frames);
                self.state = State::Closed;
            }
        }
    }

    /// Does what somebody wants who is there.
    fn request(&mut self, request: PageRequest, ack: Option<i64>, frames: &mut Vec<Frame>) {
        let State::Open(open) = &mut self.state else {
            return;
        };
        match request {
            PageRequest::Join(None) => {
                open.arriving.push(Arrival { ack, synced: None });
                open.tell_joined(frames);
            }
            PageRequest::Join(Some(state_vector)) => {
                open.is_synced = true;
                open.ask(&self.page, ack, state_vector, true, frames);
            }
            PageRequest::Sync(state_vector) => open.ask(&self.page, ack, state_vector, false, frames),
            PageRequest::Delta(update) => {
                open.posted.push_back(ack);
                // The answers come in the order of the posts, so none needs a number.
                open.attendance.post(update, 0);
            }
            PageRequest::Awareness(update) => {
                open.attendance.say(ClientMessage::Awareness(update));
                answer(ack, &json!({ "ok": true }), frames);
            }
            PageRequest::Leave => self.leave(Some(ack)),
        }
    }

    /// Gives the seat back, and goes on waiting for what is to be answered. `told` as in [`State::Leaving`].
    fn leave(&mut self, told: Option<Option<i64>>) {
        if let State::Open(mut open) = std::mem::replace(&mut self.state, State::Closed) {
            let answers = open.attendance.take_answers();
            // There are no more answers than numbers: each edit that the room has not been given lacks one.
            self.outstanding.extend(open.posted.drain(..).zip(answers));
            let leaving = Box::pin(open.attendance.end(Departure::Clean));
            self.state = State::Leaving(leaving, told);
        }
    }

    /// Writes the next thing that the page has to say.
    pub(super) fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Spoken> {
        while let Some((ack, answer)) = self.outstanding.front_mut()
            && let Poll::Ready(stored) = poll_answer(answer, context)
        {
            let ack = *ack;
            self.outstanding.pop_front();
            self.stored(ack, stored, frames);
            if !frames.is_empty() {
                return Poll::Ready(Spoken::Frames);
            }
        }
        loop {
            let State::Open(open) = &mut self.state else {
                return Poll::Pending;
            };
            match open.attendance.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Attended::Posted(_, stored)) => {
                    let ack = open.posted.pop_front().flatten();
                    self.stored(ack, stored, frames);
                }
                // Each edit is answered by itself.
                Poll::Ready(Attended::Receipt { .. }) => {}
                Poll::Ready(Attended::Message(message)) => open.hear(&self.page, &message, frames),
                Poll::Ready(Attended::Close(refusal)) => {
                    return Poll::Ready(Spoken::Left(self.sent_away(refusal, frames)));
                }
            }
            if !frames.is_empty() {
                return Poll::Ready(Spoken::Frames);
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
        let given = open.attendance.answers();
        let unheard = open.posted.split_off(given.min(open.posted.len()));
        for ack in arriving.chain(asking).chain(unheard).flatten() {
            refused(Some(ack), Some(&self.page), &refusal, None, frames);
        }
        let has_joined = open.has_joined;
        self.leave(None);
        if !has_joined {
            return None;
        }
        let is_about_user = matches!(
            refusal.code,
            RefusalCode::Unauthenticated | RefusalCode::TokenExpired | RefusalCode::TokenRevoked
        );
        // Clients come back by themselves when their connection ends, and then join again.
        if refusal.code.is_retryable() || is_about_user {
            return Some(refusal);
        }
        access_revoked(&self.page, &refusal, frames);
        None
    }

    /// Leaves, whatever it is doing.
    pub(super) async fn end(self, departure: Departure) {
        match self.state {
            State::Open(open) => open.attendance.end(departure).await,
            State::Leaving(leaving, _) => leaving.await,
            // A seat that is still being taken is given back when it is.
            State::Opening { .. } | State::Closed => {}
        }
    }
}

fn left(page: &PageId, ack: Option<i64>, frames: &mut Vec<Frame>) {
    answer(ack, &json!({ "ok": true, "pageId": page.as_str() }), frames);
}

impl Open {
    fn new(page: &PageId, attendance: Attendance) -> Self {
        Self {
            attendance,
            words: PageWords::new(page.clone()),
            is_synced: false,
            has_joined: false,
            is_greeted: false,
            state_vector: crdt::StateVector::new().encode(),
            viewers: None,
            arriving: Vec::new(),
            questions: VecDeque::new(),
            is_asked: false,
            posted: VecDeque::new(),
        }
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        if !self.is_asked
            && self.attendance.may_say()
            && let Some(question) = self.questions.front()
        {
            self.is_asked = true;
            self.attendance.say(ClientMessage::QueryStateVector);
            self.attendance
                .say(ClientMessage::SyncStep1(question.state_vector.clone()));
        }
        self.attendance.poll_work(context);
    }

    /// Whether the room has yet to answer something that is not an edit.
    fn has_questions(&self) -> bool {
        !self.arriving.is_empty() || !self.questions.is_empty()
    }

    fn ask(
        &mut self,
        page: &PageId,
        ack: Option<i64>,
        state_vector: Bytes,
        joins: bool,
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
    fn hear(&mut self, page: &PageId, message: &Arc<Outgoing>, frames: &mut Vec<Frame>) {
        match message.message() {
            ServerMessage::SyncStep1(state_vector) => {
                self.state_vector = state_vector.clone();
                let is_hello = !std::mem::replace(&mut self.is_greeted, true);
                if self.is_synced && !self.is_asked && !is_hello {
                    self.words.ask(state_vector.clone(), frames);
                }
            }
            ServerMessage::SyncStep2(update) if self.is_asked => {
                self.is_asked = false;
                if let Some(question) = self.questions.pop_front() {
                    self.answered(&question, update.clone(), frames);
                }
            }
            ServerMessage::SyncStep2(_) | ServerMessage::Delta(_) => {
                if self.is_synced {
                    self.words.delta(message.wire(SLOT, attachment), frames);
                }
            }
            ServerMessage::Awareness(_) => {
                if self.is_synced {
                    self.words.awareness(message.wire(SLOT, attachment), frames);
                }
            }
            ServerMessage::Viewers(_) => {
                self.viewers = Some(message.clone());
                match self.has_joined {
                    true => self.tell_viewers(frames),
                    false => self.tell_joined(frames),
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

    fn answered(&mut self, question: &Question, update: Bytes, frames: &mut Vec<Frame>) {
        let state_vector = self.state_vector.clone();
        if question.joins {
            self.arriving.push(Arrival {
                ack: question.ack,
                synced: Some((update, state_vector)),
            });
            self.tell_joined(frames);
        } else {
            self.words.synced(question.ack, update, state_vector, frames);
        }
    }

    /// Tells those who wait for it that they have joined, once it is known who else is there.
    fn tell_joined(&mut self, frames: &mut Vec<Frame>) {
        let Some(viewers) = &self.viewers else { return };
        let seat = self.attendance.seat();
        let is_first = !self.has_joined && !self.arriving.is_empty();
        for Arrival { ack, synced } in self.arriving.drain(..) {
            self.has_joined = true;
            let joined = Joined {
                role: seat.role().as_str(),
                seq: seat.seq(),
                synced,
            };
            self.words.joined(ack, viewers.message(), joined, frames);
        }
        if is_first {
            self.tell_viewers(frames);
        }
    }

    fn tell_viewers(&self, frames: &mut Vec<Frame>) {
        if let Some(message) = &self.viewers {
            let wire = |slot, encode: &dyn Fn(&ServerMessage) -> Bytes| message.wire(slot, encode);
            self.words.viewers(message.message(), wire, frames);
        }
    }
}

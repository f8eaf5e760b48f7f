//! A simulated room: the server's own [`Host`], the seats of its members, and what they are told, looked at as it is told.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::{ClientId, StateVector};
use pageroom::rooms::{
    Capabilities, Change, ClientMessage, Condition, Host, Input, MemberId, Newcomer, Outbox, Outgoing,
    Outlet, Pushed, Refusal, RefusalCode, Role, Room, ServerMessage, Standing,
};
use storage::{Committed, LoggedUpdate, PageId, Seq};

use crate::{
    disk::Disk,
    process::{Around, Command},
    properties,
};

/// Something that a member has posted.
#[derive(Debug)]
pub(crate) struct Posted {
    member: MemberId,
    own: Option<ClientId>,
    update: Bytes,
}

/// Who waits for an answer.
#[derive(Debug)]
pub(crate) enum Reply {
    Backend(usize),
    Member(Posted),
}

pub(crate) struct Seat {
    posts: bool,
    outbox: Arc<Outbox>,
    standing: Arc<Standing>,
    own: Option<ClientId>,
    role: Role,
    user: Option<Arc<str>>,
    /// The document messages that have no outcome yet, of a member that counts.
    counted: VecDeque<Bytes>,
    /// What it has written.
    wrote: Vec<Bytes>,
    /// Its marks that have not been said back, and how much it had written then.
    marks: VecDeque<(Bytes, usize)>,
    /// Since when it waits for the answer to its question.
    asked_at: Option<Instant>,
    /// Its outbox was full, and has not drained.
    is_behind: bool,
    /// Steps 2 that it has been given in this turn of the room.
    answers: usize,
}

/// What a member has been told.
#[derive(Debug)]
pub(crate) enum Told {
    Message(Arc<Outgoing>, Pushed),
    Closed(Refusal),
}

/// The way to a member, which notes what the member is told.
#[derive(Debug)]
struct Tapped {
    member: MemberId,
    outbox: Arc<Outbox>,
    told: Arc<Mutex<Vec<(MemberId, Told)>>>,
}

impl Tapped {
    fn note(&self, told: Told) {
        let mut all = self.told.lock().expect("nobody panics with the lock");
        all.push((self.member, told));
    }
}

impl Outlet for Tapped {
    fn capabilities(&self) -> Capabilities {
        self.outbox.capabilities()
    }

    fn push(&self, message: &Arc<Outgoing>) -> Pushed {
        let pushed = self.outbox.push(message);
        self.note(Told::Message(message.clone(), pushed));
        pushed
    }

    fn resume(&self) {
        self.outbox.resume();
    }

    fn close(&self, refusal: Refusal) {
        self.outbox.close(refusal.clone());
        self.note(Told::Closed(refusal));
    }
}

/// A room and who is in it.
pub(crate) struct Live {
    page: PageId,
    pub(crate) host: Host<Reply>,
    pub(crate) seats: BTreeMap<MemberId, Seat>,
    told: Arc<Mutex<Vec<(MemberId, Told)>>>,
    /// The last connection of each honest client, also when it is gone already.
    newest: BTreeMap<ClientId, MemberId>,
    /// Since when the store has been asked to keep something.
    pub(crate) append_since: Option<Instant>,
    pub(crate) stored: Option<Committed>,
    max_outbox_bytes: usize,
}

impl Seat {
    /// Whether it takes nothing that it hears for an acknowledgement.
    fn counts(&self) -> bool {
        self.outbox.capabilities().receipts
    }
}

impl Live {
    pub(crate) fn new(page: PageId, room: Room, max_outbox_bytes: usize) -> Self {
        Self {
            host: Host::new(room),
            page,
            seats: BTreeMap::new(),
            told: Arc::default(),
            newest: BTreeMap::new(),
            append_since: None,
            stored: None,
            max_outbox_bytes,
        }
    }

    pub(crate) fn room(&mut self) -> &mut Room {
        self.host.room()
    }

    /// Whether a connection has its seat here and nothing of it waits.
    pub(crate) fn has_seat(&self, member: MemberId) -> bool {
        self.seats.contains_key(&member)
    }

    /// Whether some member has not been told what it waits for.
    pub(crate) fn owes_something(&self) -> bool {
        self.seats
            .values()
            .any(|seat| !seat.counted.is_empty() || !seat.marks.is_empty())
    }

    /// Rows come that make no sense.
    pub(crate) fn break_document(&mut self, now: Instant) {
        let row = LoggedUpdate {
            seq: 1,
            data: Bytes::from_static(&[1, 1, 1]),
            user: None,
        };
        self.host.handle(now, Input::Remote { rows: vec![row] });
    }

    pub(crate) fn change(&mut self, now: Instant, member: MemberId, change: Change) {
        if let Some(seat) = self.seats.get_mut(&member) {
            if let Change::Role(role) = change {
                seat.role = role;
            }
            seat.standing.set(change);
        }
        self.host.look(now, BTreeSet::from([member]));
    }

    /// What has been admitted: the structs, and the bytes, which deletions add to as well.
    fn admitted(&mut self, asks: bool) -> (StateVector, usize) {
        let document = self.room().document();
        let bytes = if asks { 0 } else { document.encoded_size_estimate() };
        (document.state_vector().clone(), bytes)
    }

    pub(crate) fn handle_command(&mut self, around: &Around<'_>, command: Command) {
        let now = around.now;
        match command {
            Command::Join {
                member,
                role,
                user,
                outbox,
                own,
                posts,
            } => self.join(now, member, (role, user), outbox, (own, posts)),
            Command::Said { member, messages } => {
                let may_write = self.seats.get(&member).is_some_and(|seat| {
                    let has_lost = |own| around.rights.has_lost_writing(own, now);
                    seat.role.may_edit() && !seat.own.is_some_and(has_lost)
                });
                // To answer a question the document is encoded, and its size is known better then.
                let asks = messages
                    .iter()
                    .any(|message| matches!(message, ClientMessage::SyncStep1(_)));
                let before = (!may_write).then(|| self.admitted(asks));
                self.said(now, member, messages);
                if let Some(before) = before {
                    properties::who_may_not_write_changes_nothing(&before, &self.admitted(asks));
                }
            }
            Command::Change { member, change } => self.change(now, member, change),
            Command::Left { member, departure } => {
                self.seats.remove(&member);
                self.host.handle(now, Input::Left { member, departure });
            }
            Command::CaughtUp { member } => self.host.handle(now, Input::Drained { member }),
            Command::Post { post, update } => self.host.post(
                now,
                (None, None),
                (update, Condition::Always),
                Reply::Backend(post),
            ),
            Command::Drain { abandon } => self.host.handle(now, Input::Draining { abandon }),
        }
    }

    fn join(
        &mut self,
        now: Instant,
        member: MemberId,
        (role, user): (Role, Option<Arc<str>>),
        outbox: Arc<Outbox>,
        (own, posts): (Option<ClientId>, bool),
    ) {
        let outlet = Arc::new(Tapped {
            member,
            outbox: outbox.clone(),
            told: self.told.clone(),
        });
        let standing = Arc::<Standing>::default();
        let seat = Seat {
            posts,
            outbox,
            standing: standing.clone(),
            own,
            role,
            user: user.clone(),
            counted: VecDeque::new(),
            wrote: Vec::new(),
            marks: VecDeque::new(),
            asked_at: None,
            is_behind: false,
            answers: 0,
        };
        self.seats.insert(member, seat);
        if let Some(own) = own {
            self.newest.insert(own, member);
        }
        let newcomer = Newcomer {
            member,
            role,
            user,
            stamp: None,
            outlet,
            standing,
        };
        self.host.join(now, newcomer);
    }

    /// A member says something: what it writes is posted if it has each of its edits answered by itself.
    fn said(&mut self, now: Instant, member: MemberId, messages: Vec<ClientMessage>) {
        let posts = self.seats.get(&member).is_some_and(|seat| seat.posts);
        for message in messages {
            if let Some(seat) = self.seats.get_mut(&member) {
                seat.note(now, &message);
            }
            match message {
                ClientMessage::Update(update) | ClientMessage::SyncStep2(update) if posts => {
                    let seat = self.seats.get(&member);
                    let (own, user) = seat.map_or((None, None), |seat| (seat.own, seat.user.clone()));
                    let posted = Posted {
                        member,
                        own,
                        update: update.clone(),
                    };
                    self.host.post(
                        now,
                        (Some(member), user),
                        (update, Condition::Always),
                        Reply::Member(posted),
                    );
                }
                message => {
                    let messages = vec![message];
                    self.host.handle(now, Input::Said { member, messages });
                }
            }
        }
    }

    /// What has become of something that a member posted. Who is refused comes again with everything that it has.
    pub(crate) fn answer(&mut self, around: &mut Around<'_>, posted: Posted, result: Result<Seq, Refusal>) {
        let Posted { member, own, update } = posted;
        match result {
            Ok(_) => properties::what_is_answered_is_durable(around.disk, &self.page, own, &update),
            Err(refusal) if refusal.code == RefusalCode::ReadOnly => {}
            Err(refusal) => {
                if let Some(seat) = self.seats.get(&member) {
                    seat.outbox.close(refusal);
                }
            }
        }
    }

    /// Looks at everything that members have been told since the last look.
    pub(crate) fn look(&mut self, around: &mut Around<'_>) {
        let told = std::mem::take(&mut *self.told.lock().expect("nobody panics with the lock"));
        for (to, told) in told {
            match told {
                Told::Message(message, pushed) => self.look_at(around, to, &message, pushed),
                Told::Closed(refusal) => {
                    around
                        .trace
                        .note(|| format!("{} sends {to:?} away: {refusal}", self.page));
                    self.seats.remove(&to);
                }
            }
        }
    }

    fn look_at(&mut self, around: &mut Around<'_>, to: MemberId, message: &Outgoing, pushed: Pushed) {
        let Some(seat) = self.seats.get_mut(&to) else {
            return;
        };
        let said = message.message();
        let is_late = self
            .append_since
            .is_some_and(|since| around.now >= since + Duration::from_secs(2));
        // A client that has come back does not hear what its older connection is told.
        let is_newest = |own: &ClientId| self.newest.get(own) == Some(&to);
        let own = seat.own.filter(|own| is_newest(own) && !seat.counts());
        let document = self.host.room().document();
        properties::only_what_is_durable_is_acknowledged(around.disk, &self.page, own, said, is_late);
        properties::only_what_is_admitted_is_told(document, said);
        assert!(
            !seat.counts() || !matches!(said, ServerMessage::Stored(_)),
            "an echo goes to a client that has no word for it"
        );
        seat.hears(around.disk, &self.page, said);
        let queued = seat.outbox.queued_bytes();
        properties::the_outbox_is_bounded(queued, self.max_outbox_bytes, document);
        if pushed == Pushed::FellBehind {
            seat.is_behind = true;
            around
                .trace
                .note(|| format!("{to:?} falls behind on {}", self.page));
        }
    }

    /// A turn of the room begins.
    pub(crate) fn begins_turn(&mut self) {
        for seat in self.seats.values_mut() {
            seat.answers = 0;
        }
    }

    /// A member that has asked for what it lacks is answered as soon as everything is durable.
    pub(crate) fn whoever_asked_is_answered(&mut self, now: Instant) {
        if self.append_since.is_some() || self.room().unstored_bytes() > 0 {
            return;
        }
        for (member, seat) in self.seats.iter().filter(|(_, seat)| !seat.is_behind) {
            assert!(
                seat.asked_at.is_none_or(|at| at == now),
                "{member:?} of {} has asked, everything is durable, and it has no answer",
                self.page
            );
        }
    }
}

impl Seat {
    /// Notes what the member says that it is to be told the outcome of.
    fn note(&mut self, now: Instant, message: &ClientMessage) {
        match message {
            ClientMessage::Update(update) | ClientMessage::SyncStep2(update) => {
                if self.counts() && !self.posts {
                    self.counted.push_back(update.clone());
                }
                self.wrote.push(update.clone());
            }
            ClientMessage::Mark(mark) => self.marks.push_back((mark.clone(), self.wrote.len())),
            ClientMessage::SyncStep1(_) => self.asked_at = Some(now),
            _ => {}
        }
    }

    /// Compares what the member is told with what it waits for.
    fn hears(&mut self, disk: &mut Disk, page: &PageId, said: &ServerMessage) {
        match said {
            ServerMessage::SyncStep2(_) => {
                (self.asked_at, self.is_behind) = (None, false);
                self.answers += 1;
                // One that has waited for the store, and one for what has been asked since.
                assert!(
                    self.answers <= 2,
                    "a member is answered more often than the room settles"
                );
            }
            ServerMessage::Receipts { accepted, count } => {
                for _ in 0..*count {
                    let update = self
                        .counted
                        .pop_front()
                        .expect("an outcome for each message, once");
                    if *accepted {
                        properties::what_is_answered_is_durable(disk, page, self.own, &update);
                    }
                }
            }
            ServerMessage::Mark(mark) => {
                let at = self.marks.iter().position(|(payload, _)| payload == mark);
                let at = at.expect("a mark of this member, said back once");
                let (_, written) = self.marks.drain(..=at).next_back().expect("the mark");
                for update in self.wrote.drain(..written) {
                    properties::what_is_answered_is_durable(disk, page, self.own, &update);
                }
                for (_, later) in &mut self.marks {
                    *later -= written;
                }
            }
            _ => {}
        }
    }
}

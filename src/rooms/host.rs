//! What runs a room, without a clock, tasks and a store: it hands over what happens, lets the room settle, and carries out its
//! effects in its [`Surroundings`]. The server's task and the simulation are two callers of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use crdt::IdentityStamp;
use storage::{Generation, PageCommit, Seq};

use super::{
    Change, CompactRequest, Condition, Count, Effect, Input, MemberId, Outlet, Refusal, RequestId, Role,
    Room, Sight, Standing,
};
use crate::telemetry::Traces;

/// What a room needs of the world.
pub trait Surroundings {
    /// Takes the answer to a request.
    type Reply;

    /// Answers a request.
    fn answer(&mut self, reply: Self::Reply, result: Result<Seq, Refusal>);

    /// Stores this, with the spans of the edits in it that are sampled. The answer is [`Input::Stored`].
    fn append(&mut self, commit: PageCommit, traces: Traces);

    /// Writes a snapshot, apart from edits. The answer is [`Input::Compacted`].
    fn compact(&mut self, request: CompactRequest);

    /// Reads the rows between the two numbers, both exclusive. The answer is [`Input::Remote`]; if there is none, the room asks again.
    /// Of a page that has another generation now there is none.
    fn read_foreign(&mut self, generation: Option<Generation>, between: (Seq, Seq));

    /// Tells who looks at the room what is to be seen.
    fn seen(&mut self, sight: Sight);

    /// Counts something.
    fn count(&mut self, count: Count, times: usize);

    /// Nothing holds the room in memory any more. Says whether it may end; somebody may be about to talk to it.
    fn retire(&mut self) -> bool;
}

/// Somebody who comes into a room.
#[derive(Debug)]
pub struct Newcomer {
    /// The seat.
    pub member: MemberId,
    /// What the member may do.
    pub role: Role,
    /// Whose connection it is.
    pub user: Option<Arc<str>>,
    /// Says in its presence who it is, where the server does that.
    pub stamp: Option<Arc<IdentityStamp>>,
    /// The way to it.
    pub outlet: Arc<dyn Outlet>,
    /// What becomes of it while it is in the room.
    pub standing: Arc<Standing>,
}

/// A room and the requests that wait in it.
#[derive(Debug)]
pub struct Host<R> {
    room: Room,
    standings: BTreeMap<MemberId, Arc<Standing>>,
    replies: BTreeMap<RequestId, R>,
    last_request: u64,
    effects: Vec<Effect>,
    has_ended: bool,
}

impl<R> Host<R> {
    /// Runs a room that has just been opened.
    pub fn new(room: Room) -> Self {
        Self {
            room,
            standings: BTreeMap::new(),
            replies: BTreeMap::new(),
            last_request: 0,
            effects: Vec::new(),
            has_ended: false,
        }
    }

    /// The room, to look at.
    pub fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// Requests that have not been answered.
    pub fn waiting(&self) -> impl Iterator<Item = &R> {
        self.replies.values()
    }

    /// Whether the room has ended.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Hands over something that happened which nobody waits for.
    pub fn handle(&mut self, now: Instant, input: Input) {
        if let Input::Left { member, .. } = &input {
            self.standings.remove(member);
        }
        // Nothing of a member is taken in that it may not do any more.
        if let Input::Said { member, .. } = &input {
            self.look_at(now, *member);
        }
        self.room.handle(now, input, &mut self.effects);
    }

    /// Hands over what `work` does, with the spans of the edits in it that are sampled.
    pub(super) fn traced(&mut self, traces: Traces, work: impl FnOnce(&mut Self)) {
        if traces.is_empty() {
            return work(self);
        }
        let before = self.effects.len();
        self.room.trace(traces.clone());
        traces.take_in(|| work(self));
        self.room.trace(Traces::default());
        let refusal = self.effects.iter().skip(before).find_map(|effect| match effect {
            Effect::Count(Count::Refused(kind), _) => Some(*kind),
            Effect::Answer {
                result: Err(refusal), ..
            } => Some(refusal.code.as_str()),
            Effect::Answer { result: Ok(_), .. }
            | Effect::Count(..)
            | Effect::Append(_)
            | Effect::Compact(_)
            | Effect::ReadForeign { .. }
            | Effect::Seen(_) => None,
        });
        if let Some(kind) = refusal {
            traces.refused(kind);
        }
    }

    /// Somebody comes.
    pub fn join(&mut self, now: Instant, newcomer: Newcomer) {
        let Newcomer {
            member,
            role,
            user,
            stamp,
            outlet,
            standing,
        } = newcomer;
        self.standings.insert(member, standing);
        let joined = Input::Joined {
            member,
            role,
            user,
            stamp,
            outlet,
        };
        self.room.handle(now, joined, &mut self.effects);
    }

    /// A backend or a member wants an update stored.
    pub fn post(
        &mut self,
        now: Instant,
        (member, user): (Option<MemberId>, Option<Arc<str>>),
        (update, condition): (Bytes, Condition),
        reply: R,
    ) {
        if let Some(member) = member {
            self.look_at(now, member);
        }
        let request = self.request(reply);
        let posted = Input::Posted {
            request,
            member,
            user,
            update,
            condition,
        };
        self.room.handle(now, posted, &mut self.effects);
    }

    /// A reader wants to be told when everything that is in the document now is stored.
    pub fn wait(&mut self, now: Instant, reply: R) {
        let request = self.request(reply);
        self.room
            .handle(now, Input::Awaited { request }, &mut self.effects);
    }

    /// Tells the room what has become of members whose standing has changed.
    pub fn look(&mut self, now: Instant, members: BTreeSet<MemberId>) {
        for member in members {
            self.look_at(now, member);
        }
    }

    fn look_at(&mut self, now: Instant, member: MemberId) {
        let change = self.standings.get(&member).and_then(|standing| standing.take());
        let input = match change {
            Some(Change::Role(role)) => Input::RoleChanged { member, role },
            Some(Change::Removed(refusal)) => Input::Removed { member, refusal },
            None => return,
        };
        self.room.handle(now, input, &mut self.effects);
    }

    /// Lets the room settle, carries out what it asks for, and ends it when nothing holds it.
    pub fn settle(&mut self, now: Instant, around: &mut impl Surroundings<Reply = R>) {
        self.room.settle(now, &mut self.effects);
        for effect in std::mem::take(&mut self.effects) {
            self.run_effect(around, effect);
        }
        if self.room.may_retire(now) {
            self.has_ended = around.retire();
            if !self.has_ended {
                self.room.stay(now);
            }
        }
    }

    fn run_effect(&mut self, around: &mut impl Surroundings<Reply = R>, effect: Effect) {
        match effect {
            Effect::Append(commit) => around.append(commit, self.room.committing()),
            Effect::Compact(request) => around.compact(request),
            Effect::ReadForeign {
                generation,
                after,
                before,
            } => around.read_foreign(generation, (after, before)),
            Effect::Answer { request, result } => {
                if let Some(reply) = self.replies.remove(&request) {
                    around.answer(reply, result);
                }
            }
            Effect::Seen(sight) => around.seen(sight),
            Effect::Count(count, times) => around.count(count, times),
        }
    }

    fn request(&mut self, reply: R) -> RequestId {
        self.last_request += 1;
        let request = RequestId(self.last_request);
        self.replies.insert(request, reply);
        request
    }
}

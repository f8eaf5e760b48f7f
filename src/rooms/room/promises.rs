//! What a room has promised to say once something is durable, and who waits for it: the one place where anything waits for the store.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::RangeInclusive,
    sync::Arc,
    time::Instant,
};

use bytes::Bytes;
use crdt::{StateVector, Update};

use super::{
    Effect, MemberId, Outgoing, Refusal, RequestId, Room, ServerMessage,
    batch::merged,
    log::FlushNumber,
    status::{Outcome, Statuses, TooMany},
};

/// Echoes of one member for one flush are merged when there are more than this many.
const MAX_ECHOES: usize = 16;

/// Promises for different flushes are joined where that makes no difference when there are more than this many a member.
const MAX_APART: usize = 16;

/// A step 2 that waits for its content to be durable.
#[derive(Debug)]
struct Reply {
    flush: FlushNumber,
    /// What the member has.
    has: StateVector,
    message: Arc<Outgoing>,
}

/// Everything that waits for a flush to be durable.
#[derive(Debug, Default)]
pub(super) struct Promises {
    /// Steps 2, at most one a member. They do not wait for a store that is late.
    replies: BTreeMap<MemberId, Reply>,
    /// Acknowledgements, as one update a member and flush.
    echoes: BTreeMap<(FlushNumber, MemberId), Vec<Update>>,
    /// The outcomes of document messages, for members that count.
    statuses: BTreeMap<MemberId, Statuses>,
    /// What members want to be told then. A newer one vouches for all that an older one would have vouched for.
    barriers: BTreeMap<(FlushNumber, MemberId), Bytes>,
    /// Requests whose updates are stored then.
    answers: VecDeque<(FlushNumber, RequestId)>,
    /// Requests of readers. They do not wait for a store that is late.
    reads: VecDeque<(FlushNumber, RequestId)>,
}

impl Promises {
    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty()
            && self.echoes.is_empty()
            && self.statuses.is_empty()
            && self.barriers.is_empty()
            && self.answers.is_empty()
            && self.reads.is_empty()
    }

    /// Whether something waits that does not wait for a store that is late.
    pub(super) fn is_impatient(&self) -> bool {
        !self.replies.is_empty() || !self.reads.is_empty()
    }

    /// A step 2 for a member, in place of an older one.
    pub(super) fn reply(
        &mut self,
        flush: FlushNumber,
        to: MemberId,
        has: StateVector,
        message: Arc<Outgoing>,
    ) {
        let reply = Reply { flush, has, message };
        self.replies.insert(to, reply);
    }

    /// Takes back the step 2 that waits for a member, and says what it was made for.
    pub(super) fn take_back_reply(&mut self, member: MemberId) -> Option<StateVector> {
        self.replies.remove(&member).map(|reply| reply.has)
    }

    /// An acknowledgement of an update.
    pub(super) fn echo(&mut self, flush: FlushNumber, to: MemberId, update: Update) {
        let echoes = self.echoes.entry((flush, to)).or_default();
        echoes.push(update);
        if echoes.len() > MAX_ECHOES {
            *echoes = vec![crdt::merge(&*echoes)];
        }
    }

    /// The answer to a request.
    pub(super) fn answer(&mut self, flush: FlushNumber, request: RequestId) {
        self.answers.push_back((flush, request));
    }

    /// The answer to a reader.
    pub(super) fn read(&mut self, flush: FlushNumber, request: RequestId) {
        self.reads.push_back((flush, request));
    }

    /// What a member wants to be told when a flush is durable.
    pub(super) fn barrier(&mut self, flush: FlushNumber, member: MemberId, payload: Bytes) {
        self.barriers.insert((flush, member), payload);
    }

    /// Joins what waits for flushes that become durable together, when so much waits that it matters.
    fn join(&mut self, unsent: &RangeInclusive<FlushNumber>, members: usize) {
        if self.echoes.len() + self.barriers.len() <= MAX_APART * members.max(1) {
            return;
        }
        let number = |flush| {
            if unsent.contains(&flush) {
                *unsent.end()
            } else {
                flush
            }
        };
        for ((flush, to), updates) in std::mem::take(&mut self.echoes) {
            let echoes = self.echoes.entry((number(flush), to)).or_default();
            echoes.extend(updates);
            *echoes = vec![merged(echoes.iter())];
        }
        let barriers = std::mem::take(&mut self.barriers).into_iter();
        self.barriers = barriers
            .map(|((flush, member), payload)| ((number(flush), member), payload))
            .collect();
    }

    /// A member has left.
    pub(super) fn forget(&mut self, member: MemberId) {
        self.replies.remove(&member);
        self.statuses.remove(&member);
        self.echoes.retain(|(_, to), _| *to != member);
        self.barriers.retain(|(_, to), _| *to != member);
    }
}

/// Takes the first entry of a map by flush whose flush is durable.
fn pop_due<V>(
    by_flush: &mut BTreeMap<(FlushNumber, MemberId), V>,
    stored: FlushNumber,
) -> Option<(MemberId, V)> {
    let entry = by_flush.first_entry().filter(|entry| entry.key().0 <= stored)?;
    let (_, member) = *entry.key();
    Some((member, entry.remove()))
}

impl Room {
    /// Keeps the promises that can be kept now.
    pub(super) fn keep_promises(&mut self, now: Instant, effects: &mut Vec<Effect>) {
        let stored = self.log.stored();
        let is_late = self.log.is_late(now);
        self.promises.join(&self.log.unsent(), self.members.len());
        let is_answered = |_: &MemberId, reply: &mut Reply| is_late || reply.flush <= stored;
        for (to, reply) in self.promises.replies.extract_if(.., is_answered) {
            if let Some(seat) = self.members.get(&to) {
                seat.outlet.push(&reply.message);
            }
        }
        // Behind the steps 2, on which what is acknowledged may build.
        while let Some((to, updates)) = pop_due(&mut self.promises.echoes, stored) {
            self.echo(to, &merged(updates.iter()));
        }
        let seq = self.position.seq();
        let is_kept = |(flush, _): &mut (FlushNumber, RequestId)| *flush <= stored;
        let is_read = |(flush, _): &mut (FlushNumber, RequestId)| is_late || *flush <= stored;
        let Promises { answers, reads, .. } = &mut self.promises;
        let answers = std::iter::from_fn(|| answers.pop_front_if(is_kept));
        let reads = std::iter::from_fn(|| reads.pop_front_if(is_read));
        effects.extend(answers.chain(reads).map(|(_, request)| Effect::Answer {
            request,
            result: Ok(seq),
        }));
    }

    /// Tells members that count what has become of their document messages, and says back the barriers, as far as that is known.
    pub(super) fn tell_outcomes(&mut self) {
        let stored = self.log.stored();
        let Self {
            members, promises, ..
        } = self;
        promises.statuses.retain(|to, statuses| {
            let Some(seat) = members.get(to) else {
                return false;
            };
            while let Some((accepted, count)) = statuses.take(stored) {
                seat.send(ServerMessage::Receipts { accepted, count });
            }
            !statuses.is_empty()
        });
        while let Some((member, payload)) = pop_due(&mut self.promises.barriers, stored) {
            self.say_back(member, payload);
        }
    }

    /// What becomes of a message that brings nothing new: what it repeats may still be on its way to the store.
    pub(super) fn nothing_new(&self) -> Outcome {
        Outcome::DurableWith(self.log.latest())
    }

    /// Notes what a document message came to, if its member counts. An error ends the member.
    pub(super) fn note_outcome(&mut self, member: MemberId, outcome: Outcome) -> Result<(), Refusal> {
        if self.wants_echo(member) || !self.members.contains_key(&member) {
            return Ok(());
        }
        let unsent = self.log.unsent();
        let statuses = self.promises.statuses.entry(member).or_default();
        statuses
            .note(outcome, &unsent)
            .map_err(|TooMany| Refusal::unavailable("too much that was said waits for the store"))
    }

    /// Acknowledges what a member sent, or may have written, once all of it is durable.
    pub(super) fn acknowledge(&mut self, to: MemberId, update: Update) {
        if !self.wants_echo(to) {
            return;
        }
        let flush = self.log.latest();
        if self.log.is_stored(flush) {
            self.echo(to, &update);
        } else {
            self.promises.echo(flush, to, update);
        }
    }

    /// Whether a member takes what comes back of its own edits for the acknowledgement.
    pub(super) fn wants_echo(&self, member: MemberId) -> bool {
        self.members.get(&member).is_some_and(|seat| seat.wants_echo())
    }

    /// Answers a request when everything that is in the document now is stored.
    pub(super) fn answer_when_stored(&mut self, request: RequestId, effects: &mut Vec<Effect>) {
        let flush = self.log.latest();
        if self.log.is_stored(flush) {
            let result = Ok(self.position.seq());
            effects.push(Effect::Answer { request, result });
        } else {
            self.promises.answer(flush, request);
        }
    }

    /// Answers a reader when everything that is in the document now is stored, or the store is late.
    pub(super) fn awaited(&mut self, now: Instant, request: RequestId, effects: &mut Vec<Effect>) {
        let flush = self.log.latest();
        if self.log.is_stored(flush) || self.log.is_late(now) {
            let result = Ok(self.position.seq());
            effects.push(Effect::Answer { request, result });
        } else {
            self.promises.read(flush, request);
        }
    }
}

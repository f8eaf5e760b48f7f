//! Awareness: who is here and where, one opaque JSON state per client id, each bound to the connection that introduced it.
//!
//! On the wire an awareness update is a count, then for each client: its id, a clock, and a JSON string, `null` when it
//! has left. Yjs clients take an entry when its clock is higher than what they know (0 for an unknown client), or equal
//! and `null` for a client that is present. They also send on what they hear of *others*; those echoes are refused here.
//!
//! What goes out has the clock that came in, or the next one where peers would not take that: the first state of a client
//! (they ignore clock 0), the state of one that comes back with the clock it had when it was withdrawn (they have seen that
//! clock), and the states that somebody who comes back is told (it has forgotten them, and not their clocks). Never a
//! higher one: a client also takes over what it hears of *itself* with a higher clock, from us or by way of its peers, so
//! one step further a state that it has replaced meanwhile would come back to it. A client that takes over the next clock,
//! with the state that it shows anyway, has the same clock as everybody again. One that comes back further behind is told that
//! it is gone, which it contradicts with a clock that peers take.
//!
//! An owner may wear a [`Badge`]: its states go out with what the server knows of it. It hears them so itself, and goes on from
//! there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use serde::de::IgnoredAny;

use crate::badge::Badge;
use crate::encoding::{Reader, Write, buffer_length, number_length};
use crate::error::DecodeError;
use crate::state_vector::ClientId;

/// Bounds on awareness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwarenessLimits {
    /// Bytes of one client's state.
    pub max_state_bytes: usize,
    /// Client ids one owner may hold.
    pub max_clients_per_owner: usize,
    /// How long states of a lost owner are kept.
    pub grace: Duration,
    /// How long a state of a present owner lives without renewal.
    pub timeout: Duration,
    /// How many withdrawn client ids are remembered.
    pub max_tombstones: usize,
}

impl Default for AwarenessLimits {
    fn default() -> Self {
        Self {
            max_state_bytes: 64 << 10,
            max_clients_per_owner: 100,
            grace: Duration::from_secs(3),
            timeout: Duration::from_secs(30),
            max_tombstones: 1024,
        }
    }
}

/// The largest clock taken from outside; what goes out may be higher.
const MAX_CLOCK: u32 = 1 << 31;

/// How deep a state may be nested. Peers parse it with whatever stack they have.
const MAX_DEPTH: usize = 64;

/// One client's state, or that it has none any more, as it is sent to others. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwarenessChange {
    /// The client.
    pub client: ClientId,
    /// The clock it is sent with.
    pub clock: u32,
    /// JSON text, or `None` when withdrawn.
    pub state: Option<Arc<str>>,
}

/// What an awareness update did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwarenessOutcome {
    /// What others have to be told.
    pub changed: Vec<AwarenessChange>,
    /// What the one who said it has to be told before others can be: they know a later clock of its client and would ignore this
    /// one, as its connection broke before it heard of that, or as it counts anew. It contradicts that it is gone with the next.
    pub overtaken: Vec<AwarenessChange>,
    /// How many entries were refused because their client id belongs to somebody else. Yjs clients send on what they
    /// hear of others, so this alone is no offence.
    pub refused_foreign: usize,
    /// How many entries were refused because they, or their number, exceeded a limit.
    pub refused_too_large: usize,
}

/// What is said when somebody comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Introduction<O> {
    /// To the one who comes: everybody present whose connection is not broken, if possible with clocks above those that a client
    /// knew before it was away, because it has forgotten the states and not the clocks.
    pub present: Vec<AwarenessChange>,
    /// To the owners of those whose clock was raised for that, so that they go on counting from there.
    pub raised: Vec<(O, AwarenessChange)>,
}

/// The same state again within this time is what we sent ourselves, said back.
const ECHO_WINDOW: Duration = Duration::from_secs(10);

/// All awareness states of a document. `O` says who owns a client id: a connection.
#[derive(Debug)]
pub struct Awareness<O> {
    limits: AwarenessLimits,
    /// In boxes, because a tree has place for eleven and most documents have one or two.
    present: BTreeMap<ClientId, Box<Present<O>>>,
    withdrawn: BTreeMap<ClientId, Withdrawn<O>>,
    owners: BTreeMap<O, Owner>,
    /// No state has to go before this; it may turn out that none has to go then either.
    next_deadline: Option<Instant>,
}

/// A connection.
#[derive(Debug)]
struct Owner {
    /// Since when it has been told who is here.
    came: Instant,
    /// It has said something.
    spoke: bool,
    /// How many present client ids it holds.
    held: usize,
    /// Says in each of its states who it is.
    badge: Option<Arc<Badge>>,
}

#[derive(Debug)]
struct Present<O> {
    owner: O,
    /// The owner's connection broke.
    lost: bool,
    clock_in: u32,
    clock_out: u32,
    state: Arc<str>,
    /// When everybody was last told.
    told: Instant,
    /// When it will be withdrawn if nothing is heard.
    deadline: Instant,
}

#[derive(Debug, Clone, Copy)]
struct Withdrawn<O> {
    owner: O,
    clock_in: u32,
    clock_out: u32,
    since: Instant,
}

struct Entry<'a> {
    client: ClientId,
    clock: u32,
    state: Option<&'a str>,
}

impl<O: Copy + Eq + Ord> Awareness<O> {
    /// Nobody is here.
    pub fn new(limits: AwarenessLimits) -> Self {
        Self {
            limits,
            present: BTreeMap::new(),
            withdrawn: BTreeMap::new(),
            owners: BTreeMap::new(),
            next_deadline: None,
        }
    }

    /// Takes an awareness update from `owner`. A client id that another present owner holds is taken over only when
    /// `may_take_over(holder, owner)`, which should be so when both are the same user.
    ///
    /// # Errors
    /// When the bytes are not an awareness update; nothing was changed.
    pub fn apply(
        &mut self,
        now: Instant,
        owner: O,
        update: &[u8],
        may_take_over: impl Fn(O, O) -> bool,
    ) -> Result<AwarenessOutcome, DecodeError> {
        let mut outcome = AwarenessOutcome::default();
        let entries = read_entries(update)?;
        let speaker = self.owner_entry(now, owner);
        // The first state that clients show is their own, if they show one. Before it some say that they have forgotten everybody
        // else, which they did when their connection broke.
        let hello = (!speaker.spoke).then_some(speaker.came);
        speaker.spoke |= entries.iter().any(|entry| entry.state.is_some());
        for entry in entries {
            if entry
                .state
                .is_some_and(|state| state.len() > self.limits.max_state_bytes)
            {
                outcome.refused_too_large += 1;
            } else {
                self.apply_entry(now, owner, hello, &entry, &may_take_over, &mut outcome);
            }
        }
        Ok(outcome)
    }

    fn apply_entry(
        &mut self,
        now: Instant,
        owner: O,
        hello: Option<Instant>,
        entry: &Entry<'_>,
        may_take_over: &impl Fn(O, O) -> bool,
        outcome: &mut AwarenessOutcome,
    ) {
        let Some(present) = self.present.get(&entry.client) else {
            let Some(state) = entry.state else { return };
            // A client that comes back brings the clock it had. So does the echo of another client, but that has been told
            // of it through this connection before, so it was here when this one came. Whose state ran out goes on counting
            // from where it was.
            let accepted = match self.withdrawn.get(&entry.client) {
                Some(before) if entry.clock >= before.clock_out => {
                    hello.is_some_and(|came| before.since <= came)
                        || entry.clock > before.clock_out
                        || (before.owner == owner && entry.clock > before.clock_in)
                }
                // Its connection may have broken before it heard with what clock it was shown.
                Some(before) if hello.is_some_and(|came| before.since <= came) => {
                    outcome.overtaken.push(gone(entry.client, before.clock_out));
                    return;
                }
                Some(before) => before.owner == owner && entry.clock > before.clock_in,
                None => true,
            };
            if !accepted {
                outcome.refused_foreign += 1;
            } else if self
                .owners
                .get(&owner)
                .is_some_and(|owner| owner.held >= self.limits.max_clients_per_owner)
            {
                outcome.refused_too_large += 1;
            } else {
                outcome
                    .changed
                    .push(self.enter(now, owner, entry.client, entry.clock, state));
            }
            return;
        };
        if present.owner == owner && !present.lost {
            // A client takes over the clock that we send with its state, and providers say back what they hear.
            // Renewals come every 15 s and have to reach the others, who withdraw what is not renewed for 30 s.
            let is_echo = entry.clock <= present.clock_out
                && entry.state == Some(&*present.state)
                && now < present.told + ECHO_WINDOW;
            if is_echo && entry.clock > present.clock_in {
                self.renew(now, entry.client, entry.clock);
                return;
            }
            let accepted =
                entry.clock > present.clock_in || (entry.clock == present.clock_in && entry.state.is_none());
            if !accepted {
                return;
            }
        } else {
            // Who has just come was told of everybody here, so what it says with the clock that it was told is an echo. (Somebody
            // who shows nothing says nothing before.)
            let is_echo =
                !present.lost && entry.clock == present.clock_out && entry.state == Some(&*present.state);
            let returns = (hello.is_some() && !is_echo) || entry.clock > present.clock_out;
            let free = present.lost || may_take_over(present.owner, owner);
            if !free || !returns || entry.state.is_none() {
                outcome.refused_foreign += 1;
                return;
            }
            // With the clock it had, and so with the state it had, it is what peers see.
            let is_shown = entry.clock == present.clock_in && entry.state == Some(&*present.state);
            if entry.clock < present.clock_out && !is_shown {
                outcome.overtaken.push(gone(entry.client, present.clock_out));
                return;
            }
        }
        outcome.changed.push(match entry.state {
            Some(state) => self.enter(now, owner, entry.client, entry.clock, state),
            None => self.withdraw(now, entry.client, entry.clock),
        });
    }

    /// What `owner` shows from now on says who it is. To be called before what it says.
    pub fn wear(&mut self, now: Instant, owner: O, badge: Arc<Badge>) {
        self.owner_entry(now, owner).badge = Some(badge);
    }

    /// The owner left: its states are withdrawn at once.
    pub fn leave(&mut self, now: Instant, owner: O) -> Vec<AwarenessChange> {
        match self.owners.remove(&owner) {
            Some(gone) if gone.held > 0 => self.withdraw_all(now, |present| present.owner == owner),
            _ => Vec::new(),
        }
    }

    /// The owner's connection broke: its states are kept for the grace period, and free to be claimed.
    pub fn lost(&mut self, now: Instant, owner: O) {
        if self.owners.remove(&owner).is_none_or(|lost| lost.held == 0) {
            return;
        }
        let deadline = now + self.limits.grace;
        for present in self.present.values_mut().filter(|present| present.owner == owner) {
            present.lost = true;
            present.deadline = present.deadline.min(deadline);
        }
        self.wake_at(deadline);
    }

    /// Withdraws what was not renewed or reclaimed in time.
    pub fn expire(&mut self, now: Instant) -> Vec<AwarenessChange> {
        if self.next_deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let gone = self.withdraw_all(now, |present| present.deadline <= now);
        self.next_deadline = self.present.values().map(|present| present.deadline).min();
        gone
    }

    /// When [`Awareness::expire`] should be called next.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.next_deadline
    }

    /// The present states with their owners (`None` while its connection is broken), in the order of client ids.
    pub fn entries(&self) -> impl Iterator<Item = (AwarenessChange, Option<O>)> + '_ {
        self.present.iter().map(|(&client, present)| {
            let change = AwarenessChange {
                client,
                clock: present.clock_out,
                state: Some(Arc::clone(&present.state)),
            };
            (change, (!present.lost).then_some(present.owner))
        })
    }

    /// Whose a client id is; `None` for an unknown one, and while its connection is broken.
    pub fn owner(&self, client: ClientId) -> Option<O> {
        self.present
            .get(&client)
            .filter(|present| !present.lost)
            .map(|present| present.owner)
    }

    /// Whether a client is known to have heard with which clock its state was last sent.
    pub fn is_confirmed(&self, client: ClientId) -> bool {
        self.present
            .get(&client)
            .is_none_or(|present| present.clock_in == present.clock_out)
    }

    /// How many clients have a state.
    pub fn len(&self) -> usize {
        self.present.len()
    }

    /// Whether nobody has a state.
    pub fn is_empty(&self) -> bool {
        self.present.is_empty()
    }

    /// All present states as one awareness update.
    pub fn encode_all(&self) -> Bytes {
        let changes: Vec<_> = self.entries().map(|(change, _)| change).collect();
        encode_changes(&changes)
    }

    /// What somebody is told who has just come, or asks. To be called for every owner that comes, before what it says: by this
    /// it is seen whether somebody comes back or says back what it was told.
    pub fn introduce(&mut self, now: Instant, owner: O) -> Introduction<O> {
        self.owner_entry(now, owner);
        let mut introduction = Introduction {
            present: Vec::with_capacity(self.present.len()),
            raised: Vec::new(),
        };
        for (&client, present) in self.present.iter_mut().filter(|(_, present)| !present.lost) {
            let raises = present.clock_out == present.clock_in;
            present.clock_out += u32::from(raises);
            let change = AwarenessChange {
                client,
                clock: present.clock_out,
                state: Some(Arc::clone(&present.state)),
            };
            if raises {
                introduction.raised.push((present.owner, change.clone()));
            }
            introduction.present.push(change);
        }
        introduction
    }

    fn owner_entry(&mut self, now: Instant, owner: O) -> &mut Owner {
        self.owners.entry(owner).or_insert(Owner {
            came: now,
            spoke: false,
            held: 0,
            badge: None,
        })
    }

    fn renew(&mut self, now: Instant, client: ClientId, clock: u32) {
        let deadline = now + self.limits.timeout;
        if let Some(present) = self.present.get_mut(&client) {
            present.clock_in = clock;
            present.deadline = deadline;
        }
    }

    fn enter(
        &mut self,
        now: Instant,
        owner: O,
        client: ClientId,
        clock: u32,
        state: &str,
    ) -> AwarenessChange {
        let deadline = now + self.limits.timeout;
        self.wake_at(deadline);
        // Not earlier: what others say back is compared as it was sent to them.
        let badge = self.owners.get(&owner).and_then(|owner| owner.badge.as_ref());
        let worn = badge.and_then(|badge| badge.put_on(state));
        let state = worn.as_deref().unwrap_or(state);
        let before = self.present.get(&client);
        self.withdrawn.remove(&client);
        let clock_out = match before {
            Some(present) if present.clock_out < clock => clock,
            _ => clock.saturating_add(1),
        };
        // Most updates are renewals, which change nothing but the clock.
        let state = match before {
            Some(present) if *present.state == *state => Arc::clone(&present.state),
            _ => Arc::from(state),
        };
        let holder = before
            .filter(|present| !present.lost)
            .map(|present| present.owner);
        if holder != Some(owner) {
            if let Some(holder) = holder {
                self.release(holder);
            }
            self.owner_entry(now, owner).held += 1;
        }
        let change = AwarenessChange {
            client,
            clock: clock_out,
            state: Some(Arc::clone(&state)),
        };
        self.present.insert(
            client,
            Box::new(Present {
                owner,
                lost: false,
                clock_in: clock,
                clock_out,
                state,
                told: now,
                deadline,
            }),
        );
        change
    }

    fn withdraw(&mut self, now: Instant, client: ClientId, clock: u32) -> AwarenessChange {
        let mut clock_out = clock;
        if let Some(present) = self.present.remove(&client) {
            if !present.lost {
                self.release(present.owner);
            }
            // Who sees the client takes this with the clock that it has.
            clock_out = clock.max(present.clock_out);
            self.withdrawn.insert(
                client,
                Withdrawn {
                    owner: present.owner,
                    clock_in: clock.max(present.clock_in),
                    clock_out,
                    since: now,
                },
            );
            if self.withdrawn.len() > self.limits.max_tombstones {
                let oldest = self.withdrawn.iter().min_by_key(|(_, withdrawn)| withdrawn.since);
                if let Some((&oldest, _)) = oldest {
                    self.withdrawn.remove(&oldest);
                }
            }
        }
        gone(client, clock_out)
    }

    fn withdraw_all(&mut self, now: Instant, gone: impl Fn(&Present<O>) -> bool) -> Vec<AwarenessChange> {
        let gone: Vec<_> = self
            .present
            .iter()
            .filter(|(_, present)| gone(present))
            .map(|(&client, _)| client)
            .collect();
        gone.into_iter()
            .map(|client| self.withdraw(now, client, 0))
            .collect()
    }

    fn release(&mut self, owner: O) {
        if let Some(owner) = self.owners.get_mut(&owner) {
            owner.held -= 1;
        }
    }

    fn wake_at(&mut self, deadline: Instant) {
        self.next_deadline = Some(self.next_deadline.map_or(deadline, |next| next.min(deadline)));
    }
}

/// Says that a client has left.
fn gone(client: ClientId, clock: u32) -> AwarenessChange {
    AwarenessChange {
        client,
        clock,
        state: None,
    }
}

/// Writes changes as one awareness update.
pub fn encode_changes<'a, I>(changes: I) -> Bytes
where
    I: IntoIterator<Item = &'a AwarenessChange>,
    I::IntoIter: Clone,
{
    const GONE: &str = "null";
    let changes = changes.into_iter();
    let (mut count, mut length) = (0u64, 0);
    for change in changes.clone() {
        count += 1;
        let state = change.state.as_deref().unwrap_or(GONE);
        length += number_length(change.client.0)
            + number_length(u64::from(change.clock))
            + buffer_length(state.len());
    }
    let mut bytes = BytesMut::with_capacity(number_length(count) + length);
    bytes.put_number(count);
    for change in changes {
        bytes.put_number(change.client.0);
        bytes.put_number(u64::from(change.clock));
        bytes.put_string(change.state.as_deref().unwrap_or(GONE));
    }
    bytes.freeze()
}

/// Whether these bytes are an awareness update.
///
/// # Errors
/// What is wrong with them.
pub fn check(update: &[u8]) -> Result<(), DecodeError> {
    read_entries(update).map(|_| ())
}

fn read_entries(update: &[u8]) -> Result<Vec<Entry<'_>>, DecodeError> {
    let mut reader = Reader::new(update);
    let count = reader.count()?;
    // Three bytes is the least an entry takes.
    let mut entries = Vec::with_capacity(count.min(reader.remaining() / 3));
    for _ in 0..count {
        let client = ClientId(reader.number()?);
        let clock = reader.number_up_to(MAX_CLOCK)?;
        let position = reader.position();
        let state = reader.string()?;
        if state != "null" {
            check_json(state, position)?;
        }
        entries.push(Entry {
            client,
            clock,
            state: (state != "null").then_some(state),
        });
    }
    if !reader.is_at_end() {
        return Err(DecodeError::TrailingBytes {
            position: reader.position(),
        });
    }
    Ok(entries)
}

fn check_json(state: &str, position: usize) -> Result<(), DecodeError> {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for byte in state.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(DecodeError::ValueTooDeep {
                        limit: MAX_DEPTH as u16,
                    });
                }
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    serde_json::from_str::<IgnoredAny>(state)
        .map(drop)
        .map_err(|_| DecodeError::InvalidJson { position })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALICE: ClientId = ClientId(11);
    const BOB: ClientId = ClientId(22);

    struct Room {
        awareness: Awareness<u32>,
        start: Instant,
        /// What a Yjs client that heard everything knows: clock, and whether the state is present.
        peer: BTreeMap<ClientId, (u32, Option<Arc<str>>)>,
    }

    impl Room {
        fn new() -> Self {
            #[expect(
                clippy::disallowed_methods,
                reason = "some moment to count from; no test depends on which"
            )]
            let start = Instant::now();
            Self {
                awareness: Awareness::new(AwarenessLimits::default()),
                start,
                peer: BTreeMap::new(),
            }
        }

        fn at(&self, seconds: f64) -> Instant {
            self.start + Duration::from_secs_f64(seconds)
        }

        fn say(
            &mut self,
            seconds: f64,
            owner: u32,
            client: ClientId,
            clock: u32,
            state: &str,
        ) -> AwarenessOutcome {
            let state = (state != "null").then(|| Arc::from(state));
            let update = encode_changes(&[AwarenessChange { client, clock, state }]);
            let now = self.at(seconds);
            let outcome = self.awareness.apply(now, owner, &update, |_, _| false).unwrap();
            self.hear(&outcome.changed);
            outcome
        }

        /// As `applyAwarenessUpdate` of y-protocols does. Every change must be taken, or be known.
        fn hear(&mut self, changes: &[AwarenessChange]) {
            for change in changes {
                let known = self.peer.get(&change.client).cloned().unwrap_or((0, None));
                let taken = known.0 < change.clock
                    || (known.0 == change.clock && change.state.is_none() && known.1.is_some());
                let is_known = known == (change.clock, change.state.clone());
                assert!(
                    taken || is_known,
                    "a peer that knows {known:?} would ignore {change:?}"
                );
                self.peer
                    .insert(change.client, (change.clock, change.state.clone()));
            }
        }

        /// What somebody else is told who has just come, and a peer that was there hears by another way.
        fn hear_again(&mut self, changes: &[AwarenessChange]) {
            for change in changes {
                if self
                    .peer
                    .get(&change.client)
                    .is_none_or(|known| known.0 < change.clock)
                {
                    self.hear(std::slice::from_ref(change));
                }
            }
        }

        fn come(&mut self, owner: u32) -> Introduction<u32> {
            let now = self.at(0.0);
            self.awareness.introduce(now, owner)
        }

        fn expire(&mut self, seconds: f64) -> usize {
            let now = self.at(seconds);
            let gone = self.awareness.expire(now);
            self.hear(&gone);
            gone.len()
        }

        fn sees(&self, client: ClientId) -> Option<&str> {
            self.peer.get(&client).and_then(|(_, state)| state.as_deref())
        }
    }

    #[test]
    fn a_first_state_at_clock_zero_reaches_the_others() {
        let mut room = Room::new();
        assert_eq!(room.say(0.0, 1, ALICE, 0, r#"{"name":"a"}"#).changed.len(), 1);
        assert_eq!(room.sees(ALICE), Some(r#"{"name":"a"}"#));
    }

    #[test]
    fn a_clean_leave_withdraws_exactly_the_owners_states_at_once() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 0, "{}");
        room.say(0.0, 2, BOB, 0, "{}");
        let gone = room.awareness.leave(room.at(1.0), 1);
        room.hear(&gone);
        assert_eq!((room.sees(ALICE), room.sees(BOB)), (None, Some("{}")));
    }

    #[test]
    fn a_quick_reconnect_does_not_flicker() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 7, "{}");
        room.awareness.lost(room.at(1.0), 1);
        assert_eq!(room.expire(3.9), 0);
        room.come(2);
        assert_eq!(room.say(3.9, 2, ALICE, 8, "{}").changed.len(), 1);
        assert_eq!(room.expire(4.1), 0);
        assert_eq!(room.sees(ALICE), Some("{}"));
    }

    #[test]
    fn a_broken_connection_is_withdrawn_after_the_grace_and_back_at_once() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 7, "{}");
        room.awareness.lost(room.at(1.0), 1);
        assert_eq!(room.awareness.next_deadline(), Some(room.at(4.0)));
        assert_eq!(room.expire(4.0), 1);
        assert_eq!(room.sees(ALICE), None);
        // The same clock as before (it has heard itself with 8): the client does not know that it was withdrawn.
        assert_eq!(room.say(9.0, 2, ALICE, 8, "{}").changed.len(), 1);
        assert_eq!(room.sees(ALICE), Some("{}"));
        // Its next clock is no higher than what was sent out, when it has not heard that yet.
        assert_eq!(room.say(10.0, 2, ALICE, 9, r#"{"x":1}"#).changed.len(), 1);
        assert_eq!(room.sees(ALICE), Some(r#"{"x":1}"#));
    }

    #[test]
    fn who_broke_off_before_hearing_its_clock_is_asked_for_a_later_one() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 1, "{}");
        room.awareness.lost(room.at(1.0), 1);
        assert_eq!(room.expire(4.0), 1);
        let back = room.say(9.0, 2, ALICE, 1, "{}");
        assert_eq!((back.changed, back.overtaken), (vec![], vec![gone(ALICE, 2)]));
        // As `applyAwarenessUpdate` of y-protocols answers to being declared gone.
        assert_eq!(room.say(9.1, 2, ALICE, 3, "{}").changed.len(), 1);
        assert_eq!(room.sees(ALICE), Some("{}"));
    }

    #[test]
    fn whose_state_ran_out_goes_on_counting_from_where_it_was() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 1, "{}");
        assert_eq!(room.expire(31.0), 1);
        assert_eq!(room.say(31.1, 1, ALICE, 2, "{}").changed.len(), 1);
        assert_eq!(room.sees(ALICE), Some("{}"));
    }

    #[test]
    fn who_counts_anew_is_asked_for_a_later_clock() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 57, "{}");
        room.awareness.lost(room.at(1.0), 1);
        room.come(2);
        let back = room.say(1.1, 2, ALICE, 1, r#"{"new":1}"#);
        assert_eq!((back.changed, back.overtaken), (vec![], vec![gone(ALICE, 58)]));
        assert_eq!(room.say(1.2, 2, ALICE, 59, r#"{"new":1}"#).changed.len(), 1);
        assert_eq!(room.sees(ALICE), Some(r#"{"new":1}"#));
    }

    #[test]
    fn a_client_that_says_back_its_own_state_starts_no_exchange_without_end() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 7, "{}");
        room.awareness.lost(room.at(1.0), 1);
        room.come(2);
        let back = room.say(2.0, 2, ALICE, 8, "{}").changed;
        assert_eq!(back[0].clock, 9);
        assert_eq!(room.say(2.1, 2, ALICE, 9, "{}").changed, []);
        // A renewal has to reach the others although its clock is one that some of them know.
        room.come(2);
        let renewed = room.say(15.0, 2, ALICE, 10, "{}").changed;
        assert_eq!(renewed[0].clock, 11);
        assert_eq!(room.say(15.1, 2, ALICE, 11, "{}").changed, []);
        assert_eq!(room.expire(44.0), 0);
    }

    #[test]
    fn who_comes_back_is_told_again_who_is_here() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 7, "{}");
        // Bob forgets the state when he goes, and keeps the clock.
        room.peer.insert(ALICE, (7, None));
        let told = room.come(2).present;
        room.hear(&told);
        assert_eq!(room.sees(ALICE), Some("{}"));
        room.say(1.0, 1, ALICE, 8, r#"{"x":1}"#);
        assert_eq!(room.sees(ALICE), Some(r#"{"x":1}"#));
    }

    #[test]
    fn echoes_of_others_change_nothing() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 3, "{}");
        room.say(0.0, 2, BOB, 3, "{}");
        let echo = room.say(1.0, 2, ALICE, 3, "{}");
        assert_eq!((echo.changed.len(), echo.refused_foreign), (0, 1));
        // Bob's program times Alice out and says so.
        assert_eq!(room.say(1.0, 2, ALICE, 3, "null").refused_foreign, 1);
        // Nor does an echo that arrives late bring back who has left.
        let gone = room.awareness.leave(room.at(2.0), 1);
        room.hear(&gone);
        assert_eq!(room.say(2.0, 2, ALICE, 3, "{}").refused_foreign, 1);
        assert_eq!(room.sees(ALICE), None);
    }

    #[test]
    fn who_comes_back_may_first_say_that_it_has_forgotten_everybody() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 3, "{}");
        room.say(0.0, 2, BOB, 3, "{}");
        room.awareness.lost(room.at(1.0), 1);
        room.come(3);
        assert_eq!(room.say(1.1, 3, BOB, 5, "null").refused_foreign, 1);
        // The same clock as before: it has heard itself with 4.
        assert_eq!(room.say(1.1, 3, ALICE, 4, "{}").refused_foreign, 0);
        assert_eq!(room.expire(4.0), 0, "the broken connection takes nothing with it");
        assert_eq!(room.sees(ALICE), Some("{}"));
    }

    #[test]
    fn somebody_who_shows_nothing_takes_over_nobody_by_saying_back_what_it_hears() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 3, "{}");
        // Another tab of the same user comes, is told who is here, and says it back.
        let introduced = room.come(2).present;
        let now = room.at(1.0);
        let outcome = room
            .awareness
            .apply(now, 2, &encode_changes(&introduced), |_, _| true)
            .unwrap();
        assert_eq!((outcome.changed.len(), outcome.refused_foreign), (0, 1));
        let renewed = room.say(15.0, 1, ALICE, 9, "{}");
        let outcome = room
            .awareness
            .apply(now, 2, &encode_changes(&renewed.changed), |_, _| true)
            .unwrap();
        assert_eq!((outcome.changed.len(), outcome.refused_foreign), (0, 1));
        // Nor does it keep her here when she has gone.
        let gone = room.awareness.leave(room.at(16.0), 1);
        room.hear(&gone);
        let outcome = room
            .awareness
            .apply(now, 2, &encode_changes(&renewed.changed), |_, _| true)
            .unwrap();
        assert_eq!((outcome.changed.len(), outcome.refused_foreign), (0, 1));
        assert!(room.awareness.is_empty());
    }

    #[test]
    fn the_same_user_takes_its_client_over_from_a_connection_not_yet_known_to_be_dead() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 3, "{}");
        let update = encode_changes(&[AwarenessChange {
            client: ALICE,
            clock: 3,
            state: Some(Arc::from("{}")),
        }]);
        room.come(2);
        let outcome = room
            .awareness
            .apply(room.at(1.0), 2, &update, |_, _| true)
            .unwrap();
        assert_eq!(outcome.changed.len(), 1);
        assert!(room.awareness.leave(room.at(2.0), 1).is_empty());
        assert_eq!(room.awareness.len(), 1);
    }

    #[test]
    fn silence_withdraws_and_renewal_does_not() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 1, "{}");
        room.say(0.0, 2, BOB, 1, "{}");
        room.say(15.0, 1, ALICE, 2, "{}");
        assert_eq!(room.expire(30.0), 1);
        assert_eq!((room.sees(ALICE), room.sees(BOB)), (Some("{}"), None));
        assert_eq!(room.awareness.next_deadline(), Some(room.at(45.0)));
    }

    #[test]
    fn null_clears_and_old_clocks_are_ignored() {
        let mut room = Room::new();
        room.say(0.0, 1, ALICE, 5, "{}");
        assert!(room.say(0.0, 1, ALICE, 4, r#"{"old":1}"#).changed.is_empty());
        assert_eq!(room.say(0.0, 1, ALICE, 5, "null").changed.len(), 1);
        assert_eq!(room.sees(ALICE), None);
        assert!(room.awareness.is_empty());
    }

    #[test]
    fn limits_refuse_single_entries() {
        let mut room = Room::new();
        let large = format!("\"{}\"", "x".repeat(64 << 10));
        assert_eq!(room.say(0.0, 1, ALICE, 1, &large).refused_too_large, 1);
        for client in 0..100 {
            assert_eq!(room.say(0.0, 1, ClientId(client), 1, "{}").changed.len(), 1);
        }
        assert_eq!(room.say(0.0, 1, ClientId(100), 1, "{}").refused_too_large, 1);
    }

    #[test]
    fn tombstones_are_bounded() {
        let mut room = Room::new();
        for client in 0..3000 {
            room.say(0.0, 1, ClientId(client), 1, "{}");
            room.say(0.0, 1, ClientId(client), 2, "null");
        }
        assert_eq!(room.awareness.withdrawn.len(), 1024);
    }

    #[test]
    fn what_is_not_an_awareness_update_changes_nothing() {
        let mut room = Room::new();
        let now = room.at(0.0);
        let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
        let mut nested = vec![1, 11, 1];
        nested.put_string(&deep);
        for bytes in [
            &[][..],
            &[2, 11, 1, 2, b'{', b'}'],
            &[1, 11, 1, 2, b'{', b'}', 0],
            &[1, 11, 1, 1, b'{'],
            &[1, 11, 1, 1, 0xff],
            &[0xff, 0xff, 0xff, 0xff, 0x01],
            &nested,
        ] {
            assert!(
                room.awareness.apply(now, 1, bytes, |_, _| true).is_err(),
                "{bytes:?}"
            );
        }
        assert!(room.awareness.is_empty());
    }

    proptest! {
        /// Whatever clients do, everything sent out is taken by a peer, a peer that heard all knows the same, and no client
        /// hears of itself what it has replaced.
        #[test]
        fn a_peer_that_heard_everything_knows_everything(
            steps in proptest::collection::vec((0usize..4, 0u8..9, any::<bool>(), 0.0..40.0f64), 1..80)
        ) {
            struct Client { clock: u32, connection: u32 }
            let mut room = Room::new();
            let mut time = 0.0;
            let mut connections = 4;
            let mut clients: Vec<_> = (0..4).map(|connection| Client { clock: 0, connection }).collect();
            for (index, action, hears, wait) in steps {
                let id = ClientId(index as u64);
                let client = &mut clients[index];
                let mut changed = Vec::new();
                match action {
                    0..=3 => {
                        client.clock += 1;
                        changed = room.say(time, client.connection, id, client.clock, r#"{"a":1}"#).changed;
                    }
                    4 => {
                        client.clock += 1;
                        changed = room.say(time, client.connection, id, client.clock, "null").changed;
                    }
                    5 | 6 => {
                        let now = room.at(time);
                        // What was said of it on the way to a broken connection is lost; that it is gone, it contradicts with
                        // the next clock.
                        let told = room.peer.get(&id).map_or(0, |(clock, state)| clock + u32::from(state.is_none()));
                        if action == 5 || hears {
                            client.clock = client.clock.max(told);
                        }
                        if action == 5 {
                            let gone = room.awareness.leave(now, client.connection);
                            room.hear(&gone);
                        } else {
                            room.awareness.lost(now, client.connection);
                        }
                        client.connection = connections;
                        connections += 1;
                        let now = room.at(time);
                        let introduction = room.awareness.introduce(now, client.connection);
                        room.hear_again(&introduction.present);
                        for (owner, change) in introduction.raised {
                            let owner = clients.iter_mut().find(|client| client.connection == owner);
                            if let Some(client) = owner {
                                client.clock = client.clock.max(change.clock);
                            }
                        }
                        let client = &mut clients[index];
                        let outcome = room.say(time, client.connection, id, client.clock, r#"{"a":1}"#);
                        changed = outcome.changed;
                        for gone in outcome.overtaken {
                            client.clock = client.clock.max(gone.clock + 1);
                            changed = room.say(time, client.connection, id, client.clock, r#"{"a":1}"#).changed;
                            prop_assert!(!changed.is_empty(), "{gone:?} was no reason not to show it");
                        }
                        prop_assert!(room.sees(id).is_some(), "who comes is seen");
                    }
                    _ => {
                        time += wait;
                        room.expire(time);
                    }
                }
                let client = &mut clients[index];
                for change in changed.iter().filter(|change| change.state.is_some()) {
                    prop_assert!(change.clock <= client.clock + 1, "{change:?} would replace what the client shows");
                    if hears {
                        client.clock = client.clock.max(change.clock);
                    }
                }
                let mut present: Vec<_> = room.awareness.entries().map(|(change, _)| change.client).collect();
                let mut seen: Vec<_> =
                    room.peer.iter().filter(|(_, (_, state))| state.is_some()).map(|(&client, _)| client).collect();
                present.sort_unstable();
                seen.sort_unstable();
                prop_assert_eq!(present, seen);
            }
        }

        #[test]
        fn random_bytes_are_refused_or_round_trip(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut room = Room::new();
            let now = room.at(0.0);
            if let Ok(outcome) = room.awareness.apply(now, 1, &bytes, |_, _| true) {
                room.hear(&outcome.changed);
            }
            prop_assert!(read_entries(&room.awareness.encode_all()).is_ok());
        }
    }
}

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
//! The server shows states of its own beside those, of programs that know no awareness: [`Awareness::show`]. They are renewed here.
//!
//! An owner may have an [`IdentityStamp`]: its states go out with what the server knows of it. It hears them so itself, and goes on from
//! there.

mod shown;
#[cfg(test)]
mod tests;
mod wire;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use self::wire::{AwarenessChange, check, encode_changes};
use self::wire::{Entry, gone, read_entries};
use crate::error::DecodeError;
use crate::identity_stamp::IdentityStamp;
use crate::state_vector::ClientId;

/// Bounds on awareness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AwarenessLimits {
    /// Bytes of one client's state.
    pub max_state_bytes: usize,
    /// Client ids one owner may hold.
    pub max_clients_per_owner: usize,
    /// Bytes of all states together, beyond which no large one is taken in.
    pub max_total_bytes: usize,
    /// How long states of a lost owner are kept.
    pub grace: Duration,
    /// How long a state of a present owner lives without renewal.
    pub timeout: Duration,
    /// How many withdrawn client ids are remembered.
    pub max_tombstones: usize,
}

/// States of so many bytes are taken in without looking how much there is of all: names and cursors.
const SMALL_STATE: usize = 1024;

impl Default for AwarenessLimits {
    fn default() -> Self {
        Self {
            max_state_bytes: 64 << 10,
            max_clients_per_owner: 100,
            max_total_bytes: 4 << 20,
            grace: Duration::from_secs(3),
            timeout: Duration::from_secs(30),
            max_tombstones: 1024,
        }
    }
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
    stamp: Option<Arc<IdentityStamp>>,
}

#[derive(Debug)]
struct Present<O> {
    owner: O,
    /// The owner's connection broke.
    lost: bool,
    /// The server shows it: it hears of no clocks, and renews nothing.
    is_own: bool,
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
        let mut total = None;
        for entry in entries {
            let bytes = entry.state.map_or(0, str::len);
            if bytes > self.limits.max_state_bytes
                || (bytes > SMALL_STATE && !self.has_room(&entry, &mut total))
            {
                outcome.refused_too_large += 1;
            } else {
                self.apply_entry(now, owner, hello, &entry, &may_take_over, &mut outcome);
            }
        }
        Ok(outcome)
    }

    /// Whether a large state fits beside all others. Their `total` is found out at the first one.
    fn has_room(&self, entry: &Entry<'_>, total: &mut Option<usize>) -> bool {
        let sum = || self.present.values().map(|present| present.state.len()).sum();
        let before = *total.get_or_insert_with(sum);
        let own = self.present.get(&entry.client);
        let after =
            before.saturating_sub(own.map_or(0, |own| own.state.len())) + entry.state.map_or(0, str::len);
        let fits = after <= self.limits.max_total_bytes;
        if fits {
            *total = Some(after);
        }
        fits
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
            let free = present.lost || (!present.is_own && may_take_over(present.owner, owner));
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
    pub fn set_stamp(&mut self, now: Instant, owner: O, stamp: Arc<IdentityStamp>) {
        self.owner_entry(now, owner).stamp = Some(stamp);
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

    /// Withdraws what was not renewed or reclaimed in time, and renews what the server shows.
    pub fn expire(&mut self, now: Instant) -> Vec<AwarenessChange> {
        if self.next_deadline.is_none_or(|deadline| now < deadline) {
            return Vec::new();
        }
        let renewed = self.renew_own(now);
        let mut changed = self.withdraw_all(now, |present| present.deadline <= now);
        changed.extend(renewed);
        self.next_deadline = self.present.values().map(|present| present.deadline).min();
        changed
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
            if present.is_own {
                present.clock_in = present.clock_out;
            } else if raises {
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
            stamp: None,
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
        let stamp = self.owners.get(&owner).and_then(|owner| owner.stamp.as_ref());
        let shown = stamp.and_then(|stamp| stamp.stamped(state));
        let state = shown.as_deref().unwrap_or(state);
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
                is_own: false,
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

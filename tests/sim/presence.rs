//! Awareness as Yjs clients keep it (y-protocols `awareness.js`), with its clocks and its half minute.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use crdt::{AwarenessChange, ClientId, awareness::encode_changes, encoding::Reader};

/// A state is renewed when it is this old.
const RENEWAL: Duration = Duration::from_secs(15);
/// The state of somebody else is dropped when it was not renewed for this long.
const OUTDATED: Duration = Duration::from_secs(30);

#[derive(Clone, Copy, Debug)]
struct Meta {
    clock: u32,
    updated: Instant,
}

/// What a client shows and what it sees of others.
pub(crate) struct Presence {
    own: ClientId,
    states: BTreeMap<ClientId, Arc<str>>,
    meta: BTreeMap<ClientId, Meta>,
}

impl Presence {
    /// A client shows an empty state from the beginning, unless it is told to show none.
    pub(crate) fn new(now: Instant, own: ClientId) -> Self {
        Self {
            own,
            states: BTreeMap::from([(own, "{}".into())]),
            meta: BTreeMap::from([(
                own,
                Meta {
                    clock: 0,
                    updated: now,
                },
            )]),
        }
    }

    /// Shows a state, or nothing, and gives the update to send.
    pub(crate) fn set(&mut self, now: Instant, state: Option<&str>) -> Bytes {
        let clock = self.meta.get(&self.own).map_or(0, |meta| meta.clock + 1);
        match state {
            Some(state) => drop(self.states.insert(self.own, state.into())),
            None => drop(self.states.remove(&self.own)),
        }
        self.meta.insert(self.own, Meta { clock, updated: now });
        self.encode(self.own)
    }

    pub(crate) fn shows(&self) -> Option<&Arc<str>> {
        self.states.get(&self.own)
    }

    /// Everybody that is seen, oneself included.
    pub(crate) fn states(&self) -> &BTreeMap<ClientId, Arc<str>> {
        &self.states
    }

    /// The update about oneself, sent on every connection; `None` when there is nothing to show.
    pub(crate) fn hello(&self) -> Option<Bytes> {
        self.shows().map(|_| self.encode(self.own))
    }

    /// The connection is gone: nobody else is seen any more. Their clocks are remembered.
    pub(crate) fn disconnected(&mut self) {
        let own = self.own;
        self.states.retain(|client, _| *client == own);
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.states
            .keys()
            .filter_map(|client| {
                let patience = if *client == self.own { RENEWAL } else { OUTDATED };
                Some(self.meta.get(client)?.updated + patience)
            })
            .min()
    }

    /// Drops who is outdated; gives an update to send when the own state has to be renewed.
    pub(crate) fn tick(&mut self, now: Instant) -> Option<Bytes> {
        let (own, meta) = (self.own, &self.meta);
        self.states.retain(|client, _| {
            *client == own || meta.get(client).is_some_and(|meta| now < meta.updated + OUTDATED)
        });
        let due = self
            .meta
            .get(&own)
            .is_some_and(|meta| now >= meta.updated + RENEWAL);
        let state = self.shows().filter(|_| due)?.clone();
        Some(self.set(now, Some(&state)))
    }

    /// Takes in what the server tells, and gives what the provider passes on: everything it has taken, whoever it is about.
    pub(crate) fn apply(&mut self, now: Instant, update: &[u8]) -> Option<Bytes> {
        let mut taken = Vec::new();
        let mut reader = Reader::new(update);
        let count = reader.count().expect("a count of clients");
        for _ in 0..count {
            let client = ClientId(reader.number().expect("a client"));
            let clock = reader.number().expect("a clock") as u32;
            let state = reader.string().expect("a state");
            if self.apply_entry(now, client, clock, (state != "null").then_some(state)) {
                taken.push(self.change(client));
            }
        }
        assert!(reader.is_at_end(), "bytes behind an awareness update");
        (!taken.is_empty()).then(|| encode_changes(&taken))
    }

    fn apply_entry(&mut self, now: Instant, client: ClientId, mut clock: u32, state: Option<&str>) -> bool {
        let known = self.meta.get(&client).map_or(0, |meta| meta.clock);
        let is_newer =
            known < clock || (known == clock && state.is_none() && self.states.contains_key(&client));
        if !is_newer {
            return false;
        }
        match state {
            // Nobody else may end the own state.
            None if client == self.own && self.shows().is_some() => clock += 1,
            None => drop(self.states.remove(&client)),
            Some(state) => drop(self.states.insert(client, state.into())),
        }
        self.meta.insert(client, Meta { clock, updated: now });
        true
    }

    /// Everything that is seen, as the answer to a query.
    pub(crate) fn encode_all(&self) -> Bytes {
        let changes: Vec<_> = self.states.keys().map(|client| self.change(*client)).collect();
        encode_changes(&changes)
    }

    fn encode(&self, client: ClientId) -> Bytes {
        encode_changes(&[self.change(client)])
    }

    fn change(&self, client: ClientId) -> AwarenessChange {
        AwarenessChange {
            client,
            clock: self.meta.get(&client).map_or(0, |meta| meta.clock),
            state: self.states.get(&client).cloned(),
        }
    }
}

//! Who is here: awareness entries bound to the members that brought them.

use std::{collections::BTreeMap, time::Instant};

use bytes::Bytes;
use crdt::{Awareness, AwarenessChange, ClientId};

use super::{
    Count, Departure, Effect, MemberId, Outgoing, Refusal, Room, SERVER, ServerMessage, ShownStates, Sight,
};

/// Nobody is asked in a larger crowd: programs answer with everybody they see.
const MAX_ASKED: usize = 64;

/// Who is here and what they show.
#[derive(Debug)]
pub(super) struct Presence {
    pub(super) awareness: Awareness<MemberId>,
    /// What has changed since the last flush.
    changes: BTreeMap<ClientId, AwarenessChange>,
    /// Somebody outside looks at it.
    is_watched: bool,
}

impl Presence {
    pub(super) fn new(limits: crdt::AwarenessLimits) -> Self {
        Self {
            awareness: Awareness::new(limits),
            changes: BTreeMap::new(),
            is_watched: false,
        }
    }

    /// Whether there is something to tell with the next flush.
    pub(super) fn has_changed(&self) -> bool {
        !self.changes.is_empty()
    }

    /// When somebody has been silent for too long.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.awareness.next_deadline()
    }

    fn note(&mut self, changes: Vec<AwarenessChange>) {
        self.changes
            .extend(changes.into_iter().map(|change| (change.client, change)));
    }
}

impl Room {
    pub(super) fn awareness_said(
        &mut self,
        now: Instant,
        member: MemberId,
        update: &Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let Self {
            presence, members, ..
        } = self;
        // A user's second connection may take over the ids of the first (it is usually the first, come back); guests have
        // no identity, so an id stays with the connection that brought it for as long as that lives.
        let may_take_over = |owner: MemberId, member: MemberId| {
            let user = |id| members.get(&id).and_then(|member| member.user.as_ref());
            user(owner).is_some() && user(owner) == user(member)
        };
        match presence.awareness.apply(now, member, update, may_take_over) {
            Ok(outcome) => {
                presence.note(outcome.changed);
                if !outcome.overtaken.is_empty() {
                    self.send(member, ServerMessage::Awareness(outcome.overtaken));
                    self.query_awareness(member);
                }
                for (kind, count) in [
                    ("foreign_awareness", outcome.refused_foreign),
                    ("awareness_too_large", outcome.refused_too_large),
                ] {
                    if count > 0 {
                        effects.push(Effect::Count(Count::Refused(kind), count));
                    }
                }
            }
            Err(error) => self.close(
                now,
                member,
                Refusal::malformed(format!("awareness update: {error}")),
                effects,
            ),
        }
    }

    /// Tells one member who is here.
    pub(super) fn send_awareness(&mut self, now: Instant, to: MemberId) {
        let crdt::Introduction { present, raised } = self.presence.awareness.introduce(now, to);
        if !present.is_empty() {
            self.send(to, ServerMessage::Awareness(present));
        }
        let raised: Vec<_> = raised.into_iter().filter(|(owner, _)| *owner != to).collect();
        let asked: Vec<_> = raised.iter().map(|(_, change)| change.client).collect();
        for (owner, change) in raised {
            self.send(owner, ServerMessage::Awareness(vec![change]));
        }
        for client in asked {
            self.ask_presence(client);
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, member: MemberId, departure: Departure) {
        match departure {
            Departure::Clean => {
                let changes = self.presence.awareness.leave(now, member);
                self.presence.note(changes);
            }
            Departure::Lost => self.presence.awareness.lost(now, member),
        }
    }

    /// Withdraws whoever has not come back or has been silent for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let changes = self.presence.awareness.expire(now);
        self.presence.note(changes);
    }

    /// Somebody outside looks at who is here from now on, or nobody does any more.
    pub(super) fn watched(&mut self, now: Instant, is_watched: bool, effects: &mut Vec<Effect>) {
        let before = std::mem::replace(&mut self.presence.is_watched, is_watched);
        if !is_watched {
            let changes = self.presence.awareness.leave(now, SERVER);
            self.presence.note(changes);
        } else if !before {
            let entries = self.presence.awareness.entries();
            let clients = entries.filter_map(|(change, owner)| {
                let owner = owner.filter(|owner| *owner != SERVER)?;
                Some((change.client, Some((owner, change.state?))))
            });
            effects.push(Effect::Seen(Sight {
                clients: clients.collect(),
                is_whole: true,
                is_edited: false,
            }));
        }
    }

    /// Shows what the server shows.
    pub(super) fn show(&mut self, now: Instant, states: &ShownStates) {
        // What was meant for before nobody looked any more would stay for ever.
        if self.presence.is_watched {
            let awareness = &mut self.presence.awareness;
            let changes = states
                .iter()
                .filter_map(|(client, state)| awareness.show(now, SERVER, *client, state.as_ref()));
            let changes = changes.collect();
            self.presence.note(changes);
        }
    }

    /// Tells who looks at it what has changed since the last flush.
    fn report(&self, is_edited: bool, effects: &mut Vec<Effect>) {
        let Presence {
            awareness,
            changes,
            is_watched,
        } = &self.presence;
        if !is_watched {
            return;
        }
        let clients = changes.values().filter_map(|change| {
            let owner = awareness.owner(change.client);
            let shown = owner.zip(change.state.clone());
            (owner != Some(SERVER)).then_some((change.client, shown))
        });
        let clients: BTreeMap<_, _> = clients.collect();
        if !clients.is_empty() || is_edited {
            effects.push(Effect::Seen(Sight {
                clients,
                is_whole: false,
                is_edited,
            }));
        }
    }

    /// Sends everybody what has changed since the last flush.
    pub(super) fn flush_awareness(&mut self, is_edited: bool, effects: &mut Vec<Effect>) {
        self.report(is_edited, effects);
        if !self.presence.has_changed() {
            return;
        }
        let changes = std::mem::take(&mut self.presence.changes);
        let clients: Vec<_> = changes.keys().copied().collect();
        let message = Outgoing::new(ServerMessage::Awareness(changes.into_values().collect()));
        for seat in self.members.values() {
            seat.outlet.push(&message);
        }
        for client in clients {
            self.ask_presence(client);
        }
    }

    /// Asks the member of a client that has just been told another clock than it said. Whoever comes back takes a state only with a
    /// clock that it has not seen, and there is another one only when this one is confirmed. Most programs say it back by themselves.
    fn ask_presence(&self, client: ClientId) {
        let awareness = &self.presence.awareness;
        if awareness.is_confirmed(client) || awareness.len() > MAX_ASKED {
            return;
        }
        if let Some(owner) = awareness.owner(client) {
            self.query_awareness(owner);
        }
    }

    /// Asks a member for what it shows, unless its program says that by itself behind whatever it is told of it.
    fn query_awareness(&self, to: MemberId) {
        if let Some(seat) = self.members.get(&to).filter(|seat| seat.capabilities.asked) {
            seat.send(ServerMessage::QueryAwareness);
        }
    }

    /// Gives a member a message that always fits.
    fn send(&self, to: MemberId, message: ServerMessage) {
        if let Some(seat) = self.members.get(&to) {
            seat.send(message);
        }
    }
}

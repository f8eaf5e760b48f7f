//! Who is here: awareness entries bound to the members that brought them.

use std::time::Instant;

use bytes::Bytes;
use crdt::{AwarenessChange, ClientId};

use super::{Departure, Effect, MemberId, Outgoing, Refusal, Room, ServerMessage};

/// Nobody is asked in a larger crowd: programs answer with everybody they see.
const MAX_ASKED: usize = 64;

impl Room {
    pub(super) fn awareness_said(
        &mut self,
        now: Instant,
        member: MemberId,
        update: &Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let Self {
            awareness, members, ..
        } = self;
        // A user's second connection may take over the ids of the first (it is usually the first, come back); guests have
        // no identity, so an id stays with the connection that brought it for as long as that lives.
        let may_take_over = |owner: MemberId, member: MemberId| {
            let user = |id| members.get(&id).and_then(|member| member.user.as_ref());
            user(owner).is_some() && user(owner) == user(member)
        };
        match awareness.apply(now, member, update, may_take_over) {
            Ok(outcome) => {
                self.note_changes(outcome.changed);
                if !outcome.overtaken.is_empty() {
                    effects.push(Effect::Send {
                        to: member,
                        message: Outgoing::new(ServerMessage::Awareness(outcome.overtaken)),
                    });
                    self.query_awareness(member, effects);
                }
                for (kind, count) in [
                    ("foreign_awareness", outcome.refused_foreign),
                    ("awareness_too_large", outcome.refused_too_large),
                ] {
                    if count > 0 {
                        effects.push(Effect::Refused { kind, count });
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
    pub(super) fn send_awareness(&mut self, now: Instant, to: MemberId, effects: &mut Vec<Effect>) {
        let crdt::Introduction { present, raised } = self.awareness.introduce(now, to);
        let mut asked = Vec::new();
        let mut send = |to, changes| {
            effects.push(Effect::Send {
                to,
                message: Outgoing::new(ServerMessage::Awareness(changes)),
            });
        };
        if !present.is_empty() {
            send(to, present);
        }
        for (owner, change) in raised.into_iter().filter(|(owner, _)| *owner != to) {
            let client = change.client;
            send(owner, vec![change]);
            asked.push(client);
        }
        for client in asked {
            self.ask_presence(client, effects);
        }
    }

    pub(super) fn withdraw(&mut self, now: Instant, member: MemberId, departure: Departure) {
        match departure {
            Departure::Clean => {
                let changes = self.awareness.leave(now, member);
                self.note_changes(changes);
            }
            Departure::Lost => self.awareness.lost(now, member),
        }
    }

    /// Withdraws whoever has not come back or has been silent for too long.
    pub(super) fn expire(&mut self, now: Instant) {
        let changes = self.awareness.expire(now);
        self.note_changes(changes);
    }

    fn note_changes(&mut self, changes: Vec<AwarenessChange>) {
        for change in changes {
            self.awareness_changes.insert(change.client, change);
        }
    }

    /// Sends everybody what has changed since the last flush.
    pub(super) fn flush_awareness(&mut self, effects: &mut Vec<Effect>) {
        if self.awareness_changes.is_empty() {
            return;
        }
        let changes = std::mem::take(&mut self.awareness_changes);
        let clients: Vec<_> = changes.keys().copied().collect();
        let message = Outgoing::new(ServerMessage::Awareness(changes.into_values().collect()));
        effects.push(Effect::Broadcast {
            except: Vec::new(),
            message,
        });
        for client in clients {
            self.ask_presence(client, effects);
        }
    }

    /// Asks the member of a client that has just been told another clock than it said. Whoever comes back takes a state only with a
    /// clock that it has not seen, and there is another one only when this one is confirmed. Most programs say it back by themselves.
    fn ask_presence(&self, client: ClientId, effects: &mut Vec<Effect>) {
        if self.awareness.is_confirmed(client) || self.awareness.len() > MAX_ASKED {
            return;
        }
        if let Some(owner) = self.awareness.owner(client) {
            self.query_awareness(owner, effects);
        }
    }

    /// Asks a member for what it shows, unless its program says that by itself behind whatever it is told of it.
    fn query_awareness(&self, to: MemberId, effects: &mut Vec<Effect>) {
        if self.members.get(&to).is_some_and(|seat| seat.capabilities.asked) {
            let message = Outgoing::new(ServerMessage::QueryAwareness);
            effects.push(Effect::Send { to, message });
        }
    }
}

//! How members come, go and change.

use std::{sync::Arc, time::Instant};

use crdt::IdentityStamp;

use super::{
    Count, Departure, Effect, MemberId, Outlet, Refusal, RefusalCode, Role, Room, ServerMessage, life::Phase,
    member::Member,
};

impl Room {
    pub(super) fn joined(
        &mut self,
        now: Instant,
        member: MemberId,
        role: Role,
        (user, stamp): (Option<Arc<str>>, Option<Arc<IdentityStamp>>),
        outlet: Arc<dyn Outlet>,
        effects: &mut Vec<Effect>,
    ) {
        let refusal = match self.life.phase() {
            Phase::Draining | Phase::Abandoned => Some(Refusal::draining()),
            Phase::Failed => Some(Refusal::unavailable("the page is being rebuilt, connect again")),
            Phase::Open if self.config.max_members != 0 && self.members.len() >= self.config.max_members => {
                Some(Refusal::new(
                    RefusalCode::RoomFull,
                    format!("the page has {} members, which is the limit", self.members.len()),
                ))
            }
            Phase::Open => None,
        };
        if let Some(refusal) = refusal {
            effects.push(Effect::Count(Count::Refused(refusal.code.as_str()), 1));
            outlet.close(refusal);
            return;
        }
        let seat = Box::new(Member::new(outlet, role, user));
        self.members.insert(member, seat);
        self.life.set_empty(now, false);
        self.ask(member);
        self.send_awareness(now, member);
        if let Some(stamp) = stamp {
            self.presence.awareness.set_stamp(now, member, stamp);
        }
    }

    pub(super) fn left(&mut self, now: Instant, member: MemberId, departure: Departure) {
        if self.members.remove(&member).is_none() {
            return;
        }
        self.answers.forget(member);
        self.claims.forget(member);
        self.early.forget(member);
        self.promises.forget(member);
        self.withdraw(now, member, departure);
        if self.members.is_empty() {
            self.life.set_empty(now, true);
        }
    }

    /// Sends a member away: it leaves the room, cleanly, and is hung up on.
    pub(super) fn close(
        &mut self,
        now: Instant,
        member: MemberId,
        refusal: Refusal,
        effects: &mut Vec<Effect>,
    ) {
        let Some(outlet) = self.members.get(&member).map(|seat| seat.outlet.clone()) else {
            return;
        };
        self.left(now, member, Departure::Clean);
        effects.push(Effect::Count(Count::Refused(refusal.code.as_str()), 1));
        outlet.close(refusal);
    }

    /// Hangs up on everybody, because nothing will run the room any more.
    pub fn hang_up(&self, refusal: &Refusal) {
        for seat in self.members.values() {
            seat.outlet.close(refusal.clone());
        }
    }

    /// Whoever may no longer edit is told so, and nothing of it that waits for something is taken in later; whoever may edit now is
    /// asked for what it wrote while it might not.
    pub(super) fn role_changed(&mut self, member: MemberId, role: Role) {
        let Some(seat) = self.members.get_mut(&member) else {
            return;
        };
        let before = std::mem::replace(&mut seat.role, role);
        if before.may_edit() == role.may_edit() {
            return;
        }
        seat.told_read_only = !role.may_edit();
        if role.may_edit() {
            self.ask(member);
        } else {
            seat.send(ServerMessage::Refused(Refusal::read_only()));
        }
    }
}

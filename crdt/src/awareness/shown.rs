//! What the server itself shows, for those whose programs know no awareness.

use std::sync::Arc;
use std::time::Instant;

use super::{Awareness, AwarenessChange, Present};
use crate::state_vector::ClientId;

impl<O: Copy + Eq + Ord> Awareness<O> {
    /// Shows a state of a client for which `owner` speaks, or none any more. The owner is the server, so the client is its own whoever has
    /// shown it before, no stamp is put on, and it need not renew it. `None` when there is nothing new.
    pub fn show(
        &mut self,
        now: Instant,
        owner: O,
        client: ClientId,
        state: Option<&Arc<str>>,
    ) -> Option<AwarenessChange> {
        let present = self.present.get(&client);
        let Some(state) = state else {
            let is_own = present.is_some_and(|present| present.is_own);
            return is_own.then(|| self.withdraw(now, client, 0));
        };
        if present.is_some_and(|present| present.is_own && present.state == *state) {
            return None;
        }
        let seen = present.map(|present| present.clock_out);
        let gone = self.withdrawn.get(&client).map(|withdrawn| withdrawn.clock_out);
        let clock = seen.or(gone).unwrap_or(0).saturating_add(1);
        if let Some(holder) = present
            .filter(|present| !present.lost)
            .map(|present| present.owner)
        {
            self.release(holder);
        }
        self.withdrawn.remove(&client);
        self.owner_entry(now, owner).held += 1;
        let deadline = self.renewal(now);
        self.wake_at(deadline);
        let shown = Present {
            owner,
            lost: false,
            is_own: true,
            clock_in: clock,
            clock_out: clock,
            state: state.clone(),
            told: now,
            deadline,
        };
        self.present.insert(client, Box::new(shown));
        Some(AwarenessChange {
            client,
            clock,
            state: Some(state.clone()),
        })
    }

    /// When a state that the server shows is renewed: clients forget what is not renewed for the whole time.
    fn renewal(&self, now: Instant) -> Instant {
        now + self.limits.timeout / 2
    }

    /// Renews what the server shows and is due.
    pub(super) fn renew_own(&mut self, now: Instant) -> Vec<AwarenessChange> {
        let deadline = self.renewal(now);
        let due = self.present.iter_mut();
        let due = due.filter(|(_, present)| present.is_own && present.deadline <= now);
        let renewed = due.map(|(&client, present)| {
            present.clock_out = present.clock_out.saturating_add(1);
            (present.clock_in, present.told, present.deadline) = (present.clock_out, now, deadline);
            AwarenessChange {
                client,
                clock: present.clock_out,
                state: Some(present.state.clone()),
            }
        });
        renewed.collect()
    }
}

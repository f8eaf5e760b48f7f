//! Who has the page open: told as a whole to the members that are told, as often as a crowd lets it be useful.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{MemberId, Outgoing, Room, ServerMessage, Viewer};

/// Shortest and longest time between two lists; the first one after a quiet time leaves at once.
const MIN_WINDOW: Duration = Duration::from_millis(50);
const MAX_WINDOW: Duration = Duration::from_secs(1);
/// Each viewer adds this to the window: what a list costs grows with those in it and with those who get it.
const WINDOW_PER_VIEWER: Duration = Duration::from_millis(1);

/// Who has the page open.
#[derive(Debug, Default)]
pub(super) struct Viewers {
    present: BTreeMap<MemberId, Box<Viewer>>,
    /// The members that are told.
    told: BTreeSet<MemberId>,
    /// Something has changed since they were.
    has_changed: bool,
    last_told: Option<Instant>,
}

impl Viewers {
    /// A member has come, which wants to be told of the others or not.
    pub(super) fn came(&mut self, member: MemberId, viewer: Viewer, is_told: bool) {
        self.present.insert(member, Box::new(viewer));
        if is_told {
            self.told.insert(member);
        }
        self.has_changed = true;
    }

    /// A member has gone.
    pub(super) fn went(&mut self, member: MemberId) {
        self.told.remove(&member);
        self.has_changed |= self.present.remove(&member).is_some();
    }

    /// When there will be something to tell.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let wanted = self.has_changed && !self.told.is_empty();
        self.last_told.filter(|_| wanted).map(|last| last + self.window())
    }

    fn window(&self) -> Duration {
        let crowd = u32::try_from(self.present.len()).unwrap_or(u32::MAX);
        WINDOW_PER_VIEWER
            .saturating_mul(crowd)
            .clamp(MIN_WINDOW, MAX_WINDOW)
    }

    fn is_due(&self, now: Instant) -> bool {
        self.has_changed
            && !self.told.is_empty()
            && self.last_told.is_none_or(|last| now >= last + self.window())
    }
}

impl Room {
    /// Tells those who want to know who has the page open, if that has changed.
    pub(super) fn tell_viewers(&mut self, now: Instant) {
        let viewers = &mut self.presence.viewers;
        if !viewers.is_due(now) {
            return;
        }
        viewers.has_changed = false;
        viewers.last_told = Some(now);
        let present = viewers.present.iter();
        let list = present
            .map(|(member, viewer)| (*member, Viewer::clone(viewer)))
            .collect();
        let message = Outgoing::new(ServerMessage::Viewers(list));
        for to in &viewers.told {
            if let Some(seat) = self.members.get(to) {
                seat.outlet.push(&message);
            }
        }
    }
}

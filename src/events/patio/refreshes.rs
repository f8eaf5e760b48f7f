//! Wishes of users that their sidebars are refreshed: told at once, then together. Pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

/// Least time between two of one user: two a second at most.
const WINDOW: Duration = Duration::from_millis(500);

struct Wish {
    /// When the next may be told.
    not_before: Instant,
    /// One came that has not been told.
    waits: bool,
}

/// Users that have wished for a refresh lately.
#[derive(Default)]
pub(super) struct Refreshes {
    users: BTreeMap<String, Wish>,
    due: BTreeSet<(Instant, String)>,
}

impl Refreshes {
    /// A user wishes for a refresh.
    pub(super) fn wish(&mut self, now: Instant, user: &str) {
        match self.users.get_mut(user) {
            Some(wish) => wish.waits = true,
            None => self.note(now, user, true),
        }
    }

    fn note(&mut self, not_before: Instant, user: &str, waits: bool) {
        self.due.insert((not_before, user.to_owned()));
        self.users.insert(user.to_owned(), Wish { not_before, waits });
    }

    /// When something is to be told, or forgotten.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// The users who are to be told to refresh now.
    pub(super) fn due(&mut self, now: Instant) -> Vec<String> {
        let mut told = Vec::new();
        while let Some((due, user)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            self.due.remove(&(due, user.clone()));
            let wish = self.users.remove(&user);
            debug_assert!(wish.as_ref().is_none_or(|wish| wish.not_before == due));
            if wish.is_some_and(|wish| wish.waits) {
                self.note(now + WINDOW, &user, false);
                told.push(user);
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_next_together_twice_a_second_at_most() {
        let now = crate::events::ticker::now();
        let at = |milliseconds| now + Duration::from_millis(milliseconds);
        let mut refreshes = Refreshes::default();
        let mut told = Vec::new();
        for step in 0..=200 {
            let at = at(step * 10);
            if step <= 100 {
                refreshes.wish(at, "ada");
            }
            if step == 50 {
                refreshes.wish(at, "bob");
            }
            told.extend(refreshes.due(at).into_iter().map(|user| (step * 10, user)));
        }
        let of = |name: &str| -> Vec<u64> {
            let all = told.iter().filter(|(_, user)| user == name);
            all.map(|(at, _)| *at).collect()
        };
        assert_eq!(of("ada"), [0, 500, 1000], "the last wish is told, too");
        assert_eq!(of("bob"), [500]);
        assert!(
            refreshes.users.is_empty() && refreshes.due.is_empty(),
            "nothing is kept"
        );
    }
}

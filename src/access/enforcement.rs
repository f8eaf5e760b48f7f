//! Who holds a seat or a socket, by which token, and what a change, a failing source and the end of a token do to it (pure).
//!
//! Changes, times and answers of the sources go in, and [`Order`]s come out: ask the sources again, give another role, send away, ask for a
//! fresh token. The server carries them out with tasks ([`Access`](super::Access)), the simulation with events.
//!
//! Each time something changes for a holder, a [`Question`] with a number of its own leaves. Answers may come in any order: one that is
//! older than what has been answered already, or was asked for another token, counts for nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, SystemTime},
};

use storage::{EVERYBODY, PageId};

use crate::{
    auth::{Identity, expired},
    rooms::{Refusal, RefusalCode, Role, RoomName},
};

/// A decision that cannot be made, because a source fails, is tried again for this long; then its holder has to go.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two tries.
pub const PAUSE: Duration = Duration::from_millis(500);

/// The number of a holder.
pub type HolderId = u64;

/// What somebody may do with a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The role.
    pub role: Role,
    /// Until when it holds without being asked again.
    pub until: Option<SystemTime>,
}

/// Somebody who takes a seat or opens a socket.
#[derive(Clone, Debug)]
pub struct Newcomer<H> {
    /// Where orders about it go.
    pub handle: H,
    /// The room of a seat; a socket is in none.
    pub room: Option<RoomName>,
    /// What the sources are asked for it.
    pub page: Option<PageId>,
    /// Whose it is.
    pub identity: Arc<Identity>,
    /// What was decided when it came.
    pub decision: Decision,
}

/// What the sources have to be asked about a holder.
#[derive(Clone, Debug)]
pub struct Question {
    /// The holder.
    pub holder: HolderId,
    /// Who it is.
    pub identity: Arc<Identity>,
    /// The page that it is about. Of a socket it is only asked whether its user may enter.
    pub page: Option<PageId>,
    /// The room that it is in.
    pub room: Option<RoomName>,
    /// Questions are counted, so that the latest answer stands.
    number: u64,
}

/// Something to do about a holder.
#[derive(Clone, Debug)]
pub enum Order<H> {
    /// Ask the sources, and bring the answer to [`Enforcement::decided`].
    Decide(Question),
    /// Give it another role.
    ChangeRole(Held<H>, Role),
    /// Send it away.
    Remove(Held<H>, Refusal),
    /// Ask it for a fresh token.
    AskForToken(Held<H>),
}

/// A holder, as an order names it.
#[derive(Clone, Debug)]
pub struct Held<H> {
    /// Where the order goes.
    pub handle: H,
    /// Whose it is.
    pub user: Option<Arc<str>>,
    /// The room of its seat.
    pub room: Option<RoomName>,
    /// The page that the sources are asked for it.
    pub page: Option<PageId>,
}

#[derive(Debug)]
struct Holder<H> {
    handle: H,
    room: Option<RoomName>,
    page: Option<PageId>,
    identity: Arc<Identity>,
    role: Role,
    /// When the decision must be made again.
    until: Option<SystemTime>,
    ends_with_token: bool,
    /// How long before the token ends it wants to be asked for a fresh one.
    ask_ahead: Option<Duration>,
    /// When that is.
    ask_at: Option<SystemTime>,
    /// The last question, and the last one that was answered.
    asked: u64,
    answered: u64,
    /// Since when a question has had no good answer.
    unsure_since: Option<SystemTime>,
    retry_at: Option<SystemTime>,
    /// The moment at which it is looked at next.
    alarm: Option<SystemTime>,
    is_removed: bool,
}

impl<H: Clone> Holder<H> {
    fn held(&self) -> Held<H> {
        Held {
            handle: self.handle.clone(),
            user: self.identity.user.clone(),
            room: self.room.clone(),
            page: self.page.clone(),
        }
    }

    fn token_ends(&self) -> Option<SystemTime> {
        self.identity.expires_at.filter(|_| self.ends_with_token)
    }

    fn remove(&mut self, refusal: Refusal) -> Order<H> {
        self.is_removed = true;
        Order::Remove(self.held(), refusal)
    }

    /// Sets when to ask for a fresh token; of one that does not last that long, when half of its time is over.
    fn set_asking(&mut self, now: SystemTime) {
        self.ask_at = self.ask_ahead.and_then(|ahead| {
            let left = self.identity.expires_at?.duration_since(now).unwrap_or_default();
            Some(now + left.saturating_sub(ahead).max(left / 2))
        });
    }

    /// When patience ends, unless the sources have answered others since.
    fn gives_up_at(&self, last_answer: Option<SystemTime>) -> Option<SystemTime> {
        let since = self.unsure_since?;
        Some(last_answer.map_or(since, |last| last.max(since)) + PATIENCE)
    }

    fn next_alarm(&self, last_answer: Option<SystemTime>) -> Option<SystemTime> {
        let moments = [
            self.until,
            self.token_ends(),
            self.ask_at,
            self.retry_at,
            self.gives_up_at(last_answer),
        ];
        moments.into_iter().flatten().filter(|_| !self.is_removed).min()
    }
}

/// All holders of a server.
#[derive(Debug)]
pub struct Enforcement<H> {
    holders: BTreeMap<HolderId, Holder<H>>,
    alarms: BTreeSet<(SystemTime, HolderId)>,
    last_holder: HolderId,
    /// How many have gone.
    gone: u64,
    last_question: u64,
    /// When a source has last known what to answer: who waits only because many wait loses nothing by that.
    last_answer: Option<SystemTime>,
}

impl<H> Default for Enforcement<H> {
    fn default() -> Self {
        Self {
            holders: BTreeMap::new(),
            alarms: BTreeSet::new(),
            last_holder: 0,
            gone: 0,
            last_question: 0,
            last_answer: None,
        }
    }
}

impl<H: Clone> Enforcement<H> {
    /// Somebody has taken a seat, which ends with its token, or opened a socket, which does not until [`Self::end_with_token`].
    pub fn enter(&mut self, newcomer: Newcomer<H>) -> HolderId {
        let Newcomer {
            handle,
            room,
            page,
            identity,
            decision,
        } = newcomer;
        self.last_holder += 1;
        let holder = Holder {
            handle,
            ends_with_token: page.is_some(),
            room,
            page,
            identity,
            role: decision.role,
            until: decision.until,
            ask_ahead: None,
            ask_at: None,
            asked: 0,
            answered: 0,
            unsure_since: None,
            retry_at: None,
            alarm: None,
            is_removed: false,
        };
        self.holders.insert(self.last_holder, holder);
        self.set_alarm(self.last_holder);
        self.last_holder
    }

    /// It is given back.
    pub fn leave(&mut self, id: HolderId) {
        self.gone += u64::from(self.holders.contains_key(&id));
        if let Some(alarm) = self.holders.remove(&id).and_then(|holder| holder.alarm) {
            self.alarms.remove(&(alarm, id));
        }
    }

    /// What a holder may do now, and who it is.
    pub fn standing(&self, id: HolderId) -> Option<(Role, &Arc<Identity>)> {
        let holder = self.holders.get(&id)?;
        Some((holder.role, &holder.identity))
    }

    /// How often somebody has come or gone.
    pub fn comings_and_goings(&self) -> u64 {
        self.last_holder + self.gone
    }

    /// Users who hold something, each as often as it does: who it is, in which room, and what it may do there.
    pub fn users(&self) -> impl Iterator<Item = (&Identity, Option<&RoomName>, Role)> {
        let holders = self.holders.values().filter(|holder| !holder.is_removed);
        let users = holders.filter(|holder| holder.identity.user.is_some());
        users.map(|holder| (&*holder.identity, holder.room.as_ref(), holder.role))
    }

    /// When something has to be done next.
    pub fn next_deadline(&self) -> Option<SystemTime> {
        self.alarms.first().map(|(at, _)| *at)
    }

    /// Something may have changed for one holder.
    pub fn decide_again(&mut self, now: SystemTime, id: HolderId) -> Option<Question> {
        let question = self.ask(now, id);
        self.set_alarm(id);
        question
    }

    /// Something has changed for a user, or everybody, on a page, a pattern of pages, or all of them.
    pub fn changed(&mut self, now: SystemTime, user: Option<&str>, page: Option<&str>) -> Vec<Question> {
        let user = user.filter(|user| *user != EVERYBODY);
        let concerned = self.those(|holder| {
            let is_theirs = user.is_none_or(|user| holder.identity.user.as_deref() == Some(user));
            let covers = |pattern| holder.page.as_ref().is_some_and(|page| covers(pattern, page));
            is_theirs && page.is_none_or(covers)
        });
        let again = |id| self.decide_again(now, id);
        concerned.into_iter().filter_map(again).collect()
    }

    /// Sends holders away, of a user or of all but one, from the rooms for which there is a refusal; sockets are in no room.
    /// O(holders), however many rooms there are.
    pub fn send_away(
        &mut self,
        user: Option<&str>,
        except: Option<&str>,
        refusal_in: impl Fn(Option<&RoomName>) -> Option<Refusal>,
    ) -> Vec<Order<H>> {
        let concerned = self.those(|holder| {
            let of = holder.identity.user.as_deref();
            user.is_none_or(|user| of == Some(user)) && (except.is_none() || of != except)
        });
        let removed = concerned.into_iter().filter_map(|id| {
            let holder = self.holders.get_mut(&id)?;
            let order = holder.remove(refusal_in(holder.room.as_ref())?);
            self.set_alarm(id);
            Some(order)
        });
        removed.collect()
    }

    /// A holder has shown a fresh token of the same user. What it may do follows that one from now on: answers about the old one count for
    /// nothing.
    pub fn renew(
        &mut self,
        now: SystemTime,
        id: HolderId,
        identity: Arc<Identity>,
    ) -> Result<Option<Question>, Refusal> {
        let Some(holder) = self.holders.get_mut(&id) else {
            return Ok(None);
        };
        if holder.identity.user != identity.user {
            return Err(Refusal::new(
                RefusalCode::Forbidden,
                "a connection stays with the user who opened it",
            ));
        }
        holder.identity = identity;
        holder.answered = holder.asked;
        holder.set_asking(now);
        Ok(self.decide_again(now, id))
    }

    /// A holder wants to be asked for a fresh token so long before the one it has shown ends.
    pub fn ask_ahead(&mut self, now: SystemTime, id: HolderId, ahead: Duration) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.ask_ahead = Some(ahead);
            holder.set_asking(now);
            self.set_alarm(id);
        }
    }

    /// A socket is to end with its token as a seat does.
    pub fn end_with_token(&mut self, id: HolderId) {
        if let Some(holder) = self.holders.get_mut(&id) {
            holder.ends_with_token = true;
            self.set_alarm(id);
        }
    }

    /// What the sources have said. A source that fails decides nothing: the question is asked again, and when patience has ended the
    /// holder has to go.
    pub fn decided(
        &mut self,
        now: SystemTime,
        question: &Question,
        answer: Result<Decision, Refusal>,
    ) -> Option<Order<H>> {
        let is_known = answer
            .as_ref()
            .err()
            .is_none_or(|refusal| refusal.code == RefusalCode::PageRenamed || !refusal.code.is_retryable());
        if is_known {
            self.last_answer = self.last_answer.max(Some(now));
        }
        let holder = self.holders.get_mut(&question.holder)?;
        if holder.is_removed || question.number <= holder.answered {
            return None;
        }
        let is_latest = question.number == holder.asked;
        let order = match answer {
            Ok(decision) => {
                holder.answered = question.number;
                holder.until = decision.until;
                // A later question has been under way since now at the earliest.
                holder.unsure_since = Some(now).filter(|_| !is_latest);
                if is_latest {
                    holder.retry_at = None;
                }
                let before = std::mem::replace(&mut holder.role, decision.role);
                (before != decision.role).then(|| Order::ChangeRole(holder.held(), decision.role))
            }
            Err(refusal) if is_known => Some(holder.remove(refusal)),
            Err(refusal) => {
                let since = holder.unsure_since.unwrap_or(now);
                if since + PATIENCE <= now {
                    Some(holder.remove(refusal))
                } else {
                    holder.retry_at = holder.retry_at.or(Some(now + PAUSE).filter(|_| is_latest));
                    None
                }
            }
        };
        self.set_alarm(question.holder);
        order
    }

    /// Time has passed.
    pub fn tick(&mut self, now: SystemTime) -> Vec<Order<H>> {
        let mut orders = Vec::new();
        while let Some((_, id)) = self.alarms.first().copied().filter(|(at, _)| *at <= now) {
            orders.extend(self.alarm(now, id));
            self.set_alarm(id);
        }
        orders
    }

    fn alarm(&mut self, now: SystemTime, id: HolderId) -> Vec<Order<H>> {
        let last_answer = self.last_answer;
        let Some(holder) = self.holders.get_mut(&id) else {
            return Vec::new();
        };
        let is_past = |at: &mut SystemTime| *at <= now;
        if holder.token_ends().is_some_and(|ends| ends <= now) {
            return vec![holder.remove(expired())];
        }
        if holder.gives_up_at(last_answer).is_some_and(|at| at <= now) {
            return vec![holder.remove(unknown())];
        }
        let asks = holder.ask_at.take_if(is_past).is_some();
        let asks = asks.then(|| Order::AskForToken(holder.held()));
        let (runs_out, retries) = (holder.until.take_if(is_past), holder.retry_at.take_if(is_past));
        let question = runs_out.or(retries).and_then(|_| self.ask(now, id));
        asks.into_iter().chain(question.map(Order::Decide)).collect()
    }

    fn ask(&mut self, now: SystemTime, id: HolderId) -> Option<Question> {
        let holder = self.holders.get_mut(&id).filter(|holder| !holder.is_removed)?;
        self.last_question += 1;
        holder.asked = self.last_question;
        holder.retry_at = None;
        holder.unsure_since.get_or_insert(now);
        Some(Question {
            holder: id,
            identity: holder.identity.clone(),
            page: holder.page.clone(),
            room: holder.room.clone(),
            number: holder.asked,
        })
    }

    fn those(&self, wanted: impl Fn(&Holder<H>) -> bool) -> Vec<HolderId> {
        let wanted = self
            .holders
            .iter()
            .filter(|(_, holder)| !holder.is_removed && wanted(holder));
        wanted.map(|(id, _)| *id).collect()
    }

    fn set_alarm(&mut self, id: HolderId) {
        let Some(holder) = self.holders.get_mut(&id) else {
            return;
        };
        let next = holder.next_alarm(self.last_answer);
        if let Some(before) = std::mem::replace(&mut holder.alarm, next) {
            self.alarms.remove(&(before, id));
        }
        self.alarms.extend(next.map(|at| (at, id)));
    }
}

/// Whether a page is meant by an id or a pattern.
fn covers(pattern: &str, page: &PageId) -> bool {
    pattern == page.as_str()
        || pattern
            .strip_suffix('*')
            .is_some_and(|prefix| page.as_str().starts_with(prefix))
}

fn unknown() -> Refusal {
    Refusal::unavailable("what you may do cannot be found out now, try again")
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(milliseconds)
    }

    fn identity(user: &str, expires_at: Option<u64>) -> Arc<Identity> {
        let mut identity = Identity::user(user, at(0)).expect("a user");
        identity.expires_at = expires_at.map(at);
        Arc::new(identity)
    }

    fn may(role: Role) -> Decision {
        Decision { role, until: None }
    }

    fn forbidden() -> Refusal {
        Refusal::new(RefusalCode::Forbidden, "no")
    }

    /// Ada edits a page by a token.
    fn ada(expires_at: Option<u64>) -> (Enforcement<&'static str>, HolderId) {
        let mut enforcement = Enforcement::default();
        let id = enforcement.enter(Newcomer {
            handle: "ada",
            room: None,
            page: Some(PageId::new("team/a").expect("a page id")),
            identity: identity("ada", expires_at),
            decision: may(Role::Edit),
        });
        (enforcement, id)
    }

    /// What is done, in words.
    fn words(orders: impl IntoIterator<Item = Order<&'static str>>) -> Vec<String> {
        let word = |order| match order {
            Order::Decide(_) => "decide".to_owned(),
            Order::ChangeRole(held, role) => format!("{} {}", held.handle, role.as_str()),
            Order::Remove(held, refusal) => format!("{} {}", held.handle, refusal.code.as_str()),
            Order::AskForToken(held) => format!("{} token", held.handle),
        };
        orders.into_iter().map(word).collect()
    }

    fn one(questions: Vec<Question>) -> Question {
        let [question] = <[Question; 1]>::try_from(questions).expect("one question");
        question
    }

    #[test]
    fn a_change_concerns_a_user_on_a_page_by_id_or_pattern() {
        let concerned = |user, page| ada(None).0.changed(at(0), user, page).len();
        for (pattern, expected) in [
            ("team/a", 1),
            ("team/*", 1),
            ("*", 1),
            ("team/ab*", 0),
            ("team", 0),
        ] {
            assert_eq!(concerned(Some("ada"), Some(pattern)), expected, "{pattern}");
        }
        assert_eq!(concerned(None, None), 1);
        assert_eq!(concerned(Some("*"), None), 1);
        assert_eq!(concerned(Some("bob"), None), 0);
    }

    #[test]
    fn who_may_less_gets_less_and_who_may_nothing_has_to_go() {
        let (mut all, id) = ada(None);
        let question = one(all.changed(at(0), Some("ada"), None));
        assert_eq!(
            words(all.decided(at(9), &question, Ok(may(Role::View)))),
            ["ada view"]
        );
        assert_eq!(all.standing(id).map(|(role, _)| role), Some(Role::View));
        let question = one(all.changed(at(10), None, None));
        assert_eq!(
            words(all.decided(at(19), &question, Err(forbidden()))),
            ["ada forbidden"]
        );
        assert_eq!(all.next_deadline(), None);
        assert!(
            all.changed(at(20), None, None).is_empty(),
            "nothing is asked about it any more"
        );
        assert!(all.send_away(None, None, |_| Some(forbidden())).is_empty());
    }

    #[test]
    fn a_source_that_fails_is_asked_again_until_patience_ends() {
        let (mut all, _) = ada(None);
        let mut question = one(all.changed(at(0), Some("ada"), None));
        let (mut now, mut tries) = (at(0), 0);
        let removed = loop {
            let failed = Err(Refusal::unavailable("down"));
            assert!(all.decided(now, &question, failed).is_none(), "it stays for now");
            tries += 1;
            now = all.next_deadline().expect("something is to be done");
            match all.tick(now).pop() {
                Some(Order::Decide(again)) => question = again,
                order => break words(order),
            }
        };
        assert_eq!(tries, 20);
        assert_eq!(
            (now, removed),
            (at(0) + PATIENCE, vec!["ada unavailable".to_owned()])
        );
    }

    #[test]
    fn a_source_that_never_answers_keeps_nobody_in() {
        let (mut all, _) = ada(None);
        one(all.changed(at(0), Some("ada"), None));
        assert_eq!(all.next_deadline(), Some(at(0) + PATIENCE));
        assert!(all.tick(at(9_999)).is_empty());
        assert_eq!(words(all.tick(at(10_000))), ["ada unavailable"]);
    }

    #[test]
    fn who_waits_only_because_many_wait_is_not_given_up() {
        let (mut all, _) = ada(None);
        let bob = all.enter(Newcomer {
            handle: "bob",
            room: None,
            page: None,
            identity: identity("bob", None),
            decision: may(Role::View),
        });
        one(all.changed(at(0), Some("ada"), None));
        let question = all.decide_again(at(0), bob).expect("a question");
        assert!(all.decided(at(8_000), &question, Ok(may(Role::View))).is_none());
        assert!(all.tick(at(10_000)).is_empty());
        assert_eq!(all.next_deadline(), Some(at(18_000)));
        assert_eq!(words(all.tick(at(18_000))), ["ada unavailable"]);
    }

    #[test]
    fn the_latest_answer_stands_in_whatever_order_they_come() {
        let (mut all, id) = ada(None);
        let revoked = one(all.changed(at(0), None, None));
        let granted = one(all.changed(at(1), None, None));
        assert!(all.decided(at(2), &granted, Ok(may(Role::Edit))).is_none());
        assert!(all.decided(at(3), &revoked, Ok(may(Role::View))).is_none());
        assert_eq!(all.standing(id).map(|(role, _)| role), Some(Role::Edit));
        assert_eq!(all.next_deadline(), None, "nothing is asked again");
    }

    #[test]
    fn a_token_ends_at_its_time_and_nobody_is_asked() {
        let (mut all, id) = ada(Some(60_000));
        all.ask_ahead(at(0), id, Duration::from_secs(20));
        assert_eq!(words(all.tick(at(40_000))), ["ada token"]);
        assert!(all.tick(at(59_999)).is_empty());
        assert_eq!(words(all.tick(at(60_000))), ["ada token_expired"]);
    }

    #[test]
    fn a_fresh_token_takes_the_place_of_the_old_one_and_of_answers_about_it() {
        let (mut all, id) = ada(Some(60_000));
        let old = one(all.changed(at(0), None, None));
        assert!(
            all.renew(at(1), id, identity("bob", None)).is_err(),
            "it stays with its user"
        );
        let fresh = all.renew(at(1), id, identity("ada", Some(90_000)));
        let fresh = fresh.expect("the same user").expect("a question");
        assert!(all.decided(at(2), &old, Err(expired())).is_none());
        assert!(all.decided(at(3), &fresh, Ok(may(Role::Edit))).is_none());
        assert!(all.tick(at(60_000)).is_empty());
        assert_eq!(words(all.tick(at(90_000))), ["ada token_expired"]);
        all.leave(id);
        assert_eq!(all.next_deadline(), None);
    }

    #[test]
    fn renewing_again_and_again_wins_no_time_while_a_source_fails() {
        let (mut all, id) = ada(None);
        one(all.changed(at(0), None, None));
        for second in 1..10 {
            let question = all.renew(at(second * 1000), id, identity("ada", None));
            assert!(question.expect("the same user").is_some());
        }
        assert_eq!(words(all.tick(at(10_000))), ["ada unavailable"]);
    }

    #[test]
    fn a_permission_that_runs_out_is_decided_again() {
        let (mut all, _) = ada(None);
        let question = one(all.changed(at(0), None, None));
        let until = Some(at(5_000));
        let limited = Decision {
            role: Role::Edit,
            until,
        };
        assert!(all.decided(at(1), &question, Ok(limited)).is_none());
        assert_eq!(words(all.tick(at(5_000))), ["decide"]);
        assert!(all.tick(at(5_001)).is_empty(), "once");
    }

    #[test]
    fn comings_and_goings_are_counted_once_each() {
        let (mut all, id) = ada(None);
        let before = all.comings_and_goings();
        assert_eq!(all.users().count(), 1);
        all.leave(id);
        all.leave(id);
        assert_eq!(all.comings_and_goings(), before + 1);
        assert_eq!(all.users().count(), 0);
    }

    #[test]
    fn a_socket_outlives_its_token_until_it_is_to_end_with_it() {
        let mut all = Enforcement::default();
        let id = all.enter(Newcomer {
            handle: "ada",
            room: None,
            page: None,
            identity: identity("ada", Some(1_000)),
            decision: may(Role::View),
        });
        assert!(all.tick(at(2_000)).is_empty());
        all.end_with_token(id);
        assert_eq!(words(all.tick(at(2_000))), ["ada token_expired"]);
    }
}

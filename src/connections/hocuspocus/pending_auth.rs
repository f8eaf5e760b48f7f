//! What a Hocuspocus client may say for a page before it is let in, in which order, and how much (pure; time is an argument).
//!
//! Providers do not wait for the answer to their token: what they say meanwhile is kept, and heard in order once they are let in. The
//! oldest ones that have no token show none and begin with step 1, which all others say after their token. Each
//! address is let in or denied for itself. Whoever is denied may come again with another token; what it says until then is refused.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use storage::PageId;

use crate::{
    protocols::hocuspocus::{Request, Token, page_of},
    rooms::{ClientMessage, Refusal, RefusalCode},
};

/// Limits on what is said before it is known who says it.
#[derive(Clone, Copy, Debug)]
pub struct PendingAuthLimits {
    /// How long a socket may take to show a good token; zero for as long as it likes.
    pub timeout: Duration,
    /// Messages kept on one socket; 0 for no limit.
    pub max_messages: usize,
    /// Their payload in bytes; 0 for no limit.
    pub max_bytes: usize,
    /// Pages of one socket; 0 for no limit.
    pub max_pages: usize,
}

/// Longest address in bytes: a page id, NUL, and the id of a session.
const MAX_ADDRESS_BYTES: usize = 512;

/// What is to be done with something that was said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Tell it to the page.
    Pass(Request),
    /// See whether this token opens the page.
    Verify(PageId, Token),
    /// It is kept.
    Kept,
    /// Tell the client so, with whatever word there is for what it said.
    Refused(Refusal, Request),
    /// The client leaves a page in which it is not.
    Left,
}

#[derive(Debug)]
enum AuthState {
    /// Something was said before any token.
    None(Instant),
    /// A token is being looked at, or was no good and the client is to hear so.
    Verifying,
    /// The token is good; the page is being opened.
    Opening,
    /// What is said goes to the page.
    Open,
    /// The last token was no good.
    Denied,
}

#[derive(Debug)]
struct Address {
    page: PageId,
    state: AuthState,
    /// What waits for it to be let in.
    kept: Vec<Request>,
}

/// All addresses of one socket.
#[derive(Debug)]
pub(super) struct PendingAuth {
    limits: PendingAuthLimits,
    addresses: BTreeMap<Arc<str>, Address>,
    kept: usize,
    kept_bytes: usize,
    opened: Instant,
    /// Some token was good.
    is_known: bool,
}

impl PendingAuth {
    /// A socket on which nothing has been said.
    pub(super) fn new(now: Instant, limits: PendingAuthLimits) -> Self {
        Self {
            limits,
            addresses: BTreeMap::new(),
            kept: 0,
            kept_bytes: 0,
            opened: now,
            is_known: false,
        }
    }

    /// Decides about something that was said to an address. An error ends the socket.
    pub(super) fn on_request(
        &mut self,
        now: Instant,
        address: &str,
        said: Request,
    ) -> Result<Verdict, Refusal> {
        // It would stand in every answer: no client has one.
        if address.len() > MAX_ADDRESS_BYTES {
            return Err(Refusal::malformed("the address is too long"));
        }
        if !self.addresses.contains_key(address) {
            match self.first_word(now, address, &said) {
                Ok(None) => {}
                Ok(Some(verdict)) => return Ok(verdict),
                Err(refusal) => return Ok(Verdict::Refused(refusal, said)),
            }
        }
        let Some(known) = self.addresses.get_mut(address) else {
            return Ok(Verdict::Left);
        };
        match (&known.state, said) {
            (AuthState::Open, said) => Ok(Verdict::Pass(said)),
            (AuthState::None(_) | AuthState::Denied, Request::Token(token)) => {
                known.state = AuthState::Verifying;
                Ok(Verdict::Verify(known.page.clone(), token))
            }
            (AuthState::None(_), said @ Request::ToRoom(ClientMessage::SyncStep1(_))) => {
                known.state = AuthState::Verifying;
                let page = known.page.clone();
                self.keep(address, said)?;
                Ok(Verdict::Verify(page, Token::none()))
            }
            (AuthState::None(_) | AuthState::Denied, Request::Leave) => {
                self.forget(address);
                Ok(Verdict::Left)
            }
            (AuthState::Denied, said) => Ok(Verdict::Refused(denied(), said)),
            (AuthState::None(_) | AuthState::Verifying | AuthState::Opening, said) => {
                self.keep(address, said)?;
                Ok(Verdict::Kept)
            }
        }
    }

    fn keep(&mut self, address: &str, said: Request) -> Result<(), Refusal> {
        let Some(known) = self.addresses.get_mut(address) else {
            return Ok(());
        };
        // Whoever is being looked at is not read meanwhile, which is enough.
        let is_waited_for = matches!(known.state, AuthState::Verifying | AuthState::Opening);
        self.kept += 1;
        self.kept_bytes += said.payload_bytes();
        known.kept.push(said);
        match is_waited_for || self.has_room() {
            true => Ok(()),
            false => Err(Refusal::new(
                RefusalCode::Unauthenticated,
                "too much was said before a token was shown to be good",
            )),
        }
    }

    /// What is said to an address for the first time. Nothing is remembered of one that cannot be a page.
    fn first_word(
        &mut self,
        now: Instant,
        address: &str,
        said: &Request,
    ) -> Result<Option<Verdict>, Refusal> {
        if *said == Request::Leave {
            return Ok(Some(Verdict::Left));
        }
        let page = PageId::new(page_of(address)).map_err(|error| Refusal::malformed(error.to_string()))?;
        let limit = self.limits.max_pages;
        if limit != 0 && self.addresses.len() >= limit {
            let is_denied = |(_, address): &(&Arc<str>, &Address)| matches!(address.state, AuthState::Denied);
            let denied = self
                .addresses
                .iter()
                .find(is_denied)
                .map(|(name, _)| name.clone());
            match denied {
                Some(denied) => drop(self.addresses.remove(&denied)),
                None => {
                    return Err(Refusal::new(
                        RefusalCode::RateLimited,
                        format!("this connection has {limit} pages, which is the limit"),
                    ));
                }
            }
        }
        let first = Address {
            page,
            state: AuthState::None(now),
            kept: Vec::new(),
        };
        self.addresses.insert(address.into(), first);
        Ok(None)
    }

    /// Whether more may be kept.
    pub(super) fn has_room(&self) -> bool {
        let fits = |limit: usize, count: usize| limit == 0 || count <= limit;
        fits(self.limits.max_messages, self.kept) && fits(self.limits.max_bytes, self.kept_bytes)
    }

    /// Whether some token was good.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The token was good; the page is being opened.
    pub(super) fn verified(&mut self, address: &str) {
        self.is_known = true;
        if let Some(address) = self.addresses.get_mut(address) {
            address.state = AuthState::Opening;
        }
    }

    /// The last token is no good, of which the client has not been told: what it says waits until then.
    pub(super) fn rejected(&mut self, address: &str) {
        if let Some(address) = self.addresses.get_mut(address) {
            address.state = AuthState::Verifying;
        }
    }

    /// The page is open: gives what waits for it.
    pub(super) fn admitted(&mut self, address: &str) -> Vec<Request> {
        self.turn(address, AuthState::Open)
    }

    /// The client is not let in: gives what was said in vain.
    pub(super) fn denied(&mut self, address: &str) -> Vec<Request> {
        self.turn(address, AuthState::Denied)
    }

    fn turn(&mut self, address: &str, state: AuthState) -> Vec<Request> {
        let Some(address) = self.addresses.get_mut(address) else {
            return Vec::new();
        };
        address.state = state;
        let kept = std::mem::take(&mut address.kept);
        self.kept -= kept.len();
        self.kept_bytes -= kept.iter().map(Request::payload_bytes).sum::<usize>();
        kept
    }

    /// The client is no longer in the page, nor on its way.
    pub(super) fn forget(&mut self, address: &str) {
        self.turn(address, AuthState::Denied);
        self.addresses.remove(address);
    }

    /// Whether nobody has been let in and it is time to hang up. Whoever is being looked at is waited for.
    pub(super) fn is_late(&self, now: Instant) -> bool {
        self.deadline().is_some_and(|deadline| now >= deadline)
    }

    /// Addresses to which something has been said for too long without a token.
    pub(super) fn overdue(&self, now: Instant) -> Vec<Arc<str>> {
        let is_overdue = |address: &Address| {
            self.must_verify_by(address)
                .is_some_and(|deadline| now >= deadline)
        };
        let overdue = self.addresses.iter().filter(|(_, address)| is_overdue(address));
        overdue.map(|(name, _)| name.clone()).collect()
    }

    /// When to look at the clock again.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let silent = self
            .addresses
            .values()
            .filter_map(|address| self.must_verify_by(address));
        silent.chain(self.deadline()).min()
    }

    fn must_verify_by(&self, address: &Address) -> Option<Instant> {
        let AuthState::None(since) = address.state else {
            return None;
        };
        (!self.limits.timeout.is_zero()).then(|| since + self.limits.timeout)
    }

    fn deadline(&self) -> Option<Instant> {
        let is_waited_for =
            |address: &Address| matches!(address.state, AuthState::Verifying | AuthState::Opening);
        let waits =
            !self.is_known && !self.limits.timeout.is_zero() && !self.addresses.values().any(is_waited_for);
        waits.then(|| self.opened + self.limits.timeout)
    }
}

/// The refusal of what is said to a page that is closed to the client.
fn denied() -> Refusal {
    Refusal::new(RefusalCode::Unauthenticated, "show a token for this page first")
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::rooms::ClientMessage;

    const LIMITS: PendingAuthLimits = PendingAuthLimits {
        timeout: Duration::from_secs(10),
        max_messages: 3,
        max_bytes: 10,
        max_pages: 2,
    };

    #[expect(clippy::disallowed_methods, reason = "tests begin at some instant")]
    fn pending() -> (Instant, PendingAuth) {
        let now = Instant::now();
        (now, PendingAuth::new(now, LIMITS))
    }

    fn token() -> Request {
        Request::Token(Token {
            text: "token".to_owned(),
            has_version: false,
        })
    }

    fn edit(bytes: usize) -> Request {
        Request::ToRoom(ClientMessage::Update(vec![0; bytes].into()))
    }

    fn step_1() -> Request {
        Request::ToRoom(ClientMessage::SyncStep1(Bytes::from_static(&[0])))
    }

    /// What the verdict is called.
    fn name(verdict: &Result<Verdict, Refusal>) -> String {
        match verdict {
            Ok(Verdict::Pass(_)) => "pass".to_owned(),
            Ok(Verdict::Verify(page, _)) => format!("verify {}", page.as_str()),
            Ok(Verdict::Kept) => "kept".to_owned(),
            Ok(Verdict::Refused(refusal, _)) => format!("refused {}", refusal.code.as_str()),
            Ok(Verdict::Left) => "left".to_owned(),
            Err(refusal) => format!("hang up {}", refusal.code.as_str()),
        }
    }

    /// What happens on a socket, one line each: what comes, and what becomes of it.
    enum Event {
        Says(&'static str, Request, &'static str),
        Verified(&'static str),
        Admitted(&'static str, usize),
        Denied(&'static str, usize),
    }
    use Event::{Admitted, Denied, Says, Verified};

    fn check(events: Vec<Event>) {
        let (now, mut pending) = pending();
        for (index, event) in events.into_iter().enumerate() {
            match event {
                Says(address, said, expected) => {
                    let verdict = name(&pending.on_request(now, address, said));
                    assert_eq!(verdict, expected, "event {index}");
                }
                Verified(address) => pending.verified(address),
                Admitted(address, kept) => assert_eq!(pending.admitted(address).len(), kept, "event {index}"),
                Denied(address, kept) => assert_eq!(pending.denied(address).len(), kept, "event {index}"),
            }
        }
    }

    #[test]
    fn what_is_said_before_the_answer_is_kept_and_then_it_passes() {
        check(vec![
            Says("d", token(), "verify d"),
            Says("d", step_1(), "kept"),
            Says("d", edit(2), "kept"),
            Verified("d"),
            Says("d", token(), "kept"),
            Admitted("d", 3),
            Says("d", edit(100), "pass"),
            Says("d", token(), "pass"),
            Says("d", Request::Leave, "pass"),
        ]);
    }

    #[test]
    fn what_is_said_before_the_token_is_kept_too() {
        check(vec![
            Says("d", edit(1), "kept"),
            Says("d", token(), "verify d"),
            Verified("d"),
            Admitted("d", 1),
        ]);
    }

    #[test]
    fn whoever_begins_with_step_1_has_no_token() {
        check(vec![
            Says("d", edit(1), "kept"),
            Says("d", step_1(), "verify d"),
            Says("d", edit(1), "kept"),
            Verified("d"),
            Admitted("d", 3),
            Says("d", edit(1), "pass"),
        ]);
    }

    #[test]
    fn whoever_is_denied_may_come_again_and_is_refused_until_then() {
        check(vec![
            Says("d", token(), "verify d"),
            Says("d", edit(1), "kept"),
            Denied("d", 1),
            Says("d", edit(1), "refused unauthenticated"),
            Says("d", token(), "verify d"),
            Verified("d"),
            Admitted("d", 0),
            Says("d", edit(1), "pass"),
        ]);
    }

    #[test]
    fn each_address_is_let_in_for_itself_and_a_session_is_one() {
        check(vec![
            Says("d\0one", token(), "verify d"),
            Verified("d\0one"),
            Admitted("d\0one", 0),
            Says("d\0two", edit(1), "kept"),
            Says("d\0one", step_1(), "pass"),
            Says("d\0two", token(), "verify d"),
        ]);
    }

    #[test]
    fn only_so_much_is_kept_of_strangers() {
        check(vec![
            Says("d", edit(1), "kept"),
            Says("e", edit(1), "kept"),
            Says("d", edit(1), "kept"),
            Says("e", edit(1), "hang up unauthenticated"),
        ]);
        check(vec![Says("d", edit(11), "hang up unauthenticated")]);
    }

    #[test]
    fn whoever_is_looked_at_is_made_to_wait_instead() {
        let (now, mut pending) = pending();
        let _ = pending.on_request(now, "d", token());
        for _ in 0..4 {
            assert_eq!(name(&pending.on_request(now, "d", edit(1))), "kept");
        }
        assert!(!pending.has_room(), "the socket is not read any more");
    }

    #[test]
    fn whoever_is_known_is_made_to_wait_instead_while_the_page_opens() {
        let (now, mut pending) = pending();
        let _ = pending.on_request(now, "d", token());
        pending.verified("d");
        for _ in 0..3 {
            assert_eq!(name(&pending.on_request(now, "d", edit(1))), "kept");
            assert!(pending.has_room());
        }
        assert_eq!(name(&pending.on_request(now, "d", edit(20))), "kept");
        assert!(!pending.has_room(), "the socket is not read any more");
        assert_eq!(pending.admitted("d").len(), 4);
        assert!(pending.has_room());
    }

    #[test]
    fn only_so_many_pages_are_open_and_a_denied_one_makes_room() {
        check(vec![
            Says("a", token(), "verify a"),
            Says("b", token(), "verify b"),
            Says("c", token(), "refused rate_limited"),
            Denied("a", 0),
            Says("c", token(), "verify c"),
            Says("d", edit(1), "refused rate_limited"),
        ]);
    }

    #[test]
    fn what_cannot_be_a_page_is_refused_and_not_remembered() {
        check(vec![
            Says("", token(), "refused malformed"),
            Says("a/../b", token(), "refused malformed"),
            Says("\0session", edit(1), "refused malformed"),
            Says("d", Request::Leave, "left"),
            Says("d", token(), "verify d"),
            Says("e", token(), "verify e"),
        ]);
    }

    #[test]
    fn a_socket_without_a_good_token_is_hung_up_on() {
        let (now, mut pending) = pending();
        let later = now + LIMITS.timeout;
        assert_eq!(pending.next_deadline(), Some(later));
        assert!(pending.is_late(later));
        let _ = pending.on_request(now, "d", token());
        assert!(
            !pending.is_late(later),
            "whoever is being looked at is waited for"
        );
        assert_eq!(pending.next_deadline(), None);
        pending.denied("d");
        assert!(pending.is_late(later));
        let _ = pending.on_request(now, "d", token());
        pending.verified("d");
        pending.admitted("d");
        assert!(!pending.is_late(later));
        pending.forget("d");
        assert_eq!(pending.next_deadline(), None, "it has shown a good token once");
        assert_eq!(name(&pending.on_request(now, "e", edit(1))), "kept");
        assert_eq!(pending.overdue(now), []);
        assert_eq!(pending.next_deadline(), Some(later));
        assert_eq!(pending.overdue(later), [Arc::from("e")]);
    }
}

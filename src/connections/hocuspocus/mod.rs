//! A socket with many pages, as Hocuspocus has it: a lobby for those who are not let in yet, and a seat for each page.
//!
//! Each page is let in, refused and closed for itself. The socket is hung up on when nobody shows a good token in time, when its last
//! page is closed, and when a page must be opened anew: providers come back by themselves only to a new socket.

mod ledger;
mod lobby;
mod page;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    ops::Bound::{Excluded, Included, Unbounded},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::upgrade::OnUpgrade;
use storage::PageId;
use tokio_util::sync::CancellationToken;

pub use self::lobby::LobbyLimits;
use self::{
    lobby::{Lobby, Verdict},
    page::{Fresh, Known, Page, Seated, Stage},
};
use super::{
    Budget, ConnectionPermit,
    attendance::{Attended, Work},
    websocket::{Conversation, MAX_STRANGER_BYTES, Say, Surroundings, accepted, now, or_any, run},
};
use crate::{
    auth::{Credential, LiveSocket},
    protocols::hocuspocus::{self, Frame, Said, Token},
    rooms::{ClientMessage, Departure, Refusal, RefusalCode},
};

/// Answers that may wait to be sent before the client is not read any more.
const MAX_ANSWERS: usize = 64;
/// What one socket may say beside documents in a second, and at once, in KiB: everybody in the page has to take it, and nothing later
/// makes up for it.
const ASIDES_KIB_A_SECOND: u32 = 1024;
const ASIDES_KIB_AT_ONCE: u32 = 2048;

/// What all sockets that speak Hocuspocus need.
#[derive(Clone)]
pub struct Host {
    /// What connections need.
    pub around: Arc<Surroundings>,
    /// Limits before anybody is let in.
    pub limits: LobbyLimits,
    /// Ends connections that are in no room.
    pub hang_up: CancellationToken,
}

/// Serves one socket from an address until it ends. `credential` is what its handshake brought, for pages that are given no token.
pub async fn serve(
    on_upgrade: OnUpgrade,
    credential: Option<Credential>,
    (address, permit): (IpAddr, ConnectionPermit),
    host: Host,
) {
    let Some(socket) = accepted(
        on_upgrade,
        or_any(host.around.max_message_bytes).min(MAX_STRANGER_BYTES),
    )
    .await
    else {
        return;
    };
    let around = host.around.clone();
    run(
        socket,
        Hocuspocus::new(host, credential, (address, permit)),
        None,
        around,
    )
    .await;
}

struct Hocuspocus {
    host: Host,
    credential: Option<Credential>,
    /// Where it comes from.
    address: IpAddr,
    permit: Arc<Mutex<ConnectionPermit>>,
    lobby: Lobby,
    /// By address.
    pages: BTreeMap<Arc<str>, Page>,
    /// Tells when somebody who has shown a good token may not enter any more.
    users: BTreeMap<Option<Arc<str>>, LiveSocket>,
    /// Why it is hung up as soon as it has no page.
    gone: Option<Refusal>,
    answers: VecDeque<Bytes>,
    /// Seats that are being given back.
    leaving: Vec<Work<()>>,
    /// The address that was spoken for last: the next ones have their turn first.
    last: Arc<str>,
    /// The provider has told its version.
    has_version: bool,
    stopping: Option<Work<()>>,
    hang_up: Option<Refusal>,
    /// What it may say beside documents, in KiB. Whoever says more is not read for a while.
    asides: Budget,
}

/// What a page has come to while nobody looked.
enum Turned {
    Looked(Result<Known, Refusal>),
    Entered(Result<Box<Seated>, Refusal>),
    Renewed(Result<Fresh, Refusal>),
    /// The client has waited long enough to hear that its token is no good.
    MayBeTold {
        refusal: Refusal,
        /// An earlier token was good.
        was_in: bool,
    },
}

impl Hocuspocus {
    fn new(
        host: Host,
        credential: Option<Credential>,
        (address, permit): (IpAddr, ConnectionPermit),
    ) -> Self {
        Self {
            lobby: Lobby::new(now(), host.limits),
            stopping: Some(Box::pin(host.hang_up.clone().cancelled_owned())),
            host,
            credential,
            address,
            permit: Arc::new(Mutex::new(permit)),
            pages: BTreeMap::new(),
            users: BTreeMap::new(),
            gone: None,
            answers: VecDeque::new(),
            leaving: Vec::new(),
            last: "".into(),
            has_version: false,
            hang_up: None,
            asides: Budget::new(now(), ASIDES_KIB_A_SECOND, ASIDES_KIB_AT_ONCE),
        }
    }

    fn credential(&mut self, token: Token) -> Option<Credential> {
        self.has_version |= token.has_version;
        match token.text.is_empty() {
            true => self.credential.clone(),
            false => Some(Credential::Given(token.text)),
        }
    }

    /// Begins to look at a token with which somebody wants to enter a page.
    fn look(&mut self, page: PageId, token: Token) -> Work<Result<Known, Refusal>> {
        let credential = self.credential(token);
        let (access, address, permit) = (self.host.around.access.clone(), self.address, self.permit.clone());
        Box::pin(async move {
            let identified = access.identify(credential.as_ref()).await.map(Arc::new);
            let count = |user: Option<&Arc<str>>| {
                let mut permit = permit.lock().unwrap_or_else(PoisonError::into_inner);
                permit.claim(user)
            };
            let (membership, ()) = access.admit(identified, &page, address, count).await?;
            let live = access.watch_socket(membership.identity.clone()).await;
            Ok((membership, live))
        })
    }

    /// Says something to a page that is open to the client.
    fn pass(&mut self, address: &str, said: Said) {
        let Some(Page { id, stage, .. }) = self.pages.get_mut(address) else {
            return;
        };
        match (stage, said) {
            (Stage::In(seated), Said::ToRoom(message)) => seated.say(message),
            (Stage::In(_), Said::Token(token)) => {
                let page = id.clone();
                let credential = self.credential(token);
                let access = self.host.around.access.clone();
                let looking = Box::pin(async move {
                    let membership = access.membership(credential.as_ref(), &page).await?;
                    let live = access.watch_socket(membership.identity.clone()).await;
                    Ok((membership, live))
                });
                if let Some(seated) = self.pages.get_mut(address).and_then(Page::seated) {
                    seated.renew(looking);
                }
            }
            (_, Said::Leave) => {
                self.remove(address);
                self.left(address);
            }
            (_, Said::ToRoom(_) | Said::Token(_) | Said::Nothing) => {}
        }
    }

    /// Confirms that the client has left, to programs that bear it: the oldest throw when they hear of a page that they have taken leave
    /// of.
    fn left(&mut self, address: &str) {
        if self.has_version {
            self.answers
                .push_back(hocuspocus::closed(address, "provider_initiated"));
        }
    }

    fn refused(&mut self, address: &str, refusal: &Refusal, said: &Said) {
        if let Said::Token(_) = said {
            let denied = hocuspocus::permission_denied(address, &refusal.to_string());
            self.answers.push_back(denied);
        }
        if said.wants_status() {
            self.answers.push_back(hocuspocus::sync_status(address, false));
        }
    }

    fn turned(&mut self, address: &Arc<str>, turned: Turned) {
        match turned {
            Turned::Looked(Ok((membership, live))) => {
                self.lobby.vouched(address);
                self.users.insert(membership.user.clone(), live);
                self.gone = None;
                if let Some(page) = self.pages.get_mut(address) {
                    page.enter(&self.host.around, membership);
                }
            }
            Turned::Looked(Err(refusal)) => self.turn_away(address, refusal),
            Turned::Entered(Ok(mut seated)) => {
                self.answers.push_back(seated.let_in(address));
                if let Some(page) = self.pages.get_mut(address) {
                    page.stage = Stage::In(seated);
                }
                for said in self.lobby.admitted(address) {
                    self.pass(address, said);
                }
            }
            Turned::Entered(Err(refusal)) => self.deny(address, &refusal),
            Turned::Renewed(renewed) => {
                let seated = self.pages.get_mut(address).and_then(Page::seated);
                match (renewed, seated) {
                    (Ok(fresh), Some(seated)) => {
                        seated.renewed(&fresh);
                        self.users.insert(fresh.live.user(), fresh.live);
                        self.answers.push_back(seated.let_in(address));
                    }
                    (Ok(_), None) => {}
                    (Err(refusal), _) => self.turn_away(address, refusal),
                }
            }
            Turned::MayBeTold { refusal, was_in } => {
                if was_in {
                    for said in self.lobby.denied(address) {
                        self.refused(address, &refusal, &said);
                    }
                    self.close(address, &refusal);
                } else {
                    self.deny(address, &refusal);
                }
            }
        }
    }

    /// A token is no good. Whoever shows many such tokens hears of it later and later; meanwhile the page is closed to it, and no other
    /// page of the socket waits.
    fn turn_away(&mut self, address: &str, refusal: Refusal) {
        let Some(page) = self.pages.get_mut(address) else {
            return;
        };
        let (access, from) = (self.host.around.access.clone(), self.address);
        let is_bad = refusal.code == RefusalCode::Unauthenticated;
        let waiting = Box::pin(async move {
            if is_bad {
                access.failures().failed(from).await;
            }
        });
        self.lobby.doubted(address);
        if let Some(seated) = page.turn_away(refusal, waiting) {
            self.give_back(*seated);
        }
    }

    /// A page is not opened to the client.
    fn deny(&mut self, address: &str, refusal: &Refusal) {
        self.host.around.metrics.refused(refusal.code.as_str(), 1);
        self.pages.remove(address);
        if needs_new_socket(refusal.code) {
            self.hang_up.get_or_insert(refusal.clone());
            return;
        }
        let denied = hocuspocus::permission_denied(address, &refusal.to_string());
        self.answers.push_back(denied);
        for said in self.lobby.denied(address) {
            self.refused(address, refusal, &said);
            if said == Said::Leave {
                self.lobby.forget(address);
                self.left(address);
            }
        }
    }

    /// A page that was open is closed to the client.
    fn close(&mut self, address: &str, refusal: &Refusal) {
        self.remove(address);
        let reason = refusal.to_string();
        if self.has_version {
            self.answers.push_back(hocuspocus::closed(address, &reason));
        } else if !self.pages.is_empty() {
            // The oldest providers break on the word for closing; all know this one.
            let denied = hocuspocus::permission_denied(address, &reason);
            self.answers.push_back(denied);
        }
        if self.pages.is_empty() || needs_new_socket(refusal.code) {
            self.hang_up.get_or_insert(refusal.clone());
        }
    }

    fn remove(&mut self, address: &str) {
        self.lobby.forget(address);
        if let Some(page) = self.pages.remove(address)
            && let Stage::In(seated) = page.stage
        {
            self.give_back(*seated);
        }
    }

    fn give_back(&mut self, seated: Seated) {
        self.leaving.push(seated.end(Departure::Clean));
    }

    /// What the rooms want done next, each page in its turn.
    fn poll_pages(&mut self, context: &mut Context<'_>) -> Option<(Arc<str>, Attended)> {
        let last = self.last.clone();
        let after = (Excluded(&*last), Unbounded);
        for (address, page) in self.pages.range_mut::<str, _>(after) {
            if let Some(attended) = page.poll_next(context) {
                return Some((address.clone(), attended));
            }
        }
        let before = (Unbounded, Included(&*last));
        for (address, page) in self.pages.range_mut::<str, _>(before) {
            if let Some(attended) = page.poll_next(context) {
                return Some((address.clone(), attended));
            }
        }
        None
    }
}

impl Conversation for Hocuspocus {
    fn hear(&mut self, frame: &Bytes) -> Result<usize, Refusal> {
        let malformed = |error: crdt::DecodeError| Refusal::malformed(error.to_string());
        let (address, said) = match hocuspocus::decode(frame).map_err(malformed)? {
            Frame::Ping => {
                self.answers.push_back(Bytes::from_static(hocuspocus::PONG));
                return Ok(1);
            }
            Frame::Pong => return Ok(1),
            Frame::Addressed { address, said } => (address, said),
        };
        if let Said::ToRoom(ClientMessage::Stateless(payload)) = &said {
            self.asides.spend(now(), payload.len() / 1024 + 1);
        }
        match self.lobby.hear(now(), address, said)? {
            Verdict::Pass(said) => self.pass(address, said),
            Verdict::Knock(id, token) => {
                let looking = self.look(id.clone(), token);
                self.pages.insert(
                    address.into(),
                    Page::knocking(id, address, self.has_version, looking),
                );
            }
            Verdict::Kept => {}
            Verdict::Refused(refusal, said) => self.refused(address, &refusal, &said),
            Verdict::Left => self.left(address),
        }
        Ok(1)
    }

    fn may_hear(&self) -> bool {
        self.hang_up.is_none()
            && self.asides.free_at().is_none_or(|at| at <= now())
            && self.answers.len() < MAX_ANSWERS
            && self.leaving.len() < MAX_ANSWERS
            && self.lobby.has_room()
            && self.pages.values().all(Page::may_hear)
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        if let Some(stopping) = &mut self.stopping
            && stopping.as_mut().poll(context).is_ready()
        {
            self.stopping = None;
            self.hang_up.get_or_insert(Refusal::draining());
        }
        self.users.retain(|_, user| match user.poll_ended(context) {
            Poll::Ready(refusal) => {
                self.gone = Some(refusal);
                false
            }
            Poll::Pending => true,
        });
        self.leaving
            .retain_mut(|leaving| leaving.as_mut().poll(context).is_pending());
        loop {
            let turned: Vec<_> = self
                .pages
                .iter_mut()
                .filter_map(|(address, page)| Some((address.clone(), page.poll_work(context)?)))
                .collect();
            if turned.is_empty() {
                break;
            }
            for (address, turned) in turned {
                self.turned(&address, turned);
            }
        }
        if self.pages.is_empty()
            && let Some(refusal) = &self.gone
        {
            self.hang_up.get_or_insert(refusal.clone());
        }
    }

    fn poll_say(&mut self, context: &mut Context<'_>) -> Poll<Say> {
        while self.answers.is_empty()
            && self.hang_up.is_none()
            && let Some((address, attended)) = self.poll_pages(context)
        {
            let say = match attended {
                Attended::Message(message) => self.pages.get_mut(&address).and_then(|page| {
                    self.answers.extend(page.new_scope(&address, &message));
                    page.frame(&message)
                }),
                // Nobody posts here.
                Attended::Posted(..) => None,
                Attended::Receipt { accepted } => {
                    let seated = self.pages.get_mut(&address).and_then(Page::seated);
                    let count = seated.map_or(1, |seated| seated.statuses(accepted));
                    let status = hocuspocus::sync_status(&address, accepted);
                    for _ in 1..count {
                        self.answers.push_back(status.clone());
                    }
                    Some(Say::Frame(status))
                }
                Attended::Close(refusal) => {
                    self.close(&address, &refusal);
                    None
                }
            };
            self.last = address;
            if let Some(say) = say {
                return Poll::Ready(say);
            }
        }
        if let Some(answer) = self.answers.pop_front() {
            return Poll::Ready(Say::Frame(answer));
        }
        match &self.hang_up {
            Some(refusal) => Poll::Ready(Say::Close(refusal.clone())),
            None => Poll::Pending,
        }
    }

    fn is_known(&self) -> bool {
        self.lobby.is_known()
    }

    fn keep_alive(&self) -> Option<Bytes> {
        if self.has_version {
            return Some(Bytes::from_static(hocuspocus::PING));
        }
        let (address, _) = self.pages.first_key_value()?;
        Some(hocuspocus::keep_alive(address))
    }

    fn tick(&mut self, now: Instant) {
        if self.lobby.is_late(now) {
            self.hang_up.get_or_insert(Refusal::new(
                RefusalCode::Unauthenticated,
                "no good token was shown in time",
            ));
        }
        for address in self.lobby.overdue(now) {
            let refusal = Refusal::new(RefusalCode::Unauthenticated, "no token was shown in time");
            self.deny(&address, &refusal);
        }
        let mut expired = Vec::new();
        for (address, page) in &mut self.pages {
            let Some(seated) = page.seated() else { continue };
            if seated.expires.is_some_and(|at| now >= at) {
                expired.push(address.clone());
            } else if seated.ask_at.is_some_and(|at| now >= at) {
                seated.ask_at = None;
                self.answers.push_back(hocuspocus::token_request(address));
            }
        }
        for address in expired {
            let refusal = Refusal::new(RefusalCode::TokenExpired, "the token has expired");
            self.close(&address, &refusal);
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let pages = self.pages.values().filter_map(Page::next_deadline);
        let asides = self.asides.free_at().filter(|at| *at > now());
        pages.chain(self.lobby.next_deadline()).chain(asides).min()
    }

    async fn end(self, departure: Departure) {
        let Self {
            host,
            permit,
            mut lobby,
            pages,
            leaving,
            ..
        } = self;
        let pages = pages.into_iter().map(|(address, page)| {
            let kept = lobby.admitted(&address);
            page.end(&host.around, kept, departure)
        });
        join_all(pages.collect::<Vec<_>>()).await;
        join_all(leaving).await;
        drop(permit);
    }
}

/// Whether the client is to come back for this: a provider does so only when its socket is closed. A full room is no reason to end
/// the others of the socket.
fn needs_new_socket(code: RefusalCode) -> bool {
    code.is_retryable() && !matches!(code, RefusalCode::RoomFull | RefusalCode::RateLimited)
}

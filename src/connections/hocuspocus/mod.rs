//! A socket with many pages, as Hocuspocus has it: a place for those who are not let in yet, and a seat for each page.
//!
//! Each page is let in, refused and closed for itself. The socket is hung up on when nobody shows a good token in time, when its last
//! page is closed, and when a page must be opened anew: providers come back by themselves only to a new socket.

mod ledger;
mod page;
mod pending_auth;

use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::upgrade::OnUpgrade;
use storage::PageId;
use tokio_util::sync::CancellationToken;

pub use self::pending_auth::PendingAuthLimits;
use self::{
    page::{JoinedPage, Known, Page, Progress, Stage},
    pending_auth::{PendingAuth, Verdict},
};
use super::{
    ConnectionSlot, Session, TokenBucket,
    context::ServerContext,
    driver::{Driving, now, run},
    handshake::accepted,
    protocol::{Protocol, Work},
    rotation::Rotation,
    seat_io::SeatEvent,
    websocket::{MAX_STRANGER_BYTES, WebSocket},
};
use crate::{
    auth::{Credential, LiveSocket},
    protocols::Frame,
    protocols::hocuspocus::{self, Incoming, Request, Token, address_of},
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
    pub server: Arc<ServerContext>,
    /// Limits before anybody is let in.
    pub limits: PendingAuthLimits,
    /// Ends connections that are in no room.
    pub hang_up: CancellationToken,
}

/// Serves one socket from an address until it ends. `credential` is what its handshake brought, for pages that are given no token.
pub async fn serve(
    on_upgrade: OnUpgrade,
    credential: Option<Credential>,
    (address, slot): (IpAddr, ConnectionSlot),
    host: Host,
) {
    let server = host.server.clone();
    let limit = server.max_message().min(MAX_STRANGER_BYTES);
    let Some(mut socket) = accepted(on_upgrade, limit).await else {
        return;
    };
    // What is too long for one page must not end the others.
    socket.outlive_overlong();
    let driving = Driving {
        session: Session::new(now(), server.session),
        max_message_bytes: server.max_message(),
        stop: Some(host.hang_up.clone()),
        server,
    };
    let protocol = Hocuspocus::new(host, credential, (address, slot));
    run(WebSocket::new(socket), Box::new(protocol), driving).await;
}

struct Hocuspocus {
    host: Host,
    credential: Option<Credential>,
    /// Where it comes from.
    address: IpAddr,
    slot: Arc<Mutex<ConnectionSlot>>,
    pending: PendingAuth,
    /// By address.
    pages: BTreeMap<Arc<str>, Page>,
    /// Tells when somebody who has shown a good token may not enter any more.
    users: BTreeMap<Option<Arc<str>>, LiveSocket>,
    /// Why it is hung up as soon as it has no page.
    gone: Option<Refusal>,
    answers: VecDeque<Bytes>,
    /// Seats that are being given back.
    leaving: Vec<Work<()>>,
    rotation: Rotation<Arc<str>>,
    /// The provider has told its version.
    has_version: bool,
    hang_up: Option<Refusal>,
    /// What it may say beside documents, in KiB. Whoever says more is not read for a while.
    asides: TokenBucket,
}

impl Hocuspocus {
    fn new(host: Host, credential: Option<Credential>, (address, slot): (IpAddr, ConnectionSlot)) -> Self {
        Self {
            pending: PendingAuth::new(now(), host.limits),
            host,
            credential,
            address,
            slot: Arc::new(Mutex::new(slot)),
            pages: BTreeMap::new(),
            users: BTreeMap::new(),
            gone: None,
            answers: VecDeque::new(),
            leaving: Vec::new(),
            rotation: Rotation::default(),
            has_version: false,
            hang_up: None,
            asides: TokenBucket::new(now(), ASIDES_KIB_A_SECOND, ASIDES_KIB_AT_ONCE),
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
    fn verify(&mut self, page: PageId, token: Token) -> Work<Result<Known, Refusal>> {
        let credential = self.credential(token);
        let (access, address, slot) = (self.host.server.access.clone(), self.address, self.slot.clone());
        Box::pin(async move {
            let identified = access.identify(credential.as_ref()).await.map(Arc::new);
            let count = |user: Option<&Arc<str>>| {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                slot.attach_user(user)
            };
            let (membership, ()) = access.admit(identified, &page, address, count).await?;
            let live = access.watch_socket(membership.identity.clone()).await;
            Ok((membership, live))
        })
    }

    /// Says something to a page that is open to the client.
    fn on_request(&mut self, address: &str, request: Request) {
        let Some(Page { id, stage, .. }) = self.pages.get_mut(address) else {
            return;
        };
        match (stage, request) {
            (Stage::Open(joined), Request::ToRoom(message)) => joined.send(message),
            (Stage::Open(_), Request::Token(token)) => {
                let page = id.clone();
                let credential = self.credential(token);
                let access = self.host.server.access.clone();
                let verifying = Box::pin(async move {
                    let membership = access.membership(credential.as_ref(), &page).await?;
                    let live = access.watch_socket(membership.identity.clone()).await;
                    Ok((membership, live))
                });
                if let Some(joined) = self.pages.get_mut(address).and_then(Page::joined) {
                    joined.renew(verifying);
                }
            }
            (_, Request::Leave) => {
                self.remove(address);
                self.left(address);
            }
            (_, Request::ToRoom(_) | Request::Token(_) | Request::Nothing) => {}
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

    fn refused(&mut self, address: &str, refusal: &Refusal, request: &Request) {
        if let Request::Token(_) = request {
            let denied = hocuspocus::permission_denied(address, &refusal.to_string());
            self.answers.push_back(denied);
        }
        if request.wants_status() {
            self.answers.push_back(hocuspocus::sync_status(address, false));
        }
    }

    fn progress(&mut self, address: &Arc<str>, progress: Progress) {
        match progress {
            Progress::Verified(Ok((membership, live))) => {
                self.pending.verified(address);
                self.users.insert(membership.user.clone(), live);
                self.gone = None;
                if let Some(page) = self.pages.get_mut(address) {
                    page.open(&self.host.server, membership);
                }
            }
            Progress::Verified(Err(refusal)) => self.reject(address, refusal),
            Progress::Joined(Ok(mut joined)) => {
                self.answers.push_back(joined.let_in(address));
                if let Some(page) = self.pages.get_mut(address) {
                    page.stage = Stage::Open(joined);
                }
                for request in self.pending.admitted(address) {
                    self.on_request(address, request);
                }
            }
            Progress::Joined(Err(refusal)) => self.deny(address, &refusal),
            Progress::Renewed(renewed) => {
                let joined = self.pages.get_mut(address).and_then(Page::joined);
                match (renewed, joined) {
                    (Ok(live), Some(joined)) => {
                        self.users.insert(live.user(), live);
                        self.answers.push_back(joined.let_in(address));
                    }
                    (Ok(_), None) => {}
                    (Err(refusal), _) => self.reject(address, refusal),
                }
            }
            Progress::MayBeTold { refusal, was_open } => {
                if was_open {
                    for request in self.pending.denied(address) {
                        self.refused(address, &refusal, &request);
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
    fn reject(&mut self, address: &str, refusal: Refusal) {
        let Some(page) = self.pages.get_mut(address) else {
            return;
        };
        let (server, from, bad) = (self.host.server.clone(), self.address, refusal.clone());
        let waiting = Box::pin(async move { server.delay_bad_token(from, &bad).await });
        self.pending.rejected(address);
        if let Some(joined) = page.deny(refusal, waiting) {
            self.give_back(*joined);
        }
    }

    /// A page is not opened to the client.
    fn deny(&mut self, address: &str, refusal: &Refusal) {
        self.host.server.metrics.refused(refusal.code.as_str(), 1);
        self.pages.remove(address);
        if needs_new_socket(refusal.code) {
            self.hang_up.get_or_insert(refusal.clone());
            return;
        }
        let denied = hocuspocus::permission_denied(address, &refusal.to_string());
        self.answers.push_back(denied);
        for request in self.pending.denied(address) {
            self.refused(address, refusal, &request);
            if request == Request::Leave {
                self.pending.forget(address);
                self.left(address);
            }
        }
    }

    /// A page that was open is closed to the client.
    fn close(&mut self, address: &str, refusal: &Refusal) {
        self.remove(address);
        self.tell_closed(address, refusal);
    }

    fn tell_closed(&mut self, address: &str, refusal: &Refusal) {
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
        self.pending.forget(address);
        self.take_out(address);
    }

    fn take_out(&mut self, address: &str) {
        if let Some(page) = self.pages.remove(address)
            && let Stage::Open(joined) = page.stage
        {
            self.give_back(*joined);
        }
    }

    fn give_back(&mut self, joined: JoinedPage) {
        self.leaving.push(joined.end(Departure::Clean));
    }

    /// Does what a room wants done for a page.
    fn on_event(&mut self, address: &str, event: SeatEvent, frames: &mut Vec<Frame>) {
        match event {
            SeatEvent::Message(message) => {
                if let Some(page) = self.pages.get_mut(address) {
                    self.answers.extend(page.new_scope(address, &message));
                    frames.extend(page.frame(&message));
                }
            }
            // Nobody posts here.
            SeatEvent::Posted(..) => {}
            SeatEvent::Receipt { accepted } => {
                let joined = self.pages.get_mut(address).and_then(Page::joined);
                let count = joined.map_or(1, |joined| joined.statuses(accepted));
                let status = hocuspocus::sync_status(address, accepted);
                frames.extend((0..count.max(1)).map(|_| Frame::Binary(status.clone())));
            }
            SeatEvent::TokenEnds => frames.push(Frame::Binary(hocuspocus::token_request(address))),
            SeatEvent::Close(refusal) => self.close(address, &refusal),
        }
    }
}

impl Protocol for Hocuspocus {
    fn on_frame(&mut self, now: Instant, frame: Frame) -> Result<usize, Refusal> {
        let frame = frame.into_binary()?;
        let malformed = |error: crdt::DecodeError| Refusal::malformed(error.to_string());
        let (address, request) = match hocuspocus::decode(&frame).map_err(malformed)? {
            Incoming::Ping => {
                self.answers.push_back(Bytes::from_static(hocuspocus::PONG));
                return Ok(1);
            }
            Incoming::Pong => return Ok(1),
            Incoming::Addressed { address, request } => (address, request),
        };
        if let Request::ToRoom(ClientMessage::Stateless(payload)) = &request {
            self.asides.spend(now, payload.len() / 1024 + 1);
        }
        match self.pending.on_request(now, address, request)? {
            Verdict::Pass(request) => self.on_request(address, request),
            Verdict::Verify(id, token) => {
                let verifying = self.verify(id.clone(), token);
                self.pages.insert(
                    address.into(),
                    Page::verifying(id, address, self.has_version, verifying),
                );
            }
            Verdict::Kept => {}
            Verdict::Refused(refusal, request) => self.refused(address, &refusal, &request),
            Verdict::Left => self.left(address),
        }
        Ok(1)
    }

    fn on_overlong(&mut self, beginning: &Bytes, refusal: Refusal) -> Result<(), Refusal> {
        let Some(address) = address_of(beginning) else {
            return Err(refusal);
        };
        let is_open = self.pages.get_mut(address).map(|page| page.joined().is_some());
        match is_open {
            Some(true) => {
                self.host.server.metrics.refused(refusal.code.as_str(), 1);
                // What else is under way to the page is refused as well.
                self.pending.denied(address);
                self.take_out(address);
                self.tell_closed(address, &refusal);
            }
            Some(false) => self.deny(address, &refusal),
            // The page is closed to the client, which may not have heard so yet.
            None => {}
        }
        Ok(())
    }

    fn may_receive(&self) -> bool {
        self.hang_up.is_none()
            && self.asides.free_at().is_none_or(|at| at <= now())
            && self.answers.len() < MAX_ANSWERS
            && self.leaving.len() < MAX_ANSWERS
            && self.pending.has_room()
            && self.pages.values().all(Page::may_receive)
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
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
            let progress: Vec<_> = self
                .pages
                .iter_mut()
                .filter_map(|(address, page)| Some((address.clone(), page.poll_work(context)?)))
                .collect();
            if progress.is_empty() {
                break;
            }
            for (address, progress) in progress {
                self.progress(&address, progress);
            }
        }
        if self.pages.is_empty()
            && let Some(refusal) = &self.gone
        {
            self.hang_up.get_or_insert(refusal.clone());
        }
    }

    fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        while self.answers.is_empty()
            && self.hang_up.is_none()
            && let Poll::Ready((address, event)) = self
                .rotation
                .poll(&mut self.pages, |page| page.poll_next(context))
        {
            self.on_event(&address, event, frames);
            if !frames.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
        if let Some(answer) = self.answers.pop_front() {
            frames.push(Frame::Binary(answer));
            return Poll::Ready(Ok(()));
        }
        match &self.hang_up {
            Some(refusal) => Poll::Ready(Err(refusal.clone())),
            None => Poll::Pending,
        }
    }

    fn is_known(&self) -> bool {
        self.pending.is_known()
    }

    fn keep_alive(&self) -> Option<Bytes> {
        if self.has_version {
            return Some(Bytes::from_static(hocuspocus::PING));
        }
        let (address, _) = self.pages.first_key_value()?;
        Some(hocuspocus::keep_alive(address))
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.pending.is_late(now) {
            self.hang_up.get_or_insert(Refusal::new(
                RefusalCode::Unauthenticated,
                "no good token was shown in time",
            ));
        }
        for address in self.pending.overdue(now) {
            let refusal = Refusal::new(RefusalCode::Unauthenticated, "no token was shown in time");
            self.deny(&address, &refusal);
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let asides = self.asides.free_at().filter(|at| *at > now());
        self.pending.next_deadline().into_iter().chain(asides).min()
    }

    fn farewell(&mut self, _refusal: &Refusal, frames: &mut Vec<Frame>) {
        frames.extend(self.answers.drain(..).map(Frame::Binary));
    }

    fn end(self: Box<Self>, departure: Departure) -> Work<()> {
        let Self {
            host,
            slot,
            mut pending,
            pages,
            leaving,
            ..
        } = *self;
        Box::pin(async move {
            let pages = pages.into_iter().map(|(address, page)| {
                let kept = pending.admitted(&address);
                page.end(&host.server, kept, departure)
            });
            join_all(pages.collect::<Vec<_>>()).await;
            join_all(leaving).await;
            drop(slot);
        })
    }
}

/// Whether the client is to come back for this: a provider does so only when its socket is closed. A full room is no reason to end
/// the others of the socket.
fn needs_new_socket(code: RefusalCode) -> bool {
    code.is_retryable() && !matches!(code, RefusalCode::RoomFull | RefusalCode::RateLimited)
}

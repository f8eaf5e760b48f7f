//! A socket with many pages, as Hocuspocus has it: a place for those who are not let in yet, and a seat for each page.
//!
//! Each page is let in, refused and closed for itself. The socket is hung up on when nobody shows a good token in time, when its last
//! page is closed, and when a page must be opened anew: providers come back by themselves only to a new socket.

mod ledger;
mod page;
mod pages;
mod pending_auth;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use futures_util::future::join_all;
use hyper::upgrade::OnUpgrade;
use tokio_util::sync::CancellationToken;

pub use self::pending_auth::PendingAuthLimits;
use self::{
    page::Page,
    pending_auth::{PendingAuth, Verdict},
};
use super::{
    ConnectionSlot, Session,
    context::ServerContext,
    driver::{Driving, now, run},
    handshake::accepted,
    protocol::{Protocol, Work, poll_all_over},
    rotation::Rotation,
    websocket::{MAX_STRANGER_BYTES, WebSocket},
};
use crate::{
    access::{Caller, LiveSocket},
    auth::Credential,
    protocols::Frame,
    protocols::hocuspocus::{self, Incoming, Request, address_of},
    rooms::{ClientMessage, Departure, Refusal, RefusalCode},
};

/// Answers that may wait to be sent before the client is not read any more.
const MAX_ANSWERS: usize = 64;

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

/// Serves one socket of a caller until it ends. `credential` is what its handshake brought, for pages that are given no token.
pub async fn serve(
    on_upgrade: OnUpgrade,
    credential: Option<Credential>,
    (caller, slot): (Caller, ConnectionSlot),
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
    let protocol = Hocuspocus::new(host, credential, (caller, slot));
    run(WebSocket::new(socket), Box::new(protocol), driving).await;
}

struct Hocuspocus {
    host: Host,
    credential: Option<Credential>,
    /// Where it comes from.
    caller: Caller,
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
    /// Something beside documents for which it is too early. Nothing more is read until it was said.
    early: Option<Early>,
}

/// What is said later, and when.
struct Early {
    at: Instant,
    address: Box<str>,
    request: Request,
}

impl Hocuspocus {
    fn new(host: Host, credential: Option<Credential>, (caller, slot): (Caller, ConnectionSlot)) -> Self {
        Self {
            pending: PendingAuth::new(now(), host.limits),
            host,
            credential,
            caller,
            slot: Arc::new(Mutex::new(slot)),
            pages: BTreeMap::new(),
            users: BTreeMap::new(),
            gone: None,
            answers: VecDeque::new(),
            leaving: Vec::new(),
            rotation: Rotation::default(),
            has_version: false,
            hang_up: None,
            early: None,
        }
    }
}

impl Hocuspocus {
    /// Does what the client asks of a page, or keeps it until it may be said.
    fn hear(&mut self, now: Instant, address: &str, request: Request) -> Result<(), Refusal> {
        if let Request::ToRoom(ClientMessage::Stateless(payload)) = &request {
            let kib = payload.len() / 1024 + 1;
            let mut slot = self.slot.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(at) = slot.speak(now, kib) {
                drop(slot);
                let address = address.into();
                self.early = Some(Early { at, address, request });
                return Ok(());
            }
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
        Ok(())
    }

    /// Goes on with giving seats back.
    fn poll_leaving(&mut self, context: &mut Context<'_>) {
        self.leaving
            .retain_mut(|leaving| leaving.as_mut().poll(context).is_pending());
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
        self.hear(now, address, request)?;
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
            && self.early.is_none()
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
        self.poll_leaving(context);
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
            self.poll_leaving(context);
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

    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        if let Some(refusal) = &self.hang_up {
            return Poll::Ready(refusal.clone());
        }
        // While the client may hear of one page, the others end only when it can be told.
        poll_all_over(self.pages.values_mut().map(|page| page.poll_expelled(context)))
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
            // A peer that reads nothing would not take a last word either.
            return Err(Refusal::new(
                RefusalCode::Unauthenticated,
                "no good token was shown in time",
            ));
        }
        if let Some(Early { address, request, .. }) = self.early.take_if(|early| early.at <= now) {
            self.hear(now, &address, request)?;
        }
        for address in self.pending.overdue(now) {
            let refusal = Refusal::new(RefusalCode::Unauthenticated, "no token was shown in time");
            self.deny(&address, &refusal);
        }
        Ok(())
    }

    fn next_deadline(&self) -> Option<Instant> {
        let early = self.early.as_ref().map(|early| early.at);
        self.pending.next_deadline().into_iter().chain(early).min()
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

//! What becomes of the pages of one socket: tokens that are looked at, seats, refusals and goodbyes.

use std::sync::{Arc, PoisonError};

use storage::PageId;

use super::{
    Hocuspocus,
    page::{JoinedPage, Known, Page, Progress, Stage},
};
use crate::{
    auth::Credential,
    connections::{protocol::Work, seat_io::SeatEvent},
    protocols::{
        Frame,
        hocuspocus::{self, Request, Token},
    },
    rooms::{Departure, Refusal},
};

impl Hocuspocus {
    fn credential(&mut self, token: Token) -> Option<Credential> {
        self.has_version |= token.has_version;
        match token.text.is_empty() {
            true => self.credential.clone(),
            false => Some(Credential::Given(token.text)),
        }
    }

    /// Begins to look at a token with which somebody wants to enter a page.
    pub(super) fn verify(&mut self, page: PageId, token: Token) -> Work<Result<Known, Refusal>> {
        let credential = self.credential(token);
        let (access, slot) = (self.host.server.access.clone(), self.slot.clone());
        let caller = self.caller.clone();
        Box::pin(async move {
            let identified = access.identify(credential.as_ref()).await.map(Arc::new);
            let count = |user: Option<&Arc<str>>| {
                let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
                slot.attach_user(user)
            };
            let (membership, ()) = access.admit(identified, &page, &caller, count).await?;
            let live = access.watch_socket(membership.identity.clone()).await;
            Ok((membership, live))
        })
    }

    /// Says something to a page that is open to the client.
    pub(super) fn on_request(&mut self, address: &str, request: Request) {
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
    pub(super) fn left(&mut self, address: &str) {
        if self.has_version {
            self.answers
                .push_back(hocuspocus::closed(address, "provider_initiated"));
        }
    }

    pub(super) fn refused(&mut self, address: &str, refusal: &Refusal, request: &Request) {
        if let Request::Token(_) = request {
            let denied = hocuspocus::permission_denied(address, &refusal.to_string());
            self.answers.push_back(denied);
        }
        if request.wants_status() {
            self.answers.push_back(hocuspocus::sync_status(address, false));
        }
    }

    pub(super) fn progress(&mut self, address: &Arc<str>, progress: Progress) {
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
                    page.opened(address, joined);
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
        let (server, from, bad) = (self.host.server.clone(), self.caller.address, refusal.clone());
        let waiting = Box::pin(async move { server.delay_bad_token(from, &bad).await });
        self.pending.rejected(address);
        if let Some(joined) = page.deny(refusal, waiting) {
            self.give_back(*joined);
        }
    }

    /// A page is not opened to the client.
    pub(super) fn deny(&mut self, address: &str, refusal: &Refusal) {
        self.host.server.metrics.refused(refusal.code.as_str(), 1);
        self.pages.remove(address);
        if refusal.code.needs_new_connection() {
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

    /// A page that was open is closed to the client. What is under way to it is refused, and not taken for the beginning of something.
    fn close(&mut self, address: &str, refusal: &Refusal) {
        self.pending.denied(address);
        self.take_out(address);
        self.tell_closed(address, refusal);
    }

    pub(super) fn tell_closed(&mut self, address: &str, refusal: &Refusal) {
        let reason = refusal.to_string();
        if self.has_version {
            self.answers.push_back(hocuspocus::closed(address, &reason));
        } else if !self.pages.is_empty() {
            // The oldest providers break on the word for closing; all know this one.
            let denied = hocuspocus::permission_denied(address, &reason);
            self.answers.push_back(denied);
        }
        if self.pages.is_empty() || refusal.code.needs_new_connection() {
            self.hang_up.get_or_insert(refusal.clone());
        }
    }

    fn remove(&mut self, address: &str) {
        self.pending.forget(address);
        self.take_out(address);
    }

    pub(super) fn take_out(&mut self, address: &str) {
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
    pub(super) fn on_event(&mut self, address: &str, event: SeatEvent, frames: &mut Vec<Frame>) {
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

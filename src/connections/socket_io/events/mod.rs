//! A place in the namespace `/`: the events dialect over as many pages as the client wants to have open.

mod calls;

use std::{
    collections::{BTreeMap, VecDeque, btree_map::Entry},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use storage::PageId;

use self::calls::{Calling, MAX_CALLS};
use super::{
    config::{MAX_REPLY_BYTES, SocketIoConfig},
    joining::JoinContext,
    page_session::PageSession,
    place::Said,
    renewal::{Renewal, Renewed},
};
use crate::{
    access::{Caller, LiveSocket},
    auth::Identity,
    connections::{
        TokenBucket,
        context::ServerContext,
        driver::now,
        protocol::{Protocol, Work},
        rotation::Rotation,
    },
    events::{Call, EventSocket, Profile, Profiles},
    protocols::Frame,
    protocols::events::{self, PageRequest, Request},
    rooms::{Departure, Refusal, RefusalCode},
    telemetry::Correlation,
};

/// A client is told this long before its token ends that it should bring a fresh one; of a shorter time, when half of it is over.
const WARNING: Duration = Duration::from_secs(60);
/// How long a client whose user may not be here any more may take to hear the rest of what it was told.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Bytes of requests that may wait for all pages of a client; one larger request alone passes.
const MAX_HELD_BYTES: usize = 1024 * 1024;

/// A client's place in the namespace `/`.
pub(super) struct EventsPlace {
    join: JoinContext,
    profiles: Profiles,
    /// Events of applications, which are done one after the other.
    calls: VecDeque<(&'static Profile, Call, Option<i64>)>,
    calling: Option<Calling>,
    pages: BTreeMap<PageId, PageSession>,
    max_pages: usize,
    gate: crdt::Limits,
    rotation: Rotation<PageId>,
    rate: TokenBucket,
    replies: Vec<Frame>,
    /// A fresh token is being looked at.
    renewing: Option<Renewing>,
    /// Tells when the user may not enter any more, and when its token ends.
    live: LiveSocket,
    /// Why it ends, as soon as it has no page and nothing to say, and by when.
    ended: Option<(Refusal, Instant)>,
    /// The client leaves, and does not come back to this place.
    has_left: bool,
    context: Arc<ServerContext>,
}

struct Renewing {
    work: Work<Renewed>,
    ack: Option<i64>,
}

/// Whether a user may not come back as it is, nor with a fresh token.
fn is_final(refusal: &Refusal) -> bool {
    refusal.code != RefusalCode::TokenExpired && !refusal.code.is_retryable()
}

impl EventsPlace {
    /// A place for somebody who is known and watched, with its place in the rooms without a document.
    pub(super) fn new(
        (identity, live): (Arc<Identity>, LiveSocket),
        socket: Arc<EventSocket>,
        caller: Caller,
        context: &Arc<ServerContext>,
        config: &SocketIoConfig,
    ) -> Self {
        let join = JoinContext {
            access: context.access.clone(),
            identity,
            socket: socket.name().clone(),
            events: socket,
            caller,
            max_outbox_bytes: context.max_outbox_bytes,
            patience: config.connect_timeout,
            correlation: Correlation::current(),
        };
        live.end_with_token(WARNING);
        let profiles = context.events.profiles.clone();
        profiles.connected(&join.events);
        Self {
            join,
            profiles,
            calls: VecDeque::new(),
            calling: None,
            pages: BTreeMap::new(),
            max_pages: config.max_pages,
            gate: *context.registry.gate(),
            rotation: Rotation::default(),
            rate: TokenBucket::new(now(), config.events_per_second, config.events_burst),
            replies: Vec::new(),
            renewing: None,
            live,
            ended: None,
            has_left: false,
            context: context.clone(),
        }
    }

    fn refuse(&mut self, ack: Option<i64>, page: Option<&PageId>, refusal: &Refusal, wait: Option<Duration>) {
        self.context.metrics.refused(refusal.code.as_str(), 1);
        events::refused(ack, page, refusal, wait, &mut self.replies);
    }

    fn request(&mut self, now: Instant, request: Request, ack: Option<i64>) {
        let is_edit = matches!(
            request,
            Request::Page(_, PageRequest::Delta(_) | PageRequest::Awareness(_))
        );
        // Edits are never refused for coming too fast: they are read more slowly.
        if !is_edit && let Err(wait) = self.rate.try_spend(now) {
            let refusal = Refusal::new(RefusalCode::RateLimited, "too many events in too short a time");
            return self.refuse(ack, None, &refusal, Some(wait));
        }
        match request {
            Request::Page(page, request) => self.of_page(page, request, ack),
            Request::Refresh(token) => self.renew(token, ack),
        }
    }

    fn of_page(&mut self, page: PageId, request: PageRequest, ack: Option<i64>) {
        let count = self.pages.len();
        let open = match self.pages.entry(page) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(vacant) if count >= self.max_pages && request.opens_pages() => {
                let page = vacant.into_key();
                let full = Refusal::new(RefusalCode::RateLimited, "too many pages on one connection");
                return self.refuse(ack, Some(&page), &full, None);
            }
            Entry::Vacant(vacant) => {
                let open = PageSession::new(vacant.key().clone(), &self.join.events);
                vacant.insert(open)
            }
        };
        open.take(request, ack);
    }

    /// Goes on with a fresh token of the same user.
    fn renew(&mut self, token: String, ack: Option<i64>) {
        let seats = self.pages.values().filter_map(PageSession::seat).collect();
        let renewal = Renewal {
            before: self.join.identity.clone(),
            address: self.join.caller.address,
            seats,
            rooms: self.join.events.seats(),
        };
        let work = Box::pin(renewal.renew(token, self.context.clone()));
        self.renewing = Some(Renewing { work, ack });
    }

    /// Ends it behind all that there is still to be told. Whoever may not come back is out of all rooms and pages now, and nothing that it has
    /// asked for is done any more; the others are not told that their rooms are closed.
    fn end_with(&mut self, refusal: Refusal) {
        if is_final(&refusal) {
            self.give_up_calls(&refusal);
            self.join.events.send_away_everywhere(&refusal);
            for page in self.pages.values_mut() {
                page.expel(&refusal, &mut self.replies);
            }
        }
        self.ended.get_or_insert((refusal, now() + LAST_WORDS));
    }

    fn poll_renewing(&mut self, context: &mut Context<'_>) {
        let Some(renewing) = &mut self.renewing else {
            return;
        };
        let Poll::Ready(renewed) = renewing.work.as_mut().poll(context) else {
            return;
        };
        let ack = renewing.ack;
        self.renewing = None;
        match renewed {
            Ok((identity, live)) => {
                self.join.identity = identity.clone();
                self.join.events.renew(identity);
                // The fresh token may be of after a sign-out.
                (self.live, self.ended) = (live, None);
                self.live.end_with_token(WARNING);
                for page in self.pages.values_mut() {
                    page.renewed(&self.join);
                }
                events::answer(ack, &json!({ "ok": true }), &mut self.replies);
            }
            Err(refusal) => self.refuse(ack, None, &refusal, None),
        }
    }
}

impl Protocol<Said> for EventsPlace {
    fn on_frame(&mut self, now: Instant, said: Said) -> Result<usize, Refusal> {
        let mut event = match said {
            Said::Event(event) => event,
            // Nothing is asked for that needs an answer.
            Said::Answer(..) => return Ok(1),
            Said::Goodbye => {
                self.has_left = true;
                return Ok(1);
            }
        };
        self.join.events.touch(now);
        match events::decode(&mut event.arguments, &self.gate) {
            Ok(Some(request)) => self.request(now, request, event.ack),
            Ok(None) => {
                if let Err(refusal) = self.call(now, &mut event.arguments, event.ack) {
                    self.refuse(event.ack, None, &refusal, None);
                }
            }
            Err(refusal) => self.refuse(event.ack, None, &refusal, None),
        }
        Ok(1)
    }

    fn on_ping(&mut self, number: u64) {
        // What waits here comes behind the ping.
        if self.replies.is_empty() && self.join.events.outbox().queued_bytes() == 0 {
            self.pages
                .values()
                .filter_map(PageSession::authorship)
                .for_each(|authorship| authorship.pinged(number));
        }
    }

    fn on_pong(&mut self, number: u64) {
        self.pages
            .values()
            .filter_map(PageSession::authorship)
            .for_each(|authorship| authorship.answered(number));
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.poll_renewing(context);
        if self.renewing.is_none() {
            self.poll_calls(context);
        }
        if self.ended.is_none()
            && let Poll::Ready(refusal) = self.live.poll_ended(context)
        {
            self.end_with(refusal);
        }
        if let Poll::Ready(left) = self.live.poll_ask(context) {
            events::auth_expiring(left, &mut self.replies);
        }
        // A page that is being opened while a token is renewed would keep the old one.
        let is_renewing = self.renewing.is_some();
        for open in self
            .pages
            .values_mut()
            .filter(|page| !is_renewing || page.is_open())
        {
            open.poll_work(context, &self.join, &mut self.replies);
        }
        self.pages.retain(|_, open| !open.is_closed());
    }

    fn may_receive(&self) -> bool {
        let is_out = self.ended.as_ref().is_some_and(|(refusal, _)| is_final(refusal));
        let waiting: usize = self.replies.iter().map(Frame::size).sum();
        !is_out
            && self.renewing.is_none()
            && self.calls.len() < MAX_CALLS
            && waiting < MAX_REPLY_BYTES
            && self.pages.values().all(PageSession::may_receive)
            && self.pages.values().map(PageSession::held_bytes).sum::<usize>() < MAX_HELD_BYTES
    }

    fn poll_outgoing(
        &mut self,
        context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        if !self.replies.is_empty() {
            frames.append(&mut self.replies);
            return Poll::Ready(Ok(()));
        }
        match self.join.events.outbox().poll_next(context) {
            Poll::Ready(Ok(event)) => {
                frames.push(Frame::SharedText(event));
                return Poll::Ready(Ok(()));
            }
            Poll::Ready(Err(refusal)) => return Poll::Ready(Err(refusal)),
            Poll::Pending => {}
        }
        let said = self
            .rotation
            .poll(&mut self.pages, |page| page.poll_outgoing(context, frames));
        if let Poll::Ready((_, said)) = said {
            match said {
                Ok(()) => {}
                // What the client still has to hear of its rooms comes before the end.
                Err(refusal) if refusal.code == RefusalCode::TokenRevoked => self.end_with(refusal),
                Err(refusal) => return Poll::Ready(Err(refusal)),
            }
            // What it has said may let it go on with something.
            self.poll_work(context);
            return Poll::Ready(Ok(()));
        }
        // Its pages end for themselves, and say so.
        match &self.ended {
            Some((refusal, _)) if self.pages.is_empty() => Poll::Ready(Err(refusal.clone())),
            Some(_) | None => Poll::Pending,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.ended.as_ref().map(|(_, by)| *by)
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        // A client that reads nothing is waited for no longer.
        let late = self.ended.as_ref().filter(|(_, by)| *by <= now);
        late.map_or(Ok(()), |(refusal, _)| Err(refusal.clone()))
    }

    fn farewell(&mut self, _refusal: &Refusal, frames: &mut Vec<Frame>) {
        // What waits for a client that may come back is kept until it does.
        if self.ended.is_some() {
            frames.append(&mut self.replies);
            frames.extend(
                self.join
                    .events
                    .outbox()
                    .drain()
                    .into_iter()
                    .map(Frame::SharedText),
            );
        }
    }

    fn end(self: Box<Self>, departure: Departure) -> Work<()> {
        // They hold on to seats.
        drop((self.renewing, self.calling));
        // Whatever has become of the transport, who has not said goodbye may come back.
        match self.has_left || self.ended.is_some() {
            true => self.join.events.disconnect(Departure::Clean),
            false => self.join.events.lose(),
        }
        let pages = self.pages;
        Box::pin(async move {
            join_all(pages.into_values().map(|page| page.end(departure))).await;
        })
    }
}

//! A place in the namespace `/`: the events dialect over as many pages as the client wants to have open.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;
use storage::PageId;

use super::{
    config::{MAX_REPLY_BYTES, SocketIoConfig},
    page_session::{JoinContext, PageSession},
    place::Said,
};
use crate::{
    access::LiveSocket,
    auth::{Credential, Identity},
    connections::{
        TokenBucket,
        context::ServerContext,
        driver::now,
        protocol::{Protocol, Work},
        rotation::Rotation,
    },
    protocols::Frame,
    protocols::events::{self, PageRequest, Request},
    rooms::{Departure, Refusal, RefusalCode},
};

/// A client is told this long before its token ends that it should bring a fresh one; of a shorter time, when half of it is over.
const WARNING: Duration = Duration::from_secs(60);

/// A client's place in the namespace `/`.
pub(super) struct EventsPlace {
    join: JoinContext,
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
    /// Why everything ends as soon as it has no page.
    ended: Option<Refusal>,
    context: Arc<ServerContext>,
}

struct Renewing {
    work: Work<Result<(Arc<Identity>, LiveSocket), Refusal>>,
    ack: Option<i64>,
}

impl EventsPlace {
    /// A place for somebody who is known and watched, on a connection that the client calls `socket`, from an address.
    pub(super) fn new(
        (identity, live): (Arc<Identity>, LiveSocket),
        (socket, address): (Arc<str>, IpAddr),
        context: &Arc<ServerContext>,
        config: &SocketIoConfig,
    ) -> Self {
        let join = JoinContext {
            access: context.access.clone(),
            identity,
            socket,
            address,
            max_outbox_bytes: context.max_outbox_bytes,
            patience: config.connect_timeout,
        };
        live.end_with_token(WARNING);
        Self {
            join,
            pages: BTreeMap::new(),
            max_pages: config.max_pages,
            gate: *context.registry.gate(),
            rotation: Rotation::default(),
            rate: TokenBucket::new(now(), config.events_per_second, config.events_burst),
            replies: Vec::new(),
            renewing: None,
            live,
            ended: None,
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
            Entry::Vacant(vacant) if count >= self.max_pages && matches!(request, PageRequest::Join(_)) => {
                let page = vacant.into_key();
                let full = Refusal::new(RefusalCode::RateLimited, "too many pages on one connection");
                return self.refuse(ack, Some(&page), &full, None);
            }
            Entry::Vacant(vacant) => {
                let open = PageSession::new(vacant.key().clone());
                vacant.insert(open)
            }
        };
        open.take(request, ack);
    }

    /// Goes on with a fresh token of the same user.
    fn renew(&mut self, token: String, ack: Option<i64>) {
        let context = self.context.clone();
        let before = self.join.identity.clone();
        let seats: Vec<_> = self.pages.values().filter_map(PageSession::seat).collect();
        let address = self.join.address;
        let work = Box::pin(async move {
            let access = &context.access;
            let identified = access.identify(Some(&Credential::Given(token))).await;
            if let Err(refusal) = &identified {
                context.delay_bad_token(address, refusal).await;
            }
            let identity = Arc::new(identified?);
            if identity.kind != before.kind || identity.user != before.user {
                return Err(Refusal::new(
                    RefusalCode::Forbidden,
                    "a connection stays with the user who opened it",
                ));
            }
            for (page, seat) in seats {
                match access.membership_of(identity.clone(), &page).await {
                    Ok(membership) => seat.renew(membership).await?,
                    Err(refusal) if refusal.code.is_retryable() => return Err(refusal),
                    // The fresh token says less than the old one.
                    Err(refusal) => seat.handle().remove(refusal),
                }
            }
            let live = access.watch_socket(identity.clone()).await;
            Ok((identity, live))
        });
        self.renewing = Some(Renewing { work, ack });
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
                self.join.identity = identity;
                // The fresh token may be of after a sign-out.
                (self.live, self.ended) = (live, None);
                self.live.end_with_token(WARNING);
                events::answer(ack, &json!({ "ok": true }), &mut self.replies);
            }
            Err(refusal) => self.refuse(ack, None, &refusal, None),
        }
    }
}

impl Protocol<Said> for EventsPlace {
    fn on_frame(&mut self, now: Instant, said: Said) -> Result<usize, Refusal> {
        let Said::Event(mut event) = said else {
            // Nothing is asked for that needs an answer.
            return Ok(1);
        };
        match events::decode(&mut event.arguments, &self.gate) {
            Ok(Some(request)) => self.request(now, request, event.ack),
            // Applications have events of their own, which are nothing to us unless somebody waits for an answer.
            Ok(None) if event.ack.is_none() => {}
            Ok(None) => {
                let refusal = Refusal::new(RefusalCode::NotFound, "there is no such event");
                self.refuse(event.ack, None, &refusal, None);
            }
            Err(refusal) => self.refuse(event.ack, None, &refusal, None),
        }
        Ok(1)
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.poll_renewing(context);
        if self.ended.is_none()
            && let Poll::Ready(refusal) = self.live.poll_ended(context)
        {
            self.ended = Some(refusal);
        }
        if let Poll::Ready(left) = self.live.poll_ask(context) {
            events::auth_expiring(left, &mut self.replies);
        }
        for open in self.pages.values_mut() {
            open.poll_work(context, &self.join, &mut self.replies);
        }
        self.pages.retain(|_, open| !open.is_closed());
    }

    fn may_receive(&self) -> bool {
        let waiting: usize = self.replies.iter().map(Frame::size).sum();
        self.renewing.is_none()
            && waiting < MAX_REPLY_BYTES
            && self.pages.values().all(PageSession::may_receive)
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
        let said = self
            .rotation
            .poll(&mut self.pages, |page| page.poll_outgoing(context, frames));
        if let Poll::Ready((_, said)) = said {
            if said.is_ok() {
                // What it has said may let it go on with something.
                self.poll_work(context);
            }
            return Poll::Ready(said);
        }
        // Its pages end for themselves, and say so.
        match &self.ended {
            Some(refusal) if self.pages.is_empty() => Poll::Ready(Err(refusal.clone())),
            Some(_) | None => Poll::Pending,
        }
    }

    fn end(self: Box<Self>, departure: Departure) -> Work<()> {
        // It holds on to seats.
        drop(self.renewing);
        let pages = self.pages;
        Box::pin(async move {
            join_all(pages.into_values().map(|page| page.end(departure))).await;
        })
    }
}

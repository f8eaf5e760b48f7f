//! A place in the namespace `/`: the events dialect over as many pages as the client wants to have open.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    ops::Bound,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use serde_json::json;
use socketioxide_core::Value;
use storage::PageId;

use super::{
    Event, MAX_REPLY_BYTES, Place, SocketIoConfig,
    open_page::{Entrance, OpenPage, Spoken},
    page::expired,
};
use crate::{
    auth::{Credential, Identity, LiveSocket},
    connections::{
        Budget,
        attendance::Work,
        engine_io::{Frame, Sent},
        websocket::{Surroundings, now},
    },
    protocols::events::{self, PageRequest, Request},
    rooms::{Departure, Refusal, RefusalCode},
    telemetry::Metrics,
};

/// A client is told this long before its token ends that it should bring a fresh one; of a shorter time, when half of it is over.
const WARNING: Duration = Duration::from_secs(60);

/// A client's place in the namespace `/`.
pub struct EventsPlace {
    entrance: Entrance,
    pages: BTreeMap<PageId, OpenPage>,
    max_pages: usize,
    gate: crdt::Limits,
    /// The page that was let speak last.
    last: Option<PageId>,
    budget: Budget,
    replies: Vec<Frame>,
    /// A fresh token is being looked at.
    renewing: Option<Renewing>,
    /// Tells when the user may not enter any more.
    live: LiveSocket,
    /// Why everything ends as soon as it has no page.
    ended: Option<Refusal>,
    expires: Option<Instant>,
    warns: Option<Instant>,
    metrics: Metrics,
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
        around: &Surroundings,
        config: &SocketIoConfig,
    ) -> Self {
        let entrance = Entrance {
            access: around.access.clone(),
            identity,
            socket,
            address,
            max_outbox_bytes: around.max_outbox_bytes,
            patience: config.connect_timeout,
        };
        let mut place = Self {
            entrance,
            pages: BTreeMap::new(),
            max_pages: config.max_pages,
            gate: *around.registry.gate(),
            last: None,
            budget: Budget::new(now(), config.events_per_second, config.events_burst),
            replies: Vec::new(),
            renewing: None,
            live,
            ended: None,
            expires: None,
            warns: None,
            metrics: around.metrics.clone(),
        };
        place.set_expiry();
        place
    }

    fn set_expiry(&mut self) {
        let left = self.entrance.access.time_left(&self.entrance.identity);
        let now = now();
        self.expires = left.map(|left| now + left);
        self.warns = left.map(|left| now + left.saturating_sub(WARNING).max(left / 2));
    }

    fn refuse(&mut self, ack: Option<i64>, page: Option<&PageId>, refusal: &Refusal, wait: Option<Duration>) {
        self.metrics.refused(refusal.code.as_str(), 1);
        events::refused(ack, page, refusal, wait, &mut self.replies);
    }

    fn request(&mut self, now: Instant, request: Request, ack: Option<i64>) {
        let is_edit = matches!(
            request,
            Request::Page(_, PageRequest::Delta(_) | PageRequest::Awareness(_))
        );
        // Edits are never refused for coming too fast: they are read more slowly.
        if !is_edit && let Err(wait) = self.budget.try_spend(now) {
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
                let open = OpenPage::new(vacant.key().clone());
                vacant.insert(open)
            }
        };
        open.take(request, ack);
    }

    /// Goes on with a fresh token of the same user.
    fn renew(&mut self, token: String, ack: Option<i64>) {
        let access = self.entrance.access.clone();
        let before = self.entrance.identity.clone();
        let seats: Vec<_> = self.pages.values().filter_map(OpenPage::seat).collect();
        let address = self.entrance.address;
        let work = Box::pin(async move {
            let identified = access.identify(Some(&Credential::Given(token))).await;
            if let Err(refusal) = &identified
                && refusal.code == RefusalCode::Unauthenticated
            {
                access.failures().failed(address).await;
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
                self.entrance.identity = identity;
                // The fresh token may be of after a sign-out.
                (self.live, self.ended) = (live, None);
                self.set_expiry();
                events::answer(ack, &json!({ "ok": true }), &mut self.replies);
            }
            Err(refusal) => self.refuse(ack, None, &refusal, None),
        }
    }

    /// The pages, beginning behind the one that spoke last.
    fn turns(&self) -> Vec<PageId> {
        let Some(last) = &self.last else {
            return self.pages.keys().cloned().collect();
        };
        let behind = (Bound::Excluded(last), Bound::Unbounded);
        let rest = self.pages.range::<PageId, _>(..=last);
        let order = self.pages.range::<PageId, _>(behind).chain(rest);
        order.map(|(page, _)| page.clone()).collect()
    }
}

impl Place for EventsPlace {
    fn event(&mut self, now: Instant, mut event: Event) -> Result<(), Refusal> {
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
        Ok(())
    }

    fn answer(&mut self, _id: i64, _arguments: Value) -> Result<(), Refusal> {
        // Nothing is asked for that needs one.
        Ok(())
    }

    fn poll_work(&mut self, context: &mut Context<'_>) {
        self.poll_renewing(context);
        if self.ended.is_none()
            && let Poll::Ready(refusal) = self.live.poll_ended(context)
        {
            self.ended = Some(refusal);
        }
        for open in self.pages.values_mut() {
            open.poll_work(context, &self.entrance, &mut self.replies);
        }
        self.pages.retain(|_, open| !open.is_closed());
    }

    fn is_idle(&self) -> bool {
        let waiting: usize = self.replies.iter().map(Frame::size).sum();
        self.renewing.is_none() && waiting < MAX_REPLY_BYTES && self.pages.values().all(OpenPage::is_idle)
    }

    fn poll_send(&mut self, context: &mut Context<'_>, frames: &mut Vec<Frame>) -> Poll<Sent> {
        if !self.replies.is_empty() {
            frames.append(&mut self.replies);
            return Poll::Ready(Sent::Frames);
        }
        for page in self.turns() {
            let Some(open) = self.pages.get_mut(&page) else {
                continue;
            };
            match open.poll_send(context, frames) {
                Poll::Pending => {}
                Poll::Ready(Spoken::Left(Some(refusal))) => return Poll::Ready(Sent::Close(refusal)),
                Poll::Ready(Spoken::Frames | Spoken::Left(None)) => {
                    self.last = Some(page);
                    // What it has said may let it go on with something.
                    self.poll_work(context);
                    return Poll::Ready(Sent::Frames);
                }
            }
        }
        // Its pages end for themselves, and say so.
        match &self.ended {
            Some(refusal) if self.pages.is_empty() => Poll::Ready(Sent::Close(refusal.clone())),
            Some(_) | None => Poll::Pending,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.warns.or(self.expires)
    }

    fn tick(&mut self, now: Instant) -> Result<(), Refusal> {
        if self.expires.is_some_and(|at| now >= at) {
            return Err(expired());
        }
        if self.warns.is_some_and(|at| now >= at) {
            self.warns = None;
            let left = self.expires.map(|at| at.saturating_duration_since(now));
            events::auth_expiring(left.unwrap_or_default(), &mut self.replies);
        }
        Ok(())
    }

    fn leave(self, departure: Departure) -> Work<()> {
        // It holds on to seats.
        drop(self.renewing);
        Box::pin(async move {
            for open in self.pages.into_values() {
                open.end(departure).await;
            }
        })
    }
}

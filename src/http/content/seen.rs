//! Who writes over REST, as the members of the page see it while it writes: a seat in the page's room that shows a cursor and hears
//! nothing.
//!
//! The seat is taken as that of any connection, so it is counted, listed, shown in every protocol and given up as those are: at once when
//! the request ends, its client hangs up, its author may not write any more, or the server stops. A request that is over at once takes
//! none: others would see somebody come and go in the same moment, and what was written says by itself who wrote it.

use std::{
    future::{pending, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use axum::extract::{Query, rejection::QueryRejection};
use bytes::Bytes;
use crdt::{AwarenessChange, ClientId, RelativePosition, awareness::encode_changes};
use serde::{Deserialize, Serialize};
use storage::PageId;
use tokio::time::sleep;

use crate::{
    access::LiveSeat,
    auth::{Identity, Kind},
    events::color,
    http::{App, HttpError, openapi::parameters::Label},
    reader::new_client,
    rooms::{ClientMessage, Departure, Next, Outbox, Refusal, RefusalCode, Role, Speech},
};

/// A request that has taken this long is seen to wait.
pub(super) const WAITS: Duration = Duration::from_secs(1);

/// How often what is shown is renewed: Yjs clients forget what is not for 30 seconds.
const RENEWED: Duration = Duration::from_secs(12);

/// Longest name, in bytes.
const MAX_NAME_BYTES: usize = 255;

#[derive(Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuthorQuery {
    /// The name under which members see the one who writes, for backends and guests. That of a user is in its token.
    #[param(value_type = Option<Label>, nullable = false)]
    author: Option<String>,
}

/// The one who writes, with the name that the request gives it.
pub(super) fn named(
    mut identity: Identity,
    query: Result<Query<AuthorQuery>, QueryRejection>,
) -> Result<Identity, HttpError> {
    let Query(AuthorQuery { author }) = query?;
    let Some(name) = author else {
        return Ok(identity);
    };
    let refused = if identity.kind == Kind::User {
        "a user is shown under the name that is in its token, not under `author`"
    } else if name.is_empty() || name.len() > MAX_NAME_BYTES || name.chars().any(char::is_control) {
        "`author` has 1 to 255 bytes without control characters"
    } else {
        identity.profile.name = Some(name);
        return Ok(identity);
    };
    Err(Refusal::malformed(refused).into())
}

/// What a Yjs client shows of somebody who writes.
#[derive(Serialize)]
struct State<'a> {
    user: User<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Selection<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct User<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    avatar_url: Option<&'a str>,
    color: &'static str,
}

/// A selection without anything in it.
#[derive(Serialize)]
struct Selection<'a> {
    anchor: &'a RelativePosition,
    head: &'a RelativePosition,
}

/// Somebody who writes with one request.
pub(super) struct Writer<'a> {
    app: &'a App,
    page: &'a PageId,
    identity: Arc<Identity>,
    /// Where what was written ends.
    end: Option<RelativePosition>,
    seat: Option<Seated>,
    /// It is to be seen at once.
    is_due: bool,
    /// Why the seat was refused, or taken back, although its holder may write.
    goes_without: Option<RefusalCode>,
}

/// A taken seat. It is given back when this is dropped, by a client that hangs up too.
struct Seated {
    seat: Option<LiveSeat>,
    outbox: Arc<Outbox>,
    voice: Voice,
}

/// What a Yjs client says of itself, with the clocks that it has.
struct Voice {
    client: ClientId,
    clock: u32,
}

impl<'a> Writer<'a> {
    /// Somebody who is not seen yet.
    pub(super) fn new(app: &'a App, page: &'a PageId, identity: Identity) -> Self {
        Self {
            app,
            page,
            identity: Arc::new(identity),
            end: None,
            seat: None,
            is_due: false,
            goes_without: None,
        }
    }

    pub(super) fn identity(&self) -> &Arc<Identity> {
        &self.identity
    }

    /// Does a part of the work, seen from `after` on.
    ///
    /// # Errors
    /// When its author may not write any more or the server stops. The work is left where it is then.
    pub(super) async fn during<T>(
        &mut self,
        after: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Refusal> {
        let mut work = pin!(work);
        loop {
            let pause = match &self.seat {
                _ if self.is_due => Duration::ZERO,
                Some(_) => RENEWED,
                None => after,
            };
            let outbox = self.seat.as_ref().map(|seat| seat.outbox.clone());
            tokio::select! {
                biased;
                done = &mut work => return Ok(done),
                refusal = sent_away(outbox.as_deref()) => self.lose(refusal)?,
                // While the page is being opened for it, the work goes on.
                shown = self.show_after(pause), if self.goes_without.is_none() => shown?,
            }
        }
    }

    /// Does all of the work, which is seen when it takes long. Nothing ends it: its author was let in.
    pub(super) async fn throughout<T>(mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        match self.during(WAITS, work.as_mut()).await {
            Ok(done) => done,
            Err(_) => {
                drop(self);
                work.await
            }
        }
    }

    /// What was written ends here now. Who goes on writing is seen from here on.
    pub(super) fn is_at(&mut self, end: Option<RelativePosition>, goes_on: bool) {
        // A page that was being rebuilt may be open again.
        self.goes_without
            .take_if(|code| matches!(code, RefusalCode::Unavailable | RefusalCode::Draining));
        let has_moved = end.is_some() && end != self.end;
        if has_moved {
            self.end = end;
        }
        self.is_due |= match &self.seat {
            Some(_) => has_moved,
            None => goes_on,
        };
    }

    async fn show_after(&mut self, pause: Duration) -> Result<(), Refusal> {
        sleep(pause).await;
        self.show().await?;
        self.is_due = false;
        Ok(())
    }

    /// Takes a seat, if there is none, and says what is to be seen.
    async fn show(&mut self) -> Result<(), Refusal> {
        if self.seat.is_none() {
            match Seated::take(self).await {
                Ok(seat) => self.seat = Some(seat),
                Err(refusal) => return self.lose(refusal),
            }
        }
        let state = self.state();
        if let (Some(seat), Some(state)) = (&mut self.seat, state) {
            seat.show(&state).await;
        }
        Ok(())
    }

    /// There is no seat, or none any more.
    fn lose(&mut self, refusal: Refusal) -> Result<(), Refusal> {
        self.seat = None;
        match refusal.code {
            // A page that is full, or being rebuilt, can still be written.
            RefusalCode::RoomFull | RefusalCode::RateLimited | RefusalCode::Unavailable => {
                self.goes_without = Some(refusal.code);
                Ok(())
            }
            // Its room has ended and the server goes on.
            RefusalCode::Draining if !self.app.is_draining() => {
                self.goes_without = Some(refusal.code);
                Ok(())
            }
            RefusalCode::Unauthenticated
            | RefusalCode::TokenExpired
            | RefusalCode::TokenRevoked
            | RefusalCode::Forbidden
            | RefusalCode::ReadOnly
            | RefusalCode::PageDeleted
            | RefusalCode::PageRenamed
            | RefusalCode::PageRebuilt
            | RefusalCode::TooLarge
            | RefusalCode::Malformed
            | RefusalCode::NotFound
            | RefusalCode::Conflict
            | RefusalCode::Draining
            | RefusalCode::Internal => Err(refusal),
        }
    }

    fn state(&self) -> Option<Arc<str>> {
        let Identity { user, profile, .. } = &*self.identity;
        let name = profile.name.as_deref().or(user.as_deref());
        let state = State {
            user: User {
                id: user.as_deref(),
                name,
                avatar_url: profile.avatar_url.as_deref(),
                color: color(user.as_deref().or(name).unwrap_or_default()),
            },
            cursor: self.end.as_ref().map(|end| Selection {
                anchor: end,
                head: end,
            }),
        };
        serde_json::to_string(&state).ok().map(Arc::from)
    }
}

impl Seated {
    async fn take(writer: &Writer<'_>) -> Result<Self, Refusal> {
        let access = &writer.app.around.access;
        let membership = access.membership_of(writer.identity.clone(), writer.page).await?;
        if membership.role < Role::Edit {
            return Err(Refusal::read_only());
        }
        let outbox = Outbox::deaf();
        let seat = access.join(membership, &outbox).await?;
        Ok(Self {
            seat: Some(seat),
            outbox,
            voice: Voice::new(new_client()),
        })
    }

    async fn show(&mut self, state: &Arc<str>) {
        let messages: Vec<_> = self.voice.says(state).map(ClientMessage::Awareness).collect();
        let Some(seat) = &self.seat else { return };
        // A room that is gone says so itself.
        if let Err(speech) = seat.try_say(Speech::from(messages))
            && let Some(place) = seat.place(&speech.messages).await
        {
            place.say(speech);
        }
    }
}

impl Voice {
    fn new(client: ClientId) -> Self {
        Self { client, clock: 0 }
    }

    /// Shows a state. The room shows a client first with the clock after the one that it says, and raises it by one for those who come
    /// back, if it knows that the client has heard of the last one. So that is said back, and every later one is two more.
    fn says(&mut self, state: &Arc<str>) -> impl Iterator<Item = Bytes> {
        let clocks = match self.clock {
            // Yjs clients take no notice of clock 0.
            0 => 1..=2,
            last => last + 2..=last + 2,
        };
        self.clock = *clocks.end();
        clocks.map(|clock| {
            let change = AwarenessChange {
                client: self.client,
                clock,
                state: Some(state.clone()),
            };
            encode_changes(&[change])
        })
    }
}

impl Drop for Seated {
    fn drop(&mut self) {
        if let Some(seat) = self.seat.take() {
            tokio::spawn(seat.leave(Departure::Clean));
        }
    }
}

/// Waits until the holder of a seat is sent away, and gives the reason.
async fn sent_away(outbox: Option<&Outbox>) -> Refusal {
    let Some(outbox) = outbox else {
        return pending().await;
    };
    poll_fn(|context| {
        loop {
            match outbox.poll_next(context) {
                Poll::Ready(Next::Close(refusal)) => return Poll::Ready(refusal),
                Poll::Ready(Next::Message(_) | Next::Receipt { .. } | Next::CaughtUp) => {}
                Poll::Pending => return Poll::Pending,
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use crdt::{Awareness, AwarenessLimits};

    use super::*;

    #[expect(clippy::disallowed_methods, reason = "some moment has to be the first")]
    fn begin() -> Instant {
        Instant::now()
    }

    #[test]
    fn whoever_comes_or_comes_back_is_told_a_clock_that_it_has_not_seen() {
        let (now, client) = (begin(), ClientId(7));
        let (mut awareness, mut voice) = (Awareness::new(AwarenessLimits::default()), Voice::new(client));
        awareness.introduce(now, 0);
        let mut seen = 0;
        for round in 0..5 {
            let state: Arc<str> = format!("{{\"n\":{round}}}").into();
            for update in voice.says(&state) {
                let outcome = awareness.apply(now, 0, &update, |_, _| false).expect("an update");
                for change in outcome.changed {
                    assert!(change.clock > seen, "{} after {seen}", change.clock);
                    seen = change.clock;
                }
            }
            assert!(awareness.is_confirmed(client), "round {round}");
            for newcomer in 1..3 {
                let told = awareness.introduce(now, 10 * round + newcomer).present;
                let clock = told.first().map(|change| change.clock);
                if newcomer == 1 {
                    assert_eq!(clock, Some(seen + 1));
                }
                seen = clock.unwrap_or(seen);
            }
        }
    }
}

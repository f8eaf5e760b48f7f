//! One page on a Hocuspocus socket: from the token that is looked at to the seat in its room.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use storage::PageId;

use super::{Turned, ledger::Ledger};
use crate::{
    auth::{LiveSocket, Membership},
    connections::{
        attendance::{Attendance, Attended, Work},
        websocket::{Say, Surroundings, now},
    },
    protocols::hocuspocus::{SLOT, Said, authenticated, encode, prefix},
    rooms::{Capabilities, ClientMessage, Departure, Outbox, Outgoing, Refusal, ServerMessage},
};

/// A provider is asked for a fresh token this long before the old one ends, or when half of its time is over.
const ASK_BEFORE: Duration = Duration::from_secs(30);

/// What somebody may do whose token is good, and what tells when that ends.
pub(super) type Known = (Membership, LiveSocket);

/// A page somebody wants to be in.
pub(super) struct Page {
    pub(super) id: PageId,
    pub(super) stage: Stage,
    /// The provider has told its version.
    has_version: bool,
    session: Option<Session>,
}

/// What is sent to a session's address differs from what everybody gets in what it begins with.
struct Session {
    prefix: Bytes,
    plain_prefix: usize,
}

/// How far somebody has come.
pub(super) enum Stage {
    /// The token is being looked at.
    Knocking(Work<Result<Known, Refusal>>),
    /// The room is being opened.
    Entering(Work<Result<Box<Seated>, Refusal>>),
    /// There is a seat.
    In(Box<Seated>),
    /// The token is no good, and the client is told so when it may be.
    TurnedAway(Box<TurnedAway>),
}

/// Somebody who has shown a token that is no good, and may have had a better one before.
pub(super) struct TurnedAway {
    refusal: Refusal,
    was_in: bool,
    waiting: Work<()>,
}

/// A seat and the token that gives a right to it.
pub(super) struct Seated {
    attendance: Attendance,
    ledger: Ledger,
    /// When the token ends.
    pub(super) expires: Option<Instant>,
    /// When to ask for a fresh one.
    pub(super) ask_at: Option<Instant>,
    /// What the client was told of its scope.
    told_may_edit: bool,
    /// A fresh token that is being looked at.
    pub(super) renewing: Option<Work<Result<Fresh, Refusal>>>,
}

/// How long a fresh token lasts from the moment in which it was taken.
pub(super) struct Fresh {
    pub(super) live: LiveSocket,
    from: Instant,
    lasts: Option<Duration>,
}

impl Page {
    pub(super) fn knocking(
        id: PageId,
        address: &str,
        has_version: bool,
        looking: Work<Result<Known, Refusal>>,
    ) -> Self {
        let session = (address != id.as_str()).then(|| Session {
            prefix: prefix(address),
            plain_prefix: prefix(id.as_str()).len(),
        });
        Self {
            id,
            stage: Stage::Knocking(looking),
            has_version,
            session,
        }
    }

    pub(super) fn enter(&mut self, around: &Arc<Surroundings>, membership: Membership) {
        self.stage = Stage::Entering(Box::pin(enter(
            around.clone(),
            self.id.clone(),
            membership,
            self.has_version,
        )));
    }

    /// Makes the client wait for `waiting` before it is told. Gives its seat, if it has one, to be given back.
    pub(super) fn turn_away(&mut self, refusal: Refusal, waiting: Work<()>) -> Option<Box<Seated>> {
        let was_in = matches!(self.stage, Stage::In(_));
        let turned_away = Stage::TurnedAway(Box::new(TurnedAway {
            refusal,
            was_in,
            waiting,
        }));
        match std::mem::replace(&mut self.stage, turned_away) {
            Stage::In(seated) => Some(seated),
            Stage::Knocking(_) | Stage::Entering(_) | Stage::TurnedAway(_) => None,
        }
    }

    pub(super) fn seated(&mut self) -> Option<&mut Seated> {
        match &mut self.stage {
            Stage::In(seated) => Some(seated),
            Stage::Knocking(_) | Stage::Entering(_) | Stage::TurnedAway(_) => None,
        }
    }

    /// Goes on; says what it has come to, if that is something new.
    pub(super) fn poll_work(&mut self, context: &mut Context<'_>) -> Option<Turned> {
        let turned = match &mut self.stage {
            Stage::Knocking(looking) => looking.as_mut().poll(context).map(Turned::Looked),
            Stage::Entering(entering) => entering.as_mut().poll(context).map(Turned::Entered),
            Stage::TurnedAway(away) => away.waiting.as_mut().poll(context).map(|()| Turned::MayBeTold {
                refusal: away.refusal.clone(),
                was_in: away.was_in,
            }),
            Stage::In(seated) => {
                seated.attendance.poll_work(context);
                let renewed = seated.renewing.as_mut()?.as_mut().poll(context);
                if renewed.is_ready() {
                    seated.renewing = None;
                }
                renewed.map(Turned::Renewed)
            }
        };
        match turned {
            Poll::Ready(turned) => Some(turned),
            Poll::Pending => None,
        }
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Option<Attended> {
        match self.seated()?.attendance.poll_next(context) {
            Poll::Ready(attended) => Some(attended),
            Poll::Pending => None,
        }
    }

    /// The frame of a message; `None` for one that is said otherwise. It is written once for everybody at the plain address, and a
    /// session's is that one behind another beginning.
    pub(super) fn frame(&self, message: &Outgoing) -> Option<Say> {
        let shared = message.wire(SLOT, |message| encode(self.id.as_str(), message));
        if shared.is_empty() {
            return None;
        }
        Some(match &self.session {
            None => Say::Frame(shared),
            Some(session) => Say::Parts(session.prefix.clone(), shared.slice(session.plain_prefix..)),
        })
    }

    /// The frame that tells the client its scope, if that is another one now. Whoever may edit from now on, or may no longer, hears of
    /// it from the room by one of these two messages.
    pub(super) fn new_scope(&mut self, address: &str, message: &Outgoing) -> Option<Bytes> {
        let (ServerMessage::Refused(_) | ServerMessage::SyncStep1(_)) = message.message() else {
            return None;
        };
        let seated = self.seated()?;
        (seated.may_edit() != seated.told_may_edit).then(|| seated.let_in(address))
    }

    pub(super) fn may_hear(&self) -> bool {
        match &self.stage {
            Stage::In(seated) => seated.attendance.may_say() && seated.renewing.is_none(),
            Stage::Knocking(_) | Stage::Entering(_) | Stage::TurnedAway(_) => true,
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        match &self.stage {
            Stage::In(seated) => seated.ask_at.into_iter().chain(seated.expires).min(),
            Stage::Knocking(_) | Stage::Entering(_) | Stage::TurnedAway(_) => None,
        }
    }

    /// Gives the seat back. What was said on the way in counts: whoever types and leaves at once has said it.
    pub(super) fn end(self, around: &Arc<Surroundings>, kept: Vec<Said>, departure: Departure) -> Work<()> {
        let Self {
            id,
            stage,
            has_version,
            ..
        } = self;
        let around = around.clone();
        Box::pin(async move {
            let seated = match stage {
                Stage::In(seated) => Ok(seated),
                Stage::Entering(entering) => entering.await,
                Stage::Knocking(looking) => match looking.await {
                    Ok((membership, _live)) => enter(around, id, membership, has_version).await,
                    Err(refusal) => Err(refusal),
                },
                Stage::TurnedAway(_) => return,
            };
            let Ok(mut seated) = seated else { return };
            for said in kept {
                if let Said::ToRoom(message) = said {
                    seated.say(message);
                }
            }
            seated.end(departure).await;
        })
    }
}

async fn enter(
    around: Arc<Surroundings>,
    page: PageId,
    membership: Membership,
    has_version: bool,
) -> Result<Box<Seated>, Refusal> {
    let expires_in = membership.expires_in;
    let from = now();
    let capabilities = Capabilities {
        receipts: true,
        stateless: true,
        // Older ones say back what they hear.
        asked: has_version,
        viewers: false,
    };
    let outbox = Outbox::with_capabilities(around.max_outbox_bytes, capabilities);
    let attendance = Attendance::begin(&around.access, &page, membership, outbox);
    let mut attendance = attendance.await?;
    // Programs that sync anew tell what they have only when they are asked.
    attendance.ask_back();
    let mut seated = Seated {
        attendance,
        ledger: Ledger::default(),
        expires: None,
        ask_at: None,
        told_may_edit: false,
        renewing: None,
    };
    seated.lasts(from, expires_in);
    Ok(Box::new(seated))
}

impl Seated {
    /// Says something to the room.
    pub(super) fn say(&mut self, message: ClientMessage) {
        self.ledger.said(&message);
        self.attendance.say(message);
    }

    /// What the client is told when the oldest of what it said has been stored or refused: so many times whether.
    pub(super) fn statuses(&mut self, accepted: bool) -> u32 {
        self.ledger.answered(accepted)
    }

    /// Gives the seat back.
    pub(super) fn end(mut self, departure: Departure) -> Work<()> {
        // It holds the seat.
        self.renewing = None;
        Box::pin(self.attendance.end(departure))
    }

    fn lasts(&mut self, from: Instant, time: Option<Duration>) {
        self.expires = time.map(|time| from + time);
        self.ask_at = time.map(|time| from + time.saturating_sub(ASK_BEFORE).max(time / 2));
    }

    /// Begins to take a fresh token, which must be of the same user.
    pub(super) fn renew(&mut self, looking: Work<Result<Known, Refusal>>) {
        let seat = self.attendance.seat().clone();
        self.renewing = Some(Box::pin(async move {
            let (membership, live) = looking.await?;
            let fresh = Fresh {
                live,
                from: now(),
                lasts: membership.expires_in,
            };
            seat.renew(membership).await?;
            Ok(fresh)
        }));
    }

    /// A fresh token was taken.
    pub(super) fn renewed(&mut self, fresh: &Fresh) {
        self.lasts(fresh.from, fresh.lasts);
    }

    /// The frame that lets the client in, with what it may do now.
    pub(super) fn let_in(&mut self, address: &str) -> Bytes {
        self.told_may_edit = self.may_edit();
        authenticated(address, self.told_may_edit)
    }

    fn may_edit(&self) -> bool {
        self.attendance.seat().role().may_edit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::ServerMessage;

    #[test]
    fn a_message_is_written_once_for_everybody() {
        let id = PageId::new("d").expect("a page id");
        let page = |address| Page::knocking(id.clone(), address, false, Box::pin(std::future::pending()));
        let message = Outgoing::new(ServerMessage::Delta(Bytes::from_static(&[0, 0])));
        let (one, other) = (page("d").frame(&message), page("d").frame(&message));
        let (Some(Say::Frame(one)), Some(Say::Frame(other))) = (one, other) else {
            panic!("frames");
        };
        assert_eq!(one.as_ptr(), other.as_ptr(), "no copy for another member");
        let Some(Say::Parts(begins, rest)) = page("d\0session").frame(&message) else {
            panic!("a frame in two parts");
        };
        assert_eq!(begins, prefix("d\0session"));
        assert_eq!(
            rest.as_ptr(),
            one.slice(2..).as_ptr(),
            "a session has a beginning of its own and shares the rest"
        );
    }
}

//! One page on a Hocuspocus socket: from the token that is looked at to the seat in its room.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use storage::PageId;

use super::ledger::Ledger;
use crate::{
    access::{LiveSocket, Membership},
    connections::{
        context::ServerContext,
        protocol::Work,
        seat_io::{SeatEvent, SeatIo},
    },
    protocols::Frame,
    protocols::hocuspocus::{Request, SLOT, authenticated, encode, prefix},
    rooms::{Capabilities, ClientMessage, Departure, Outbox, Outgoing, Refusal, ServerMessage},
};

/// A provider is asked for a fresh token this long before the old one ends, or when half of its time is over.
const ASK_BEFORE: Duration = Duration::from_secs(30);

/// What somebody may do whose token is good, and what tells when that ends.
pub(super) type Known = (Membership, LiveSocket);

/// What a page has come to while nobody looked.
pub(super) enum Progress {
    Verified(Result<Known, Refusal>),
    Joined(Result<Box<JoinedPage>, Refusal>),
    Renewed(Result<LiveSocket, Refusal>),
    /// The client has waited long enough to hear that its token is no good.
    MayBeTold {
        refusal: Refusal,
        /// An earlier token was good.
        was_open: bool,
    },
}

/// A page somebody wants to be in.
pub(super) struct Page {
    pub(super) id: PageId,
    pub(super) stage: Stage,
    /// The provider has told its version.
    has_version: bool,
    /// The id that is written into what everybody gets.
    shared: PageId,
    /// `None` for a client that calls the page by this id and nothing else.
    elsewhere: Option<Elsewhere>,
}

/// What is sent to a session's address, or to who has come by a former id of the page, differs from what everybody gets in what it begins
/// with.
struct Elsewhere {
    prefix: Bytes,
    plain_prefix: usize,
}

/// How far somebody has come.
pub(super) enum Stage {
    /// The token is being looked at.
    Verifying(Work<Result<Known, Refusal>>),
    /// The room is being opened.
    Opening(Work<Result<Box<JoinedPage>, Refusal>>),
    /// There is a seat.
    Open(Box<JoinedPage>),
    /// The token is no good, and the client is told so when it may be.
    Denied(Box<Denied>),
}

/// Somebody who has shown a token that is no good, and may have had a better one before.
pub(super) struct Denied {
    refusal: Refusal,
    was_open: bool,
    waiting: Work<()>,
}

/// A seat and the token that gives a right to it.
pub(super) struct JoinedPage {
    seat: SeatIo,
    ledger: Ledger,
    /// What the client was told of its scope.
    told_may_edit: bool,
    /// A fresh token that is being looked at.
    renewing: Option<Work<Result<LiveSocket, Refusal>>>,
}

impl Page {
    pub(super) fn verifying(
        id: PageId,
        address: &str,
        has_version: bool,
        looking: Work<Result<Known, Refusal>>,
    ) -> Self {
        Self {
            elsewhere: Elsewhere::of(&id, address),
            shared: id.clone(),
            id,
            stage: Stage::Verifying(looking),
            has_version,
        }
    }

    /// It has a seat at the page.
    pub(super) fn opened(&mut self, address: &str, joined: Box<JoinedPage>) {
        if let Some(page) = joined.seat.seat().page().filter(|page| **page != self.shared) {
            self.shared = page.clone();
            self.elsewhere = Elsewhere::of(page, address);
        }
        self.stage = Stage::Open(joined);
    }

    pub(super) fn open(&mut self, server: &Arc<ServerContext>, membership: Membership) {
        self.stage = Stage::Opening(Box::pin(join(server.clone(), membership, self.has_version)));
    }

    /// Makes the client wait for `waiting` before it is told. Gives its seat, if it has one, to be given back.
    pub(super) fn deny(&mut self, refusal: Refusal, waiting: Work<()>) -> Option<Box<JoinedPage>> {
        let was_open = matches!(self.stage, Stage::Open(_));
        let denied = Stage::Denied(Box::new(Denied {
            refusal,
            was_open,
            waiting,
        }));
        match std::mem::replace(&mut self.stage, denied) {
            Stage::Open(joined) => Some(joined),
            Stage::Verifying(_) | Stage::Opening(_) | Stage::Denied(_) => None,
        }
    }

    pub(super) fn joined(&mut self) -> Option<&mut JoinedPage> {
        match &mut self.stage {
            Stage::Open(joined) => Some(joined),
            Stage::Verifying(_) | Stage::Opening(_) | Stage::Denied(_) => None,
        }
    }

    /// Goes on; says what it has come to, if that is something new.
    pub(super) fn poll_work(&mut self, context: &mut Context<'_>) -> Option<Progress> {
        let progress = match &mut self.stage {
            Stage::Verifying(looking) => looking.as_mut().poll(context).map(Progress::Verified),
            Stage::Opening(entering) => entering.as_mut().poll(context).map(Progress::Joined),
            Stage::Denied(away) => away.waiting.as_mut().poll(context).map(|()| Progress::MayBeTold {
                refusal: away.refusal.clone(),
                was_open: away.was_open,
            }),
            Stage::Open(joined) => {
                joined.seat.poll_work(context);
                let renewed = joined.renewing.as_mut()?.as_mut().poll(context);
                if renewed.is_ready() {
                    joined.renewing = None;
                }
                renewed.map(Progress::Renewed)
            }
        };
        match progress {
            Poll::Ready(progress) => Some(progress),
            Poll::Pending => None,
        }
    }

    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<SeatEvent> {
        match self.joined() {
            Some(joined) => joined.seat.poll_next(context),
            None => Poll::Pending,
        }
    }

    /// Why its member was sent away, if it was and may hear nothing more.
    pub(super) fn poll_expelled(&mut self, context: &mut Context<'_>) -> Poll<Refusal> {
        match self.joined() {
            Some(joined) => joined.seat.poll_expelled(context),
            None => Poll::Pending,
        }
    }

    /// The frame of a message; `None` for one that is said otherwise. It is written once for everybody at the plain address, and that of
    /// somebody elsewhere is that one behind another beginning.
    pub(super) fn frame(&self, message: &Outgoing) -> Option<Frame> {
        let shared = message.wire(SLOT, |message| encode(self.shared.as_str(), message));
        if shared.is_empty() {
            return None;
        }
        Some(match &self.elsewhere {
            None => Frame::Binary(shared),
            Some(elsewhere) => Frame::Parts(elsewhere.prefix.clone(), shared.slice(elsewhere.plain_prefix..)),
        })
    }

    /// The frame that tells the client its scope, if that is another one now. Whoever may edit from now on, or may no longer, hears of
    /// it from the room by one of these two messages.
    pub(super) fn new_scope(&mut self, address: &str, message: &Outgoing) -> Option<Bytes> {
        let (ServerMessage::Refused(_) | ServerMessage::SyncStep1(_)) = message.message() else {
            return None;
        };
        let joined = self.joined()?;
        (joined.may_edit() != joined.told_may_edit).then(|| joined.let_in(address))
    }

    pub(super) fn may_receive(&self) -> bool {
        match &self.stage {
            Stage::Open(joined) => joined.seat.may_send() && joined.renewing.is_none(),
            Stage::Verifying(_) | Stage::Opening(_) | Stage::Denied(_) => true,
        }
    }

    /// Gives the seat back. What was said on the way in counts: whoever types and leaves at once has said it.
    pub(super) fn end(
        self,
        server: &Arc<ServerContext>,
        kept: Vec<Request>,
        departure: Departure,
    ) -> Work<()> {
        let Self {
            stage, has_version, ..
        } = self;
        let server = server.clone();
        Box::pin(async move {
            let joined = match stage {
                Stage::Open(joined) => Ok(joined),
                Stage::Opening(entering) => entering.await,
                Stage::Verifying(looking) => match looking.await {
                    Ok((membership, _live)) => join(server, membership, has_version).await,
                    Err(refusal) => Err(refusal),
                },
                Stage::Denied(_) => return,
            };
            let Ok(mut joined) = joined else { return };
            for request in kept {
                if let Request::ToRoom(message) = request {
                    joined.send(message);
                }
            }
            joined.end(departure).await;
        })
    }
}

impl Elsewhere {
    fn of(page: &PageId, address: &str) -> Option<Self> {
        (address != page.as_str()).then(|| Self {
            prefix: prefix(address),
            plain_prefix: prefix(page.as_str()).len(),
        })
    }
}

async fn join(
    server: Arc<ServerContext>,
    membership: Membership,
    has_version: bool,
) -> Result<Box<JoinedPage>, Refusal> {
    let capabilities = Capabilities {
        receipts: true,
        stateless: true,
        // Older ones say back what they hear.
        asked: has_version,
    };
    let outbox = Outbox::with_capabilities(server.max_outbox_bytes, capabilities);
    let patience = server.session.timeout;
    let mut seat = SeatIo::begin(&server.access, membership, outbox, patience).await?;
    // Programs that sync anew tell what they have only when they are asked.
    seat.ask_back();
    seat.ask_ahead(ASK_BEFORE);
    Ok(Box::new(JoinedPage {
        seat,
        ledger: Ledger::default(),
        told_may_edit: false,
        renewing: None,
    }))
}

impl JoinedPage {
    /// Says something to the room.
    pub(super) fn send(&mut self, message: ClientMessage) {
        self.ledger.said(&message);
        self.seat.send(message);
    }

    /// What the client is told when the oldest of what it said has been stored or refused: so many times whether.
    pub(super) fn statuses(&mut self, accepted: bool) -> u32 {
        self.ledger.answered(accepted)
    }

    /// Gives the seat back.
    pub(super) fn end(mut self, departure: Departure) -> Work<()> {
        // It holds the seat.
        self.renewing = None;
        Box::pin(self.seat.end(departure))
    }

    /// Begins to take a fresh token, which must be of the same user.
    pub(super) fn renew(&mut self, looking: Work<Result<Known, Refusal>>) {
        let seat = self.seat.seat().clone();
        self.renewing = Some(Box::pin(async move {
            let (membership, live) = looking.await?;
            seat.renew(membership).await?;
            Ok(live)
        }));
    }

    /// The frame that lets the client in, with what it may do now.
    pub(super) fn let_in(&mut self, address: &str) -> Bytes {
        self.told_may_edit = self.may_edit();
        authenticated(address, self.told_may_edit)
    }

    fn may_edit(&self) -> bool {
        self.seat.seat().role().may_edit()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::ServerMessage;

    #[test]
    fn a_message_is_written_once_for_everybody() {
        let id = PageId::new("d").expect("a page id");
        let page = |address| Page::verifying(id.clone(), address, false, Box::pin(std::future::pending()));
        let message = Outgoing::new(ServerMessage::Delta(Bytes::from_static(&[0, 0])));
        let (one, other) = (page("d").frame(&message), page("d").frame(&message));
        let (Some(Frame::Binary(one)), Some(Frame::Binary(other))) = (one, other) else {
            panic!("frames");
        };
        assert_eq!(one.as_ptr(), other.as_ptr(), "no copy for another member");
        let Some(Frame::Parts(begins, rest)) = page("d\0session").frame(&message) else {
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

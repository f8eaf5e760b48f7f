//! What clients hear of a server that has as many connections as it may have.
//!
//! A session of one that is turned away lives for a moment in which it is told why, and a few of them do at once; who comes beyond that is
//! refused as a request.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use serde_json::json;
use socketioxide_core::{Sid, Str, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    namespaces::{Connected, Namespaces, NotConnected},
    place::{Place, Said},
};
use crate::{
    connections::protocol::{Protocol, Work},
    events::event_text,
    protocols::{Frame, events},
    rooms::{Departure, Refusal},
};

/// Sessions at once that are told why they are turned away.
const MAX_AT_ONCE: usize = 64;

/// Places for those who are told why they are turned away.
#[derive(Clone)]
pub(super) struct TurnedAway(Arc<Semaphore>);

impl TurnedAway {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_AT_ONCE)))
    }

    /// The namespaces of a session that is turned away, where it can be told.
    pub(super) fn namespaces(&self, refusal: Refusal) -> Result<Box<dyn Namespaces>, Refusal> {
        match self.0.clone().try_acquire_owned() {
            Ok(permit) => Ok(Box::new(FullNamespaces {
                refusal,
                _permit: permit,
            })),
            Err(_) => Err(refusal),
        }
    }
}

struct FullNamespaces {
    refusal: Refusal,
    _permit: OwnedSemaphorePermit,
}

impl Namespaces for FullNamespaces {
    fn connect(&self, name: &Str, _sid: Sid, _auth: Option<&Value>) -> Work<Result<Connected, NotConnected>> {
        let refusal = self.refusal.clone();
        let answer = match name.as_str() == events::NAMESPACE {
            true => Ok(Box::new(FullPlace {
                refusal,
                is_told: false,
            }) as Place),
            false => Err(NotConnected::Retry(refusal)),
        };
        Box::pin(async move { answer.map(Connected::from) })
    }
}

/// Says why, and ends.
struct FullPlace {
    refusal: Refusal,
    is_told: bool,
}

impl Protocol<Said> for FullPlace {
    fn on_frame(&mut self, _now: Instant, _said: Said) -> Result<usize, Refusal> {
        Ok(1)
    }

    fn may_receive(&self) -> bool {
        true
    }

    fn poll_work(&mut self, _context: &mut Context<'_>) {}

    fn poll_outgoing(
        &mut self,
        _context: &mut Context<'_>,
        frames: &mut Vec<Frame>,
    ) -> Poll<Result<(), Refusal>> {
        if self.is_told {
            return Poll::Ready(Err(self.refusal.clone()));
        }
        self.is_told = true;
        let body = json!({ "reason": "Server at capacity" });
        frames.push(Frame::SharedText(event_text("connection-rejected", &body)));
        Poll::Ready(Ok(()))
    }

    fn end(self: Box<Self>, _departure: Departure) -> Work<()> {
        Box::pin(async {})
    }
}

//! Where a room puts what it tells a member.

use std::{fmt, sync::Arc};

use super::{Capabilities, Outbox, Outgoing, Pushed, Refusal};

/// The way from a room to one member. A room calls it while it handles an input, so nothing here may wait.
pub trait Outlet: fmt::Debug + Send + Sync {
    /// What can be told through it.
    fn capabilities(&self) -> Capabilities;

    /// Queues a message, or says that it does not fit.
    fn push(&self, message: &Arc<Outgoing>) -> Pushed;

    /// Lets document messages in again, behind a step 2 that must follow with all that was missed.
    fn resume(&self);

    /// Hangs up once what is queued has left.
    fn close(&self, refusal: Refusal);
}

impl Outlet for Outbox {
    fn capabilities(&self) -> Capabilities {
        self.capabilities()
    }

    fn push(&self, message: &Arc<Outgoing>) -> Pushed {
        self.push(message)
    }

    fn resume(&self) {
        self.resume();
    }

    fn close(&self, refusal: Refusal) {
        self.close(refusal);
    }
}

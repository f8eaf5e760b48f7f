//! The clock that rooms are run by, and the way out of the runtime for what takes long.

use std::time::Instant;

/// Runs `work`, out of the way of other tasks if it is heavy.
pub(crate) fn run_blocking_if<T>(heavy: bool, work: impl FnOnce() -> T) -> T {
    let can_move = tokio::runtime::Handle::try_current()
        .is_ok_and(|handle| handle.runtime_flavor() == tokio::runtime::RuntimeFlavor::MultiThread);
    if heavy && can_move {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

#[expect(clippy::disallowed_methods, reason = "this is where rooms meet the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

//! The clock that rooms are run by, and the way out of the runtime for what takes long.

use std::time::Instant;

use tokio::{
    runtime::{Handle, RuntimeFlavor},
    task::block_in_place,
};

/// Runs `work`, out of the way of other tasks if it is heavy.
pub(crate) fn run_blocking_if<T>(heavy: bool, work: impl FnOnce() -> T) -> T {
    match others().filter(|_| heavy) {
        Some(_) => block_in_place(work),
        None => work(),
    }
}

/// Waits for `work`, out of the way of other tasks if one of its steps is heavy, such as copying many megabytes for a database. A thread
/// waits with it: for what there is a bounded number of.
pub(super) async fn wait_blocking_if<T>(heavy: bool, work: impl Future<Output = T>) -> T {
    match others().filter(|_| heavy) {
        Some(runtime) => block_in_place(|| runtime.block_on(work)),
        None => work.await,
    }
}

/// The runtime that this runs on, if other threads of it can go on meanwhile.
fn others() -> Option<Handle> {
    let runtime = Handle::try_current().ok();
    runtime.filter(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}

#[expect(clippy::disallowed_methods, reason = "this is where rooms meet the clock")]
pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The runtime's only thread is held until another task has run.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn others_go_on_while_something_heavy_is_waited_for() {
        let (go, may_go) = std::sync::mpsc::channel();
        let held = tokio::spawn(wait_blocking_if(true, async move {
            tokio::task::yield_now().await;
            may_go.recv()
        }));
        tokio::spawn(async move { go.send(7) })
            .await
            .expect("it runs")
            .expect("it is waited for");
        assert_eq!(held.await.expect("it ends"), Ok(7));
    }

    #[tokio::test]
    async fn where_there_is_one_thread_it_is_waited_for_as_ever() {
        assert_eq!(wait_blocking_if(true, async { 7 }).await, 7);
    }
}

//! Looks after the tasks that a server cannot do without: when one of them dies, the server stops.
//!
//! A server whose writer is gone stores nothing, and one that no longer watches permissions keeps people in who may not be there.
//! Neither may go on looking healthy.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Runs tasks and notices when one of them panics. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Supervisor {
    tasks: TaskTracker,
    failed: CancellationToken,
}

impl Supervisor {
    /// Runs a task that ends only when it is no longer needed.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let failed = self.failed.clone();
        self.tasks.spawn(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                tracing::error!(
                    name,
                    "a task that the server cannot do without has died; the server stops"
                );
                failed.cancel();
            }
        });
    }

    /// A supervisor of other tasks, which can be waited for apart; the death of one of them is noticed here, too.
    #[must_use]
    pub fn for_others(&self) -> Self {
        Self {
            tasks: TaskTracker::new(),
            failed: self.failed.clone(),
        }
    }

    /// Waits until one of the tasks has died.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Whether one of the tasks has died.
    pub fn has_failed(&self) -> bool {
        self.failed.is_cancelled()
    }

    /// Waits until all tasks have ended, once each has been told to.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_dies_is_noticed_and_one_that_ends_is_not() {
        let supervisor = Supervisor::default();
        supervisor.spawn("ends", async {});
        supervisor.ended().await;
        assert!(!supervisor.has_failed());
        supervisor.spawn("dies", async { panic!("on demand") });
        supervisor.failed().await;
        assert!(supervisor.has_failed());
    }
}

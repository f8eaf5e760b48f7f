//! Heads of pages, read together: who asks while a read is under way waits for the next one, which answers all that wait.
//!
//! A read never answers whoever asked after it had begun, so everybody learns what was stored when they asked, or later. One who gives up
//! while it reads leaves those who wait for it to ask again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{PageId, PageRecord, StoreError};

/// Pages that one read asks for, at most; others wait for the next one.
const MAX_GATHERED: usize = 256;

type Answer = Result<Option<PageRecord>, StoreError>;

/// What reads heads of pages.
pub(crate) trait ReadHeads: Sync {
    /// The heads of the pages with these ids, which are in any order and some of them there twice. Of a page that is not stored there is
    /// none.
    fn read_heads(&self, pages: &[&str]) -> impl Future<Output = Result<Vec<PageRecord>, StoreError>> + Send;
}

/// Somebody who waits.
struct Asked {
    page: PageId,
    reply: oneshot::Sender<Answer>,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Gathered {
    /// One for each call that is under way, and until the next read those that were given up.
    waiting: Mutex<Vec<Asked>>,
    /// Held by whoever reads.
    turn: tokio::sync::Mutex<()>,
}

impl Gathered {
    /// The head of a page. The store is read where it is this one's turn, for all who wait.
    pub(crate) async fn ask(&self, page: &PageId, store: &impl ReadHeads) -> Answer {
        loop {
            let (reply, mut answer) = oneshot::channel();
            let page = page.clone();
            self.waiting().push(Asked { page, reply });
            tokio::select! {
                biased;
                answered = &mut answer => if let Ok(answered) = answered {
                    return answered;
                },
                _turn = self.turn.lock() => loop {
                    match answer.try_recv() {
                        Ok(answered) => return answered,
                        Err(TryRecvError::Empty) => self.answer(store).await,
                        Err(TryRecvError::Closed) => break,
                    }
                }
            }
        }
    }

    /// Answers those that wait, as many as one read asks for.
    async fn answer(&self, store: &impl ReadHeads) {
        // Those who are about to ask take part: a read costs much more than one page more in it.
        tokio::task::yield_now().await;
        let asked: Vec<_> = {
            let mut waiting = self.waiting();
            waiting.retain(|asked| !asked.reply.is_closed());
            let most = waiting.len().min(MAX_GATHERED);
            waiting.drain(..most).collect()
        };
        let pages: Vec<_> = asked.iter().map(|asked| asked.page.as_str()).collect();
        let found = store.read_heads(&pages).await;
        let found = found.map(|records| -> HashMap<_, _> {
            let by_page = records.into_iter().map(|record| (record.page.clone(), record));
            by_page.collect()
        });
        for Asked { page, reply } in asked {
            let answer = match &found {
                Ok(found) => Ok(found.get(&page).cloned()),
                Err(error) => Err(error.clone()),
            };
            // Who asked may have gone.
            let _ = reply.send(answer);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Asked>> {
        // Nothing panics while the lock is held, so what a poisoned lock guards is whole.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::{Pin, pin},
        sync::{
            Arc,
            atomic::{AtomicU64, Ordering},
        },
        task::Poll,
        time::SystemTime,
    };

    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::Generation;

    /// A store whose pages all have as many rows as were stored when they were read, and which reads only when it is let.
    #[derive(Default)]
    struct Source {
        gathered: Gathered,
        rows: AtomicU64,
        reads: AtomicU64,
        lets: Option<Semaphore>,
    }

    impl Source {
        async fn ask(&self, page: &str) -> Result<Option<u64>, StoreError> {
            let page = PageId::new(page).expect("a name");
            let found = self.gathered.ask(&page, self).await?;
            if let Some(found) = &found {
                assert_eq!(found.page, page);
            }
            Ok(found.map(|record| record.seq))
        }
    }

    impl ReadHeads for Source {
        async fn read_heads(&self, pages: &[&str]) -> Result<Vec<PageRecord>, StoreError> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let seq = self.rows.load(Ordering::Relaxed);
            if let Some(lets) = &self.lets {
                lets.acquire().await.expect("it is not closed").forget();
            }
            if pages.contains(&"broken") {
                return Err(StoreError::Unavailable {
                    reason: "broken".to_owned(),
                });
            }
            let there = pages.iter().filter(|page| **page != "missing");
            Ok(there.map(|page| record(page, seq)).collect())
        }
    }

    fn record(page: &str, seq: u64) -> PageRecord {
        PageRecord {
            page: PageId::new(page).expect("a name"),
            generation: Generation("g".into()),
            seq,
            size_bytes: 0,
            created_at: SystemTime::UNIX_EPOCH,
            updated_at: SystemTime::UNIX_EPOCH,
            deleted_at: None,
        }
    }

    /// Whether it goes on as far as it can, also behind those to whom it gives way once, and has not ended.
    async fn waits(mut future: Pin<&mut impl Future>) -> bool {
        let mut poll =
            async || poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await;
        poll().await && poll().await
    }

    fn slow() -> Source {
        Source {
            lets: Some(Semaphore::new(0)),
            ..Source::default()
        }
    }

    fn let_read(source: &Source) {
        source.lets.as_ref().expect("it is slow").add_permits(1);
    }

    #[tokio::test]
    async fn those_who_wait_are_answered_by_one_read_that_begins_after_they_asked() {
        let source = slow();
        source.rows.store(1, Ordering::Relaxed);
        let mut first = pin!(source.ask("a"));
        assert!(waits(first.as_mut()).await);
        source.rows.store(2, Ordering::Relaxed);
        let mut others = pin!(join_all(["a", "b", "missing"].map(|page| source.ask(page))));
        assert!(waits(others.as_mut()).await);
        let_read(&source);
        assert_eq!(first.await.expect("it is read"), Some(1));
        let_read(&source);
        let others: Vec<_> = others
            .await
            .into_iter()
            .map(|found| found.expect("it is read"))
            .collect();
        assert_eq!(
            others,
            [Some(2), Some(2), None],
            "an earlier read knows nothing of the second row"
        );
        assert_eq!(source.reads.load(Ordering::Relaxed), 2);
    }

    #[tokio::test]
    async fn who_gives_up_while_it_reads_leaves_the_others_to_ask_again() {
        let source = slow();
        let mut first = Box::pin(source.ask("a"));
        assert!(waits(first.as_mut()).await);
        let mut second = Box::pin(source.ask("b"));
        let mut third = pin!(source.ask("c"));
        assert!(waits(second.as_mut()).await);
        assert!(waits(third.as_mut()).await);
        drop(first);
        assert!(waits(second.as_mut()).await, "it reads for both of them");
        drop(second);
        assert!(waits(third.as_mut()).await);
        let_read(&source);
        assert_eq!(third.await.expect("it is read"), Some(0));
    }

    #[tokio::test]
    async fn a_failure_is_told_to_all_whom_it_concerns_and_to_nobody_else() {
        let source = slow();
        let mut first = pin!(source.ask("a"));
        assert!(waits(first.as_mut()).await);
        let mut second = pin!(join_all(["b", "broken"].map(|page| source.ask(page))));
        assert!(waits(second.as_mut()).await);
        let_read(&source);
        assert!(first.await.is_ok());
        let_read(&source);
        assert!(second.await.iter().all(Result::is_err));
        let_read(&source);
        assert!(source.ask("a").await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn more_are_answered_than_one_read_asks_for() {
        let source = Arc::new(Source::default());
        let asked = (0..3 * MAX_GATHERED).map(|page| {
            let source = source.clone();
            tokio::spawn(async move { source.ask(&format!("page-{page}")).await })
        });
        for found in join_all(asked).await {
            assert_eq!(found.expect("it ends").expect("it is read"), Some(0));
        }
    }
}

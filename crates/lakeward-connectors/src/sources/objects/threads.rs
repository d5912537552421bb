//! Threads that work on files.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

type Work = Box<dyn FnOnce() + Send>;

/// So many threads and no more. The runtime's own pool grows with how late
/// threads wake up: many short pieces of work on a busy machine make hundreds
/// of threads of it, and each keeps some megabytes for ever.
#[derive(Debug)]
pub(super) struct Threads {
    work: mpsc::Sender<Work>,
}

impl Threads {
    /// Starts them; they end once this is dropped and nothing is left to do.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let (work, waiting) = mpsc::channel::<Work>(count);
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..count {
            let waiting = Arc::clone(&waiting);
            std::thread::Builder::new().name("objects".into()).spawn(move || {
                // One of them waits for work, the others for its place.
                let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                while let Some(work) = next() {
                    work();
                }
            })?;
        }
        Ok(Self { work })
    }

    /// Does this on one of them. It is seen through even if nobody waits for
    /// it. `None` if it was stopped in the middle.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let (done, result) = oneshot::channel();
        let work = Box::new(move || {
            let _ = done.send(work());
        });
        self.work.send(work).await.ok()?;
        result.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_work_is_done_by_so_many_threads() {
        let threads = Arc::new(Threads::start(3).expect("they start"));
        let work = (0..200_u32).map(|n| {
            let threads = Arc::clone(&threads);
            tokio::spawn(async move { threads.run(move || (n, std::thread::current().id())).await })
        });
        let mut by = std::collections::HashSet::new();
        for (expect, done) in (0..).zip(work.collect::<Vec<_>>()) {
            let (n, thread) = done.await.expect("no panic").expect("it is done");
            assert_eq!(n, expect);
            by.insert(thread);
        }
        assert!(by.len() <= 3, "{by:?}");
    }
}

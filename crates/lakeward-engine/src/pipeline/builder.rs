//! The thread that builds a pipeline's batches.

use tokio::sync::{mpsc, oneshot};

/// Builds wait here; a pipeline has one at a time, and one that nobody waits
/// for any more.
const WAITING: usize = 4;

type Work = Box<dyn FnOnce() + Send>;

/// A thread of its own, always the same: a build needs many large buffers, and
/// what the allocator keeps of them for the thread it then keeps once, not in
/// every thread of the runtime's pool that ever built a batch.
///
/// The thread is one of the runtime's: a runtime that ends waits for the build
/// in hand, and so nothing holds the ledger and the journal after it.
#[derive(Debug)]
pub(crate) struct Builder {
    work: mpsc::Sender<Work>,
}

impl Builder {
    /// Starts the thread; it ends once the builder is dropped and nothing is
    /// left to do.
    pub(crate) fn start() -> Self {
        let (work, mut waiting) = mpsc::channel::<Work>(WAITING);
        tokio::task::spawn_blocking(move || {
            while let Some(work) = waiting.blocking_recv() {
                work();
            }
        });
        Self { work }
    }

    /// Does this on the thread. It is seen through even if nobody waits for it.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = oneshot::channel();
        let work = Box::new(move || {
            let _ = done.send(work());
        });
        self.work.send(work).await.expect("the thread lives as long as its builder");
        result.await.expect("a panic of the thread ends the process")
    }
}

//! A destination that fails by a script.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::{Batch, Destination, Failure, FailureKind, Receipt};

/// What happens to one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: the call goes through.
    None,
    /// It fails with this kind and nothing is written.
    Reject(FailureKind),
    /// It is written, and the reply is lost: [`FailureKind::Unknown`].
    FailAfterWrite,
    /// It waits for one [`Faulty::release`], then goes through.
    Hold,
    /// It is written, and the reply waits for one [`Faulty::release`]: a
    /// process that is stopped meanwhile never hears of it.
    HoldAfterWrite,
    /// It waits this long, then goes through.
    Slow(Duration),
}

/// Wraps a destination; each call takes the next fault of the script, and goes
/// through once the script is used up.
#[derive(Debug)]
pub struct Faulty<D> {
    inner: D,
    script: Mutex<VecDeque<Fault>>,
    releases: Semaphore,
    calls: AtomicUsize,
    holds: AtomicUsize,
}

impl<D> Faulty<D> {
    /// Wraps `inner`.
    pub fn new(inner: D, script: impl IntoIterator<Item = Fault>) -> Self {
        Self {
            inner,
            script: Mutex::new(script.into_iter().collect()),
            releases: Semaphore::new(0),
            calls: AtomicUsize::new(0),
            holds: AtomicUsize::new(0),
        }
    }

    /// Adds a fault at the end of the script.
    pub fn then(&self, fault: Fault) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).push_back(fault);
    }

    /// Forgets what is left of the script.
    pub fn clear(&self) {
        self.script.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Lets one held call go on, now or when it comes.
    pub fn release(&self) {
        self.releases.add_permits(1);
    }

    /// How many calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// How many calls were held so far, whether or not they still are.
    pub fn holds(&self) -> usize {
        self.holds.load(Ordering::SeqCst)
    }

    async fn hold(&self) {
        self.holds.fetch_add(1, Ordering::SeqCst);
        self.releases.acquire().await.expect("it is never closed").forget();
    }

    /// What it wraps.
    pub fn inner(&self) -> &D {
        &self.inner
    }

    fn next(&self) -> Fault {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.script.lock().unwrap_or_else(PoisonError::into_inner).pop_front().unwrap_or(Fault::None)
    }
}

#[async_trait::async_trait]
impl<D: Destination> Destination for Faulty<D> {
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        match self.next() {
            Fault::None => {}
            Fault::Reject(kind) => return Err(Failure::new(kind, "rejected by the script")),
            Fault::FailAfterWrite => {
                self.inner.deliver(batch).await?;
                return Err(Failure::new(FailureKind::Unknown, "the reply was lost by the script"));
            }
            Fault::HoldAfterWrite => {
                let receipt = self.inner.deliver(batch).await?;
                self.hold().await;
                return Ok(receipt);
            }
            Fault::Hold => self.hold().await,
            Fault::Slow(time) => tokio::time::sleep(time).await,
        }
        self.inner.deliver(batch).await
    }
}

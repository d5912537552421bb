//! Small objects that are fetched before they are asked for, so that many of
//! them do not each cost a journey to the store and back.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use lakeward_model::{Slice, SliceFailure, SliceId};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use super::bucket::Bucket;

/// Larger objects are not fetched ahead.
const BYTES_MAX: u64 = 256 << 10;
/// How many objects are there or on their way: 8 MiB at most.
const OBJECTS_MAX: usize = 32;

/// What was fetched ahead and not asked for yet.
#[derive(Debug, Default)]
pub(super) struct Ahead(Mutex<VecDeque<Fetched>>);

#[derive(Debug)]
struct Fetched {
    id: SliceId,
    answer: oneshot::Receiver<Result<Bytes, SliceFailure>>,
    task: AbortHandle,
}

impl Ahead {
    /// Begins to fetch what comes next. What nobody asked for makes room.
    pub(super) fn fetch(&self, bucket: &Bucket, coming: &[Slice]) {
        let small = |slice: &&Slice| slice.bytes.is_some_and(|bytes| (1..=BYTES_MAX).contains(&bytes));
        let mut fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for slice in coming.iter().take(OBJECTS_MAX / 2).filter(small) {
            let id = slice.id(uuid::Uuid::nil());
            if fetched.iter().any(|other| other.id == id) {
                continue;
            }
            if fetched.len() >= OBJECTS_MAX
                && let Some(oldest) = fetched.pop_front()
            {
                oldest.task.abort();
            }
            let (sender, answer) = oneshot::channel();
            let (bucket, name, version) = (bucket.clone(), slice.name.clone(), slice.version.clone());
            let task = tokio::spawn(async move {
                // It may have made room for others meanwhile.
                let _ = sender.send(bucket.get(&name, &version, None).await);
            });
            fetched.push_back(Fetched { id, answer, task: task.abort_handle() });
        }
    }

    /// The object, if it was fetched and that went well.
    pub(super) async fn take(&self, slice: &Slice) -> Option<Bytes> {
        let id = slice.id(uuid::Uuid::nil());
        let found = {
            let mut fetched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let at = fetched.iter().position(|other| other.id == id)?;
            fetched.remove(at)?
        };
        found.answer.await.ok()?.ok()
    }
}

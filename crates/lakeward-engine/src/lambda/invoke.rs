//! All the calls of a batch, some at a time.

use std::sync::Arc;

use lakeward_model::Function;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinHandle, JoinSet};

use super::call::Caller;
use super::chunk::{Chunk, Chunks};
use super::replies::{Part, Replies, RepliesError};
use super::{Arrived, Listener, Settings};

/// Why a batch's replies are not whole. What was said before is kept; the same
/// call goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum InvokeAllError<E> {
    /// The pieces could not be read.
    #[error(transparent)]
    Pieces(E),
    /// The replies could not be stored.
    #[error(transparent)]
    Replies(#[from] RepliesError),
}

/// Asks `function` about every piece of a batch of which `replies` knows
/// nothing yet, until it knows all.
///
/// `arrived` gives all the batch's pieces, the same and in the same order
/// whenever it is called for the batch; it may block. At most
/// `settings.concurrency` calls are made at a time, and about that many events
/// and replies of up to 6 MB each are in memory.
///
/// It takes as long as it takes: while the function cannot be reached it waits
/// (see [`Settings::wait`]). Dropping the future abandons the calls; what was
/// stored stays.
///
/// # Errors
/// See [`InvokeAllError`].
pub async fn invoke_all<I, E>(
    function: Arc<dyn Function>,
    settings: Settings,
    arrived: I,
    replies: &mut Replies,
    listener: Listener,
) -> Result<(), InvokeAllError<E>>
where
    I: Iterator<Item = Result<Arrived, E>> + Send + 'static,
    E: Send + 'static,
{
    if replies.is_whole() {
        return Ok(());
    }
    let concurrency = settings.concurrency.max(1);
    let chunks = Chunks::new(arrived, settings.bytes, settings.records);
    let (parts, mut said) = mpsc::channel(concurrency);
    let caller = Caller { function, settings: Arc::new(settings), batch: replies.batch(), listener, parts };
    let (mut chunks, cutter) = cut(chunks);
    let mut cutter = Some(cutter);
    let mut calls = JoinSet::new();
    let mut pieces = 0;
    let mut more = true;
    while more || !calls.is_empty() {
        tokio::select! {
            chunk = chunks.recv(), if more && calls.len() < concurrency => match chunk {
                None => {
                    more = false;
                    if let Some(cutter) = cutter.take() {
                        // Only a cutter that came to its end has said what all is.
                        finished(cutter.await);
                    }
                }
                Some(chunk) => {
                    let chunk = chunk.map_err(InvokeAllError::Pieces)?;
                    pieces = chunk.range().end;
                    let missing = replies.missing(chunk.range());
                    if !missing.is_empty() {
                        calls.spawn(caller.clone().ask(Arc::new(chunk), missing));
                    }
                }
            },
            Some(part) = said.recv() => replies.store(waiting(part, &mut said), None).await?,
            Some(ended) = calls.join_next(), if !calls.is_empty() => {
                finished(ended);
            }
        }
    }
    let rest = std::iter::from_fn(|| said.try_recv().ok()).collect();
    Ok(replies.store(rest, Some(pieces)).await?)
}

/// A part and those that wait behind it: one fsync for all.
fn waiting(part: Part, said: &mut mpsc::Receiver<Part>) -> Vec<Part> {
    let mut parts = vec![part];
    parts.extend(std::iter::from_fn(|| said.try_recv().ok()));
    parts
}

/// Cuts on a thread that may block. It ends when the batch does, or when
/// nobody takes what it cuts.
fn cut<I, E>(chunks: Chunks<I>) -> (mpsc::Receiver<Result<Chunk, E>>, JoinHandle<()>)
where
    I: Iterator<Item = Result<Arrived, E>> + Send + 'static,
    E: Send + 'static,
{
    let (sender, receiver) = mpsc::channel(1);
    let cutter = tokio::task::spawn_blocking(move || {
        for chunk in chunks {
            let failed = chunk.is_err();
            if sender.blocking_send(chunk).is_err() || failed {
                break;
            }
        }
    });
    (receiver, cutter)
}

/// A task of ours never ends early: a panic in it is a broken invariant.
fn finished(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        panic!("a task of the function's calls ended early: {error}");
    }
}

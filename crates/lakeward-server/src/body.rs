//! Reading request bodies: bounded, paid for out of one memory budget, and
//! whole or not at all.

use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// What is reserved before the first byte comes, at most: a client that
/// announces much and sends nothing holds no more than this.
const FIRST_RESERVATION: usize = 1 << 20;
/// What must come within each read timeout for the body to go on.
const PROGRESS_BYTES: usize = 16 << 10;
/// The budget is counted in units of this many bytes.
const UNIT: usize = 1 << 10;

/// The memory that all requests in flight share.
#[derive(Debug, Clone)]
pub(crate) struct Budget(Arc<Semaphore>);

impl Budget {
    pub(crate) fn new(bytes: u64) -> Self {
        let units = usize::try_from(bytes).unwrap_or(usize::MAX).div_ceil(UNIT);
        Self(Arc::new(Semaphore::new(units.min(Semaphore::MAX_PERMITS))))
    }

    /// Bytes that are free.
    pub(crate) fn free(&self) -> u64 {
        self.0.available_permits() as u64 * UNIT as u64
    }

    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reservation, BodyError> {
        let mut reservation = Reservation { budget: self.clone(), units: 0, permit: None };
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

/// A part of the [`Budget`], given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    units: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl Reservation {
    /// Grows to `bytes`, at once or not at all: waiting for each other's
    /// memory could stand still for ever.
    pub(crate) fn grow(&mut self, bytes: usize) -> Result<(), BodyError> {
        let units = bytes.div_ceil(UNIT);
        if units <= self.units {
            return Ok(());
        }
        let more = u32::try_from(units - self.units).map_err(|_| BodyError::Busy)?;
        let permit = Arc::clone(&self.budget.0).try_acquire_many_owned(more).map_err(|_| BodyError::Busy)?;
        match &mut self.permit {
            Some(held) => held.merge(permit),
            None => self.permit = Some(permit),
        }
        self.units = units;
        Ok(())
    }
}

/// Why a body was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is too long; the client must split it.
    #[error("the body is longer than {0} bytes")]
    TooLarge(u64),
    /// Too much is in flight; the client tries again.
    #[error("too many bytes are in flight")]
    Busy,
    /// It came too slowly or not at all; the connection is of no use.
    #[error("the body came too slowly")]
    Stalled,
    /// The connection broke in the middle.
    #[error("the body ended early: {0}")]
    Cut(String),
}

/// Reads the whole body, at most `limit` bytes. The reservation covers the
/// bytes for as long as it is held.
///
/// # Errors
/// Nothing of the body may be used. See [`BodyError`].
pub(crate) async fn read(
    body: &mut Body,
    limit: u64,
    budget: &Budget,
    pause: Duration,
) -> Result<(Bytes, Reservation), BodyError> {
    let announced = body.size_hint().lower();
    if announced > limit {
        return Err(BodyError::TooLarge(limit));
    }
    let announced = usize::try_from(announced).map_err(|_| BodyError::TooLarge(limit))?;
    let mut reservation = budget.reserve(announced.min(FIRST_RESERVATION))?;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut deadline = Instant::now() + pause;
    let mut since = 0_usize;
    while !body.is_end_stream() {
        let frame = tokio::time::timeout_at(deadline, body.frame()).await.map_err(|_| BodyError::Stalled)?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|e| BodyError::Cut(e.to_string()))?;
        let Ok(chunk) = frame.into_data() else { continue };
        let length = first.len() + rest.len() + chunk.len();
        if length as u64 > limit {
            return Err(BodyError::TooLarge(limit));
        }
        since += chunk.len();
        if since >= PROGRESS_BYTES {
            since = 0;
            deadline = Instant::now() + pause;
        }
        if first.is_empty() && rest.is_empty() {
            reservation.grow(length)?;
            first = chunk;
            continue;
        }
        if length > rest.capacity() {
            let target = length.max(announced.min(FIRST_RESERVATION)).max(rest.capacity() * 2);
            let target = if announced == 0 { target } else { target.min(announced.max(length)) };
            reservation.grow(target)?;
            rest.reserve(target - rest.len());
        }
        if !first.is_empty() {
            rest.extend_from_slice(&first);
            first = Bytes::new();
        }
        rest.extend_from_slice(&chunk);
    }
    let whole = if rest.is_empty() { first } else { rest.freeze() };
    if whole.len() < announced {
        return Err(BodyError::Cut(format!("{} of {announced} bytes came", whole.len())));
    }
    Ok((whole, reservation))
}

/// Reads on and throws away, so that a client that is refused while it still
/// sends gets to read the answer. Bounded: what goes on for longer is cut off.
pub(crate) async fn discard(mut body: Body) {
    const BYTES_MAX: usize = 8 << 20;
    const PATIENCE: Duration = Duration::from_secs(5);
    let reading = async {
        let mut bytes = 0;
        while bytes < BYTES_MAX && !body.is_end_stream() {
            match body.frame().await {
                Some(Ok(frame)) => bytes += frame.data_ref().map_or(0, Bytes::len),
                _ => break,
            }
        }
    };
    // Running out of patience is as good an end as any other.
    let _ = tokio::time::timeout(PATIENCE, reading).await;
}

#[cfg(test)]
mod tests;

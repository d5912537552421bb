//! The durable, segmented log of records: the only truth.
//!
//! A [`Journal`] holds streams; a stream is a folder of segment files; a
//! segment is a header and frames; a frame is one append. An append is
//! answered after the fsync that made it durable, and appends that come at
//! the same time share one. The files are described in
//! `docs/formats/journal.md`.
//!
//! Invariant: what a reader sees was durable before it was seen. A failed
//! write or fsync ends the process; only a full disk is an answer.

mod disk;
mod error;
mod frame;
pub mod fsck;

mod group;
mod journal;
mod keys;
mod meta;
mod options;
mod read;
mod recover;
mod saved_keys;
mod scan;
mod segment;
mod state;
mod stream;
mod writer;

pub use error::{AppendError, ChangeError, OpenError, ReadError};
pub use group::Appended;
pub use journal::{Journal, StreamInfo, Tail};
pub use options::Options;
pub use state::Frame;

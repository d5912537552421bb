//! From a file's bytes to records: archives, compressions and formats, told by
//! what the bytes are, not by what the file is called. Blocking, and bounded in
//! memory whatever the size of the file.
//!
//! A file is unwrapped from the outside in (`unpacking.rs`): zips into their
//! members (`archive/`), gzip and zstd into their contents, until bytes are
//! reached that are a format's (`formats/`). Every reader reads to its end,
//! and every end is checked, so what was cut off or damaged is an error and
//! never a file with fewer records.

mod archive;
mod block;
mod bulk;
mod error;
mod formats;
mod guard;
mod gzip;
mod meter;
mod options;
mod packing;
mod place;
mod unpacking;
mod window;

pub use archive::{Archive, Member};
pub use block::Block;
pub use error::UnpackError;
pub use guard::is_guarded;
pub use options::{Csv, Format, Input, Limits, Options};
pub use packing::{Packing, needs_file, packing};
pub use place::Place;
pub use unpacking::Unpacking;

//! Object names.

use jiff::tz::TimeZone;
use lakeward_model::{BatchId, Timestamp};

use super::Pattern;
use super::template::zoned;
use crate::shape::Naming;

/// The name of the `index`-th object of a batch, without its prefix.
///
/// `extension` has its dot (`.parquet`) or is empty. The name follows from the
/// batch id alone, but for the time in Firehose's style, which is the arrival
/// of the oldest record in the object and so follows from the batch too.
#[must_use]
pub fn object_name(
    naming: &Naming,
    batch: BatchId,
    index: usize,
    oldest: Timestamp,
    zone: &TimeZone,
    extension: &str,
) -> String {
    match naming {
        Naming::Batch => format!("{batch}-{index}{extension}"),
        Naming::Firehose { stream, version, extension: replaced } => {
            let mut time = String::with_capacity(19);
            let pattern = Pattern::parse("yyyy-MM-dd-HH-mm-ss").expect("the pattern is valid");
            pattern.format(&zoned(oldest, zone), &mut time);
            let extension = replaced.as_deref().unwrap_or(extension);
            format!("{stream}-{version}-{time}-{}{extension}", batch.file(index))
        }
    }
}

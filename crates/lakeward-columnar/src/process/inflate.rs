//! Firehose's Decompression processor: gzip.

use flate2::bufread::MultiGzDecoder;
use lakeward_model::limits::{OverLimit, read_capped};

use super::Reason;

/// Inflates `record`, one or several gzip members, into `out`, which is emptied
/// first; at most `limit` bytes.
pub(super) fn gzip(record: &[u8], out: &mut Vec<u8>, limit: u64) -> Result<(), Reason> {
    out.clear();
    read_capped(MultiGzDecoder::new(record), limit, out).map_err(|error| {
        if error.get_ref().is_some_and(|inner| inner.is::<OverLimit>()) {
            let message = format!("the record has more than {limit} bytes when inflated");
            Reason::processing("gzip.too_large", message)
        } else {
            Reason::processing("gzip.malformed", format!("the record is not valid gzip: {error}"))
        }
    })
}

//! Batches whose files hold records as they came, or as they were processed.

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::Schema;
use lakeward_model::{Format, RecordBlock, Records, Role};

use super::arrive::Arrived;
use super::files::{Places, count};
use super::rows::{duplicates_by_content, only_duplicates};
use super::{BuildError, Built, Input, Origins, ShapeError};
use crate::decode::DecodeError;
use crate::dedup::Key;
use crate::encode;
use crate::process::Outcome;
use crate::shape::Output;

/// The most bytes of a batch, once its records are unpacked: as many as a batch
/// of columns may have.
const HELD_MAX: u64 = i32::MAX as u64;

/// Builds such a batch. It holds all records at once.
pub(super) fn build<E: std::error::Error + 'static>(
    input: &Input<'_>,
    places: &Places,
    blocks: impl Iterator<Item = Result<RecordBlock, E>>,
    outcomes: &mut dyn Iterator<Item = Outcome>,
) -> Result<Built, BuildError<E>> {
    let mut arrived = Arrived::new(places);
    let mut held: Vec<Records> = Vec::new();
    let mut bytes = 0;
    let processor = places.processor(&input.shape.processing).map_err(ShapeError::from)?;
    for block in blocks {
        let block = block.map_err(BuildError::Read)?;
        let first = arrived.begin(input, &block).map_err(ShapeError::from)?;
        let pieces = arrived.process(&processor, &block, first, outcomes);
        let records = pieces.unwrap_or(block.records);
        bytes += records.data.len() as u64;
        if bytes > HELD_MAX {
            return Err(ShapeError::from(DecodeError::TooLarge { limit: HELD_MAX }).into());
        }
        held.push(records);
    }
    let pieces: Vec<&[u8]> = held.iter().flat_map(Records::iter).collect();
    let Kept { pieces: kept, keys, duplicates } = without_duplicates(input, &arrived, pieces.len())?;
    let files = files(input, places, &arrived, &pieces, &kept)?;
    let records: Vec<u32> = kept.iter().map(|&piece| arrived.record_of(piece)).collect();
    let (counts, by_slice) = count(&arrived, &records, &duplicates);
    let (columns, origins) = (Vec::new(), Origins::default());
    Ok(Built { files, schemas: None, counts, by_slice, keys, columns, origins })
}

/// What is left of the pieces when duplicates are gone.
struct Kept {
    pieces: Vec<u32>,
    /// Their keys.
    keys: Vec<Key>,
    /// The records that are duplicates, ascending.
    duplicates: Vec<u32>,
}

/// Finds the pieces that are no duplicates.
fn without_duplicates<E: std::error::Error + 'static>(
    input: &Input<'_>,
    arrived: &Arrived,
    pieces: usize,
) -> Result<Kept, BuildError<E>> {
    let all = 0..pieces as u32;
    let Some((seen, _)) = input.seen.filter(|_| !arrived.content_keys.is_empty()) else {
        return Ok(Kept { pieces: all.collect(), keys: Vec::new(), duplicates: Vec::new() });
    };
    let records: Vec<u32> = all.clone().map(|piece| arrived.record_of(piece)).collect();
    let (is_duplicate, keys) = duplicates_by_content(seen, arrived, &records).map_err(BuildError::Seen)?;
    let pieces = all.filter(|&piece| !is_duplicate[piece as usize]).collect();
    Ok(Kept { pieces, keys, duplicates: only_duplicates(&records, &is_duplicate) })
}

/// The files that hold the pieces of `kept`.
fn files(
    input: &Input<'_>,
    places: &Places,
    arrived: &Arrived,
    pieces: &[&[u8]],
    kept: &[u32],
) -> Result<Vec<lakeward_model::DataFile>, ShapeError> {
    let Output::Verbatim { compression, newline } = input.shape.output else {
        unreachable!("the caller looked at the output");
    };
    let mut files = Vec::new();
    if !kept.is_empty() {
        let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
        let bare = RecordBatch::try_new_with_options(Schema::empty().into(), Vec::new(), &options)?;
        let records: Vec<u32> = kept.iter().map(|&piece| arrived.record_of(piece)).collect();
        let keyed = places.with_keys(&bare, kept, &records, arrived)?;
        let bytes: Vec<&[u8]> = kept.iter().map(|&piece| pieces[piece as usize]).collect();
        for part in places.partition(input, &keyed, &records, arrived) {
            let encoded = encode::verbatim_runs(&bytes, &part.rows, compression, newline)?;
            let count = part.rows.iter().map(|run| run.len() as u64).sum();
            let (kind, naming) = ((Format::Verbatim, Role::Data), &input.shape.naming);
            let index = files.len();
            files.push(places.file(input, &part.prefix, part.oldest, index, kind, count, encoded, naming)?);
        }
    }
    files.extend(places.quarantine(input, arrived, files.len())?);
    Ok(files)
}

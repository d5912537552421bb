//! Parquet: rows as JSON objects.

use std::io::BufReader;
use std::sync::Arc;

use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use arrow_json::WriterBuilder;
use arrow_json::writer::LineDelimited;
use bytes::Bytes;
use memchr::memchr;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::errors::{ParquetError, Result as ParquetResult};
use parquet::file::reader::{ChunkReader, Length};

use super::{Records, too_large};
use crate::bulk::{Bulk, Section};
use crate::error::Fault;
use crate::guard;
use crate::meter::Meter;

/// Rows that are decoded at a time.
const ROWS: usize = 1024;
/// About how many bytes of a batch are written as JSON at a time.
const SLICE: usize = 1 << 20;

impl Length for Bulk {
    fn len(&self) -> u64 {
        self.length()
    }
}

impl ChunkReader for Bulk {
    type T = BufReader<Section>;

    fn get_read(&self, start: u64) -> ParquetResult<Self::T> {
        Ok(BufReader::new(Section { bulk: self.clone(), at: start, end: self.length() }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ParquetResult<Bytes> {
        match self {
            Self::File(..) => Ok(self.exact(start, length)?.into()),
            Self::Memory(bytes) => {
                let start = usize::try_from(start).unwrap_or(usize::MAX);
                let end = start.checked_add(length).filter(|end| *end <= bytes.len());
                end.map(|end| bytes.slice(start..end))
                    .ok_or_else(|| ParquetError::EOF("it ends too early".into()))
            }
        }
    }
}

/// The rows of a file.
pub(crate) struct Table {
    batches: ParquetRecordBatchReader,
    /// The batch at hand and how many of its rows are in the text.
    batch: Option<(RecordBatch, usize)>,
    /// Rows as lines.
    text: Vec<u8>,
    /// Where in it the next row starts.
    at: usize,
    /// Its length once it is found.
    found: Option<usize>,
    /// The number of the next row, from 1.
    number: u64,
    record_bytes_max: usize,
    meter: Arc<Meter>,
}

impl Table {
    /// The rows behind the first `skip` ones.
    pub(crate) fn open(
        bulk: Bulk,
        skip: u64,
        record_bytes_max: usize,
        meter: &Arc<Meter>,
    ) -> Result<Self, Fault> {
        let builder = guarded(|| ParquetRecordBatchReaderBuilder::try_new(bulk).map_err(broken))?;
        let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or(0);
        if skip > rows {
            return Err(Fault::Broken(format!("it has {rows} rows, and {skip} of them were read before")));
        }
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX);
        let batches = guarded(|| builder.with_batch_size(ROWS).with_offset(skipped).build().map_err(broken))?;
        Ok(Self {
            batches,
            batch: None,
            text: Vec::new(),
            at: 0,
            found: None,
            number: skip + 1,
            record_bytes_max,
            meter: Arc::clone(meter),
        })
    }

    /// Writes the next rows as lines; false if there are none.
    fn write(&mut self) -> Result<bool, Fault> {
        let (batch, written) = match self.batch.take() {
            Some((batch, written)) if written < batch.num_rows() => (batch, written),
            _ => match guarded(|| self.batches.next().transpose().map_err(unreadable))? {
                None => return Ok(false),
                Some(batch) => (batch, 0),
            },
        };
        let rows = batch.num_rows();
        let row_bytes = (batch.get_array_memory_size() / rows.max(1)).max(1);
        let count = (SLICE / row_bytes).clamp(1, ROWS).min(rows - written);
        let mut text = std::mem::take(&mut self.text);
        text.clear();
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(text);
        writer.write(&batch.slice(written, count)).map_err(unreadable)?;
        writer.finish().map_err(unreadable)?;
        self.text = writer.into_inner();
        self.at = 0;
        self.batch = Some((batch, written + count));
        self.meter.unpacked(self.text.len(), false)?;
        Ok(true)
    }
}

impl Records for Table {
    fn find(&mut self) -> Result<bool, Fault> {
        while self.found.is_none() {
            match memchr(b'\n', &self.text[self.at..]) {
                Some(length) if length > self.record_bytes_max => {
                    return Err(too_large(self.record_bytes_max));
                }
                Some(length) => self.found = Some(length),
                None if !self.write()? => return Ok(false),
                None => {}
            }
        }
        Ok(true)
    }

    fn found(&self) -> (&[u8], u64) {
        (&self.text[self.at..self.at + self.found.unwrap_or(0)], self.number)
    }

    fn pass(&mut self) {
        if let Some(length) = self.found.take() {
            self.at += length + 1;
            self.number += 1;
        }
    }
}

/// Runs the library's decoder, which panics on some damaged pages: that is a
/// damaged file, not a broken invariant of ours.
fn guarded<T>(decode: impl FnOnce() -> Result<T, Fault>) -> Result<T, Fault> {
    guard::caught(decode)
        .unwrap_or_else(|| Err(Fault::Broken("the Parquet file is damaged: its decoder gave up".into())))
}

fn broken(error: ParquetError) -> Fault {
    match error {
        // The meter knows whether it was the source that failed.
        ParquetError::External(error) => Fault::Read(std::io::Error::other(error)),
        error => Fault::Read(std::io::Error::other(error.to_string())),
    }
}

fn unreadable(error: ArrowError) -> Fault {
    Fault::Read(std::io::Error::other(error.to_string()))
}

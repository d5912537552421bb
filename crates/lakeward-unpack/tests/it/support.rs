//! Files made at test time, and reading them whole.

use std::fs::File;
use std::io::{Cursor, Seek, Write};
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use flate2::Compression;
use lakeward_unpack::{Input, Options, Place, UnpackError, Unpacking};
use zip::CompressionMethod;
use zip::write::SimpleFileOptions;

/// A record as a test sees it: member, text and line.
pub(crate) type Record = (Option<String>, String, u64);

/// A temporary file with these bytes.
pub(crate) fn file(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file.rewind().unwrap();
    file
}

pub(crate) fn stream(bytes: &[u8]) -> Input {
    Input::Stream(Box::new(Cursor::new(bytes.to_vec())))
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// With a checksum, as the tool `zstd` writes it.
pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zip(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip_as(members, SimpleFileOptions::default().compression_method(CompressionMethod::Deflated))
}

pub(crate) fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip_as(members, SimpleFileOptions::default().compression_method(CompressionMethod::Stored))
}

pub(crate) fn zip_as(members: &[(&str, &[u8])], options: SimpleFileOptions) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in members {
        if name.ends_with('/') {
            writer.add_directory(*name, options).unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(bytes).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

/// A Parquet file with the columns `id` and `text`, some of them null.
pub(crate) fn parquet_rows(rows: i64) -> Vec<u8> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows));
    let texts = (0..rows).map(|id| (id % 3 != 0).then(|| format!("text\n{id}")));
    let texts: ArrayRef = Arc::new(StringArray::from_iter(texts));
    let batch =
        RecordBatch::try_from_iter_with_nullable([("id", ids, false), ("text", texts, true)]).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// All that is left, in blocks of up to this many bytes.
pub(crate) fn rest(unpacking: &mut Unpacking, bytes_max: usize) -> Result<Vec<Record>, UnpackError> {
    let mut records = Vec::new();
    while let Some(block) = unpacking.next_block(bytes_max)? {
        assert!(!block.ends.is_empty() && block.ends.len() == block.lines.len());
        assert!(block.data.len() <= bytes_max || block.ends.len() == 1);
        assert_eq!(block.ends.last().copied(), u32::try_from(block.data.len()).ok());
        let mut start = 0;
        for (end, line) in block.ends.iter().zip(&block.lines) {
            let text = String::from_utf8_lossy(&block.data[start..*end as usize]).into_owned();
            records.push((block.member.clone(), text, *line));
            start = *end as usize;
        }
    }
    assert!(unpacking.next_block(bytes_max)?.is_none(), "the end stays the end");
    Ok(records)
}

pub(crate) fn read_from(
    input: Input,
    name: &str,
    options: &Options,
    resume: Option<&Place>,
) -> Result<Vec<Record>, UnpackError> {
    rest(&mut Unpacking::open(input, name, options, resume)?, 1 << 20)
}

/// All records of a file, read from a disk.
pub(crate) fn read(bytes: &[u8], name: &str) -> Result<Vec<Record>, UnpackError> {
    read_from(Input::File(file(bytes)), name, &Options::default(), None)
}

pub(crate) fn read_as(bytes: &[u8], options: &Options) -> Result<Vec<Record>, UnpackError> {
    read_from(Input::File(file(bytes)), "file", options, None)
}

/// The texts alone.
pub(crate) fn texts(records: &[Record]) -> Vec<&str> {
    records.iter().map(|(_, text, _)| text.as_str()).collect()
}

/// What a person would read of an error.
pub(crate) fn message(result: Result<Vec<Record>, UnpackError>) -> String {
    result.expect_err("this cannot be read").to_string()
}

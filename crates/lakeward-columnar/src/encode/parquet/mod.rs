//! Columns as Apache Parquet.

use std::sync::Arc;

use ::parquet::arrow::ArrowWriter;
use ::parquet::basic::{Compression, GzipLevel, ZstdLevel};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;

use super::{CREATED_BY, EncodeError};
use crate::shape::{ParquetCompression, ParquetOptions};

/// One file of `parts`.
pub(super) fn encode(
    options: &ParquetOptions,
    schema: &SchemaRef,
    parts: &[RecordBatch],
) -> Result<Bytes, EncodeError> {
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties(options)?))?;
    for part in parts {
        writer.write(part)?;
    }
    Ok(Bytes::from(writer.into_inner()?))
}

fn properties(options: &ParquetOptions) -> Result<WriterProperties, EncodeError> {
    if options.row_group_rows == 0 {
        let reason = String::from("a row group has at least one row");
        return Err(EncodeError::Option { option: "row_group_rows", reason });
    }
    let compression = match options.compression {
        ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        ParquetCompression::None => Compression::UNCOMPRESSED,
    };
    let statistics = if options.statistics { EnabledStatistics::Chunk } else { EnabledStatistics::None };
    Ok(WriterProperties::builder()
        .set_created_by(String::from(CREATED_BY))
        .set_compression(compression)
        .set_dictionary_enabled(options.dictionary)
        .set_statistics_enabled(statistics)
        .set_max_row_group_row_count(Some(options.row_group_rows))
        .build())
}

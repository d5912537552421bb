//! Columns as Apache Parquet.
//!
//! Column chunks are written here, straight from the Arrow buffers, however
//! far apart the rows of a file lie in them: levels
//! from the validity bitmaps, dictionaries by one hash of each string, pages
//! compressed with one reused compressor. What the `parquet` crate makes
//! public does the rest: the schema, the footer, and the columns of types
//! that are not encoded here (lists, and whatever else SQL brings).

mod chunk;
mod codec;
mod dictionary;
mod header;
mod hybrid;
mod leaves;
mod statistics;
mod values;

use std::ops::Range;
use std::sync::Arc;

use ::parquet::arrow::{ARROW_SCHEMA_META_KEY, ArrowSchemaConverter, ArrowWriter, encode_arrow_schema};
use ::parquet::basic::{ColumnOrder, Compression, GzipLevel, ZstdLevel};
use ::parquet::file::metadata::{
    ColumnChunkMetaData, FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataWriter, RowGroupMetaData,
};
use ::parquet::file::properties::{EnabledStatistics, WriterProperties};
use ::parquet::schema::types::{ColumnDescPtr, SchemaDescPtr};
use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Field, Schema};
use bytes::Bytes;

use self::chunk::ChunkWriter;
use super::{CREATED_BY, EncodeError, runs};
use crate::shape::{ParquetCompression, ParquetOptions};

/// Makes files one after the other.
pub(super) struct FileEncoder<'a> {
    writer: ChunkWriter<'a>,
    /// The bytes and rows of the file before: the next one is like it.
    last: (usize, usize),
}

impl<'a> FileEncoder<'a> {
    pub(super) fn new(options: &'a ParquetOptions) -> Result<Self, EncodeError> {
        if options.row_group_rows == 0 {
            let reason = String::from("a row group has at least one row");
            return Err(EncodeError::Option { option: "row_group_rows", reason });
        }
        Ok(Self { writer: ChunkWriter::new(options)?, last: (0, 1) })
    }

    /// One file of the rows in `runs`.
    pub(super) fn encode(
        &mut self,
        batch: &RecordBatch,
        runs: &[Range<usize>],
    ) -> Result<Bytes, EncodeError> {
        let schema = batch.schema_ref();
        let columns =
            ArrowSchemaConverter::new().convert(schema).map_err(|e| EncodeError::Type(e.to_string()))?;
        let columns: SchemaDescPtr = Arc::new(columns);
        let writer = &mut self.writer;
        let (rows, (last_bytes, last_rows)) = (runs::rows(runs), self.last);
        // A small file's footer is no measure for a large one.
        let expected = last_bytes as u128 * rows.min(2 * last_rows) as u128 / last_rows as u128;
        writer.out = Vec::with_capacity(expected as usize / 8 * 9);
        writer.out.extend_from_slice(b"PAR1");
        let mut groups = Vec::new();
        for group in runs::cut(runs, writer.options.row_group_rows) {
            groups.push(write_group(writer, &columns, batch, &group)?);
        }
        write_footer(&mut writer.out, schema, columns, groups)?;
        self.last = (writer.out.len(), rows.max(1));
        Ok(Bytes::from(std::mem::take(&mut writer.out)))
    }
}

fn write_group(
    writer: &mut ChunkWriter<'_>,
    columns: &SchemaDescPtr,
    batch: &RecordBatch,
    runs: &[Range<usize>],
) -> Result<RowGroupMetaData, EncodeError> {
    let start = writer.out.len();
    let mut chunks = Vec::with_capacity(columns.num_columns());
    let mut leaves = Vec::new();
    for (field, column) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        if !leaves::knows(field) {
            splice(writer, columns, field, runs::column(column, runs)?, &mut chunks)?;
            continue;
        }
        leaves::collect(field, column, runs, &mut leaves);
        for leaf in leaves.drain(..) {
            let descriptor = columns.column(chunks.len());
            chunks.push(writer.write(&descriptor, &leaf, runs)?);
        }
    }
    let bytes = chunks.iter().map(ColumnChunkMetaData::uncompressed_size).sum();
    Ok(RowGroupMetaData::builder(SchemaDescPtr::clone(columns))
        .set_num_rows(runs::rows(runs) as i64)
        .set_total_byte_size(bytes)
        .set_file_offset(start as i64)
        .set_column_metadata(chunks)
        .build()?)
}

/// Encodes a column as a file of its own by the crate's writer, and takes its
/// chunks over.
fn splice(
    writer: &mut ChunkWriter<'_>,
    columns: &SchemaDescPtr,
    field: &Field,
    column: ArrayRef,
    chunks: &mut Vec<ColumnChunkMetaData>,
) -> Result<(), EncodeError> {
    let schema = Arc::new(Schema::new(vec![field.clone()]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![column])?;
    let mut file = Vec::new();
    let mut arrow_writer = ArrowWriter::try_new(&mut file, schema, Some(properties(writer.options)))?;
    arrow_writer.write(&batch)?;
    let metadata = arrow_writer.close()?;
    for chunk in metadata.row_group(0).columns() {
        let (from, length) = chunk.byte_range();
        let moved = |offset: i64| offset - from as i64 + writer.out.len() as i64;
        let descriptor: ColumnDescPtr = columns.column(chunks.len());
        let mut taken = ColumnChunkMetaData::builder(descriptor)
            .set_encodings_mask(*chunk.encodings_mask())
            .set_compression_codec(chunk.compression_codec())
            .set_num_values(chunk.num_values())
            .set_total_uncompressed_size(chunk.uncompressed_size())
            .set_total_compressed_size(chunk.compressed_size())
            .set_dictionary_page_offset(chunk.dictionary_page_offset().map(moved))
            .set_data_page_offset(moved(chunk.data_page_offset()));
        if let Some(statistics) = chunk.statistics() {
            taken = taken.set_statistics(statistics.clone());
        }
        chunks.push(taken.build()?);
        writer.out.extend_from_slice(&file[from as usize..(from + length) as usize]);
    }
    Ok(())
}

/// The options as the crate's own writer has them.
fn properties(options: &ParquetOptions) -> WriterProperties {
    let compression = match options.compression {
        ParquetCompression::Zstd => Compression::ZSTD(ZstdLevel::default()),
        ParquetCompression::Snappy => Compression::SNAPPY,
        ParquetCompression::Gzip => Compression::GZIP(GzipLevel::default()),
        ParquetCompression::None => Compression::UNCOMPRESSED,
    };
    let statistics = if options.statistics { EnabledStatistics::Chunk } else { EnabledStatistics::None };
    WriterProperties::builder()
        .set_compression(compression)
        .set_dictionary_enabled(options.dictionary)
        .set_statistics_enabled(statistics)
        .set_max_row_group_row_count(None)
        .build()
}

fn write_footer(
    out: &mut Vec<u8>,
    schema: &Schema,
    columns: SchemaDescPtr,
    groups: Vec<RowGroupMetaData>,
) -> Result<(), EncodeError> {
    let rows = groups.iter().map(RowGroupMetaData::num_rows).sum();
    // Arrow readers need the schema only for types that Parquet does not have.
    let is_plain = schema.fields().iter().all(|field| leaves::knows(field));
    let arrow_schema =
        (!is_plain).then(|| vec![KeyValue::new(ARROW_SCHEMA_META_KEY.into(), encode_arrow_schema(schema))]);
    let order = |column: &ColumnDescPtr| {
        ColumnOrder::TYPE_DEFINED_ORDER(ColumnOrder::sort_order_for_type(
            column.logical_type_ref(),
            column.converted_type(),
            column.physical_type(),
        ))
    };
    let orders = columns.columns().iter().map(order).collect();
    let file = FileMetaData::new(1, rows, Some(CREATED_BY.into()), arrow_schema, columns, Some(orders));
    ParquetMetaDataWriter::new(out, &ParquetMetaData::new(file, groups)).finish()?;
    Ok(())
}

//! Files of text: JSON by the product's own decoder, CSV by Arrow's.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, RecordBatchOptions, StringArray, new_null_array};
use arrow::compute::cast;
use arrow::csv::reader::{Format as CsvFormat, ReaderBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use bytes::{Buf, Bytes, BytesMut};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::physical_plan::stream::RecordBatchReceiverStream;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream};
use futures::TryStreamExt;
use lakeward_columnar::decode::{DecodeOptions, Decoder};
use lakeward_columnar::schema::{ColumnType, RESCUED, TableSchema};
use lakeward_columnar::shape::{ColumnMode, CsvOptions, Output};
use lakeward_model::Records;
use object_store::ObjectStore;
use tokio::sync::mpsc::Sender;

use super::files::{Folder, Kind, Packing, Placed};
use super::inflate::{self, Chunks};
use super::provider::folder_value;
use super::{QueryError, Table};

/// How much text is decoded at a time.
const PIECE: usize = 1 << 20;
/// The longest line.
const LINE_MAX: usize = 256 << 20;
/// Rows in a batch of CSV.
const CSV_ROWS: usize = 8_192;
/// Enough for a CSV file's first line.
const HEAD: usize = 1 << 20;

/// What a scan needs to know of the table.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pub(super) store: Arc<dyn ObjectStore>,
    pub(super) decode: TableSchema,
    pub(super) output: Output,
    /// The wanted columns.
    pub(super) schema: SchemaRef,
}

/// A plan that reads `files`, whose paths say the values of `keys`.
pub(super) fn plan(
    scan: Scan,
    keys: &BTreeSet<String>,
    files: Vec<Placed>,
    limit: Option<usize>,
    parallel: usize,
) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = Arc::clone(&scan.schema);
    let share = files.len().div_ceil(parallel.max(1)).max(1);
    let part = |files: &[Placed]| -> Arc<dyn PartitionStream> {
        Arc::new(Part { scan: scan.clone(), keys: keys.clone(), files: files.to_vec() })
    };
    let parts = files.chunks(share).map(part).collect();
    Ok(Arc::new(StreamingTableExec::try_new(schema, parts, None, [], false, limit)?))
}

/// Files that are read one after the other.
#[derive(Debug)]
struct Part {
    scan: Scan,
    keys: BTreeSet<String>,
    files: Vec<Placed>,
}

impl PartitionStream for Part {
    fn schema(&self) -> &SchemaRef {
        &self.scan.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let mut stream = RecordBatchReceiverStream::builder(Arc::clone(&self.scan.schema), 2);
        let (to, scan, files) = (stream.tx(), self.scan.clone(), self.files.clone());
        let keys = self.keys.clone();
        stream.spawn(async move {
            for file in &files {
                let reader = Reader { scan: &scan, keys: &keys, file, to: &to };
                match reader.read().await {
                    Ok(true) => {}
                    // Nobody listens any more: a limit was reached.
                    Ok(false) => return Ok(()),
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        });
        stream.build()
    }
}

/// Reads one file.
struct Reader<'a> {
    scan: &'a Scan,
    keys: &'a BTreeSet<String>,
    file: &'a Placed,
    to: &'a Sender<Result<RecordBatch>>,
}

impl Reader<'_> {
    /// Whether more is wanted.
    async fn read(&self) -> Result<bool> {
        match self.file.kind {
            Kind::Json(packing) => {
                let mut lines = Lines::open(self.scan.store.as_ref(), self.file, packing).await?;
                while let Some(records) = lines.next().await? {
                    let rows = self.decode(&records)?;
                    if rows.num_rows() > 0 && self.to.send(Ok(self.shape(&rows)?)).await.is_err() {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Kind::Csv(packing) => self.read_csv(packing).await,
            Kind::Parquet => Ok(true),
        }
    }

    fn decode(&self, records: &Records) -> Result<RecordBatch> {
        let inside = self.scan.schema.fields().iter().filter(|field| !self.keys.contains(field.name()));
        let only = inside.map(|field| field.name().clone()).collect();
        let options = DecodeOptions { only: Some(only), ..options(&self.scan.decode) };
        let mut decoder = Decoder::new(&self.scan.decode, options);
        push(&mut decoder, records, self.file)?;
        Ok(decoder.finish().rows)
    }

    /// The wanted columns of `rows`, with those that are folders.
    fn shape(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let count = rows.num_rows();
        let column = |field: &Arc<Field>| -> Result<ArrayRef> {
            if self.keys.contains(field.name()) {
                return folder_value(self.file, field)?.to_array_of_size(count);
            }
            let found = match rows.column_by_name(field.name()) {
                Some(found) if field.name() == RESCUED => unwrapped(found),
                Some(found) if found.data_type() == field.data_type() => Arc::clone(found),
                Some(found) => cast(found, field.data_type())?,
                None => new_null_array(field.data_type(), count),
            };
            // The file has the column if the folder was cut; else it was not.
            if let Some(Folder::Cut(_)) = self.file.folders.get(field.name())
                && found.null_count() == count
            {
                return folder_value(self.file, field)?.to_array_of_size(count);
            }
            Ok(found)
        };
        let columns = self.scan.schema.fields().iter().map(column).collect::<Result<_>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        Ok(RecordBatch::try_new_with_options(Arc::clone(&self.scan.schema), columns, &options)?)
    }

    async fn read_csv(&self, packing: Packing) -> Result<bool> {
        let options = csv_options(&self.scan.output);
        let mut chunks = open(self.scan.store.as_ref(), self.file, packing).await?;
        let (names, mut buffer) = self.csv_columns(&mut chunks, &options).await?;
        let ty = |name: &String| {
            let known = self.scan.schema.field_with_name(name).map(|field| field.data_type().clone());
            Arc::new(Field::new(name, known.unwrap_or(DataType::Utf8), true))
        };
        let schema = Arc::new(Schema::new(names.iter().map(ty).collect::<Vec<_>>()));
        let wanted =
            |name: &String| !self.keys.contains(name) && self.scan.schema.field_with_name(name).is_ok();
        let wanted = names.iter().enumerate().filter(|(_, name)| wanted(name)).map(|(at, _)| at).collect();
        let mut builder = ReaderBuilder::new(schema)
            .with_header(options.header)
            .with_delimiter(u8::try_from(options.delimiter).unwrap_or(b','))
            .with_truncated_rows(true)
            .with_batch_size(CSV_ROWS)
            .with_projection(wanted);
        if !options.null.is_empty() {
            let null = regex::Regex::new(&format!("^({})?$", regex::escape(&options.null)));
            builder = builder.with_null_regex(null.map_err(|e| DataFusionError::External(Box::new(e)))?);
        }
        let mut decoder = builder.build_decoder();
        loop {
            let taken = decoder.decode(&buffer)?;
            buffer.advance(taken);
            if taken == 0 || decoder.capacity() == 0 {
                let at_end = buffer.is_empty() && decoder.capacity() > 0;
                if let Some(rows) = decoder.flush()?
                    && self.to.send(Ok(self.shape(&rows)?)).await.is_err()
                {
                    return Ok(false);
                }
                if at_end {
                    return Ok(true);
                }
            }
            if buffer.is_empty() {
                buffer = failed(self.file, chunks.try_next().await)?.unwrap_or_default();
            }
        }
    }

    /// The columns of a CSV file in their order, and the bytes read so far.
    async fn csv_columns(&self, chunks: &mut Chunks, options: &CsvOptions) -> Result<(Vec<String>, Bytes)> {
        if options.header {
            let head = head(chunks).await.map_err(|error| unreadable(self.file, &error))?;
            return Ok((header(&head, options)?, head));
        }
        let columns = self.scan.decode.columns.iter().map(|column| column.name.clone());
        let inside: Vec<String> = columns.filter(|name| !self.keys.contains(name)).collect();
        if inside.is_empty() {
            let message = format!("{}: CSV without a header line has no names", self.file.location);
            return Err(DataFusionError::Execution(message));
        }
        Ok((inside, failed(self.file, chunks.try_next().await)?.unwrap_or_default()))
    }
}

/// Our own NDJSON has `_rescued` as a key, which the decoder rescues in turn.
fn unwrapped(found: &ArrayRef) -> ArrayRef {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Only<'t> {
        #[serde(borrow, rename = "_rescued")]
        rescued: &'t serde_json::value::RawValue,
    }
    let Some(texts) = found.as_string_opt::<i32>() else { return Arc::clone(found) };
    let inner = |text| serde_json::from_str::<Only<'_>>(text).map_or(text, |only| only.rescued.get());
    Arc::new(texts.iter().map(|text| text.map(inner)).collect::<StringArray>())
}

/// Columns that hold any JSON are read as such.
fn options(schema: &TableSchema) -> DecodeOptions {
    let json = schema.columns.iter().filter(|column| column.ty == ColumnType::Json);
    let columns = json.map(|column| (column.name.clone(), ColumnMode::Json)).collect();
    DecodeOptions { columns, column_limit: 100_000, ..DecodeOptions::default() }
}

fn push(decoder: &mut Decoder, records: &Records, file: &Placed) -> Result<()> {
    let failed = |message: String| DataFusionError::Execution(format!("{}: {message}", file.location));
    decoder.push_records(records).map_err(|error| failed(error.to_string()))?;
    match decoder.rejected().first() {
        Some(rejected) => Err(failed(format!("a line is not a JSON object: {}", rejected.message))),
        None => Ok(()),
    }
}

/// What `schema` becomes with the values of a JSON file.
pub(super) async fn json_schema(
    table: &Table,
    file: &Placed,
    packing: Packing,
    mut schema: TableSchema,
) -> Result<TableSchema, QueryError> {
    let mut lines = Lines::open(table.store.as_ref(), file, packing).await?;
    while let Some(records) = lines.next().await? {
        let mut decoder = Decoder::new(&schema, options(&schema));
        push(&mut decoder, &records, file)?;
        schema = decoder.finish().schema;
    }
    Ok(schema)
}

/// The names in a CSV file's first line.
pub(super) async fn csv_names(
    table: &Table,
    file: &Placed,
    packing: Packing,
) -> Result<Vec<String>, QueryError> {
    let options = csv_options(&table.output);
    if !options.header {
        let message = format!("{}: CSV without a header line has no names", file.location);
        return Err(QueryError::Data(message));
    }
    let mut chunks = open(table.store.as_ref(), file, packing).await?;
    let head = head(&mut chunks).await.map_err(|error| unreadable(file, &error))?;
    Ok(header(&head, &options)?)
}

fn csv_options(output: &Output) -> CsvOptions {
    if let Output::Csv(options) = output { options.clone() } else { CsvOptions::default() }
}

fn header(head: &Bytes, options: &CsvOptions) -> Result<Vec<String>> {
    let format = CsvFormat::default()
        .with_header(true)
        .with_delimiter(u8::try_from(options.delimiter).unwrap_or(b','));
    let (schema, _) = format.infer_schema(head.clone().reader(), Some(0))?;
    Ok(schema.fields().iter().map(|field| field.name().clone()).collect())
}

/// The first bytes of a file: at least its first line, if that is not huge.
async fn head(chunks: &mut Chunks) -> std::io::Result<Bytes> {
    let mut head = BytesMut::new();
    while head.len() < HEAD {
        let Some(more) = chunks.try_next().await? else { break };
        head.extend_from_slice(&more);
    }
    Ok(head.freeze())
}

async fn open(store: &dyn ObjectStore, file: &Placed, packing: Packing) -> Result<Chunks> {
    inflate::open(store, &file.location, packing)
        .await
        .map_err(|error| DataFusionError::ObjectStore(Box::new(error)))
}

fn failed<T>(file: &Placed, result: std::io::Result<T>) -> Result<T> {
    result.map_err(|error| unreadable(file, &error))
}

fn unreadable(file: &Placed, error: &std::io::Error) -> DataFusionError {
    DataFusionError::IoError(std::io::Error::new(error.kind(), format!("{}: {error}", file.location)))
}

/// The lines of a file, about [`PIECE`] bytes at a time.
struct Lines<'a> {
    chunks: Chunks,
    rest: BytesMut,
    file: &'a Placed,
}

impl<'a> Lines<'a> {
    async fn open(store: &dyn ObjectStore, file: &'a Placed, packing: Packing) -> Result<Self> {
        Ok(Self { chunks: open(store, file, packing).await?, rest: BytesMut::new(), file })
    }

    async fn next(&mut self) -> Result<Option<Records>> {
        let mut searched = 0;
        loop {
            if self.rest.len() >= PIECE
                && let Some(end) = memchr::memrchr(b'\n', &self.rest[searched..])
            {
                let whole = self.rest.split_to(searched + end + 1).freeze();
                return Ok(Some(records(whole)));
            }
            searched = if self.rest.len() >= PIECE { self.rest.len() } else { 0 };
            if self.rest.len() > LINE_MAX {
                let message = format!("{}: a line has more than {LINE_MAX} bytes", self.file.location);
                return Err(DataFusionError::Execution(message));
            }
            match failed(self.file, self.chunks.try_next().await)? {
                Some(more) => self.rest.extend_from_slice(&more),
                None if self.rest.is_empty() => return Ok(None),
                None => return Ok(Some(records(self.rest.split().freeze()))),
            }
        }
    }
}

/// Every line as a record.
fn records(data: Bytes) -> Records {
    let at = |end: usize| u32::try_from(end).expect("a piece is far below 4 GiB");
    let mut ends: Vec<u32> = memchr::memchr_iter(b'\n', &data).map(|end| at(end + 1)).collect();
    if ends.last() != Some(&at(data.len())) {
        ends.push(at(data.len()));
    }
    Records::new(data, ends)
}

//! `lakeward convert`: local files to partitioned files, with no service.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, sync_channel};

use anyhow::Context;
use bytes::{Bytes, BytesMut};
use lakeward_columnar::build::{self, BuildError, BuiltCounts, Input};
use lakeward_columnar::schema::TableSchema;
use lakeward_model::clock::Stopwatch;
use lakeward_model::{BatchId, DataFile, Offset, RecordBlock, Records, Span, StreamName, Timestamp};

use crate::config::{CompressionName, FormatName, OutputConfig};
use crate::exit::{Code, coded};
use crate::terminal::{self, Output};

/// How much is read at a time; a record may be longer.
const CHUNK: usize = 1 << 20;
/// The longest record.
const RECORD_MAX: usize = 64 << 20;

/// Convert local NDJSON files (plain, .gz or .zst) to partitioned Parquet,
/// NDJSON or CSV. Converting the same files again replaces nothing and adds
/// nothing: the names derive from the content's place.
#[derive(Debug, clap::Args)]
pub(crate) struct Convert {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The folder to write to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Where files go below it: `day=!{event:timestamp:yyyy-MM-dd}/`.
    #[arg(long, default_value = "data/", value_name = "TEMPLATE")]
    path: String,
    /// Where records that cannot be read go.
    #[arg(long, default_value = "quarantine/!{firehose:error-output-type}/", value_name = "TEMPLATE")]
    error_path: String,
    /// The file format.
    #[arg(long, value_enum, default_value_t)]
    format: FormatName,
    /// The compression. Default zstd for Parquet, none for the rest.
    #[arg(long, value_enum)]
    compression: Option<CompressionName>,
    /// How many threads convert at the same time.
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// How much input makes one set of files, in MiB.
    #[arg(long, default_value_t = 128)]
    batch_mib: usize,
}

/// One batch of input.
struct Piece {
    id: BatchId,
    blocks: Vec<RecordBlock>,
}

impl Convert {
    pub(crate) fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = OutputConfig {
            format: self.format,
            compression: self.compression,
            path: self.path.clone(),
            error_path: Some(self.error_path.clone()),
            ..OutputConfig::default()
        };
        let problems = config.problems("");
        if let Some(problem) = problems.first() {
            return Err(coded(
                Code::Usage,
                format!("--{}: {}", problem.path.trim_start_matches('.'), problem.problem),
            ));
        }
        let shape = config.shape();
        let clock = Stopwatch::start();
        let size: u64 = self.files.iter().map(|file| file.metadata().map_or(0, |meta| meta.len())).sum();
        let progress = out.progress(size, "converting");
        let total = Mutex::new(Totals::default());
        let stream = StreamName::new("convert").expect("a stream name");
        let (sender, receiver) = sync_channel::<Piece>(1);
        let receiver = Mutex::new(receiver);
        let work = || -> anyhow::Result<()> {
            // Every thread keeps the schema of its last batch, so that the
            // columns of the next one are known from the start.
            let mut schema = TableSchema::default();
            while let Some(piece) = next(&receiver) {
                let expected_bytes = piece.blocks.iter().map(|block| block.records.data.len() as u64).sum();
                let input = Input {
                    batch: piece.id,
                    stream: &stream,
                    pipeline: "convert",
                    shape: &shape,
                    schema: &schema,
                    planned_at: Timestamp(0),
                    expected_bytes,
                };
                let blocks = piece.blocks.into_iter().map(Ok::<_, std::convert::Infallible>);
                let built = build::build(&input, blocks).map_err(|error| match error {
                    BuildError::Read(never) => match never {},
                    BuildError::Shape(error) => anyhow::Error::new(error),
                })?;
                let bytes = built.files.iter().map(|file| file.body.len() as u64).sum();
                for file in &built.files {
                    write(&self.out, file)?;
                }
                if let Some(after) = built.schema {
                    schema = after;
                }
                total.lock().expect("no thread panics").add(&built.counts, built.files.len() as u64, bytes);
            }
            Ok(())
        };
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let workers: Vec<_> = (0..self.threads.max(1)).map(|_| scope.spawn(work)).collect();
            let read = self.read_all(&sender, &progress);
            drop(sender);
            for worker in workers {
                worker.join().map_err(|_| anyhow::anyhow!("a thread failed"))??;
            }
            read
        })?;
        progress.finish_and_clear();
        let seconds = clock.elapsed().as_secs_f64();
        total.into_inner().expect("no thread panics").report(out, seconds)
    }

    fn read_all(
        &self,
        sender: &std::sync::mpsc::SyncSender<Piece>,
        progress: &indicatif::ProgressBar,
    ) -> anyhow::Result<()> {
        for file in &self.files {
            let reader = open(file)?;
            let mut pieces = Pieces::new(file, reader, self.batch_mib.max(1) << 20);
            while let Some(piece) =
                pieces.next_piece().with_context(|| format!("reading {}", file.display()))?
            {
                progress.inc(piece.blocks.iter().map(|block| block.records.data.len() as u64).sum());
                if sender.send(piece).is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn next(receiver: &Mutex<Receiver<Piece>>) -> Option<Piece> {
    receiver.lock().ok()?.recv().ok()
}

fn open(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    let reader =
        File::open(file).map_err(|error| coded(Code::Usage, format!("{}: {error}", file.display())))?;
    Ok(match file.extension().and_then(|e| e.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(reader)),
        Some("zst") => Box::new(zstd::Decoder::new(reader)?),
        _ => Box::new(reader),
    })
}

/// Writes a file whole or not at all; an existing one is this one, from an
/// earlier run.
fn write(root: &Path, file: &DataFile) -> anyhow::Result<()> {
    let path = root.join(file.path.as_str());
    let folder = path.parent().unwrap_or(root);
    std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, &file.body)
        .with_context(|| format!("cannot write {}", temporary.display()))?;
    std::fs::rename(&temporary, &path)?;
    Ok(())
}

/// Cuts a file into batches of whole lines.
struct Pieces<'a> {
    file: &'a Path,
    reader: Box<dyn Read>,
    batch_bytes: usize,
    rest: BytesMut,
    at: u64,
    ended: bool,
}

impl<'a> Pieces<'a> {
    fn new(file: &'a Path, reader: Box<dyn Read>, batch_bytes: usize) -> Self {
        Self { file, reader, batch_bytes, rest: BytesMut::new(), at: 0, ended: false }
    }

    fn next_piece(&mut self) -> anyhow::Result<Option<Piece>> {
        let first = self.at;
        let mut blocks = Vec::new();
        let mut bytes = 0;
        while bytes < self.batch_bytes {
            let Some(lines) = self.lines()? else { break };
            let records = split(lines);
            bytes += records.data.len();
            let count = records.len() as u64;
            blocks.push(RecordBlock { records, first: Offset(self.at), received_at: Timestamp(0) });
            self.at += count;
        }
        let Some(span) = Span::new(Offset(first), Offset(self.at)) else { return Ok(None) };
        let stream = StreamName::new("convert").expect("a stream name");
        let file = self.file.to_string_lossy();
        Ok(Some(Piece { id: BatchId::derive(uuid::Uuid::nil(), &stream, &file, span), blocks }))
    }

    /// The next chunk, up to the end of its last line.
    fn lines(&mut self) -> anyhow::Result<Option<Bytes>> {
        let mut looked = 0;
        loop {
            if let Some(end) = self.rest[looked..].iter().rposition(|&b| b == b'\n') {
                if self.ended || self.rest.len() >= CHUNK {
                    return Ok(Some(self.rest.split_to(looked + end + 1).freeze()));
                }
            } else {
                looked = self.rest.len();
            }
            if self.ended {
                let last = self.rest.split().freeze();
                return Ok((!last.is_empty()).then_some(last));
            }
            anyhow::ensure!(
                looked < RECORD_MAX,
                "a line is longer than {}",
                terminal::bytes(RECORD_MAX as u64)
            );
            self.fill()?;
        }
    }

    fn fill(&mut self) -> anyhow::Result<()> {
        let had = self.rest.len();
        self.rest.resize(had + CHUNK, 0);
        let mut read = 0;
        while read < CHUNK {
            let n = self.reader.read(&mut self.rest[had + read..])?;
            if n == 0 {
                self.ended = true;
                break;
            }
            read += n;
        }
        self.rest.truncate(had + read);
        Ok(())
    }
}

/// Lines as records; the newline stays with its line.
fn split(data: Bytes) -> Records {
    let mut ends: Vec<u32> = memchr::memchr_iter(b'\n', &data).map(|at| (at + 1) as u32).collect();
    if ends.last().is_none_or(|&last| (last as usize) < data.len()) {
        ends.push(data.len() as u32);
    }
    Records { data, ends }
}

#[derive(Debug, Default)]
struct Totals {
    counts: BuiltCounts,
    files: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, counts: &BuiltCounts, files: u64, bytes: u64) {
        self.counts.add(counts);
        self.files += files;
        self.bytes += bytes;
    }

    fn report(&self, out: &Output, seconds: f64) -> anyhow::Result<Code> {
        let counts = &self.counts;
        if out.is_json() {
            out.json(&serde_json::json!({
                "ok": true, "records": counts.records(), "rows": counts.rows, "quarantined": counts.quarantined,
                "blank": counts.filtered, "rescued": counts.rescued, "files": self.files,
                "source_bytes": counts.source_bytes, "bytes": self.bytes, "seconds": seconds,
            }))?;
        }
        out.say(format!(
            "{} rows from {} in {} files, {} ({:.1}x smaller), {:.1} s, {}/s",
            terminal::count(counts.rows),
            terminal::bytes(counts.source_bytes),
            terminal::count(self.files),
            terminal::bytes(self.bytes),
            counts.source_bytes as f64 / self.bytes.max(1) as f64,
            seconds,
            terminal::bytes((counts.source_bytes as f64 / seconds) as u64),
        ));
        if counts.quarantined > 0 {
            out.say(format!(
                "{} records could not be read; they lie in quarantine/ with the reason",
                counts.quarantined
            ));
        }
        Ok(if counts.quarantined > 0 { Code::Data } else { Code::Done })
    }
}

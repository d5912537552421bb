//! `lakeward convert`: local files to partitioned files, with no service.

mod input;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use lakeward_columnar::build::{self, BuildError, BuiltCounts, Input, Schemas};
use lakeward_columnar::shape::Shape;
use lakeward_model::clock::Stopwatch;
use lakeward_model::{BatchId, DataFile, Offset, Span, StreamName, Timestamp};

use self::input::{Lines, is_plain};
use crate::config::{CompressionName, FormatName, OutputConfig};
use crate::exit::{Code, coded};
use crate::terminal::{self, Output};

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
    /// Where files go below it: `day=!{event:timestamp:yyyy-MM-dd}/`. Without an
    /// expression, folders by the hour in which the input was last written
    /// follow.
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
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    threads: u16,
    /// How much input makes one set of files, in MiB.
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u16).range(1..=1024))]
    batch_mib: u16,
}

/// A part of the input that one thread converts.
struct Piece<'a> {
    file: &'a Path,
    start: u64,
    /// `None`: to the end, in batches.
    end: Option<u64>,
}

impl Convert {
    pub(crate) fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = OutputConfig {
            format: self.format,
            compression: self.compression,
            path: Some(self.path.clone()),
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
        let shape = config.shape(false);
        let clock = Stopwatch::start();
        let size: u64 = self.files.iter().map(|file| file.metadata().map_or(0, |meta| meta.len())).sum();
        let progress = out.progress(size, "converting");
        let job = Job {
            shape: &shape,
            out: &self.out,
            batch_bytes: u64::from(self.batch_mib) << 20,
            progress: &progress,
        };
        let pieces = Mutex::new(self.pieces(job.batch_bytes)?.into_iter());
        let next = || pieces.lock().ok()?.next();
        let mut totals = Totals::default();
        std::thread::scope(|scope| -> anyhow::Result<()> {
            let workers: Vec<_> = (0..self.threads).map(|_| scope.spawn(|| job.convert(next))).collect();
            for worker in workers {
                totals.add(&worker.join().map_err(|_| anyhow::anyhow!("a thread failed"))??);
            }
            Ok(())
        })?;
        progress.finish_and_clear();
        totals.report(out, clock.elapsed().as_secs_f64())
    }

    /// Cuts plain files where a batch ends; packed ones are read from their
    /// start by one thread.
    fn pieces(&self, batch_bytes: u64) -> anyhow::Result<Vec<Piece<'_>>> {
        let mut pieces = Vec::new();
        for file in &self.files {
            let size = file
                .metadata()
                .map_err(|error| coded(Code::Usage, format!("{}: {error}", file.display())))?
                .len();
            if !is_plain(file) {
                pieces.push(Piece { file, start: 0, end: None });
                continue;
            }
            let starts = (0..size).step_by(usize::try_from(batch_bytes)?);
            pieces.extend(starts.map(|start| Piece { file, start, end: Some(start + batch_bytes) }));
        }
        Ok(pieces)
    }
}

/// What all threads do.
struct Job<'a> {
    shape: &'a Shape,
    out: &'a Path,
    batch_bytes: u64,
    progress: &'a indicatif::ProgressBar,
}

impl Job<'_> {
    /// Converts pieces as long as there are any.
    fn convert<'p>(&self, next: impl Fn() -> Option<Piece<'p>>) -> anyhow::Result<Totals> {
        // A thread keeps the schema of its last batch, so that the columns of
        // the next one are known from the start.
        let mut schemas = Schemas::default();
        let mut totals = Totals::default();
        while let Some(piece) = next() {
            let unreadable =
                |error| coded(Code::Usage, format!("cannot read {}: {error}", piece.file.display()));
            let mut lines = Lines::open(piece.file, piece.start).map_err(unreadable)?;
            loop {
                let until = piece.end.unwrap_or(lines.position().saturating_add(self.batch_bytes));
                self.batch(piece.file, &mut lines, until, &mut schemas, &mut totals)?;
                if piece.end.is_some() || lines.is_ended() {
                    break;
                }
            }
        }
        Ok(totals)
    }

    /// Converts the lines that start before `until`.
    fn batch(
        &self,
        file: &Path,
        lines: &mut Lines,
        until: u64,
        schemas: &mut Schemas,
        totals: &mut Totals,
    ) -> anyhow::Result<()> {
        let stream = StreamName::new("convert").expect("a stream name");
        let Some(place) = Span::new(Offset(lines.position()), Offset(until)) else { return Ok(()) };
        let input = Input {
            batch: BatchId::derive(uuid::Uuid::nil(), &stream, &file.to_string_lossy(), place),
            stream: &stream,
            pipeline: "convert",
            shape: self.shape,
            schemas,
            planned_at: Timestamp(0),
            expected_bytes: self.batch_bytes.min(place.records()),
            sql: None,
            seen: None,
            refused: &[],
        };
        let blocks = std::iter::from_fn(|| lines.next_block(until).transpose())
            .inspect(|block| self.progress.inc(block.as_ref().map_or(0, |b| b.records.data.len() as u64)));
        let blocks: Box<dyn Iterator<Item = _>> = Box::new(blocks);
        let again = || unreachable!("without SQL nothing fails late");
        let built =
            build::build(&input, blocks, &mut std::iter::empty(), again).map_err(|error| match error {
                BuildError::Read(error) => coded(Code::Data, format!("{}: {error}", file.display())),
                BuildError::Seen(error) => anyhow::Error::new(error),
                BuildError::Shape(error) => anyhow::Error::new(error),
            })?;
        for file in &built.files {
            write(self.out, file)?;
        }
        let bytes = built.files.iter().map(|file| file.body.len() as u64).sum();
        totals.add(&Totals { counts: built.counts, files: built.files.len() as u64, bytes });
        if let Some(after) = built.schemas {
            *schemas = after;
        }
        Ok(())
    }
}

/// Writes a file whole or not at all; an existing one is this one, from an
/// earlier run.
fn write(root: &Path, file: &DataFile) -> anyhow::Result<()> {
    let path = root.join(file.path.as_str());
    let folder = path.parent().unwrap_or(root);
    let cannot =
        |error: std::io::Error| coded(Code::Unavailable, format!("cannot write {}: {error}", path.display()));
    std::fs::create_dir_all(folder).map_err(cannot)?;
    let temporary = path.with_extension("tmp");
    std::fs::write(&temporary, &file.body)
        .and_then(|()| std::fs::rename(&temporary, &path))
        .map_err(cannot)?;
    Ok(())
}

#[derive(Debug, Default)]
struct Totals {
    counts: BuiltCounts,
    files: u64,
    bytes: u64,
}

impl Totals {
    fn add(&mut self, more: &Self) {
        self.counts.add(&more.counts);
        self.files += more.files;
        self.bytes += more.bytes;
    }

    fn report(&self, out: &Output, seconds: f64) -> anyhow::Result<Code> {
        let counts = &self.counts;
        if out.is_json() {
            out.json(&serde_json::json!({
                "ok": counts.quarantined == 0, "records": counts.records(), "rows": counts.rows, "quarantined": counts.quarantined,
                "blank": counts.filtered, "rescued": counts.rescued, "files": self.files,
                "source_bytes": counts.source_bytes, "bytes": self.bytes, "seconds": seconds,
            }))?;
        }
        let ratio = counts.source_bytes as f64 / self.bytes.max(1) as f64;
        out.say(format!(
            "{} from {} in {}, {}{}, {:.1} s, {}/s",
            terminal::plural(counts.rows, "row"),
            terminal::bytes(counts.source_bytes),
            terminal::plural(self.files, "file"),
            terminal::bytes(self.bytes),
            if ratio > 1.0 { format!(" ({ratio:.1}x smaller)") } else { String::new() },
            seconds,
            terminal::bytes((counts.source_bytes as f64 / seconds) as u64),
        ));
        if counts.quarantined > 0 {
            let records = terminal::plural(counts.quarantined, "record");
            out.say(format!("{records} could not be read; see quarantine/ for the reasons"));
        }
        Ok(if counts.quarantined > 0 { Code::Data } else { Code::Done })
    }
}

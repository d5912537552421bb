//! The proof: what the ledger says was delivered, against what really lies in
//! the lake.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakeward_connectors::destinations::lake::Lake;
use lakeward_connectors::destinations::warehouse::Table;
use lakeward_engine::{BatchRecord, PipelineSpec, PipelineStatus};
use lakeward_model::{DeliveredFile, Offset, Role};
use parquet::file::metadata::ParquetMetaDataReader;
use serde::Serialize;

use crate::wiring::Place;

/// Batches whose rows a table counts at a time.
const BATCHES_AT_ONCE: usize = 500;
/// Files looked into at the same time.
const LOOK_AT_ONCE: usize = 16;
/// How much of a quarantine file is read at a time.
const LINES_AT_ONCE: u64 = 4 << 20;
/// Enough of a Parquet file's end to hold most footers.
const FOOTER_GUESS: u64 = 64 << 10;

/// What an audit of one pipeline found.
#[derive(Debug, Serialize)]
pub(crate) struct Audit {
    /// The numbers of the moment at which the audit began.
    #[serde(flatten)]
    pub(crate) status: PipelineStatus,
    /// Files and rows that the ledger says were delivered by then.
    pub(crate) files_expected: u64,
    pub(crate) rows_expected: u64,
    /// Files that lie there with the right size, and rows in them.
    pub(crate) files_found: u64,
    pub(crate) rows_found: u64,
    /// Rows that were delivered to a former destination, which is not looked
    /// at.
    pub(crate) rows_elsewhere: u64,
    /// Records that the ledger says were ever put into quarantine here, also
    /// those that left it since, and lines that lie in the quarantine files.
    pub(crate) quarantine_expected: u64,
    pub(crate) quarantine_found: u64,
    /// Records in quarantine files at a former destination.
    pub(crate) quarantine_elsewhere: u64,
    /// Files, rows and records in quarantine that a run replaced: they are not
    /// there any more.
    pub(crate) files_replaced: u64,
    pub(crate) rows_replaced: u64,
    pub(crate) quarantine_replaced: u64,
    /// What is wrong; empty if the lake holds exactly what was delivered.
    pub(crate) findings: Vec<Finding>,
    /// Whether everything adds up.
    pub(crate) balanced: bool,
}

/// Something that does not add up.
#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) problem: String,
}

impl Finding {
    fn new(file: &str, problem: impl Into<String>) -> Self {
        Self { file: file.to_string(), problem: problem.into() }
    }
}

/// Audits one pipeline.
///
/// `all` is what the ledger says of every pipeline that ever was, so that
/// another pipeline's files, or those of a former stream of the same name, are
/// not taken for strangers.
pub(crate) async fn audit(
    mut status: PipelineStatus,
    spec: &PipelineSpec,
    place: &Place,
    all: &[BatchRecord],
) -> anyhow::Result<Audit> {
    let (here, lake) = (place.name.clone(), &place.lake);
    status.destination.clone_from(&here);
    let known: HashSet<&str> = all
        .iter()
        .filter(|batch| batch.destination == here)
        .flat_map(|batch| &batch.files)
        .map(|file| file.path.as_str())
        .collect();
    let batches: Vec<&BatchRecord> = all
        .iter()
        .filter(|batch| batch.pipeline == status.pipeline && batch.incarnation == status.incarnation)
        .collect();
    let (batches, mut findings) = tiling(&status, batches);
    let prefix = static_prefix(&spec.shape.path);
    let (replaced, standing): (Vec<&BatchRecord>, Vec<&BatchRecord>) =
        batches.iter().partition(|batch| batch.replaced_by.is_some());
    let (at_home, elsewhere): (Vec<&BatchRecord>, Vec<&BatchRecord>) =
        standing.into_iter().partition(|batch| batch.destination == here);
    let gone = replaced.iter().flat_map(|batch| &batch.files).collect::<Vec<_>>();
    let rows_replaced = replaced.iter().map(|batch| batch.counts.rows).sum::<u64>();
    let quarantine_replaced = replaced.iter().map(|batch| batch.counts.quarantined).sum::<u64>();
    let rows_elsewhere = elsewhere.iter().map(|batch| batch.counts.rows).sum();
    let quarantine_elsewhere: u64 = elsewhere.iter().map(|batch| batch.counts.quarantined).sum();
    let expected: Vec<&DeliveredFile> = at_home.iter().flat_map(|batch| &batch.files).collect();
    let in_table = match &place.table {
        Some(table) => loaded(&**table, &at_home, &mut findings).await?,
        None => Loaded::default(),
    };
    // A path that was changed leaves files outside the present prefix.
    let both = || expected.iter().chain(&gone);
    let all_below =
        both().all(|file| file.role == Role::Quarantine || file.path.as_str().starts_with(&prefix));
    let sizes = listing(lake, if all_below { &prefix } else { "" }).await?;
    let looked: Vec<(Role, Option<u64>, Option<Finding>)> = futures::stream::iter(expected.iter().copied())
        .filter(|file| std::future::ready(place.table.is_none() || file.role == Role::Quarantine))
        .map(async |file| look_at(lake, file, &sizes).await.map(|(rows, finding)| (file.role, rows, finding)))
        .buffered(LOOK_AT_ONCE)
        .try_collect()
        .await?;
    let (mut files_found, mut rows_found, mut quarantine_found) = (in_table.files, in_table.rows, 0);
    for (role, rows, finding) in looked {
        if let Some(rows) = rows {
            files_found += 1;
            match role {
                Role::Data => rows_found += rows,
                Role::Quarantine => quarantine_found += rows,
            }
        }
        findings.extend(finding);
    }
    for (path, _) in sizes.iter().filter(|(path, _)| !known.contains(path.as_str())) {
        if path.starts_with(&prefix) && is_data(path) && status.pending == 0 && !batches.is_empty() {
            findings.push(Finding::new(
                path,
                "no committed batch wrote this file; its rows would be counted twice or are not ours",
            ));
        }
    }
    let leftovers = replaced.iter().filter(|batch| batch.destination == here).flat_map(|batch| &batch.files);
    for file in leftovers.filter(|file| sizes.contains_key(file.path.as_str())) {
        findings.push(Finding::new(
            file.path.as_str(),
            "a run replaced this file and has not removed it yet; its rows are there twice: see `lakeward backfill status`, or remove it",
        ));
    }
    let rows_of = |role| expected.iter().filter(|file| file.role == role).map(|file| file.rows).sum::<u64>();
    let (rows_expected, quarantine_expected) = (rows_of(Role::Data), rows_of(Role::Quarantine));
    let equation = status.received == status.counts.settled() + status.pending;
    let balanced = findings.is_empty()
        && equation
        && rows_found == rows_expected
        && rows_expected + rows_elsewhere + rows_replaced == status.counts.rows
        && quarantine_found == quarantine_expected
        // The files keep what left quarantine since.
        && quarantine_expected + quarantine_elsewhere + quarantine_replaced
            == status.counts.quarantined + status.replayed;
    Ok(Audit {
        files_expected: expected.len() as u64,
        rows_expected,
        files_found,
        rows_found,
        rows_elsewhere,
        quarantine_expected,
        quarantine_found,
        quarantine_elsewhere,
        files_replaced: gone.len() as u64,
        rows_replaced,
        quarantine_replaced,
        findings,
        balanced,
        status,
    })
}

/// The batches that were committed when the numbers were taken. They must cover
/// the settled records of the stream, and those of the replays, without a gap
/// or an overlap.
fn tiling<'a>(
    status: &PipelineStatus,
    batches: Vec<&'a BatchRecord>,
) -> (Vec<&'a BatchRecord>, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut finding = |problem: String| findings.push(Finding::new("(ledger)", problem));
    let (mut stream, mut replays): (Vec<&BatchRecord>, Vec<&BatchRecord>) =
        batches.into_iter().partition(|batch| batch.replay.is_none());
    stream.retain(|batch| batch.span.to <= status.delivered_to);
    for pair in stream.windows(2) {
        if pair[0].span.to != pair[1].span.from {
            finding(format!("batches {} and {} do not meet", pair[0].span, pair[1].span));
        }
    }
    let covered = |batches: &[&BatchRecord]| batches.iter().map(|batch| batch.span.records()).sum::<u64>();
    // What left quarantine was settled once before.
    let settled = (status.counts.settled() + status.replayed).saturating_sub(status.replays_settled);
    if covered(&stream) != settled {
        finding(format!("the batches cover {} records, but {settled} are settled", covered(&stream)));
    }
    // A pipeline commits one batch at a time; what came after the numbers were
    // taken is left out.
    replays.sort_by_key(|batch| std::cmp::Reverse(batch.committed_at));
    let mut sum = covered(&replays);
    replays.retain(|batch| {
        let is_later = sum > status.replays_settled;
        if is_later {
            sum -= batch.span.records();
        }
        !is_later
    });
    for batch in &replays {
        if batch.span.from != Offset(0) {
            finding(format!(
                "a replay's batch is {}, which does not start with its first record",
                batch.span
            ));
        }
    }
    if sum != status.replays_settled {
        finding(format!(
            "the batches of replays cover {sum} records, but {} are settled",
            status.replays_settled
        ));
    }
    stream.append(&mut replays);
    (stream, findings)
}

/// What is in a table.
#[derive(Debug, Default)]
struct Loaded {
    /// Files whose rows are all there.
    files: u64,
    rows: u64,
}

/// Counts the rows of these batches in their table.
async fn loaded(
    table: &dyn Table,
    batches: &[&BatchRecord],
    findings: &mut Vec<Finding>,
) -> anyhow::Result<Loaded> {
    let mut all = Loaded::default();
    for part in batches.chunks(BATCHES_AT_ONCE) {
        let ids: Vec<_> = part.iter().map(|batch| batch.batch).collect();
        let Some(rows) = table.loaded(&ids).await? else {
            let problem = "it cannot tell which rows are whose, as rows have no lineage, or are replaced: nothing is proved";
            findings.push(Finding::new(&table.to_string(), problem));
            return Ok(all);
        };
        for (batch, rows) in part.iter().zip(rows) {
            all.rows += rows;
            if rows == batch.counts.rows {
                all.files += batch.files.iter().filter(|file| file.role == Role::Data).count() as u64;
            } else {
                let problem = format!("the table has {rows} of its rows, {} were loaded", batch.counts.rows);
                findings.push(Finding::new(&batch.batch.to_string(), problem));
            }
        }
    }
    Ok(all)
}

/// What lies in the lake below `prefix`: path and size.
async fn listing(lake: &Lake, prefix: &str) -> anyhow::Result<HashMap<String, u64>> {
    let mut sizes = HashMap::new();
    let mut objects = lake.list(prefix);
    while let Some(object) = objects.try_next().await.context("cannot list the lake")? {
        sizes.insert(object.path.as_str().to_string(), object.size);
    }
    Ok(sizes)
}

/// The rows found in a file (`None` if it is not there), and what is wrong
/// with it.
async fn look_at(
    lake: &Lake,
    file: &DeliveredFile,
    sizes: &HashMap<String, u64>,
) -> anyhow::Result<(Option<u64>, Option<Finding>)> {
    let path = file.path.as_str();
    let size = match (file.role, sizes.get(path)) {
        (_, Some(size)) => *size,
        // Quarantine files may lie outside the data's prefix.
        (Role::Quarantine, None) => file.bytes,
        (Role::Data, None) => {
            return Ok((
                None,
                Some(Finding::new(path, format!("the file is missing; {} rows are lost", file.rows))),
            ));
        }
    };
    if size != file.bytes {
        return Ok((
            None,
            Some(Finding::new(path, format!("it has {size} bytes, {} were delivered", file.bytes))),
        ));
    }
    if file.role == Role::Quarantine {
        return Ok(match lines(lake, file, size).await {
            Ok(lines) if lines == file.rows => (Some(lines), None),
            Ok(lines) => {
                let problem = format!("it holds {lines} records, {} were put into quarantine", file.rows);
                (Some(lines), Some(Finding::new(path, problem)))
            }
            Err(error) => {
                (None, Some(Finding::new(path, format!("the quarantine file cannot be read: {error:#}"))))
            }
        });
    }
    if !path.ends_with(".parquet") {
        return Ok((Some(file.rows), None));
    }
    match parquet_rows(lake, file, size).await {
        Ok(rows) if rows == file.rows => Ok((Some(rows), None)),
        Ok(rows) => {
            let problem = format!("it holds {rows} rows, {} were delivered", file.rows);
            Ok((Some(rows), Some(Finding::new(path, problem))))
        }
        Err(error) => Ok((None, Some(Finding::new(path, format!("its footer cannot be read: {error:#}"))))),
    }
}

/// The lines of a quarantine file.
async fn lines(lake: &Lake, file: &DeliveredFile, size: u64) -> anyhow::Result<u64> {
    let (mut at, mut lines) = (0, 0);
    while at < size {
        let to = (at + LINES_AT_ONCE).min(size);
        let part = lake.get(&file.path, Some(at..to)).await?;
        anyhow::ensure!(part.len() as u64 == to - at, "it ends after {} bytes", at + part.len() as u64);
        lines += memchr::memchr_iter(b'\n', &part).count() as u64;
        at = to;
    }
    Ok(lines)
}

/// The row count in a Parquet file's footer.
async fn parquet_rows(lake: &Lake, file: &DeliveredFile, size: u64) -> anyhow::Result<u64> {
    let mut guess = FOOTER_GUESS.min(size);
    loop {
        let end: Bytes = lake.get(&file.path, Some(size - guess..size)).await?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&end, size) {
            Ok(()) => return Ok(u64::try_from(reader.finish()?.file_metadata().num_rows())?),
            Err(parquet::errors::ParquetError::NeedMoreData(needed))
                if (needed as u64) > guess && (needed as u64) <= size =>
            {
                guess = needed as u64;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// What of a path template comes before its first expression.
fn static_prefix(template: &str) -> String {
    let literal = template.split("!{").next().unwrap_or_default();
    literal.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"))
}

fn is_data(path: &str) -> bool {
    const ENDINGS: [&str; 8] = [".parquet", ".ndjson", ".csv", ".gz", ".zst", ".sz", ".zip", ".snappy"];
    ENDINGS.iter().any(|ending| path.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lakeward_engine::{Counts, PipelineState, Progress};
    use lakeward_model::{BatchId, Span, StreamName, Timestamp};

    use super::*;

    fn batch(replay: bool, from: u64, to: u64, committed_at: i64) -> BatchRecord {
        BatchRecord {
            pipeline: "p".into(),
            incarnation: uuid::Uuid::nil(),
            batch: BatchId(uuid::Uuid::nil()),
            destination: "lake".into(),
            span: Span { from: Offset(from), to: Offset(to) },
            replay: replay.then_some(uuid::Uuid::max()),
            counts: Counts::default(),
            files: Vec::new(),
            committed_at: Timestamp(committed_at),
            replaced_by: None,
        }
    }

    /// A pipeline that settled `[5, 15)` with six in quarantine, of which
    /// `queued` were let out and `settled` of those delivered.
    fn status(queued: u64, settled: u64) -> PipelineStatus {
        let counts = Counts { delivered: 4 + settled, quarantined: 6, ..Counts::default() };
        let mut progress: Progress = serde_json::from_value(serde_json::json!({
            "stream": StreamName::new("s").unwrap(), "incarnation": uuid::Uuid::nil(), "start": 5,
            "delivered_to": 15, "counts": counts,
        }))
        .unwrap();
        progress.replays.records_queued = queued;
        progress.replays.records_settled = settled;
        let (end, lag) = (Offset(20), Duration::ZERO);
        PipelineStatus::new("p".into(), "lake".into(), &progress, end, lag, PipelineState::Idle)
    }

    #[test]
    fn batches_tile_the_stream_and_the_replays() {
        let check = |status: &PipelineStatus, batches: &[BatchRecord], kept: usize, words: &str| {
            assert_eq!(status.received, status.counts.settled() + status.pending);
            let (of_then, findings) = tiling(status, batches.iter().collect());
            assert_eq!(of_then.len(), kept);
            match words {
                "" => assert!(findings.is_empty(), "{findings:?}"),
                words => assert!(findings.iter().any(|f| f.problem.contains(words)), "{findings:?}"),
            }
        };
        let stream = [batch(false, 5, 9, 1), batch(false, 9, 15, 2)];
        let with = |more: &[BatchRecord]| [&stream[..], more].concat();
        check(&status(0, 0), &stream, 2, "");
        check(&status(3, 0), &stream, 2, "");
        check(&status(5, 3), &with(&[batch(true, 0, 3, 4)]), 3, "");
        check(&status(5, 5), &with(&[batch(true, 0, 3, 4), batch(true, 0, 2, 5)]), 4, "");
        // Committed after the numbers were taken.
        check(&status(5, 3), &with(&[batch(true, 0, 2, 9), batch(true, 0, 3, 4)]), 3, "");
        check(&status(0, 0), &with(&[batch(false, 15, 18, 9)]), 2, "");

        check(&status(0, 0), &stream[1..], 1, "cover 6 records, but 10");
        check(&status(0, 0), &[batch(false, 5, 9, 1), batch(false, 10, 15, 2)], 2, "do not meet");
        check(&status(5, 3), &stream, 2, "replays cover 0 records, but 3");
        check(&status(5, 3), &with(&[batch(true, 0, 2, 4)]), 3, "replays cover 2 records, but 3");
        check(&status(5, 3), &with(&[batch(true, 1, 4, 4)]), 3, "first record");
    }

    #[test]
    fn the_static_part_of_a_template_is_a_folder() {
        let check = |template: &str, expect: &str| assert_eq!(static_prefix(template), expect);
        check("events/year=!{timestamp:yyyy}/", "events/");
        check("a/b/", "a/b/");
        check("!{timestamp:yyyy}/", "");
        check("legacy", "");
    }
}

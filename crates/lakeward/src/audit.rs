//! The proof: what the ledger says was delivered, against what really lies in
//! the lake.

use std::collections::{HashMap, HashSet};

use anyhow::Context;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use lakeward_connectors::destinations::lake::Lake;
use lakeward_engine::{BatchRecord, PipelineSpec, PipelineStatus};
use lakeward_model::{DeliveredFile, Role};
use parquet::file::metadata::ParquetMetaDataReader;
use serde::Serialize;

/// Files looked into at the same time.
const LOOK_AT_ONCE: usize = 16;
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
    lake: &Lake,
    all: &[BatchRecord],
) -> anyhow::Result<Audit> {
    let here = lake.to_string();
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
        .filter(|batch| batch.span.to <= status.delivered_to)
        .collect();
    let mut findings = tiling(&status, &batches);
    let prefix = static_prefix(&spec.shape.path);
    let (at_home, elsewhere): (Vec<&BatchRecord>, Vec<&BatchRecord>) =
        batches.iter().partition(|batch| batch.destination == here);
    let rows_elsewhere = elsewhere.iter().map(|batch| batch.counts.rows).sum();
    let expected: Vec<&DeliveredFile> = at_home.iter().flat_map(|batch| &batch.files).collect();
    // A path that was changed leaves files outside the present prefix.
    let all_below =
        expected.iter().all(|file| file.role == Role::Quarantine || file.path.as_str().starts_with(&prefix));
    let sizes = listing(lake, if all_below { &prefix } else { "" }).await?;
    let looked: Vec<(Option<u64>, Option<Finding>)> = futures::stream::iter(expected.iter().copied())
        .map(|file| look_at(lake, file, &sizes))
        .buffered(LOOK_AT_ONCE)
        .try_collect()
        .await?;
    let (mut files_found, mut rows_found) = (0, 0);
    for (rows, finding) in looked {
        if let Some(rows) = rows {
            files_found += 1;
            rows_found += rows;
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
    let data = |file: &&&DeliveredFile| file.role == Role::Data;
    let rows_expected: u64 = expected.iter().filter(data).map(|file| file.rows).sum();
    let equation = status.received == status.counts.settled() + status.pending;
    let balanced = findings.is_empty()
        && equation
        && rows_found == rows_expected
        && rows_expected + rows_elsewhere == status.counts.rows;
    Ok(Audit {
        files_expected: expected.len() as u64,
        rows_expected,
        files_found,
        rows_found,
        rows_elsewhere,
        findings,
        balanced,
        status,
    })
}

/// The batches must cover the settled records without a gap or an overlap.
fn tiling(status: &PipelineStatus, batches: &[&BatchRecord]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for pair in batches.windows(2) {
        if pair[0].span.to != pair[1].span.from {
            findings.push(Finding::new(
                "(ledger)",
                format!("batches {} and {} do not meet", pair[0].span, pair[1].span),
            ));
        }
    }
    let covered: u64 = batches.iter().map(|batch| batch.span.records()).sum();
    if covered != status.counts.settled() {
        findings.push(Finding::new(
            "(ledger)",
            format!("the batches cover {covered} records, but {} are settled", status.counts.settled()),
        ));
    }
    findings
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
        let there = lake.get(&file.path, Some(0..1)).await.is_ok();
        let finding = (!there).then(|| Finding::new(path, "the quarantine file is missing"));
        return Ok((there.then_some(0), finding));
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
    use super::*;

    #[test]
    fn the_static_part_of_a_template_is_a_folder() {
        let check = |template: &str, expect: &str| assert_eq!(static_prefix(template), expect);
        check("events/year=!{timestamp:yyyy}/", "events/");
        check("a/b/", "a/b/");
        check("!{timestamp:yyyy}/", "");
        check("legacy", "");
    }
}

//! Files in S3 for COPY to read, and the manifest that names each of them.
//!
//! A prefix would also match what else lies there; the manifest names files,
//! says that each must be there, and how long it is.

use bytes::Bytes;
use lakeward_model::clock::{Clock, SystemClock};
use lakeward_model::{Batch, DataFile, Destination, Failure, FailureKind, Format, LakePath, Role};
use serde_json::json;
use tracing::warn;
use xxhash_rust::xxh3::Xxh3;

use super::config::{StagingConfig, StagingLayout};
use crate::destinations::lake::Lake;
use crate::destinations::sql::SqlConfigError;

#[cfg(test)]
impl Staged {
    /// Files at these addresses.
    pub(super) fn at(urls: &[&str]) -> Self {
        Self {
            manifest: String::new(),
            urls: urls.iter().map(ToString::to_string).collect(),
            paths: Vec::new(),
        }
    }
}

/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;

/// Where files are staged.
#[derive(Debug)]
pub(super) struct Staging {
    lake: Lake,
    /// `s3://bucket/prefix`, without a slash at the end.
    root: String,
    layout: StagingLayout,
    keep: bool,
}

/// The staged files of a batch.
#[derive(Debug)]
pub(super) struct Staged {
    /// The manifest's address.
    pub(super) manifest: String,
    /// The files' addresses, in their order.
    pub(super) urls: Vec<String>,
    paths: Vec<LakePath>,
}

impl Staging {
    pub(super) fn open(config: &StagingConfig) -> Result<Self, SqlConfigError> {
        let lake =
            Lake::open(&config.lake()).map_err(|error| SqlConfigError::new("staging", error.to_string()))?;
        let root = config.url.trim_end_matches('/').to_string();
        Ok(Self { lake, root, layout: config.layout, keep: config.keep })
    }

    /// The lake, for trying it.
    pub(super) fn lake(&self) -> &Lake {
        &self.lake
    }

    /// Puts the files and then their manifest. The same files get the same
    /// names, so that what an earlier try left is used.
    ///
    /// # Errors
    /// The store's [`Failure`].
    pub(super) async fn put(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Result<Staged, Failure> {
        let staged = self.names(batch, files, today())?;
        let copies = files.iter().zip(&staged.paths);
        let copies =
            copies.map(|((_, file), path)| DataFile { path: path.clone(), ..(*file).clone() }).collect();
        let put = self.lake.deliver(&Batch { files: copies, ..batch.clone() }).await?;
        for ((_, file), found) in files.iter().zip(&put.files) {
            if found.bytes != file.body.len() as u64 {
                let message = format!("{}/{} is another file: remove it", self.root, found.path);
                return Err(Failure::new(FailureKind::Refused, message));
            }
        }
        let entries: Vec<_> = staged
            .urls
            .iter()
            .zip(files)
            .map(|(url, (_, file))| {
                json!({ "url": url, "mandatory": true, "meta": { "content_length": file.body.len() } })
            })
            .collect();
        let manifest = DataFile {
            path: staged.paths.last().expect("the manifest is the last").clone(),
            role: Role::Data,
            format: Format::Verbatim,
            content_encoding: None,
            rows: 0,
            body: Bytes::from(json!({ "entries": entries }).to_string()),
        };
        self.lake.deliver(&Batch { files: vec![manifest], ..batch.clone() }).await?;
        Ok(staged)
    }

    /// Removes what was staged of a batch, now or by a try before. What cannot
    /// be removed costs space and nothing else: no COPY ever reads it.
    pub(super) async fn remove(&self, batch: &Batch, files: &[(usize, &DataFile)]) {
        if self.keep {
            return;
        }
        // The try before may have been yesterday's.
        let days = match self.layout {
            StagingLayout::Lakeward => vec![today()],
            StagingLayout::Ingest => vec![today(), today() - 1],
        };
        for day in days {
            let Ok(staged) = self.names(batch, files, day) else { continue };
            // The manifest first: without it nothing leads to the files.
            for path in staged.paths.iter().rev() {
                if let Err(error) = self.lake.remove(path).await {
                    warn!(file = %path, "a staged file stays: {error}");
                    return;
                }
            }
        }
    }

    fn names(&self, batch: &Batch, files: &[(usize, &DataFile)], day: i64) -> Result<Staged, Failure> {
        let id = id(batch, files);
        let folder = match self.layout {
            StagingLayout::Lakeward => id.clone(),
            StagingLayout::Ingest => format!("{}/{id}", yyyymmdd(day)),
        };
        let mut paths = Vec::with_capacity(files.len() + 1);
        for (number, (_, file)) in files.iter().enumerate() {
            paths.push(format!("{folder}/{number}{}", extension(file)));
        }
        let urls = paths.iter().map(|path| format!("{}/{path}", self.root)).collect();
        let manifest = match self.layout {
            StagingLayout::Lakeward => format!("{folder}/manifest.json"),
            // No COPY of the folder's prefix reads it.
            StagingLayout::Ingest => format!("{}/manifest-{id}.json", yyyymmdd(day)),
        };
        let url = format!("{}/{manifest}", self.root);
        paths.push(manifest);
        let paths: Result<Vec<_>, _> = paths.into_iter().map(LakePath::new).collect();
        let paths = paths.map_err(|error| Failure::new(FailureKind::Refused, error.to_string()))?;
        Ok(Staged { manifest: url, urls, paths })
    }
}

/// Follows from the batch and its bytes: a batch that is built anew without
/// some rows has other files.
fn id(batch: &Batch, files: &[(usize, &DataFile)]) -> String {
    let mut hash = Xxh3::new();
    hash.update(batch.id.0.as_bytes());
    for (_, file) in files {
        hash.update(&(file.body.len() as u64).to_le_bytes());
        hash.update(&file.body);
    }
    uuid::Builder::from_custom_bytes(hash.digest128().to_be_bytes()).into_uuid().to_string()
}

fn extension(file: &DataFile) -> &'static str {
    match file.format {
        Format::Parquet => ".parquet",
        _ if file.body.starts_with(&[0x1f, 0x8b]) => ".csv.gz",
        _ => ".csv",
    }
}

/// Days since 1970, in UTC.
fn today() -> i64 {
    SystemClock.now().0.div_euclid(DAY)
}

fn yyyymmdd(day: i64) -> String {
    let instant = jiff::Timestamp::from_second(day.saturating_mul(86_400)).unwrap_or_default();
    instant.strftime("%Y%m%d").to_string()
}

#[cfg(test)]
mod tests {
    use lakeward_model::conformance::sample_batch;

    use super::*;

    fn staging(layout: StagingLayout) -> Staging {
        let config =
            StagingConfig { url: "s3://bucket/ToIngest/".into(), layout, ..StagingConfig::default() };
        Staging::open(&config).expect("it opens")
    }

    #[test]
    fn names_follow_from_batch_and_content() {
        let mut batch = sample_batch(1, 2, 10);
        for file in &mut batch.files {
            file.format = Format::Csv;
        }
        let files: Vec<_> = batch.files.iter().enumerate().collect();
        let id = id(&batch, &files);
        let names = |layout| staging(layout).names(&batch, &files, 20_454).expect("names");
        let ingest = names(StagingLayout::Ingest);
        assert_eq!(ingest.urls, [0, 1].map(|n| format!("s3://bucket/ToIngest/20260101/{id}/{n}.csv")));
        assert_eq!(ingest.manifest, format!("s3://bucket/ToIngest/20260101/manifest-{id}.json"));
        let prefix = format!("s3://bucket/ToIngest/20260101/{id}");
        assert!(!ingest.manifest.starts_with(&prefix));
        assert_eq!(
            names(StagingLayout::Lakeward).manifest,
            format!("s3://bucket/ToIngest/{id}/manifest.json")
        );
        let fewer = super::id(&batch, &files[..1]);
        assert_ne!(fewer, id, "a batch without some rows has other names");
    }
}

//! A data lake: files below a folder or below a prefix of a bucket.
//!
//! Every put is *create-only*. Names derive from the batch id, so what already
//! lies under a name is this batch, finished earlier: success.

mod config;
mod local;
mod reader;
mod s3;
pub(crate) mod store;

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use lakeward_model::{
    Batch, DataFile, DeliveredFile, Destination, Failure, FailureKind, LakePath, Receipt, Timestamp, ids,
};

use config::Location;
pub use config::{LakeConfig, LakeConfigError, ServerSideEncryption};
use local::Local;
pub use reader::LakeReader;
use s3::S3;

/// Folders below the root that are ours and are never listed.
const TEMPORARY: &str = ".lakeward-tmp";
const PROBE: &str = ".lakeward-probe";

/// An open lake. It prints as its address, with a slash at the end.
#[derive(Debug)]
pub struct Lake {
    place: Place,
    concurrency: usize,
}

#[derive(Debug)]
enum Place {
    Local(Local),
    S3(Box<S3>),
}

/// A file in the lake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LakeObject {
    /// Its path below the lake's root.
    pub path: LakePath,
    /// Its size in bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Timestamp,
}

/// The result of one thing that [`Lake::probe`] tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProbeResult {
    /// What was tried: `write`, `create-only`, `read`, `list` or `delete`.
    pub name: &'static str,
    /// Whether it works as it must.
    pub ok: bool,
    /// What was seen, and what to do if it does not work.
    pub message: String,
}

/// What a create-only put found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    Created,
    /// Something of this size lay there.
    AlreadyThere {
        bytes: u64,
    },
}

impl Lake {
    /// Opens a lake. Touches nothing: folders are made and servers asked when
    /// something is written.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &LakeConfig) -> Result<Self, LakeConfigError> {
        config.check()?;
        let place = match config.location()? {
            Location::Folder(root) => Place::Local(Local::open(&root)?),
            Location::Bucket { bucket, prefix } => Place::S3(Box::new(S3::open(config, bucket, prefix)?)),
        };
        Ok(Self { place, concurrency: config.concurrency })
    }

    /// Lists the files whose path starts with `prefix`; our own temporary and
    /// probe files are left out. The order is the store's.
    #[must_use]
    pub fn list(&self, prefix: &str) -> BoxStream<'static, Result<LakeObject, Failure>> {
        let wanted = prefix.to_string();
        let keep = move |object: &Result<LakeObject, Failure>| {
            object.as_ref().map_or(true, |object| {
                let path = object.path.as_str();
                path.starts_with(&wanted) && !path.starts_with(PROBE) && !path.starts_with(TEMPORARY)
            })
        };
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        if !folder.is_empty() && LakePath::new(folder).is_err() {
            // Nothing of ours lies there, and a walk must not leave the root.
            return futures::stream::empty().boxed();
        }
        let objects = match &self.place {
            Place::Local(local) => local.list(folder),
            Place::S3(s3) => s3.list(folder),
        };
        objects.filter(move |object| std::future::ready(keep(object))).boxed()
    }

    /// Reads a file, or the part `range` of its bytes.
    ///
    /// # Errors
    /// A [`Failure`]; [`FailureKind::Refused`] if it is not there or must not
    /// be read.
    pub async fn get(&self, path: &LakePath, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        match &self.place {
            Place::Local(local) => local.get(path, range).await,
            Place::S3(s3) => s3.get(path, range).await,
        }
    }

    /// Tries out what deliveries and audits need, with a small file below
    /// `.lakeward-probe/` that is deleted again: `write`, `create-only`
    /// (whether the place refuses to overwrite), `read`, `list`, `delete`.
    pub async fn probe(&self) -> Vec<ProbeResult> {
        let path = LakePath::new(format!("{PROBE}/{}", ids::fresh())).expect("a uuid makes a path");
        let file = |text: &'static str| DataFile {
            path: path.clone(),
            role: lakeward_model::Role::Data,
            format: lakeward_model::Format::Verbatim,
            content_encoding: None,
            rows: 0,
            body: Bytes::from_static(text.as_bytes()),
        };
        let write = self.put(&file("first")).await;
        let mut results = vec![probed("write", write.as_ref().map(|_| format!("can write to {self}")))];
        if write.is_err() {
            return results;
        }
        let second = self.put_blindly(&file("second")).await;
        let now = self.get(&path, None).await;
        results.push(match (&second, &now) {
            (Ok(Put::AlreadyThere { .. }), Ok(bytes)) if bytes != "second" => {
                probed("create-only", Ok(String::from("a second create of one name is refused")))
            }
            (Err(failure), _) => probed("create-only", Err(failure)),
            _ => ProbeResult {
                name: "create-only",
                ok: false,
                message: String::from(
                    "the store overwrites in spite of If-None-Match. One Lakeward is still safe, since names \
                     derive from the batch; see that no second one writes here",
                ),
            },
        });
        results.push(probed("read", now.as_ref().map(|_| String::from("can read it back"))));
        results.push(probed("list", self.find(&path).await.as_ref().map(|()| String::from("can list it"))));
        results.push(probed(
            "delete",
            self.delete(&path).await.as_ref().map(|()| String::from("can delete it")),
        ));
        results
    }

    /// Removes a delivered file. One that is not there counts as removed.
    ///
    /// # Errors
    /// A [`Failure`]; the caller tries again, which changes nothing if it is
    /// removed.
    pub async fn remove(&self, path: &LakePath) -> Result<(), Failure> {
        self.delete(path).await
    }

    async fn put(&self, file: &DataFile) -> Result<Put, Failure> {
        match &self.place {
            Place::Local(local) => local.put(file).await,
            Place::S3(s3) => s3.put(file).await,
        }
    }

    /// A put that relies on the place alone to refuse a second one.
    async fn put_blindly(&self, file: &DataFile) -> Result<Put, Failure> {
        match &self.place {
            Place::Local(local) => local.put(file).await,
            Place::S3(s3) => s3.create(file).await,
        }
    }

    async fn find(&self, path: &LakePath) -> Result<(), Failure> {
        let mut objects = match &self.place {
            Place::Local(local) => local.list(PROBE),
            Place::S3(s3) => s3.list(PROBE),
        };
        while let Some(object) = objects.next().await {
            if object?.path == *path {
                return Ok(());
            }
        }
        Err(Failure::new(FailureKind::Refused, format!("the listing of {self} lacks what was just written")))
    }

    async fn delete(&self, path: &LakePath) -> Result<(), Failure> {
        match &self.place {
            Place::Local(local) => local.delete(path).await,
            Place::S3(s3) => s3.delete(path).await,
        }
    }

    /// Puts one file of a batch, unless another has failed meanwhile.
    async fn deliver_file(&self, file: &DataFile, failed: &AtomicBool) -> Result<DeliveredFile, Failure> {
        if failed.load(Ordering::Relaxed) {
            return Err(Failure::new(
                FailureKind::NotDone,
                "not tried, since another file of the batch failed",
            ));
        }
        let put = self.put(file).await.inspect_err(|_| failed.store(true, Ordering::Relaxed))?;
        let (already_there, bytes) = match put {
            Put::Created => (false, file.body.len() as u64),
            Put::AlreadyThere { bytes } => (true, bytes),
        };
        Ok(DeliveredFile { path: file.path.clone(), role: file.role, rows: file.rows, bytes, already_there })
    }
}

#[async_trait::async_trait]
impl Destination for Lake {
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let failed = AtomicBool::new(false);
        // What has begun is seen through even if another file fails, so that no
        // upload is left half done.
        let puts: Vec<_> = batch.files.iter().map(|file| self.deliver_file(file, &failed)).collect();
        let files = worst(futures::stream::iter(puts).buffered(self.concurrency).collect().await)?;
        if let Place::Local(local) = &self.place {
            local.sync_folders(&batch.files).await?;
        }
        Ok(Receipt { files })
    }
}

/// All results, or the failure that says most: refused before unknown before
/// not done.
fn worst(done: Vec<Result<DeliveredFile, Failure>>) -> Result<Vec<DeliveredFile>, Failure> {
    let weight = |failure: &Failure| match failure.kind {
        FailureKind::Refused => 2,
        FailureKind::Unknown => 1,
        FailureKind::NotDone => 0,
    };
    let mut files = Vec::with_capacity(done.len());
    let mut worst: Option<Failure> = None;
    for result in done {
        match result {
            Ok(file) => files.push(file),
            Err(failure) if worst.as_ref().is_none_or(|w| weight(&failure) > weight(w)) => {
                worst = Some(failure)
            }
            Err(_) => {}
        }
    }
    worst.map_or(Ok(files), Err)
}

fn probed(name: &'static str, result: Result<String, &Failure>) -> ProbeResult {
    match result {
        Ok(message) => ProbeResult { name, ok: true, message },
        Err(failure) => ProbeResult { name, ok: false, message: failure.message.clone() },
    }
}

impl fmt::Display for Lake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Local(local) => local.fmt(f),
            Place::S3(s3) => s3.fmt(f),
        }
    }
}

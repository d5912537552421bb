//! Objects of a bucket, or files of a folder, as a source: each is taken once,
//! by its name and version.
//!
//! What there is comes from a list ([`SlicedSource::list`]) or from
//! notifications ([`SqsAnnouncements`]); both make the same slice of the same
//! object, so it does not matter which comes first, or how often. An object is
//! read under the condition that it still has the version that was listed.
//!
//! - Small objects come in one request, some of them before they are asked for
//!   ([`ahead`]); larger ones in pieces of 4 MiB ([`ranges`]); zip archives and
//!   Parquet files, which are not read from front to back, go to a file without
//!   a name in the state directory.
//! - Plain lines are resumed at their byte; all else is read again from its
//!   start, and what was taken is skipped.

mod ahead;
mod bucket;
mod config;
mod folder;
mod names;
mod notified;
mod pattern;
mod place;
mod ranges;
mod reader;
mod slashes;
mod sqs;
mod threads;
mod times;

use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::{Buf, Bytes};
use futures::{StreamExt, TryStreamExt};
use lakeward_model::{
    Failure, FailureKind, Slice, SliceFailure, SliceId, SlicePage, SliceReader, SlicedSource, Wanted,
};
use lakeward_unpack::{Csv, Format, Input, Limits, Options, Place as Resume, needs_file, packing};

use ahead::Ahead;
use bucket::Bucket;
pub use config::{CsvConfig, DateOf, NotificationsConfig, ObjectFormat, ObjectsConfig, ObjectsConfigError};
use folder::Folder;
use names::{Names, Object};
pub use notified::{Notified, NotifiedError};
use place::Place;
use ranges::{Met, RangeReader, piece};
use reader::{About, ObjectReader, Opened, Where};
pub use sqs::SqsAnnouncements;
use threads::Threads;

/// The most objects of a page of a list.
const PAGE: usize = 1_000;
/// Objects up to this size come in one request and are held in memory.
const SMALL: u64 = 8 << 20;
/// Objects up to this size are unpacked where they are, without a thread.
const TINY: u64 = 64 << 10;
/// How many pieces of an object are fetched at once on their way to a file.
const PIECES_AT_ONCE: usize = 2;
/// How many of the first bytes say what a file is.
const MAGIC: usize = 16;

/// Objects that are pulled. Clones are the same source.
#[derive(Clone)]
pub struct ObjectsSource {
    inner: Arc<Inner>,
}

struct Inner {
    names: Names,
    store: Store,
    options: Arc<Options>,
    max_object: u64,
    /// Where archives lie while they are read.
    spool: PathBuf,
    /// Made when the first object is read.
    threads: OnceLock<Arc<Threads>>,
    /// How many objects are read at a time.
    at_once: usize,
    ahead: Ahead,
    unfit: Mutex<Counting>,
}

enum Store {
    Folder(Folder),
    Bucket(Bucket),
}

/// Objects below the url that are none of the source's, because their name does
/// not fit, because nobody can ask for such a name, or because they are links
/// that lead elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Unfit {
    /// How many the last complete list had.
    pub count: u64,
    /// One of them.
    pub example: Option<String>,
}

#[derive(Default)]
struct Counting {
    /// Of a list that began at the start.
    now: Option<Unfit>,
    last: Unfit,
}

impl ObjectsSource {
    /// Asks nobody yet. `spool` is a folder for what must lie on the disk while
    /// it is read; it is made when it is needed.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &ObjectsConfig, spool: &Path) -> Result<Self, ObjectsConfigError> {
        config.check()?;
        let store = match Place::of(config)? {
            Place::Folder(root) => {
                let root = std::path::absolute(&root)
                    .or_else(|error| config::wrong("url", format!("{}: {error}", root.display())))?;
                Store::Folder(Folder::new(root))
            }
            Place::Bucket { vendor, bucket, prefix } => {
                Store::Bucket(Bucket::open(config, vendor, &bucket, &prefix)?)
            }
        };
        let inner = Inner {
            names: Names::of(config)?,
            store,
            options: Arc::new(options(config)),
            max_object: config.max_object,
            spool: spool.into(),
            threads: OnceLock::new(),
            at_once: config.at_once(),
            ahead: Ahead::default(),
            unfit: Mutex::default(),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Asks for the first page of the list; what it found, for a person.
    ///
    /// # Errors
    /// The objects cannot be listed; the message says why.
    pub async fn probe(&self) -> Result<String, Failure> {
        let page = self.list(&Wanted::default(), None).await?;
        let more = if page.next.is_some() { ", and more" } else { "" };
        Ok(format!("{} objects on the first page of the list{more}", page.slices.len()))
    }

    /// What the last complete list had that is none of the source's.
    #[must_use]
    pub fn unfit(&self) -> Unfit {
        self.inner.unfit.lock().unwrap_or_else(PoisonError::into_inner).last.clone()
    }

    /// The slice of an object that was announced; nothing if it is none of the
    /// source's, or is not there any more. Asks the store for what the
    /// announcement does not say.
    async fn announced(&self, event: sqs::Event) -> Result<Option<Slice>, Failure> {
        let Store::Bucket(bucket) = &self.inner.store else { return Ok(None) };
        if event.bucket != bucket.name() {
            return Ok(None);
        }
        let Some(name) = bucket.name_of(&event.key) else { return Ok(None) };
        if !slashes::can_be_asked_for(&event.key) {
            let modified = event.modified.unwrap_or_default();
            let unknown = Object { name: name.into(), version: String::new(), bytes: 0, modified };
            // An empty one is how a console makes a folder.
            if event.bytes != Some(0) && self.inner.names.slice(unknown).is_some() {
                tracing::warn!(
                    key = event.key,
                    "an object that was announced is not taken, since nobody can ask for such a key; \
                     copy it to another key"
                );
            }
            return Ok(None);
        }
        let object = match (event.bytes, event.modified) {
            (Some(bytes), Some(modified)) if !event.etag.is_empty() => {
                Object { name: name.into(), version: event.etag, bytes, modified }
            }
            _ => {
                // Not worth a question if its name does not fit.
                let modified = event.modified.unwrap_or_default();
                let unknown = Object { name: name.into(), version: String::new(), bytes: 0, modified };
                if self.inner.names.slice(unknown).is_none() {
                    return Ok(None);
                }
                let Some(found) = bucket.head(name).await? else { return Ok(None) };
                found
            }
        };
        Ok(self.inner.names.slice(object))
    }
}

#[async_trait::async_trait]
impl SlicedSource for ObjectsSource {
    fn dates(&self) -> &'static str {
        match self.inner.names.date() {
            DateOf::Key => "the time in the object's name, in UTC",
            DateOf::Modified => "the time of the object's last change, in UTC",
        }
    }

    async fn list(&self, wanted: &Wanted, after: Option<&str>) -> Result<SlicePage, Failure> {
        let inner = &self.inner;
        if let Some(problem) = inner.names.problem(wanted) {
            return Err(Failure::new(FailureKind::Refused, problem));
        }
        let Some(prefix) = inner.names.prefix(wanted) else { return Ok(SlicePage::default()) };
        let (objects, next, odd) = match &inner.store {
            Store::Folder(folder) => {
                let (folder, after) = (folder.clone(), after.map(String::from));
                let listed = blocking(move || folder.list(&prefix, after.as_deref(), PAGE)).await?;
                let listed = listed?;
                (listed.objects, listed.next, listed.odd)
            }
            Store::Bucket(bucket) => {
                let listed = bucket.list(&prefix, after, PAGE).await?;
                (listed.objects, listed.next, listed.odd)
            }
        };
        let mut unfit = Unfit::default();
        if let Some((key, count)) = odd {
            unfit = Unfit { count: count as u64, example: Some(key) };
        }
        let mut slices = Vec::with_capacity(objects.len());
        for object in objects {
            let name = object.name.clone();
            match inner.names.slice(object) {
                Some(slice) if wanted.means(&slice) => slices.push(slice),
                Some(_) => {}
                None => {
                    unfit.count += 1;
                    unfit.example.get_or_insert(name);
                }
            }
        }
        inner.count(unfit, after.is_none(), next.is_none());
        Ok(SlicePage { slices, next })
    }

    async fn open(
        &self,
        slice: &Slice,
        id: SliceId,
        resume: Option<&[u8]>,
        coming: &[Slice],
    ) -> Result<Box<dyn SliceReader>, SliceFailure> {
        let inner = &self.inner;
        let resume = match resume {
            Some(stored) => Some(Resume::from_bytes(stored).ok_or_else(|| {
                let problem = "the stored place in the object is of a later release: update Lakeward";
                Failure::new(FailureKind::Refused, problem)
            })?),
            None => None,
        };
        let too_large = |bytes: u64| bytes > inner.max_object;
        match &inner.store {
            Store::Folder(folder) => {
                let about = About::new(id, slice, folder.address(&slice.name));
                if slice.bytes.is_some_and(too_large) {
                    return Err(inner.refuse(&about, slice.bytes.unwrap_or(0)));
                }
                let (folder, options) = (folder.clone(), Arc::clone(&inner.options));
                let threads = inner.threads()?;
                let place = Where::Threads(Arc::clone(&threads));
                let opened = threads.run(move || {
                    let source = open_file(&folder, &about, resume.as_ref())?;
                    Ok::<_, SliceFailure>(ObjectReader::new(source, options, resume, about, place))
                });
                Ok(Box::new(opened.await.ok_or_else(stopped)??))
            }
            Store::Bucket(bucket) => {
                inner.ahead.fetch(bucket, coming);
                let about = About::new(id, slice, bucket.address(&slice.name));
                let bytes = match slice.bytes {
                    Some(bytes) => bytes,
                    None => match bucket.head(&slice.name).await? {
                        Some(found) => found.bytes,
                        None => {
                            return Err(SliceFailure::Gone(format!(
                                "{} is not there any more",
                                about.address
                            )));
                        }
                    },
                };
                if too_large(bytes) {
                    return Err(inner.refuse(&about, bytes));
                }
                let (source, file) = inner.open_object(bucket, slice, bytes, resume.as_ref()).await?;
                let is_tiny = bytes <= TINY && !file && resume.is_none();
                let place = if is_tiny { Where::Here } else { Where::Threads(inner.threads()?) };
                let options = Arc::clone(&inner.options);
                Ok(Box::new(ObjectReader::new(source, options, resume, about, place)))
            }
        }
    }
}

impl Inner {
    /// The threads that read objects, as many as are read at a time.
    fn threads(&self) -> Result<Arc<Threads>, Failure> {
        if let Some(threads) = self.threads.get() {
            return Ok(Arc::clone(threads));
        }
        let started = Threads::start(self.at_once).map_err(|error| {
            Failure::new(FailureKind::NotDone, format!("the system has no thread to give: {error}"))
        })?;
        // Another reader may have been first: then these end again.
        Ok(Arc::clone(self.threads.get_or_init(|| Arc::new(started))))
    }

    /// Where an object's bytes come from, and whether that is a file.
    async fn open_object(
        &self,
        bucket: &Bucket,
        slice: &Slice,
        bytes: u64,
        resume: Option<&Resume>,
    ) -> Result<(Opened, bool), SliceFailure> {
        let whole = |input| Opened { input: Some(input), met: Met::default(), file: None };
        let stream = |bytes: Bytes| Input::Stream(Box::new(bytes.reader()));
        let start = resume.and_then(Resume::byte).unwrap_or(0).min(bytes);
        if start == bytes {
            // Nothing is there, or nothing is left: no need to ask for it.
            return Ok((whole(stream(Bytes::new())), false));
        }
        if bytes <= SMALL {
            let all = match self.ahead.take(slice).await {
                Some(all) if all.len() as u64 == bytes => all,
                _ => bucket.get(&slice.name, &slice.version, Some(0..bytes)).await?,
            };
            if needs_file(packing(&all[..all.len().min(MAGIC)])) {
                let spool = self.spool.clone();
                let file = blocking(move || spooled(&spool, |file| file.write_all(&all))).await??;
                return Ok((whole(Input::File(file)), true));
            }
            let from = usize::try_from(start).unwrap_or(all.len());
            return Ok((whole(stream(all.slice(from..))), false));
        }
        let first = bucket.get(&slice.name, &slice.version, piece(start, bytes)).await?;
        if start == 0 && needs_file(packing(&first[..first.len().min(MAGIC)])) {
            let file = self.spool(bucket, slice, first, bytes).await?;
            return Ok((whole(Input::File(file)), true));
        }
        let reader = RangeReader::new(bucket.clone(), (&slice.name, &slice.version), first, start, bytes);
        let met = reader.met();
        Ok((Opened { input: Some(Input::Stream(Box::new(reader))), met, file: None }, false))
    }

    /// Copies an object into a file without a name.
    async fn spool(
        &self,
        bucket: &Bucket,
        slice: &Slice,
        first: Bytes,
        bytes: u64,
    ) -> Result<File, SliceFailure> {
        let spool = self.spool.clone();
        let at = first.len() as u64;
        let file = blocking(move || spooled(&spool, |file| file.write_all(&first))).await??;
        let file = Arc::new(file);
        let pieces = std::iter::successors(piece(at, bytes), |before| piece(before.end, bytes));
        futures::stream::iter(pieces)
            .map(|range| async {
                let start = range.start;
                Ok::<_, SliceFailure>((start, bucket.get(&slice.name, &slice.version, Some(range)).await?))
            })
            .buffered(PIECES_AT_ONCE)
            .try_for_each(|(start, bytes)| {
                let (file, spool) = (Arc::clone(&file), self.spool.clone());
                async move {
                    let written = blocking(move || file.write_all_at(&bytes, start)).await?;
                    written.map_err(|error| SliceFailure::Source(spool_failed(&spool, &error)))
                }
            })
            .await?;
        file.try_clone().map_err(|error| SliceFailure::Source(spool_failed(&self.spool, &error)))
    }

    fn refuse(&self, about: &About, bytes: u64) -> SliceFailure {
        SliceFailure::Broken(format!(
            "{}: {bytes} bytes are more than `max_object` ({}): raise it, or write the object in pieces",
            about.address, self.max_object
        ))
    }

    /// Notes what a page had that is not ours.
    fn count(&self, unfit: Unfit, first: bool, last: bool) {
        let mut counting = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        if first {
            counting.now = Some(Unfit::default());
        }
        // A list of the last names only says nothing of all of them.
        let Some(now) = &mut counting.now else { return };
        now.count += unfit.count;
        if now.example.is_none() {
            now.example = unfit.example;
        }
        if last {
            let now = counting.now.take().unwrap_or_default();
            if now.count != counting.last.count
                && let Some(example) = &now.example
            {
                tracing::info!(count = now.count, example, "objects whose names do not fit are not taken");
            }
            counting.last = now;
        }
    }
}

/// Opens a file of a folder for unpacking. Blocking.
fn open_file(folder: &Folder, about: &About, resume: Option<&Resume>) -> Result<Opened, SliceFailure> {
    let mut file = folder.open(&about.name, &about.version)?;
    let failed = |error: io::Error| SliceFailure::Source(folder::failed(&about.address, &error));
    let watched = file.try_clone().map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let mut magic = [0; MAGIC];
    let seen = file.read_at(&mut magic, 0).map_err(failed)?;
    let input = if needs_file(packing(&magic[..seen])) {
        Input::File(file)
    } else {
        let start = resume.and_then(Resume::byte).unwrap_or(0).min(length);
        file.seek(SeekFrom::Start(start)).map_err(failed)?;
        Input::Stream(Box::new(io::Read::take(file, length - start)))
    };
    Ok(Opened { input: Some(input), met: Met::default(), file: Some((folder.clone(), watched)) })
}

/// A file without a name that `write` filled, at its start.
fn spooled(spool: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> Result<File, Failure> {
    let made = || {
        std::fs::create_dir_all(spool)?;
        let mut file = tempfile::tempfile_in(spool)?;
        write(&mut file)?;
        file.seek(SeekFrom::Start(0))?;
        Ok(file)
    };
    made().map_err(|error| spool_failed(spool, &error))
}

fn spool_failed(spool: &Path, error: &io::Error) -> Failure {
    let problem = format!(
        "cannot write to {}: {error}: see that there is room for the largest archives",
        spool.display()
    );
    Failure::new(FailureKind::NotDone, problem)
}

fn stopped() -> Failure {
    Failure::new(FailureKind::Unknown, "the work was stopped")
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Failure::new(FailureKind::Unknown, format!("the work was stopped: {error}")))
}

fn options(config: &ObjectsConfig) -> Options {
    let format = match config.format {
        ObjectFormat::Auto => Format::Auto,
        ObjectFormat::Ndjson => Format::Ndjson,
        ObjectFormat::Json => Format::Json,
        ObjectFormat::Csv => Format::Csv,
        ObjectFormat::Parquet => Format::Parquet,
    };
    let csv = Csv {
        // It is ASCII: that was checked.
        delimiter: u8::try_from(config.csv.delimiter).unwrap_or(b','),
        header: config.csv.header,
        columns: config.csv.columns.clone(),
    };
    let record_bytes_max = usize::try_from(config.max_record).unwrap_or(usize::MAX);
    Options { format, csv, limits: Limits { record_bytes_max, ..Limits::default() } }
}

impl fmt::Debug for ObjectsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.store {
            Store::Folder(folder) => write!(f, "ObjectsSource({})", folder.address("")),
            Store::Bucket(bucket) => write!(f, "ObjectsSource({bucket:?})"),
        }
    }
}

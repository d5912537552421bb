//! A lake in a folder.
//!
//! A file is written to `<root>/.lakeward-tmp/`, synced, and moved to its name
//! by a rename that refuses to replace, so it is never partly visible and never
//! overwritten. Then the folders are synced, up to the root. A temporary file
//! is locked while it is written: one that can be locked was left by a crash,
//! and the first delivery removes it.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use lakeward_model::limits::read_capped;
use lakeward_model::{DataFile, Failure, FailureKind, LakePath, Timestamp, ids};
use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use tokio::sync::mpsc;

use super::{LakeConfigError, LakeObject, PROBE, Put, TEMPORARY};

/// A lake in a folder. Clones are the same lake.
#[derive(Debug, Clone)]
pub(super) struct Local {
    /// Absolute.
    root: Arc<Path>,
    swept: Arc<Once>,
}

impl Local {
    pub(super) fn open(root: &Path) -> Result<Self, LakeConfigError> {
        let root = std::path::absolute(root).map_err(|error| LakeConfigError::Setting {
            setting: "url",
            problem: format!("{} cannot be made absolute: {error}", root.display()),
        })?;
        Ok(Self { root: root.into(), swept: Arc::new(Once::new()) })
    }

    /// The folder, absolute.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) async fn put(&self, file: &DataFile) -> Result<Put, Failure> {
        let (place, path, body) = (self.clone(), file.path.clone(), file.body.clone());
        self.blocking("write", &file.path, move || place.put_now(&path, &body)).await
    }

    /// Makes the names of `files` durable.
    pub(super) async fn sync_folders(&self, files: &[DataFile]) -> Result<(), Failure> {
        let mut folders = BTreeSet::new();
        for file in files {
            let mut folder = file.path.as_str();
            while let Some((above, _)) = folder.rsplit_once('/') {
                folders.insert(self.root.join(above));
                folder = above;
            }
            folders.insert(self.root.to_path_buf());
        }
        let Some(file) = files.first() else { return Ok(()) };
        let sync = move || folders.iter().try_for_each(|folder| File::open(folder)?.sync_all());
        self.blocking("sync the folder of", &file.path, sync).await
    }

    pub(super) async fn get(&self, path: &LakePath, range: Option<Range<u64>>) -> Result<Bytes, Failure> {
        let name = self.name(path);
        let read = move || {
            let mut file = File::open(name)?;
            let length = file.metadata()?.len();
            let range = range.unwrap_or(0..length);
            file.seek(SeekFrom::Start(range.start))?;
            let wanted = range.end.min(length).saturating_sub(range.start);
            let mut bytes = Vec::with_capacity(usize::try_from(wanted).unwrap_or(0));
            read_capped(file.take(wanted), wanted, &mut bytes)?;
            Ok(Bytes::from(bytes))
        };
        self.blocking("read", path, read).await
    }

    pub(super) async fn delete(&self, path: &LakePath) -> Result<(), Failure> {
        let name = self.name(path);
        let probes = self.root.join(PROBE);
        let delete = move || {
            match fs::remove_file(name) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            // It stays while it holds another probe's file.
            let _ = fs::remove_dir(probes);
            Ok(())
        };
        self.blocking("delete", path, delete).await
    }

    /// Everything below `folder`, each folder's entries in their order.
    pub(super) fn list(&self, folder: &str) -> BoxStream<'static, Result<LakeObject, Failure>> {
        let (sender, receiver) = mpsc::channel(256);
        let (root, folder) = (Arc::clone(&self.root), folder.to_string());
        tokio::task::spawn_blocking(move || {
            let start = root.join(&folder);
            match walk(&root, &start, &sender) {
                // A folder that is not there has no files.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    let _ = sender.blocking_send(Err(failure("list", &start, error)));
                }
                Ok(_) => {}
            }
        });
        futures::stream::unfold(receiver, |mut receiver| async {
            receiver.recv().await.map(|object| (object, receiver))
        })
        .boxed()
    }

    fn name(&self, path: &LakePath) -> PathBuf {
        self.root.join(path.as_str())
    }

    fn put_now(&self, path: &LakePath, body: &[u8]) -> io::Result<Put> {
        let name = self.name(path);
        if let Some(there) = size_of(&name)? {
            return Ok(there);
        }
        let temporary_folder = self.root.join(TEMPORARY);
        create_folders(&temporary_folder)?;
        self.swept.call_once(|| sweep(&temporary_folder));
        let temporary = Temporary::create(&temporary_folder, body)?;
        if let Some(folder) = name.parent() {
            fs::create_dir_all(folder)?;
        }
        if temporary.publish(&name)? {
            return Ok(Put::Created);
        }
        // Somebody else was first.
        size_of(&name)?.ok_or_else(|| io::Error::other("it was there, and then it was not"))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        action: &'static str,
        path: &LakePath,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, Failure> {
        match tokio::task::spawn_blocking(work).await {
            Ok(result) => result.map_err(|error| failure(action, &self.name(path), error)),
            Err(gone) => {
                Err(Failure::new(FailureKind::Unknown, format!("cannot {action} {path}")).caused_by(gone))
            }
        }
    }
}

impl fmt::Display for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = self.root.display().to_string();
        write!(f, "{}/", root.trim_end_matches('/'))
    }
}

/// A synced and locked file without a name in the lake yet; dropping it
/// removes it.
struct Temporary {
    path: Option<PathBuf>,
    /// Holds the lock.
    file: File,
}

impl Temporary {
    fn create(folder: &Path, body: &[u8]) -> io::Result<Self> {
        let mut temporary = Self::locked(folder)?;
        temporary.file.write_all(body)?;
        temporary.file.sync_all()?;
        Ok(temporary)
    }

    fn locked(folder: &Path) -> io::Result<Self> {
        for _ in 0..16 {
            let path = folder.join(ids::fresh().to_string());
            let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            let temporary = Self { path: Some(path), file };
            // Between its creation and the lock it may look stale to a sweep,
            // which then holds the lock, or has removed it already.
            let locked = flock(&temporary.file, FlockOperation::NonBlockingLockExclusive);
            match locked {
                Ok(()) if temporary.file.metadata()?.nlink() > 0 => return Ok(temporary),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("every temporary file was swept away at once"))
    }

    /// Gives it its name. Returns false if the name is taken.
    fn publish(mut self, name: &Path) -> io::Result<bool> {
        let path = self.path.take().expect("it is published once");
        let moved = match renameat_with(CWD, &path, CWD, name, RenameFlags::NOREPLACE) {
            // Not every file system can; then a second link does.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                let linked = fs::hard_link(&path, name);
                if linked.is_ok() {
                    return fs::remove_file(&path).map(|()| true);
                }
                linked
            }
            renamed => renamed.map_err(io::Error::from),
        };
        if moved.is_err() {
            self.path = Some(path);
        }
        match moved {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            other => other.map(|()| true),
        }
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What stays is swept by the next process.
            let _ = fs::remove_file(path);
        }
    }
}

/// Removes what a crash left: temporary files that nobody holds locked. It is
/// no failure if that does not work.
fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Ok(file) = File::open(&path) else { continue };
        // The lock is held until the file is gone.
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() && fs::remove_file(&path).is_ok() {
            tracing::info!(path = %path.display(), "removed a temporary file that a crash had left");
        }
    }
}

/// Creates a folder and what is missing above it, each synced into the folder
/// above.
fn create_folders(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(above) = folder.parent() {
        create_folders(above)?;
        match fs::create_dir(folder) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => File::open(above)?.sync_all()?,
        }
    }
    Ok(())
}

fn size_of(name: &Path) -> io::Result<Option<Put>> {
    match fs::symlink_metadata(name) {
        Ok(found) => Ok(Some(Put::AlreadyThere { bytes: found.len() })),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sends the files below `folder`. Returns whether anyone still listens.
fn walk(root: &Path, folder: &Path, sender: &mpsc::Sender<Result<LakeObject, Failure>>) -> io::Result<bool> {
    let mut entries: Vec<(OsString, fs::FileType)> = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        entries.push((entry.file_name(), entry.file_type()?));
    }
    entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    for (name, kind) in entries {
        let path = folder.join(&name);
        if kind.is_dir() {
            let ours = folder == root && name == TEMPORARY;
            if !ours && !walk(root, &path, sender)? {
                return Ok(false);
            }
        } else if let Some(object) = object(root, &path)?
            && sender.blocking_send(Ok(object)).is_err()
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `None` for what cannot be ours: a name that is no lake path, or a file that
/// has gone meanwhile.
fn object(root: &Path, path: &Path) -> io::Result<Option<LakeObject>> {
    let inside = path.strip_prefix(root).ok().and_then(Path::to_str);
    let Some(lake_path) = inside.and_then(|inside| LakePath::new(inside).ok()) else { return Ok(None) };
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    let since = metadata.modified()?.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let modified = Timestamp(i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
    Ok(Some(LakeObject { path: lake_path, size: metadata.len(), modified }))
}

/// What an error of the file system says about what was tried.
fn failure(action: &str, path: &Path, error: io::Error) -> Failure {
    let (kind, advice) = match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (FailureKind::NotDone, ": make room on the disk")
        }
        ErrorKind::PermissionDenied => (FailureKind::Refused, ": see who owns the folder and its mode"),
        ErrorKind::ReadOnlyFilesystem => (FailureKind::Refused, ": the file system is mounted read-only"),
        ErrorKind::NotADirectory => (FailureKind::Refused, ": a file stands where a folder has to be"),
        ErrorKind::IsADirectory => (FailureKind::Refused, ": a folder stands where the file has to be"),
        ErrorKind::InvalidFilename => (FailureKind::Refused, ": the name is too long for the file system"),
        ErrorKind::NotFound if action == "read" => (FailureKind::Refused, ""),
        _ => (FailureKind::Unknown, ""),
    };
    Failure::new(kind, format!("cannot {action} {}: {error}{advice}", path.display())).caused_by(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_is_known() {
        let check = |kind: ErrorKind, expect: FailureKind| {
            assert_eq!(failure("write", Path::new("/x"), io::Error::from(kind)).kind, expect, "{kind}");
        };
        check(ErrorKind::StorageFull, FailureKind::NotDone);
        check(ErrorKind::QuotaExceeded, FailureKind::NotDone);
        check(ErrorKind::PermissionDenied, FailureKind::Refused);
        check(ErrorKind::ReadOnlyFilesystem, FailureKind::Refused);
        check(ErrorKind::NotADirectory, FailureKind::Refused);
        check(ErrorKind::InvalidFilename, FailureKind::Refused);
        check(ErrorKind::Other, FailureKind::Unknown);
        check(ErrorKind::NotFound, FailureKind::Unknown);
    }

    #[test]
    fn a_name_is_published_once_and_nothing_stays_behind() {
        let folder = tempfile::tempdir().expect("a folder");
        let name = folder.path().join("name");
        let create = |body: &[u8]| Temporary::create(folder.path(), body).expect("created");
        assert!(create(b"first").publish(&name).expect("published"));
        assert!(!create(b"second").publish(&name).expect("refused"));
        drop(create(b"given up"));
        assert_eq!(fs::read(&name).expect("there"), b"first");
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }

    #[test]
    fn only_what_a_crash_left_is_swept() {
        let folder = tempfile::tempdir().expect("a folder");
        let live = Temporary::create(folder.path(), b"live").expect("created");
        fs::write(folder.path().join("stale"), b"stale").expect("written");
        sweep(folder.path());
        let left: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").flatten().map(|e| e.path()).collect();
        assert_eq!(left, [live.path.clone().expect("a path")]);
    }
}

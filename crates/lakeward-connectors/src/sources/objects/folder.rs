//! Files below a folder. Names that start with a dot are left alone: programs
//! write to such names what is not done yet.

use std::collections::BinaryHeap;
use std::fs::{self, File, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use lakeward_model::{Failure, FailureKind, SliceFailure, Timestamp};

use super::names::Object;

/// How many names are kept of one walk: a folder of a million files is read
/// twenty times, not a thousand times.
const WINDOW: usize = 50_000;
/// Deeper folders are not walked into; a file system that is its own child
/// would have no end.
const DEPTH_MAX: usize = 64;

/// Files below a folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    window: Arc<Mutex<Window>>,
}

/// The names that one walk found and that were not asked for yet.
#[derive(Debug, Default)]
struct Window {
    prefix: String,
    /// Ascending.
    names: Vec<String>,
    /// Behind the last of them there is nothing.
    complete: bool,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, window: Arc::default() }
    }

    /// The next objects whose name starts with `prefix` and lies behind
    /// `after`, in the order of their bytes; and where the list goes on.
    /// Blocking.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        count: usize,
    ) -> Result<(Vec<Object>, Option<String>), Failure> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let known = after.is_some_and(|after| {
            window.prefix == prefix && window.names.last().is_some_and(|last| after < last.as_str())
        });
        // A list that begins looks afresh.
        if !known {
            *window = self.walk(prefix, after).map_err(|error| self.failed(&error))?;
        }
        let from = after.map_or(0, |after| window.names.partition_point(|name| name.as_str() <= after));
        let to = window.names.len().min(from + count);
        let names: Vec<String> = window.names[from..to].to_vec();
        let ends = to == window.names.len() && window.complete;
        drop(window);
        let next = names.last().filter(|_| !ends).cloned();
        let mut objects = Vec::with_capacity(names.len());
        for name in names {
            match fs::metadata(self.root.join(&name)) {
                Ok(found) if found.is_file() => objects.push(object(name, &found)),
                Ok(_) => {}
                // Removed meanwhile, or a link to nothing.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok((objects, next))
    }

    /// Opens a file if it is still what was listed. Blocking.
    pub(super) fn open(&self, name: &str, version: &str) -> Result<File, SliceFailure> {
        let file = match File::open(self.root.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SliceFailure::Gone(format!("{} is not there any more", self.address(name))));
            }
            Err(error) => return Err(SliceFailure::Source(failed(&self.address(name), &error))),
        };
        self.check(&file, name, version)?;
        Ok(file)
    }

    /// Whether the open file is still what was listed.
    pub(super) fn check(&self, file: &File, name: &str, version: &str) -> Result<(), SliceFailure> {
        let found = file.metadata().map_err(|error| failed(&self.address(name), &error))?;
        if object(String::new(), &found).version == version {
            return Ok(());
        }
        Err(SliceFailure::Gone(format!("{} was changed since it was listed", self.address(name))))
    }

    pub(super) fn address(&self, name: &str) -> String {
        self.root.join(name).display().to_string()
    }

    fn walk(&self, prefix: &str, after: Option<&str>) -> io::Result<Window> {
        let mut walk = Walk { prefix, after, found: Vec::new() };
        let start = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        // Never out of the root, whatever was asked for.
        let leaves = start.split('/').any(|part| part == ".." || part == ".");
        let name = if start.is_empty() { String::new() } else { format!("{start}/") };
        if !leaves {
            match walk.folder(&self.root.join(start), &name, 0) {
                // The root itself must be there; else a mistake looks like
                // an empty source.
                Err(error) if error.kind() == ErrorKind::NotFound && self.root.is_dir() => {}
                other => other?,
            }
        }
        let complete = walk.found.len() <= WINDOW;
        walk.found.truncate(WINDOW);
        Ok(Window { prefix: prefix.into(), names: walk.found, complete })
    }

    fn failed(&self, error: &io::Error) -> Failure {
        failed(&self.root.display().to_string(), error)
    }
}

/// A walk that ends when it has found more than [`WINDOW`] names.
struct Walk<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    found: Vec<String>,
}

impl Walk<'_> {
    /// `name` is the folder's below the root, with a slash at its end.
    fn folder(&mut self, path: &Path, name: &str, depth: usize) -> io::Result<()> {
        let mut smallest = BinaryHeap::new();
        let room = WINDOW + 1 - self.found.len();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let Ok(own) = entry.file_name().into_string() else { continue };
            if own.starts_with('.') {
                continue;
            }
            let kind = entry.file_type()?;
            // A folder's place in the order of names is that of what it holds.
            let full = if kind.is_dir() { format!("{name}{own}/") } else { format!("{name}{own}") };
            if !self.leads_to_wanted(&full, kind.is_dir())
                || !(kind.is_dir() || kind.is_file() || kind.is_symlink())
            {
                continue;
            }
            smallest.push(full);
            if smallest.len() > room {
                smallest.pop();
            }
        }
        for full in smallest.into_sorted_vec() {
            if self.found.len() > WINDOW {
                return Ok(());
            }
            let Some(own) = full.strip_suffix('/') else {
                self.found.push(full);
                continue;
            };
            if depth < DEPTH_MAX {
                let own = own.rsplit_once('/').map_or(own, |(_, own)| own);
                match self.folder(&path.join(own), &full, depth + 1) {
                    // Removed meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    other => other?,
                }
            }
        }
        Ok(())
    }

    fn leads_to_wanted(&self, full: &str, folder: bool) -> bool {
        let behind = self.after.is_none_or(|after| full > after || (folder && after.starts_with(full)));
        let fits = full.starts_with(self.prefix) || (folder && self.prefix.starts_with(full));
        behind && fits
    }
}

fn object(name: String, found: &Metadata) -> Object {
    let since = i128::from(found.mtime()) * 1_000_000_000 + i128::from(found.mtime_nsec());
    Object {
        name,
        version: format!("{}-{since}-{}", found.len(), found.ino()),
        bytes: found.len(),
        modified: Timestamp(i64::try_from(since / 1_000).unwrap_or(i64::MAX)),
    }
}

/// What an error of the file system says.
pub(super) fn failed(address: &str, error: &io::Error) -> Failure {
    let (kind, advice) = match error.kind() {
        ErrorKind::NotFound => (FailureKind::Refused, ": check `url`, or make the folder"),
        ErrorKind::NotADirectory => (FailureKind::Refused, ": `url` is a file, not a folder"),
        ErrorKind::PermissionDenied => (FailureKind::Refused, ": see who owns it and its mode"),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            (FailureKind::NotDone, ": make room on the disk")
        }
        _ => (FailureKind::Unknown, ""),
    };
    Failure::new(kind, format!("cannot read {address}: {error}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, name: &str) {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, name).expect("written");
    }

    fn all(folder: &Folder, prefix: &str, count: usize) -> Vec<String> {
        let (mut names, mut after) = (Vec::new(), None);
        loop {
            let (objects, next) = folder.list(prefix, after.as_deref(), count).expect("listed");
            names.extend(objects.into_iter().map(|object| object.name));
            match next {
                Some(next) => after = Some(next),
                None => return names,
            }
        }
    }

    #[test]
    fn names_come_in_the_order_of_their_bytes() {
        let root = tempfile::tempdir().expect("a folder");
        for name in ["b", "a/x", "a-b/y", "a.txt", "a/c/d", "a/c-d", "z/.hidden", ".hidden/x", "ä/ö"] {
            write(root.path(), name);
        }
        let folder = Folder::new(root.path().into());
        let mut expect = vec!["b", "a/x", "a-b/y", "a.txt", "a/c/d", "a/c-d", "ä/ö"];
        expect.sort_unstable();
        for count in [1, 2, 3, 100] {
            assert_eq!(all(&folder, "", count), expect, "{count}");
        }
        assert_eq!(all(&folder, "a", 2), ["a-b/y", "a.txt", "a/c-d", "a/c/d", "a/x"]);
        assert_eq!(all(&folder, "a/c", 1), ["a/c-d", "a/c/d"]);
        assert_eq!(all(&folder, "nope/", 1), [""; 0]);
        assert_eq!(all(&folder, "../", 1), [""; 0]);
        // Behind a name that is no file, as the engine may have it from before.
        let (objects, _) = folder.list("", Some("a/c/"), 1).expect("listed");
        assert_eq!(objects[0].name, "a/c/d");
    }

    #[test]
    fn a_file_that_changed_is_not_what_was_listed() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "a");
        let folder = Folder::new(root.path().into());
        let (objects, _) = folder.list("", None, 9).expect("listed");
        let version = &objects[0].version;
        let file = folder.open("a", version).expect("it opens");
        fs::write(root.path().join("a"), "longer than it was").expect("written");
        assert!(matches!(folder.open("a", version), Err(SliceFailure::Gone(_))));
        assert!(matches!(folder.check(&file, "a", version), Err(SliceFailure::Gone(_))));
        fs::remove_file(root.path().join("a")).expect("removed");
        assert!(matches!(folder.open("a", version), Err(SliceFailure::Gone(_))));
        let missing = Folder::new(root.path().join("missing"));
        let failure = missing.list("", None, 9).expect_err("no such folder");
        assert!(failure.kind == FailureKind::Refused && failure.message.contains("check `url`"), "{failure}");
    }
}

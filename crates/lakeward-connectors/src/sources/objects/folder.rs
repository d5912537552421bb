//! Files below a folder. Names that start with a dot are left alone: programs
//! write to such names what is not done yet.
//!
//! Nothing outside the folder is listed or read, whatever prefix is asked for
//! and wherever links lead: who may ask for a list, or put a file there, may
//! not be one who may read this machine's other files.

use std::collections::{BinaryHeap, VecDeque};
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
/// How many lists may go on with the names that are kept.
const LISTS: usize = 64;
/// Deeper folders are not walked into; a file system that is its own child
/// would have no end.
const DEPTH_MAX: usize = 64;

/// Files below a folder.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    window: Arc<Mutex<Window>>,
}

/// A page of a list.
#[derive(Debug, Default)]
pub(super) struct Files {
    pub(super) objects: Vec<Object>,
    /// The name behind which the list goes on.
    pub(super) next: Option<String>,
    /// One that cannot be taken, and how many there were of them.
    pub(super) odd: Option<(String, usize)>,
}

/// The names that one walk found and that were not asked for yet.
#[derive(Debug, Default)]
struct Window {
    prefix: String,
    /// Ascending.
    names: Vec<Found>,
    /// Behind the last of them there is nothing.
    complete: bool,
    /// Where lists go on: each may do so once. One that begins anywhere else
    /// looks afresh.
    goes_on: VecDeque<String>,
}

/// What lies in a folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    /// Below the root; a folder's has a slash at its end.
    name: String,
    /// It cannot be taken: its name is no text, it is a link to a folder or out
    /// of the root, or a folder too deep.
    odd: bool,
}

impl Folder {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root, window: Arc::default() }
    }

    /// The next objects whose name starts with `prefix` and lies behind
    /// `after`, in the order of their bytes; and where the list goes on.
    /// Blocking.
    pub(super) fn list(&self, prefix: &str, after: Option<&str>, count: usize) -> Result<Files, Failure> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let goes_on = after.and_then(|after| window.goes_on.iter().position(|name| name == after));
        let goes_on = goes_on.and_then(|at| window.goes_on.remove(at)).is_some();
        let known = after.is_some_and(|after| {
            window.prefix == prefix && window.names.last().is_some_and(|last| after < last.name.as_str())
        });
        if !goes_on || !known {
            let goes_on = std::mem::take(&mut window.goes_on);
            *window = self.walk(prefix, after).map_err(|error| self.failed(&error))?;
            window.goes_on = goes_on;
        }
        let from =
            after.map_or(0, |after| window.names.partition_point(|found| found.name.as_str() <= after));
        let to = window.names.len().min(from + count);
        let found: Vec<Found> = window.names[from..to].to_vec();
        let ends = to == window.names.len() && window.complete;
        let next = found.last().filter(|_| !ends).map(|found| found.name.clone());
        if let Some(next) = &next {
            window.goes_on.truncate(LISTS - 1);
            window.goes_on.push_front(next.clone());
        }
        drop(window);
        let mut files = Files { next, ..Files::default() };
        for Found { name, odd } in found {
            if odd {
                files.odd = Some(match files.odd {
                    Some((first, many)) => (first, many + 1),
                    None => (name, 1),
                });
                continue;
            }
            match fs::metadata(self.root.join(&name)) {
                Ok(about) if about.is_file() => files.objects.push(object(name, &about)),
                Ok(_) => {}
                // Removed meanwhile, or a link to nothing.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(files)
    }

    /// Opens a file if it is still what was listed. Blocking.
    pub(super) fn open(&self, name: &str, version: &str) -> Result<File, SliceFailure> {
        let address = self.address(name);
        let file = match self.inside(name) {
            Ok(Some(path)) => File::open(path),
            Ok(None) => {
                let problem =
                    format!("{address} does not lie in the folder of `url`, and nothing else is read");
                return Err(SliceFailure::Broken(problem));
            }
            Err(error) => Err(error),
        };
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(SliceFailure::Gone(format!("{address} is not there any more")));
            }
            Err(error) => return Err(SliceFailure::Source(failed(&address, &error))),
        };
        self.check(&file, name, version)?;
        Ok(file)
    }

    /// Where the file really lies; nothing if that is not below the root.
    fn inside(&self, name: &str) -> io::Result<Option<PathBuf>> {
        if !is_below(name) {
            return Ok(None);
        }
        let path = fs::canonicalize(self.root.join(name))?;
        Ok(Some(path).filter(|path| fs::canonicalize(&self.root).is_ok_and(|root| path.starts_with(root))))
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
        // The root itself must be there; else a mistake looks like an empty
        // source.
        let root = fs::canonicalize(&self.root)?;
        if !root.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        let mut walk = Walk { prefix, after, root: &root, found: Vec::new() };
        match prefix.rsplit_once('/') {
            None => walk.folder(&root, "", 0)?,
            Some((start, _)) if self.is_walked(start)? => {
                match walk.folder(&root.join(start), &format!("{start}/"), start.split('/').count()) {
                    // Removed meanwhile.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    other => other?,
                }
            }
            Some(_) => {}
        }
        let complete = walk.found.len() <= WINDOW;
        walk.found.truncate(WINDOW);
        Ok(Window { prefix: prefix.into(), names: walk.found, complete, ..Window::default() })
    }

    /// Whether a walk from the root comes to this folder: it is there, and no
    /// part of its path is hidden or a link.
    fn is_walked(&self, folder: &str) -> io::Result<bool> {
        if !is_below(folder) || folder.split('/').count() > DEPTH_MAX {
            return Ok(false);
        }
        let mut path = self.root.clone();
        for part in folder.split('/') {
            path.push(part);
            match fs::symlink_metadata(&path) {
                Ok(found) if found.is_dir() => {}
                Ok(_) => return Ok(false),
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn failed(&self, error: &io::Error) -> Failure {
        failed(&self.root.display().to_string(), error)
    }
}

/// A walk that ends when it has found more than [`WINDOW`] names.
struct Walk<'a> {
    prefix: &'a str,
    after: Option<&'a str>,
    /// Where the root really lies.
    root: &'a Path,
    found: Vec<Found>,
}

impl Walk<'_> {
    /// `name` is the folder's below the root, with a slash at its end.
    fn folder(&mut self, path: &Path, name: &str, depth: usize) -> io::Result<()> {
        let mut smallest = BinaryHeap::new();
        let room = WINDOW + 1 - self.found.len();
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let (own, mut odd) = match entry.file_name().into_string() {
                Ok(own) => (own, false),
                Err(own) => (own.to_string_lossy().into_owned(), true),
            };
            if own.starts_with('.') {
                continue;
            }
            let kind = entry.file_type()?;
            // A folder's place in the order of names is that of what it holds.
            let name = if kind.is_dir() { format!("{name}{own}/") } else { format!("{name}{own}") };
            if !self.leads_to_wanted(&name, kind.is_dir())
                || !(kind.is_dir() || kind.is_file() || kind.is_symlink())
            {
                continue;
            }
            if kind.is_dir() && depth >= DEPTH_MAX {
                odd = true;
            }
            if kind.is_symlink() {
                match self.is_link_inside(&entry.path()) {
                    Some(inside) => odd |= !inside,
                    None => continue,
                }
            }
            smallest.push(Found { name, odd });
            if smallest.len() > room {
                smallest.pop();
            }
        }
        for found in smallest.into_sorted_vec() {
            if self.found.len() > WINDOW {
                return Ok(());
            }
            let Some(own) = found.name.strip_suffix('/').filter(|_| !found.odd) else {
                self.found.push(found);
                continue;
            };
            let own = own.rsplit_once('/').map_or(own, |(_, own)| own);
            match self.folder(&path.join(own), &found.name, depth + 1) {
                // Removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Whether a link leads to a file below the root; nothing if it leads to
    /// nothing.
    fn is_link_inside(&self, path: &Path) -> Option<bool> {
        match fs::canonicalize(path) {
            Ok(target) => Some(target.starts_with(self.root) && !target.is_dir()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(_) => Some(false),
        }
    }

    fn leads_to_wanted(&self, full: &str, folder: bool) -> bool {
        let behind = self.after.is_none_or(|after| full > after || (folder && after.starts_with(full)));
        let fits = full.starts_with(self.prefix) || (folder && self.prefix.starts_with(full));
        behind && fits
    }
}

/// Whether a name is that of something below a folder that is not hidden: not
/// absolute, and no part of it is empty or starts with a dot, as `..` does.
fn is_below(name: &str) -> bool {
    name.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
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
            let files = folder.list(prefix, after.as_deref(), count).expect("listed");
            names.extend(files.objects.into_iter().map(|object| object.name));
            match files.next {
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
        // A list that begins behind a name looks afresh, too.
        write(root.path(), "a/xx");
        let files = folder.list("", Some("a/c/d"), 2).expect("listed");
        assert_eq!(files.objects[1].name, "a/xx");
        // Behind a name that is no file, as the engine may have it from before.
        let files = folder.list("", Some("a/c/"), 1).expect("listed");
        assert_eq!(files.objects[0].name, "a/c/d");
    }

    #[test]
    fn nothing_outside_the_folder_is_listed_or_read() {
        let outside = tempfile::tempdir().expect("a folder");
        write(outside.path(), "secret");
        let root = tempfile::tempdir().expect("a folder");
        for name in ["a/b", "a/.hidden/c", "d"] {
            write(root.path(), name);
        }
        let link =
            |to: PathBuf, name: &str| std::os::unix::fs::symlink(to, root.path().join(name)).expect("linked");
        link(outside.path().join("secret"), "link");
        link(outside.path().into(), "links");
        link(root.path().join("d"), "same");
        let folder = Folder::new(root.path().into());
        let secret = outside.path().join("secret").display().to_string();
        let relative = format!("../{}/", outside.path().file_name().expect("a name").to_string_lossy());
        for prefix in [
            &format!("{}/", outside.path().display()),
            &relative,
            &format!("a/../{relative}"),
            "/etc/",
            "/",
            "a//b",
            "a//",
            "a/./",
            "../",
            "a/../",
            "a/.hidden/",
            "links/",
            "d/",
            "link",
        ] {
            assert_eq!(all(&folder, prefix, 9), [""; 0], "{prefix}");
        }
        for name in
            [&secret, &format!("{relative}secret"), "/etc/hostname", "link", "links/secret", "a/../d", ""]
        {
            let path = root.path().join(name);
            let version = fs::metadata(&path).map(|found| object(String::new(), &found).version);
            let opened = folder.open(name, &version.unwrap_or_default());
            assert!(matches!(opened, Err(SliceFailure::Broken(_))), "{name}: {opened:?}");
        }
        assert_eq!(all(&folder, "", 9), ["a/b", "d", "same"]);
        // Also of a root that is a link.
        let behind = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink(root.path(), behind.path().join("root")).expect("linked");
        let folder = Folder::new(behind.path().join("root"));
        let files = folder.list("", None, 9).expect("listed");
        assert_eq!(files.objects.len(), 3);
        assert_eq!(files.odd, Some((String::from("link"), 2)));
        for found in files.objects {
            assert!(folder.open(&found.name, &found.version).is_ok(), "{}", found.name);
        }
    }

    #[test]
    fn what_cannot_be_taken_is_counted_once() {
        use std::os::unix::ffi::OsStrExt;
        let root = tempfile::tempdir().expect("a folder");
        for name in ["a", "m/n", "z"] {
            write(root.path(), name);
        }
        fs::write(root.path().join(std::ffi::OsStr::from_bytes(b"latin-\xe4")), "x").expect("written");
        std::os::unix::fs::symlink(root.path().join("m"), root.path().join("o")).expect("linked");
        std::os::unix::fs::symlink(root.path().join("nothing"), root.path().join("p")).expect("linked");
        let deep = "d/".repeat(DEPTH_MAX + 2);
        write(root.path(), &format!("{deep}file"));
        let folder = Folder::new(root.path().into());
        for count in [1, 2, 100] {
            assert_eq!(all(&folder, "", count), ["a", "m/n", "z"], "{count}");
            let (mut many, mut after) = (0, None);
            loop {
                let files = folder.list("", after.as_deref(), count).expect("listed");
                many += files.odd.map_or(0, |(_, many)| many);
                match files.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            assert_eq!(many, 3, "{count}");
        }
        // As deep as it may be, from wherever one starts.
        assert_eq!(all(&folder, &deep, 9), [""; 0]);
    }

    #[test]
    fn a_file_that_changed_is_not_what_was_listed() {
        let root = tempfile::tempdir().expect("a folder");
        write(root.path(), "a");
        let folder = Folder::new(root.path().into());
        let files = folder.list("", None, 9).expect("listed");
        let version = &files.objects[0].version;
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

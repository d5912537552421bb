use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use lakeward_connectors::destinations::lake::{Lake, LakeConfig};
use lakeward_model::conformance::{Fault, Faulty, Lookup, Subject, destination_suite, sample_batch};
use lakeward_model::{Destination, FailureKind, LakePath};

/// A folder that goes away with its last user, looked at without the lake.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Arc<Self> {
        Arc::new(Self(tempfile::tempdir().expect("a temporary folder")))
    }

    /// The lake's root, which does not exist yet.
    fn root(&self) -> PathBuf {
        self.0.path().join("deep/lake")
    }

    fn lake(&self) -> Lake {
        Lake::open(&LakeConfig::at(self.root().display().to_string())).expect("it opens")
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.root()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() { folders.push(path) } else { found.push(path) }
            }
        }
        found
    }
}

#[async_trait::async_trait]
impl Lookup for Folder {
    async fn paths(&self) -> Vec<LakePath> {
        let inside = |path: &PathBuf| {
            let below =
                path.strip_prefix(self.root()).expect("below the root").to_str().expect("text").to_string();
            LakePath::new(below).expect("a lake path")
        };
        self.files().iter().map(inside).collect()
    }

    async fn bytes(&self, path: &LakePath) -> Option<Bytes> {
        std::fs::read(self.root().join(path.as_str())).ok().map(Bytes::from)
    }
}

#[tokio::test]
async fn a_folder_passes_the_suite() {
    destination_suite(async || {
        let folder = Folder::new();
        Subject { destination: Arc::new(folder.lake()), lookup: folder, faulty: false }
    })
    .await;
}

#[tokio::test]
async fn a_faulty_folder_passes_the_suite() {
    let faults = [
        Fault::Reject(FailureKind::NotDone),
        Fault::FailAfterWrite,
        Fault::Hold,
        Fault::Slow(Duration::from_millis(1)),
        Fault::FailAfterWrite,
    ];
    destination_suite(async || {
        let folder = Folder::new();
        let faulty = Faulty::new(folder.lake(), faults);
        faulty.release();
        Subject { destination: Arc::new(faulty), lookup: folder, faulty: true }
    })
    .await;
}

#[tokio::test]
async fn two_lakes_in_one_folder_write_each_file_once() {
    let folder = Folder::new();
    let lakes = [folder.lake(), folder.lake()];
    let batch = sample_batch(1, 20, 1_000);
    let (a, b) = tokio::join!(lakes[0].deliver(&batch), lakes[1].deliver(&batch));
    let (a, b) = (a.expect("delivered"), b.expect("delivered"));
    for (a, b) in a.files.iter().zip(&b.files) {
        assert!(a.already_there != b.already_there, "one of them wrote it: {a:?} {b:?}");
    }
    assert_eq!(folder.files().len(), 20);
}

#[tokio::test]
async fn what_lies_there_is_left_as_it_is() {
    let folder = Folder::new();
    let batch = sample_batch(1, 1, 10);
    let name = folder.root().join(batch.files[0].path.as_str());
    std::fs::create_dir_all(name.parent().expect("a folder")).expect("made");
    std::fs::write(&name, "by an older release").expect("written");
    let receipt = folder.lake().deliver(&batch).await.expect("success");
    assert_eq!((receipt.files[0].already_there, receipt.files[0].bytes), (true, 19));
    assert_eq!(std::fs::read(&name).expect("there"), b"by an older release");
}

#[tokio::test]
async fn what_a_crash_left_is_removed() {
    let folder = Folder::new();
    let stale = folder.root().join(".lakeward-tmp/stale");
    std::fs::create_dir_all(stale.parent().expect("a folder")).expect("made");
    std::fs::write(&stale, "half a fi").expect("written");
    folder.lake().deliver(&sample_batch(1, 1, 10)).await.expect("delivered");
    assert_eq!(folder.files().len(), 1);
}

#[tokio::test]
async fn failures_say_what_is_known() {
    let folder = Folder::new();
    let batch = sample_batch(1, 3, 10);
    std::fs::create_dir_all(folder.root()).expect("made");
    std::fs::write(folder.root().join("stream=suite"), "a file in the way").expect("written");
    let failure = folder.lake().deliver(&batch).await.expect_err("no folder can be made");
    assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
    // What lies above the lake is no folder.
    let nowhere = Lake::open(&LakeConfig::at("/dev/full/lake")).expect("it opens");
    assert_eq!(nowhere.deliver(&batch).await.expect_err("no folder").kind, FailureKind::Refused);
    let missing = folder.lake().get(&LakePath::new("nope").expect("valid"), None).await;
    assert_eq!(missing.expect_err("not there").kind, FailureKind::Refused);
}

#[tokio::test]
async fn listing_and_reading() {
    let folder = Folder::new();
    let lake = folder.lake();
    assert_eq!(lake.to_string(), format!("{}/", folder.root().display()));
    assert!(list(&lake, "").await.is_empty(), "a lake that is not there yet has no files");
    let batch = sample_batch(1, 30, 100);
    lake.deliver(&batch).await.expect("delivered");
    std::fs::write(folder.root().join(".lakeward-tmp/half"), "x").expect("written");
    let mut expected: Vec<String> = batch.files.iter().map(|f| f.path.to_string()).collect();
    expected.sort();
    assert_eq!(list(&lake, "").await, expected);
    let hour: Vec<String> = expected.iter().filter(|p| p.contains("hour=0")).cloned().collect();
    assert!(!hour.is_empty());
    assert_eq!(list(&lake, "stream=suite/hour=0").await, hour);
    assert_eq!(list(&lake, "stream=suite/hour=00/").await.len(), 2);
    assert!(list(&lake, "nope/").await.is_empty());
    assert!(
        list(&lake, "../lake/").await.is_empty() && list(&lake, "/dev/").await.is_empty(),
        "only below the root"
    );
    let file = &batch.files[3];
    assert_eq!(lake.get(&file.path, None).await.expect("there"), file.body);
    assert_eq!(lake.get(&file.path, Some(10..20)).await.expect("there"), file.body.slice(10..20));
    assert_eq!(lake.get(&file.path, Some(90..200)).await.expect("there"), file.body.slice(90..));
    // Nobody reads the rest: the walk ends.
    assert!(lake.list("").try_next().await.expect("listed").is_some());
}

pub(crate) async fn list(lake: &Lake, prefix: &str) -> Vec<String> {
    let objects: Vec<_> = lake.list(prefix).try_collect().await.expect("listed");
    assert!(objects.iter().all(|o| o.modified.0 > 1_700_000_000_000_000), "{objects:?}");
    let mut paths: Vec<String> = objects.into_iter().map(|o| o.path.to_string()).collect();
    paths.sort();
    paths
}

#[tokio::test]
async fn a_probe_leaves_nothing() {
    let folder = Folder::new();
    let results = folder.lake().probe().await;
    let names: Vec<_> = results.iter().map(|r| (r.name, r.ok)).collect();
    let expect = ["write", "create-only", "read", "list", "delete"].map(|name| (name, true));
    assert_eq!(names, expect, "{results:?}");
    assert_eq!(folder.files(), Vec::<PathBuf>::new());
    let bad = Lake::open(&LakeConfig::at("/dev/full/lake")).expect("it opens").probe().await;
    assert!(bad.len() == 1 && !bad[0].ok && bad[0].message.contains("/dev/full"), "{bad:?}");
    assert!(Path::new("/dev/full").exists());
}

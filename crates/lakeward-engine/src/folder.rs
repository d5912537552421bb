//! Where a pipeline keeps its files in the state directory.

use std::path::{Path, PathBuf};

/// A pipeline's place in the state directory.
#[derive(Debug, Clone)]
pub(crate) struct Folder {
    state: PathBuf,
    /// Readable, and different for different names whatever they hold.
    name: String,
}

impl Folder {
    pub(crate) fn new(state: &Path, pipeline: &str) -> Self {
        let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        let readable: String = pipeline.chars().filter(plain).take(40).collect();
        let hash = xxhash_rust::xxh3::xxh3_64(pipeline.as_bytes());
        Self { state: state.to_path_buf(), name: format!("{readable}-{hash:016x}") }
    }

    /// The dedup keys.
    pub(crate) fn dedup(&self) -> PathBuf {
        self.state.join("dedup").join(&self.name)
    }

    /// What a Lambda function said of the batches under way.
    pub(crate) fn lambda(&self) -> PathBuf {
        self.state.join("lambda").join(&self.name)
    }

    /// Removes everything. What stays is named by nobody.
    pub(crate) fn remove(&self) {
        for folder in [self.dedup(), self.lambda()] {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipelines_do_not_share_a_folder() {
        let folder = |name| Folder::new(Path::new("/state"), name).dedup();
        assert!(folder("events").starts_with("/state/dedup"));
        assert_ne!(folder("a/b"), folder("a.b"));
        assert_ne!(folder("../../etc"), folder("etc"));
        assert_eq!(folder("../../etc").parent(), Some(Path::new("/state/dedup")));
    }
}

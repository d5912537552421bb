//! A lake as an object store: for those who read many files, in parts.

use std::fmt;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::path::Path;

use super::config::Location;
use super::local::Local;
use super::s3::S3;
use super::{LakeConfig, LakeConfigError};

/// A lake to read from. Unlike [`super::Lake`], which leaves that to the
/// engine, it tries again when the store fails for a moment.
#[derive(Clone)]
pub struct LakeReader {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The lake's root in it.
    pub base: Path,
}

impl LakeReader {
    /// Opens a lake. Touches nothing.
    ///
    /// # Errors
    /// The configuration cannot be used; nothing but a change of it helps.
    pub fn open(config: &LakeConfig) -> Result<Self, LakeConfigError> {
        config.check()?;
        let wrong = |problem: String| LakeConfigError::Setting { setting: "url", problem };
        match config.location()? {
            Location::Folder(root) => {
                let root = Local::open(&root)?;
                let base = Path::from_absolute_path(root.root()).map_err(|error| wrong(error.to_string()))?;
                Ok(Self { store: Arc::new(LocalFileSystem::new()), base })
            }
            Location::Bucket { bucket, prefix } => {
                let base = Path::parse(&prefix).map_err(|error| wrong(error.to_string()))?;
                Ok(Self { store: Arc::new(S3::for_reading(config, &bucket)?), base })
            }
        }
    }
}

impl fmt::Debug for LakeReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LakeReader({} at {})", self.store, self.base)
    }
}

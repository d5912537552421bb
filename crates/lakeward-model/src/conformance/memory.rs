//! A destination in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::Lookup;
use crate::{Batch, DataFile, DeliveredFile, Destination, Failure, LakePath, Receipt};

/// Keeps delivered files in memory; clones share them.
#[derive(Debug, Clone, Default)]
pub struct MemoryDestination {
    files: Arc<Mutex<BTreeMap<LakePath, DataFile>>>,
}

impl MemoryDestination {
    /// All files, in the order of their paths.
    #[must_use]
    pub fn files(&self) -> Vec<DataFile> {
        self.lock().values().cloned().collect()
    }

    /// The sum of the files' rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.lock().values().map(|file| file.rows).sum()
    }

    /// Puts a file there, as if an earlier try had left it. Returns whether
    /// there was none of that name.
    pub fn put(&self, file: &DataFile) -> bool {
        match self.lock().entry(file.path.clone()) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(file.clone());
                true
            }
        }
    }

    /// Removes a file; whether it was there.
    pub fn remove(&self, path: &LakePath) -> bool {
        self.lock().remove(path).is_some()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LakePath, DataFile>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait::async_trait]
impl Destination for MemoryDestination {
    async fn deliver(&self, batch: &Batch) -> Result<Receipt, Failure> {
        let put = |file: &DataFile| {
            let already_there = !self.put(file);
            let bytes = self.lock()[&file.path].body.len() as u64;
            DeliveredFile { path: file.path.clone(), role: file.role, rows: file.rows, bytes, already_there }
        };
        Ok(Receipt { files: batch.files.iter().map(put).collect() })
    }
}

#[async_trait::async_trait]
impl Lookup for MemoryDestination {
    async fn paths(&self) -> Vec<LakePath> {
        self.lock().keys().cloned().collect()
    }

    async fn bytes(&self, path: &LakePath) -> Option<Bytes> {
        self.lock().get(path).map(|file| file.body.clone())
    }
}

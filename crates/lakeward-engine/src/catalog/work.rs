//! What a step registers: a pure function of what the ledger says.

use std::collections::HashSet;

use lakeward_columnar::table::{NoTable, describe, layout};
use lakeward_model::{Partition, Role, TableDescription};

use crate::ledger::catalog::{CatalogProgress, CatalogWork};
use crate::spec::PipelineSpec;

/// About the most partitions of a step.
const PARTITIONS: usize = 1_000;

/// What is to be registered.
#[derive(Debug)]
pub(super) struct Plan {
    /// The table; `None` while there are no columns.
    pub(super) table: Option<TableDescription>,
    /// Tells one description from another.
    pub(super) fingerprint: Option<u64>,
    /// The version of its columns.
    pub(super) schema_version: u64,
    /// Partitions that are new, each once.
    pub(super) partitions: Vec<Partition>,
    /// Files that lie in no folder of the layout.
    pub(super) skipped: u64,
    /// How far the catalog is then.
    pub(super) to: CatalogProgress,
}

/// Plans a step.
///
/// # Errors
/// The pipeline's files are no table; its configuration must change.
pub(super) fn plan(
    spec: &PipelineSpec,
    destination: &str,
    work: CatalogWork,
    known: &HashSet<Partition>,
) -> Result<Plan, NoTable> {
    let CatalogWork { schemas, batches, mut end } = work;
    let layout = layout(&spec.shape, &schemas.table)?;
    let mut partitions = Vec::new();
    let mut new = HashSet::new();
    let mut skipped = 0;
    for (place, batch) in batches {
        if partitions.len() >= PARTITIONS {
            break;
        }
        for file in batch.files.iter().filter(|file| file.role == Role::Data) {
            let Some((values, folder)) = layout.partition_of(&file.path) else {
                skipped += 1;
                continue;
            };
            let root = batch.destination.trim_end_matches('/');
            let partition = Partition { values, location: format!("{root}/{folder}") };
            if !layout.keys.is_empty() && !known.contains(&partition) && new.insert(partition.clone()) {
                partitions.push(partition);
            }
        }
        if partitions.len() >= PARTITIONS {
            end = place;
        }
    }
    let table = if schemas.table.is_empty() {
        None
    } else {
        Some(describe(&spec.name, destination, &spec.shape, &schemas.table)?)
    };
    let fingerprint = table.as_ref().map(|table| {
        let text = serde_json::to_vec(table).expect("a description is plain data");
        xxhash_rust::xxh3::xxh3_64(&text)
    });
    Ok(Plan { table, fingerprint, schema_version: schemas.table.version, partitions, skipped, to: end })
}

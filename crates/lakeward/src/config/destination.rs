//! Where a pipeline's batches go.

use std::path::Path;

use lakeward_columnar::shape::TableFiles;
use lakeward_connectors::destinations::clickhouse::ClickHouseConfig;
use lakeward_connectors::destinations::lake::LakeConfig;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the files go.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum DestinationConfig {
    /// A folder or an object store.
    Lake(Box<LakeConfig>),
    /// A table of ClickHouse.
    Clickhouse(Box<ClickHouseConfig>),
}

impl DestinationConfig {
    /// The lake that files lie in: all of them, or, where the rows go into a
    /// table, those of quarantine.
    pub(crate) fn lake(&self) -> &LakeConfig {
        match self {
            Self::Lake(lake) => lake,
            Self::Clickhouse(table) => &table.quarantine,
        }
    }

    /// What is different about data files that are loaded into a table.
    pub(crate) fn table_files(&self) -> Option<TableFiles> {
        match self {
            Self::Lake(_) => None,
            Self::Clickhouse(table) => Some(TableFiles { row_ids: table.lineage, rows_per_file: None }),
        }
    }

    /// What is wrong with it: the setting, and what to write instead.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Lake(lake) => lake.check().err().map(|error| error.to_string()),
            Self::Clickhouse(table) => table.check().err().map(|error| error.to_string()),
        }
    }

    /// Makes relative folders relative to `folder`.
    pub(super) fn resolve_in(&mut self, folder: &Path) {
        match self {
            Self::Lake(lake) => lake.resolve_in(folder),
            Self::Clickhouse(table) => table.resolve_in(folder),
        }
    }
}

//! Where a pipeline's batches go.

use std::path::Path;

use lakeward_columnar::shape::{
    CsvOptions, CsvQuote, FileCompression, Output, ParquetCompression, ParquetOptions, TableFiles,
};
use lakeward_connectors::destinations::clickhouse::ClickHouseConfig;
use lakeward_connectors::destinations::lake::LakeConfig;
use lakeward_connectors::destinations::postgres::PostgresConfig;
use lakeward_connectors::destinations::redshift::RedshiftConfig;
use lakeward_connectors::destinations::sql::FileNeeds;
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
    /// A table of a PostgreSQL database.
    Postgres(Box<PostgresConfig>),
    /// A table of an Amazon Redshift cluster or workgroup.
    Redshift(Box<RedshiftConfig>),
}

impl DestinationConfig {
    /// The lake that files lie in: all of them, or, where the rows go into a
    /// table, those of quarantine.
    pub(crate) fn lake(&self) -> &LakeConfig {
        match self {
            Self::Lake(lake) => lake,
            Self::Clickhouse(table) => &table.quarantine,
            Self::Postgres(postgres) => &postgres.quarantine,
            Self::Redshift(redshift) => &redshift.quarantine,
        }
    }

    /// What is different about data files that are loaded into a table.
    pub(crate) fn table_files(&self) -> Option<TableFiles> {
        match self {
            Self::Lake(_) => None,
            Self::Clickhouse(table) => Some(TableFiles { row_ids: table.lineage, rows_per_file: None }),
            Self::Postgres(postgres) => {
                Some(TableFiles { row_ids: postgres.lineage, ..TableFiles::default() })
            }
            Self::Redshift(redshift) => {
                Some(TableFiles { row_ids: redshift.lineage, rows_per_file: redshift.copy.rows_per_file })
            }
        }
    }

    /// How files are encoded, if that is for the destination to say.
    pub(super) fn output(&self) -> Option<Output> {
        let needs = match self {
            Self::Lake(_) | Self::Clickhouse(_) => return None,
            Self::Postgres(postgres) => postgres.files(),
            Self::Redshift(redshift) => redshift.files(),
        };
        Some(match needs {
            // Snappy is what every COPY of Parquet takes.
            FileNeeds::Parquet => Output::Parquet(ParquetOptions {
                compression: ParquetCompression::Snappy,
                ..ParquetOptions::default()
            }),
            FileNeeds::Csv { delimiter, null, gzip } => Output::Csv(CsvOptions {
                compression: if gzip { FileCompression::Gzip } else { FileCompression::None },
                delimiter,
                quote: CsvQuote::Minimal,
                header: false,
                null: null.into(),
            }),
        })
    }

    /// What is wrong with it: the setting, and what to write instead.
    pub(super) fn problem(&self) -> Option<String> {
        match self {
            Self::Lake(lake) => lake.check().err().map(|error| error.to_string()),
            Self::Clickhouse(table) => table.check().err().map(|error| error.to_string()),
            Self::Postgres(postgres) => postgres.check().err().map(|error| error.to_string()),
            Self::Redshift(redshift) => redshift.check().err().map(|error| error.to_string()),
        }
    }

    /// Makes relative folders relative to `folder`.
    pub(super) fn resolve_in(&mut self, folder: &Path) {
        match self {
            Self::Lake(lake) => lake.resolve_in(folder),
            Self::Clickhouse(table) => table.resolve_in(folder),
            Self::Postgres(postgres) => postgres.resolve_in(folder),
            Self::Redshift(redshift) => redshift.resolve_in(folder),
        }
    }
}

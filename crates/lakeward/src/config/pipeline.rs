//! A pipeline in the configuration file.

use std::path::Path;
use std::time::Duration;

use lakeward_columnar::shape::{Processing, Shape};
use lakeward_columnar::table;
use lakeward_connectors::catalogs::glue::GlueConfig;
use lakeward_connectors::functions::FunctionConfig;
use lakeward_engine::{BatchLimits, PipelineSpec};
use lakeward_model::{StreamName, TableSchema, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;
use super::destination::DestinationConfig;
use super::output::OutputConfig;
use super::shaping::{self, DedupConfig, SchemaConfig, SplitConfig, SqlConfig};
use super::sql;

/// One stream to one destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PipelineConfig {
    /// Its name, unique in the file. Changing it makes another pipeline, which
    /// delivers what the journal holds again.
    pub(crate) name: String,
    /// The stream that it delivers: what clients send to.
    pub(crate) stream: String,
    /// When a batch is cut.
    #[serde(default)]
    pub(crate) batch: BatchConfig,
    /// Inflates gzip records first. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) decompress: Option<Decompression>,
    /// Takes a record apart into several. Default not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) split: Option<SplitConfig>,
    /// A function that every record goes through, in Firehose's transform
    /// contract. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) lambda: Option<FunctionConfig>,
    /// A jq expression that gives an object of strings, for
    /// `!{partitionKeyFromQuery:…}` in the path. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) partition_query: Option<String>,
    /// What is put behind every record before it is used. Default nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delimiter: Option<String>,
    /// The columns of the records: what is declared, and whether they may
    /// change.
    #[serde(default)]
    pub(crate) schema: SchemaConfig,
    /// One stateless SELECT over the table `input`, a row per record: its text,
    /// or `{ file: … }`. Default none: the rows are the records'.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sql: Option<SqlConfig>,
    /// Which rows are duplicates and are left out. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) dedup: Option<DedupConfig>,
    /// Whether rows say where their record came from, for those of a source of
    /// files or exports: columns `_file`, `_line` and, if the store tells the
    /// file's version, `_etag`. What a file's name says becomes columns in any
    /// case. Default false.
    #[serde(default)]
    pub(crate) lineage: bool,
    /// Whether rows have the text of their record, byte for byte, as the column
    /// `_raw`: to keep it, or for SQL to make a hash of it. Default false.
    #[serde(default)]
    pub(crate) raw: bool,
    /// What the files look like and where they lie.
    #[serde(default)]
    pub(crate) output: OutputConfig,
    /// Where the files go.
    pub(crate) destination: DestinationConfig,
    /// Where its table and partitions are registered after every batch, so that
    /// no crawler is needed. Default nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) catalog: Option<CatalogConfig>,
}

/// When a batch is cut: at whichever limit is reached first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct BatchConfig {
    /// Bytes of records as received; at most `1GiB`. Default `128MiB`.
    #[serde(with = "units::bytes")]
    #[schemars(with = "units::BytesText")]
    pub(crate) size: u64,
    /// Age of the oldest record. Default `60s`.
    #[serde(with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub(crate) age: Duration,
    /// Records. Default 5,000,000.
    pub(crate) records: u64,
}

impl Default for BatchConfig {
    fn default() -> Self {
        let BatchLimits { bytes, records, age } = BatchLimits::default();
        Self { size: bytes, age, records }
    }
}

/// Where tables are registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum CatalogConfig {
    /// The AWS Glue Data Catalog.
    Glue(GlueConfig),
}

/// How records are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Decompression {
    /// Gzip.
    Gzip,
}

/// Batches beyond this would need more memory than anybody expects of us.
const BATCH_BYTES_MAX: u64 = 1 << 30;

impl PipelineConfig {
    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = self.output.problems(&format!("{path}.output"));
        if let Some(output) = self.destination.output() {
            problems.extend(self.output.against(&output, &format!("{path}.output")));
        }
        if self.name.is_empty() || self.name.len() > 128 || self.name.chars().any(char::is_control) {
            problems.push(Problem::new(format!("{path}.name"), "a name has 1 to 128 characters"));
        }
        if let Err(error) = StreamName::new(&self.stream) {
            problems.push(Problem::new(format!("{path}.stream"), error.to_string()));
        }
        if !(1..=BATCH_BYTES_MAX).contains(&self.batch.size) {
            problems.push(Problem::new(format!("{path}.batch.size"), "a batch has between 1 byte and 1GiB"));
        }
        if self.batch.records == 0 {
            problems.push(Problem::new(format!("{path}.batch.records"), "a batch has at least 1 record"));
        }
        let shape = self.shape();
        if let Err(error) = lakeward_columnar::build::check(&shape) {
            let place = match error.field() {
                at @ ("path" | "error_path" | "time_zone" | "format") => format!("{path}.output.{at}"),
                at => format!("{path}.{at}"),
            };
            problems.push(Problem::new(place, error.to_string()));
        }
        if let Some(Err(error)) = shape.sql.as_deref().map(|sql| sql::check(sql, &self.schema)) {
            problems.push(Problem::new(format!("{path}.sql"), error));
        }
        if let Some(Err(error)) = self.lambda.as_ref().map(FunctionConfig::check) {
            problems.push(Problem::new(format!("{path}.lambda.{}", error.setting), error.problem));
        }
        problems.extend(self.schema.problems(&format!("{path}.schema")));
        problems.extend(self.dedup.iter().flat_map(|dedup| dedup.problems(&format!("{path}.dedup"))));
        if let Some(CatalogConfig::Glue(glue)) = &self.catalog {
            if let Err(error) = glue.check() {
                problems.push(Problem::new(format!("{path}.catalog.{}", error.setting), error.problem));
            }
            if let Err(error) = table::layout(&shape, &TableSchema::default()) {
                problems.push(Problem::new(format!("{path}.catalog"), error.to_string()));
            }
        }
        if let Some(problem) = self.destination.problem() {
            problems.push(Problem::new(format!("{path}.destination"), problem));
        }
        problems
    }

    /// What decides how a batch looks.
    pub(crate) fn shape(&self) -> Shape {
        let table = self.destination.table_files();
        let files = self.output.shape(table.is_some());
        Shape {
            processing: Processing {
                decompress: self.decompress.is_some(),
                split: self.split.clone().map(SplitConfig::split),
                lambda: self.lambda.as_ref().map(shaping::lambda),
                partition_query: self.partition_query.clone(),
                delimiter: self.delimiter.clone(),
            },
            sql: self.sql.as_ref().and_then(SqlConfig::text),
            columns: self.schema.columns.clone(),
            column_limit: self.schema.column_limit,
            contract: self.schema.contract,
            on_mismatch: self.schema.on_mismatch,
            dedup: self.dedup.as_ref().map(DedupConfig::dedup),
            lineage: self.lineage,
            raw: self.raw,
            table,
            output: self.destination.output().unwrap_or(files.output),
            ..files
        }
    }

    /// Reads the files that it names, which lie below `folder`.
    pub(super) fn resolve_in(&mut self, folder: &Path) -> Result<(), Problem> {
        self.destination.resolve_in(folder);
        if let Some(function) = &mut self.lambda {
            function.resolve_in(folder);
        }
        match &mut self.sql {
            Some(sql) => sql.read_in(folder).map_err(|problem| Problem::new("sql", problem)),
            None => Ok(()),
        }
    }

    /// What the engine takes.
    pub(crate) fn spec(&self) -> anyhow::Result<PipelineSpec> {
        Ok(PipelineSpec {
            name: self.name.clone(),
            stream: StreamName::new(&self.stream)?,
            shape: self.shape(),
            from_latest: false,
            batch: BatchLimits { bytes: self.batch.size, records: self.batch.records, age: self.batch.age },
            destination: serde_json::to_value(&self.destination)?,
            catalog: self.catalog.as_ref().map(serde_json::to_value).transpose()?,
            owner: None,
        })
    }
}

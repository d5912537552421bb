//! `lakeward ddl`: the statement that makes a pipeline's lake a table of another
//! engine. One file per dialect.

mod athena;
mod bigquery;
mod clickhouse;
mod databricks;
mod duckdb;
mod redshift_spectrum;
mod snowflake;
mod spark;
#[cfg(test)]
mod tests;

use lakeward_columnar::shape::Shape;
use lakeward_columnar::table::describe;
use lakeward_connectors::catalogs::glue::{GlueConfig, projection::Projection, table_name};
use lakeward_connectors::destinations::lake::LakeConfig;
use lakeward_engine::PipelineSpec;
use lakeward_model::{Column, ColumnType, TableDescription, TableFormat, TableSchema, dotted};

use super::target::{Inspected, TargetArguments, unknown};
use crate::config::{CatalogConfig, Config};
use crate::exit::{Code, coded};
use crate::terminal::Output;
use crate::wiring;

/// Print the statement that makes a pipeline's lake a table of another engine.
#[derive(Debug, clap::Args)]
pub(crate) struct Ddl {
    /// The pipeline.
    pipeline: String,
    /// The engine.
    #[arg(long, value_enum)]
    dialect: Dialect,
    /// The table's name. Default: that of the pipeline's catalog, else the
    /// pipeline's in lower case, with `_` for what is no letter or digit.
    #[arg(long)]
    table: Option<String>,
    /// The database, schema or data set that it is made in. Default: the engine's
    /// present one; for Athena and Redshift Spectrum that of the pipeline's
    /// catalog.
    #[arg(long)]
    database: Option<String>,
    /// Athena: it works the partitions out by itself (partition projection).
    /// Default: as the pipeline's catalog says.
    #[arg(long)]
    projection: bool,
    #[command(flatten)]
    target: TargetArguments,
}

/// The engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
enum Dialect {
    /// Amazon Athena: an external table of the Glue catalog.
    Athena,
    /// Apache Spark SQL: an external table.
    Spark,
    /// Databricks: an external table, and a streaming table beside it.
    Databricks,
    /// Snowflake: a stage and an external table.
    Snowflake,
    /// BigQuery: a BigLake external table.
    Bigquery,
    /// ClickHouse: a view of the files.
    Clickhouse,
    /// Amazon Redshift Spectrum: an external schema and table.
    RedshiftSpectrum,
    /// DuckDB: a view of the files.
    Duckdb,
}

/// What a statement is made from.
struct Table {
    description: TableDescription,
    /// The table's name.
    name: String,
    /// What it is made in, if anybody said so.
    database: Option<String>,
    /// How the lake is reached. None of its secrets are printed.
    lake: LakeConfig,
    /// Whether Athena works the partitions out.
    projection: Option<Projection>,
}

/// A statement, and what a person should know of it.
#[derive(Debug, Default)]
struct Statement {
    /// Printed in front of it as comments.
    notes: Vec<String>,
    text: String,
}

impl Ddl {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let (spec, versions) = found(&config, &self.pipeline).await?;
        let declared = versions.is_empty();
        let schema = versions.last().cloned().or_else(|| columns_declared(&spec.shape)).ok_or_else(|| {
            coded(
                Code::TryAgain,
                format!(
                    "pipeline {} has no columns yet: they come with its first batch, or declare them (schema.columns)",
                    spec.name
                ),
            )
        })?;
        let version = schema.version;
        let table = self.table(&config, &spec, &schema)?;
        let Statement { mut notes, text } = self.dialect.statement(&table);
        notes.insert(0, match declared {
            false => format!("The lake of Lakeward's pipeline {}, with the columns of version {version}.", spec.name),
            true => format!("The lake of Lakeward's pipeline {}, with the columns that are declared; there are none from data yet.", spec.name),
        });
        if out.is_json() {
            out.json(&serde_json::json!({
                "pipeline": spec.name, "dialect": self.dialect, "version": version, "notes": notes, "statement": text,
            }))?;
            return Ok(Code::Done);
        }
        let comments = notes.iter().map(|note| format!("-- {}\n", one_line(note)));
        out.say(format!("{}{}", comments.collect::<String>(), text.trim_end()));
        Ok(Code::Done)
    }

    fn table(&self, config: &Config, spec: &PipelineSpec, schema: &TableSchema) -> anyhow::Result<Table> {
        if spec.shape.table.is_some() {
            let problem = format!("the rows of pipeline {} are in a table already", spec.name);
            return Err(coded(Code::Usage, problem));
        }
        let lake = wiring::lake_config(&config.firehose.buckets, &spec.destination)
            .map_err(|problem| coded(Code::Configuration, problem))?;
        let description = describe(&spec.name, &address(&lake.url), &spec.shape, schema)
            .map_err(|error| coded(Code::Usage, format!("pipeline {}: {error}", spec.name)))?;
        let catalog = config.pipelines.iter().find(|pipeline| pipeline.name == spec.name);
        let catalog = catalog.and_then(|pipeline| pipeline.catalog.as_ref());
        let glue = catalog.map(|CatalogConfig::Glue(glue)| glue);
        let projected = self.projection || glue.is_some_and(|glue| glue.projection);
        let defaults = GlueConfig::default();
        let of_projection = glue.unwrap_or(&defaults);
        Ok(Table {
            description,
            name: self.table.clone().unwrap_or_else(|| {
                glue.map_or_else(|| table_name(&spec.name), |glue| glue.table_for(&spec.name))
            }),
            database: self.database.clone().or_else(|| {
                // Other engines have databases of their own.
                let of_glue = matches!(self.dialect, Dialect::Athena | Dialect::RedshiftSpectrum);
                glue.filter(|_| of_glue).map(|glue| glue.database.clone())
            }),
            lake,
            projection: projected.then(|| Projection {
                from: of_projection.projection_from.clone(),
                values: of_projection.projection_values.clone(),
            }),
        })
    }
}

impl Dialect {
    fn statement(self, table: &Table) -> Statement {
        match self {
            Self::Athena => athena::statement(table),
            Self::Spark => spark::statement(table),
            Self::Databricks => databricks::statement(table),
            Self::Snowflake => snowflake::statement(table),
            Self::Bigquery => bigquery::statement(table),
            Self::Clickhouse => clickhouse::statement(table),
            Self::RedshiftSpectrum => redshift_spectrum::statement(table),
            Self::Duckdb => duckdb::statement(table),
        }
    }
}

/// The pipeline and its columns: from the service, its state, or, if it never
/// ran, the configuration alone.
async fn found(config: &Config, name: &str) -> anyhow::Result<(PipelineSpec, Vec<TableSchema>)> {
    let (all, inspected) = if config.state.exists() {
        let inspected = Inspected::open(config)?;
        (inspected.pipelines(config).await?, Some(inspected))
    } else {
        (config.pipelines.iter().map(|p| p.spec()).collect::<anyhow::Result<Vec<_>>>()?, None)
    };
    let known: Vec<String> = all.iter().map(|spec| spec.name.clone()).collect();
    let spec = all.into_iter().find(|spec| spec.name == name).ok_or_else(|| unknown(name, &known))?;
    let Some(inspected) = inspected else { return Ok((spec, Vec::new())) };
    let started = inspected.status().await?.iter().any(|status| status.pipeline == name);
    let versions = if started { inspected.schema_versions(name).await? } else { Vec::new() };
    Ok((spec, versions))
}

/// The columns that a shape declares; with SQL they are not those of the files.
fn columns_declared(shape: &Shape) -> Option<TableSchema> {
    if shape.sql.is_some() || shape.columns.is_empty() {
        return None;
    }
    let mut columns = Vec::new();
    for (path, mode) in &shape.columns {
        place(&mut columns, &dotted::split(path)?, &mode.column_type());
    }
    Some(TableSchema { version: 0, columns })
}

fn place(columns: &mut Vec<Column>, path: &[String], ty: &ColumnType) {
    let Some((name, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        columns.push(Column { name: name.clone(), ty: ty.clone() });
        return;
    }
    let at = columns.iter().position(|column| column.name == *name).unwrap_or_else(|| {
        columns.push(Column { name: name.clone(), ty: ColumnType::Struct(Vec::new()) });
        columns.len() - 1
    });
    if let ColumnType::Struct(fields) = &mut columns[at].ty {
        place(fields, rest, ty);
    }
}

/// A lake's address as the engine names it: a folder's path or `s3://…`, with a
/// slash at its end.
fn address(url: &str) -> String {
    let path = url.strip_prefix("file://").map_or(url, |path| path.strip_prefix("localhost").unwrap_or(path));
    let path = format!("{}/", path.trim_end_matches('/'));
    if path.contains("://") { path } else { path.replace("/./", "/") }
}

impl Table {
    fn is_local(&self) -> bool {
        !self.description.location.contains("://")
    }

    /// The location, a local folder as `file:///folder/`.
    fn url(&self) -> String {
        lakeward_connectors::catalogs::glue::address(&self.description.location)
    }

    /// The partition keys that are `name=value` folders; readers of folder names
    /// know no others.
    fn hive_keys(&self) -> Vec<&lakeward_model::PartitionKey> {
        let keys = &self.description.partition_keys;
        if keys.iter().all(|key| key.hive) { keys.iter().collect() } else { Vec::new() }
    }

    /// What to say where an engine does not see all keys.
    fn note_of_keys(&self) -> Option<String> {
        let is_whole = self.hive_keys().len() == self.description.partition_keys.len();
        (!is_whole).then(|| {
            String::from(
                "The folders are not all name=value, so they are no columns here; `output.path` can make them so.",
            )
        })
    }

    /// Whether a column is there for its place only: a reader of headers has no
    /// use for it.
    fn is_hidden(&self, column: &Column) -> bool {
        self.description.hidden.contains_key(&column.name)
    }

    /// What to say where an engine reads CSV by position.
    fn notes_of_positions(&self) -> Vec<String> {
        let TableDescription { partition_keys, hidden, format, .. } = &self.description;
        if !matches!(format, TableFormat::Csv { .. }) {
            return Vec::new();
        }
        let why = if partition_keys.iter().any(|key| key.optional) {
            " and files below __missing__ have the key's column too, before others"
        } else {
            ""
        };
        let fit =
            format!("CSV is read by position here: new columns only fit at the end{why}. Parquet has names.");
        let hidden = hidden.iter();
        let hidden =
            hidden.map(|(name, own)| format!("The column {own:?} is called {name}: a folder has its name."));
        std::iter::once(fit).chain(hidden).collect()
    }

    /// `database.table`, each part quoted.
    fn qualified(&self, quote: impl Fn(&str) -> String) -> String {
        self.beside("", quote)
    }

    /// The same for something beside the table, with `ending` behind its name.
    fn beside(&self, ending: &str, quote: impl Fn(&str) -> String) -> String {
        let name = format!("{}{ending}", self.name);
        let parts = self.database.iter().flat_map(|database| database.split('.')).chain([name.as_str()]);
        parts.map(quote).collect::<Vec<_>>().join(".")
    }
}

/// Lines of a list in parentheses, indented, with commas between.
fn list(lines: impl IntoIterator<Item = String>) -> String {
    lines.into_iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join(",\n")
}

/// A string literal: quotes are doubled.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// A string literal where a backslash escapes.
fn escaped_literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'").replace('\n', "\\n").replace('\t', "\\t"))
}

/// A name in double quotes: they are doubled in it.
fn double_quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A name in backticks where a backslash escapes (ClickHouse, BigQuery): a
/// doubled backtick would end it behind a backslash.
fn escaped_back_quoted(name: &str) -> String {
    let name = name.replace('\\', "\\\\").replace('`', "\\`");
    format!("`{}`", name.replace('\n', "\\n").replace('\t', "\\t"))
}

/// A name in backticks: they are doubled in it.
fn back_quoted(name: &str) -> String {
    format!("`{}`", name.replace('`', "``"))
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

//! What a pipeline's files look like and where they lie.

use lakeward_columnar::shape::{
    CsvOptions, CsvQuote, FileCompression, Naming, Newline, Output, ParquetCompression, ParquetOptions, Shape,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// The file formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Default, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FormatName {
    /// Apache Parquet.
    #[default]
    Parquet,
    /// One JSON object per line, re-encoded from columns.
    Ndjson,
    /// Delimited text.
    Csv,
    /// ClickHouse's `RowBinaryWithNamesAndTypes`, for its tables.
    RowBinary,
    /// The bytes as received.
    Verbatim,
}

/// The compressions; which of them a format takes is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CompressionName {
    /// None.
    None,
    /// Gzip.
    Gzip,
    /// Zstandard.
    Zstd,
    /// Snappy (its framing format for whole files).
    Snappy,
}

/// What the files look like and where they lie.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct OutputConfig {
    /// Default `parquet`.
    pub(crate) format: FormatName,
    /// Default `zstd` for Parquet, `none` for the rest.
    pub(crate) compression: Option<CompressionName>,
    /// Firehose's prefix language plus `!{event:<column>}`,
    /// `!{event:<time column>:<pattern>}` and, for records of files and exports,
    /// `!{source:file}`, `!{source:stem}` and `!{source:<part of its name>}`.
    /// Default hourly by arrival; one file for each batch that is loaded into
    /// a table.
    pub(crate) path: Option<String>,
    /// Where quarantined records go. Default `quarantine/…` hourly by arrival.
    pub(crate) error_path: Option<String>,
    /// IANA time zone of the path's times. Default `UTC`.
    pub(crate) time_zone: String,
    /// Parquet: the most rows in a row group. Default 1,048,576.
    pub(crate) row_group_rows: Option<usize>,
    /// Parquet: whether columns may be dictionary-encoded. Default true.
    pub(crate) dictionary: Option<bool>,
    /// Parquet: whether to write statistics. Default true.
    pub(crate) statistics: Option<bool>,
    /// CSV: the character between fields. Default `,`.
    pub(crate) delimiter: Option<char>,
    /// CSV: when fields are quoted. Default `minimal`.
    pub(crate) quote: Option<CsvQuote>,
    /// CSV: whether the first line names the columns. Default true, but never
    /// for a table.
    pub(crate) header: Option<bool>,
    /// CSV: what stands for a missing value. Default nothing.
    pub(crate) null: Option<String>,
    /// Verbatim: whether every record ends with a newline. Default `ensure`.
    pub(crate) newline: Option<Newline>,
}

impl Default for OutputConfig {
    fn default() -> Self {
        let shape = Shape::default();
        Self {
            format: FormatName::Parquet,
            compression: None,
            path: None,
            error_path: shape.error_path,
            time_zone: shape.time_zone,
            row_group_rows: None,
            dictionary: None,
            statistics: None,
            delimiter: None,
            quote: None,
            header: None,
            null: None,
            newline: None,
        }
    }
}

impl OutputConfig {
    /// The part of the shape that is said here, for files that are loaded into
    /// a table, or lie in a lake.
    pub(crate) fn shape(&self, is_table: bool) -> Shape {
        let usual = if is_table { String::new() } else { Shape::default().path };
        Shape {
            output: self.output(is_table),
            path: self.path.clone().unwrap_or(usual),
            error_path: self.error_path.clone(),
            time_zone: self.time_zone.clone(),
            naming: Naming::Batch,
            ..Shape::default()
        }
    }

    fn output(&self, is_table: bool) -> Output {
        let file = match self.compression {
            None | Some(CompressionName::None) => FileCompression::None,
            Some(CompressionName::Gzip) => FileCompression::Gzip,
            Some(CompressionName::Zstd) => FileCompression::Zstd,
            Some(CompressionName::Snappy) => FileCompression::Snappy,
        };
        match self.format {
            FormatName::Parquet => Output::Parquet(self.parquet()),
            FormatName::Ndjson => Output::Ndjson { compression: file },
            FormatName::Csv => {
                let default = CsvOptions::default();
                Output::Csv(CsvOptions {
                    compression: file,
                    delimiter: self.delimiter.unwrap_or(default.delimiter),
                    quote: self.quote.unwrap_or(default.quote),
                    header: self.header.unwrap_or(default.header && !is_table),
                    null: self.null.clone().unwrap_or(default.null),
                })
            }
            FormatName::RowBinary => Output::RowBinary,
            FormatName::Verbatim => {
                Output::Verbatim { compression: file, newline: self.newline.unwrap_or_default() }
            }
        }
    }

    fn parquet(&self) -> ParquetOptions {
        let default = ParquetOptions::default();
        ParquetOptions {
            compression: match self.compression {
                None | Some(CompressionName::Zstd) => ParquetCompression::Zstd,
                Some(CompressionName::Snappy) => ParquetCompression::Snappy,
                Some(CompressionName::Gzip) => ParquetCompression::Gzip,
                Some(CompressionName::None) => ParquetCompression::None,
            },
            row_group_rows: self.row_group_rows.unwrap_or(default.row_group_rows),
            dictionary: self.dictionary.unwrap_or(default.dictionary),
            statistics: self.statistics.unwrap_or(default.statistics),
        }
    }

    /// What is wrong with it; an option that its format does not have is never
    /// silently ignored.
    pub(crate) fn problems(&self, path: &str) -> Vec<Problem> {
        let options = [
            ("row_group_rows", FormatName::Parquet, self.row_group_rows.is_some()),
            ("dictionary", FormatName::Parquet, self.dictionary.is_some()),
            ("statistics", FormatName::Parquet, self.statistics.is_some()),
            ("delimiter", FormatName::Csv, self.delimiter.is_some()),
            ("quote", FormatName::Csv, self.quote.is_some()),
            ("header", FormatName::Csv, self.header.is_some()),
            ("null", FormatName::Csv, self.null.is_some()),
            ("newline", FormatName::Verbatim, self.newline.is_some()),
        ];
        let mut problems: Vec<Problem> = options
            .into_iter()
            .filter(|(_, format, given)| *given && *format != self.format)
            .map(|(option, format, _)| {
                Problem::new(
                    format!("{path}.{option}"),
                    format!("only `format: {}` has this option", name_of(format)),
                )
            })
            .collect();
        if self.format == FormatName::RowBinary
            && !matches!(self.compression, None | Some(CompressionName::None))
        {
            problems.push(Problem::new(format!("{path}.compression"), "row_binary files are not compressed"));
        }
        if self.row_group_rows == Some(0) {
            problems.push(Problem::new(format!("{path}.row_group_rows"), "this is at least 1"));
        }
        if self.delimiter.is_some_and(|c| !c.is_ascii() || matches!(c, '"' | '\r' | '\n')) {
            problems.push(Problem::new(
                format!("{path}.delimiter"),
                "this is one ASCII character, not a quote or a line break",
            ));
        }
        problems
    }
}

impl OutputConfig {
    /// What is said here although the destination says how its files are.
    pub(super) fn against(&self, files: &Output, path: &str) -> Vec<Problem> {
        let is_other = match (self.format, files) {
            // Parquet is also what stands here if nothing is said.
            (FormatName::Parquet, _) | (FormatName::Csv, Output::Csv(_)) => false,
            (FormatName::Csv | FormatName::Ndjson | FormatName::RowBinary | FormatName::Verbatim, _) => true,
        };
        let given = [
            ("format", is_other),
            ("compression", self.compression.is_some()),
            ("delimiter", self.delimiter.is_some()),
            ("quote", self.quote.is_some()),
            ("header", self.header.is_some()),
            ("null", self.null.is_some()),
        ];
        let problem = |(option, _)| {
            Problem::new(format!("{path}.{option}"), "the destination says how its files are: leave it out")
        };
        given.into_iter().filter(|(_, given)| *given).map(problem).collect()
    }
}

fn name_of(format: FormatName) -> &'static str {
    match format {
        FormatName::Parquet => "parquet",
        FormatName::Ndjson => "ndjson",
        FormatName::Csv => "csv",
        FormatName::RowBinary => "row_binary",
        FormatName::Verbatim => "verbatim",
    }
}

//! A pipeline's files as a table for readers that know nothing of us.

use std::collections::BTreeMap;

use lakeward_model::{Column, TableDescription, TableFormat, TableSchema};

use crate::path::{Kind, Layout, LayoutError, Template, TemplateError};
use crate::shape::{Output, ParquetCompression, Shape};

/// Why a shape's files are no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// Verbatim files are not decoded.
    #[error("verbatim files have no columns, so they are no table; choose another format")]
    Verbatim,
    /// Files that only ClickHouse reads.
    #[error("row_binary files are read by ClickHouse alone, so they are no table; choose another format")]
    RowBinary,
    /// The path template is wrong.
    #[error(transparent)]
    Path(#[from] TemplateError),
    /// The folders are no partitions of one table.
    #[error(transparent)]
    Layout(#[from] LayoutError),
}

/// The folders of a shape's table: see [`Layout`].
///
/// # Errors
/// See [`NoTable`]; the configuration must change.
pub fn layout(shape: &Shape, schema: &TableSchema) -> Result<Layout, NoTable> {
    if matches!(shape.output, Output::Verbatim { .. }) {
        return Err(NoTable::Verbatim);
    }
    Ok(Layout::of(&Template::parse(&shape.path, Kind::KeyedPrefix)?, schema)?)
}

/// Describes the files that `pipeline` writes in `shape` below `destination`,
/// an address that ends in `/`, when their columns are `schema`.
///
/// # Errors
/// See [`NoTable`]; the configuration must change.
pub fn describe(
    pipeline: &str,
    destination: &str,
    shape: &Shape,
    schema: &TableSchema,
) -> Result<TableDescription, NoTable> {
    let layout = layout(shape, schema)?;
    let template = Template::parse(&shape.path, Kind::KeyedPrefix)?;
    let format = match &shape.output {
        Output::Parquet(options) => {
            let compression = match options.compression {
                ParquetCompression::Zstd => "zstd",
                ParquetCompression::Snappy => "snappy",
                ParquetCompression::Gzip => "gzip",
                ParquetCompression::None => "none",
            };
            TableFormat::Parquet { compression: compression.into() }
        }
        Output::Ndjson { compression } => TableFormat::Ndjson { compression: *compression },
        Output::Csv(options) => TableFormat::Csv {
            compression: options.compression,
            delimiter: options.delimiter,
            header: options.header,
            null: options.null.clone(),
        },
        Output::RowBinary => return Err(NoTable::RowBinary),
        Output::Verbatim { .. } => return Err(NoTable::Verbatim),
    };
    // What the files do not have: the folder alone says it.
    let dropped = template.hive_columns();
    let is_kept = |column: &&Column| !dropped.contains(&column.name.as_str());
    let mut description = TableDescription {
        pipeline: pipeline.into(),
        location: format!("{}/{}", destination.trim_end_matches('/'), layout.root),
        columns: schema.columns.iter().filter(is_kept).cloned().collect(),
        hidden: BTreeMap::new(),
        partition_keys: layout.keys,
        folders: layout.folders,
        deeper: layout.deeper,
        format,
    };
    hide(&mut description);
    Ok(description)
}

/// A folder's name counts where a file has a column of that name too. In CSV
/// the column keeps its place, as those behind it would move otherwise.
fn hide(table: &mut TableDescription) {
    let is_key: Vec<bool> = table.columns.iter().map(|column| table.key(&column.name).is_some()).collect();
    if !matches!(table.format, TableFormat::Csv { .. }) {
        let mut is_key = is_key.into_iter();
        table.columns.retain(|_| is_key.next() == Some(false));
        return;
    }
    for at in (0..is_key.len()).filter(|&at| is_key[at]) {
        let name = table.name_of_place(at);
        let own = std::mem::replace(&mut table.columns[at].name, name.clone());
        table.hidden.insert(name, own);
    }
}

#[cfg(test)]
mod tests {
    use lakeward_model::ColumnType;

    use super::*;
    use crate::shape::CsvOptions;

    #[test]
    fn columns_that_a_key_hides() {
        let schema = |names: &[&str]| {
            let column = |name: &&str| Column { name: String::from(*name), ty: ColumnType::Utf8 };
            TableSchema { version: 1, columns: names.iter().map(column).collect() }
        };
        let check =
            |output: &Output, path: &str, names: &[&str], expect: &[&str], hidden: &[(&str, &str)]| {
                let shape = Shape { output: output.clone(), path: path.into(), ..Shape::default() };
                let table = describe("p", "s3://b/", &shape, &schema(names)).expect("a table");
                let told: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
                assert_eq!(told, expect, "{path}");
                let own: Vec<_> =
                    table.hidden.iter().map(|(name, own)| (name.as_str(), own.as_str())).collect();
                assert_eq!(own, hidden, "{path}");
            };
        let (parquet, csv) = (Output::default(), Output::Csv(CsvOptions::default()));
        let names = ["id", "day", "Day", "datehour", "n"];
        // The file has no `day`, as its folder says the same; it does have `Day`.
        let (path, hidden) = ("day=!{event:day}/", ("column_2", "Day"));
        check(&parquet, path, &names, &["id", "datehour", "n"], &[]);
        check(&csv, path, &names, &["id", "column_2", "datehour", "n"], &[hidden]);
        // Folders of times and files' columns have nothing to do with each other.
        let path = "day=!{timestamp:yyyy-MM-dd}/";
        check(&parquet, path, &names, &["id", "datehour", "n"], &[]);
        let hidden = [("column_2", "day"), ("column_3", "Day")];
        check(&csv, path, &names, &["id", "column_2", "column_3", "datehour", "n"], &hidden);
        let path = "!{timestamp:yyyy/MM/dd/HH}/";
        check(&parquet, path, &names, &["id", "day", "Day", "n"], &[]);
        check(&csv, path, &names, &["id", "day", "Day", "column_4", "n"], &[("column_4", "datehour")]);
        let names = ["day", "Column_1"];
        check(&csv, "day=!{timestamp:yyyy}/", &names, &["column_1_", "Column_1"], &[("column_1_", "day")]);
    }
}

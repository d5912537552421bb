//! A pipeline's files as a table for readers that know nothing of us.

use lakeward_model::{TableDescription, TableFormat, TableSchema};

use crate::dotted;
use crate::path::{Kind, Layout, LayoutError, Template, TemplateError};
use crate::shape::{Output, ParquetCompression, Shape};

/// Why a shape's files are no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTable {
    /// Verbatim files are not decoded.
    #[error("verbatim files have no columns, so they are no table; choose another format")]
    Verbatim,
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
        Output::Verbatim { .. } => return Err(NoTable::Verbatim),
    };
    // A folder's name counts where a file has a column of that name too.
    let is_key = |name: &str| layout.keys.iter().any(|key| dotted::collide(&key.name, name));
    let columns = schema.columns.iter().filter(|column| !is_key(&column.name)).cloned().collect();
    Ok(TableDescription {
        pipeline: pipeline.into(),
        location: format!("{}/{}", destination.trim_end_matches('/'), layout.root),
        columns,
        partition_keys: layout.keys,
        folders: layout.folders,
        deeper: layout.deeper,
        format,
    })
}

//! The columns of a table: known, or found by looking into its files.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit};
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use futures::{StreamExt, TryStreamExt};
use lakeward_columnar::schema::{JSON_METADATA, TableSchema, ToArrow};
use object_store::{ObjectMeta, ObjectStore};

use super::files::{Folder, Kind, Placed, folder_type};
use super::{QueryError, Table, text};

/// Files looked into at the same time.
const LOOK_AT_ONCE: usize = 16;
/// Enough of a Parquet file's end to hold most footers.
pub(super) const FOOTER_GUESS: usize = 64 << 10;
/// How other writers mark text that is JSON.
const EXTENSION_NAME: &str = "ARROW:extension:name";

/// A table whose columns are known.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) schema: SchemaRef,
    pub(super) files: Vec<Placed>,
    /// The columns as the JSON decoder takes them.
    pub(super) decode: TableSchema,
}

/// Finds out what columns `table` has.
pub(super) async fn resolve(
    table: &Table,
    footers: &Arc<FileMetadataCache>,
    stamp: u64,
) -> Result<Resolved, QueryError> {
    let mut files = table
        .files
        .iter()
        .map(|file| Placed::new(file, &table.base, &table.output))
        .collect::<Result<Vec<_>, _>>()?;
    let known = table.schema.as_ref().filter(|schema| !schema.columns.is_empty());
    let (schema, decode) = match known {
        Some(known) => (known.to_arrow(), known.clone()),
        None => look(table, &files, footers, stamp).await?,
    };
    let all_csv = !files.is_empty() && files.iter().all(|file| matches!(file.kind, Kind::Csv(_)));
    let mut fields: Vec<FieldRef> = schema.fields().iter().map(|field| flat(field, all_csv)).collect();
    add_folders(&mut fields, &mut files);
    Ok(Resolved { schema: Arc::new(Schema::new(fields)), files, decode })
}

/// CSV holds nested values as JSON text.
fn flat(field: &FieldRef, csv: bool) -> FieldRef {
    if csv && field.data_type().is_nested() {
        return Arc::new(Field::new(field.name(), DataType::Utf8, true).with_metadata(json_mark()));
    }
    Arc::clone(field)
}

/// Adds the columns that are folders, or sees that their values fit.
fn add_folders(fields: &mut Vec<FieldRef>, files: &mut [Placed]) {
    // In the order of the paths, as people know them.
    let mut keys: Vec<String> = Vec::new();
    for key in files.iter().flat_map(|file| &file.keys) {
        if !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    for key in keys {
        let known = fields.iter().position(|field| *field.name() == key);
        if known.is_none() {
            files.iter_mut().filter_map(|file| file.folders.get_mut(&key)).for_each(Folder::settle);
        }
        let mut values = files.iter().filter_map(|file| file.folders.get(&key));
        match known {
            None => fields.push(Arc::new(Field::new(key.as_str(), folder_type(values), true))),
            Some(at) => {
                let ty = fields[at].data_type();
                if values.any(|value| value.scalar(ty).is_none()) {
                    fields[at] = Arc::new(Field::new(key.as_str(), DataType::Utf8, true));
                }
            }
        }
    }
}

/// Looks into every file.
async fn look(
    table: &Table,
    files: &[Placed],
    footers: &Arc<FileMetadataCache>,
    stamp: u64,
) -> Result<(SchemaRef, TableSchema), QueryError> {
    let mut fields: Vec<FieldRef> = Vec::new();
    let parquet = files.iter().filter(|file| file.kind == Kind::Parquet);
    let mut found = futures::stream::iter(parquet)
        .map(|file| parquet_schema(table.store.as_ref(), file, footers, stamp))
        .buffered(LOOK_AT_ONCE);
    while let Some(schema) = found.try_next().await? {
        unite_fields(&mut fields, schema.fields());
    }
    let mut decode = TableSchema::default();
    for file in files {
        match file.kind {
            Kind::Parquet => {}
            Kind::Json(packing) => decode = text::json_schema(table, file, packing, decode).await?,
            Kind::Csv(packing) => {
                let names = text::csv_names(table, file, packing).await?;
                let texts = names.iter().map(|name| Arc::new(Field::new(name, DataType::Utf8, true)));
                unite_fields(&mut fields, &texts.collect());
            }
        }
    }
    unite_fields(&mut fields, decode.to_arrow().fields());
    Ok((Arc::new(Schema::new(fields)), decode))
}

/// The columns of a Parquet file.
pub(super) async fn parquet_schema(
    store: &dyn ObjectStore,
    file: &Placed,
    footers: &Arc<FileMetadataCache>,
    stamp: u64,
) -> Result<Schema, QueryError> {
    let meta = object_meta(file, stamp);
    let footer = DFParquetMetadata::new(store, &meta)
        .with_metadata_size_hint(Some(FOOTER_GUESS))
        .with_file_metadata_cache(Some(Arc::clone(footers)));
    footer.fetch_schema().await.map_err(|error| match QueryError::from(error) {
        QueryError::Data(message) => QueryError::Data(format!("{}: {message}", file.location)),
        other => other,
    })
}

/// A file as the store's listing would give it.
///
/// `stamp` stands for the store: the cache of footers knows files by path, size
/// and time only, and two lakes may hold the same path.
pub(super) fn object_meta(file: &Placed, stamp: u64) -> ObjectMeta {
    let mut meta = ObjectMeta {
        location: file.location.clone(),
        last_modified: Default::default(),
        size: file.bytes,
        e_tag: None,
        version: None,
    };
    meta.last_modified += std::time::Duration::from_secs(stamp);
    meta
}

fn unite_fields(fields: &mut Vec<FieldRef>, more: &Fields) {
    for field in more {
        match fields.iter().position(|known| known.name() == field.name()) {
            None => fields.push(Arc::new(plain(field))),
            Some(at) => fields[at] = Arc::new(unite(&fields[at], field)),
        }
    }
}

/// The field without the marks of its writer, but for the one of JSON.
fn plain(field: &Field) -> Field {
    let ty = match field.data_type() {
        DataType::Struct(inner) => DataType::Struct(inner.iter().map(|f| Arc::new(plain(f))).collect()),
        DataType::List(item) => DataType::List(Arc::new(plain(item))),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::Null => DataType::Utf8,
        other => other.clone(),
    };
    let plain = Field::new(field.name(), ty, true);
    if is_json(field) { plain.with_metadata(json_mark()) } else { plain }
}

/// Whether a text column holds JSON.
pub(super) fn is_json(field: &Field) -> bool {
    field.name() == lakeward_columnar::schema::RESCUED
        || field.metadata().get(JSON_METADATA).is_some_and(|value| value == "true")
        || field.metadata().get(EXTENSION_NAME).is_some_and(|value| value == "arrow.json")
}

fn json_mark() -> HashMap<String, String> {
    HashMap::from([(JSON_METADATA.to_string(), "true".to_string())])
}

/// A field that can hold the values of both.
fn unite(a: &Field, b: &Field) -> Field {
    let ty = unite_types(a.data_type(), plain(b).data_type());
    let field = Field::new(a.name(), ty, true);
    if is_json(a) && is_json(b) { field.with_metadata(json_mark()) } else { field }
}

fn unite_types(a: &DataType, b: &DataType) -> DataType {
    match (a, b) {
        (a, b) if a == b => a.clone(),
        (DataType::Struct(a), DataType::Struct(b)) => {
            let mut fields: Vec<FieldRef> = a.iter().cloned().collect();
            unite_fields(&mut fields, b);
            DataType::Struct(fields.into())
        }
        (DataType::List(a), DataType::List(b)) => DataType::List(Arc::new(unite(a, b))),
        (a, b) if a.is_integer() && b.is_integer() => DataType::Int64,
        (a, b) if a.is_numeric() && b.is_numeric() => DataType::Float64,
        (DataType::Timestamp(_, zone), DataType::Timestamp(_, _)) => {
            DataType::Timestamp(TimeUnit::Microsecond, zone.clone())
        }
        _ => DataType::Utf8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_unite() {
        let check = |a: DataType, b: DataType, expect: DataType| assert_eq!(unite_types(&a, &b), expect);
        check(DataType::Int64, DataType::Float64, DataType::Float64);
        check(DataType::Int32, DataType::Int64, DataType::Int64);
        check(DataType::Utf8, DataType::Int64, DataType::Utf8);
        let object = |names: &[(&str, DataType)]| {
            DataType::Struct(names.iter().map(|(name, ty)| Field::new(*name, ty.clone(), true)).collect())
        };
        check(
            object(&[("a", DataType::Int64)]),
            object(&[("b", DataType::Utf8), ("a", DataType::Float64)]),
            object(&[("a", DataType::Float64), ("b", DataType::Utf8)]),
        );
    }
}

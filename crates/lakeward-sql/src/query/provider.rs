//! A table as DataFusion reads it: which files, which parts of them.
//!
//! Files are taken in groups that share a format and the keys of which their
//! paths say the value: an older layout of a pipeline may lack a folder that a
//! newer one has, and then the column is in the file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema as ScanSchema;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use lakeward_columnar::shape::Output;
use object_store::ObjectStore;

use super::files::{Folder, Kind, Placed};
use super::schema::{FOOTER_GUESS, Resolved, object_meta, parquet_schema};
use super::text;

/// The committed files of a pipeline.
#[derive(Debug)]
pub(super) struct Delivered {
    pub(super) resolved: Resolved,
    pub(super) store: Arc<dyn ObjectStore>,
    /// Under which `store` is registered.
    pub(super) url: ObjectStoreUrl,
    /// See [`object_meta`].
    pub(super) stamp: u64,
    pub(super) footers: Arc<FileMetadataCache>,
    pub(super) output: Output,
}

/// The keys of which the paths of some files say the value.
type Keys = BTreeSet<String>;

#[async_trait]
impl TableProvider for Delivered {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.resolved.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Files are left out by them, rows perhaps not.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let schema = &self.resolved.schema;
        let wanted: SchemaRef = match projection {
            Some(projection) => Arc::new(schema.project(projection)?),
            None => Arc::clone(schema),
        };
        let limit = limit.filter(|_| filters.is_empty());
        let mut plans = Vec::new();
        for ((is_parquet, keys), files) in self.groups(state, filters).await? {
            let parallel = state.config().target_partitions();
            plans.push(if is_parquet {
                self.parquet_scan(&keys, &files, &wanted, limit, parallel)?
            } else {
                let scan = text::Scan {
                    store: Arc::clone(&self.store),
                    decode: self.resolved.decode.clone(),
                    output: self.output.clone(),
                    schema: Arc::clone(&wanted),
                };
                text::plan(scan, &keys, files, limit, parallel)?
            });
        }
        match plans.len() {
            0 => Ok(Arc::new(EmptyExec::new(wanted))),
            _ => UnionExec::try_new(plans),
        }
    }
}

impl Delivered {
    /// The files that the filters leave, by whether they are Parquet and by
    /// what their paths say.
    async fn groups(
        &self,
        state: &dyn Session,
        filters: &[Expr],
    ) -> Result<BTreeMap<(bool, Keys), Vec<Placed>>> {
        let mut groups: BTreeMap<(bool, Keys), Vec<Placed>> = BTreeMap::new();
        for file in &self.resolved.files {
            let keys = file.certain().into_iter().map(String::from).collect();
            groups.entry((file.kind == Kind::Parquet, keys)).or_default().push(file.clone());
        }
        let mut left: BTreeMap<(bool, Keys), Vec<Placed>> = BTreeMap::new();
        for ((is_parquet, keys), files) in groups {
            for mut file in self.matching(state, &keys, files, filters)? {
                let mut keys = keys.clone();
                if is_parquet {
                    keys.extend(self.settle(&mut file).await?);
                }
                left.entry((is_parquet, keys)).or_default().push(file);
            }
        }
        Ok(left)
    }

    /// The files that may have rows which pass the filters, by their folders.
    fn matching(
        &self,
        state: &dyn Session,
        keys: &Keys,
        files: Vec<Placed>,
        filters: &[Expr],
    ) -> Result<Vec<Placed>> {
        let schema = Arc::new(Schema::new(self.folder_fields(keys)));
        let known = DFSchema::try_from(Arc::clone(&schema))?;
        let decidable = |filter: &&Expr| {
            let columns = filter.column_refs();
            !columns.is_empty()
                && columns.iter().all(|column| keys.contains(&column.name))
                && !filter.is_volatile()
        };
        // What cannot be evaluated here is evaluated on the rows.
        let unqualified = filters.iter().filter(decidable).map(|filter| unqualified(filter.clone()));
        let conditions: Vec<_> = unqualified
            .filter_map(|filter| filter.and_then(|f| state.create_physical_expr(f, &known)).ok())
            .collect();
        if conditions.is_empty() || files.is_empty() {
            return Ok(files);
        }
        let columns = schema.fields().iter().map(|field| {
            let values = files.iter().map(|file| folder_value(file, field));
            ScalarValue::iter_to_array(values.collect::<Result<Vec<_>>>()?)
        });
        let rows = RecordBatch::try_new_with_options(
            Arc::clone(&schema),
            columns.collect::<Result<_>>()?,
            &RecordBatchOptions::new().with_row_count(Some(files.len())),
        )?;
        let mut keep = vec![true; files.len()];
        for condition in conditions {
            let Ok(passes) = condition.evaluate(&rows).and_then(|value| value.into_array(files.len())) else {
                continue;
            };
            if let Some(passes) = passes.as_boolean_opt() {
                for (at, keep) in keep.iter_mut().enumerate() {
                    *keep &= passes.is_valid(at) && passes.value(at);
                }
            }
        }
        Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
    }

    /// The fields of folder columns, in the table's order.
    fn folder_fields(&self, keys: &Keys) -> Vec<FieldRef> {
        let fields = self.resolved.schema.fields().iter();
        fields.filter(|field| keys.contains(field.name())).cloned().collect()
    }

    /// Looks whether values that may have been cut are in the file; the keys of
    /// those that are not, whose folders have all of the value.
    async fn settle(&self, file: &mut Placed) -> Result<Keys> {
        if !file.folders.values().any(|folder| matches!(folder, Folder::Cut(_))) {
            return Ok(Keys::new());
        }
        let columns = parquet_schema(self.store.as_ref(), file, &self.footers, self.stamp).await;
        let columns = columns.map_err(|error| DataFusionError::External(Box::new(error)))?;
        let mut settled = Keys::new();
        for (key, folder) in &mut file.folders {
            if matches!(folder, Folder::Cut(_)) && columns.field_with_name(key).is_err() {
                folder.settle();
                settled.insert(key.clone());
            }
        }
        Ok(settled)
    }

    fn parquet_scan(
        &self,
        keys: &Keys,
        files: &[Placed],
        wanted: &SchemaRef,
        limit: Option<usize>,
        parallel: usize,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let folders = self.folder_fields(keys);
        let inside = self.resolved.schema.fields().iter().filter(|field| !keys.contains(field.name()));
        let inside = Arc::new(Schema::new(inside.cloned().collect::<Vec<_>>()));
        let schema = ScanSchema::builder(inside).with_table_partition_cols(folders.clone()).build();
        let indices = wanted.fields().iter().map(|field| schema.table_schema().index_of(field.name()));
        let indices = indices.collect::<Result<Vec<_>, _>>()?;
        let (mut rows, mut bytes) = (0_u64, 0_u64);
        let mut group = FileGroup::new(Vec::with_capacity(files.len()));
        for file in files {
            rows = rows.saturating_add(file.rows);
            bytes = bytes.saturating_add(file.bytes);
            let mut part = PartitionedFile::new_from_meta(object_meta(file, self.stamp));
            let values = folders.iter().map(|field| folder_value(file, field));
            part.partition_values = values.collect::<Result<_>>()?;
            group.push(part);
        }
        // Good for the order of joins only: a count is taken from the files.
        let mut statistics = Statistics::new_unknown(schema.table_schema());
        statistics.num_rows = Precision::Inexact(usize::try_from(rows).unwrap_or(usize::MAX));
        statistics.total_byte_size = Precision::Inexact(usize::try_from(bytes).unwrap_or(usize::MAX));
        let source = ParquetSource::new(schema)
            .with_metadata_size_hint(FOOTER_GUESS)
            .with_pushdown_filters(true)
            .with_parquet_file_reader_factory(Arc::new(
                datafusion::datasource::physical_plan::parquet::CachedParquetFileReaderFactory::new(
                    Arc::clone(&self.store),
                    Arc::clone(&self.footers),
                ),
            ));
        let config = FileScanConfigBuilder::new(self.url.clone(), Arc::new(source))
            .with_file_groups(group.split_files(parallel.max(1)))
            .with_statistics(statistics)
            .with_limit(limit)
            .with_projection_indices(Some(indices))?
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// A folder's value, as its column has it.
pub(super) fn folder_value(file: &Placed, field: &FieldRef) -> Result<ScalarValue> {
    let ty: &DataType = field.data_type();
    let value = file.folders.get(field.name()).and_then(|folder| folder.scalar(ty));
    value.ok_or_else(|| {
        DataFusionError::Execution(format!("{}: the folder of {} is no {ty}", file.location, field.name()))
    })
}

/// The filter without the table's name before its columns.
fn unqualified(filter: Expr) -> Result<Expr> {
    use datafusion::common::tree_node::{Transformed, TreeNode};
    let strip = |expr| match expr {
        Expr::Column(column) => {
            let column = datafusion::common::Column::new_unqualified(column.name);
            Ok(Transformed::yes(Expr::Column(column)))
        }
        other => Ok(Transformed::no(other)),
    };
    filter.transform(strip).map(|done| done.data)
}

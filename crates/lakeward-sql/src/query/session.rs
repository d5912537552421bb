//! A session: tables, and queries on them that only read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::common::TableReference;
use datafusion::config::Dialect;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::execution::cache::cache_manager::FileMetadataCache;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as Sql;
use futures::TryStreamExt;

use super::provider::Delivered;
use super::rows::{Column, Rows};
use super::{QueryError, Table, schema};

/// Tables that can be queried.
pub struct Session {
    context: SessionContext,
    /// By name.
    tables: BTreeMap<String, Entry>,
    /// How many stores are registered.
    stores: u64,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").field("tables", &self.tables.keys()).finish_non_exhaustive()
    }
}

struct Entry {
    table: Table,
    aliases: Vec<String>,
    /// Its columns are known and it is registered.
    ready: Option<Vec<Column>>,
}

/// The answer to a query: rows as they are found.
pub struct Answer {
    columns: Vec<Column>,
    none: Rows,
    rows: SendableRecordBatchStream,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("columns", &self.columns).finish_non_exhaustive()
    }
}

impl Session {
    /// A session without tables, in which a query may take `memory` bytes for
    /// sorting, grouping and joining. Nothing is spilled to disk.
    ///
    /// # Errors
    /// A bug.
    pub fn new(memory: usize) -> Result<Self, QueryError> {
        let mut config = SessionConfig::new();
        let options = config.options_mut();
        options.sql_parser.enable_ident_normalization = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.parquet.pushdown_filters = true;
        options.catalog.information_schema = false;
        let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(memory)))
            .with_disk_manager_builder(no_disk)
            .build_arc()?;
        let context = SessionContext::new_with_config_rt(config, runtime);
        Ok(Self { context, tables: BTreeMap::new(), stores: 0 })
    }

    /// Adds a table, known under `aliases` too. A name that is taken stays what
    /// it is.
    pub fn add(&mut self, table: Table, aliases: Vec<String>) {
        let name = table.name.clone();
        self.tables.entry(name).or_insert(Entry { table, aliases, ready: None });
    }

    /// The names of all tables, aliases aside.
    #[must_use]
    pub fn tables(&self) -> Vec<String> {
        self.tables.keys().cloned().collect()
    }

    /// The columns of a table.
    ///
    /// # Errors
    /// There is no such table, or its files cannot be read.
    pub async fn columns(&mut self, name: &str) -> Result<Vec<Column>, QueryError> {
        let name = self.find(name).ok_or_else(|| self.unknown(name))?;
        self.prepare(&name).await
    }

    /// Runs a query: one statement, a SELECT or an EXPLAIN.
    ///
    /// # Errors
    /// See [`QueryError`]; rows may fail later.
    pub async fn query(&mut self, sql: &str) -> Result<Answer, QueryError> {
        let state = self.context.state();
        let statement = state.sql_to_statement(sql, &Dialect::Generic).map_err(of_statement)?;
        only_reads(&statement)?;
        let named: BTreeSet<String> =
            state.resolve_table_references(&statement)?.iter().map(name_of).collect();
        for name in named {
            match self.find(&name) {
                Some(name) => drop(self.prepare(&name).await?),
                None if state.table_functions().contains_key(&name) => {}
                None => return Err(self.unknown(&name)),
            }
        }
        // The tables are there now.
        let plan = self.context.state().statement_to_plan(statement).await?;
        let reading =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|_| not_read_only())?;
        let frame = self.context.execute_logical_plan(plan).await?;
        let columns = Column::all(frame.schema().as_arrow());
        let rows = frame.execute_stream().await?;
        let none = Rows::new(&arrow::array::RecordBatch::new_empty(rows.schema()))?;
        Ok(Answer { columns, none, rows })
    }

    /// The table that goes by this name.
    fn find(&self, name: &str) -> Option<String> {
        if self.tables.contains_key(name) {
            return Some(name.to_string());
        }
        let mut aliased = self.tables.iter().filter(|(_, entry)| entry.aliases.iter().any(|a| a == name));
        aliased.next().map(|(name, _)| name.clone())
    }

    fn unknown(&self, name: &str) -> QueryError {
        // A name that needs quotes is suggested with them.
        let plain = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let names = self.tables.iter().map(|(name, entry)| match entry.aliases.first() {
            Some(alias) if !plain(name) => alias.clone(),
            _ if plain(name) => name.clone(),
            _ => format!("\"{name}\""),
        });
        QueryError::unknown("table", name, &names.collect::<Vec<_>>())
    }

    /// Finds out the table's columns and registers it, once.
    async fn prepare(&mut self, name: &str) -> Result<Vec<Column>, QueryError> {
        let Some(entry) = self.tables.get_mut(name) else { return Ok(Vec::new()) };
        if let Some(columns) = &entry.ready {
            return Ok(columns.clone());
        }
        let runtime = self.context.runtime_env();
        let footers: Arc<FileMetadataCache> = runtime.cache_manager.get_file_metadata_cache();
        self.stores += 1;
        let stamp = self.stores;
        let url = ObjectStoreUrl::parse(format!("lake://store-{stamp}"))?;
        let table = &entry.table;
        let resolved = schema::resolve(table, &footers, stamp).await?;
        runtime.register_object_store(url.as_ref(), Arc::clone(&table.store));
        let columns = Column::all(&resolved.schema);
        let store = Arc::clone(&table.store);
        let output = table.output.clone();
        let provider = Arc::new(Delivered { resolved, store, url, stamp, footers, output });
        let mut names = vec![table.name.clone()];
        names.extend(entry.aliases.iter().cloned());
        entry.ready = Some(columns.clone());
        for (at, name) in names.into_iter().enumerate() {
            // A table of that very name goes first.
            if at == 0 || !self.tables.contains_key(&name) {
                self.context.register_table(TableReference::bare(name), Arc::clone(&provider) as _)?;
            }
        }
        Ok(columns)
    }
}

impl Answer {
    /// The columns.
    #[must_use]
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// No rows, but with the columns: for a header.
    #[must_use]
    pub fn no_rows(&self) -> &Rows {
        &self.none
    }

    /// The next rows; `None` when there are no more.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub async fn next(&mut self) -> Result<Option<Rows>, QueryError> {
        self.rows.try_next().await?.map(|batch| Rows::new(&batch)).transpose()
    }
}

/// A name as it was written, dots included.
fn name_of(reference: &TableReference) -> String {
    let parts = [reference.catalog(), reference.schema(), Some(reference.table())];
    parts.into_iter().flatten().collect::<Vec<_>>().join(".")
}

fn only_reads(statement: &Statement) -> Result<(), QueryError> {
    match statement {
        Statement::Statement(sql) if matches!(**sql, Sql::Query(_) | Sql::ExplainTable { .. }) => Ok(()),
        Statement::Explain(explain) if explain.options.analyze => Err(QueryError::NotReadOnly(String::from(
            "EXPLAIN ANALYZE is not offered: EXPLAIN shows the plan, the query itself its time",
        ))),
        Statement::Explain(explain) => only_reads(&explain.statement),
        Statement::Statement(sql)
            if matches!(
                **sql,
                Sql::ShowTables { .. } | Sql::ShowColumns { .. } | Sql::ShowVariable { .. }
            ) =>
        {
            Err(QueryError::NotReadOnly(String::from(
                "SHOW is not offered: `lakeward query --tables` lists tables and their columns",
            )))
        }
        _ => Err(not_read_only()),
    }
}

fn not_read_only() -> QueryError {
    QueryError::NotReadOnly(String::from("a query only reads: SELECT, WITH, VALUES, DESCRIBE or EXPLAIN"))
}

/// What DataFusion says of a text that is not one statement.
fn of_statement(error: DataFusionError) -> QueryError {
    let text = error.to_string();
    if text.contains("single SQL statement") {
        return QueryError::Wrong(String::from("one statement at a time"));
    }
    if text.contains("No SQL statements") {
        return QueryError::Wrong(String::from("there is no statement"));
    }
    error.into()
}

//! The SQL of a pipeline: a stateless SELECT over the table `input`.
//!
//! DataFusion plans and computes expressions. The SELECTs themselves are run
//! here, because they are so simple: without joins, aggregates and windows a
//! statement is a straight line of filters, `unnest`s and projections. Running
//! it ourselves, slice by slice, keeps for every row the input row that it
//! comes from, and finds the rows on which an expression fails.
//!
//! A statement is read into [`levels`] once ([`statement`], [`names`]), planned
//! for the columns at hand ([`plan`], [`expressions`]), and run ([`run`]).
//! `docs/sql.md` is the user's view.

mod expressions;
mod functions;
mod levels;
mod names;
mod plain;
mod plan;
mod run;
mod stack;
mod statement;
mod text;

use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use lakeward_columnar::transform::{Pinned, Transform, TransformError, Transformed};
use lakeward_model::{BatchId, Timestamp};

use self::levels::Level;
use self::plan::Program;

/// A compiled statement.
#[derive(Debug)]
pub struct SqlTransform {
    levels: Vec<Level>,
    reads: Option<Vec<String>>,
    /// Whether the result depends on [`Pinned`].
    is_pinned: bool,
    /// The last program: the columns of a stream seldom change.
    cache: Mutex<Option<Cached>>,
}

/// A program and what it was made for.
#[derive(Debug)]
struct Cached {
    schema: SchemaRef,
    pinned: Option<(Timestamp, BatchId)>,
    program: Arc<Program>,
}

impl SqlTransform {
    /// Compiles a statement: one SELECT over the table `input`.
    ///
    /// # Errors
    /// The statement is no SQL, is not possible as a transform, or is wrong
    /// whatever the columns are. The message says what to do; the caller shows
    /// it with the place, and does not start the pipeline.
    pub fn compile(sql: &str) -> Result<Self, TransformError> {
        let compile = || {
            let levels = statement::read(sql)?;
            expressions::check(&levels)?;
            Ok(levels)
        };
        let levels = stack::deep(compile).unwrap_or_else(|| Err(no_thread()))?;
        let reads = levels::reads(&levels).map(|reads| reads.into_iter().collect());
        let is_pinned = levels::is_pinned(&levels);
        Ok(Self { levels, reads, is_pinned, cache: Mutex::new(None) })
    }

    fn program(&self, schema: &SchemaRef, pinned: &Pinned) -> Result<Arc<Program>, TransformError> {
        let key = self.is_pinned.then_some((pinned.now, pinned.batch));
        // A panic while the lock was held left nothing half-done.
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cached) = &*cache
            && cached.pinned == key
            && cached.schema == *schema
        {
            return Ok(Arc::clone(&cached.program));
        }
        let program =
            stack::deep(|| plan::plan(&self.levels, schema, *pinned)).unwrap_or_else(|| Err(no_thread()))?;
        let program = Arc::new(program);
        *cache = Some(Cached { schema: Arc::clone(schema), pinned: key, program: Arc::clone(&program) });
        Ok(program)
    }
}

fn no_thread() -> TransformError {
    TransformError { message: String::from("there is no thread to plan the SQL on"), place: None }
}

impl Transform for SqlTransform {
    fn reads(&self) -> Option<&[String]> {
        self.reads.as_deref()
    }

    fn apply(&self, rows: &RecordBatch, pinned: &Pinned) -> Result<Transformed, TransformError> {
        let program = self.program(&rows.schema(), pinned)?;
        run::run(&program, rows)
    }
}

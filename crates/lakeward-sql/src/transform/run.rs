//! Running a program on rows, slice by slice; a slice on which an expression
//! fails is halved until the rows at fault are alone.
//!
//! What a row gives does not depend on the rows around it: every function
//! works row by row, and where a slice fails its rows are tried by themselves.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions,
    UInt32Array, UInt64Array, new_empty_array,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{FilterBuilder, concat, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use datafusion::physical_expr::PhysicalExpr;
use lakeward_columnar::transform::{FailedRow, TransformError, Transformed};

use super::expressions::message;
use super::functions::json_arrays;
use super::plain::plain;
use super::plan::{Lists, Output, Program, Stage};
use super::text::{refuse, short};

/// Rows that are computed at a time: their columns stay in the cache.
const SLICE_ROWS: usize = 16 * 1024;

/// The most bytes of a slice after an `unnest`. A slice beyond is halved; a row
/// beyond fails.
const UNNESTED_MAX: usize = 256 << 20;

/// The most bytes of computed columns of a batch: Arrow's string offsets are 32
/// bits wide.
const MADE_MAX: usize = 1 << 30;

/// What one slice gives.
struct Part {
    columns: Vec<ArrayRef>,
    rows: usize,
    /// The input row of each row; all rows of the slice if none.
    sources: Option<Vec<u32>>,
    /// What tells the rows of one input row apart.
    subs: Option<Vec<u64>>,
    /// About the bytes of all output columns, if rows are repeated; else of
    /// those that were computed.
    bytes: usize,
}

/// Runs the program.
pub(super) fn run(program: &Program, rows: &RecordBatch) -> Result<Transformed, TransformError> {
    let mut runner = Runner { program, rows, parts: Vec::new(), failed: Vec::new(), made: 0 };
    let mut from = 0;
    while from < rows.num_rows() {
        let count = SLICE_ROWS.min(rows.num_rows() - from);
        runner.solve(from, count);
        from += count;
        if runner.made > MADE_MAX {
            return Err(refuse(
                None,
                format!(
                    "a batch would hold more than {} MiB after the SQL; make `batch.size` smaller",
                    MADE_MAX >> 20
                ),
            ));
        }
    }
    runner.finish().map_err(|error| refuse(None, short(&error.to_string(), 240)))
}

struct Runner<'a> {
    program: &'a Program,
    rows: &'a RecordBatch,
    parts: Vec<(usize, Part)>,
    failed: Vec<FailedRow>,
    /// Bytes of the computed columns so far.
    made: usize,
}

impl Runner<'_> {
    /// Computes some rows, or halves them.
    fn solve(&mut self, from: usize, count: usize) {
        match self.slice(from, count) {
            Ok(part) => {
                self.made += part.bytes;
                self.parts.push((from, part));
            }
            Err(message) if count == 1 => self.failed.push(FailedRow { row: row(from), message }),
            Err(_) => {
                self.solve(from, count / 2);
                self.solve(from + count / 2, count - count / 2);
            }
        }
    }

    fn slice(&self, from: usize, count: usize) -> Result<Part, String> {
        let inputs = &self.program.inputs;
        let mut part = Part {
            columns: inputs.iter().map(|index| self.rows.column(*index).slice(from, count)).collect(),
            rows: count,
            sources: None,
            subs: None,
            bytes: 0,
        };
        for stage in &self.program.stages {
            part = stage.apply(part, from)?;
        }
        part.columns = part
            .columns
            .iter()
            .map(plain)
            .collect::<Result<_, _>>()
            .map_err(|error| short(&error.to_string(), 240))?;
        part.bytes = part.columns.iter().map(bytes_of).sum();
        if let (Some(sources), Some(_)) = (&part.sources, &part.subs) {
            let passed: Vec<_> = self
                .program
                .outputs
                .iter()
                .filter_map(|output| match output {
                    Output::Passed(index) => Some(self.rows.column(*index).slice(from, count)),
                    Output::Made(_) => None,
                })
                .collect();
            let parents: Vec<u32> = sources.iter().map(|source| source - row(from)).collect();
            part.bytes += size(&passed, &parents)?;
        }
        Ok(part)
    }

    fn finish(self) -> Result<Transformed, ArrowError> {
        let Self { program, rows, parts, failed, .. } = self;
        let is_whole = failed.is_empty() && parts.iter().all(|(_, part)| part.sources.is_none());
        let mut sources = Vec::with_capacity(parts.iter().map(|(_, part)| part.rows).sum());
        for (from, part) in &parts {
            match &part.sources {
                Some(part) => sources.extend_from_slice(part),
                None => sources.extend((*from..from + part.rows).map(row)),
            }
        }
        let passing = match is_whole {
            true => Passing::All,
            false => Passing::of(&sources, rows.num_rows()),
        };
        let mut columns = Vec::with_capacity(program.outputs.len());
        for (output, field) in program.outputs.iter().zip(program.schema.fields()) {
            let column = match output {
                Output::Passed(index) => plain(&passing.select(rows.column(*index))?)?,
                Output::Made(index) => {
                    let made: Vec<&dyn Array> =
                        parts.iter().map(|(_, part)| part.columns[*index].as_ref()).collect();
                    match &parts[..] {
                        [] => new_empty_array(field.data_type()),
                        [(_, only)] => Arc::clone(&only.columns[*index]),
                        _ if *field.data_type() == DataType::Null => {
                            arrow::array::new_null_array(&DataType::Null, sources.len())
                        }
                        _ => concat(&made)?,
                    }
                }
            };
            columns.push(match column.data_type() == field.data_type() {
                true => column,
                false if *field.data_type() == DataType::Null => {
                    arrow::array::new_null_array(&DataType::Null, sources.len())
                }
                false => arrow::compute::cast(&column, field.data_type())?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(sources.len()));
        let rows = RecordBatch::try_new_with_options(Arc::clone(&program.schema), columns, &options)?;
        Ok(Transformed { rows, sources, failed })
    }
}

/// How columns that pass through are chosen.
enum Passing {
    All,
    /// Each row at most once.
    Some(arrow::compute::FilterPredicate),
    /// Rows as often as they are named.
    Many(UInt32Array),
}

impl Passing {
    fn of(sources: &[u32], rows: usize) -> Self {
        if sources.windows(2).any(|pair| pair[0] == pair[1]) {
            return Self::Many(UInt32Array::new(ScalarBuffer::from(sources.to_vec()), None));
        }
        let mut mask = BooleanBufferBuilder::new(rows);
        mask.append_n(rows, false);
        for source in sources {
            mask.set_bit(*source as usize, true);
        }
        Self::Some(FilterBuilder::new(&BooleanArray::new(mask.finish(), None)).optimize().build())
    }

    fn select(&self, column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
        match self {
            Self::All => Ok(Arc::clone(column)),
            Self::Some(predicate) => predicate.filter(column),
            Self::Many(indices) => take(column, indices, None),
        }
    }
}

impl Stage {
    /// What the stage makes of some rows, which start at `from` of the batch.
    fn apply(&self, mut part: Part, from: usize) -> Result<Part, String> {
        if let Some(condition) = &self.filter {
            part = self.filtered(condition, part, from)?;
        } else if self.unnest.is_none() {
            part.columns = self.kept(&part.columns);
        }
        if let Some((list, lists)) = &self.unnest {
            part = self.unnested(list, *lists, part, from)?;
        }
        if self.numbered {
            let sources = match &part.sources {
                Some(sources) => sources.clone(),
                None => (from..from + part.rows).map(row).collect(),
            };
            let subs = part.subs.clone().unwrap_or_else(|| vec![0; part.rows]);
            part.columns.push(Arc::new(UInt32Array::from(sources)));
            part.columns.push(Arc::new(UInt64Array::from(subs)));
        }
        let batch = batch(&self.within, part.columns, part.rows)?;
        let columns = self.exprs.iter().map(|(name, expr)| evaluate(expr, &batch, name));
        Ok(Part { columns: columns.collect::<Result<_, _>>()?, ..Part { columns: Vec::new(), ..part } })
    }

    /// The columns that the expressions read.
    fn kept(&self, columns: &[ArrayRef]) -> Vec<ArrayRef> {
        self.kept.iter().map(|index| Arc::clone(&columns[*index])).collect()
    }

    fn filtered(&self, condition: &Arc<dyn PhysicalExpr>, part: Part, from: usize) -> Result<Part, String> {
        let batch = batch(&self.before, part.columns, part.rows)?;
        let mask = evaluate(condition, &batch, "WHERE")?;
        let mask = match mask.as_boolean_opt() {
            Some(mask) if mask.null_count() > 0 => prep_null_mask_filter(mask),
            Some(mask) => mask.clone(),
            // NULL for all.
            None => BooleanArray::from(vec![false; part.rows]),
        };
        let columns = match self.unnest {
            Some(_) => batch.columns().to_vec(),
            None => self.kept(batch.columns()),
        };
        if mask.true_count() == part.rows {
            return Ok(Part { columns, ..part });
        }
        let predicate = FilterBuilder::new(&mask).optimize().build();
        let columns = columns.iter().map(|column| predicate.filter(column));
        let columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let kept: Vec<usize> = mask.values().set_indices().collect();
        let sources = match &part.sources {
            Some(sources) => kept.iter().map(|index| sources[*index]).collect(),
            None => kept.iter().map(|index| row(from + index)).collect(),
        };
        let subs = part.subs.as_ref().map(|subs| kept.iter().map(|index| subs[*index]).collect());
        Ok(Part { columns, rows: kept.len(), sources: Some(sources), subs, bytes: 0 })
    }

    fn unnested(
        &self,
        list: &Arc<dyn PhysicalExpr>,
        lists: Lists,
        part: Part,
        from: usize,
    ) -> Result<Part, String> {
        let batch = batch(&self.before, part.columns, part.rows)?;
        let values = evaluate(list, &batch, "unnest")?;
        let values = match lists {
            Lists::Native => values,
            Lists::Json => json_arrays(&values).map_err(|error| format!("unnest: {}", message(&error)))?,
            Lists::Nothing => {
                let kept = self.kept(batch.columns());
                let mut columns: Vec<_> = kept.iter().map(|column| column.slice(0, 0)).collect();
                columns.push(new_empty_array(&DataType::Null));
                return Ok(Part {
                    columns,
                    rows: 0,
                    sources: Some(Vec::new()),
                    subs: Some(Vec::new()),
                    bytes: 0,
                });
            }
        };
        let values = values.as_list::<i32>();
        let offsets = values.value_offsets();
        let (mut parents, mut elements, mut subs) = (Vec::new(), Vec::new(), Vec::new());
        let mut is_dense = true;
        for index in 0..part.rows {
            let (start, end) = (offsets[index], offsets[index + 1]);
            if values.is_null(index) {
                is_dense &= start == end;
                continue;
            }
            let above = part.subs.as_ref().map_or(0, |subs| subs[index]);
            for (position, element) in (start..end).enumerate() {
                parents.push(row(index));
                elements.push(element.cast_unsigned());
                subs.push(below(above, position as u64));
            }
        }
        let kept = self.kept(batch.columns());
        size(&kept, &parents)?;
        let indices = UInt32Array::from(parents);
        let columns = kept.iter().map(|column| take(column, &indices, None));
        let mut columns = columns.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        columns.push(match elements.first() {
            Some(first) if is_dense => values.values().slice(*first as usize, elements.len()),
            _ => take(values.values(), &UInt32Array::from(elements), None)
                .map_err(|error| error.to_string())?,
        });
        let sources = indices.values().iter().map(|index| match &part.sources {
            Some(sources) => sources[*index as usize],
            None => row(from) + index,
        });
        let sources: Vec<u32> = sources.collect();
        Ok(Part { columns, rows: sources.len(), sources: Some(sources), subs: Some(subs), bytes: 0 })
    }
}

/// The bytes that rows repeated so often take; refuses to fill the memory.
fn size(columns: &[ArrayRef], parents: &[u32]) -> Result<usize, String> {
    let mut bytes = parents.len() * 16 * (1 + columns.len());
    for column in columns {
        if let Some(texts) = column.as_string_opt::<i32>() {
            let offsets = texts.value_offsets();
            let length = |parent: &u32| (offsets[*parent as usize + 1] - offsets[*parent as usize]) as usize;
            bytes += parents.iter().map(length).sum::<usize>();
        } else if !column.data_type().is_primitive() && !column.is_empty() {
            bytes += bytes_of(column) / column.len() * parents.len();
        }
    }
    if bytes <= UNNESTED_MAX {
        return Ok(bytes);
    }
    Err(format!("unnest would make {} MiB of it, and {} are allowed", bytes >> 20, UNNESTED_MAX >> 20))
}

/// The bytes of a column's own rows: it may be a slice of larger buffers.
fn bytes_of(column: &ArrayRef) -> usize {
    column.to_data().get_slice_memory_size().unwrap_or_default()
}

/// The position of an element below another position.
fn below(above: u64, position: u64) -> u64 {
    let mut text = [0; 16];
    text[..8].copy_from_slice(&above.to_le_bytes());
    text[8..].copy_from_slice(&position.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&text)
}

fn batch(schema: &Arc<Schema>, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, String> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)
        .map_err(|error| error.to_string())
}

fn evaluate(expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch, name: &str) -> Result<ArrayRef, String> {
    let values = expr.evaluate(batch).and_then(|values| values.into_array(batch.num_rows()));
    values.map_err(|error| format!("{name}: {}", message(&error)))
}

/// The number of a row. A batch has fewer than 2^31 bytes, and so rows.
fn row(index: usize) -> u32 {
    u32::try_from(index).expect("a batch has fewer than 2^32 rows")
}

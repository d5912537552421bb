//! SQL output onto the table's schema: canonical types, columns in their
//! order, and what fits nowhere to `_rescued`, as [`crate::decode`] does with
//! records.
//!
//! # What becomes of a type
//!
//! | it comes as | it is stored as |
//! |---|---|
//! | integers of any width | `int64`; an unsigned one beyond it is rescued |
//! | floats of any width | `float64` |
//! | text of any layout, dictionaries | `string` |
//! | binary of any layout | `binary` |
//! | timestamps of any unit | `timestamp` or, with a zone, `timestamptz`, in microseconds: what is finer is cut towards the past |
//! | dates | `date` |
//! | decimals of up to 38 digits | `decimal(p,s)` |
//! | times of day, intervals, durations | `string` |
//! | lists of any layout | a list |
//! | maps, structs without fields, lists of nothing but nulls | `json` |
//! | `NULL` without a type | the type that the column has, or no column |
//!
//! # What becomes of a value in a column of another type
//!
//! It is converted if it stays the same value: integers to equal floats, floats
//! and decimals to equal integers, times between the three kinds of times (a
//! day is its first instant), ISO 8601 text to times, numbers to decimals,
//! anything to `json`, and `json` to what the decoder makes of it. An `int64` column becomes `float64` when floats come.
//! Every other value is rescued with its JSON text under the column's dotted
//! path; if it is in a list, the outermost list is rescued whole, and replaces
//! what is left of it in the column.

mod convert;
mod json;
mod rescue;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields};

use self::rescue::Rescues;
use crate::dotted::{collide, join};
use crate::encode::EncodeError;
use crate::encode::json::Value;
use crate::schema::{Column, ColumnType, RESCUED, TableSchema, ToArrow, ToArrowType};
use crate::shape::Contract;

/// How to fit rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FitOptions {
    /// How many leaf columns the schema may grow to; what comes beyond is
    /// rescued. Default 1,000.
    pub column_limit: usize,
    /// Whether columns may come, once there are any; see
    /// [`crate::decode::DecodeOptions::contract`]. Default `evolve`.
    pub contract: Contract,
}

impl Default for FitOptions {
    fn default() -> Self {
        Self { column_limit: 1_000, contract: Contract::Evolve }
    }
}

/// Rows that fit.
#[derive(Debug)]
pub struct Fitted {
    /// The rows. The columns are exactly those of `schema`.
    pub rows: RecordBatch,
    /// The schema after these rows: the given columns in their order, then new
    /// ones in the order of the rows, then `_rescued` if there is one. Its
    /// version is one more than the given if anything changed.
    pub schema: TableSchema,
    /// How many paths are in `_rescued` in all rows, with those that were there
    /// before.
    pub rescued: u64,
    /// The rows of which a value was rescued here, ascending.
    pub misfits: Vec<u32>,
    /// How many values of unknown columns and fields were left out, as the
    /// contract says.
    pub discarded: u64,
}

/// Brings `rows` onto `schema`. `rescued_of` has, for each of the rows, what
/// `_rescued` holds of it already; without it a text column `_rescued` of the
/// rows does (`SELECT *` passes it through).
///
/// # Errors
/// A column cannot be turned into its stored type at all (text beyond 2 GiB);
/// the same rows fail again.
///
/// # Panics
/// `rescued_of` has another length than the rows.
pub fn fit(
    rows: &RecordBatch,
    rescued_of: Option<&StringArray>,
    schema: &TableSchema,
    options: &FitOptions,
) -> Result<Fitted, EncodeError> {
    assert!(rescued_of.is_none_or(|rescued| rescued.len() == rows.num_rows()), "one for each row");
    let known: Vec<Column> = schema.columns.iter().filter(|column| column.name != RESCUED).cloned().collect();
    let mut fitter = Fitter {
        column_limit: options.column_limit,
        closed: options.contract != Contract::Evolve && !schema.is_empty(),
        discards: options.contract == Contract::DiscardUnknown,
        leaves: known.iter().map(|column| column.ty.leaves()).sum(),
        rescues: Rescues::default(),
        discarded: 0,
    };
    let own = rows.column_by_name(RESCUED).filter(|column| convert::is_text(column.data_type()));
    let own = own.map(convert::plain).transpose()?;
    let before = rescued_of.or(own.as_ref().map(|own| own.as_string::<i32>()));
    let kept = (0..rows.num_columns())
        .filter(|&at| own.is_none() || rows.schema_ref().field(at).name() != RESCUED)
        .collect::<Vec<_>>();
    let rows = rows.project(&kept)?;
    let root = Scope { path: String::new(), alive: None, owners: None };
    let (mut columns, mut arrays) =
        fitter.fields((rows.schema_ref().fields(), rows.columns()), &known, rows.num_rows(), &root)?;
    let misfits = fitter.rescues.rows();
    let (texts, rescued) = fitter.rescues.merge(before, rows.num_rows())?;
    if rescued > 0 || schema.column(RESCUED).is_some() || (columns.is_empty() && rows.num_rows() > 0) {
        columns.push(Column { name: RESCUED.into(), ty: ColumnType::Json });
        arrays.push(texts);
    }
    let changed = columns != schema.columns;
    let schema = TableSchema { version: schema.version + u64::from(changed), columns };
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(schema.to_arrow(), arrays, &options)?;
    Ok(Fitted { rows, schema, rescued, misfits, discarded: fitter.discarded })
}

struct Fitter {
    column_limit: usize,
    /// No column is new or widened.
    closed: bool,
    /// What is closed out is left out, not rescued.
    discards: bool,
    /// Leaf columns so far.
    leaves: usize,
    rescues: Rescues,
    discarded: u64,
}

/// Where a column is.
struct Scope<'a> {
    path: String,
    /// The rows in which all structs around it are.
    alive: Option<NullBuffer>,
    /// Below a list: for each element the row, [`NOBODY`] if it is in no list.
    owners: Option<&'a [u32]>,
}

const NOBODY: u32 = u32::MAX;

impl<'a> Scope<'a> {
    fn field(&self, name: &str) -> Self {
        Self { path: join(&self.path, name), alive: self.alive.clone(), owners: self.owners }
    }

    /// Those of its rows in which `array` has a value.
    fn present(&self, array: &ArrayRef) -> impl Iterator<Item = usize> {
        let nulls = NullBuffer::union(self.alive.as_ref(), array.logical_nulls().as_ref());
        let owners = self.owners;
        (0..array.len()).filter(move |&row| {
            nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row))
                && owners.is_none_or(|owners| owners[row] != NOBODY)
        })
    }
}

type Placed = (ColumnType, ArrayRef);

impl Fitter {
    /// The fields of a struct, or the columns of the rows: first those that
    /// are known, then new ones.
    fn fields(
        &mut self,
        (fields, arrays): (&Fields, &[ArrayRef]),
        known: &[Column],
        rows: usize,
        at: &Scope<'_>,
    ) -> Result<(Vec<Column>, Vec<ArrayRef>), EncodeError> {
        let mut taken = vec![false; fields.len()];
        let mut columns = Vec::with_capacity(known.len());
        let mut placed = Vec::with_capacity(known.len());
        for Column { name, ty } in known {
            let (ty, array) = match fields.iter().position(|field| field.name() == name) {
                Some(index) => {
                    taken[index] = true;
                    let scope = at.field(name);
                    self.known(&fields[index], &arrays[index], ty, &scope)?
                }
                None => (ty.clone(), new_null_array(&ty.to_data_type(), rows)),
            };
            columns.push(Column { name: name.clone(), ty });
            placed.push(array);
        }
        for (index, (field, array)) in fields.iter().zip(arrays).enumerate() {
            if taken[index] || *field.data_type() == DataType::Null {
                continue;
            }
            let (name, scope) = (field.name(), at.field(field.name()));
            let is_taken = columns.iter().any(|column: &Column| collide(&column.name, name))
                || (at.path.is_empty() && collide(name, RESCUED));
            if self.closed {
                self.leave_out(field, array, &scope)?;
            } else if is_taken {
                self.rescue(field, array, &scope, scope.present(array))?;
            } else if let Some((ty, array)) = self.new_column(field, array, &scope)? {
                columns.push(Column { name: name.clone(), ty });
                placed.push(array);
            }
        }
        Ok((columns, placed))
    }

    /// A column without a type yet; nothing if it has none here either, or all
    /// of it was rescued.
    fn new_column(
        &mut self,
        field: &Field,
        array: &ArrayRef,
        at: &Scope<'_>,
    ) -> Result<Option<Placed>, EncodeError> {
        let array = &convert::plain(array)?;
        if self.leaves >= self.column_limit {
            self.rescue(field, array, at, at.present(array))?;
            return Ok(None);
        }
        let ty = match array.data_type() {
            DataType::Null => return Ok(None),
            DataType::Struct(fields) if fields.iter().all(|f| convert::is_void(f.data_type())) => {
                ColumnType::Json
            }
            DataType::Struct(_) => {
                let (ty, array) = self.record(array, &[], at)?;
                let is_none = matches!(&ty, ColumnType::Struct(columns) if columns.is_empty());
                return Ok((!is_none).then_some((ty, array)));
            }
            DataType::List(item) if convert::is_void(item.data_type()) => ColumnType::Json,
            DataType::List(_) => return self.list(field, array, None, at),
            other => convert::stored(other, field),
        };
        self.leaves += 1;
        self.leaf(field, array, &ty, at).map(|array| Some((ty, array)))
    }

    /// A column that has a type.
    fn known(
        &mut self,
        field: &Field,
        array: &ArrayRef,
        ty: &ColumnType,
        at: &Scope<'_>,
    ) -> Result<Placed, EncodeError> {
        let array = &convert::plain(array)?;
        match (array.data_type(), ty) {
            (DataType::Null, _) => Ok((ty.clone(), new_null_array(&ty.to_data_type(), array.len()))),
            (DataType::Struct(_), ColumnType::Struct(columns)) => self.record(array, columns, at),
            (DataType::List(_), ColumnType::List(item)) => {
                let placed = self.list(field, array, Some(item), at)?;
                Ok(placed.expect("what is known stays"))
            }
            (DataType::Utf8, _) if convert::is_json(field) && json::reads_into(ty) => {
                self.read_json(array, ty, at)
            }
            (data_type, ColumnType::Int64)
                if !self.closed && data_type.is_floating() && at.present(array).next().is_some() =>
            {
                let ty = ColumnType::Float64;
                self.leaf(field, array, &ty, at).map(|array| (ty, array))
            }
            _ => self.leaf(field, array, ty, at).map(|array| (ty.clone(), array)),
        }
    }

    fn record(&mut self, array: &ArrayRef, known: &[Column], at: &Scope<'_>) -> Result<Placed, EncodeError> {
        let record = array.as_struct();
        let alive = NullBuffer::union(at.alive.as_ref(), record.nulls());
        let scope = Scope { path: at.path.clone(), alive, owners: at.owners };
        let (columns, arrays) =
            self.fields((record.fields(), record.columns()), known, record.len(), &scope)?;
        let ty = ColumnType::Struct(columns);
        let DataType::Struct(fields) = ty.to_data_type() else { unreachable!("it is a struct") };
        let nulls = record.nulls().cloned();
        let array = StructArray::try_new_with_length(fields, arrays, nulls, record.len())?;
        Ok((ty, Arc::new(array)))
    }

    /// `item` is what the elements are, if they are known.
    fn list(
        &mut self,
        field: &Field,
        array: &ArrayRef,
        item: Option<&ColumnType>,
        at: &Scope<'_>,
    ) -> Result<Option<Placed>, EncodeError> {
        let list = array.as_list::<i32>();
        let DataType::List(element) = array.data_type() else { unreachable!("it is a list") };
        let mut owners = vec![NOBODY; list.values().len()];
        for row in at.present(array) {
            let owner = at.owners.map_or(row as u32, |owners| owners[row]);
            let range = list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
            owners[range].fill(owner);
        }
        let scope = Scope { path: at.path.clone(), alive: None, owners: Some(&owners) };
        let placed = match item {
            Some(item) => Some(self.known(element, list.values(), item, &scope)?),
            None => self.new_column(element, list.values(), &scope)?,
        };
        if at.owners.is_none() {
            let spoilt = self.rescues.take_spoilt();
            self.rescue(field, array, at, spoilt.into_iter().map(|row| row as usize))?;
        }
        let Some((ty, values)) = placed else { return Ok(None) };
        let element = Arc::new(ty.to_field(Field::LIST_FIELD_DEFAULT_NAME));
        let nulls = list.nulls().cloned();
        let array = ListArray::try_new(element, list.offsets().clone(), values, nulls)?;
        Ok(Some((ColumnType::List(Box::new(ty)), Arc::new(array))))
    }

    /// Converts values to `ty`; what does not fit is null and rescued.
    fn leaf(
        &mut self,
        field: &Field,
        array: &ArrayRef,
        ty: &ColumnType,
        at: &Scope<'_>,
    ) -> Result<ArrayRef, EncodeError> {
        let placed = convert::to_type(field, array, ty, &|| at.present(array))?;
        let lost = |row: &usize| placed.is_null(*row);
        if placed.null_count() > array.logical_null_count() {
            self.rescue(field, array, at, at.present(array).filter(lost))?;
        }
        Ok(placed)
    }

    /// Takes an unknown column as the contract says.
    fn leave_out(&mut self, field: &Field, array: &ArrayRef, at: &Scope<'_>) -> Result<(), EncodeError> {
        if self.discards {
            self.discarded += at.present(array).count() as u64;
            return Ok(());
        }
        self.rescue(field, array, at, at.present(array))
    }

    /// Rescues the values of these rows.
    fn rescue(
        &mut self,
        field: &Field,
        array: &ArrayRef,
        at: &Scope<'_>,
        rows: impl Iterator<Item = usize>,
    ) -> Result<(), EncodeError> {
        let mut rows = rows.peekable();
        if rows.peek().is_none() {
            return Ok(());
        }
        if let Some(owners) = at.owners {
            self.rescues.spoil(rows.map(|row| owners[row]));
            return Ok(());
        }
        let array = convert::plain(array)?;
        let value = Value::new(field, &array)?;
        for row in rows {
            let mut json = Vec::new();
            convert::write(&value, &array, row, &mut json)?;
            self.rescues.push(row, &at.path, json);
        }
        Ok(())
    }
}

//! Access to fields and elements, which never fails: `a['b']`, `a.b`, `a[1]`.
//!
//! Whatever is not there is NULL: a missing field, an element beyond the end, a
//! field of a number. Text is read as JSON. So the shape of the data may differ
//! from record to record and from batch to batch.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, ListArray, UInt32Array, make_array, new_null_array,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{DFSchema, Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr, RawFieldAccessExpr};
use datafusion::logical_expr::{
    ColumnarValue, Expr, GetFieldAccess, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, lit,
};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::json;

/// Plans subscripts with literals, and `->`, `->>`.
#[derive(Debug)]
pub(super) struct AccessPlanner;

impl ExprPlanner for AccessPlanner {
    fn plan_field_access(
        &self,
        raw: RawFieldAccessExpr,
        _: &DFSchema,
    ) -> Result<PlannerResult<RawFieldAccessExpr>> {
        let key = match &raw.field_access {
            GetFieldAccess::NamedStructField { name } => name.clone(),
            GetFieldAccess::ListIndex { key } => match key.as_ref() {
                Expr::Literal(key @ ScalarValue::Int64(Some(_)), _) => key.clone(),
                Expr::Literal(ScalarValue::Utf8(Some(key)), _) => ScalarValue::from(key.clone()),
                _ => return Ok(PlannerResult::Original(raw)),
            },
            GetFieldAccess::ListRange { .. } => return Ok(PlannerResult::Original(raw)),
        };
        // One call for the whole path: what lies between is never rendered.
        let mut args = match raw.expr {
            Expr::ScalarFunction(call) if call.func.inner().is::<Access>() => call.args,
            other => vec![other],
        };
        args.push(lit(key));
        let function = Arc::new(ScalarUDF::new_from_impl(Access::new()));
        Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(function, args))))
    }

    fn plan_binary_op(&self, raw: RawBinaryExpr, _: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let name = match raw.op {
            BinaryOperator::Arrow => "json_get",
            BinaryOperator::LongArrow => "json_get_str",
            _ => return Ok(PlannerResult::Original(raw)),
        };
        match super::all().get(name) {
            Some(function) => Ok(PlannerResult::Planned(Expr::ScalarFunction(ScalarFunction::new_udf(
                Arc::clone(function),
                vec![raw.left, raw.right],
            )))),
            None => Ok(PlannerResult::Original(raw)),
        }
    }
}

/// `access(base, key…)`
#[derive(Debug, PartialEq, Eq, Hash)]
struct Access {
    signature: Signature,
}

impl Access {
    fn new() -> Self {
        Self { signature: Signature::variadic_any(Volatility::Immutable) }
    }
}

/// A step of a path.
#[derive(Debug)]
enum Key<'a> {
    Name(&'a str),
    /// From 1, or from the end if negative.
    Index(i64),
}

fn key(scalar: &ScalarValue) -> Option<Key<'_>> {
    match scalar {
        ScalarValue::Int64(Some(index)) => Some(Key::Index(*index)),
        other => other.try_as_str().flatten().map(Key::Name),
    }
}

impl ScalarUDFImpl for Access {
    fn name(&self) -> &str {
        "access"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        plan_err!("the type of a field depends on its name")
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        let keys: Option<Vec<_>> =
            args.scalar_arguments[1..].iter().map(|scalar| scalar.and_then(key)).collect();
        let Some(keys) = keys else { return plan_err!("the key of a field must stand in the statement") };
        Ok(Arc::new(reached(&args.arg_fields[0], &keys).with_name("access").with_nullable(true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let mut keys = Vec::with_capacity(args.args.len() - 1);
        for arg in &args.args[1..] {
            match arg {
                ColumnarValue::Scalar(scalar) if key(scalar).is_some() => keys.extend(key(scalar)),
                _ => return exec_err!("the key of a field must stand in the statement"),
            }
        }
        let base = args.args[0].to_array(args.number_rows)?;
        Ok(ColumnarValue::Array(reach(&base, &keys)?))
    }
}

/// The type at the end of a path.
fn reached(field: &Field, keys: &[Key<'_>]) -> Field {
    let Some((first, rest)) = keys.split_first() else { return field.clone() };
    match (field.data_type(), first) {
        (DataType::Struct(fields), Key::Name(name)) => match fields.iter().find(|field| field.name() == name)
        {
            Some(field) => reached(field, rest),
            None => Field::new("", DataType::Null, true),
        },
        (DataType::List(item), Key::Index(_)) => reached(item, rest),
        (DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8, _) => {
            Field::new("", DataType::Utf8, true)
        }
        _ => Field::new("", DataType::Null, true),
    }
}

/// The values at the end of a path.
fn reach(array: &ArrayRef, keys: &[Key<'_>]) -> Result<ArrayRef> {
    let Some((first, rest)) = keys.split_first() else { return Ok(Arc::clone(array)) };
    match (array.data_type(), first) {
        (DataType::Struct(_), Key::Name(name)) => match array.as_struct().column_by_name(name) {
            Some(child) => reach(&with_nulls(child, array.nulls())?, rest),
            None => Ok(new_null_array(&DataType::Null, array.len())),
        },
        (DataType::List(_), Key::Index(index)) => reach(&elements(array.as_list(), *index)?, rest),
        (DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8, _) => {
            let path: Vec<_> = keys
                .iter()
                .map(|key| match key {
                    Key::Name(name) => json::Step::Key(name),
                    Key::Index(index) => json::Step::Element(match index {
                        1.. => usize::try_from(index - 1).ok(),
                        // From the end: not in JSON text.
                        _ => None,
                    }),
                })
                .collect();
            Ok(Arc::new(json::texts(array, &path)?))
        }
        _ => Ok(new_null_array(&DataType::Null, array.len())),
    }
}

/// A struct's null hides its fields.
fn with_nulls(child: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    match nulls {
        Some(nulls) if nulls.null_count() > 0 && child.data_type() != &DataType::Null => {
            let nulls = NullBuffer::union(child.nulls(), Some(nulls));
            // Where booleans start within a byte is said in another place,
            // which the nulls would have to share.
            if let Some(booleans) = child.as_boolean_opt() {
                return Ok(Arc::new(BooleanArray::new(booleans.values().clone(), nulls)));
            }
            Ok(make_array(child.to_data().into_builder().nulls(nulls).build()?))
        }
        _ => Ok(Arc::clone(child)),
    }
}

/// The element of each list, from 1, or from the end if `index` is negative.
fn elements(lists: &ListArray, index: i64) -> Result<ArrayRef> {
    let offsets = lists.value_offsets();
    let chosen = |row: usize| -> Option<u32> {
        let (start, end) = (i64::from(offsets[row]), i64::from(offsets[row + 1]));
        let at = match index {
            0 => return None,
            1.. => start.checked_add(index - 1)?,
            _ => end.checked_add(index)?,
        };
        let is_there = lists.is_valid(row) && (start..end).contains(&at);
        if is_there { u32::try_from(at).ok() } else { None }
    };
    let indices: UInt32Array = (0..lists.len()).map(chosen).collect();
    Ok(arrow::compute::take(lists.values(), &indices, None)?)
}

/// A text field that holds JSON.
pub(super) fn json_field(name: &str) -> Field {
    let metadata = HashMap::from([(lakeward_columnar::schema::JSON_METADATA.into(), "true".into())]);
    Field::new(name, DataType::Utf8, true).with_metadata(metadata)
}

//! From levels to a program for rows of one schema.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use datafusion::common::DataFusionError;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, CastKind, DataType as SqlType, Expr, Ident, TimezoneInfo, Value, visit_expressions_mut,
};
use lakeward_columnar::schema::JSON_METADATA;
use lakeward_columnar::transform::{Pinned, Place, TransformError};

use super::expressions::{Computed, Planner, is_hidden, type_name};
use super::levels::{Item, Level, Named, ROW, SUB, UNNESTED, columns_of};
use super::plain::plain_type;
use super::text::{place, refuse};

/// What is done to rows of one schema.
#[derive(Debug)]
pub(super) struct Program {
    /// The columns of the rows that the first stage reads.
    pub(super) inputs: Vec<usize>,
    /// In order.
    pub(super) stages: Vec<Stage>,
    /// The columns that come out.
    pub(super) outputs: Vec<Output>,
    /// Their schema.
    pub(super) schema: SchemaRef,
}

/// A SELECT.
#[derive(Debug)]
pub(super) struct Stage {
    /// The columns before it.
    pub(super) before: SchemaRef,
    /// Those of them that the expressions read; the others end here.
    pub(super) kept: Vec<usize>,
    /// WHERE.
    pub(super) filter: Option<Arc<dyn PhysicalExpr>>,
    /// The list whose elements become rows, and what kind of column it is.
    pub(super) unnest: Option<(Arc<dyn PhysicalExpr>, Lists)>,
    /// The columns that the expressions see: those before, the elements, and
    /// row and position.
    pub(super) within: SchemaRef,
    /// Whether row and position are among them.
    pub(super) numbered: bool,
    /// The columns after it, with their names.
    pub(super) exprs: Vec<(String, Arc<dyn PhysicalExpr>)>,
}

/// How lists are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// As lists.
    Native,
    /// As JSON text.
    Json,
    /// There are none.
    Nothing,
}

/// Where an output column comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Output {
    /// It is this column of the rows.
    Passed(usize),
    /// It is this column of the last stage.
    Made(usize),
}

/// An expression of a level, with all names known.
struct Wanted {
    name: String,
    expr: Expr,
    place: Option<Place>,
    /// The column of the rows that it is.
    origin: Option<usize>,
}

/// Plans the levels for rows of this schema.
pub(super) fn plan(levels: &[Level], schema: &Schema, pinned: Pinned) -> Result<Program, TransformError> {
    let planner = Planner::new(pinned);
    let mut known: BTreeMap<String, Option<usize>> = BTreeMap::new();
    let mut order: Vec<String> = Vec::new();
    for (index, field) in schema.fields().iter().enumerate() {
        known.insert(field.name().clone(), Some(index));
        order.push(field.name().clone());
    }
    let mut all: Vec<Vec<Wanted>> = Vec::new();
    let mut present: Vec<BTreeSet<String>> = Vec::new();
    for level in levels {
        let wanted = expand(level, &order, &known)?;
        present.push(std::mem::take(&mut known).into_keys().collect());
        known = wanted.iter().map(|wanted| (wanted.name.clone(), wanted.origin)).collect();
        order = wanted.iter().map(|wanted| wanted.name.clone()).collect();
        all.push(wanted);
    }
    let outputs: Vec<(String, Option<usize>)> = match all.last() {
        Some(last) => last.iter().map(|wanted| (wanted.name.clone(), wanted.origin)).collect(),
        None => Vec::new(),
    };
    // Only what is needed: backwards from what is made at the end.
    let mut needed: BTreeSet<String> =
        outputs.iter().filter(|(_, origin)| origin.is_none()).map(|(name, _)| name.clone()).collect();
    for ((level, wanted), present) in levels.iter().zip(&mut all).zip(&present).rev() {
        wanted.retain(|wanted| needed.contains(&wanted.name));
        let mut before = BTreeSet::new();
        wanted.iter().for_each(|wanted| columns_of(&wanted.expr, &mut before));
        level.filter.iter().chain(&level.unnest).for_each(|expr| columns_of(expr, &mut before));
        before.retain(|name| present.contains(name));
        needed = before;
    }
    let inputs: Vec<usize> =
        (0..schema.fields().len()).filter(|index| needed.contains(schema.field(*index).name())).collect();
    let mut fields: Vec<FieldRef> = inputs.iter().map(|index| Arc::clone(&schema.fields()[*index])).collect();
    let mut stages = Vec::with_capacity(levels.len());
    for (level, wanted) in levels.iter().zip(&all) {
        let (stage, after) = stage(&planner, level, wanted, fields)?;
        stages.push(stage);
        fields = after;
    }
    let mut columns = Vec::with_capacity(outputs.len());
    let mut result = Vec::with_capacity(outputs.len());
    for (name, origin) in outputs {
        let (column, field) = match origin {
            Some(index) => (Output::Passed(index), schema.field(index)),
            None => match fields.iter().position(|field| *field.name() == name) {
                Some(index) => (Output::Made(index), &*fields[index]),
                None => return Err(refuse(None, format!("the column `{name}` was lost"))),
            },
        };
        columns.push(column);
        result.push(output_field(&name, field));
    }
    Ok(Program { inputs, stages, outputs: columns, schema: Arc::new(Schema::new(result)) })
}

/// The field of an output column.
fn output_field(name: &str, field: &Field) -> Field {
    let data_type = plain_type(field.data_type());
    let is_json = field.metadata().contains_key(JSON_METADATA) && data_type == DataType::Utf8;
    let output = Field::new(name, data_type, true);
    if is_json {
        return output.with_metadata([(JSON_METADATA.to_owned(), String::from("true"))].into());
    }
    output
}

/// Writes out `*`, and finds the columns that are passed on.
fn expand(
    level: &Level,
    order: &[String],
    known: &BTreeMap<String, Option<usize>>,
) -> Result<Vec<Wanted>, TransformError> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut add = |name: &str, expr: Expr, place: Option<Place>| {
        if wanted.iter().any(|wanted| wanted.name == name) {
            return Err(refuse(place, format!("there are two columns `{name}`; leave one out")));
        }
        let origin = match &expr {
            Expr::Identifier(column) => known.get(&column.value).copied().flatten(),
            _ => None,
        };
        wanted.push(Wanted { name: name.to_owned(), expr, place, origin });
        Ok(())
    };
    for item in &level.items {
        match item {
            Item::Named(Named { name, expr, place }) => add(name, expr.clone(), *place)?,
            Item::All(wildcard) => {
                for name in order {
                    if wildcard.without.contains(name) || level.is_named(name) {
                        continue;
                    }
                    if let Some(named) = wildcard.replaced.iter().find(|named| named.name == *name) {
                        add(name, named.expr.clone(), named.place)?;
                        continue;
                    }
                    let renamed = wildcard.renamed.iter().find(|(from, _)| from == name);
                    let new = renamed.map_or(name, |(_, to)| to);
                    add(new, Expr::Identifier(Ident::new(name)), None)?;
                }
            }
        }
    }
    Ok(wanted)
}

/// Plans one level; also the fields of what comes out.
fn stage(
    planner: &Planner,
    level: &Level,
    wanted: &[Wanted],
    fields: Vec<FieldRef>,
) -> Result<(Stage, Vec<FieldRef>), TransformError> {
    let before: SchemaRef = Arc::new(Schema::new(fields.clone()));
    let filter = match &level.filter {
        Some(expr) => Some(condition(planner, expr, &before)?),
        None => None,
    };
    let mut names = BTreeSet::new();
    wanted.iter().for_each(|wanted| columns_of(&wanted.expr, &mut names));
    let kept: Vec<usize> = (0..fields.len()).filter(|index| names.contains(fields[*index].name())).collect();
    let mut fields: Vec<FieldRef> = kept.iter().map(|index| Arc::clone(&fields[*index])).collect();
    let unnest = match &level.unnest {
        Some(expr) => {
            let (computed, item, lists) = unnested(planner, expr, &before)?;
            fields.push(Arc::new(item.with_name(UNNESTED)));
            Some((computed.expr, lists))
        }
        None => None,
    };
    let numbered = names.contains(ROW);
    if numbered {
        fields.push(Arc::new(Field::new(ROW, DataType::UInt32, false)));
        fields.push(Arc::new(Field::new(SUB, DataType::UInt64, false)));
    }
    let within: SchemaRef = Arc::new(Schema::new(fields));
    let mut exprs = Vec::with_capacity(wanted.len());
    let mut after: Vec<FieldRef> = Vec::with_capacity(wanted.len());
    for Wanted { name, expr, place, .. } in wanted {
        let (computed, is_untyped) = lenient(planner, expr, &within, *place)?;
        let field = computed
            .expr
            .return_field(&within)
            .map_err(|error| planner.explain(expr, &within, &error, *place))?;
        let field = match is_untyped {
            true => Field::new(name, DataType::Null, true),
            false => output_field(name, &field),
        };
        after.push(Arc::new(field));
        exprs.push((name.clone(), computed.expr));
    }
    Ok((Stage { before, kept, filter, unnest, within, numbered, exprs }, after))
}

fn condition(
    planner: &Planner,
    expr: &Expr,
    schema: &SchemaRef,
) -> Result<Arc<dyn PhysicalExpr>, TransformError> {
    let (computed, _) = lenient(planner, expr, schema, place(expr))?;
    match computed.expr.data_type(schema) {
        Ok(DataType::Boolean | DataType::Null) => Ok(computed.expr),
        Ok(other) => Err(refuse(
            place(expr),
            format!("WHERE needs a condition, and `{expr}` is of type {}", type_name(&other)),
        )),
        Err(error) => Err(planner.explain(expr, schema, &error, place(expr))),
    }
}

fn unnested(
    planner: &Planner,
    expr: &Expr,
    schema: &SchemaRef,
) -> Result<(Computed, Field, Lists), TransformError> {
    let (computed, _) = lenient(planner, expr, schema, place(expr))?;
    let field = computed
        .expr
        .return_field(schema)
        .map_err(|error| planner.explain(expr, schema, &error, place(expr)))?;
    match field.data_type() {
        DataType::List(item) => {
            let item = item.as_ref().clone().with_nullable(true);
            Ok((computed, item, Lists::Native))
        }
        DataType::Null => Ok((computed, Field::new("", DataType::Null, true), Lists::Nothing)),
        DataType::Utf8 => {
            let item = Field::new("", DataType::Utf8, true)
                .with_metadata([(JSON_METADATA.to_owned(), String::from("true"))].into());
            Ok((computed, item, Lists::Json))
        }
        other => Err(refuse(
            place(expr),
            format!("unnest takes a list, and `{expr}` is of type {}", type_name(other)),
        )),
    }
}

/// Plans an expression; columns that are not there are NULL. Also whether its
/// type is unknown for that reason.
fn lenient(
    planner: &Planner,
    expr: &Expr,
    schema: &SchemaRef,
    at: Option<Place>,
) -> Result<(Computed, bool), TransformError> {
    let mut names = BTreeSet::new();
    columns_of(expr, &mut names);
    let missing: BTreeSet<_> =
        names.into_iter().filter(|name| schema.column_with_name(name).is_none()).collect();
    if missing.iter().any(|name| is_hidden(name)) {
        return Err(refuse(at, "this function cannot stand here; use it in a subquery's SELECT list"));
    }
    if missing.is_empty() {
        return match planner.plan(expr, schema) {
            Ok(computed) => Ok((computed, false)),
            Err(error) => Err(planner.explain(expr, schema, &error, at)),
        };
    }
    let mut first: Option<(Expr, DataFusionError)> = None;
    for ty in stand_ins() {
        let mut tried = expr.clone();
        fill(&mut tried, &missing, ty.as_ref());
        match planner.plan(&tried, schema) {
            Ok(computed) => {
                let is_typed = matches!(expr, Expr::Cast { .. }) || !computed.is_null;
                return Ok((computed, !is_typed));
            }
            Err(error) => {
                first.get_or_insert((tried, error));
            }
        }
    }
    match first {
        Some((tried, error)) => Err(planner.explain(&tried, schema, &error, at)),
        None => Err(refuse(at, "this expression cannot be planned")),
    }
}

/// The types that a NULL in place of a missing column is given, until one fits.
fn stand_ins() -> [Option<SqlType>; 6] {
    let text = || SqlType::Varchar(None);
    [
        None,
        Some(text()),
        Some(SqlType::BigInt(None)),
        Some(SqlType::Timestamp(None, TimezoneInfo::None)),
        Some(SqlType::Boolean),
        Some(SqlType::Array(ArrayElemTypeDef::SquareBracket(Box::new(text()), None))),
    ]
}

/// Puts NULL in place of missing columns.
fn fill(expr: &mut Expr, missing: &BTreeSet<String>, ty: Option<&SqlType>) {
    let _: ControlFlow<()> = visit_expressions_mut(expr, |part| {
        if let Expr::Identifier(name) = part
            && missing.contains(&name.value)
        {
            let null = Expr::Value(Value::Null.with_span(name.span));
            *part = match ty {
                None => null,
                Some(ty) => Expr::Cast {
                    kind: CastKind::Cast,
                    expr: Box::new(null),
                    data_type: ty.clone(),
                    array: false,
                    format: None,
                },
            };
        }
        ControlFlow::Continue(())
    });
}

//! One expression: from its syntax to something that computes columns.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::temporal_conversions::timestamp_us_to_datetime;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, DataFusionError, Result, TableReference, plan_err};
use datafusion::execution::context::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    AggregateUDF, Expr, HigherOrderUDF, Operator, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::BinaryExpr;
use datafusion::physical_expr::{PhysicalExpr, create_physical_expr};
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use datafusion::sql::sqlparser::ast::{Expr as Syntax, Value, visit_expressions};
use lakeward_columnar::transform::{Pinned, Place, TransformError};
use lakeward_model::{BatchId, Timestamp};

use super::functions;
use super::levels::{Level, ROW, SUB, UNNESTED, columns_of};
use super::text::{place, refuse, short};

/// What expressions are planned with.
pub(super) struct Planner {
    functions: HashMap<String, Arc<ScalarUDF>>,
    planners: Vec<Arc<dyn ExprPlanner>>,
    options: Arc<ConfigOptions>,
    pinned: Pinned,
}

/// An expression that computes a column.
#[derive(Debug, Clone)]
pub(super) struct Computed {
    pub(super) expr: Arc<dyn PhysicalExpr>,
    /// Whether it is NULL for every row.
    pub(super) is_null: bool,
}

impl Planner {
    pub(super) fn new(pinned: Pinned) -> Self {
        let mut functions = functions::all().clone();
        for chance in [functions::Chance::random(pinned.batch), functions::Chance::uuid(pinned.batch)] {
            let function = ScalarUDF::new_from_impl(chance);
            functions.insert(function.name().to_owned(), Arc::new(function));
        }
        Self { functions, planners: functions::planners(), options: Arc::default(), pinned }
    }

    /// Plans an expression on columns.
    pub(super) fn plan(&self, syntax: &Syntax, schema: &SchemaRef) -> Result<Computed> {
        let schema: DFSchemaRef = Arc::new(DFSchema::try_from(Arc::clone(schema))?);
        let options = ParserOptions::new()
            .with_enable_ident_normalization(false)
            .with_map_string_types_to_utf8view(false);
        let planner = SqlToRel::new_with_options(self, options);
        let expr = planner.sql_to_expr(syntax.clone(), &schema, &mut PlannerContext::new())?;
        let mut context = SimplifyContext::builder()
            .with_schema(Arc::clone(&schema))
            .with_config_options(Arc::clone(&self.options));
        if let Some(now) = timestamp_us_to_datetime(self.pinned.now.micros()) {
            context = context.with_query_execution_start_time(Some(now.and_utc()));
        }
        let simplifier = ExprSimplifier::new(context.build());
        let expr = simplifier.coerce(expr, &schema)?;
        let expr = simplifier.simplify(expr)?;
        let is_null = matches!(&expr, Expr::Literal(value, _) if value.is_null());
        let mut properties = ExecutionProps::new();
        properties.config_options = Some(Arc::clone(&self.options));
        let expr = create_physical_expr(&expr, &schema, &properties, &PhysicalPlanningContext::default())?;
        let expr = expr.transform_up(checked).data()?;
        // On no rows: errors that follow from the types alone.
        expr.data_type(schema.as_arrow())?;
        expr.evaluate(&RecordBatch::new_empty(Arc::new(schema.as_arrow().clone())))?;
        Ok(Computed { expr, is_null })
    }

    /// Explains why an expression cannot be planned: names the innermost part
    /// at fault.
    pub(super) fn explain(
        &self,
        syntax: &Syntax,
        schema: &SchemaRef,
        error: &DataFusionError,
        fallback: Option<Place>,
    ) -> TransformError {
        let found = visit_expressions(syntax, |part| match self.plan(part, schema) {
            Ok(_) => ControlFlow::Continue(()),
            Err(inner) => ControlFlow::Break((part.clone(), inner)),
        });
        // The visitor is in pre-order: go down as long as a part fails.
        let (mut part, mut why) = match found {
            ControlFlow::Break(found) => found,
            ControlFlow::Continue(()) => return refuse(fallback, message(error)),
        };
        loop {
            let mut first = true;
            let inner = visit_expressions(&part, |inner| {
                if std::mem::take(&mut first) {
                    return ControlFlow::Continue(());
                }
                match self.plan(inner, schema) {
                    Ok(_) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break((inner.clone(), error)),
                }
            });
            match inner {
                ControlFlow::Break((inner, error)) => (part, why) = (inner, error),
                ControlFlow::Continue(()) => break,
            }
        }
        let at = place(&part).or(fallback);
        let types = self.types(&part, schema);
        if let Syntax::Function(call) = &part
            && let Some(function) = self.functions.get(&call.name.to_string())
            && is_mismatch(&why)
        {
            return refuse(
                at,
                format!("{} cannot be applied to {types}{}", function.name(), functions::usage(function)),
            );
        }
        if let Syntax::BinaryOp { op, .. } = &part
            && why.to_string().contains("coerce")
        {
            return refuse(at, format!("`{op}` cannot be applied to {types}; CAST one of them"));
        }
        let types = if types.is_empty() { types } else { format!(" ({types})") };
        refuse(at, format!("{}: {}{types}", short(&part.to_string(), 60), message(&why)))
    }

    /// The direct parts of an expression with their types.
    fn types(&self, syntax: &Syntax, schema: &SchemaRef) -> String {
        let mut parts = Vec::new();
        for part in children(syntax) {
            if matches!(part, Syntax::Value(_)) {
                let text = short(&part.to_string(), 40);
                parts.push(text);
            } else if let Ok(computed) = self.plan(&part, schema)
                && let Ok(data_type) = computed.expr.data_type(schema)
            {
                parts.push(format!("{} of type {}", short(&part.to_string(), 40), type_name(&data_type)));
            }
        }
        parts.join(", ")
    }
}

/// The direct parts of an expression.
fn children(syntax: &Syntax) -> Vec<Syntax> {
    let mut parts = Vec::new();
    let mut whole = true;
    let mut inside: Vec<String> = Vec::new();
    let _: ControlFlow<()> = visit_expressions(syntax, |part| {
        if std::mem::take(&mut whole) {
            return ControlFlow::Continue(());
        }
        let text = part.to_string();
        if !inside.contains(&text) {
            let _: ControlFlow<()> = visit_expressions(part, |inner| {
                inside.push(inner.to_string());
                ControlFlow::Continue(())
            });
            parts.push(part.clone());
        }
        ControlFlow::Continue(())
    });
    parts
}

/// The name of a type, for people who write SQL.
pub(super) fn type_name(data_type: &DataType) -> String {
    match data_type {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => String::from("text"),
        DataType::Int64 => String::from("bigint"),
        DataType::Float64 => String::from("double"),
        DataType::Boolean => String::from("boolean"),
        DataType::Struct(_) => String::from("object"),
        DataType::List(item) => format!("list of {}", type_name(item.data_type())),
        DataType::Timestamp(..) => String::from("timestamp"),
        other => other.to_string(),
    }
}

/// Arithmetic that does not wrap around.
fn checked(expr: Arc<dyn PhysicalExpr>) -> Result<Transformed<Arc<dyn PhysicalExpr>>> {
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>()
        && matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply)
    {
        let checked = BinaryExpr::new(Arc::clone(binary.left()), *binary.op(), Arc::clone(binary.right()))
            .with_fail_on_overflow(true);
        return Ok(Transformed::yes(Arc::new(checked)));
    }
    Ok(Transformed::no(expr))
}

/// Whether the arguments of a function have wrong types.
fn is_mismatch(error: &DataFusionError) -> bool {
    let text = error.to_string();
    text.contains("No function matches")
        || text.contains("Failed to coerce")
        || text.contains("does not support")
        || text.contains("expects")
        || text.contains("requires")
        || text.contains("coercion failed")
        || text.contains("Internal error")
}

/// What an error says, without the names of DataFusion's parts.
pub(super) fn message(error: &DataFusionError) -> String {
    let text = match error.find_root() {
        DataFusionError::ArrowError(error, _) => match &**error {
            ArrowError::CastError(text)
            | ArrowError::ParseError(text)
            | ArrowError::ComputeError(text)
            | ArrowError::InvalidArgumentError(text)
            | ArrowError::ArithmeticOverflow(text) => text.clone(),
            ArrowError::DivideByZero => String::from("division by zero"),
            other => other.to_string(),
        },
        DataFusionError::Plan(text)
        | DataFusionError::Execution(text)
        | DataFusionError::NotImplemented(text)
        | DataFusionError::Internal(text) => text.clone(),
        DataFusionError::Diagnostic(_, inner) => return message(inner),
        DataFusionError::Context(_, inner) => return message(inner),
        other => other.strip_backtrace(),
    };
    let text = text.split("\n\nbacktrace:").next().unwrap_or_default();
    let text = text.split("This issue was likely caused").next().unwrap_or_default();
    let text = text.split("You might need to add").next().unwrap_or_default();
    short(text, 240)
}

impl ContextProvider for Planner {
    fn get_table_source(&self, name: TableReference) -> Result<Arc<dyn TableSource>> {
        plan_err!("there is no table {name} here")
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.planners
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.functions.get(name).cloned()
    }

    fn get_higher_order_meta(&self, _: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, _: &str) -> Option<Arc<AggregateUDF>> {
        None
    }

    fn get_window_meta(&self, _: &str) -> Option<Arc<WindowUDF>> {
        None
    }

    fn get_variable_type(&self, _: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.options
    }

    fn udf_names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.functions.keys().cloned().collect();
        names.sort();
        names
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udwf_names(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Whether a name is one of ours and not a column of the user's.
pub(super) fn is_hidden(name: &str) -> bool {
    [UNNESTED, ROW, SUB].contains(&name)
}

/// Checks what can be checked without knowing any column: the parts of the
/// expressions that read none.
pub(super) fn check(levels: &[Level]) -> std::result::Result<(), TransformError> {
    let planner = Planner::new(Pinned { now: Timestamp(0), batch: BatchId(uuid::Uuid::nil()) });
    let schema: SchemaRef = Arc::new(Schema::empty());
    for expr in levels.iter().flat_map(Level::exprs) {
        let found = visit_expressions(expr, |part| {
            let mut columns = BTreeSet::new();
            columns_of(part, &mut columns);
            if let Syntax::Cast { .. } = part {
                let mut bare = part.clone();
                if let Syntax::Cast { expr, .. } = &mut bare {
                    **expr = Syntax::Value(Value::Null.with_empty_span());
                }
                if let Err(error) = planner.plan(&bare, &schema) {
                    return ControlFlow::Break(refuse(place(part), message(&error)));
                }
            }
            if !columns.is_empty() || matches!(part, Syntax::Value(_)) {
                return ControlFlow::Continue(());
            }
            match planner.plan(part, &schema) {
                Ok(_) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(planner.explain(part, &schema, &error, place(part))),
            }
        });
        if let ControlFlow::Break(error) = found {
            return Err(error);
        }
    }
    Ok(())
}

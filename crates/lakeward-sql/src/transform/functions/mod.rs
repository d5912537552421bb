//! The functions that a statement may call: those of DataFusion that are pure,
//! and ours.

mod access;
mod chance;
mod json;
mod more;
mod tidy;

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use datafusion::execution::SessionStateDefaults;
use datafusion::logical_expr::ScalarUDF;
use datafusion::logical_expr::planner::ExprPlanner;
use datafusion::logical_expr_common::signature::Arity;
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList, FunctionArguments, Value,
};
use lakeward_columnar::transform::{Place, TransformError};

use super::text::{place, refuse, similar};

pub(super) use chance::Chance;
pub(super) use json::arrays as json_arrays;

/// The functions of DataFusion that a statement may call. Each gives the same
/// for the same arguments, on every machine, and its result is not much larger
/// than its arguments.
const KNOWN: &[&str] = &[
    "abs",
    "acos",
    "acosh",
    "array_add",
    "array_any_value",
    "array_append",
    "array_avg",
    "array_compact",
    "array_concat",
    "array_distinct",
    "array_element",
    "array_except",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_intersect",
    "array_length",
    "array_max",
    "array_min",
    "array_ndims",
    "array_pop_back",
    "array_pop_front",
    "array_position",
    "array_positions",
    "array_prepend",
    "array_product",
    "array_remove",
    "array_remove_all",
    "array_replace",
    "array_replace_all",
    "array_reverse",
    "array_slice",
    "array_sort",
    "array_sum",
    "array_to_string",
    "array_union",
    "ascii",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bit_length",
    "btrim",
    "cardinality",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "coalesce",
    "concat",
    "concat_ws",
    "contains",
    "cos",
    "cosh",
    "cot",
    "current_date",
    "date_bin",
    "date_part",
    "date_trunc",
    "decode",
    "degrees",
    "digest",
    "empty",
    "encode",
    "ends_with",
    "exp",
    "find_in_set",
    "flatten",
    "floor",
    "from_unixtime",
    "gcd",
    "get_field",
    "greatest",
    "initcap",
    "isnan",
    "iszero",
    "lcm",
    "least",
    "left",
    "levenshtein",
    "ln",
    "log",
    "log10",
    "log2",
    "lower",
    "lpad",
    "ltrim",
    "make_array",
    "make_date",
    "md5",
    "named_struct",
    "nanvl",
    "now",
    "nullif",
    "nvl",
    "nvl2",
    "octet_length",
    "overlay",
    "pi",
    "power",
    "radians",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "regexp_match",
    "regexp_replace",
    "repeat",
    "replace",
    "reverse",
    "right",
    "round",
    "rpad",
    "rtrim",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "signum",
    "sin",
    "sinh",
    "split_part",
    "sqrt",
    "starts_with",
    "string_to_array",
    "strpos",
    "struct",
    "substr",
    "substr_index",
    "tan",
    "tanh",
    "to_char",
    "to_date",
    "to_hex",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "translate",
    "trunc",
    "upper",
];

/// Functions that DataFusion has and a transform cannot: why.
const REFUSED: &[(&str, &str)] = &[
    ("array_repeat", "its result could be of any size"),
    ("array_resize", "its result could be of any size"),
    ("generate_series", "its result could be of any size"),
    ("range", "its result could be of any size"),
    ("arrow_cast", "use CAST(… AS type)"),
    ("arrow_try_cast", "use TRY_CAST(… AS type)"),
    ("current_time", "use now()"),
    ("input_file_name", "there are no files, only records"),
    ("file_row_index", "there are no files, only records"),
    ("version", "it depends on the machine"),
];

/// Functions whose result is as long as a number says: which argument it is.
/// The number must stand in the statement.
const SIZED: &[(&str, usize)] = &[("lpad", 1), ("rpad", 1), ("repeat", 1)];

/// The most that such a number may be.
const SIZE_MAX: u64 = 10_000;

/// All functions by name, aliases included.
pub(super) fn all() -> &'static HashMap<String, Arc<ScalarUDF>> {
    static ALL: LazyLock<HashMap<String, Arc<ScalarUDF>>> = LazyLock::new(|| {
        let mut all = HashMap::new();
        for function in SessionStateDefaults::default_scalar_functions() {
            if KNOWN.contains(&function.name()) {
                add(&mut all, function);
            }
        }
        for function in json::all().into_iter().chain(more::all()).chain(tidy::all()) {
            add(&mut all, Arc::new(function));
        }
        all
    });
    &ALL
}

fn add(all: &mut HashMap<String, Arc<ScalarUDF>>, function: Arc<ScalarUDF>) {
    for alias in function.aliases() {
        all.insert(alias.clone(), Arc::clone(&function));
    }
    all.insert(function.name().to_owned(), function);
}

/// What plans operators and field accesses.
pub(super) fn planners() -> Vec<Arc<dyn ExprPlanner>> {
    let ours: Arc<dyn ExprPlanner> = Arc::new(access::AccessPlanner);
    std::iter::once(ours).chain(SessionStateDefaults::default_expr_planners()).collect()
}

/// Names of functions over several rows.
fn is_aggregate(name: &str) -> bool {
    let aggregates = SessionStateDefaults::default_aggregate_functions();
    aggregates.iter().any(|known| known.name() == name || known.aliases().iter().any(|alias| alias == name))
}

fn is_window(name: &str) -> bool {
    let windows = SessionStateDefaults::default_window_functions();
    windows.iter().any(|known| known.name() == name || known.aliases().iter().any(|alias| alias == name))
}

/// Checks a call as far as it goes without the types of its arguments.
pub(super) fn check(name: &str, call: &Function, at: Option<Place>) -> Result<(), TransformError> {
    let is_ours = name == "random" || name == "uuid";
    let Some(function) = all().get(name) else {
        if is_ours {
            return match &call.args {
                FunctionArguments::List(list) if !list.args.is_empty() => {
                    Err(refuse(at, format!("{name}() takes no arguments")))
                }
                _ => Ok(()),
            };
        }
        return Err(refuse(at, unknown(name)));
    };
    if call.filter.is_some() || !call.within_group.is_empty() {
        return Err(refuse(at, format!("{name} is not an aggregate: remove FILTER and WITHIN GROUP")));
    }
    let args: &[FunctionArg] = match &call.args {
        FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses })
            if clauses.is_empty() =>
        {
            args
        }
        FunctionArguments::None => &[],
        _ => return Err(refuse(at, format!("{name} takes plain arguments only"))),
    };
    if let Arity::Fixed(most) = function.signature().type_signature.arity()
        && args.len() > most
    {
        return Err(refuse(
            at,
            format!("{name} takes at most {most} arguments, not {}{}", args.len(), usage(function)),
        ));
    }
    sized(name, args, at)?;
    patterned(name, args)
}

fn unknown(name: &str) -> String {
    if let Some((_, why)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
        return format!("{name} is not possible in a transform: {why}");
    }
    if is_aggregate(name) {
        return format!(
            "{name} is an aggregate, and a transform sees one record at a time (for lists there are array_sum, array_length, array_max …)"
        );
    }
    if is_window(name) {
        return format!("{name} is a window function, and a transform sees one record at a time");
    }
    let more = ["random", "uuid", "unnest"];
    match similar(name, all().keys().map(String::as_str).chain(more)) {
        Some(known) => format!("there is no function `{name}`; did you mean `{known}`?"),
        None => format!("there is no function `{name}`; docs/sql.md lists them all"),
    }
}

/// How a function is called, for a message.
pub(super) fn usage(function: &ScalarUDF) -> String {
    match function.documentation() {
        Some(documentation) => format!("; it is {}", documentation.syntax_example),
        None => String::new(),
    }
}

fn literal(arg: Option<&FunctionArg>) -> Option<&Value> {
    match arg {
        Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))) => Some(&value.value),
        _ => None,
    }
}

fn sized(name: &str, args: &[FunctionArg], at: Option<Place>) -> Result<(), TransformError> {
    let Some((_, index)) = SIZED.iter().find(|(sized, _)| *sized == name) else { return Ok(()) };
    let is_fine = match literal(args.get(*index)) {
        Some(Value::Number(number, _)) => number.parse::<u64>().is_ok_and(|number| number <= SIZE_MAX),
        Some(_) => false,
        None => args.len() <= *index,
    };
    if is_fine {
        return Ok(());
    }
    Err(refuse(at, format!("{name} takes its length as a plain number, at most {SIZE_MAX}")))
}

/// Checks regular expressions that stand in the statement.
fn patterned(name: &str, args: &[FunctionArg]) -> Result<(), TransformError> {
    if !name.starts_with("regexp_") {
        return Ok(());
    }
    let Some(Value::SingleQuotedString(pattern)) = literal(args.get(1)) else { return Ok(()) };
    match regex::Regex::new(pattern) {
        Ok(_) => Ok(()),
        Err(error) => {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            let at = args.get(1).and_then(place);
            Err(refuse(at, format!("'{pattern}' is not a regular expression: {why}")))
        }
    }
}

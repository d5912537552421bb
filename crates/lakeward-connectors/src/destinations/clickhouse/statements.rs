//! The statements that make a table and change it.

use lakeward_model::{BATCH_COLUMN, Column, ColumnType, ROW_COLUMN};

use super::config::{AutoCreate, PartitionStep, TableEngine};
use super::{WINDOW, quote, types};

/// What makes the table for these columns.
///
/// # Errors
/// A column that `create` names is none of them.
pub(super) fn create(name: &str, create: &AutoCreate, columns: &[Column]) -> Result<String, String> {
    let keys = key_columns(create, columns)?;
    let mut lines: Vec<String> = columns.iter().map(|column| definition(column, &keys)).collect();
    if columns.iter().any(|column| column.name == BATCH_COLUMN) {
        lines.push(format!("INDEX {}", index_of_batches()));
    }
    let version = create.version.as_ref().map(|version| quote::name(version)).unwrap_or_default();
    let engine = match create.engine {
        TableEngine::MergeTree => String::from("MergeTree"),
        TableEngine::ReplacingMergeTree => format!("ReplacingMergeTree({version})"),
        TableEngine::ReplicatedMergeTree => String::from("ReplicatedMergeTree"),
        TableEngine::ReplicatedReplacingMergeTree => format!("ReplicatedReplacingMergeTree({version})"),
    };
    let mut statement =
        format!("CREATE TABLE IF NOT EXISTS {name}\n(\n    {}\n)\nENGINE = {engine}", lines.join(",\n    "));
    if let Some(partition) = &create.partition_by {
        let function = match partition.by {
            PartitionStep::Month => "toYYYYMM",
            PartitionStep::Day => "toYYYYMMDD",
        };
        statement += &format!("\nPARTITION BY {function}({})", quote::name(&partition.column));
    }
    let order = create.order_by.iter().map(|part| {
        if columns.iter().any(|column| column.name == *part) { quote::name(part) } else { part.clone() }
    });
    let order: Vec<String> = order.collect();
    statement += &match order.as_slice() {
        [] => String::from("\nORDER BY tuple()"),
        [one] => format!("\nORDER BY {one}"),
        _ => format!("\nORDER BY ({})", order.join(", ")),
    };
    if let Some(ttl) = &create.ttl {
        let (count, unit) = match (ttl.days, ttl.months) {
            (Some(days), _) => (days, "DAY"),
            (None, months) => (months.unwrap_or(1), "MONTH"),
        };
        statement += &format!("\nTTL toDateTime({}) + INTERVAL {count} {unit}", quote::name(&ttl.column));
    }
    if matches!(create.engine, TableEngine::MergeTree | TableEngine::ReplacingMergeTree) {
        statement += &format!("\nSETTINGS non_replicated_deduplication_window = {WINDOW}");
    }
    Ok(statement)
}

/// The columns that the keys are made of: none of them can be null.
fn key_columns<'a>(create: &'a AutoCreate, columns: &'a [Column]) -> Result<Vec<&'a str>, String> {
    let named = [
        ("version", create.version.as_ref()),
        ("partition_by", create.partition_by.as_ref().map(|partition| &partition.column)),
        ("ttl", create.ttl.as_ref().map(|ttl| &ttl.column)),
    ];
    let mut keys = Vec::new();
    for (setting, column) in named {
        let Some(name) = column else { continue };
        if !columns.iter().any(|column| column.name == *name) {
            return Err(missing(setting, name));
        }
        keys.push(name.as_str());
    }
    for part in &create.order_by {
        let is_plain = part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        let before = keys.len();
        keys.extend(columns.iter().map(|column| column.name.as_str()).filter(|name| is_word_of(part, name)));
        if is_plain && keys.len() == before {
            return Err(missing("order_by", part));
        }
    }
    Ok(keys)
}

fn missing(setting: &str, column: &str) -> String {
    format!(
        "auto_create.{setting} names the column {column}, which the data do not have: declare it for the pipeline \
         (schema.columns), or name another"
    )
}

/// Whether a name stands in an expression as a word of its own.
pub(super) fn is_word_of(expression: &str, name: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    !name.is_empty()
        && expression.match_indices(name).any(|(at, _)| {
            let (before, behind) = (&expression[..at], &expression[at + name.len()..]);
            !before.ends_with(is_part) && !behind.starts_with(is_part)
        })
}

fn definition(column: &Column, keys: &[&str]) -> String {
    let ty = if keys.contains(&column.name.as_str()) && !is_ours(&column.name) {
        types::required(&column.ty)
    } else {
        new_column(&column.name, &column.ty)
    };
    format!("{} {ty}", quote::name(&column.name))
}

fn is_ours(name: &str) -> bool {
    name == BATCH_COLUMN || name == ROW_COLUMN
}

/// The type of a new column, which has a value for every row of ours.
fn new_column(name: &str, ty: &ColumnType) -> String {
    match name {
        BATCH_COLUMN => String::from("LowCardinality(String)"),
        ROW_COLUMN => String::from("Int64 CODEC(Delta, ZSTD)"),
        _ => types::type_of(ty),
    }
}

/// By it, looking for a batch reads only what may have it.
fn index_of_batches() -> String {
    let column = quote::name(BATCH_COLUMN);
    format!("{column} {column} TYPE bloom_filter GRANULARITY 1")
}

/// What adds that index.
pub(super) fn add_index() -> String {
    format!("ADD INDEX IF NOT EXISTS {}", index_of_batches())
}

/// What adds a column.
pub(super) fn add_column(column: &Column) -> String {
    format!("ADD COLUMN IF NOT EXISTS {} {}", quote::name(&column.name), new_column(&column.name, &column.ty))
}

/// What makes a column another type.
pub(super) fn modify_column(name: &str, ty: &str) -> String {
    format!("MODIFY COLUMN {} {ty}", quote::name(name))
}

/// The type that a column has to become so that it takes values of `ours` and
/// keeps its own: tuples with further fields, floats instead of integers.
pub(super) fn widened(theirs: &str, ours: &ColumnType) -> Option<String> {
    match ours {
        ColumnType::Float64 => match theirs {
            "Int64" => Some(String::from("Float64")),
            "Nullable(Int64)" => Some(String::from("Nullable(Float64)")),
            _ => None,
        },
        ColumnType::List(item) => {
            let inner = theirs.strip_prefix("Array(")?.strip_suffix(')')?;
            Some(format!("Array({})", widened(inner, item)?))
        }
        ColumnType::Struct(columns) => {
            let mut fields = types::fields(theirs)?;
            let mut is_changed = false;
            for column in columns {
                match fields.iter_mut().find(|(name, _)| *name == column.name) {
                    Some((_, ty)) => {
                        if let Some(wide) = widened(ty, &column.ty) {
                            (*ty, is_changed) = (wide, true);
                        }
                    }
                    None => {
                        fields.push((column.name.clone(), types::type_of(&column.ty)));
                        is_changed = true;
                    }
                }
            }
            let field = |(name, ty): &(String, String)| format!("{} {ty}", quote::name(name));
            is_changed.then(|| format!("Tuple({})", fields.iter().map(field).collect::<Vec<_>>().join(", ")))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::config::{PartitionBy, Ttl};
    use super::*;

    fn column(name: &str, ty: ColumnType) -> Column {
        Column { name: name.into(), ty }
    }

    #[test]
    fn tables_are_made_as_configured() {
        let columns = [
            column("event_hash", ColumnType::Utf8),
            column("at", ColumnType::TimestampTz),
            column("v", ColumnType::Int64),
            column("x", ColumnType::Float64),
            column(BATCH_COLUMN, ColumnType::Utf8),
            column(ROW_COLUMN, ColumnType::Int64),
        ];
        let config = AutoCreate {
            engine: TableEngine::ReplacingMergeTree,
            version: Some("v".into()),
            order_by: vec!["event_hash".into()],
            partition_by: Some(PartitionBy { column: "at".into(), by: PartitionStep::Month }),
            ttl: Some(Ttl { column: "at".into(), days: None, months: Some(18) }),
        };
        assert_eq!(
            create("`d`.`t`", &config, &columns).expect("a statement"),
            "CREATE TABLE IF NOT EXISTS `d`.`t`\n(\n    `event_hash` String,\n    `at` DateTime64(6, 'UTC'),\n    \
             `v` Int64,\n    `x` Nullable(Float64),\n    `_lakeward_batch` LowCardinality(String),\n    \
             `_lakeward_row` Int64 CODEC(Delta, ZSTD),\n    \
             INDEX `_lakeward_batch` `_lakeward_batch` TYPE bloom_filter GRANULARITY 1\n)\n\
             ENGINE = ReplacingMergeTree(`v`)\nPARTITION BY toYYYYMM(`at`)\nORDER BY `event_hash`\n\
             TTL toDateTime(`at`) + INTERVAL 18 MONTH\nSETTINGS non_replicated_deduplication_window = 10000"
        );
        let plain = create("t", &AutoCreate::default(), &columns[..1]).expect("a statement");
        assert!(
            plain.contains("`event_hash` Nullable(String)\n") && plain.contains("\nORDER BY tuple()\n"),
            "{plain}"
        );
        let sorted = AutoCreate { order_by: vec!["nope".into()], ..AutoCreate::default() };
        assert!(create("t", &sorted, &columns).expect_err("no such column").contains("nope"));
        let by = AutoCreate { order_by: vec!["cityHash64(event_hash)".into()], ..AutoCreate::default() };
        assert!(create("t", &by, &columns).expect("a statement").contains("`event_hash` String,"));
    }

    #[test]
    fn words() {
        assert!(is_word_of("toDate(at)", "at") && is_word_of("at", "at"));
        assert!(!is_word_of("format(x)", "at") && !is_word_of("at_2", "at"));
    }

    #[test]
    fn columns_grow() {
        let check = |theirs: &str, ours: ColumnType, expect: Option<&str>| {
            assert_eq!(widened(theirs, &ours).as_deref(), expect, "{theirs}");
        };
        check("Nullable(Int64)", ColumnType::Float64, Some("Nullable(Float64)"));
        check("Int32", ColumnType::Float64, None);
        let object = ColumnType::Struct(vec![column("a", ColumnType::Int64), column("b", ColumnType::Utf8)]);
        check("Tuple(a Int8)", object.clone(), Some("Tuple(`a` Int8, `b` Nullable(String))"));
        check("Tuple(a Int64, b String)", object.clone(), None);
        check("Array(Tuple(a Int8, b String))", ColumnType::List(Box::new(object.clone())), None);
        check(
            "Array(Tuple(a Int8))",
            ColumnType::List(Box::new(object)),
            Some("Array(Tuple(`a` Int8, `b` Nullable(String)))"),
        );
    }
}

//! The statement of an insert, and the settings that go with every one (contract
//! `amplitude-xapi-adobe-warehouses.md`, sections 3.1 and 3.2): none is left to
//! what a server of some release, or a user's profile, takes for granted.

use std::collections::BTreeMap;

use lakeward_model::{BATCH_COLUMN, Column, Format, ROW_COLUMN};

use super::quote;
use super::types::{self, Fit};

/// How the files of some columns go into a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Loading {
    /// Columns of the table with what goes into them.
    columns: Vec<(String, Option<String>)>,
    /// The columns of the files, as `input` takes them.
    structure: String,
    format: &'static str,
}

impl Loading {
    /// `None` for a format that no table is loaded from. `columns` have their
    /// fits, none of them [`Fit::No`].
    pub(super) fn new(columns: &[(&Column, Fit)], format: Format) -> Option<Self> {
        let name = match format {
            Format::Parquet => "Parquet",
            Format::Ndjson => "JSONEachRow",
            Format::RowBinary => "RowBinaryWithNamesAndTypes",
            Format::Csv | Format::Verbatim => return None,
        };
        let all: Vec<Column> = columns.iter().map(|(column, _)| (*column).clone()).collect();
        let into = |(column, fit): &(&Column, Fit)| {
            let cast = match fit {
                Fit::Cast(by) => Some(by.clone()),
                Fit::Exact | Fit::No(_) => None,
            };
            (quote::name(&column.name), cast)
        };
        let columns = columns.iter().map(into).collect();
        Some(Self { columns, structure: types::structure(&all), format: name })
    }

    /// The statement: the file as it is, or, where values have to be converted
    /// or rows chosen, a `SELECT` of it.
    pub(super) fn sql(&self, table: &str, filter: Option<&str>) -> String {
        let names = self.columns.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
        let format = self.format;
        // RowBinary's values have the types of the files, whatever the table's.
        let is_typed = format.starts_with("RowBinary");
        if filter.is_none() && !is_typed && self.columns.iter().all(|(_, cast)| cast.is_none()) {
            return format!("INSERT INTO {table} ({names}) FORMAT {format}");
        }
        let values = self.columns.iter().map(|(name, cast)| cast.as_deref().unwrap_or(name));
        let values = values.collect::<Vec<_>>().join(", ");
        let structure = quote::literal(&self.structure);
        let filter = filter.map(|filter| format!(" WHERE {filter}")).unwrap_or_default();
        format!(
            "INSERT INTO {table} ({names}) SELECT {values} FROM input({structure}){filter} FORMAT {format}"
        )
    }
}

/// Only the rows that are not in the table.
pub(super) fn missing(table: &str, batch: &str) -> String {
    let row = quote::name(ROW_COLUMN);
    format!("{row} NOT IN (SELECT {row} FROM {table} WHERE {})", of_batch(batch))
}

/// The rows of a batch in the table.
pub(super) fn of_batch(batch: &str) -> String {
    format!("{} = {}", quote::name(BATCH_COLUMN), quote::literal(batch))
}

/// Only the rows of the `slice`-th of `slices` groups of partitions.
pub(super) fn slice(partition_key: &str, slice: u32, slices: u32) -> String {
    format!("sipHash64({partition_key}) % {slices} = {slice}")
}

/// What an insert is sent with. A file of `rows` is one block, so that each of
/// its partitions is stored at once or not at all, and a second try is cut as
/// the first.
pub(super) fn settings(
    rows: u64,
    token: Option<String>,
    of_user: &BTreeMap<String, String>,
) -> Vec<(&str, String)> {
    let block = rows.max(1).to_string();
    let mut all: Vec<(&str, String)> = [
        ("async_insert", "0"),
        ("wait_end_of_query", "1"),
        ("insert_deduplicate", "1"),
        ("deduplicate_blocks_in_dependent_materialized_views", "1"),
        ("date_time_input_format", "best_effort"),
        ("input_format_skip_unknown_fields", "0"),
        ("input_format_null_as_default", "1"),
        ("insert_null_as_default", "1"),
        ("input_format_allow_errors_num", "0"),
        ("input_format_allow_errors_ratio", "0"),
        ("input_format_json_named_tuples_as_objects", "1"),
        ("input_format_json_read_arrays_as_strings", "1"),
        ("input_format_json_read_objects_as_strings", "1"),
        ("insert_distributed_sync", "1"),
        ("max_insert_threads", "1"),
        ("max_partitions_per_insert_block", "0"),
        ("min_insert_block_size_bytes", "0"),
        // The types are those of `input`, written a little differently.
        ("input_format_with_types_use_header", "0"),
        // Before 25.x the last digit of a float was a guess.
        ("precise_float_parsing", "1"),
    ]
    .map(|(name, value)| (name, String::from(value)))
    .into();
    all.push(("min_insert_block_size_rows", block.clone()));
    all.push(("max_insert_block_size", block));
    all.extend(token.map(|token| ("insert_deduplication_token", token)));
    all.retain(|(name, _)| !of_user.contains_key(*name));
    all.extend(of_user.iter().map(|(name, value)| (name.as_str(), value.clone())));
    all
}

#[cfg(test)]
mod tests {
    use lakeward_model::ColumnType;

    use super::*;

    #[test]
    fn statements() {
        let (id, name) = (
            Column { name: "id".into(), ty: ColumnType::Int64 },
            Column { name: "a'b".into(), ty: ColumnType::Utf8 },
        );
        let exact =
            Loading::new(&[(&id, Fit::Exact), (&name, Fit::Exact)], Format::Parquet).expect("a format");
        assert_eq!(exact.sql("`d`.`t`", None), "INSERT INTO `d`.`t` (`id`, `a'b`) FORMAT Parquet");
        assert_eq!(
            exact.sql("t", Some("x")),
            r"INSERT INTO t (`id`, `a'b`) SELECT `id`, `a'b` FROM input('`id` Nullable(Int64), `a\'b` Nullable(String)') WHERE x FORMAT Parquet"
        );
        let cast =
            Loading::new(&[(&id, Fit::Cast("toInt8(`id`)".into()))], Format::Ndjson).expect("a format");
        assert_eq!(
            cast.sql("t", None),
            "INSERT INTO t (`id`) SELECT toInt8(`id`) FROM input('`id` Nullable(Int64)') FORMAT JSONEachRow"
        );
        assert_eq!(Loading::new(&[], Format::Csv), None);
    }

    #[test]
    fn settings_are_sent_and_may_be_added_to() {
        let user: BTreeMap<String, String> = [
            ("max_partitions_per_insert_block".to_string(), "7".to_string()),
            ("insert_quorum".to_string(), "2".to_string()),
        ]
        .into();
        let all = settings(5, Some("t-0".into()), &user);
        let value = |name: &str| {
            let found: Vec<_> = all.iter().filter(|(known, _)| *known == name).collect();
            assert_eq!(found.len(), 1, "{name}");
            found[0].1.clone()
        };
        for (name, expect) in [
            ("async_insert", "0"),
            ("insert_deduplication_token", "t-0"),
            ("max_insert_block_size", "5"),
            ("max_partitions_per_insert_block", "7"),
            ("insert_quorum", "2"),
        ] {
            assert_eq!(value(name), expect);
        }
        assert!(settings(0, None, &user).iter().all(|(name, _)| *name != "insert_deduplication_token"));
    }
}

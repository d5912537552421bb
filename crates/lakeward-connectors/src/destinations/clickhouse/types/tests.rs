use super::*;

fn column(name: &str, ty: ColumnType) -> Column {
    Column { name: name.into(), ty }
}

#[test]
fn types_of_new_columns() {
    let check = |ty: ColumnType, expect: &str| assert_eq!(type_of(&ty), expect);
    check(ColumnType::Bool, "Nullable(Bool)");
    check(ColumnType::Json, "Nullable(String)");
    check(ColumnType::Timestamp, "Nullable(DateTime64(6, 'UTC'))");
    check(ColumnType::Decimal(38, 9), "Nullable(Decimal(38, 9))");
    check(ColumnType::List(Box::new(ColumnType::Date)), "Array(Nullable(Date32))");
    let nested = ColumnType::Struct(vec![
        column("a b", ColumnType::Utf8),
        column("c`", ColumnType::List(Box::new(ColumnType::Struct(vec![column("d", ColumnType::Int64)])))),
    ]);
    check(nested, r"Tuple(`a b` Nullable(String), `c\`` Array(Tuple(`d` Nullable(Int64))))");
}

#[test]
fn what_is_made_fits() {
    let types = [
        ColumnType::Bool,
        ColumnType::Int64,
        ColumnType::Float64,
        ColumnType::Utf8,
        ColumnType::Json,
        ColumnType::Timestamp,
        ColumnType::TimestampTz,
        ColumnType::Date,
        ColumnType::Decimal(10, 2),
        ColumnType::Binary,
    ];
    for ty in types {
        let list = ColumnType::List(Box::new(ty.clone()));
        let all = ColumnType::Struct(vec![column("x y", ty.clone()), column("l`", list.clone())]);
        for ty in [ty, list, all] {
            for format in [Format::Parquet, Format::Ndjson] {
                assert_eq!(fit("c", &ty, &type_of(&ty), format), Fit::Exact, "{ty:?}");
            }
        }
    }
}

#[test]
fn what_could_become_another_value_is_checked_or_refused() {
    use ColumnType::{Bool, Date, Decimal, Float64, Int64, Json, Timestamp, TimestampTz, Utf8};
    let list = |ty| ColumnType::List(Box::new(ty));
    let check = |ours: ColumnType, theirs: &str, expect: &str| {
        let seen = match fit("c", &ours, theirs, Format::Parquet) {
            Fit::Exact => "exact",
            Fit::Cast(by) if by.starts_with("if(throwIf") || by.starts_with("accurateCast(") => "checked",
            Fit::Cast(_) => "cast",
            Fit::No(_) => "no",
        };
        assert_eq!(seen, expect, "{ours:?} into {theirs}");
    };
    check(Int64, "Int64", "exact");
    check(Int64, "LowCardinality(Nullable(Int64))", "exact");
    check(Int64, "UInt64", "checked");
    check(Int64, "Nullable(Int32)", "checked");
    check(Int64, "Float64", "checked");
    check(Int64, "String", "cast");
    check(Int64, "SimpleAggregateFunction(max, Int64)", "exact");
    check(Int64, "DateTime", "no");
    check(Int64, "Bool", "no");
    check(Float64, "Int64", "checked");
    check(Float64, "Float32", "cast");
    check(Bool, "UInt8", "cast");
    check(Utf8, "LowCardinality(String)", "exact");
    check(Utf8, "UUID", "checked");
    check(Utf8, "UInt8", "checked");
    check(Utf8, "FixedString(16)", "checked");
    check(Utf8, "Enum8('a, (b' = 1, 'c' = 2)", "cast");
    check(Utf8, "DateTime64(3)", "checked");
    check(Utf8, "Date", "checked");
    check(Utf8, "Array(String)", "no");
    check(Json, "JSON", "cast");
    check(Json, "Int64", "no");
    check(Timestamp, "DateTime64(3)", "exact");
    check(TimestampTz, "DateTime64(9, 'Europe/Berlin')", "cast");
    check(TimestampTz, "DateTime", "checked");
    check(TimestampTz, "Date", "no");
    check(Date, "Date", "checked");
    check(Date, "DateTime64(3)", "cast");
    check(Decimal(10, 2), "Decimal(12, 4)", "exact");
    check(Decimal(10, 2), "Decimal(10, 4)", "checked");
    check(Decimal(10, 2), "Decimal(12, 1)", "checked");
    check(list(Int64), "Array(Nullable(Int64))", "exact");
    check(list(Int64), "Array(Int64)", "checked");
    check(list(Int64), "Array(Nullable(UInt8))", "checked");
    check(list(Utf8), "Array(Nullable(UInt8))", "no");
    check(list(Int64), "String", "cast");
    let object = ColumnType::Struct(vec![column("a", Int64), column("b", Utf8)]);
    check(object.clone(), "Tuple(b Nullable(String), a Nullable(Int64), z Int8)", "exact");
    check(object.clone(), "Tuple(a Nullable(Int8), b Nullable(String))", "checked");
    check(object.clone(), "Tuple(a Nullable(Int64))", "no");
    check(object.clone(), "Tuple(Int64, String)", "no");
    check(object.clone(), "JSON(max_dynamic_paths=8)", "cast");
    check(object, "Map(String, String)", "no");
    // A text file's time without a zone is UTC, whatever the column's is.
    assert_eq!(fit("c", &Timestamp, "DateTime64(3, 'UTC')", Format::Ndjson), Fit::Exact);
    assert!(matches!(fit("c", &Timestamp, "DateTime64(3)", Format::Ndjson), Fit::Cast(_)));
}

#[test]
fn types_are_taken_apart_at_the_right_commas() {
    assert_eq!(call("Decimal(10, 2)"), ("Decimal", vec!["10", "2"]));
    assert_eq!(call(r"Enum8('a\',(' = 1, 'b' = 2)"), ("Enum8", vec![r"'a\',(' = 1", "'b' = 2"]));
    assert_eq!(call("String"), ("String", vec![]));
    assert_eq!(
        fields(r"Tuple(a Nullable(Int64), `b c\`` Tuple(d Int8, e Int8))"),
        Some(vec![("a".into(), "Nullable(Int64)".into()), ("b c`".into(), "Tuple(d Int8, e Int8)".into())])
    );
    assert_eq!(fields("Tuple(Int8, Int8)"), None);
}

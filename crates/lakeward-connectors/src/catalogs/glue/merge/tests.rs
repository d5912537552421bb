use lakeward_model::{ColumnType, KeyFormat, PartitionKey, TableFormat};

use super::*;

fn wanted() -> TableDescription {
    TableDescription {
        pipeline: "p".into(),
        location: "s3://b/p/".into(),
        columns: Vec::new(),
        hidden: std::collections::BTreeMap::new(),
        partition_keys: vec![PartitionKey {
            name: "day".into(),
            ty: ColumnType::Date,
            format: KeyFormat::Any,
            hive: true,
            optional: true,
            depth: 1,
        }],
        folders: "day=${day}/".into(),
        deeper: 0,
        format: TableFormat::Parquet { compression: "zstd".into() },
    }
}

fn columns(columns: &[(&str, &str)]) -> HiveColumns {
    let column = |(name, ty): &(&str, &str)| HiveColumn { name: (*name).into(), ty: (*ty).into() };
    HiveColumns {
        columns: columns.iter().map(column).collect(),
        partition_keys: vec![HiveColumn { name: "day".into(), ty: "date".into() }],
        notes: Vec::new(),
    }
}

/// A table that a person made, as `GetTable` gives it.
fn theirs() -> Map<String, Value> {
    let table = json!({
        "Name": "events", "DatabaseName": "lake", "CreateTime": 1.5, "VersionId": "7", "CatalogId": "1",
        "IsRegisteredWithLakeFormation": false, "Owner": "them", "Retention": 3,
        "StorageDescriptor": {
            "Columns": [{"Name": "Id", "Type": "string", "Comment": "who"}, {"Name": "extra", "Type": "int"}],
            "Location": "s3://b/p", "NumberOfBuckets": -1,
            "SerdeInfo": {"SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"},
        },
        "PartitionKeys": [{"Name": "day", "Type": "string"}],
        "TableType": "EXTERNAL_TABLE",
        "Parameters": {"classification": "parquet", "team": "growth", "projection.old.type": "enum"},
    });
    table.as_object().expect("an object").clone()
}

#[test]
fn a_table_that_has_all_is_left_alone() {
    let change = plan(&theirs(), &wanted(), &columns(&[("id", "string")]), None).expect("it fits");
    assert_eq!((change.table, change.retyped.len(), change.columns.len()), (None, 0, 2));
}

#[test]
fn columns_are_added_and_what_others_set_stays() {
    let ours = columns(&[("id", "string"), ("n", "bigint")]);
    let change = plan(&theirs(), &wanted(), &ours, None).expect("it fits");
    let table = change.table.expect("a change");
    assert_eq!(
        table["StorageDescriptor"]["Columns"],
        json!([
            {"Name": "Id", "Type": "string", "Comment": "who"}, {"Name": "extra", "Type": "int"},
            {"Name": "n", "Type": "bigint"},
        ])
    );
    assert_eq!((&table["Owner"], &table["Retention"]), (&json!("them"), &json!(3)));
    assert_eq!(table["StorageDescriptor"]["NumberOfBuckets"], json!(-1));
    assert_eq!(table["Parameters"], theirs()["Parameters"]);
    for read_only in ["DatabaseName", "CreateTime", "VersionId", "CatalogId", "IsRegisteredWithLakeFormation"]
    {
        assert!(!table.contains_key(read_only), "{read_only}");
    }
}

#[test]
fn a_wider_type_reaches_the_partitions_too() {
    let mut there = theirs();
    there["StorageDescriptor"]["Columns"][1] = json!({"Name": "extra", "Type": "bigint"});
    let change = plan(&there, &wanted(), &columns(&[("extra", "double")]), None).expect("it fits");
    assert_eq!(change.retyped, [HiveColumn { name: "extra".into(), ty: "double".into() }]);
    let old = json!({"Values": ["x"], "StorageDescriptor": {"Location": "l", "Columns": [{"Name": "extra", "Type": "bigint"}]}});
    let new = retype(&old, &change.retyped).expect("a change");
    assert_eq!(new, json!({"Location": "l", "Columns": [{"Name": "extra", "Type": "double"}]}));
    assert_eq!(retype(&json!({"StorageDescriptor": new}), &change.retyped), None);
}

#[test]
fn projection_replaces_projection_and_nothing_else() {
    let projection = Projection { from: "2024-01-01".into(), values: [].into() };
    let change = plan(&theirs(), &wanted(), &columns(&[]), Some(&projection)).expect("it fits");
    let parameters = change.table.expect("a change")["Parameters"].clone();
    assert_eq!(parameters["team"], json!("growth"));
    assert_eq!(parameters["projection.day.type"], json!("injected"));
    assert_eq!(parameters.get("projection.old.type"), None);
    let mut again = theirs();
    again.insert("Parameters".into(), parameters);
    let change = plan(&again, &wanted(), &columns(&[]), Some(&projection)).expect("it fits");
    assert_eq!(change.table, None, "the second time nothing changes");
}

#[test]
fn what_cannot_be_taken_over_says_why() {
    let check = |change: fn(&mut Map<String, Value>), ours: &[(&str, &str)], says: &str| {
        let mut there = theirs();
        change(&mut there);
        let said = plan(&there, &wanted(), &columns(ours), None).expect_err(says);
        assert!(said.contains(says), "{said}");
    };
    check(
        |_| {},
        &[("extra", "bigint")],
        "the column extra is int in the table and bigint in the files; change it to bigint",
    );
    check(
        |t| t["PartitionKeys"] = json!([]),
        &[],
        "its partition keys are none and the pipeline's folders are day",
    );
    check(|t| t["TableType"] = json!("VIRTUAL_VIEW"), &[], "it is a view");
    check(
        |t| drop(t.insert("TargetTable".into(), json!({"DatabaseName": "d", "Name": "t"}))),
        &[],
        "it is a link to the table d.t",
    );
    check(|t| t["Parameters"] = json!({"table_type": "ICEBERG"}), &[], "the iceberg format");
    check(
        |t| {
            t["StorageDescriptor"]["SerdeInfo"]["SerializationLibrary"] =
                json!("org.apache.hadoop.hive.ql.io.orc.OrcSerde")
        },
        &[],
        "OrcSerde, and the pipeline writes Parquet",
    );
    let mut there = theirs();
    there["StorageDescriptor"]["Location"] = json!("s3://other/");
    assert!(plan(&there, &wanted(), &columns(&[]), None).is_ok(), "partitions have a location of their own");
    let projection = Projection { from: "2024-01-01".into(), values: [].into() };
    let said = plan(&there, &wanted(), &columns(&[]), Some(&projection)).expect_err("another place");
    assert!(said.contains("s3://other/ and the pipeline's files in s3://b/p/"), "{said}");
}

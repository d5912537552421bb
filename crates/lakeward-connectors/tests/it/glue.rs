//! Glue against a server that answers what it is told: races, errors of single
//! partitions, and what each means. Real servers are in `tests/test_catalog.py`.

use lakeward_connectors::catalogs::glue::{Glue, GlueConfig};
use lakeward_model::{
    Catalog, CatalogAnswer, Column, ColumnType, Failure, FailureKind, KeyFormat, Partition, PartitionKey,
    Registered, Registration, TableDescription, TableFormat,
};
use serde_json::{Value, json};

use crate::aws_at;
use crate::functions::server::{Answer, Server, reply};

fn registration(from_the_start: bool) -> Registration {
    let key = PartitionKey {
        name: "Area".into(),
        ty: ColumnType::Utf8,
        format: KeyFormat::Any,
        hive: true,
        optional: true,
        depth: 1,
    };
    let partition = |value: Option<&str>| Partition {
        values: vec![value.map(String::from)],
        location: format!("s3://b/p/Area={}/", value.unwrap_or("__missing__")),
    };
    Registration {
        table: TableDescription {
            pipeline: "p".into(),
            location: "s3://b/p/".into(),
            columns: vec![Column { name: "N".into(), ty: ColumnType::Int64 }],
            hidden: std::collections::BTreeMap::new(),
            partition_keys: vec![key],
            folders: "Area=${Area}/".into(),
            deeper: 0,
            format: TableFormat::Parquet { compression: "zstd".into() },
        },
        partitions: vec![partition(Some("a")), partition(None)],
        from_the_start,
        made: (!from_the_start).then(|| String::from("1.0")),
    }
}

fn ok(body: &Value) -> Answer {
    reply(200, "", &body.to_string())
}

fn no(code: &str) -> Answer {
    reply(400, "", &json!({ "__type": code, "Message": "said" }).to_string())
}

/// A table without our column, at a version.
fn table(version: &str, columns: &Value) -> Answer {
    ok(&json!({"Table": {
        "Name": "p", "VersionId": version, "CreateTime": 1.0, "PartitionKeys": [{"Name": "area", "Type": "string"}],
        "StorageDescriptor": {"Columns": columns, "Location": "s3://b/p/", "SerdeInfo": {
            "SerializationLibrary": "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe"}},
    }}))
}

/// Registers against these answers; what came of it, and each call with its
/// input.
async fn run(
    answers: impl IntoIterator<Item = Answer>,
    from_the_start: bool,
) -> (Result<Registered, Failure>, Vec<(String, Value)>) {
    run_of(&registration(from_the_start), answers).await
}

async fn run_of(
    registration: &Registration,
    answers: impl IntoIterator<Item = Answer>,
) -> (Result<Registered, Failure>, Vec<(String, Value)>) {
    let server = Server::start(answers).await;
    let config =
        GlueConfig { database: "lake".into(), aws: aws_at(&server.address), ..GlueConfig::default() };
    let glue = Glue::open(&config, "p").expect("it opens");
    assert_eq!(glue.to_string(), "glue lake.p");
    let outcome = glue.register(registration).await;
    assert!(!format!("{glue:?} {outcome:?}").contains("hush"));
    let calls = server.requests().into_iter().map(|request| {
        let operation = request.headers["x-amz-target"].trim_start_matches("AWSGlue.").to_string();
        (operation, serde_json::from_slice(&request.body).expect("JSON"))
    });
    (outcome, calls.collect())
}

fn names(calls: &[(String, Value)]) -> Vec<&str> {
    calls.iter().map(|(name, _)| name.as_str()).collect()
}

fn done(outcome: Result<Registered, Failure>) {
    let answer = CatalogAnswer { made: Some("1.0".into()), ..CatalogAnswer::default() };
    assert_eq!(outcome.expect("it is registered"), Registered::Done(answer));
}

#[tokio::test]
async fn everything_is_made_that_is_missing() {
    let missing = "EntityNotFoundException";
    let answers = [
        no(missing),
        no(missing),
        no("AlreadyExistsException"),
        ok(&json!({})),
        table("1", &json!([{"Name": "n", "Type": "bigint"}])),
        ok(&json!({"Errors": []})),
    ];
    let (outcome, calls) = run(answers, true).await;
    done(outcome);
    let made =
        ["GetTable", "CreateTable", "CreateDatabase", "CreateTable", "GetTable", "BatchCreatePartition"];
    assert_eq!(names(&calls), made);
    let table = &calls[3].1["TableInput"];
    assert_eq!(table["PartitionKeys"], json!([{"Name": "area", "Type": "string"}]));
    assert_eq!(table["StorageDescriptor"]["Columns"], json!([{"Name": "n", "Type": "bigint"}]));
    let partitions = &calls[5].1["PartitionInputList"];
    assert_eq!(partitions[0]["Values"], json!(["a"]));
    assert_eq!(partitions[1]["Values"], json!(["__HIVE_DEFAULT_PARTITION__"]));
    assert_eq!(partitions[1]["StorageDescriptor"]["Location"], json!("s3://b/p/Area=__missing__/"));
}

#[tokio::test]
async fn a_table_that_should_be_there_is_not_made_without_its_partitions() {
    let (outcome, calls) = run([no("EntityNotFoundException")], false).await;
    assert_eq!(outcome.expect("an answer"), Registered::TableMissing);
    assert_eq!(names(&calls), ["GetTable"]);
}

#[tokio::test]
async fn a_table_that_was_made_anew_is_a_missing_one() {
    let mut anew = registration(false);
    anew.made = Some("0.5".into());
    let (outcome, calls) = run_of(&anew, [table("1", &json!([]))]).await;
    assert_eq!(outcome.expect("an answer"), Registered::TableMissing);
    assert_eq!(names(&calls), ["GetTable"], "nothing is changed");
}

#[tokio::test]
async fn of_two_folders_for_one_partition_the_first_counts() {
    let mut twice = registration(false);
    twice.partitions[1] = Partition { location: "s3://c/".into(), ..twice.partitions[0].clone() };
    let there = json!({"Values": ["a"], "StorageDescriptor": {"Location": "s3://b/p/Area=a/"}});
    let answers = [
        table("1", &json!([{"Name": "n", "Type": "bigint"}])),
        ok(&json!({})),
        ok(&json!({"Partitions": [there]})),
    ];
    let (outcome, calls) = run_of(&twice, answers).await;
    let elsewhere = vec![(twice.partitions[1].clone(), String::from("s3://b/p/Area=a/"))];
    let answer = CatalogAnswer { made: Some("1.0".into()), notes: Vec::new(), elsewhere };
    assert_eq!(outcome.expect("it is registered"), Registered::Done(answer));
    assert_eq!(calls[1].1["PartitionInputList"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn somebody_elses_change_is_read_before_ours() {
    let theirs = json!([{"Name": "theirs", "Type": "int", "Comment": "c"}]);
    let (outcome, calls) = run(
        [
            table("1", &json!([])),
            no("ConcurrentModificationException"),
            table("2", &theirs),
            ok(&json!({})),
            ok(&json!({})),
        ],
        false,
    )
    .await;
    done(outcome);
    assert_eq!(names(&calls), ["GetTable", "UpdateTable", "GetTable", "UpdateTable", "BatchCreatePartition"]);
    assert_eq!((&calls[1].1["VersionId"], &calls[3].1["VersionId"]), (&json!("1"), &json!("2")));
    assert_eq!(calls[3].1["SkipArchive"], json!(true));
    let table = &calls[3].1["TableInput"];
    assert_eq!(table["StorageDescriptor"]["Columns"][0], theirs[0]);
    assert_eq!(table.get("CreateTime"), None);
}

#[tokio::test]
async fn errors_of_partitions() {
    let there = || table("1", &json!([{"Name": "n", "Type": "bigint"}]));
    let errors = |codes: &[&str]| {
        let one = |code: &&str| json!({"PartitionValues": ["a"], "ErrorDetail": {"ErrorCode": code, "ErrorMessage": "m"}});
        ok(&json!({"Errors": codes.iter().map(one).collect::<Vec<_>>()}))
    };
    let partition =
        |value: &str, location: &str| json!({"Values": [value], "StorageDescriptor": {"Location": location}});
    let told = |all: &[Value]| ok(&json!({"Partitions": all}));
    let (here, null) = (partition("a", "s3a://b/p/Area=a"), "__HIVE_DEFAULT_PARTITION__");
    let known = errors(&["AlreadyExistsException", "AlreadyExistsException"]);
    let (outcome, calls) = run([there(), known, told(std::slice::from_ref(&here))], false).await;
    done(outcome);
    assert_eq!(names(&calls), ["GetTable", "BatchCreatePartition", "BatchGetPartition"]);
    assert_eq!(calls[2].1["PartitionsToGet"], json!([{"Values": ["a"]}]));
    for (code, kind) in [
        ("InternalServiceException", FailureKind::Unknown),
        ("ResourceNumberLimitExceededException", FailureKind::Refused),
        ("InvalidInputException", FailureKind::Refused),
    ] {
        let (outcome, _) = run([there(), errors(&["AlreadyExistsException", code])], false).await;
        let failure = outcome.expect_err("it failed");
        assert_eq!(failure.kind, kind, "{failure}");
        assert_eq!(failure.message, format!("the partition a of lake.p: {code}: m"));
    }
    // For the whole call: each on its own.
    let whole = || no("AlreadyExistsException");
    let (outcome, calls) =
        run([there(), whole(), ok(&json!({})), whole(), told(&[partition(null, "s3://other/x/")])], false)
            .await;
    assert_eq!(calls[3].1["PartitionInputList"].as_array().map(Vec::len), Some(1));
    let elsewhere = vec![(registration(true).partitions[1].clone(), String::from("s3://other/x/"))];
    let answer = CatalogAnswer { made: Some("1.0".into()), notes: Vec::new(), elsewhere };
    assert_eq!(outcome.expect("it is registered"), Registered::Done(answer));
    // Not all were told: again.
    let unprocessed = ok(&json!({"Partitions": [], "UnprocessedKeys": [{"Values": ["a"]}]}));
    let (outcome, _) = run([there(), errors(&["AlreadyExistsException"]), unprocessed], false).await;
    assert_eq!(outcome.expect_err("it is not done").kind, FailureKind::NotDone);
    // The table went while we were at it.
    let (outcome, calls) =
        run([there(), no("EntityNotFoundException"), no("EntityNotFoundException")], false).await;
    assert_eq!(outcome.expect("an answer"), Registered::TableMissing);
    assert_eq!(names(&calls), ["GetTable", "BatchCreatePartition", "GetTable"]);
}

#[tokio::test]
async fn what_the_service_says_is_known_for_what_it_is() {
    let check = async |answer: Answer, kind: FailureKind, says: &str| {
        let failure = run([answer], false).await.0.expect_err(says);
        assert_eq!(failure.kind, kind, "{failure}");
        assert!(failure.message.contains(says), "{failure}");
    };
    check(no("AccessDeniedException"), FailureKind::Refused, "the credentials need glue:GetTable").await;
    check(no("ThrottlingException"), FailureKind::NotDone, "ThrottlingException").await;
    check(no("InternalServiceException"), FailureKind::Unknown, "InternalServiceException").await;
    check(no("OperationTimeoutException"), FailureKind::Unknown, "OperationTimeoutException").await;
    check(reply(503, "", ""), FailureKind::NotDone, "503").await;
    check(Answer::Close, FailureKind::Unknown, "no answer").await;
    let (outcome, _) = run([table("1", &json!([{"Name": "n", "Type": "string"}]))], false).await;
    let failure = outcome.expect_err("it differs");
    assert_eq!(failure.kind, FailureKind::Refused);
    assert!(
        failure.message.starts_with("the table lake.p: the column n is string in the table and bigint"),
        "{failure}"
    );
}

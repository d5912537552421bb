use std::io::Write as _;

use lakeward_model::{Offset, Records, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::shape::Lambda;

fn block<T: AsRef<[u8]>>(records: &[T]) -> RecordBlock {
    let (mut data, mut ends) = (Vec::new(), Vec::new());
    for record in records {
        data.extend_from_slice(record.as_ref());
        ends.push(data.len() as u32);
    }
    let records = Records::new(data.into(), ends);
    RecordBlock { records, first: Offset(7), received_at: Timestamp(0) }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn json() -> Processing {
    Processing { split: Some(Split::Json), ..Processing::default() }
}

fn delimiter(text: &str) -> Processing {
    Processing { split: Some(Split::Delimiter(text.into())), ..Processing::default() }
}

fn lambda() -> Option<Lambda> {
    Some(Lambda::one_at_a_time())
}

/// `index:text` of every piece, then `index!code` of every record that failed.
fn told(pieces: &Pieces) -> Vec<String> {
    let of = |at: usize| pieces.of.as_ref().map_or(at as u32, |of| of[at]);
    let texts = pieces.records.iter().enumerate();
    let failed = pieces.failed.iter().map(|f| format!("{}!{}", f.record, f.reason.code));
    texts.map(|(at, text)| format!("{}:{}", of(at), String::from_utf8_lossy(text))).chain(failed).collect()
}

fn before<T: AsRef<[u8]>>(processing: &Processing, records: &[T]) -> Vec<String> {
    told(&Processor::new(processing, Vec::new()).unwrap().before_lambda(&block(records)))
}

#[test]
fn without_processors_records_stay_as_they_are() {
    let processing = Processing::default();
    let processor = Processor::new(&processing, Vec::new()).unwrap();
    let block = block(&["a", "", "b"]);
    let pieces = processor.before_lambda(&block);
    assert_eq!(pieces, Pieces { records: block.records, of: None, failed: Vec::new() });
    let processed = processor.after_lambda(pieces.clone(), &mut std::iter::empty());
    assert_eq!(processed, Processed { pieces, keys: Vec::new() });
}

#[test]
fn objects_are_taken_apart() {
    let check = |record: &str, expect: &[&str]| assert_eq!(before(&json(), &[record]), expect, "{record:?}");
    check(r#"{"a":1}{"a":2}"#, &[r#"0:{"a":1}"#, r#"0:{"a":2}"#]);
    check("{\"a\":1}\n{\"a\":2}\r\n", &[r#"0:{"a":1}"#, r#"0:{"a":2}"#]);
    check(r#" {"a":{"b":"}{"}} 	{}"#, &[r#"0:{"a":{"b":"}{"}}"#, "0:{}"]);
    check(r#"{"a":"\"}"}{"b":"\\"}"#, &[r#"0:{"a":"\"}"}"#, r#"0:{"b":"\\"}"#]);
    check(" \n", &[]);
    for wrong in
        ["[{}]", "{} 1", "{},{}", "{\"a\":1", "{\"a\":\"}", "{\"a\":\"\\", "}", "{}}", "\u{feff}{}", "\"a\""]
    {
        check(wrong, &["0!split.json"]);
    }
}

#[test]
fn delimiters_take_records_apart() {
    let check = |text: &str, record: &str, expect: &[&str]| {
        assert_eq!(before(&delimiter(text), &[record]), expect, "{text:?} {record:?}");
    };
    check(";", "a;b;;c;", &["0:a", "0:b", "0:c"]);
    check("####", "a#b####c", &["0:a#b", "0:c"]);
    check("aa", "xaaay", &["0:x", "0:ay"]);
    check(";", ";;", &[]);
    check(";", "abc", &["0:abc"]);
    let wrong = delimiter("");
    assert_eq!(Processor::new(&wrong, Vec::new()).unwrap_err().field, "split");
}

#[test]
fn a_record_fails_as_a_whole_and_alone() {
    let most = "{}".repeat(PIECES_MAX);
    let records = ["{\"n\":1}{\"n\":2}", "{\"n\":3}{\"n\":", &most, &format!("{most}{{}}"), "{\"n\":4}"];
    let told = before(&json(), &records);
    let expect = ["0:{\"n\":1}", "0:{\"n\":2}", "2:{}"];
    assert_eq!(told[..3], expect);
    assert_eq!(told[PIECES_MAX + 2..], ["4:{\"n\":4}", "1!split.json", "3!split.too_many"]);
    let many = "a;".repeat(PIECES_MAX);
    assert_eq!(before(&delimiter(";"), &[&many, &format!("{many}b")])[PIECES_MAX..], ["1!split.too_many"]);
}

#[test]
fn gzip_is_inflated_and_bounded() {
    let processing = Processing { decompress: true, ..Processing::default() };
    let two = [gzip(b"{\"a\":1}"), gzip(b"{\"a\":2}")].concat();
    let mut broken = gzip(b"text");
    let middle = broken.len() - 6;
    broken[middle] ^= 1;
    let cut = &gzip(b"text")[..12];
    let bomb = gzip(&vec![0; INFLATED_BYTES_MAX as usize + 1]);
    assert!(bomb.len() < 100_000);
    let records: [&[u8]; 7] = [&gzip(b"a"), &two, b"plain", &broken, cut, &bomb, &gzip(b"")];
    let expect = [
        "0:a",
        "1:{\"a\":1}{\"a\":2}",
        "6:",
        "2!gzip.malformed",
        "3!gzip.malformed",
        "4!gzip.malformed",
        "5!gzip.too_large",
    ];
    assert_eq!(before(&processing, &records), expect);
    let both = Processing { decompress: true, ..json() };
    assert_eq!(before(&both, &[two]), ["0:{\"a\":1}", "0:{\"a\":2}"]);
}

#[test]
fn a_block_of_bombs_does_not_take_all_memory() {
    let processing = Processing { decompress: true, ..Processing::default() };
    let bomb = gzip(&vec![0; INFLATED_BYTES_MAX as usize]);
    let processor = Processor::new(&processing, Vec::new()).unwrap();
    let pieces = processor.before_lambda(&block(&vec![bomb; 3]));
    assert_eq!((pieces.records.len(), pieces.failed.len()), (2, 1));
    assert_eq!(pieces.failed[0].reason.code, "gzip.too_large");
}

#[test]
fn outcomes_take_the_places_of_pieces() {
    let processing = Processing { lambda: lambda(), delimiter: Some("\n".into()), ..json() };
    let key = PartitionKey::Lambda("k".into());
    let processor = Processor::new(&processing, vec![key]).unwrap();
    let pieces = processor.before_lambda(&block(&["{}{}", "[]", "{}", "{}{}{}", "{}{}", "{}"]));
    let ok = |text: &'static str, key: &str| Outcome::Ok {
        data: Bytes::from_static(text.as_bytes()),
        keys: vec![("k".into(), key.into()), ("other".into(), "x".into())],
    };
    let failed =
        |code: &'static str| Outcome::Failed(Reason { attempts: 4, ..Reason::processing(code, "m") });
    let outcomes = [
        ok("a", "1"),
        Outcome::Dropped,
        Outcome::Dropped,
        ok("lost", "1"),
        failed("Lambda.FunctionError"),
        failed("second"),
        ok("lost too", "1"),
        Outcome::Ok { data: Bytes::new(), keys: Vec::new() },
        ok("b", "2"),
    ];
    let processed = processor.after_lambda(pieces, &mut outcomes.into_iter());
    let expect = [
        "0:a\n",
        "5:b\n",
        "1!split.json",
        "3!Lambda.FunctionError",
        "4!DynamicPartitioning.MetadataExtractionFailed",
    ];
    assert_eq!(told(&processed.pieces), expect);
    assert_eq!(processed.keys, [["1"], ["2"]]);
    let reasons: Vec<_> = processed.pieces.failed.iter().map(|f| f.reason.attempts).collect();
    assert_eq!(reasons, [1, 4, 1]);
}

/// The keys that `query` gives for a record, or the message.
fn query(query: &str, names: &[&str], record: &str) -> Result<Vec<String>, String> {
    let processing = Processing { partition_query: Some(query.into()), ..Processing::default() };
    let keys = names.iter().map(|name| PartitionKey::Query((*name).into())).collect();
    let processor = Processor::new(&processing, keys).map_err(|error| error.to_string())?;
    let pieces = processor.before_lambda(&block(&[record]));
    let processed = processor.after_lambda(pieces, &mut std::iter::empty());
    match processed.pieces.failed.first() {
        Some(failed) => {
            assert_eq!(
                (failed.reason.stage, &*failed.reason.code),
                (Stage::Processing, METADATA_EXTRACTION_FAILED)
            );
            Err(failed.reason.message.clone())
        }
        None => Ok(processed.keys.into_iter().next().unwrap()),
    }
}

#[test]
fn queries_give_keys() {
    let check = |text: &str, names: &[&str], record: &str, expect: &[&str]| {
        assert_eq!(query(text, names, record), Ok(expect.iter().map(|e| (*e).into()).collect()), "{text}");
    };
    // The example of Firehose's developer guide.
    let guide =
        r#"{"type":{"device":"mobile","event":"click"},"customer_id":"1234","event_timestamp":1565382027}"#;
    check(
        r#"{customer_id:.customer_id, device:.type.device, year:.event_timestamp| strftime("%Y")}"#,
        &["year", "device", "customer_id"],
        guide,
        &["2019", "mobile", "1234"],
    );
    check(r#"{d: (.event_timestamp|strftime("%Y/%m/%d"))}"#, &["d"], guide, &["2019/08/09"]);
    check("{id: (.id|tostring)}", &["id"], "{\"id\":12345678901234567890}", &["12345678901234567890"]);
    check("{a: (.a // \"none\")}", &["a"], "{\"a\":null}", &["none"]);
    check("{a: (.a // .b)}", &["a"], "{\"b\":\"ß\"}", &["ß"]);
    check("{a: .a, b: .b}", &["a"], "{\"a\":\"x\"}", &["x"]);
    check(".", &["a"], " {\"a\":\"first\",\"a\":\"last\"} ", &["last"]);
    check("{a: (.s | fromjson | .x)}", &["a"], r#"{"s":"{\"x\":\"deep\"}"}"#, &["deep"]);
    check("{a: (.n * 2 | tostring)}", &["a"], "{\"n\":21}", &["42"]);
    check("{a: (.t | test(\"^lesson:\") | tostring)}", &["a"], "{\"t\":\"lesson:x\"}", &["true"]);
    check("{a: (.t | split(\":\")[0])}", &["a"], "{\"t\":\"lesson:x\"}", &["lesson"]);
    check(".a as $x | {a: $x}", &["a"], "{\"a\":\"v\"}", &["v"]);
    check("{a: ([.. | strings] | join(\"-\"))}", &["a"], "{\"x\":[\"1\",{\"y\":\"2\"}]}", &["1-2"]);
}

#[test]
fn records_whose_keys_are_unusable_fail() {
    let check = |text: &str, record: &str, words: &str| {
        let message = query(text, &["a"], record).expect_err(text);
        assert!(message.contains(words), "{text}: {message}");
    };
    let empty = "partitionKeys values must not be null or empty";
    check("{a: .a}", "{}", empty);
    check("{a: .a}", "{\"a\":\"\"}", empty);
    check("{b: \"x\"}", "{}", empty);
    check("{a: .a}", "{\"a\":1}", "`a` is a number");
    check("{a: .a}", "{\"a\":true}", "`a` is a boolean");
    check("{a: .a}", "{\"a\":[]}", "`a` is an array");
    check("{a: .a}", "not json", "not one JSON value");
    check("{a: .a}", "{\"a\":\"x\"}{\"a\":\"y\"}", "not one JSON value");
    check("{a: .a}", &"[".repeat(1_000_000), "not one JSON value");
    check(".a", "{\"a\":\"x\"}", "not an object");
    check("empty", "{}", "gave nothing");
    check("{a: .a[]}", "{\"a\":[\"x\",\"y\"]}", "more than one value");
    check("{a: .a.b}", "{\"a\":1}", "the jq expression failed");
    check("{a: (.s | fromjson)}", &format!("{{\"s\":\"{}\"}}", "[".repeat(1_000_000)), "failed");
    check("{a: (.s * 1000000)}", "{\"s\":\"xxxxxxxxxxx\"}", "cannot be multiplied");
    check("{a: error}", &format!("{{\"s\":\"{}\"}}", "x".repeat(100_000)), "xxx…");
    let many: Vec<String> = (0..51).map(|n| format!("k{n}: \"v\"")).collect();
    check(&format!("{{{}}}", many.join(", ")), "{}", "more than 50 keys");
}

#[test]
fn what_a_query_may_not_do() {
    let check = |text: &str, words: &str| {
        let message = query(text, &["a"], "{}").expect_err(text);
        assert!(message.starts_with("partition_query: ") && message.contains(words), "{text}: {message}");
    };
    for text in [
        "[repeat(.)]",
        "{a: (0 | until(false; . + 1))}",
        "[recurse([.])]",
        "range(1e18)",
        "{a: \"\\(now)\"}",
        "{a: (.b[env])}",
        "if . then localtime else . end",
        "reduce inputs as $x (.; .)",
        ". as {(now): $x} | $x",
        "try halt catch .",
        "[1,2] | combinations(9)",
        "def f: f; f",
        "{a: (def f: .; f)}",
        "reduce .[] as $i (.; [.])",
        "foreach .[] as $i (.; [.])",
        "walk([.])",
        ".. |= [.]",
        ".a *= 2",
        ".a = 1",
        "{a: getpath(.p)}",
    ] {
        check(text, "cannot be used");
    }
    check("{a: nope}", "`nope`");
    check("{a: $x}", "`$x`");
    check("{a: }", "expected term");
    check("{a: .a", "expected");
    check("{a: \"", "expected");
    check("", "expected term");
    check("{\"é\": 1, a: )", "character 13");
    check(&"x".repeat(5121), "at most 5120");
    // None of these may end the process.
    for text in ["(".repeat(5120), "-".repeat(5120), ".|".repeat(2559), "[".repeat(5120), "try ".repeat(1280)]
    {
        assert!(query(&text, &["a"], "{}").is_err());
        assert!(query(&format!("{}.", &text[1..]), &["a"], "{}").is_err());
    }
    check(&format!("{}.{}", "[".repeat(2559), "]".repeat(2559)), "nested more than 100");
    let pipes = |count| format!("{}{{a: \"x\"}}", ".|".repeat(count));
    check(&pipes(2500), "nested more than 100");
    assert_eq!(query(&pipes(90), &["a"], "{}"), Ok(vec!["x".into()]));
}

#[test]
fn keys_need_their_processor() {
    let keys = |text: &str| vec![PartitionKey::Query(text.into())];
    let field = |processing: &Processing, keys| Processor::new(processing, keys).unwrap_err().field;
    assert_eq!(field(&Processing::default(), keys("k")), "partition_query");
    assert_eq!(field(&Processing::default(), vec![PartitionKey::Lambda("k".into())]), "lambda");
    assert_eq!(field(&Processing::default(), vec![keys("k")[0].clone(); 51]), "path");
    let wrong = Processing { partition_query: Some("(".into()), ..Processing::default() };
    assert_eq!(field(&wrong, Vec::new()), "partition_query");
}

/// What a batch does with verbatim output: every key's pieces are a file.
#[test]
fn pieces_are_partitioned_by_their_keys() {
    use crate::path::{Kind, Place, Template, key_columns, partition};
    let template = Template::parse("d/!{partitionKeyFromQuery:day}/", Kind::KeyedPrefix).unwrap();
    let processing = Processing {
        partition_query: Some("{day: (.t | strftime(\"%Y/%m\"))}".into()),
        delimiter: Some("\n".into()),
        ..json()
    };
    let keys = template.partition_keys();
    let processor = Processor::new(&processing, keys.clone()).unwrap();
    let records = ["{\"t\":0}{\"t\":1710000000}", "{\"t\":1}", "{\"t\":\"x\"}"];
    let pieces = processor.before_lambda(&block(&records));
    let Processed { pieces, keys: values } = processor.after_lambda(pieces, &mut std::iter::empty());
    assert_eq!(pieces.failed.len(), 1);
    let hidden = key_columns(&keys, values.iter().map(Vec::as_slice));
    let zone = jiff::tz::TimeZone::UTC;
    let batch = serde_json::from_str("\"0d1f5a52-5c5e-8f57-a6a1-c9a1b1a0d001\"").unwrap();
    let place = Place { zone: &zone, batch, first_index: 0 };
    let of = pieces.of.as_deref().unwrap();
    let parts = partition(&template, &hidden, of, &[(0, Timestamp(0))], &place);
    let all: Vec<&[u8]> = pieces.records.iter().collect();
    let files: Vec<(String, String)> = parts
        .into_iter()
        .map(|part| {
            let none = crate::shape::FileCompression::None;
            let file =
                crate::encode::verbatim_runs(&all, &part.rows, none, crate::shape::Newline::AsIs).unwrap();
            (part.prefix, String::from_utf8(file.body.to_vec()).unwrap())
        })
        .collect();
    let expect = [("d/1970/01/", "{\"t\":0}\n{\"t\":1}\n"), ("d/2024/03/", "{\"t\":1710000000}\n")];
    assert_eq!(files, expect.map(|(prefix, body)| (prefix.into(), body.into())));
}

#[test]
fn the_compiled_processors_go_to_another_thread() {
    fn is_send<T: Send + Sync>() {}
    is_send::<Processor<'_>>();
}

fn value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        any::<String>().prop_map(serde_json::Value::from),
        "[\\\\\"{}\\[\\] ]{0,8}".prop_map(serde_json::Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(serde_json::Value::from),
            proptest::collection::btree_map(any::<String>(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = String> {
    proptest::collection::btree_map(any::<String>(), value(), 0..4)
        .prop_map(|map| serde_json::Value::Object(map.into_iter().collect()).to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn joined_objects_come_apart_again(
        records in proptest::collection::vec(proptest::collection::vec(object(), 0..6), 1..5),
        space in "[ \n\r\t]{0,3}",
    ) {
        let joined: Vec<String> = records.iter().map(|objects| objects.join(&space)).collect();
        let expect: Vec<String> = (0..).zip(&records)
            .flat_map(|(at, objects): (usize, &Vec<String>)| objects.iter().map(move |o| format!("{at}:{o}")))
            .collect();
        prop_assert_eq!(before(&json(), &joined), expect);
    }

    #[test]
    fn joined_texts_come_apart_again(texts in proptest::collection::vec("[a-z]{1,5}", 0..20), by in "[;|#]{1,3}") {
        let expect: Vec<String> = texts.iter().map(|text| format!("0:{text}")).collect();
        prop_assert_eq!(before(&delimiter(&by), &[texts.join(&by)]), expect);
    }

    #[test]
    fn no_record_breaks_a_processor(records in proptest::collection::vec(any::<Vec<u8>>(), 0..6), deflate: bool) {
        for split in [json(), delimiter(";")] {
            let processing = Processing { decompress: deflate, partition_query: Some("{k: .k}".into()), ..split };
            let processor = Processor::new(&processing, vec![PartitionKey::Query("k".into())]).unwrap();
            let packed: Vec<Vec<u8>> = records.iter().map(|r| if deflate { gzip(r) } else { r.clone() }).collect();
            let pieces = processor.before_lambda(&block(&packed));
            let processed = processor.after_lambda(pieces, &mut std::iter::empty());
            prop_assert_eq!(processed.keys.len(), processed.pieces.records.len());
            let of = processed.pieces.of.unwrap();
            prop_assert!(processed.pieces.failed.iter().all(|failed| !of.contains(&failed.record)));
        }
    }

    #[test]
    fn every_text_is_the_key_that_it_is(value in any::<String>(), other in value()) {
        let record = serde_json::json!({"k": value, "other": other}).to_string();
        let found = query("{k: .k}", &["k"], &record);
        if value.is_empty() {
            prop_assert!(found.is_err());
        } else {
            prop_assert_eq!(found, Ok(vec![value]));
        }
    }
}

/// Two records of the Kinesis Producer Library in one (contract, section 4.3).
fn aggregate() -> Vec<u8> {
    let hex = "f3899ac20a03706b310a03706b321a0b08001a077b2261223a317d\
               1a0b08011a077b2261223a327d88226167d573f341c4179de0c89313b1";
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn aggregates_are_taken_apart_first() {
    let records = [b"{}".to_vec(), aggregate(), b"{\"b\":1}{\"b\":2}".to_vec()];
    let pieces = |processing: &Processing, block: &RecordBlock| {
        let pieces = Processor::new(processing, Vec::new()).unwrap().before_lambda(block);
        let texts: Vec<_> =
            pieces.records.iter().map(|piece| String::from_utf8(piece.to_vec()).unwrap()).collect();
        (texts, pieces.of, pieces.records.keys)
    };
    let (texts, of, keys) = pieces(&Processing::default(), &block(&records));
    assert_eq!(texts, ["{}", r#"{"a":1}"#, r#"{"a":2}"#, r#"{"b":1}{"b":2}"#]);
    assert_eq!((of, keys), (Some(vec![0, 1, 1, 2]), None));

    let shard = lakeward_model::Shard { number: 2, created: 9 };
    let mut keyed = block(&records);
    let key = |partition_key| ShardKey { shard, partition_key }.stored();
    let given = block(&[key("x"), key("y"), key("z")]).records;
    keyed.records.keys = Some(lakeward_model::Keys { data: given.data, ends: given.ends });
    assert_eq!(pieces(&json(), &keyed).2, None, "nobody asks for the keys");
    let (texts, of, keys) = pieces(&Processing { lambda: lambda(), ..json() }, &keyed);
    assert_eq!(texts, ["{}", r#"{"a":1}"#, r#"{"a":2}"#, r#"{"b":1}"#, r#"{"b":2}"#]);
    assert_eq!(of, Some(vec![0, 1, 1, 2, 2]));
    let keys = keys.expect("every piece has a key");
    let keys: Vec<_> = (0..5).map(|piece| ShardKey::read(keys.get(piece)).unwrap()).collect();
    let expect = ["x", "pk1", "pk2", "z", "z"].map(|partition_key| ShardKey { shard, partition_key });
    assert_eq!(keys, expect);
}

#[test]
fn an_aggregate_fails_as_a_whole() {
    let mut broken = block(&[aggregate(), b"[1]".to_vec()]);
    let given = block(&[b"k", b"l"]).records;
    broken.records.keys = Some(lakeward_model::Keys { data: given.data, ends: given.ends });
    let processing = Processing { lambda: lambda(), ..json() };
    let pieces = Processor::new(&processing, Vec::new()).unwrap().before_lambda(&broken);
    assert_eq!(pieces.of, Some(vec![0, 0]));
    assert_eq!(pieces.failed.len(), 1);
    let keys = pieces.records.keys.expect("keys");
    assert_eq!((keys.get(0), keys.get(1), keys.ends.len()), (&b"k"[..], &b"k"[..], 2));
}

/// One key of 256 characters for each of very many records in an aggregate of
/// 10 MiB, the largest record there is: it fails, and takes no memory for it.
#[test]
fn an_aggregate_of_very_many_records_with_long_keys_fails() {
    let mut message = vec![0x0a, 0x80, 0x02];
    message.extend_from_slice(&[b'k'; 256]);
    while message.len() < 10 << 20 {
        message.extend_from_slice(&[0x1a, 4, 8, 0, 0x1a, 0]);
    }
    let digest = {
        use md5::Digest as _;
        md5::Md5::digest(&message)
    };
    let record = [&[0xf3, 0x89, 0x9a, 0xc2][..], &message, &digest].concat();
    let mut keyed = block(&[record]);
    let key =
        ShardKey { shard: lakeward_model::Shard { number: 0, created: 0 }, partition_key: "x" }.stored();
    let given = block(&[key]).records;
    keyed.records.keys = Some(lakeward_model::Keys { data: given.data, ends: given.ends });
    let processing = Processing { lambda: lambda(), ..Processing::default() };
    let pieces = Processor::new(&processing, Vec::new()).unwrap().before_lambda(&keyed);
    assert_eq!(pieces.failed.len(), 1);
    assert_eq!(pieces.failed[0].reason.code, "record.too_large");
    assert!(pieces.records.is_empty());
}

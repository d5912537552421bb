use proptest::prelude::*;
use serde_json::json;

use super::*;

fn as_cbor(input: &Value) -> Vec<u8> {
    // Blobs are bytes there.
    fn put(value: &Value, name: &str, to: &mut minicbor::Encoder<Vec<u8>>) {
        match value {
            Value::String(text) if name == "Data" => {
                to.bytes(&base64_simd::STANDARD.decode_to_vec(text).unwrap()).unwrap();
            }
            Value::Array(items) => {
                to.begin_array().unwrap();
                items.iter().for_each(|item| put(item, "", to));
                to.end().unwrap();
            }
            Value::Object(members) => {
                to.begin_map().unwrap();
                for (name, value) in members {
                    to.str(name).unwrap();
                    put(value, name, to);
                }
                to.end().unwrap();
            }
            other => cbor::put(other, to),
        }
    }
    let mut encoder = minicbor::Encoder::new(Vec::new());
    put(input, "", &mut encoder);
    encoder.into_writer()
}

fn record() -> impl Strategy<Value = Value> {
    let data = prop::collection::vec(any::<u8>(), 0..40)
        .prop_map(|data| base64_simd::STANDARD.encode_to_string(&data));
    let key = prop_oneof![4 => "[a-z0-9-]{1,36}", 1 => ".{0,4}", 1 => "é{120,140}"];
    let explicit = prop_oneof![
        3 => Just(None),
        1 => any::<u128>().prop_map(|hash| Some(hash.to_string())),
        1 => "[0-9]{0,42}".prop_map(Some),
    ];
    (data, key, explicit, any::<bool>()).prop_map(|(data, key, explicit, null)| {
        let mut record = json!({"Data": data, "PartitionKey": key});
        match explicit {
            Some(hash) => record["ExplicitHashKey"] = hash.into(),
            None if null => record["ExplicitHashKey"] = Value::Null,
            None => {}
        }
        record
    })
}

fn input(call: Call) -> impl Strategy<Value = Value> {
    let stream = prop_oneof![4 => "[a-zA-Z0-9_.-]{1,20}", 1 => ".{0,3}"];
    let records = prop::collection::vec(record(), 0..6);
    (prop::option::of(stream), any::<bool>(), records, record()).prop_map(
        move |(stream, arn, records, one)| {
            let mut input = match call {
                Call::One => one,
                Call::Many => json!({"Records": records}),
            };
            if let Some(stream) = stream {
                if arn {
                    input["StreamARN"] =
                        format!("arn:aws:kinesis:eu-west-1:000000000000:stream/{stream}").into();
                }
                input["StreamName"] = stream.into();
            }
            input
        },
    )
}

fn call() -> impl Strategy<Value = (Call, Value)> {
    prop_oneof![Just(Call::One), Just(Call::Many)].prop_flat_map(|call| (Just(call), input(call)))
}

proptest! {
    /// However a put is written and read, it is the same put or the same fault.
    #[test]
    fn all_ways_lead_to_the_same((call, input) in call(), pretty: bool) {
        let text = if pretty { serde_json::to_string_pretty(&input).unwrap() } else { input.to_string() };
        let long = parse(call, &input);
        prop_assert_eq!(&read(call, Encoding::Json, text.as_bytes()), &long);
        prop_assert_eq!(&read(call, Encoding::Cbor, &as_cbor(&input)), &long);
        if let Some(short) = scan(call, text.as_bytes()) {
            prop_assert_eq!(&Ok(short), &long);
        }
        if let Some(short) = decode(call, &as_cbor(&input)) {
            prop_assert_eq!(&Ok(short), &long);
        }
    }

    #[test]
    fn any_body_is_survived((call, input) in call(), at: usize, byte: u8) {
        for (encoding, mut body) in
            [(Encoding::Json, input.to_string().into_bytes()), (Encoding::Cbor, as_cbor(&input))]
        {
            let at = at % body.len();
            body[at] = byte;
            let _ = read(call, encoding, &body);
            body.truncate(at);
            let _ = read(call, encoding, &body);
        }
    }
}

#[test]
fn real_clients_take_the_short_way() {
    // As boto3 1.44 writes it.
    let boto3 = br#"{"Records": [{"Data": "eyJhIjoxfQ==", "PartitionKey": "k-1"}, {"Data": "", "PartitionKey": "\u00e9", "ExplicitHashKey": "0"}], "StreamName": "events"}"#;
    assert!(scan(Call::Many, boto3).is_none(), "an escape goes the long way");
    let plain = br#"{"Records": [{"Data": "eyJhIjoxfQ==", "PartitionKey": "k-1"}, {"PartitionKey": "k", "ExplicitHashKey": "7", "Data": ""}], "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/events"}"#;
    let put = scan(Call::Many, plain).unwrap();
    assert_eq!(
        (put.len(), put.record(0), put.record(1)),
        (2, (&b"{\"a\":1}"[..], &b"k-1"[..]), (&b""[..], &b"k"[..]))
    );
    assert_eq!(put.hashes, [hash_of("k-1"), 7]);
    let one = br#"{"StreamName": "events", "Data": "eyJhIjoxfQ==", "PartitionKey": "k-1"}"#;
    assert!(scan(Call::One, one).is_some());
}

#[test]
fn limits() {
    let check = |records: Value, expect: &str| {
        let input = json!({"StreamName": "s", "Records": records});
        let got = read(Call::Many, Encoding::Json, input.to_string().as_bytes());
        let got = got.map_or_else(|f| format!("{}: {}", f.kind, f.message), |put| put.len().to_string());
        assert_eq!(got, expect);
    };
    let record = |data: &str, key: &str| json!({"Data": data, "PartitionKey": key});
    check(vec![record("", "k"); 500].into(), "500");
    check(
        vec![record("", "k"); 501].into(),
        "ValidationException: 1 validation error detected: Value at 'records' failed to satisfy constraint: Member must \
         have length less than or equal to 500",
    );
    let mebibyte = base64_simd::STANDARD.encode_to_string(vec![0; (1 << 20) - 1]);
    check(vec![record(&mebibyte, "k"); 10].into(), "10");
    check(
        vec![record(&mebibyte, "kk"); 10].into(),
        "InvalidArgumentException: Records size exceeds 10 MB limit",
    );
    check(
        json!([{"Data": "", "PartitionKey": "k", "ExplicitHashKey": "340282366920938463463374607431768211456"}]),
        "InvalidArgumentException: Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. \
         Specified value was 340282366920938463463374607431768211456",
    );
}

#[test]
fn records_get_their_shards() {
    let input = json!({"Records": [
        {"Data": "YQ==", "PartitionKey": "x"}, {"Data": "YmI=", "PartitionKey": "yy"}, {"Data": "", "PartitionKey": "z"},
    ]});
    let shard = |number| Some(Shard { number, created: 9 });
    let keys = |records: &Records| {
        let keys = records.keys.clone().unwrap();
        let read = |at| {
            lakeward_model::ShardKey::read(keys.get(at)).map(|k| (k.shard.number, k.partition_key.to_owned()))
        };
        (0..records.len()).map(|at| read(at).unwrap()).collect::<Vec<_>>()
    };
    let all = parse(Call::Many, &input).unwrap().records(&[shard(3), shard(1), shard(2)]);
    assert_eq!(all.iter().collect::<Vec<_>>(), [&b"a"[..], b"bb", b""]);
    assert_eq!(keys(&all), [(3, "x".into()), (1, "yy".into()), (2, "z".into())]);
    let some = parse(Call::Many, &input).unwrap().records(&[None, shard(1), shard(2)]);
    assert_eq!(some.iter().collect::<Vec<_>>(), [&b"bb"[..], b""]);
    assert_eq!(keys(&some), [(1, "yy".into()), (2, "z".into())]);
}

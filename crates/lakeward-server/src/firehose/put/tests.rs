use proptest::prelude::*;
use serde_json::json;

use super::*;

fn b64(data: &[u8]) -> String {
    base64_simd::STANDARD.encode_to_string(data)
}

fn records(put: &Put) -> Vec<Vec<u8>> {
    put.records.iter().map(<[u8]>::to_vec).collect()
}

#[test]
fn what_clients_send_takes_the_short_way() {
    let check = |call: Call, body: &str, expect: &[&str]| {
        let put = scan(call, body.as_bytes()).expect(body);
        assert_eq!(put.stream, "my.stream-1_x");
        assert_eq!(records(&put), expect.iter().map(|e| e.as_bytes().to_vec()).collect::<Vec<_>>());
        assert_eq!(parse(call, body.as_bytes()).unwrap(), put, "{body}");
    };
    check(
        Call::One,
        r#"{"DeliveryStreamName": "my.stream-1_x", "Record": {"Data": "eyJhIjoxfQo="}}"#,
        &["{\"a\":1}\n"],
    );
    check(Call::One, r#" {"Record":{"Data":""},"DeliveryStreamName":"my.stream-1_x"} "#, &[""]);
    check(
        Call::Batch,
        "{\"Records\":[{\"Data\":\"YQ==\"} ,\n{ \"Data\" : \"YmI=\" },{\"Data\":\"\"}],\t\"DeliveryStreamName\":\"my.stream-1_x\"}",
        &["a", "bb", ""],
    );
}

#[test]
fn what_is_unusual_takes_the_long_way() {
    let check = |call: Call, body: &str, expect: Result<&[&str], &str>| {
        assert_eq!(scan(call, body.as_bytes()), None, "{body}");
        match (parse(call, body.as_bytes()), expect) {
            (Ok(put), Ok(expect)) => {
                assert_eq!(records(&put), expect.iter().map(|e| e.as_bytes().to_vec()).collect::<Vec<_>>());
            }
            (Err(fault), Err(kind)) => assert_eq!(fault.kind, kind, "{body} {fault:?}"),
            (got, _) => panic!("{body}: {got:?}"),
        }
    };
    check(Call::One, r#"{"DeliveryStreamName":"s","Record":{"Data":"Pz8\/"}}"#, Ok(&["???"]));
    check(Call::One, r#"{"DeliveryStreamName":"\u0073","Record":{"D\u0061ta":"YQ=="}}"#, Ok(&["a"]));
    check(Call::One, r#"{"DeliveryStreamName":"s","Record":{"Data":"YQ==","More":1},"X":{}}"#, Ok(&["a"]));
    check(
        Call::One,
        r#"{"DeliveryStreamName":"s","Record":{"Data":"YQ=="},"Record":{"Data":"Yg=="}}"#,
        Ok(&["b"]),
    );
    check(Call::One, r#"{"DeliveryStreamName":"s","Record":{"Data":"YQ"}}"#, Err("SerializationException"));
    check(Call::One, r#"{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}"#, Err("SerializationException"));
    check(
        Call::One,
        r#"{"DeliveryStreamName":"s","Record":{"Data":"YQ=="}} x"#,
        Err("SerializationException"),
    );
    check(
        Call::One,
        r#"{"DeliveryStreamName":"s","Record":{"Data":"YQ=="},}"#,
        Err("SerializationException"),
    );
    check(Call::One, r#"{"DeliveryStreamName":"","Record":{"Data":"YQ=="}}"#, Err("ValidationException"));
    check(Call::One, r#"{"DeliveryStreamName":"s","Records":[]}"#, Err("ValidationException"));
    check(Call::Batch, r#"{"DeliveryStreamName":"s","Records":[]}"#, Err("ValidationException"));
    check(Call::Batch, r#"{"DeliveryStreamName":"s","Records":[null]}"#, Err("SerializationException"));
    check(Call::One, "", Err("SerializationException"));
    check(Call::One, "{}", Err("ValidationException"));
}

#[test]
fn limits_of_the_api() {
    let check = |call: Call, sizes: &[usize], expect: Result<(), (&str, &str)>| {
        let entries: Vec<_> = sizes.iter().map(|&n| json!({"Data": b64(&vec![b'x'; n])})).collect();
        let body = match call {
            Call::One => json!({"DeliveryStreamName": "s", "Record": entries[0]}),
            Call::Batch => json!({"DeliveryStreamName": "s", "Records": entries}),
        };
        let got =
            read(call, body.to_string().as_bytes()).map(|put| assert_eq!(put.records.len(), sizes.len()));
        assert_eq!(
            got.as_ref().map_err(|f| (f.kind, f.message.as_str())),
            expect.as_ref().map(|()| &()).map_err(|e| *e)
        );
    };
    check(Call::One, &[1_024_000], Ok(()));
    check(
        Call::One,
        &[1_024_001],
        Err((
            "ValidationException",
            "1 validation error detected: Value at 'record.data' failed to satisfy constraint: Member must have \
             length less than or equal to 1024000",
        )),
    );
    check(Call::Batch, &[1; 500], Ok(()));
    check(
        Call::Batch,
        &[1; 501],
        Err((
            "ValidationException",
            "1 validation error detected: Value at 'records' failed to satisfy constraint: Member must have \
             length less than or equal to 500",
        )),
    );
    check(Call::Batch, &[1_000_000, 1_000_000, 1_000_000, 1_000_000, 194_304], Ok(()));
    check(
        Call::Batch,
        &[1_000_000, 1_000_000, 1_000_000, 1_000_000, 194_305],
        Err(("InvalidArgumentException", "Records size exceeds 4 MB limit")),
    );
    check(
        Call::Batch,
        &[5, 1_024_001, 5],
        Err((
            "ValidationException",
            "1 validation error detected: Value at 'records.2.member.data' failed to satisfy constraint: Member \
             must have length less than or equal to 1024000",
        )),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Valid batches are read by the short way, to the same bytes.
    #[test]
    fn batches_round_trip(data in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20), pretty: bool) {
        let entries: Vec<_> = data.iter().map(|d| json!({"Data": b64(d)})).collect();
        let input = json!({"DeliveryStreamName": "stream", "Records": entries});
        let body = if pretty { serde_json::to_string_pretty(&input).unwrap() } else { input.to_string() };
        let put = scan(Call::Batch, body.as_bytes()).expect("the short way");
        prop_assert_eq!(records(&put), data);
    }

    /// Whatever comes: no panic, and the short way never differs from the long.
    #[test]
    fn both_ways_agree(
        mut body in r#"(\{"DeliveryStreamName": ?"s",|\{)("Records":\[|"Record":)(\{"Data" ?: ?"[a-dA-D+/=\\]{0,8}"\}|,|null|\]|\}| ){0,6}(\]\}|\}|,"DeliveryStreamName":"t"\}|\]\}\})"#,
        at in 0_usize..80, byte: u8, flip: bool,
    ) {
        if flip && body.is_char_boundary(at) && at < body.len() && byte.is_ascii() {
            body.insert(at, char::from(byte));
        }
        for call in [Call::One, Call::Batch] {
            if let Some(put) = scan(call, body.as_bytes()) {
                prop_assert_eq!(parse(call, body.as_bytes()).unwrap(), put);
            }
            let _ = read(call, body.as_bytes());
        }
    }
}

use proptest::prelude::*;

use super::*;

fn texts(records: &Records) -> Vec<String> {
    records.iter().map(|r| String::from_utf8_lossy(r).into_owned()).collect()
}

#[test]
fn lines_keep_their_bytes() {
    let check = |body: &str, expect: &[&str]| {
        let records = lines(&Bytes::copy_from_slice(body.as_bytes()), 100).unwrap();
        assert_eq!(texts(&records), expect, "{body:?}");
    };
    check("", &[]);
    check("\n \r\n\n", &[]);
    check("{}", &["{}"]);
    check("{}\n", &["{}\n"]);
    check("{\"a\":1}\r\n{\"a\":2}\r\n", &["{\"a\":1}\r\n", "{\"a\":2}\r\n"]);
    check("\n\na\n\n\nb\n\n", &["\n\na\n\n\n", "b\n\n"]);
    check("\u{feff}a\nb", &["a\n", "b"]);
    check("a\n\u{feff}b", &["a\n", "\u{feff}b"]);
    check("not json\n{\"broken\n", &["not json\n", "{\"broken\n"]);
    check("  a", &["  a"]);
}

#[test]
fn lines_have_a_limit() {
    let body = Bytes::from_static(b"a\nb\n\nc");
    assert_eq!(lines(&body, 3).unwrap().len(), 3);
    assert_eq!(lines(&body, 2), Err(SplitError::TooMany(2)));
}

#[test]
fn values_of_an_array_or_a_sequence() {
    let check = |body: &str, expect: Result<&[&str], (usize, &str)>| {
        let got = values(body.as_bytes(), 3);
        match expect {
            Ok(expect) => assert_eq!(texts(&got.unwrap()), expect, "{body:?}"),
            Err((at, words)) => match got {
                Err(SplitError::Malformed { at: got_at, what }) => {
                    assert_eq!(got_at, at, "{body:?} {what}");
                    assert!(what.contains(words), "{body:?}: {what}");
                }
                other => panic!("{body:?}: {other:?}"),
            },
        }
    };
    check("", Ok(&[]));
    check(" [ ] ", Ok(&[]));
    check("[1, \"a,]\\\"\" ,{\"x\":[1,2]}]", Ok(&["1", "\"a,]\\\"\"", "{\"x\":[1,2]}"]));
    check("\u{feff}[{\"a\":\"\\\\\"}]\n", Ok(&["{\"a\":\"\\\\\"}"]));
    check("{\n \"a\": {\"b\": \"}\"}\n}\n", Ok(&["{\n \"a\": {\"b\": \"}\"}\n}"]));
    check("{\"a\":1}\n{\"a\":2}", Ok(&["{\"a\":1}", "{\"a\":2}"]));
    check("[{\"a\":1}, {\"a\":2", Err((16, "cut short")));
    check("[{\"a\":1}", Err((8, "cut short")));
    check("[1,", Err((3, "cut short")));
    check("[1,]", Err((3, "expected a value")));
    check("[1 2]", Err((3, "expected `,`")));
    check("[\"abc", Err((5, "string is cut short")));
    check("[\"abc\\", Err((6, "string is cut short")));
    check("[1] x", Err((4, "more after")));
    check("hello", Err((0, "expected `{`")));
    check("{\"a\":1} 7", Err((8, "expected `{`")));
    assert_eq!(values(b"[1,2,3,4]", 3), Err(SplitError::TooMany(3)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Nothing is lost: the records put together are the body.
    #[test]
    fn lines_tile_the_body(body in "[a{}\"\r\n \t\u{e9}]{0,60}") {
        let bytes = Bytes::from(body.clone().into_bytes());
        let records = lines(&bytes, 1000).unwrap();
        let expect = body.split('\n').filter(|l| !l.trim_ascii().is_empty()).count();
        prop_assert_eq!(records.len(), expect);
        if !records.is_empty() {
            prop_assert_eq!(records.iter().collect::<Vec<_>>().concat(), body.as_bytes());
        }
        for (record, line) in records.iter().zip(body.split('\n').filter(|l| !l.trim_ascii().is_empty())) {
            prop_assert_eq!(record.trim_ascii(), line.as_bytes().trim_ascii());
        }
    }

    /// Whatever serde_json takes for an array is cut as it would cut it.
    #[test]
    fn elements_equal_serde_json(body in "(\\[|\\[ )?([\\[\\]{},:\"\\\\ 1a]|\"[a\\\\\",]{0,3}\"|\\{\"k\":[1-9]\\}|null,){0,12}\\]?") {
        if let Ok(expect) = serde_json::from_str::<Vec<&serde_json::value::RawValue>>(&body) {
            let records = values(body.as_bytes(), 1000).unwrap();
            let expect: Vec<&[u8]> = expect.iter().map(|v| v.get().as_bytes()).collect();
            prop_assert_eq!(records.iter().collect::<Vec<_>>(), expect);
        }
        let _ = values(body.as_bytes(), 3);
    }
}

//! The same rows from every format.

use lakeward_columnar::shape::{ColumnMode, CsvOptions, CsvQuote, FileCompression, Newline, Output};

use crate::lake::{Lake, json};

const BATCHES: [&str; 3] = [
    concat!(
        r#"{"id":1,"text":"a\nb \"c\" é","deep":{"x":1,"y":[true,null]},"free":{"any":[1,{"k":"v"}]},"who":"x"}"#,
        "\n",
        r#"{"id":2,"text":"","free":"text","who":"y"}"#,
    ),
    r#"{"id":3,"ratio":0.25,"deep":{"x":2.5,"z":"new"},"list":[{"p":1},{"q":2}],"who":"x"}"#,
    r#"{"id":4,"text":{"not":"text"},"deep":[1],"free":null,"who":"y"}"#,
];

fn lake(output: Output) -> Lake {
    let mut lake = Lake::new(output, "who=!{event:who}/");
    lake.shape.columns.insert("free".into(), ColumnMode::Json);
    for batch in BATCHES {
        lake.deliver(batch);
    }
    lake
}

#[tokio::test]
async fn ndjson_reads_as_parquet_does() {
    let queries = [
        "SELECT id, text, ratio, free, who, _rescued, list FROM events ORDER BY id",
        "SELECT id, deep['x'] AS x, deep['y'] AS y, deep['z'] AS z FROM events ORDER BY id",
        "SELECT who, count(*) AS n FROM events GROUP BY who ORDER BY who",
        "SELECT count(*) AS n FROM events",
        "SELECT id FROM events WHERE who = 'y' AND id > 2",
    ];
    let parquet = lake(Output::default());
    for compression in [FileCompression::None, FileCompression::Gzip, FileCompression::Zstd] {
        let text = lake(Output::Ndjson { compression });
        for sql in queries {
            assert_eq!(text.ask(sql).await, parquet.ask(sql).await, "{compression:?}: {sql}");
        }
        text.store.files();
        text.ask("SELECT id FROM events WHERE who = 'x'").await;
        assert!(text.store.files().iter().all(|file| file.contains("who=x")));
    }
}

#[tokio::test]
async fn csv_reads_by_name() {
    for compression in [FileCompression::None, FileCompression::Gzip, FileCompression::Zstd] {
        for (delimiter, null) in [(',', ""), ('\t', "\\N")] {
            let quote = CsvQuote::Minimal;
            let options = CsvOptions { compression, delimiter, quote, header: true, null: null.into() };
            let csv = lake(Output::Csv(options));
            let expect = concat!(
                r#"{"id":1,"ratio":null,"text":"a\nb \"c\" é","deep":{"x":1.0,"y":[true,null]},"who":"x"}"#,
                "\n",
                r#"{"id":2,"ratio":null,"text":null,"deep":null,"who":"y"}"#,
                "\n",
                r#"{"id":3,"ratio":0.25,"text":null,"deep":{"x":2.5,"z":"new"},"who":"x"}"#,
                "\n",
                r#"{"id":4,"ratio":null,"text":null,"deep":null,"who":"y"}"#,
                "\n",
            );
            let found = csv.ask("SELECT id, ratio, text, deep, who FROM events ORDER BY id").await;
            assert_eq!(found.replace("\"x\":1,", "\"x\":1.0,"), expect, "{compression:?} {delimiter:?}");
            assert_eq!(csv.ask("SELECT count(*) AS n FROM events").await, "{\"n\":4}\n");
        }
    }
}

#[tokio::test]
async fn csv_of_which_nothing_is_known_is_text() {
    let mut lake = Lake::new(Output::Csv(CsvOptions::default()), "a/");
    lake.put("a/1.csv", b"n,s\n1,x\n");
    lake.commit("a/1.csv", 1);
    lake.put("a/2.csv", b"s,t\ny,\"multi\nline\"\n");
    lake.commit("a/2.csv", 1);
    let found = json(&mut lake.session_without_schema(), "SELECT * FROM events ORDER BY s").await;
    let expect =
        concat!(r#"{"n":"1","s":"x","t":null}"#, "\n", r#"{"n":null,"s":"y","t":"multi\nline"}"#, "\n");
    assert_eq!(found.expect("an answer"), expect);
}

#[tokio::test]
async fn records_as_received_are_read_if_they_are_json() {
    for (newline, compression) in
        [(Newline::Ensure, FileCompression::Gzip), (Newline::AsIs, FileCompression::None)]
    {
        let mut lake = Lake::new(Output::Verbatim { compression, newline }, "a/");
        lake.deliver("{\"n\":1}\n{\"n\":2,\"s\":\"late\"}").deliver("{\"n\":2.5}");
        let found = json(&mut lake.session_without_schema(), "SELECT n, s FROM events ORDER BY n").await;
        let expect =
            concat!("{\"n\":1.0,\"s\":null}\n", "{\"n\":2.0,\"s\":\"late\"}\n", "{\"n\":2.5,\"s\":null}\n");
        assert_eq!(found.expect("an answer"), expect);
    }
    let mut lake =
        Lake::new(Output::Verbatim { compression: FileCompression::None, newline: Newline::Ensure }, "a/");
    lake.deliver("plain text");
    let error = json(&mut lake.session_without_schema(), "SELECT 1 FROM events").await.expect_err("no JSON");
    assert!(error.to_string().contains("not a JSON object"), "{error}");
}

#[tokio::test]
async fn a_pipeline_may_change_its_format() {
    let mut lake = Lake::parquet("a/");
    lake.deliver(r#"{"n":1,"s":"parquet"}"#);
    lake.shape.output = Output::Ndjson { compression: FileCompression::Zstd };
    lake.deliver(r#"{"n":2.5,"new":true}"#);
    for mut session in [lake.session(), lake.session_without_schema()] {
        let found = json(&mut session, "SELECT n, s, new FROM events ORDER BY n").await;
        let expect = "{\"n\":1.0,\"s\":\"parquet\",\"new\":null}\n{\"n\":2.5,\"s\":null,\"new\":true}\n";
        assert_eq!(found.expect("an answer"), expect);
    }
}

#[tokio::test]
async fn long_files_are_read_to_their_end() {
    let line = |n: u64| format!("{{\"n\":{n},\"pad\":\"{}\"}}\n", "é".repeat(100));
    let lines: String = (0..20_000).map(line).collect();
    for output in [
        Output::Ndjson { compression: FileCompression::Zstd },
        Output::Ndjson { compression: FileCompression::None },
        Output::Csv(CsvOptions { compression: FileCompression::Gzip, ..CsvOptions::default() }),
    ] {
        let mut lake = Lake::new(output, "a/");
        lake.deliver(&lines);
        let sql = "SELECT count(*) AS c, sum(n) AS s, min(length(pad)) AS l FROM events";
        assert_eq!(lake.ask(sql).await, "{\"c\":20000,\"s\":199990000,\"l\":100}\n");
    }
}

use super::*;

fn problems(text: &str) -> Vec<(String, String)> {
    match Config::parse(text, Path::new("."), |name| (name == "TOKEN").then(|| String::from("t0ken"))) {
        Ok(_) => Vec::new(),
        Err(problems) => problems.into_iter().map(|p| (p.path, p.problem)).collect(),
    }
}

#[test]
fn an_empty_file_has_the_defaults() {
    assert_eq!(Config::parse("", Path::new("."), |_| None), Ok(Config::default()));
}

#[test]
fn the_design_example_is_sound() {
    let text = r#"
listen: 127.0.0.1:7171
state: ./state
pipelines:
  - name: experiments
    stream: launchdarkly-experiments-stream
    batch: { size: 128MiB, age: 60s }
    output: { format: parquet, compression: zstd, path: "experiments/year=!{event:timestamp:yyyy}/month=!{event:timestamp:MM}/day=!{event:timestamp:dd}/" }
    destination: { type: lake, url: "s3://my-bucket/", region: eu-west-1 }
"#;
    assert_eq!(problems(text), []);
}

#[test]
fn all_problems_come_at_once_with_path_and_suggestion() {
    let text = r#"
lissten: 127.0.0.1:1
state: 7
pipelines:
  - name: a
    stream: events
    batch: { sise: 1MiB, age: soon, size: 1 MiBs }
    output: { format: parket }
    destination: { type: lake, url: ./lake, regoin: x }
  - stream: events
    destination: { type: lake, url: ./lake }
"#;
    let found = problems(text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    let expected = [
        "lissten",
        "state",
        "pipelines[0].batch.sise",
        "pipelines[0].batch.age",
        "pipelines[0].batch.size",
        "pipelines[0].output.format",
        "pipelines[0].destination.regoin",
        "pipelines[1]",
    ];
    for path in expected {
        assert!(paths.contains(&path), "{path} is not among {found:?}");
    }
    let of = |path: &str| &found.iter().find(|(p, _)| p == path).unwrap().1;
    assert!(of("lissten").contains("`listen`"), "{found:?}");
    assert!(of("pipelines[0].batch.sise").contains("`size`"), "{found:?}");
    assert!(of("pipelines[0].batch.age").contains("a time such as"), "{found:?}");
    assert!(of("pipelines[0].batch.size").contains("a size such as"), "{found:?}");
    assert!(of("pipelines[0].output.format").contains("did you mean `parquet`"), "{found:?}");
    assert!(of("pipelines[0].destination.regoin").contains("`region`"), "{found:?}");
    assert_eq!(found.len(), expected.len(), "{found:?}");
    assert!(of("pipelines[1]").contains("`name`"), "{found:?}");
}

#[test]
fn a_wrong_key_does_not_hide_what_else_is_wrong() {
    let found = problems("{ stat: ./state, listen: 0.0.0.0:7999 }");
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["stat", "auth"], "{found:?}");
}

#[test]
fn what_the_schema_cannot_say_is_checked_too() {
    let pipeline = |output: &str| {
        format!(
            "pipelines: [{{ name: a, stream: s, output: {output}, destination: {{ type: lake, url: ./lake }} }}]"
        )
    };
    let check = |output: &str, path: &str| {
        let found = problems(&pipeline(output));
        assert_eq!(found.iter().map(|(p, _)| p.as_str()).collect::<Vec<_>>(), [path], "{output}: {found:?}");
    };
    check("{ format: parquet, delimiter: ';' }", "pipelines[0].output.delimiter");
    check("{ format: csv, newline: ensure }", "pipelines[0].output.newline");
    check("{ path: 'a/!{nothing:x}/' }", "pipelines[0].output.path");
    check("{ path: 'a/!{event:x' }", "pipelines[0].output.path");
    check("{ time_zone: Mars/Olympus }", "pipelines[0].output.time_zone");
    check("{ format: verbatim, path: '!{event:x}/' }", "pipelines[0].output.path");
    check("{ error_path: 'q/!{timestamp:yyyy}/' }", "pipelines[0].output.error_path");
}

#[test]
fn a_public_address_needs_authentication() {
    assert_eq!(problems("listen: 0.0.0.0:7171").len(), 1);
    assert_eq!(problems("{ listen: 0.0.0.0:7171, auth: { bearer_tokens: ['${TOKEN}'] } }"), []);
    assert_eq!(problems("{ auth: { bearer_tokens: ['${MISSING}'] } }")[0].0, "auth.bearer_tokens[0]");
}

#[test]
fn names_are_unique() {
    let text = "pipelines:\n  - &a { name: a, stream: s, destination: { type: lake, url: ./lake } }\n  - *a";
    assert_eq!(problems(text)[0].0, "pipelines[1].name");
}

#[test]
fn sources_that_do_not_fit_together_say_so() {
    let text = r#"
sources:
  - { type: kinesis, name: a, stream: s, stream_name: orders, start: latest }
  - { type: kinesis, name: a, stream: t, stream_arn: "arn:aws:kinesis:eu-west-1:1:stream/x", start: { timestamp: 2026-11-01T00:00:00Z } }
  - { type: kinesis, name: b, stream: s, stream_name: orders, leases: { table: app } }
  - { type: kinesis, name: c, stream: u, leases: { table: app2 } }
"#;
    let found = problems(text);
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["sources[1].name", "sources[2].stream", "sources[3].stream_name"], "{found:?}");
    assert!(found[1].1.contains("the source `a` feeds this stream already"), "{found:?}");
    let shared = problems(
        "
sources:
  - { type: kinesis, name: a, stream: a, stream_name: a, region: eu-west-1, leases: { table: app } }
  - { type: kinesis, name: b, stream: b, stream_name: b, region: eu-west-1, leases: { table: app } }
  - { type: kinesis, name: c, stream: c, stream_name: c, region: eu-west-2, leases: { table: app } }
  - { type: kinesis, name: d, stream: d, stream_name: d, leases: { table: other, region: eu-west-1 } }
",
    );
    let paths: Vec<_> = shared.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["sources[1].leases.table"], "{shared:?}");
    let unknown = problems("sources:\n  - { type: kinesis, name: a, stream: s, stream_nam: x }\n");
    assert!(unknown[0].0 == "sources[0].stream_nam" && unknown[0].1.contains("stream_name"), "{unknown:?}");
    let other = problems("sources:\n  - { type: kinesys, name: a, stream: s }\n");
    assert!(!other.is_empty());
}

//! Objects as a source: folders, and an S3 that misbehaves.

mod queue;
mod server;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;
use lakeward_connectors::sources::objects::{ObjectsConfig, ObjectsSource};
use lakeward_model::{
    CapturedValue, FailureKind, Lineage, Slice, SliceFailure, SlicedSource, Timestamp, Wanted,
};
use server::Server;

fn open(config: &ObjectsConfig) -> (ObjectsSource, tempfile::TempDir) {
    let spool = tempfile::tempdir().expect("a folder");
    let source = ObjectsSource::open(config, &spool.path().join("spool")).expect("it opens");
    (source, spool)
}

fn folder(root: &Path) -> ObjectsConfig {
    ObjectsConfig { url: root.display().to_string(), ..ObjectsConfig::default() }
}

async fn list(source: &ObjectsSource, wanted: &Wanted) -> Vec<Slice> {
    let (mut slices, mut after) = (Vec::new(), None);
    loop {
        let page = source.list(wanted, after.as_deref()).await.expect("listed");
        assert!(page.slices.len() <= 1_000);
        slices.extend(page.slices);
        match page.next {
            Some(next) => {
                assert!(after.as_ref().is_none_or(|after| *after < next), "{after:?} {next}");
                after = Some(next);
            }
            None => return slices,
        }
    }
}

/// A record with its file and line.
type Read = (String, String, u64);

/// Everything from `resume` on, and where each chunk ended.
async fn read_from(
    source: &ObjectsSource,
    slice: &Slice,
    resume: Option<&[u8]>,
) -> Result<Vec<(Vec<Read>, Vec<u8>)>, SliceFailure> {
    let id = slice.id(uuid::Uuid::nil());
    let mut reader = source.open(slice, id, resume, &[]).await?;
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next().await? {
        let keys = chunk.records.keys.as_ref().expect("lineage");
        let read = chunk.records.iter().enumerate().map(|(at, record)| {
            let lineage = Lineage::read(keys.get(at)).expect("a lineage");
            assert_eq!(lineage.slice, id);
            assert_eq!(lineage.fields, slice.fields());
            (String::from_utf8(record.to_vec()).expect("text"), lineage.file.to_string(), lineage.line)
        });
        chunks.push((read.collect(), chunk.resume));
    }
    assert!(reader.next().await.expect("still the end").is_none());
    Ok(chunks)
}

async fn read(source: &ObjectsSource, slice: &Slice) -> Result<Vec<Read>, SliceFailure> {
    Ok(read_from(source, slice, None).await?.into_iter().flat_map(|(read, _)| read).collect())
}

/// `{"n":0}` and so on, each of `length` bytes at least.
fn lines(count: usize, length: usize) -> String {
    (0..count).map(|n| format!("{{\"n\":{n},\"x\":\"{}\"}}\n", "x".repeat(length))).collect()
}

fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).and_then(|()| out.finish()).expect("compressed")
}

fn zipped(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for (name, bytes) in members {
        out.start_file(*name, zip::write::SimpleFileOptions::default()).expect("a member");
        out.write_all(bytes).expect("written");
    }
    out.finish().expect("finished").into_inner()
}

fn values(read: &[Read]) -> Vec<&str> {
    read.iter().map(|(record, _, _)| record.as_str()).collect()
}

#[tokio::test]
async fn a_folder_of_every_format() {
    let root = tempfile::tempdir().expect("a folder");
    let plain = lines(3, 0);
    let files: [(&str, Vec<u8>); 7] = [
        ("a/plain.jsonl", plain.clone().into_bytes()),
        ("a/packed.gz", gz(plain.as_bytes())),
        ("array.json", b"[{\"n\":0},\n {\"n\":1}]".to_vec()),
        ("empty.jsonl", Vec::new()),
        ("rows.csv", b"a,b\n1,x\n2,\n".to_vec()),
        ("z.zip", zipped(&[("one.gz", &gz(plain.as_bytes())), ("two.jsonl", b"{}")])),
        // Its name is a lie.
        ("zip.jsonl", zipped(&[("m", b"{\"m\":1}\n")])),
    ];
    for (name, bytes) in &files {
        std::fs::create_dir_all(root.path().join("a")).expect("made");
        std::fs::write(root.path().join(name), bytes).expect("written");
    }
    let (source, _spool) = open(&folder(root.path()));
    let slices = list(&source, &Wanted::default()).await;
    let names: Vec<&str> = slices.iter().map(|slice| slice.name.as_str()).collect();
    let mut expected: Vec<&str> = files.iter().map(|(name, _)| *name).collect();
    expected.sort_unstable();
    assert_eq!(names, expected);
    // A file that was just written may not be whole yet.
    assert!(slices.iter().all(|slice| slice.ready_at > slice.date));
    let mut all = BTreeMap::new();
    for slice in &slices {
        all.insert(slice.name.clone(), read(&source, slice).await.expect("read"));
    }
    let three: Vec<&str> = plain.lines().collect();
    assert_eq!(values(&all["a/plain.jsonl"]), three);
    assert_eq!(values(&all["a/packed.gz"]), three);
    assert_eq!(values(&all["array.json"]), ["{\"n\":0}", "{\"n\":1}"]);
    assert_eq!(values(&all["empty.jsonl"]), [""; 0]);
    assert_eq!(values(&all["rows.csv"]), [r#"{"a":"1","b":"x"}"#, r#"{"a":"2","b":""}"#]);
    assert_eq!(all["a/plain.jsonl"][2].1, "a/plain.jsonl");
    assert_eq!(all["a/plain.jsonl"][2].2, 3);
    assert_eq!(all["z.zip"].len(), 4);
    assert_eq!((all["z.zip"][2].1.as_str(), all["z.zip"][2].2), ("z.zip!one.gz", 3));
    assert_eq!(all["z.zip"][3].1, "z.zip!two.jsonl");
    assert_eq!(values(&all["zip.jsonl"]), ["{\"m\":1}"]);
}

#[tokio::test]
async fn a_file_that_changes_or_goes_is_gone() {
    let root = tempfile::tempdir().expect("a folder");
    std::fs::write(root.path().join("a"), lines(10, 0)).expect("written");
    let (source, _spool) = open(&folder(root.path()));
    let slices = list(&source, &Wanted::default()).await;
    let mut reader =
        source.open(&slices[0], slices[0].id(uuid::Uuid::nil()), None, &[]).await.expect("opened");
    std::fs::write(root.path().join("a"), lines(11, 0)).expect("written anew");
    assert!(matches!(read(&source, &slices[0]).await, Err(SliceFailure::Gone(_))));
    // Also one that changes while it is read.
    let end = loop {
        match reader.next().await {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()),
        }
    };
    assert!(matches!(end, Err(SliceFailure::Gone(_))), "{end:?}");
    let now = list(&source, &Wanted::default()).await;
    assert_ne!(now[0].id(uuid::Uuid::nil()), slices[0].id(uuid::Uuid::nil()));
    std::fs::remove_file(root.path().join("a")).expect("removed");
    assert!(matches!(read(&source, &now[0]).await, Err(SliceFailure::Gone(_))));
}

#[tokio::test]
async fn a_bucket_is_listed_in_pages_as_narrow_as_can_be() {
    let server = Server::start().await;
    for n in 0..2_500 {
        server.put(&format!("in/section/145/video/2024-01-{:02}T00-00-00Z_{n:04}.jsonl", n % 28 + 1), "{}");
    }
    server.put("in/section/146/video/2024-01-01T00-00-00Z_X.jsonl", "{}");
    server.put("in/section/146/video/readme.txt", "hello");
    server.put("other/section/145/video/2024-01-01T00-00-00Z_X.jsonl", "{}");
    let config = ObjectsConfig {
        url: "s3://b/in/".into(),
        pattern: Some("section/{section_id:int}/{category}/{timestamp:time}_{bundle_id}.jsonl".into()),
        ..server.config()
    };
    let (source, _spool) = open(&config);
    let all = list(&source, &Wanted::default()).await;
    assert_eq!(all.len(), 2_501);
    assert!(all.is_sorted_by(|a, b| a.name < b.name));
    assert_eq!(source.unfit().count, 1);
    assert_eq!(source.unfit().example.as_deref(), Some("section/146/video/readme.txt"));
    assert_eq!(server.state().asked.len(), 3);
    assert_eq!(all[0].captured[0].value, CapturedValue::Number("145".into()));
    server.state().asked.clear();
    let one = Wanted { captured: vec![("section_id".into(), "146".into())], ..Wanted::default() };
    assert_eq!(list(&source, &one).await.len(), 1);
    assert_eq!(server.state().asked, ["LIST in/section/146/  1000"]);
    let at = |day: i64| Timestamp((19_722 + day) * 86_400_000_000);
    let days = Wanted { from: Some(at(1)), to: Some(at(3)), ..Wanted::default() };
    let found = list(&source, &days).await;
    assert_eq!(
        found.len(),
        all.iter().filter(|s| s.name.contains("2024-01-01") || s.name.contains("2024-01-02")).count()
    );
    let typo = Wanted { captured: vec![("sektion".into(), "1".into())], ..Wanted::default() };
    let failure = source.list(&typo, None).await.expect_err("no such part");
    assert!(
        failure.kind == FailureKind::Refused && failure.message.contains("section_id, category"),
        "{failure}"
    );
}

#[tokio::test]
async fn keys_that_nobody_can_ask_for_are_stepped_over() {
    let server = Server::start().await;
    for n in 0..300 {
        server.put(&format!("k{n:03}"), "{}");
    }
    for odd in ["k000//x", "k100/../y", "k1//z", "k299//end", "a//first"] {
        server.put(odd, "{}");
    }
    server.put("folder/", "");
    let (source, _spool) = open(&server.config());
    let all = list(&source, &Wanted::default()).await;
    assert_eq!(all.iter().filter(|slice| slice.name.starts_with('k')).count(), 300);
    assert_eq!(source.unfit().count, 5, "{:?}", source.unfit());
}

#[tokio::test]
async fn keys_that_start_or_end_with_a_slash_do_not_vanish() {
    let server = Server::start().await;
    let real = |n: usize| [format!("-{n:04}"), format!("z-{n:04}"), format!("z/{n:04}")];
    let mut expected: Vec<String> = (0..1_200).flat_map(real).collect();
    expected.extend(["data/x", "zebra", "~"].map(String::from));
    expected.sort_unstable();
    for key in &expected {
        server.put(key, format!("{{\"key\":\"{key}\"}}\n"));
    }
    // Behind `z-…`, before `z/…`; what loses its slash goes back in the list.
    for odd in ["/data/x", "/-0001", "/zz", "z/"] {
        server.put(odd, "{}\n{}\n");
    }
    server.put("folder/", "");
    let (source, _spool) = open(&server.config());
    let all = list(&source, &Wanted::default()).await;
    let names: Vec<String> =
        all.iter().map(|slice| slice.name.clone()).filter(|name| name != "folder").collect();
    assert_eq!(names, expected);
    assert_eq!(source.unfit().count, 4, "{:?}", source.unfit());
    for slice in all.iter().filter(|slice| ["-0001", "data/x", "z-1199", "z/0000"].contains(&&*slice.name)) {
        assert_eq!(values(&read(&source, slice).await.expect("read")).len(), 1, "{}", slice.name);
    }
    // One that the list cannot tell from others is set aside when it is read.
    let alone = Server::start().await;
    alone.put("in/a", "{}\n");
    alone.put("in/q/", "{}\n");
    let (source, _spool) = open(&ObjectsConfig { url: "s3://b/in".into(), ..alone.config() });
    let all = list(&source, &Wanted::default()).await;
    match read(&source, &all[1]).await {
        Err(SliceFailure::Broken(reason)) => assert!(reason.contains("\"in/q/\""), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_that_ends_with_a_lost_slash_goes_on_behind_it() {
    let server = Server::start().await;
    let mut expected: Vec<String> = (0..999).map(|n| format!("z-{n:03}")).collect();
    expected.extend((0..50).map(|n| format!("z/{n:02}")));
    for key in &expected {
        server.put(&format!("in/{key}"), "{}\n");
    }
    server.put("in/z/", "{}\n");
    let (source, _spool) = open(&ObjectsConfig { url: "s3://b/in".into(), ..server.config() });
    let all = list(&source, &Wanted::default()).await;
    assert!(all.iter().map(|slice| &slice.name).eq(&expected));
    assert_eq!(source.unfit().count, 1);
    assert_eq!(source.unfit().example.as_deref(), Some("in/z/"));
    // And one that a page starts with.
    server.put("in/y", "{}\n");
    let all = list(&source, &Wanted::default()).await;
    assert!(all.iter().skip(1).map(|slice| &slice.name).eq(&expected));
    assert_eq!(source.unfit().count, 1);
}

#[tokio::test]
async fn an_object_is_read_as_it_was_listed_or_not_at_all() {
    let server = Server::start().await;
    server.put("small", lines(5, 0));
    server.put("large", lines(100_000, 90));
    let (source, _spool) = open(&server.config());
    let slices = list(&source, &Wanted::default()).await;
    let (large, small) = (&slices[0], &slices[1]);
    assert_eq!(read(&source, small).await.expect("read").len(), 5);
    // Answers that break off are asked for again.
    server.state().cut = 2;
    let whole = read(&source, large).await.expect("read");
    assert_eq!(whole.len(), 100_000);
    assert!(whole.iter().enumerate().all(|(n, (record, _, line))| {
        *line == n as u64 + 1 && record.starts_with(&format!("{{\"n\":{n},"))
    }));
    // In the middle of reading, another content comes under the name.
    let mut reader = source.open(large, large.id(uuid::Uuid::nil()), None, &[]).await.expect("opened");
    assert!(reader.next().await.expect("read").is_some());
    server.put("large", lines(100_000, 91));
    let end = loop {
        match reader.next().await {
            Ok(Some(_)) => {}
            other => break other.map(|_| ()),
        }
    };
    assert!(matches!(end, Err(SliceFailure::Gone(_))), "{end:?}");
    assert!(matches!(reader.next().await, Err(SliceFailure::Source(_))), "an end that is none");
    server.state().objects.remove("small");
    assert!(matches!(read(&source, small).await, Err(SliceFailure::Gone(_))));
}

#[tokio::test]
async fn every_place_is_one_to_go_on_from() {
    let server = Server::start().await;
    let text = lines(60_000, 200);
    server.put("plain", text.clone());
    server.put("packed.gz", gz(text.as_bytes()));
    server.put("archive.zip", zipped(&[("a", text.as_bytes()), ("b", text.as_bytes())]));
    let (source, spool) = open(&server.config());
    for slice in list(&source, &Wanted::default()).await {
        let chunks = read_from(&source, &slice, None).await.expect("read");
        let all: Vec<&Read> = chunks.iter().flat_map(|(read, _)| read).collect();
        assert!(chunks.len() > 5 && all.len() >= 60_000, "{}", slice.name);
        for at in [0, chunks.len() / 2, chunks.len() - 1] {
            let taken: usize = chunks[..=at].iter().map(|(read, _)| read.len()).sum();
            server.state().asked.clear();
            let rest = read_from(&source, &slice, Some(&chunks[at].1)).await.expect("read");
            let rest: Vec<&Read> = rest.iter().flat_map(|(read, _)| read).collect();
            assert_eq!(rest.len(), all.len() - taken, "{} {at}", slice.name);
            assert!(rest.iter().eq(&all[taken..]), "{} {at}", slice.name);
            if slice.name == "plain" && at > 0 {
                let asked = server.state().asked.clone();
                assert!(asked.first().is_none_or(|asked| !asked.contains("bytes=0-")), "{asked:?}");
            }
        }
    }
    // What had to lie on the disk has no name there.
    let left = std::fs::read_dir(spool.path().join("spool")).expect("the folder").count();
    assert_eq!(left, 0);
    let slice = list(&source, &Wanted::default()).await.remove(0);
    let failure = read_from(&source, &slice, Some(b"?")).await.expect_err("no place");
    assert!(matches!(failure, SliceFailure::Source(failure) if failure.kind == FailureKind::Refused));
}

#[tokio::test]
async fn what_is_corrupt_or_too_large_is_set_aside_with_a_reason() {
    let server = Server::start().await;
    let packed = gz(lines(50, 50).as_bytes());
    server.put("cut.gz", packed[..packed.len() - 9].to_vec());
    server.put("lie.gz", "\u{1}\u{2}\u{3}\u{4} nothing that is known");
    server.put("long.jsonl", format!("{{}}\n\"{}\"\n", "x".repeat(5_000)));
    server.put("big", Bytes::from(vec![b'\n'; 3_000_000]));
    let zip = zipped(&[("inner.jsonl", lines(50, 50).as_bytes())]);
    server.put("cut.zip", zip[..zip.len() - 30].to_vec());
    let (source, _spool) =
        open(&ObjectsConfig { max_record: 1_024, max_object: 2_000_000, ..server.config() });
    let expected = [
        ("big", "`max_object`"),
        ("cut.gz", "cut off"),
        ("cut.zip", "write the object anew"),
        ("lie.gz", "first bytes"),
        ("long.jsonl", "line 2"),
    ];
    for (slice, (name, reason)) in list(&source, &Wanted::default()).await.iter().zip(expected) {
        match read(&source, slice).await {
            Err(SliceFailure::Broken(text)) => {
                assert_eq!(slice.name, name);
                assert!(text.contains(reason) && text.contains(&format!("s3://b/{name}")), "{text}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn what_comes_next_is_fetched_ahead_once() {
    let server = Server::start().await;
    for n in 0..40 {
        server.put(&format!("{n:02}"), format!("{{\"n\":{n}}}\n"));
    }
    let (source, _spool) = open(&server.config());
    let slices = list(&source, &Wanted::default()).await;
    server.state().asked.clear();
    for (at, slice) in slices.iter().enumerate() {
        let coming = &slices[at + 1..slices.len().min(at + 9)];
        let mut reader = source.open(slice, slice.id(uuid::Uuid::nil()), None, coming).await.expect("opened");
        let chunk = reader.next().await.expect("read").expect("a chunk");
        assert_eq!(chunk.records.data, format!("{{\"n\":{at}}}"));
    }
    assert_eq!(server.state().asked.len(), 40);
}

#[tokio::test]
async fn bad_answers_say_what_to_check() {
    let server = Server::start().await;
    server.put("a", "{}");
    let (source, _spool) = open(&server.config());
    let slice = list(&source, &Wanted::default()).await.remove(0);
    let denied = (403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>");
    let no_bucket = (404, "<Error><Code>NoSuchBucket</Code><Message>No bucket</Message></Error>");
    let wrong_key = (403, "<Error><Code>SignatureDoesNotMatch</Code><Message>no</Message></Error>");
    let moved = (301, "<Error><Code>PermanentRedirect</Code><Message>elsewhere</Message></Error>");
    let checks =
        [(denied, "s3:ListBucket"), (no_bucket, "bucket's name"), (wrong_key, "secret"), (moved, "region")];
    for (answer, expect) in checks {
        server.state().instead.push_back(answer);
        let failure = source.list(&Wanted::default(), None).await.expect_err("refused");
        assert!(failure.kind == FailureKind::Refused && failure.message.contains(expect), "{failure}");
        // A bucket that is gone is no reason to forget its objects.
        server.state().instead.push_back(answer);
        match read(&source, &slice).await {
            Err(SliceFailure::Source(failure)) => {
                assert_eq!(failure.kind, FailureKind::Refused, "{failure}");
                assert!(
                    failure.message.contains(expect) && !format!("{failure:?}").contains("hush"),
                    "{failure}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // One that is archived is no reason to leave the others.
    let archived = (403, "<Error><Code>InvalidObjectState</Code><Message>Glacier</Message></Error>");
    server.state().instead.push_back(archived);
    match read(&source, &slice).await {
        Err(SliceFailure::Broken(reason)) => assert!(reason.contains("restore it"), "{reason}"),
        other => panic!("{other:?}"),
    }
    server.state().instead.extend([(503, ""); 8]);
    let failure = source.list(&Wanted::default(), None).await.expect_err("overloaded");
    assert_eq!(failure.kind, FailureKind::NotDone, "{failure}");
}

//! Going on from any place gives exactly the records that are left.

use std::fs::File;
use std::io::Cursor;

use lakeward_unpack::{Block, Format, Input, Options, Place, Unpacking};
use proptest::prelude::*;

use crate::support::{
    Record, file, gzip, message, parquet_rows, read, read_from, rest, stored, stream, zip, zstd,
};

/// Files of every kind, with names.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    let lines: String =
        (0..40).map(|i| format!("{}{{\"i\":{i}}}\r\n", if i % 7 == 0 { "\n \n" } else { "" })).collect();
    let lines = format!("\u{feff}{lines}").into_bytes();
    let array: String = (0..40).map(|i| format!("{{\"i\":\n{i}}},")).collect();
    let array = format!("[{} 7]", array).into_bytes();
    let rows: String = (0..40).map(|i| format!("{i},\"x\n{i}\"\n")).collect();
    let rows = format!("a,b\n{rows}").into_bytes();
    let inner = stored(&[("1", &lines), ("2.json", &array)]);
    let nested = zip(&[
        ("first", b"{\"first\":1}\n"),
        ("inner.zip", &inner),
        ("t.csv", &rows),
        ("g.gz", &gzip(&lines)),
    ]);
    vec![
        ("gz", gzip(&lines)),
        ("zst", zstd(&array)),
        ("csv.csv.gz", gzip(&rows)),
        ("rows.csv", rows),
        ("array", array),
        ("parquet", parquet_rows(60)),
        ("nested", nested),
        ("gz of zip", gzip(&inner)),
        ("plain", lines),
    ]
}

fn records(block: &Block) -> Vec<Record> {
    let starts = [0].into_iter().chain(block.ends.iter().copied());
    let texts = starts.zip(&block.ends).map(|(start, end)| &block.data[start as usize..*end as usize]);
    let texts = texts.map(|text| String::from_utf8(text.to_vec()).unwrap());
    texts.zip(&block.lines).map(|(text, line)| (block.member.clone(), text, *line)).collect()
}

fn open(bytes: &[u8], name: &str, resume: Option<&Place>, streamed: bool) -> Unpacking {
    // What cannot be streamed is read from a file.
    let from = resume.and_then(Place::byte).map_or(0, |byte| usize::try_from(byte).unwrap());
    if streamed
        && let Ok(unpacking) = Unpacking::open(stream(&bytes[from..]), name, &Options::default(), resume)
    {
        return unpacking;
    }
    Unpacking::open(Input::File(file(bytes)), name, &Options::default(), resume).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Blocks of any sizes, and a restart behind any of them.
    #[test]
    fn restarts_change_nothing(steps in prop::collection::vec((1..120_usize, any::<bool>(), any::<bool>()), 1..30)) {
        for (name, bytes) in files() {
            let expected = read(&bytes, name).unwrap();
            let mut unpacking = open(&bytes, name, None, false);
            let mut all = Vec::new();
            for (bytes_max, restart, streamed) in steps.iter().cycle() {
                let Some(block) = unpacking.next_block(*bytes_max).unwrap() else { break };
                all.extend(records(&block));
                let stored = block.after.to_bytes();
                prop_assert!(stored.len() < 200);
                let place = Place::from_bytes(&stored);
                prop_assert_eq!(place.as_ref(), Some(&block.after));
                prop_assert_eq!(block.after.byte().is_some(), name == "plain");
                if *restart {
                    unpacking = open(&bytes, name, place.as_ref(), *streamed);
                }
            }
            prop_assert_eq!(&all, &expected, "{}", name);
        }
    }
}

/// Reads a zip whose members were chosen, one record at a time.
fn members(bytes: &[u8], chosen: &[usize], resume: Option<&Place>) -> Unpacking {
    let file: File = file(bytes);
    Unpacking::open_members(file, &Options::default(), chosen, resume).unwrap()
}

#[test]
fn chosen_members_go_on_by_their_position() {
    let lines = b"{\"i\":1}\n{\"i\":2}\n";
    let long = zip(&[("x", b"{\"x\":1}"), ("b", lines), ("y", b""), ("a", &gzip(lines))]);
    let short = zip(&[("a", lines), ("b", lines)]);
    let expected = rest(&mut members(&long, &[3, 1], None), 100).unwrap();
    assert_eq!(expected.len(), 4);
    let mut unpacking = members(&long, &[3, 1], None);
    for read in 1..=4 {
        let place = unpacking.next_block(1).unwrap().unwrap().after;
        assert_eq!(rest(&mut members(&long, &[3, 1], Some(&place)), 100).unwrap(), expected[read..]);
        // The same members in another archive, as another request gives them.
        assert_eq!(rest(&mut members(&short, &[0, 1], Some(&place)), 100).unwrap(), expected[read..]);
    }
}

#[test]
fn places_of_other_files_are_refused() {
    let place = |text: &str| Place::from_bytes(text.as_bytes()).unwrap();
    let plain = b"{\"i\":1}\n{\"i\":2}\n";
    let two = zip(&[("a", plain)]);
    let table: [(&[u8], &str, &str); 7] = [
        (plain, r#"{"n":100,"l":9,"p":true}"#, "byte 0: it has 16 bytes, and 100 of them were read before"),
        (&gzip(plain), r#"{"n":100,"l":9}"#, "byte 0: the place to go on from lies behind its end"),
        (b"[1]", r#"{"n":2}"#, "byte 0: the place to go on from lies behind its end"),
        (&parquet_rows(3), r#"{"n":4}"#, "byte 0: it has 3 rows, and 4 of them were read before"),
        (plain, r#"{"m":[0],"n":1}"#, "byte 0: the place to go on from is not one of this file"),
        (&two, r#"{"m":[1],"n":1}"#, "byte 0: the place to go on from is not one of this file"),
        (&two, r#"{"n":1}"#, "byte 0: the place to go on from is not one of this file"),
    ];
    for (bytes, text, expected) in table {
        let result = read_from(Input::File(file(bytes)), "a", &Options::default(), Some(&place(text)));
        assert_eq!(message(result), expected, "{text}");
    }
    for text in ["", "{}", r#"{"n":-1}"#, r#"{"n":1,"p":true}"#, "nonsense"] {
        assert_eq!(Place::from_bytes(text.as_bytes()), None, "{text}");
    }
}

#[test]
fn plain_lines_go_on_in_the_middle_of_the_file() {
    let text = b"{\"i\":1}\n\n{\"i\":2}\n{\"i\":3}";
    let options = Options { format: Format::Auto, ..Options::default() };
    let mut unpacking = Unpacking::open(stream(text), "a", &options, None).unwrap();
    let first = unpacking.next_block(1).unwrap().unwrap();
    assert_eq!((first.lines.as_slice(), first.after.byte()), (&[1][..], Some(9)));
    let ranged = Input::Stream(Box::new(Cursor::new(text[9..].to_vec())));
    let left = read_from(ranged, "a", &options, Some(&first.after)).unwrap();
    assert_eq!(left, [(None, "{\"i\":2}".to_string(), 3), (None, "{\"i\":3}".to_string(), 4)]);
}

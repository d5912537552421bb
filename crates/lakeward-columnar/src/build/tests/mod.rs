//! Batches are built, and what became of every record is as it must be.

mod lineage;
mod slices;

use std::cell::RefCell;
use std::collections::HashSet;
use std::convert::Infallible;

use lakeward_model::{
    BatchId, DataFile, Keys, Lineage, Offset, RecordBlock, Records, Role, SliceId, StreamName, Timestamp,
};

use super::{Built, Input, Schemas, build};
use crate::dedup::{Key, Seen, SeenError};
use crate::process::{Outcome, Processor};
use crate::shape::{FileCompression, Newline, Output, Shape};

/// A record, and what lies beside it: nothing, or the bytes of its key.
type Given = (Vec<u8>, Option<Vec<u8>>);

/// What a record from this slice has beside it.
fn lineage(slice: u128, file: &str, line: u64, fields: &str) -> Option<Vec<u8>> {
    let mut stored = Vec::new();
    Lineage { slice: SliceId(slice), file, line, fields }.write(&mut stored);
    Some(stored)
}

/// Blocks of these records, one after the other. In a block in which one has a
/// key, the others have an empty one.
fn blocks(given: &[Vec<Given>]) -> Vec<RecordBlock> {
    let mut first = Offset(100);
    let block = |given: &Vec<Given>| {
        let joined = |parts: Vec<&[u8]>| {
            let (mut data, mut ends) = (Vec::new(), Vec::new());
            for part in parts {
                data.extend_from_slice(part);
                ends.push(data.len() as u32);
            }
            (data, ends)
        };
        let (data, ends) = joined(given.iter().map(|(record, _)| record.as_slice()).collect());
        let mut records = Records::new(data.into(), ends);
        if given.iter().any(|(_, key)| key.is_some()) {
            let (data, ends) = joined(given.iter().map(|(_, key)| key.as_deref().unwrap_or(b"")).collect());
            records.keys = Some(Keys { data: data.into(), ends });
        }
        let block = RecordBlock { records, first, received_at: Timestamp(1_700_000_000_000_000) };
        first = first.plus(given.len() as u64);
        block
    };
    given.iter().map(block).collect()
}

fn batch() -> BatchId {
    serde_json::from_str("\"0d1f5a52-5c5e-8f57-a6a1-c9a1b1a0d001\"").expect("an id")
}

/// Keys that nothing was delivered with before.
#[derive(Default)]
struct Fresh(RefCell<HashSet<u128>>);

impl Seen for Fresh {
    fn duplicates(&self, keys: &[Key]) -> Result<Vec<bool>, SeenError> {
        Ok(keys.iter().map(|key| !self.0.borrow_mut().insert(key.fingerprint)).collect())
    }
}

/// Builds one batch; `outcome` is what the function makes of a piece.
fn built(shape: &Shape, given: &[Vec<Given>], outcome: impl Fn(&[u8]) -> Outcome) -> Built {
    let blocks = blocks(given);
    let places = super::files::Places::of(shape).expect("a shape");
    let processor: Processor<'_> = places.processor(&shape.processing).expect("processors");
    let pieces: Vec<_> = blocks.iter().map(|block| processor.before_lambda(block)).collect();
    let asked = pieces.iter().filter(|_| shape.processing.lambda.is_some());
    let outcomes = asked.flat_map(|pieces| pieces.records.iter()).map(outcome);
    let mut outcomes = outcomes.collect::<Vec<_>>().into_iter();
    let (seen, schemas) = (Fresh::default(), Schemas::default());
    let stream = StreamName::new("events").expect("a name");
    let input = Input {
        batch: batch(),
        stream: &stream,
        pipeline: "p",
        shape,
        schemas: &schemas,
        planned_at: Timestamp(1_700_000_000_000_000),
        expected_bytes: 0,
        sql: None,
        seen: Some((&seen, 7)),
        refused: &[],
    };
    let read = || blocks.clone().into_iter().map(Ok::<_, Infallible>);
    build(&input, read(), &mut outcomes, read).expect("it is built")
}

fn verbatim() -> Output {
    Output::Verbatim { compression: FileCompression::None, newline: Newline::Ensure }
}

fn ndjson() -> Output {
    Output::Ndjson { compression: FileCompression::None }
}

/// The data files: their paths up to the object's name, and their lines.
fn data(built: &Built) -> Vec<(String, Vec<String>)> {
    let folder = |file: &DataFile| {
        let path = file.path.as_str();
        path[..path.rfind('/').map_or(0, |at| at + 1)].to_string()
    };
    let lines = |file: &DataFile| {
        let body = String::from_utf8(file.body.to_vec()).expect("text");
        body.lines().map(String::from).collect()
    };
    let data = built.files.iter().filter(|file| file.role == Role::Data);
    data.map(|file| (folder(file), lines(file))).collect()
}

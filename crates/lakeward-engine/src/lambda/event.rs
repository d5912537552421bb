//! Firehose's transform event (contract `aws-and-launchdarkly.md`, section 3).

use std::fmt::Write as _;
use std::ops::Range;

use bytes::Bytes;
use lakeward_model::{BatchId, ShardKey, Timestamp};

use super::Settings;
use super::chunk::{Chunk, Place, RECORD_OVERHEAD};

/// The ids of a batch's pieces: the start of the batch's id and the piece's
/// number, so that a function's log can be matched, and an answer to another
/// batch is noticed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids(BatchId);

impl Ids {
    pub(super) fn new(batch: BatchId) -> Self {
        Self(batch)
    }

    fn prefix(self) -> u32 {
        self.0.0.as_fields().0
    }

    fn write(self, number: u64, out: &mut String) {
        write!(out, "{:08x}-{number}", self.prefix()).expect("a string takes all");
    }

    /// The number of the piece with this id, if it can be one of ours.
    pub(super) fn number(self, id: &str) -> Option<u64> {
        let (prefix, digits) = id.split_once('-')?;
        let number: u64 = digits.parse().ok()?;
        let mut same = String::with_capacity(id.len());
        self.write(number, &mut same);
        (same == id && prefix.len() == 8).then_some(number)
    }
}

/// The event of a call for the pieces `range` of a chunk: one line of JSON.
///
/// The same pieces give the same event, its invocation's id included, so that
/// a function can tell a second call from a first.
pub(super) fn render(settings: &Settings, batch: BatchId, chunk: &Chunk, range: &Range<u64>) -> Bytes {
    let pieces = chunk.part(range);
    let data: usize = pieces.iter().map(|piece| piece.data.len().div_ceil(3) * 4).sum();
    let mut out = String::with_capacity(1_024 + data + pieces.len() * RECORD_OVERHEAD);
    out.push_str("{\"invocationId\":\"");
    write!(out, "{}", invocation(batch, range)).expect("a string takes all");
    out.push_str("\",\"deliveryStreamArn\":");
    if pieces.iter().any(|piece| piece.kinesis.is_some()) {
        let [delivery, source] = &settings.kinesis_arns;
        out.push_str(&text(delivery));
        out.push_str(",\"sourceKinesisStreamArn\":");
        out.push_str(&text(source));
    } else {
        out.push_str(&text(&settings.stream_arn));
    }
    out.push_str(",\"region\":");
    out.push_str(&text(&settings.region));
    out.push_str(",\"records\":[");
    for (piece, number) in pieces.iter().zip(range.clone()) {
        if number > range.start {
            out.push(',');
        }
        out.push_str("{\"recordId\":\"");
        Ids(batch).write(number, &mut out);
        write!(out, "\",\"approximateArrivalTimestamp\":{},\"data\":\"", piece.arrived.millis())
            .expect("a string takes all");
        base64_simd::STANDARD.encode_append(&piece.data, &mut out);
        out.push('"');
        if let Some(place) = &piece.kinesis {
            kinesis(place, piece.arrived, &mut out);
        }
        out.push('}');
    }
    out.push_str("]}");
    out.into()
}

/// What is said of a record from Kinesis.
fn kinesis(place: &Place, arrived: Timestamp, out: &mut String) {
    let Some(ShardKey { shard, partition_key }) = place.shard_key() else { return };
    let (sequence, partition_key) = (shard.sequence(place.offset), text(partition_key));
    write!(
        out,
        ",\"kinesisRecordMetadata\":{{\"shardId\":\"{shard}\",\"partitionKey\":{partition_key},\"sequenceNumber\":\"{sequence}\",\"subsequenceNumber\":\""
    )
    .expect("a string takes all");
    if let Some(number) = place.number {
        write!(out, "{number}").expect("a string takes all");
    }
    write!(out, "\",\"approximateArrivalTimestamp\":{}}}", arrived.millis()).expect("a string takes all");
}

fn text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// A uuid that follows from what is called.
fn invocation(batch: BatchId, range: &Range<u64>) -> uuid::Uuid {
    let mut text = [0_u8; 48];
    text[..16].copy_from_slice(b"lambda invoke id");
    text[16..32].copy_from_slice(batch.0.as_bytes());
    text[32..40].copy_from_slice(&range.start.to_le_bytes());
    text[40..].copy_from_slice(&range.end.to_le_bytes());
    uuid::Builder::from_custom_bytes(xxhash_rust::xxh3::xxh3_128(&text).to_be_bytes()).into_uuid()
}

#[cfg(test)]
mod tests {
    use lakeward_model::{Offset, Timestamp};
    use serde_json::json;

    use super::*;
    use crate::lambda::chunk::Piece;

    #[test]
    fn the_event_is_firehoses() {
        let settings = Settings {
            pipeline: "p".into(),
            stream_arn: "arn:aws:firehose:eu-west-1:1:deliverystream/\"s\"".into(),
            kinesis_arns: ["arn:d".into(), "arn:k".into()],
            region: "eu-west-1".into(),
            bytes: 1,
            records: 1,
            retries: 0,
            concurrency: 1,
            wait: true,
        };
        let piece = |data: &'static str, at| Piece {
            data: Bytes::from_static(data.as_bytes()),
            arrived: Timestamp(at),
            kinesis: None,
        };
        let pieces = vec![piece("x", 0), piece("{\"a\":1}", 1_495_072_949_453_999), piece("", -1)];
        let chunk = Chunk { first: 9, pieces };
        let batch = BatchId(uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
        let event = render(&settings, batch, &chunk, &(10..12));
        assert!(!event.contains(&b'\n'), "one line");
        let value: serde_json::Value = serde_json::from_slice(&event).expect("JSON");
        assert_eq!(
            value,
            json!({
                "invocationId": invocation(batch, &(10..12)).to_string(),
                "deliveryStreamArn": "arn:aws:firehose:eu-west-1:1:deliverystream/\"s\"",
                "region": "eu-west-1",
                "records": [
                    { "recordId": "01234567-10", "approximateArrivalTimestamp": 1_495_072_949_453_i64, "data": "eyJhIjoxfQ==" },
                    { "recordId": "01234567-11", "approximateArrivalTimestamp": -1, "data": "" },
                ],
            })
        );
        assert_eq!(render(&settings, batch, &chunk, &(10..12)), event);

        let shard = lakeward_model::Shard { number: 2, created: 1_700_000_000 };
        let key = ShardKey { shard, partition_key: "user \"1\"" }.stored();
        let mut keyed = chunk.clone();
        for (piece, number) in keyed.pieces.iter_mut().zip([None, Some(0), Some(1)]) {
            piece.kinesis = Some(Place { key: key.clone().into(), offset: Offset(7), number });
        }
        let event = render(&settings, batch, &keyed, &(9..12));
        let value: serde_json::Value = serde_json::from_slice(&event).expect("JSON");
        assert_eq!(
            (&value["deliveryStreamArn"], &value["sourceKinesisStreamArn"]),
            (&json!("arn:d"), &json!("arn:k"))
        );
        let metadata = |number: &str, at: i64| {
            json!({
                "shardId": "shardId-000000000002", "partitionKey": "user \"1\"",
                "sequenceNumber": shard.sequence(Offset(7)).to_string(), "subsequenceNumber": number,
                "approximateArrivalTimestamp": at,
            })
        };
        let records = value["records"].as_array().expect("a list");
        let got: Vec<_> = records.iter().map(|record| record["kinesisRecordMetadata"].clone()).collect();
        assert_eq!(got, [metadata("", 0), metadata("0", 1_495_072_949_453), metadata("1", -1)]);
        assert_ne!(invocation(batch, &(10..12)), invocation(batch, &(10..11)));
    }

    #[test]
    fn ids_are_ours_or_not() {
        let ids = Ids::new(BatchId(uuid::Uuid::from_u128(0x0123_4567 << 96)));
        let check = |id: &str, expect: Option<u64>| assert_eq!(ids.number(id), expect, "{id}");
        check("01234567-0", Some(0));
        check("01234567-18446744073709551615", Some(u64::MAX));
        for id in [
            "01234567-00",
            "01234567-",
            "01234567",
            "01234568-0",
            "01234567-+1",
            "01234567-18446744073709551616",
            "",
            "é",
        ] {
            check(id, None);
        }
    }
}

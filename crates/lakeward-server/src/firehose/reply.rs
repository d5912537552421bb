//! Replies to puts, written straight into one buffer.

use lakeward_engine::Accepted;
use uuid::Uuid;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// A record id: base64 of the stream's incarnation and the record's offset, 24
/// bytes. The first 15 of them are the same for a whole request.
const SHARED_CHARS: usize = 20;
const ID_CHARS: usize = 32;

/// Writes record ids. An id names one record for ever, so that a repeated
/// request is answered with the same ids.
#[derive(Debug)]
struct Ids {
    shared: [u8; SHARED_CHARS],
    last: u8,
}

impl Ids {
    fn new(incarnation: Uuid) -> Self {
        let bytes = incarnation.as_bytes();
        let mut shared = [0; SHARED_CHARS];
        for (chars, part) in shared.chunks_exact_mut(4).zip(bytes.chunks_exact(3)) {
            chars.copy_from_slice(&quad(part[0], part[1], part[2]));
        }
        Self { shared, last: bytes[15] }
    }

    #[inline]
    fn push(&self, offset: u64, out: &mut Vec<u8>) {
        let o = offset.to_be_bytes();
        out.extend_from_slice(&self.shared);
        out.extend_from_slice(&quad(self.last, o[0], o[1]));
        out.extend_from_slice(&quad(o[2], o[3], o[4]));
        out.extend_from_slice(&quad(o[5], o[6], o[7]));
    }
}

#[inline]
fn quad(a: u8, b: u8, c: u8) -> [u8; 4] {
    let bits = u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c);
    [18, 12, 6, 0].map(|shift| ALPHABET[(bits >> shift & 63) as usize])
}

/// The reply to a PutRecord that was accepted.
pub(super) fn one(incarnation: Uuid, accepted: Accepted, encrypted: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + ID_CHARS);
    out.extend_from_slice(b"{\"RecordId\":\"");
    Ids::new(incarnation).push(accepted.first.0, &mut out);
    out.extend_from_slice(b"\",\"Encrypted\":");
    out.extend_from_slice(if encrypted { b"true}" } else { b"false}" });
    out
}

/// The reply to a PutRecordBatch of `count` records that was accepted.
pub(super) fn batch(incarnation: Uuid, accepted: Accepted, count: usize, encrypted: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(80 + count * (ID_CHARS + 16));
    start_batch(0, encrypted, &mut out);
    let ids = Ids::new(incarnation);
    for i in 0..count as u64 {
        out.extend_from_slice(if i == 0 { b"{\"RecordId\":\"" } else { b",{\"RecordId\":\"" });
        ids.push(accepted.first.0 + i, &mut out);
        out.extend_from_slice(b"\"}");
    }
    out.extend_from_slice(b"]}");
    out
}

/// The reply to a PutRecordBatch of `count` records that were all refused for
/// now.
pub(super) fn refused_batch(count: usize, encrypted: bool) -> Vec<u8> {
    const ENTRY: &[u8] = br#"{"ErrorCode":"ServiceUnavailableException","ErrorMessage":"Slow down."}"#;
    let mut out = Vec::with_capacity(80 + count * (ENTRY.len() + 1));
    start_batch(count, encrypted, &mut out);
    for i in 0..count {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(ENTRY);
    }
    out.extend_from_slice(b"]}");
    out
}

fn start_batch(failed: usize, encrypted: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(
        format!("{{\"FailedPutCount\":{failed},\"Encrypted\":{encrypted},\"RequestResponses\":[").as_bytes(),
    );
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lakeward_model::Offset;
    use serde_json::{Value, json};

    use super::*;

    fn json_of(reply: Vec<u8>) -> Value {
        serde_json::from_slice(&reply).unwrap()
    }

    #[test]
    fn ids_are_base64_of_incarnation_and_offset() {
        let incarnation = Uuid::from_u128(0x0123_4567_89ab_cdef_fedc_ba98_7654_3210);
        let accepted = Accepted { first: Offset(1 << 40 | 7), count: 3, replayed: false };
        let reply = json_of(batch(incarnation, accepted, 3, true));
        assert_eq!((&reply["FailedPutCount"], &reply["Encrypted"]), (&json!(0), &json!(true)));
        let ids: BTreeSet<_> =
            reply["RequestResponses"].as_array().unwrap().iter().map(|r| r["RecordId"].to_string()).collect();
        assert_eq!(ids.len(), 3);
        for (i, response) in reply["RequestResponses"].as_array().unwrap().iter().enumerate() {
            let id = base64_simd::STANDARD.decode_to_vec(response["RecordId"].as_str().unwrap()).unwrap();
            let expect =
                [incarnation.as_bytes().as_slice(), &(accepted.first.0 + i as u64).to_be_bytes()].concat();
            assert_eq!(id, expect);
        }
        let single = json_of(one(incarnation, accepted, false));
        assert_eq!(single, json!({"RecordId": reply["RequestResponses"][0]["RecordId"], "Encrypted": false}));
    }

    #[test]
    fn a_refused_batch_names_every_record() {
        let entry = json!({"ErrorCode": "ServiceUnavailableException", "ErrorMessage": "Slow down."});
        let expect = json!({"FailedPutCount": 2, "Encrypted": false, "RequestResponses": [entry, entry]});
        assert_eq!(json_of(refused_batch(2, false)), expect);
    }
}

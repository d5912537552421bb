//! The frames of a file of replies: one is what a function said of pieces that
//! follow each other. All numbers are little-endian.
//!
//! ```text
//!  0        4       8          12       16              24
//!  ┌────────┬───────┬──────────┬────────┬───────────────┬─────────┐
//!  │ length │ crc   │ kind     │ pieces │ first piece   │ payload │
//!  └────────┴───────┴──────────┴────────┴───────────────┴─────────┘
//! ```
//!
//! The crc covers the file's identity, the frame's position in the file, and
//! everything but itself: a frame that lies elsewhere is not one. The whole
//! format: `docs/formats/replies.md`.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use lakeward_columnar::process::{Outcome, Reason, Stage};

/// Bytes of a frame without its payload.
pub(super) const HEADER_BYTES: usize = 24;
/// No payload is longer: replies are read up to 6 MB, and reasons are short.
pub(super) const PAYLOAD_MAX: usize = 64 << 20;

const KIND_OUTCOMES: u32 = 1;
const KIND_END: u32 = 2;

/// What a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Outcomes of so many pieces from this one on.
    Outcomes { first: u64, pieces: u32 },
    /// Everything is said: the batch has so many pieces.
    End { pieces: u64 },
}

/// A frame's header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) length: usize,
    pub(super) kind: Kind,
    crc: u32,
}

/// The file's identity, part of every checksum.
pub(super) type Identity = [u8; 24];

/// A frame at `position`.
pub(super) fn write(identity: &Identity, position: u64, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
    assert!(payload.len() <= PAYLOAD_MAX, "a reply's outcomes have {} bytes", payload.len());
    let start = out.len();
    let length = u32::try_from(payload.len()).expect("it is below the limit");
    let (number, pieces, first) = match kind {
        Kind::Outcomes { first, pieces } => (KIND_OUTCOMES, pieces, first),
        Kind::End { pieces } => (KIND_END, 0, pieces),
    };
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&number.to_le_bytes());
    out.extend_from_slice(&pieces.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(payload);
    let frame = &out[start..];
    let crc = checksum(identity, position, &frame[..HEADER_BYTES], payload);
    out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
}

/// The header in the first [`HEADER_BYTES`] of a frame, if it can be one.
pub(super) fn header(bytes: &[u8; HEADER_BYTES]) -> Option<Header> {
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let first = u64::from(number(16)) | u64::from(number(20)) << 32;
    let length = usize::try_from(number(0)).ok().filter(|length| *length <= PAYLOAD_MAX)?;
    let kind = match number(8) {
        KIND_OUTCOMES if number(12) > 0 => Kind::Outcomes { first, pieces: number(12) },
        KIND_END if number(12) == 0 && length == 0 => Kind::End { pieces: first },
        _ => return None,
    };
    Some(Header { length, kind, crc: number(4) })
}

/// Whether header and payload are as they were written at `position`.
pub(super) fn is_whole(
    identity: &Identity,
    position: u64,
    header: &Header,
    bytes: &[u8; HEADER_BYTES],
    payload: &[u8],
) -> bool {
    checksum(identity, position, bytes, payload) == header.crc
}

fn checksum(identity: &Identity, position: u64, header: &[u8], payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(identity);
    let crc = crc32c::crc32c_append(crc, &position.to_le_bytes());
    let crc = crc32c::crc32c_append(crc, &header[..4]);
    let crc = crc32c::crc32c_append(crc, &header[8..]);
    crc32c::crc32c_append(crc, payload)
}

const OK: u8 = 0;
const DROPPED: u8 = 1;
const FAILED: u8 = 2;

/// Outcomes as a payload: the reasons, each once; then the outcomes.
pub(super) fn encode(outcomes: &[Outcome]) -> Vec<u8> {
    let mut reasons: Vec<&Reason> = Vec::new();
    let mut known: HashMap<(Stage, &str, &str, u32), u32> = HashMap::new();
    let mut body = Vec::new();
    for outcome in outcomes {
        match outcome {
            Outcome::Ok { data, keys } => {
                body.push(OK);
                bytes(data, &mut body);
                count(keys.len(), &mut body);
                for (name, value) in keys {
                    bytes(name.as_bytes(), &mut body);
                    bytes(value.as_bytes(), &mut body);
                }
            }
            Outcome::Dropped => body.push(DROPPED),
            Outcome::Failed(reason) => {
                let key = (reason.stage, &*reason.code, reason.message.as_str(), reason.attempts);
                let number = *known.entry(key).or_insert_with(|| {
                    reasons.push(reason);
                    u32::try_from(reasons.len() - 1).expect("no more reasons than pieces")
                });
                body.push(FAILED);
                body.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    let mut out = Vec::with_capacity(body.len() + 64);
    count(reasons.len(), &mut out);
    for reason in reasons {
        out.push(match reason.stage {
            Stage::Processing => 0,
            Stage::Conversion => 1,
        });
        out.extend_from_slice(&reason.attempts.to_le_bytes());
        bytes(reason.code.as_bytes(), &mut out);
        bytes(reason.message.as_bytes(), &mut out);
    }
    out.append(&mut body);
    out
}

fn count(count: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&u32::try_from(count).expect("a reply is far below 4 GiB").to_le_bytes());
}

fn bytes(bytes: &[u8], out: &mut Vec<u8>) {
    count(bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// The outcomes in a payload; `None` if it does not hold exactly `pieces` of
/// them. Their data shares the payload's memory.
pub(super) fn decode(payload: &Bytes, pieces: u32) -> Option<Vec<Outcome>> {
    let mut at = Reader { payload, at: 0 };
    let mut reasons = Vec::new();
    for _ in 0..at.number()? {
        let stage = match at.byte()? {
            0 => Stage::Processing,
            1 => Stage::Conversion,
            _ => return None,
        };
        let attempts = at.number()?;
        reasons.push(Reason { stage, code: Cow::Owned(at.text()?), message: at.text()?, attempts });
    }
    let mut outcomes = Vec::new();
    for _ in 0..pieces {
        outcomes.push(match at.byte()? {
            OK => {
                let data = at.bytes()?;
                let mut keys = Vec::new();
                for _ in 0..at.number()? {
                    keys.push((at.text()?, at.text()?));
                }
                Outcome::Ok { data, keys }
            }
            DROPPED => Outcome::Dropped,
            FAILED => Outcome::Failed(reasons.get(usize::try_from(at.number()?).ok()?)?.clone()),
            _ => return None,
        });
    }
    (at.at == payload.len()).then_some(outcomes)
}

struct Reader<'a> {
    payload: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u32> {
        let bytes = self.payload.get(self.at..self.at.checked_add(4)?)?;
        self.at += 4;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    fn bytes(&mut self) -> Option<Bytes> {
        let length = usize::try_from(self.number()?).ok()?;
        let end = self.at.checked_add(length).filter(|end| *end <= self.payload.len())?;
        let bytes = self.payload.slice(self.at..end);
        self.at = end;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.into()).ok()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in super::super) fn outcome() -> impl Strategy<Value = Outcome> {
        let reason = ("[a-zA-Z.]{0,12}", ".{0,20}", 0_u32..5, any::<bool>()).prop_map(
            |(code, message, attempts, early)| {
                let stage = if early { Stage::Processing } else { Stage::Conversion };
                Reason { stage, code: Cow::Owned(code), message, attempts }
            },
        );
        prop_oneof![
            (
                proptest::collection::vec(any::<u8>(), 0..40),
                proptest::collection::vec((".{0,5}", ".{1,9}"), 0..3)
            )
                .prop_map(|(data, keys)| Outcome::Ok { data: data.into(), keys }),
            Just(Outcome::Dropped),
            reason.prop_map(Outcome::Failed),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]
        #[test]
        fn outcomes_come_back(outcomes in proptest::collection::vec(outcome(), 1..20), junk in proptest::collection::vec(any::<u8>(), 0..60)) {
            let payload = Bytes::from(encode(&outcomes));
            let pieces = u32::try_from(outcomes.len()).unwrap();
            let back = decode(&payload, pieces).expect("it reads");
            prop_assert_eq!(&back, &outcomes);
            prop_assert!(decode(&payload, pieces + 1).is_none());
            prop_assert!(decode(&payload.slice(..payload.len() - 1), pieces).is_none());
            decode(&junk.into(), pieces);
        }
    }

    #[test]
    fn a_reason_is_stored_once() {
        let reason = Reason {
            stage: Stage::Processing,
            code: Cow::Borrowed("c"),
            message: "m".repeat(1_000),
            attempts: 4,
        };
        let payload = encode(&vec![Outcome::Failed(reason); 1_000]);
        assert!(payload.len() < 7_000, "{}", payload.len());
    }
}

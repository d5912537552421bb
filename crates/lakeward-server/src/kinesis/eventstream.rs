//! The frames of `application/vnd.amazon.eventstream`: lengths, headers, a
//! payload, and CRC-32 over both (AWS' "Event stream encoding", as in Smithy's
//! specification).
//!
//! ```text
//! ┌────────────┬──────────────┬────────────┬─────────┬─────────┬────────────┐
//! │ bytes in   │ bytes of     │ CRC of the │ headers │ payload │ CRC of all │
//! │ all (4)    │ headers (4)  │ two (4)    │         │         │ before (4) │
//! └────────────┴──────────────┴────────────┴─────────┴─────────┴────────────┘
//! header: length of the name (1), name, type 7 = text (1), length (2), text
//! ```

use bytes::Bytes;

const TEXT: u8 = 7;

/// A frame with headers that are texts.
pub(super) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Bytes {
    let header_bytes: usize = headers.iter().map(|(name, value)| 4 + name.len() + value.len()).sum();
    let length = 16 + header_bytes + payload.len();
    let mut out = Vec::with_capacity(length);
    put_u32(length, &mut out);
    put_u32(header_bytes, &mut out);
    let prelude = crc(&out);
    out.extend_from_slice(&prelude.to_be_bytes());
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).expect("the protocol's own names are short"));
        out.extend_from_slice(name.as_bytes());
        out.push(TEXT);
        let length = u16::try_from(value.len()).expect("the protocol's own values are short");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(payload);
    let whole = crc(&out);
    out.extend_from_slice(&whole.to_be_bytes());
    Bytes::from(out)
}

fn put_u32(value: usize, out: &mut Vec<u8>) {
    let value = u32::try_from(value).expect("a frame is far below 4 GiB");
    out.extend_from_slice(&value.to_be_bytes());
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_those_of_the_specification() {
        // From the test vectors of AWS' event stream encoding: no headers, the
        // payload {'foo':'bar'}; and no headers, no payload.
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(&frame(&[], b"{'foo':'bar'}")),
            "0000001d00000000fd528c5a7b27666f6f273a27626172277dc3653936"
        );
        assert_eq!(hex(&frame(&[], b"")), "000000100000000005c248eb7d98c8ff");
        let with_header = frame(&[("content-type", "application/json")], b"{'foo':'bar'}");
        assert_eq!(
            hex(&with_header),
            "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b27666f6f273a27\
             626172277d8d9c08b1"
        );
    }
}

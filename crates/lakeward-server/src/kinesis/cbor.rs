//! The API's other encoding, `application/x-amz-cbor-1.1`, which Java clients
//! speak (contract, section 4.1): JSON's structure with raw bytes for blobs and
//! tag 1 with integer milliseconds for timestamps.
//!
//! Operations work on JSON values; here they come from CBOR and become CBOR.
//! Only puts and reads of records go past this, straight from and to bytes.

use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use serde_json::{Map, Value};

use crate::aws::tree::{TOO_MANY, VALUES_MAX};

/// An input of the API is not nested deeper.
const DEPTH_MAX: usize = 16;
/// Epoch-based time, RFC 8949, section 3.4.2.
const TIME: u64 = 1;

/// What is wrong with a body.
type Malformed = minicbor::decode::Error;

/// Reads a body as the JSON that stands for it: blobs become base64,
/// timestamps seconds.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(body: &[u8]) -> Result<Value, Malformed> {
    let mut decoder = Decoder::new(body);
    let mut left = VALUES_MAX;
    let value = value(&mut decoder, 0, &mut left)?;
    if decoder.position() < body.len() {
        return Err(Malformed::message("there is something behind the value"));
    }
    Ok(value)
}

/// `left` is how many more values there may be.
fn value(decoder: &mut Decoder<'_>, depth: usize, left: &mut usize) -> Result<Value, Malformed> {
    if depth > DEPTH_MAX {
        return Err(Malformed::message("too deeply nested"));
    }
    *left = left.checked_sub(1).ok_or_else(|| Malformed::message(TOO_MANY))?;
    Ok(match decoder.datatype()? {
        Type::Bool => decoder.bool()?.into(),
        Type::Null | Type::Undefined => {
            decoder.skip()?;
            Value::Null
        }
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => decoder.u64()?.into(),
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => decoder.i64()?.into(),
        Type::F32 => f64::from(decoder.f32()?).into(),
        Type::F64 => decoder.f64()?.into(),
        Type::String | Type::StringIndef => text(decoder)?.into(),
        Type::Bytes | Type::BytesIndef => {
            let mut bytes = Vec::new();
            for part in decoder.bytes_iter()? {
                bytes.extend_from_slice(part?);
            }
            base64_simd::STANDARD.encode_to_string(&bytes).into()
        }
        Type::Tag => {
            let tag = decoder.tag()?;
            if tag != Tag::new(TIME) {
                return Err(Malformed::message("a tag that the protocol does not have"));
            }
            let value = value(decoder, depth + 1, left)?;
            // Whole numbers are milliseconds.
            match value.as_i64() {
                Some(millis) => (millis as f64 / 1_000.0).into(),
                None if value.is_f64() => value,
                None => return Err(Malformed::message("a timestamp is a number")),
            }
        }
        Type::Array | Type::ArrayIndef => {
            let mut items = Vec::new();
            let mut rest = decoder.array()?;
            while more(decoder, &mut rest)? {
                items.push(value(decoder, depth + 1, left)?);
            }
            items.into()
        }
        Type::Map | Type::MapIndef => {
            let mut members = Map::new();
            let mut rest = decoder.map()?;
            while more(decoder, &mut rest)? {
                members.insert(text(decoder)?, value(decoder, depth + 1, left)?);
            }
            members.into()
        }
        other => return Err(Malformed::message(format!("{other} has no place here"))),
    })
}

fn text(decoder: &mut Decoder<'_>) -> Result<String, Malformed> {
    let mut text = String::new();
    for part in decoder.str_iter()? {
        text.push_str(part?);
    }
    Ok(text)
}

/// Whether another item of an array or a map comes. `left` is how many, if the
/// container said so; otherwise a break ends it.
pub(super) fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> Result<bool, Malformed> {
    match left {
        Some(0) => Ok(false),
        Some(left) => {
            *left -= 1;
            Ok(true)
        }
        None if decoder.datatype()? == Type::Break => {
            decoder.set_position(decoder.position() + 1);
            Ok(false)
        }
        None => Ok(true),
    }
}

/// Writes what an operation answers. Members named `…Timestamp` hold seconds.
pub(super) fn write(value: &Value) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    put(value, &mut encoder);
    encoder.into_writer()
}

/// Appends a value.
pub(super) fn put(value: &Value, to: &mut Encoder<Vec<u8>>) {
    match value {
        Value::Null => drop(infallible(to.null())),
        Value::Bool(value) => drop(infallible(to.bool(*value))),
        Value::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
            (Some(number), _, _) => drop(infallible(to.u64(number))),
            (None, Some(number), _) => drop(infallible(to.i64(number))),
            (None, None, number) => drop(infallible(to.f64(number.unwrap_or_default()))),
        },
        Value::String(text) => drop(infallible(to.str(text))),
        Value::Array(items) => {
            infallible(to.array(items.len() as u64));
            items.iter().for_each(|item| put(item, to));
        }
        Value::Object(members) => {
            infallible(to.map(members.len() as u64));
            for (name, value) in members {
                infallible(to.str(name));
                match value.as_f64().filter(|_| name.ends_with("Timestamp")) {
                    Some(seconds) => put_millis((seconds * 1_000.0).round() as i64, to),
                    None => put(value, to),
                }
            }
        }
    }
}

/// Appends a timestamp.
pub(super) fn put_millis(millis: i64, to: &mut Encoder<Vec<u8>>) {
    infallible(infallible(to.tag(Tag::new(TIME))).i64(millis));
}

/// Writing to memory does not fail.
pub(super) fn infallible<T>(written: Result<T, minicbor::encode::Error<std::convert::Infallible>>) -> T {
    written.unwrap_or_else(|error| unreachable!("{error}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    /// A body as Jackson writes it: containers of indefinite length.
    fn jackson() -> Vec<u8> {
        let mut encoder = Encoder::new(Vec::new());
        encoder.begin_map().unwrap().str("StreamName").unwrap().str("s").unwrap();
        encoder.str("Records").unwrap().begin_array().unwrap().begin_map().unwrap();
        encoder.str("Data").unwrap().bytes(b"\x00\xffx").unwrap().end().unwrap().end().unwrap();
        encoder.str("Timestamp").unwrap().tag(Tag::new(1)).unwrap().i64(1_700_000_000_123).unwrap();
        encoder.end().unwrap();
        encoder.into_writer()
    }

    #[test]
    fn java_is_understood() {
        let expect = json!({
            "StreamName": "s", "Records": [{"Data": "AP94"}], "Timestamp": 1_700_000_000.123,
        });
        assert_eq!(read(&jackson()).unwrap(), expect);
    }

    #[test]
    fn timestamps_are_milliseconds() {
        let value = json!({"StreamCreationTimestamp": 1_700_000_000.123, "Count": 3, "Timestamp": null});
        let bytes = write(&value);
        let mut decoded = Decoder::new(&bytes);
        let mut left = decoded.map().unwrap();
        while more(&mut decoded, &mut left).unwrap() {
            match decoded.str().unwrap() {
                "StreamCreationTimestamp" => {
                    assert_eq!(decoded.tag().unwrap(), Tag::new(1));
                    assert_eq!(decoded.i64().unwrap(), 1_700_000_000_123);
                }
                _ => decoded.skip().unwrap(),
            }
        }
        assert_eq!(read(&bytes).unwrap(), value);
    }

    #[test]
    fn a_tree_has_a_bound() {
        let body = |items: usize| {
            let mut encoder = Encoder::new(Vec::new());
            encoder.map(1).unwrap().str("X").unwrap().array(items as u64).unwrap();
            for _ in 0..items {
                encoder.array(0).unwrap();
            }
            encoder.into_writer()
        };
        assert!(read(&body(VALUES_MAX - 2)).is_ok());
        assert_eq!(
            read(&body(VALUES_MAX - 1)).unwrap_err().to_string(),
            Malformed::message(TOO_MANY).to_string()
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>, cut in 0..60_usize, flip in 0..60_usize, bit in 0..8_u32) {
            let _ = read(&bytes);
            let mut body = jackson();
            let at = flip % body.len();
            body[at] ^= 1_u8 << bit;
            let _ = read(&body);
            body.truncate(cut);
            let _ = read(&body);
        }
    }
}

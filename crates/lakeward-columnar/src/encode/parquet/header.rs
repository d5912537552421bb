//! Page headers.
//!
//! The `parquet` crate keeps its own writer of them private. Structures and
//! field ids: `PageHeader`, `DataPageHeader` and `DictionaryPageHeader` in
//! <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>;
//! bytes: Thrift's compact protocol
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>).

use ::parquet::basic::Encoding;

/// The kind of a page with what only that kind says about itself.
#[derive(Clone, Copy)]
pub(super) enum PageKind {
    /// A version 1 data page: rows, nulls among them, and how the values are
    /// encoded.
    Data { rows: usize, encoding: Encoding },
    /// A dictionary page: its entries.
    Dictionary { entries: usize },
}

/// Compact protocol's type ids.
const I32: u8 = 5;
const STRUCT: u8 = 12;
const STOP: u8 = 0;

/// Appends a header; sizes are those of the page's body, in bytes.
pub(super) fn write(out: &mut Vec<u8>, kind: PageKind, uncompressed: i32, compressed: i32) {
    let page_type = match kind {
        PageKind::Data { .. } => 0,
        PageKind::Dictionary { .. } => 2,
    };
    field(out, 1, page_type);
    field(out, 1, uncompressed);
    field(out, 1, compressed);
    match kind {
        PageKind::Data { rows, encoding } => {
            // Field 5: `data_page_header`.
            out.push((2 << 4) | STRUCT);
            field(out, 1, count(rows));
            field(out, 1, encoding as i32);
            field(out, 1, Encoding::RLE as i32);
            field(out, 1, Encoding::RLE as i32);
        }
        PageKind::Dictionary { entries } => {
            // Field 7: `dictionary_page_header`.
            out.push((4 << 4) | STRUCT);
            field(out, 1, count(entries));
            field(out, 1, Encoding::PLAIN as i32);
        }
    }
    out.extend_from_slice(&[STOP, STOP]);
}

fn count(values: usize) -> i32 {
    i32::try_from(values).expect("a page holds far fewer than 2^31 values")
}

/// A 32-bit integer whose field id is `delta` above the one before.
fn field(out: &mut Vec<u8>, delta: u8, value: i32) {
    out.push((delta << 4) | I32);
    let zigzag = ((value << 1) ^ (value >> 31)) as u32;
    varint(out, u64::from(zigzag));
}

/// Unsigned LEB128.
pub(super) fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

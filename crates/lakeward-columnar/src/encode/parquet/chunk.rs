//! A column chunk: an optional dictionary page and data pages.

use std::ops::Range;

use ::parquet::basic::{CompressionCodec, Encoding, EncodingMask};
use ::parquet::file::metadata::ColumnChunkMetaData;
use ::parquet::schema::types::ColumnDescPtr;

use super::codec::{Codec, SMALLEST, Search};
use super::header::{self, PageKind};
use super::hybrid;
use super::leaves::Leaf;
use super::values::{Encoded, Scratch, Values};
use crate::encode::EncodeError;
use crate::shape::ParquetOptions;

/// About how many bytes a page has before compression.
const PAGE_BYTES: usize = 1 << 20;
/// Text of which more percent than these remain has no repetitions: hex
/// digits keep 49, IP addresses 38.
const RANDOM: usize = 45;
/// The most rows of a page.
const PAGE_ROWS: usize = 1 << 17;

/// Appends column chunks to a file.
pub(super) struct ChunkWriter<'a> {
    pub(super) options: &'a ParquetOptions,
    pub(super) codec: Codec,
    /// The file so far.
    pub(super) out: Vec<u8>,
    // What follows is kept only to be used again.
    page: Vec<u8>,
    compressed: Vec<u8>,
    compressed_dictionary: Vec<u8>,
    scratch: Scratch,
}

/// The pages of a chunk: what comes first, and what the footer must know.
#[derive(Default)]
struct Pages<'a> {
    dictionary: Option<(PageKind, &'a Vec<u8>)>,
    /// Set with the first data page.
    codec: Option<CompressionCodec>,
    /// Where the first data page starts in the file.
    data_offset: usize,
    /// Bytes of all headers and of the bodies before compression.
    uncompressed: usize,
}

impl<'a> ChunkWriter<'a> {
    pub(super) fn new(options: &'a ParquetOptions) -> Result<Self, EncodeError> {
        let codec = Codec::new(options.compression)?;
        Ok(Self {
            options,
            codec,
            out: Vec::new(),
            page: Vec::new(),
            compressed: Vec::new(),
            compressed_dictionary: Vec::new(),
            scratch: Scratch::default(),
        })
    }

    /// Writes one leaf, of the rows in `runs`.
    pub(super) fn write(
        &mut self,
        column: &ColumnDescPtr,
        leaf: &Leaf<'_>,
        runs: &[Range<usize>],
    ) -> Result<ColumnChunkMetaData, EncodeError> {
        let values = Values::new(leaf.array, runs, leaf.present.as_ref(), &mut self.scratch);
        let encoded =
            if self.options.dictionary { values.encode(&mut self.scratch.indices) } else { Encoded::Plain };
        let start = self.out.len();
        let mut pages = Pages::default();
        let mut encodings = vec![encoded.encoding(), Encoding::RLE];
        if let Encoded::Dictionary { page, entries, .. } = &encoded {
            encodings.push(Encoding::PLAIN);
            self.codec.compress(page, &mut self.compressed_dictionary)?;
            pages.dictionary = Some((PageKind::Dictionary { entries: *entries }, page));
        }
        let is_plain = matches!(encoded, Encoded::Plain);
        if is_plain && !values.is_bytes() {
            self.codec.search(Search::Near)?;
        }
        let mut from = 0;
        let mut rows = 0..0;
        let mut page = std::mem::take(&mut self.page);
        while rows.end < leaf.rows {
            rows = rows.end..leaf.rows;
            let range = page_rows(leaf, &values, &encoded, &mut rows, from);
            from = range.end;
            page.clear();
            write_levels(&mut page, leaf, rows.clone());
            encoded.write(&values, &mut page, range);
            let kind = PageKind::Data { rows: rows.len(), encoding: encoded.encoding() };
            self.write_page(&mut pages, kind, &page)?;
            // The first page of ids shows that there is nothing to be found.
            if is_plain && rows.start == 0 && self.compressed.len() > page.len() / 100 * RANDOM {
                self.codec.search(Search::Near)?;
            }
        }
        self.page = page;
        self.codec.search(Search::Wide)?;
        let dictionary_offset = pages.dictionary.map(|_| start as i64);
        let data_offset = pages.data_offset;
        let nulls = (leaf.rows - values.len()) as u64;
        let mut metadata = ColumnChunkMetaData::builder(ColumnDescPtr::clone(column))
            .set_encodings_mask(EncodingMask::new_from_encodings(encodings.iter()))
            .set_compression_codec(pages.codec.unwrap_or(CompressionCodec::UNCOMPRESSED))
            .set_num_values(leaf.rows as i64)
            .set_total_uncompressed_size(pages.uncompressed as i64)
            .set_total_compressed_size((self.out.len() - start) as i64)
            .set_dictionary_page_offset(dictionary_offset)
            .set_data_page_offset(data_offset as i64);
        if self.options.statistics {
            metadata = metadata.set_statistics(encoded.statistics(&values, nulls));
        }
        if let Encoded::Dictionary { indices, .. } = encoded {
            self.scratch.indices = indices;
        }
        values.recycle(&mut self.scratch);
        Ok(metadata.build()?)
    }

    /// Compresses and appends a data page; before the first one, the
    /// dictionary. The two decide for the chunk whether compression pays.
    fn write_page(&mut self, pages: &mut Pages<'_>, kind: PageKind, body: &[u8]) -> Result<(), EncodeError> {
        if pages.codec == Some(CompressionCodec::UNCOMPRESSED) {
            return append(&mut self.out, pages, kind, body, body);
        }
        let is_first = pages.codec.is_none();
        let dictionary = pages.dictionary.filter(|_| is_first);
        let raw = body.len() + dictionary.map_or(0, |(_, page)| page.len());
        if !is_first || raw >= SMALLEST {
            self.codec.compress(body, &mut self.compressed)?;
        }
        if is_first {
            let packed = self.compressed.len() + dictionary.map_or(0, |_| self.compressed_dictionary.len());
            let pays = raw >= SMALLEST && packed < raw - raw / 10;
            let codec = if pays { self.codec.name() } else { CompressionCodec::UNCOMPRESSED };
            pages.codec = Some(codec);
            if let Some((kind, page)) = dictionary {
                let stored = if pays { &self.compressed_dictionary } else { page };
                append(&mut self.out, pages, kind, page, stored)?;
            }
            pages.data_offset = self.out.len();
            if !pays {
                return append(&mut self.out, pages, kind, body, body);
            }
        }
        append(&mut self.out, pages, kind, body, &self.compressed)
    }
}

/// Appends a page: its header and the bytes that are stored of it.
fn append(
    out: &mut Vec<u8>,
    pages: &mut Pages<'_>,
    kind: PageKind,
    body: &[u8],
    stored: &[u8],
) -> Result<(), EncodeError> {
    let size = |bytes: usize| {
        let limit = i32::MAX.unsigned_abs().into();
        i32::try_from(bytes).map_err(|_| EncodeError::TooLarge { format: "parquet page", limit })
    };
    let start = out.len();
    header::write(out, kind, size(body.len())?, size(stored.len())?);
    pages.uncompressed += out.len() - start + body.len();
    out.extend_from_slice(stored);
    Ok(())
}

/// Cuts `rows` to those of one page and returns its range of values, which
/// starts at `from`.
fn page_rows(
    leaf: &Leaf<'_>,
    values: &Values<'_>,
    encoded: &Encoded,
    rows: &mut Range<usize>,
    from: usize,
) -> Range<usize> {
    let mut count = rows.len().min(PAGE_ROWS);
    loop {
        let present = match &leaf.present {
            Some(bits) => bits.slice(rows.start, count).count_set_bits(),
            None => count,
        };
        let range = from..from + present;
        let bytes = encoded.bytes(values, range.clone());
        if bytes <= PAGE_BYTES || count <= 64 {
            rows.end = rows.start + count;
            return range;
        }
        // Near what fits, in whole words of the level bitmaps.
        let fits = (count as u128 * PAGE_BYTES as u128 / bytes as u128) as usize;
        count = (fits & !63).clamp(64, count - 1);
    }
}

/// Appends the definition levels as a version 1 data page has them: after
/// their length, and not at all if every row is there by type.
fn write_levels(page: &mut Vec<u8>, leaf: &Leaf<'_>, rows: Range<usize>) {
    if leaf.levels.is_empty() {
        return;
    }
    let start = page.len();
    page.extend_from_slice(&[0; 4]);
    hybrid::write_levels(page, &leaf.levels, rows);
    let length = (page.len() - start - 4) as u32;
    page[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

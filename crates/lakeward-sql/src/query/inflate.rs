//! A file's bytes as they stream in, decompressed piece by piece: memory is
//! bounded by the pieces, not by the file.

use std::io::{self, Write};

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};

use super::files::Packing;

/// How much is decompressed at a time.
const PIECE: usize = 4 << 10;
/// The most that one piece may become: data that is denser is no data of ours.
const BURST: usize = 64 << 20;

/// What a file holds.
pub(super) type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// Opens a file.
///
/// # Errors
/// It is not there, or the store does not answer.
pub(super) async fn open(
    store: &dyn ObjectStore,
    path: &Path,
    packing: Packing,
) -> object_store::Result<Chunks> {
    let found = store.get(path).await?;
    let raw = found.into_stream().map_err(io::Error::from).boxed();
    let inflate = match packing {
        Packing::None => return Ok(raw),
        Packing::Gzip => Inflate::Gzip(Box::new(flate2::write::MultiGzDecoder::new(Vec::new()))),
        Packing::Zstd => match zstd::stream::write::Decoder::new(Vec::new()) {
            Ok(decoder) => Inflate::Zstd(Box::new(decoder)),
            Err(error) => return Ok(futures::stream::iter([Err(error)]).boxed()),
        },
    };
    Ok(futures::stream::try_unfold((raw, Bytes::new(), Some(inflate)), next).boxed())
}

enum Inflate {
    Gzip(Box<flate2::write::MultiGzDecoder<Vec<u8>>>),
    Zstd(Box<zstd::stream::write::Decoder<'static, Vec<u8>>>),
}

type State = (Chunks, Bytes, Option<Inflate>);

/// The next decompressed bytes.
async fn next((mut raw, mut packed, inflate): State) -> io::Result<Option<(Bytes, State)>> {
    let Some(mut inflate) = inflate else { return Ok(None) };
    loop {
        if packed.is_empty() {
            match raw.try_next().await? {
                Some(more) => packed = more,
                None => {
                    let rest = inflate.finish()?;
                    return Ok((!rest.is_empty()).then_some((rest, (raw, packed, None))));
                }
            }
        }
        let piece = packed.split_to(packed.len().min(PIECE));
        let out = inflate.feed(&piece)?;
        if !out.is_empty() {
            return Ok(Some((out, (raw, packed, Some(inflate)))));
        }
    }
}

impl Inflate {
    fn feed(&mut self, piece: &[u8]) -> io::Result<Bytes> {
        let out = match self {
            Self::Gzip(decoder) => {
                decoder.write_all(piece)?;
                std::mem::take(decoder.get_mut())
            }
            Self::Zstd(decoder) => {
                decoder.write_all(piece)?;
                std::mem::take(decoder.get_mut())
            }
        };
        if out.len() > BURST {
            return Err(io::Error::other("it holds far more than a file of this size should"));
        }
        Ok(out.into())
    }

    /// What is left when the input has ended.
    fn finish(self) -> io::Result<Bytes> {
        match self {
            Self::Gzip(decoder) => decoder.finish().map(Bytes::from),
            Self::Zstd(mut decoder) => {
                decoder.flush()?;
                Ok(std::mem::take(decoder.get_mut()).into())
            }
        }
    }
}

//! Reading a member.

use std::io::{self, Read};
use std::sync::Arc;

use flate2::Crc;
use flate2::bufread::DeflateDecoder;

use super::directory::{u16_at, u32_at};
use super::{Archive, Member};
use crate::bulk::Section;
use crate::error::Fault;
use crate::meter::{Meter, Unpacked};
use crate::unpacking::zstd_decoder;
use crate::window::Window;

const HEADER: usize = 30;

impl Archive {
    /// The unpacked bytes of the member at this position of
    /// [`Archive::members`]; its end is an error unless its length and checksum
    /// are right.
    pub(crate) fn read(&self, position: usize, meter: &Arc<Meter>) -> Result<Window, Fault> {
        let (member, storage) = (&self.members[position], self.storage[position]);
        if storage.encrypted {
            return broken("the zip's member is encrypted, which cannot be read");
        }
        if storage.header >= self.directory {
            return broken("the zip's member does not lie in it");
        }
        let header = self.bulk.exact(storage.header, HEADER)?;
        if !header.starts_with(b"PK\x03\x04") {
            return broken("the header of the zip's member is damaged");
        }
        let name_length = u16_at(&header, 26);
        let name = self.bulk.exact(storage.header + HEADER as u64, usize::from(name_length))?;
        let same = name_length == storage.name
            && String::from_utf8_lossy(&name) == member.name
            && u16_at(&header, 8) == storage.method
            // Without a data descriptor the checksum stands here too.
            && (u16_at(&header, 6) & 8 != 0 || u32_at(&header, 14) == u64::from(member.crc32));
        if !same {
            return broken("the zip's directory and the header of the zip's member do not agree");
        }
        let at = storage.header + HEADER as u64 + u64::from(name_length) + u64::from(u16_at(&header, 28));
        let end = at.checked_add(member.packed).filter(|end| *end <= self.directory);
        let Some(end) = end else {
            return broken("the zip's member reaches beyond the zip's members");
        };
        let packed = Section { bulk: self.bulk.clone(), at, end };
        let unpacked: Box<dyn Read + Send> = match storage.method {
            0 => Box::new(packed),
            8 => Box::new(DeflateDecoder::new(Window::new(packed))),
            93 => Box::new(zstd_decoder(Window::new(packed))?),
            method => {
                let problem = format!(
                    "the zip's member is packed by method {method}; only stored (0), deflated (8) and zstd (93) can be read"
                );
                return Err(Fault::Broken(problem));
            }
        };
        Ok(Window::new(Unpacked { reader: Checked::new(unpacked, member), meter: Arc::clone(meter) }))
    }
}

fn broken<T>(problem: &str) -> Result<T, Fault> {
    Err(Fault::Broken(problem.to_string()))
}

/// Bytes that end only where they should, with the checksum that they should
/// have.
struct Checked<R> {
    reader: R,
    crc: Crc,
    /// How many are to come.
    left: u64,
    expected: u32,
}

impl<R: Read> Checked<R> {
    fn new(reader: R, member: &Member) -> Self {
        Self { reader, crc: Crc::new(), left: member.unpacked, expected: member.crc32 }
    }
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let bytes = self.reader.read(buffer)?;
        self.crc.update(&buffer[..bytes]);
        let damaged = |problem: &str| Err(io::Error::new(io::ErrorKind::InvalidData, problem));
        match self.left.checked_sub(bytes as u64) {
            None => return damaged("the zip's member is longer than the zip's directory says"),
            Some(left) => self.left = left,
        }
        if bytes == 0 && self.left > 0 {
            return damaged("the zip's member is shorter than the zip's directory says");
        }
        if bytes == 0 && self.crc.sum() != self.expected {
            return damaged("the zip's member does not have the checksum that the zip's directory says");
        }
        Ok(bytes)
    }
}

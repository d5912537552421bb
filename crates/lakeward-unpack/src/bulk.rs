//! Bytes that can be read at any position.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;

use crate::meter::Meter;

/// Bytes that can be read at any position.
#[derive(Debug, Clone)]
pub(crate) enum Bulk {
    /// A file, its length and the meter that counts what is read of it.
    File(Arc<File>, u64, Arc<Meter>),
    /// What was unpacked into memory; counted when it was.
    Memory(Bytes),
}

impl Bulk {
    pub(crate) fn file(file: File, meter: &Arc<Meter>) -> io::Result<Self> {
        let length = file.metadata().inspect_err(|_| meter.fail())?.len();
        Ok(Self::File(Arc::new(file), length, Arc::clone(meter)))
    }

    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::File(_, length, _) => *length,
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Reads what lies at `at`, at least one byte unless that is the end.
    pub(crate) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        match self {
            Self::File(file, _, meter) => loop {
                match file.read_at(buffer, at) {
                    Ok(bytes) => {
                        meter.read(bytes);
                        return Ok(bytes);
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        meter.fail();
                        return Err(error);
                    }
                }
            },
            Self::Memory(bytes) => {
                let rest = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            }
        }
    }

    /// Exactly the bytes `[at, at + length)`; the caller limits the length.
    pub(crate) fn exact(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.length()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut buffer = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.read_at(&mut buffer[filled..], at + filled as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                bytes => filled += bytes,
            }
        }
        Ok(buffer)
    }
}

/// The bytes `[at, end)`, in order.
pub(crate) struct Section {
    pub(crate) bulk: Bulk,
    pub(crate) at: u64,
    pub(crate) end: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let wanted = left.min(buffer.len());
        let bytes = self.bulk.read_at(&mut buffer[..wanted], self.at)?;
        self.at += bytes as u64;
        Ok(bytes)
    }
}

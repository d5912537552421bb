//! Counts what goes in and what comes out, so that a small file cannot become
//! an endless one; and remembers whether it was the source that failed.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::Limits;

/// Up to here any ratio is harmless.
const RATIO_FROM: u64 = 64 << 20;

/// What all layers of a file share.
#[derive(Debug)]
pub(crate) struct Meter {
    unpacked_bytes_max: u64,
    ratio_max: u64,
    packed: AtomicU64,
    unpacked: AtomicU64,
    failed: AtomicBool,
    over: OnceLock<(&'static str, String)>,
}

impl Meter {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            unpacked_bytes_max: limits.unpacked_bytes_max,
            ratio_max: limits.ratio_max,
            packed: AtomicU64::new(0),
            unpacked: AtomicU64::new(0),
            failed: AtomicBool::new(false),
            over: OnceLock::new(),
        })
    }

    /// Bytes came from the source.
    pub(crate) fn read(&self, bytes: usize) {
        self.packed.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// The source failed, so whatever error follows is not the file's.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    pub(crate) fn source_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The limit that was met, if one was, and what is to be said of it.
    pub(crate) fn over(&self) -> Option<(&'static str, String)> {
        self.over.get().cloned()
    }

    /// A layer made these bytes out of fewer.
    pub(crate) fn unpacked(&self, bytes: usize, look_at_ratio: bool) -> io::Result<()> {
        let unpacked = self.unpacked.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        let packed = self.packed.load(Ordering::Relaxed).max(1);
        let (limit, problem) = if unpacked > self.unpacked_bytes_max {
            ("unpacked_bytes_max", format!("it unpacks to more than {} bytes", self.unpacked_bytes_max))
        } else if look_at_ratio && unpacked > RATIO_FROM && unpacked / packed > self.ratio_max {
            let problem =
                format!("it unpacks to more than {} times its size ({packed} bytes so far)", self.ratio_max);
            ("ratio_max", problem)
        } else {
            return Ok(());
        };
        let error = io::Error::other(problem.clone());
        self.over.get_or_init(|| (limit, problem));
        Err(error)
    }
}

/// The file's own bytes.
pub(crate) struct Source<R> {
    pub(crate) reader: R,
    pub(crate) meter: Arc<Meter>,
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.reader.read(buffer) {
            Ok(bytes) => {
                self.meter.read(bytes);
                Ok(bytes)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::Interrupted {
                    self.meter.fail();
                }
                Err(error)
            }
        }
    }
}

/// What a decompressor makes.
pub(crate) struct Unpacked<R> {
    pub(crate) reader: R,
    pub(crate) meter: Arc<Meter>,
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.reader.read(buffer)?;
        self.meter.unpacked(bytes, true)?;
        Ok(bytes)
    }
}

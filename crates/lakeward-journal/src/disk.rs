//! The few calls that make bytes durable, behind a trait so that tests can
//! make them fail.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, IoSlice};
use std::path::Path;

use rustix::fs::FallocateFlags;

/// The file layer under the writer.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Reserves room so that the file has `bytes` in all.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;
    /// Writes some of the buffers at a position; answers how many bytes.
    fn write_at(&self, file: &File, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize>;
    /// Makes the file's bytes and its length durable.
    fn sync(&self, file: &File) -> io::Result<()>;
}

/// The operating system's file system.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OsDisk;

impl Disk for OsDisk {
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            // A file system without preallocation gets a sparse file: slower,
            // and a full disk shows at the write.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => file.set_len(bytes),
            other => Ok(other?),
        }
    }

    fn write_at(&self, file: &File, buffers: &[IoSlice<'_>], position: u64) -> io::Result<usize> {
        Ok(rustix::io::pwritev(file, buffers, position)?)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }
}

/// Writes all buffers at a position, however little goes at a time.
///
/// # Errors
/// The file system's; some of the bytes may have been written.
pub(crate) fn write_all_at(
    disk: &dyn Disk,
    file: &File,
    mut buffers: &mut [IoSlice<'_>],
    mut position: u64,
) -> io::Result<()> {
    IoSlice::advance_slices(&mut buffers, 0);
    while !buffers.is_empty() {
        match disk.write_at(file, buffers, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                position += written as u64;
                IoSlice::advance_slices(&mut buffers, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes the names in a folder durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether an error says that there is no room, which passes, rather than
/// that the disk is broken.
pub(crate) fn is_no_room(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
    )
}

/// Ends the process, because it is no longer known what is durable.
///
/// After a failed write or fsync the kernel may have dropped the pages that it
/// could not write, and a later fsync would say success. Only a restart, which
/// reads what the disk really holds, tells.
#[allow(clippy::print_stderr, reason = "the last words of the process, should no log be set up")]
pub(crate) fn fatal(what: &str, path: &Path, error: &io::Error) -> ! {
    let path = path.display();
    tracing::error!(%path, %error, "{what} failed in the journal; stopping at once");
    eprintln!(
        "lakeward: {what} of {path} failed: {error}. What is durable is no longer known, so the process stops at \
         once. Nothing that was acknowledged is lost: check the disk, then start again."
    );
    std::process::abort()
}

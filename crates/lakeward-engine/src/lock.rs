//! One process per state directory: a lock that dies with the process.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

/// Who holds a state directory; written into the lock file so that the command
/// line can find the running process and a second process can name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The process id.
    pub pid: u32,
    /// Where its control API listens, once it does.
    pub control: Option<String>,
    /// The bearer token that the control API takes from local commands. The
    /// file is readable by its owner only.
    pub token: Option<String>,
}

/// The held lock. Dropping it, or dying, gives it up.
#[derive(Debug)]
pub struct StateLock {
    file: File,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works on this directory: stop it, or choose another.
    #[error("{} is in use by process {}{}; stop it first, or use another state directory", path.display(), holder.as_ref().map_or("(unknown)".to_string(), |h| h.pid.to_string()), holder.as_ref().and_then(|h| h.control.as_deref()).map(|c| format!(" ({c})")).unwrap_or_default())]
    Held {
        /// The directory.
        path: PathBuf,
        /// Who, if the lock file says so.
        holder: Option<Holder>,
    },
    /// The directory or the lock file cannot be used.
    #[error("{}: {source}", path.display())]
    Io {
        /// The lock file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
}

impl StateLock {
    /// Takes the lock of `state`, creating the directory if need be.
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn take(state: &Path) -> Result<Self, LockError> {
        let path = state.join("lock");
        let io = |source| LockError::Io { path: path.clone(), source };
        fs::create_dir_all(state).map_err(io)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(LockError::Held { path: state.to_path_buf(), holder: Self::holder(state) });
            }
            Err(errno) => return Err(io(errno.into())),
        }
        let mut lock = Self { file };
        lock.announce(&Holder { pid: std::process::id(), control: None, token: None }).map_err(io)?;
        Ok(lock)
    }

    /// Writes who holds the lock and where it can be reached.
    ///
    /// # Errors
    /// The lock file cannot be written.
    pub fn announce(&mut self, holder: &Holder) -> std::io::Result<()> {
        let text = serde_json::to_vec(holder)?;
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&text)
    }

    /// What the lock file of `state` says, whether or not its writer lives.
    #[must_use]
    pub fn holder(state: &Path) -> Option<Holder> {
        let mut text = String::new();
        File::open(state.join("lock")).ok()?.take(64 << 10).read_to_string(&mut text).ok()?;
        serde_json::from_str(&text).ok()
    }
}

impl StateLock {
    /// Whether a process holds the lock of `state` now.
    #[must_use]
    pub fn is_held(state: &Path) -> bool {
        let Ok(file) = File::open(state.join("lock")) else { return false };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => false,
            Err(errno) => errno == rustix::io::Errno::WOULDBLOCK,
        }
    }
}

//! An instance: its name, its configuration, its pid file.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lakeward_engine::StateLock;
use rustix::fs::{FlockOperation, flock};

use super::Which;
use crate::config::Config;
use crate::exit::{Code, coded};

/// A name that no instance has, to see what depends on the name.
const NOBODY: &str = "another-instance";
/// Whoever asks whether an instance lives holds the lock for an instant: it is
/// tried this often before it counts as held.
const TRIES: u32 = 20;
const TRY_EVERY: Duration = Duration::from_millis(25);

/// An instance of the service.
pub(super) struct Instance {
    pub(super) name: String,
    /// Its configuration, with its name in it.
    pub(super) config: Config,
    pub(super) pid_file: PathBuf,
}

/// What is known of an instance's process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Life {
    /// It lives, and has this process id.
    Runs(u32),
    /// It died without giving up its pid file.
    Died(Option<u32>),
    /// There is no pid file.
    Stopped,
    /// The pid file cannot be read.
    Unknown(String),
}

/// The pid file while this process has it.
pub(super) struct Held {
    // The lock is held as long as the file is open.
    _file: File,
    path: PathBuf,
}

impl Held {
    /// This process ends in order: a file that is left behind means it died.
    pub(super) fn give_up(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "the pid file stays");
        }
    }
}

/// A name that may be part of a path.
pub(super) fn parse_name(text: &str) -> Result<String, String> {
    let is_part = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(is_part) {
        return Ok(text.to_string());
    }
    Err("a name has 1 to 64 letters, digits, `-` and `_`".into())
}

/// The folder that a file lies in.
pub(super) fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

impl Instance {
    /// # Errors
    /// The configuration cannot be used, or instances would share a state.
    pub(super) fn of(which: &Which) -> anyhow::Result<Self> {
        let name = which.name().to_string();
        let config = Config::read_as(&which.config, &name)?;
        if which.instance.is_some() && Config::read_as(&which.config, NOBODY)?.state == config.state {
            return Err(coded(
                Code::Configuration,
                format!(
                    "{}: every instance needs a state folder of its own: write ${{INSTANCE}} into it, such as \
                     `state: ./state/${{INSTANCE}}` (and into `listen`, such as 127.0.0.1:717${{INSTANCE}})",
                    which.config.display()
                ),
            ));
        }
        let pid_file = which.pid_file.clone().unwrap_or_else(|| config.state.join("daemon.pid"));
        Ok(Self { name, config, pid_file })
    }

    /// Whether it lives.
    pub(super) fn life(&self) -> Life {
        let file = match File::open(&self.pid_file) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Life::Stopped,
            Err(error) => return Life::Unknown(format!("{}: {error}", self.pid_file.display())),
        };
        let mut text = String::new();
        // A process id has few digits; what is no number is none.
        let pid = (&file).take(32).read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => Life::Died(pid),
            Err(rustix::io::Errno::WOULDBLOCK) => match pid {
                Some(pid) => Life::Runs(pid),
                // Between taking the lock and writing the number.
                None => Life::Unknown(format!("{} is being written", self.pid_file.display())),
            },
            Err(error) => Life::Unknown(format!("{}: {error}", self.pid_file.display())),
        }
    }

    /// Where it can be reached, once it is ready.
    pub(super) fn url(&self, pid: u32) -> Option<String> {
        let holder = StateLock::holder(&self.config.state)?;
        holder.control.filter(|_| holder.pid == pid)
    }

    /// Makes this process the instance. A pid file that a dead process left is
    /// taken over.
    ///
    /// # Errors
    /// It runs already, or the file cannot be written.
    pub(super) fn take(&self) -> anyhow::Result<Held> {
        let path = self.pid_file.clone();
        let failed = |error: std::io::Error| coded(Code::Unavailable, format!("{}: {error}", path.display()));
        std::fs::create_dir_all(folder_of(&path)).map_err(failed)?;
        for _ in 0..TRIES {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o644);
            let mut file = options.open(&path).map_err(failed)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // The one before may have removed the file under our hands.
                Ok(()) if !is_at(&file, &path) => {}
                Ok(()) => {
                    let written = file
                        .set_len(0)
                        .and_then(|()| file.rewind())
                        .and_then(|()| writeln!(file, "{}", std::process::id()));
                    written.map_err(failed)?;
                    return Ok(Held { _file: file, path });
                }
                Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(TRY_EVERY),
                Err(error) => return Err(failed(error.into())),
            }
        }
        let who = match self.life() {
            Life::Runs(pid) => format!(" (process {pid})"),
            _ => String::new(),
        };
        Err(coded(Code::Unavailable, format!("instance {} runs already{who}", self.name)))
    }
}

/// Whether the path still leads to this file.
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(open), Ok(there)) = (file.metadata(), std::fs::metadata(path)) else { return false };
    (open.dev(), open.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instance(folder: &Path) -> Instance {
        let config = Config { state: folder.join("state"), ..Config::default() };
        Instance { name: "1".into(), config, pid_file: folder.join("run/1.pid") }
    }

    #[test]
    fn the_lock_tells_who_lives_and_the_number_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let instance = instance(folder.path());
        assert_eq!(instance.life(), Life::Stopped);
        let held = instance.take().unwrap();
        assert_eq!(instance.life(), Life::Runs(std::process::id()));
        let second = instance.take().err().expect("it runs").to_string();
        assert!(
            second.contains("runs already") && second.contains(&std::process::id().to_string()),
            "{second}"
        );
        held.give_up();
        assert_eq!(instance.life(), Life::Stopped);
        // A process that lives, but is another one.
        std::fs::write(&instance.pid_file, "1\n").unwrap();
        assert_eq!(instance.life(), Life::Died(Some(1)));
        std::fs::write(&instance.pid_file, "rubbish").unwrap();
        assert_eq!(instance.life(), Life::Died(None));
        let held = instance.take().unwrap();
        assert_eq!(instance.life(), Life::Runs(std::process::id()));
        drop(held);
        assert_eq!(instance.life(), Life::Died(Some(std::process::id())));
    }

    #[test]
    fn names_are_parts_of_paths() {
        for good in ["1", "eu-west_2", "A"] {
            assert_eq!(parse_name(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "../x", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(parse_name(bad).is_err(), "{bad}");
        }
    }
}

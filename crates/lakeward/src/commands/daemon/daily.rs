//! A log file that is renamed at midnight UTC: `daemonlog_1` becomes
//! `daemonlog_1.2026-11-22`, whatever the machine's time zone is.
//!
//! Own, because `tracing-appender` always has the date in the name of the file
//! that is being written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::ToSpan;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lakeward_model::clock::{Clock, SystemClock};

/// A file of today's log lines, and those of days before beside it.
#[derive(Debug)]
pub(crate) struct DailyFile {
    path: PathBuf,
    file: File,
    day: Date,
    keep_days: u16,
}

fn day_of(micros: i64) -> Date {
    jiff::Timestamp::from_microsecond(micros).unwrap_or_default().to_zoned(TimeZone::UTC).date()
}

fn today() -> Date {
    day_of(SystemClock.now().micros())
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).open(path)
}

impl DailyFile {
    /// Goes on behind what is in the file, if that is of today.
    ///
    /// # Errors
    /// The folder or the file cannot be made.
    pub(crate) fn open(path: &Path, keep_days: u16) -> io::Result<Self> {
        Self::open_on(path, keep_days, today())
    }

    fn open_on(path: &Path, keep_days: u16, today: Date) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Whoever wrote it last may have ended on another day.
        let written = fs::metadata(path).and_then(|about| about.modified()).ok();
        let since = written.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let day = since.map(|since| day_of(i64::try_from(since.as_micros()).unwrap_or(i64::MAX)));
        let mut daily =
            Self { path: path.to_path_buf(), file: open(path)?, day: day.unwrap_or(today), keep_days };
        daily.turn(today);
        Ok(daily)
    }

    /// A new day: the file gets the name of the day before. If that fails, it is
    /// written on, because a line in the wrong file is better than none.
    fn turn(&mut self, today: Date) {
        if self.day == today {
            return;
        }
        let old = named(&self.path, self.day);
        let moved = match old.exists() {
            false => fs::rename(&self.path, &old),
            // A clock that was set back.
            true => append(&self.path, &old),
        };
        self.day = today;
        if let Ok(file) = moved.and_then(|()| open(&self.path)) {
            self.file = file;
        }
        self.forget(today);
    }

    /// Removes the logs of days that are too long ago.
    fn forget(&self, today: Date) {
        let Ok(oldest) = today.checked_sub(i64::from(self.keep_days).days()) else { return };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let Ok(entries) = fs::read_dir(folder.unwrap_or(Path::new("."))) else { return };
        let own = self.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let day = name.strip_prefix(&own).and_then(|rest| rest.strip_prefix('.'));
            if day.and_then(|day| day.parse::<Date>().ok()).is_some_and(|day| day < oldest) {
                // It is tried again tomorrow.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn write_on(&mut self, today: Date, line: &[u8]) -> io::Result<usize> {
        self.turn(today);
        self.file.write(line)
    }
}

fn named(path: &Path, day: Date) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{day}"));
    path.with_file_name(name)
}

fn append(from: &Path, to: &Path) -> io::Result<()> {
    io::copy(&mut File::open(from)?, &mut open(to)?)?;
    fs::remove_file(from)
}

impl Write for DailyFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_on(today(), line)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn each_day_has_its_file_and_old_ones_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs/daemonlog_1");
        let other = folder.path().join("logs/daemonlog_10.2020-01-01");
        let (first, second) = (date(2026, 2, 27), date(2026, 3, 1));
        let mut daily = DailyFile::open_on(&path, 2, first).unwrap();
        daily.write_on(first, b"one\n").unwrap();
        daily.write_on(first, b"two\n").unwrap();
        fs::write(&other, "of another").unwrap();
        fs::write(folder.path().join("logs/daemonlog_1.note"), "no day").unwrap();
        daily.write_on(first.tomorrow().unwrap(), b"three\n").unwrap();
        daily.write_on(second, b"four\n").unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join("logs").join(name)).ok();
        assert_eq!(read("daemonlog_1.2026-02-27").as_deref(), Some("one\ntwo\n"));
        assert_eq!(read("daemonlog_1.2026-02-28").as_deref(), Some("three\n"));
        assert_eq!(read("daemonlog_1").as_deref(), Some("four\n"));
        daily.write_on(second.tomorrow().unwrap(), b"five\n").unwrap();
        assert_eq!(read("daemonlog_1.2026-02-27"), None);
        assert!(read("daemonlog_1.2026-02-28").is_some() && read("daemonlog_1.note").is_some());
        assert!(other.exists());
        // Back in time, to a day that has a file.
        daily.write_on(second, b"again\n").unwrap();
        daily.write_on(second.tomorrow().unwrap(), b"on\n").unwrap();
        assert_eq!(read("daemonlog_1.2026-03-01").as_deref(), Some("four\nagain\n"));
    }

    #[test]
    fn a_file_of_an_earlier_day_is_put_aside_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("daemonlog_1");
        fs::write(&path, "before\n").unwrap();
        let written = today();
        let later = written.checked_add(3.days()).unwrap();
        let mut daily = DailyFile::open_on(&path, 30, later).unwrap();
        daily.write_on(later, b"after\n").unwrap();
        assert_eq!(fs::read_to_string(named(&path, written)).unwrap(), "before\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\n");
        drop(daily);
        let mut daily = DailyFile::open_on(&path, 30, today()).unwrap();
        daily.write_on(today(), b"same day\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "after\nsame day\n");
    }
}

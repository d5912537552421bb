//! How many hours of this project Amplitude gives in one request.
//!
//! A request that was too large, or took too long, halves the window. After 24
//! full windows that worked it is doubled again, up to the configured one; each
//! time that this fails, twice as many have to work before the next attempt, up
//! to 1,536. So a project that needs small windows pays for few failed requests,
//! and one that had a single large day does not stay slow.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The file's name in the spool folder.
const FILE: &str = "window.json";
const GROW_AFTER: u32 = 24;
const GROW_AFTER_MAX: u32 = 1_536;

/// What was learned; lost without harm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Learned {
    /// Hours of a request.
    hours: usize,
    /// Full windows that worked one after another.
    good: u32,
    /// How many of them make it grow.
    grow_after: u32,
    /// Whether the last change was to grow.
    grown: bool,
}

impl Learned {
    pub(super) fn new(most: usize) -> Self {
        Self { hours: most, good: 0, grow_after: GROW_AFTER, grown: false }
    }

    /// What the file says, if it is there and readable.
    pub(super) fn load(folder: &Path, most: usize) -> Self {
        let text = fs::read_to_string(folder.join(FILE)).unwrap_or_default();
        let stored: Option<Self> = serde_json::from_str(&text).ok();
        let sound = stored.filter(|it| it.hours >= 1 && (1..=GROW_AFTER_MAX).contains(&it.grow_after));
        sound.map_or_else(|| Self::new(most), |it| Self { hours: it.hours.min(most), ..it })
    }

    /// Writes the file: whole or not at all.
    pub(super) fn store(&self, folder: &Path) -> std::io::Result<()> {
        let partial = folder.join(format!("{FILE}.new"));
        fs::write(&partial, serde_json::to_vec(self)?)?;
        fs::rename(&partial, folder.join(FILE))
    }

    /// The most hours to ask for.
    pub(super) fn hours(&self) -> usize {
        self.hours
    }

    /// A request for so many hours was too large. What is to be asked for next:
    /// half of them.
    pub(super) fn shrink(&mut self, asked: usize) -> usize {
        let half = (asked / 2).max(1);
        if half < self.hours {
            if self.grown {
                self.grow_after = self.grow_after.saturating_mul(2).min(GROW_AFTER_MAX);
            }
            *self = Self { hours: half, good: 0, grow_after: self.grow_after, grown: false };
        }
        half
    }

    /// A request for so many hours worked.
    pub(super) fn worked(&mut self, asked: usize, most: usize) {
        if asked < self.hours || self.hours >= most {
            return;
        }
        self.good += 1;
        if self.good >= self.grow_after {
            let hours = (self.hours * 2).min(most);
            *self = Self { hours, good: 0, grow_after: self.grow_after, grown: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `requests` full windows cost in failed requests, if only windows up
    /// to `fits` hours work.
    fn failures(learned: &mut Learned, requests: usize, fits: usize, most: usize) -> usize {
        let mut failed = 0;
        for _ in 0..requests {
            let mut asked = learned.hours();
            while asked > fits {
                failed += 1;
                asked = learned.shrink(asked);
            }
            learned.worked(asked, most);
        }
        failed
    }

    #[test]
    fn a_window_that_fits_is_remembered() {
        let mut learned = Learned::new(24);
        assert_eq!(failures(&mut learned, 1, 1, 24), 4);
        assert_eq!(learned.hours(), 1);
        // A month of hours that fit only one at a time.
        let more = failures(&mut learned, 744, 1, 24);
        assert!((1..=5).contains(&more), "{more}");
        // Later all fits again.
        assert_eq!(failures(&mut learned, 10_000, 24, 24), 0);
        assert_eq!(learned.hours(), 24);
    }

    #[test]
    fn small_requests_say_nothing_of_large_ones() {
        let mut learned = Learned::new(24);
        assert_eq!(learned.shrink(24), 12);
        for _ in 0..1_000 {
            learned.worked(1, 24);
        }
        assert_eq!(learned.hours(), 12);
        // A request for few hours that failed does make it small.
        assert_eq!((learned.shrink(5), learned.hours()), (2, 2));
    }

    #[test]
    fn it_is_kept_in_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        assert_eq!(Learned::load(folder.path(), 24), Learned::new(24));
        let mut learned = Learned::new(24);
        learned.shrink(24);
        learned.store(folder.path()).expect("it writes");
        assert_eq!(Learned::load(folder.path(), 24), learned);
        assert_eq!(Learned::load(folder.path(), 6).hours(), 6);
        for text in ["", "{}", "[1", r#"{"hours":0,"good":0,"grow_after":24,"grown":false}"#] {
            fs::write(folder.path().join(FILE), text).expect("it writes");
            assert_eq!(Learned::load(folder.path(), 24), Learned::new(24), "{text}");
        }
    }
}

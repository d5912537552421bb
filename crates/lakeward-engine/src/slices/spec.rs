//! A sliced source as the configuration asks for it.

use std::sync::Arc;
use std::time::Duration;

use lakeward_model::{Announcements, SlicedSource, StreamName, Wanted};

use crate::schedule::Schedule;

/// A source whose records come in slices.
#[derive(Debug)]
pub struct SlicedSpec {
    /// Its name, unique in the process among all sources.
    pub name: String,
    /// The stream that takes its records. No two sources share one: each would
    /// go on from the other's cursor.
    pub stream: StreamName,
    /// What kind it is, for people: `amplitude`.
    pub kind: String,
    /// Itself.
    pub source: Arc<dyn SlicedSource>,
    /// What tells of new slices as they appear, if anything does.
    pub announcements: Option<Box<dyn Announcements>>,
    /// How many slices are read at a time, at least 1.
    pub parallel: usize,
    /// How often it looks for what is new, without a schedule.
    pub every: Duration,
    /// When it looks for what is new.
    pub schedule: Option<Schedule>,
    /// If the names of new slices lie behind those that are there: looks begin
    /// near the end of what they found before, and only one this often begins
    /// at the start, for those that came late.
    pub growing: Option<Duration>,
    /// What its looks take, and what announcements are heeded for. A run that
    /// leaves something open is bound by this, too.
    pub wanted: Wanted,
    /// Whether it looks by itself, not only when asked.
    pub looks: bool,
}

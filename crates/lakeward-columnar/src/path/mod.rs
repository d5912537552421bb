//! Paths: which folder of the lake a row goes to, and how objects are named.
//!
//! The language is Amazon Data Firehose's prefix language ("Understand custom
//! prefixes for Amazon S3 objects" in its developer guide), with two more
//! namespaces of our own:
//!
//! | expression | becomes |
//! |---|---|
//! | `!{timestamp:<pattern>}` | the arrival of the oldest record in the file, by a Java `DateTimeFormatter` pattern |
//! | `!{firehose:random-string}` | 11 letters and digits that follow from the batch id, so that a rebuilt batch is the same batch |
//! | `!{firehose:error-output-type}` | why the records are in quarantine; only in an error prefix |
//! | `!{partitionKeyFromQuery:<key>}`, `!{partitionKeyFromLambda:<key>}` | the row's partition key ([`crate::process`]), escaped per folder |
//! | `!{event:<column>}` | the row's value, escaped ([`escape`]) |
//! | `!{event:<time column>:<pattern>}` | the row's own time, by a pattern |
//! | `!{source:file}`, `!{source:stem}`, `!{source:<part>}` | where the row's record was pulled from ([`SourcePart`]), escaped; `:<pattern>` behind it reads it as a time |
//!
//! A prefix without any expression gets `yyyy/MM/dd/HH/` appended, with no
//! slash in between, as Firehose does.

pub mod escape;
pub mod instant;
pub mod java_time;
mod layout;
mod naming;
mod partition;
mod source;
mod template;

#[cfg(test)]
mod tests;

pub use java_time::{Pattern, PatternError};
pub use layout::{Layout, LayoutError};
pub use naming::object_name;
pub(crate) use partition::{Column, find, time_type};
pub use partition::{MISSING, Partition, Place, key_columns, partition};
pub use source::SourcePart;
pub use template::{ErrorPrefixRequired, Kind, Moment, Template, TemplateError, require_error_prefix};

/// Finds a time zone by its IANA name in the bundled database, never in the
/// operating system's: the same name gives the same folders on every machine.
///
/// # Errors
/// There is no such zone; the configuration is at fault.
pub fn time_zone(name: &str) -> Result<jiff::tz::TimeZone, UnknownTimeZone> {
    jiff::tz::TimeZoneDatabase::bundled()
        .get(name)
        .map_err(|_| UnknownTimeZone(name.chars().take(64).collect()))
}

/// A time zone name that the IANA database does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no time zone {0:?}: use an IANA name such as `UTC` or `Europe/Berlin`")]
pub struct UnknownTimeZone(pub String);

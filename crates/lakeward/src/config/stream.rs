//! `streams`: what is said of a stream itself.

use std::time::Duration;

use lakeward_engine::StreamSpec;
use lakeward_model::{StreamName, units};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// A stream that exists whether or not a pipeline delivers it, or about which
/// there is more to say than its name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct StreamConfig {
    /// Its name: 1 to 128 letters, digits, `_`, `.` or `-`.
    #[schemars(with = "String")]
    pub(crate) name: StreamName,
    /// How many shards it has for Kinesis clients when it is first opened;
    /// clients may split and merge them later. Default 1.
    #[serde(default = "one")]
    pub(crate) shards: u32,
    /// How long readers are promised its records, `24h` to `8760h`, whatever
    /// room the journal has. Default: as long as `journal.retention` says, less
    /// if the journal runs short of room.
    #[serde(default, with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<units::DurationText>")]
    pub(crate) retention: Option<Duration>,
}

fn one() -> u32 {
    1
}

/// Most shards of a stream; what an AWS account may have in most regions is
/// far less.
const SHARDS_MAX: u32 = 10_000;

impl StreamConfig {
    pub(crate) fn spec(&self) -> StreamSpec {
        StreamSpec { retention: self.retention, ..StreamSpec::new(self.name.clone()) }
    }

    pub(crate) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        if !(1..=SHARDS_MAX).contains(&self.shards) {
            problems.push(Problem::new(format!("{path}.shards"), format!("1 to {SHARDS_MAX}")));
        }
        let hours = Duration::from_secs(24 * 3600)..=Duration::from_secs(8760 * 3600);
        if self.retention.is_some_and(|retention| !hours.contains(&retention)) {
            problems.push(Problem::new(format!("{path}.retention"), "24h to 8760h"));
        }
        problems
    }
}

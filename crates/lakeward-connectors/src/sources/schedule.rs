//! When a source looks for what is new, where that is not simply all the time.

use std::time::Duration;

use lakeward_model::units;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Looks at set times.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// When, as cron writes it: minute, hour, day of the month, month, day of
    /// the week: `15 * * * *` is a quarter past every hour.
    pub cron: String,
    /// The time zone of `cron`, by its IANA name. Default `UTC`.
    #[serde(default = "utc")]
    pub zone: String,
    /// Each look is later by up to this much, by a time that follows from the
    /// source's name: many sources of one schedule do not all come at once.
    /// Default `0s`.
    #[serde(default, with = "units::duration")]
    #[schemars(with = "units::DurationText")]
    pub jitter: Duration,
    /// Whether a time that was missed while nothing ran is made up for at the
    /// next start, once however many were missed. Default true.
    #[serde(default = "yes")]
    pub catch_up: bool,
}

fn utc() -> String {
    String::from("UTC")
}

fn yes() -> bool {
    true
}

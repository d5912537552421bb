//! `lakeward init amplitude`.

use std::path::{Path, PathBuf};

use jiff::tz::TimeZone;
use lakeward_model::clock::{Clock, SystemClock};

const TEMPLATE: &str = include_str!("templates/amplitude.yaml");

/// Columns whose types people want to be the same for ever, whatever the first
/// events hold. What is yours to name is kept as JSON.
const PARQUET: &str = r#"    schema:
      columns:
        client_event_time: timestamptz
        client_upload_time: timestamptz
        event_time: timestamptz
        processed_time: timestamptz
        server_received_time: timestamptz
        server_upload_time: timestamptz
        user_creation_time: timestamptz
        session_id: int64
        amplitude_id: int64
        event_id: int64
        data: json
        event_properties: json
        global_user_properties: json
        group_properties: json
        groups: json
        plan: json
        user_properties: json
    output:
      format: parquet
      compression: zstd
      # By the day on which an event happened. Devices send late, so an hour of
      # upload has events of other days; each goes where it belongs.
      path: "amplitude/year=!{event:event_time:yyyy}/month=!{event:event_time:MM}/day=!{event:event_time:dd}/"
      error_path: "errors/amplitude/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/""#;

/// As the scripts leave them that unzip the export.
const NDJSON: &str = r#"    output:
      format: ndjson
      compression: none
      path: "python-import/"
      error_path: "errors/amplitude/!{firehose:error-output-type}/!{timestamp:yyyy/MM/dd}/""#;

/// What to do with the configuration.
pub(super) const HINTS: &[&str] = &[
    "Set AMPLITUDE_API_KEY and AMPLITUDE_SECRET_KEY. `lakeward pull amplitude --dry-run` shows what",
    "there is, `lakeward pull amplitude` takes it and ends, `lakeward run` takes every hour for ever.",
    "To try it without an account: `lakeward simulate amplitude`, and `endpoint:` instead of `region:`.",
];

/// Where Amplitude keeps the project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Region {
    Us,
    Eu,
}

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Files {
    /// Apache Parquet with zstd, by the day of the event.
    Parquet,
    /// One JSON object per line, uncompressed, in one folder.
    Ndjson,
}

/// Write a configuration for Amplitude's Export API.
#[derive(Debug, clap::Args)]
pub(super) struct Amplitude {
    /// The file to write; an existing one is never overwritten.
    #[arg(default_value = "lakeward.yaml", value_name = "FILE")]
    file: PathBuf,
    /// Where Amplitude keeps the project.
    #[arg(long, value_enum, default_value_t = Region::Us)]
    region: Region,
    /// What the files are.
    #[arg(long, value_enum, default_value_t = Files::Parquet)]
    format: Files,
    /// The first day to take, in UTC. Default: today.
    #[arg(long, value_name = "DAY")]
    from: Option<jiff::civil::Date>,
}

impl Amplitude {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The template with the choices filled in.
    pub(super) fn text(&self) -> String {
        let region = match self.region {
            Region::Us => "us",
            Region::Eu => "eu",
        };
        let shape = match self.format {
            Files::Parquet => PARQUET,
            Files::Ndjson => NDJSON,
        };
        let from = self.from.unwrap_or_else(today).to_string();
        TEMPLATE.replace("<region>", region).replace("<from>", &from).replace("<shape>", shape)
    }
}

fn today() -> jiff::civil::Date {
    let now = jiff::Timestamp::from_microsecond(SystemClock.now().micros()).unwrap_or_default();
    now.to_zoned(TimeZone::UTC).date()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_a_sound_configuration() {
        for format in [Files::Ndjson, Files::Parquet] {
            for region in [Region::Us, Region::Eu] {
                for from in [None, Some(jiff::civil::date(2026, 3, 1))] {
                    let text = Amplitude { file: PathBuf::new(), format, region, from }.text();
                    let keys = |name: &str| name.starts_with("AMPLITUDE_").then(|| String::from("k3y"));
                    let config = crate::config::Config::parse(&text, Path::new("."), keys)
                        .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
                    assert!(config.sources[0].is_hourly());
                    assert_eq!(config.sources[0].stream(), config.pipelines[0].stream);
                    assert!(!text.contains('<'), "something was not filled in:\n{text}");
                }
            }
        }
    }
}

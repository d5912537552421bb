//! `sources`: where records are pulled from.

use std::path::Path;

use lakeward_connectors::sources::ScheduleConfig;
use lakeward_connectors::sources::adobe_livestream::AdobeLivestreamConfig;
use lakeward_connectors::sources::amplitude::AmplitudeConfig;
use lakeward_connectors::sources::kinesis::KinesisConfig;
use lakeward_connectors::sources::objects::ObjectsConfig;
use lakeward_engine::{Schedule, ScheduleError, StreamSpec};
use lakeward_model::StreamName;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Problem;

/// A source: records that Lakeward fetches, rather than being sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum SourceConfig {
    /// A stream of Kinesis Data Streams, or of a server that speaks its API.
    Kinesis(Box<KinesisConfig>),
    /// An Amplitude project, by its Export API: every hour of upload once.
    Amplitude(Box<AmplitudeConfig>),
    /// The objects of a bucket, or the files of a folder, each once.
    Objects(Box<ObjectsConfig>),
    /// The hits of Adobe Analytics, by its Livestream.
    AdobeLivestream(Box<AdobeLivestreamConfig>),
}

impl SourceConfig {
    /// Its name, unique in the file.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Kinesis(kinesis) => &kinesis.name,
            Self::Amplitude(amplitude) => &amplitude.name,
            Self::Objects(objects) => &objects.name,
            Self::AdobeLivestream(livestream) => &livestream.name,
        }
    }

    /// The stream that takes its records.
    pub(crate) fn stream(&self) -> &str {
        match self {
            Self::Kinesis(kinesis) => &kinesis.stream,
            Self::Amplitude(amplitude) => &amplitude.stream,
            Self::Objects(objects) => &objects.stream,
            Self::AdobeLivestream(livestream) => &livestream.stream,
        }
    }

    /// Its kind, as the file names it.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Kinesis(_) => "kinesis",
            Self::Amplitude(_) => "amplitude",
            Self::Objects(_) => "objects",
            Self::AdobeLivestream(_) => "adobe_livestream",
        }
    }

    /// Whether its records come in slices, of which any range can be taken.
    pub(crate) fn is_sliced(&self) -> bool {
        match self {
            Self::Kinesis(_) | Self::AdobeLivestream(_) => false,
            Self::Amplitude(_) | Self::Objects(_) => true,
        }
    }

    /// Whether it keeps something in a folder of the state, named after it.
    fn has_folder(&self) -> bool {
        match self {
            Self::Kinesis(_) => false,
            Self::Amplitude(_) | Self::Objects(_) | Self::AdobeLivestream(_) => true,
        }
    }

    /// Whether its slices are hours.
    pub(crate) fn is_hourly(&self) -> bool {
        matches!(self, Self::Amplitude(_))
    }

    /// When it looks for what is new, if that is at set times.
    ///
    /// # Errors
    /// They cannot be; see [`ScheduleError`].
    pub(crate) fn schedule(&self) -> Result<Option<Schedule>, ScheduleError> {
        let config = match self {
            Self::Kinesis(_) | Self::AdobeLivestream(_) => None,
            Self::Amplitude(amplitude) => amplitude.schedule.as_ref(),
            Self::Objects(objects) => objects.schedule.as_ref(),
        };
        let made = config.map(|ScheduleConfig { cron, zone, jitter, catch_up }| {
            Schedule::new(cron, zone, *jitter, *catch_up, self.name())
        });
        made.transpose()
    }

    /// Folders that it names lie below `folder`.
    pub(super) fn resolve_in(&mut self, folder: &Path) {
        match self {
            Self::Kinesis(_) => {}
            Self::Amplitude(amplitude) => {
                amplitude.spool = amplitude.spool.as_ref().map(|spool| folder.join(spool));
            }
            Self::Objects(objects) => objects.resolve_in(folder),
            Self::AdobeLivestream(livestream) => livestream.resolve_in(folder),
        }
    }

    /// The stream that takes its records exists also without a pipeline.
    pub(crate) fn stream_spec(&self) -> anyhow::Result<StreamSpec> {
        Ok(StreamSpec::new(StreamName::new(self.stream())?))
    }

    /// Whether both keep their leases in one table.
    fn shares_leases_with(&self, other: &Self) -> bool {
        let (Self::Kinesis(mine), Self::Kinesis(other)) = (self, other) else { return false };
        mine.lease_table().is_some_and(|table| other.lease_table() == Some(table))
    }

    pub(super) fn problems(&self, path: &str) -> Vec<Problem> {
        let mut problems = Vec::new();
        let name = self.name();
        if name.is_empty() || name.len() > 128 || name.chars().any(char::is_control) {
            problems.push(Problem::new(format!("{path}.name"), "a name has 1 to 128 characters"));
        }
        if let Err(error) = StreamName::new(self.stream()) {
            problems.push(Problem::new(format!("{path}.stream"), error.to_string()));
        }
        if self.has_folder() && !is_folder(name) {
            problems.push(Problem::new(
                format!("{path}.name"),
                "a folder of the state has this name: letters, digits, `-`, `_` and `.`, and no `.` at its start",
            ));
        }
        let found = match self {
            Self::Kinesis(kinesis) => kinesis.check().map_err(|error| (error.setting, error.problem)),
            Self::Amplitude(amplitude) => amplitude.check().map_err(|error| (error.setting, error.problem)),
            Self::Objects(objects) => objects.check().map_err(|error| (error.setting, error.problem)),
            Self::AdobeLivestream(livestream) => {
                livestream.check().map_err(|error| (error.setting, error.problem))
            }
        };
        if let Err((setting, problem)) = found {
            problems.push(Problem::new(format!("{path}.{setting}"), problem));
        }
        if let Err(error) = self.schedule() {
            let setting = match error {
                ScheduleError::Cron { .. } | ScheduleError::Never(_) => "cron",
                ScheduleError::Zone(_) => "zone",
                ScheduleError::Jitter => "jitter",
            };
            problems.push(Problem::new(format!("{path}.schedule.{setting}"), error.to_string()));
        }
        problems
    }
}

fn is_folder(name: &str) -> bool {
    let letter = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    !name.starts_with('.') && name.bytes().all(letter)
}

/// What is wrong with all sources together and each for itself.
pub(super) fn problems(sources: &[SourceConfig]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        let path = format!("sources[{index}]");
        let before = &sources[..index];
        if before.iter().any(|other| other.name() == source.name()) {
            let problem = format!("another source is named `{}` too", source.name());
            problems.push(Problem::new(format!("{path}.name"), problem));
        }
        if let Some(other) = before.iter().find(|other| other.stream() == source.stream()) {
            let problem = format!(
                "the source `{}` feeds this stream already; give each source a stream of its own",
                other.name()
            );
            problems.push(Problem::new(format!("{path}.stream"), problem));
        }
        if let Some(other) = before.iter().find(|other| other.shares_leases_with(source)) {
            let problem = format!(
                "the source `{}` has its leases in this table already; give each source a table of its own",
                other.name()
            );
            problems.push(Problem::new(format!("{path}.leases.table"), problem));
        }
        problems.extend(source.problems(&path));
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_sliced_source_is_said_at_its_place() {
        let check = |setting: &str, value: serde_json::Value, place: &str, words: &str| {
            let mut source = serde_json::json!({
                "type": "amplitude", "name": "amp", "stream": "amp", "from": "2026-03-01",
                "api_key": "k", "secret_key": "s",
            });
            source[setting] = value;
            let source: SourceConfig = serde_json::from_value(source).unwrap();
            let found = problems(&[source]);
            let said: Vec<_> = found.iter().map(|p| (p.path.as_str(), p.problem.as_str())).collect();
            match said.as_slice() {
                [] => assert_eq!(place, ""),
                [(path, problem)] => assert!(*path == place && problem.contains(words), "{said:?}"),
                _ => panic!("{said:?}"),
            }
        };
        let cron = |cron: &str, zone: &str| serde_json::json!({ "cron": cron, "zone": zone });
        check("schedule", cron("20 * * * *", "Europe/Berlin"), "", "");
        check("schedule", cron("20 * * *", "UTC"), "sources[0].schedule.cron", "five fields");
        check("schedule", cron("0 0 30 2 *", "UTC"), "sources[0].schedule.cron", "never comes");
        check("schedule", cron("20 * * * *", "Berlin"), "sources[0].schedule.zone", "no time zone");
        check("name", "../amp".into(), "sources[0].name", "a folder of the state");
        check("name", "..".into(), "sources[0].name", "a folder of the state");
        check("window", 0.into(), "sources[0].window", "8,760");
    }
}

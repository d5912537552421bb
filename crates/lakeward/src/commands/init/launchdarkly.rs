//! `lakeward init launchdarkly`.

use std::path::{Path, PathBuf};

const TEMPLATE: &str = include_str!("templates/launchdarkly.yaml");

/// What to do with the configuration.
pub(super) const HINTS: &[&str] = &[
    "Experiment evaluations come from the hooks in sdk/python and sdk/node, or from anything",
    "that sends to Firehose with AWS_ENDPOINT_URL_FIREHOSE set. SDK events come from every SDK",
    "whose events URI is this server's address. docs/launchdarkly.md has both.",
];

/// The format of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Files {
    /// One JSON object per line, with gzip.
    Ndjson,
    /// Apache Parquet, with zstd.
    Parquet,
}

/// Write a configuration for LaunchDarkly.
#[derive(Debug, clap::Args)]
pub(super) struct LaunchDarkly {
    /// The file to write; an existing one is never overwritten.
    #[arg(default_value = "lakeward.yaml", value_name = "FILE")]
    file: PathBuf,
    /// What the files are. NDJSON are the evaluations as they were sent, line
    /// by line, as Firehose leaves them.
    #[arg(long, value_enum, default_value_t = Files::Ndjson)]
    format: Files,
    /// A folder a day instead of a folder an hour.
    #[arg(long)]
    daily: bool,
}

impl LaunchDarkly {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The template with the choices filled in.
    pub(super) fn text(&self) -> String {
        // Evaluations as they came know the time of their arrival only, as
        // with Firehose; rows know their own.
        let (evaluations, rows, compression, time) = match self.format {
            Files::Ndjson => ("verbatim", "ndjson", "gzip", "timestamp:"),
            Files::Parquet => ("parquet", "parquet", "zstd", "event:timestamp:"),
        };
        let output = |format| format!("format: {format}\n      compression: {compression}");
        TEMPLATE
            .replace("<evaluations>", &output(evaluations))
            .replace("<rows>", &output(rows))
            .replace("<evaluated>", &self.folders(time))
            .replace("<created>", &self.folders("event:creation_date:"))
            .replace("<ended>", &self.folders("event:end_date:"))
    }

    /// Hive folders of one of a path's times.
    fn folders(&self, time: &str) -> String {
        let day = format!("year=!{{{time}yyyy}}/month=!{{{time}MM}}/day=!{{{time}dd}}/");
        if self.daily { day } else { format!("{day}hour=!{{{time}HH}}/") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_a_sound_configuration() {
        for format in [Files::Ndjson, Files::Parquet] {
            for daily in [false, true] {
                let text = LaunchDarkly { file: PathBuf::new(), format, daily }.text();
                let config = crate::config::Config::parse(&text, Path::new("."), |_| None)
                    .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
                let streams: Vec<&str> = config.pipelines.iter().map(|p| p.stream.as_str()).collect();
                assert_eq!(streams[0], "launchdarkly-experiments-stream");
                assert!(streams[1..].iter().all(|stream| *stream == config.launchdarkly.stream));
                assert_eq!(text.contains("hour="), !daily);
                assert!(!text.contains('<'), "something was not filled in:\n{text}");
            }
        }
    }
}

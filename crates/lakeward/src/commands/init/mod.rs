//! `lakeward init`: a commented starter configuration, or one of the
//! templates for a known system.
//!
//! A new template is a file in `templates/`, a file here that says which
//! choices it has and fills them in, and a variant of [`Template`].

mod adobe_livestream;
mod amplitude;
mod launchdarkly;
mod xapi;

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::exit::{Code, coded};
use crate::terminal::Output;

const STARTER: &str = include_str!("templates/starter.yaml");

/// Write a commented starter configuration, or the one for a known system.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Init {
    /// The file to write; an existing one is never overwritten.
    #[arg(default_value = "lakeward.yaml", value_name = "FILE")]
    file: PathBuf,
    #[command(subcommand)]
    template: Option<Template>,
}

/// The known systems.
#[derive(Debug, clap::Subcommand)]
enum Template {
    /// The hits of Adobe Analytics, by its Livestream.
    AdobeLivestream(adobe_livestream::AdobeLivestream),
    /// The events of an Amplitude project, by its Export API: every hour once.
    Amplitude(amplitude::Amplitude),
    /// LaunchDarkly's experiment evaluations (from the hooks, or from anything
    /// that sends to Firehose) and the events of all its SDKs.
    #[command(name = "launchdarkly")]
    LaunchDarkly(launchdarkly::LaunchDarkly),
    /// xAPI statements, above all those of OLI Torus: sent directly, or from its
    /// bucket; a row each.
    Xapi(xapi::Xapi),
}

impl Template {
    /// The file to write.
    fn file(&self) -> &Path {
        match self {
            Self::AdobeLivestream(template) => template.file(),
            Self::Amplitude(template) => template.file(),
            Self::LaunchDarkly(template) => template.file(),
            Self::Xapi(template) => template.file(),
        }
    }

    /// The configuration.
    fn text(&self) -> anyhow::Result<String> {
        Ok(match self {
            Self::AdobeLivestream(template) => template.text()?,
            Self::Amplitude(template) => template.text(),
            Self::LaunchDarkly(template) => template.text(),
            Self::Xapi(template) => template.text(),
        })
    }

    /// What a person wants to know next.
    fn hints(&self) -> &'static [&'static str] {
        match self {
            Self::AdobeLivestream(_) => adobe_livestream::HINTS,
            Self::Amplitude(_) => amplitude::HINTS,
            Self::LaunchDarkly(_) => launchdarkly::HINTS,
            Self::Xapi(_) => xapi::HINTS,
        }
    }
}

impl Init {
    pub(crate) fn run(self, out: &Output) -> anyhow::Result<Code> {
        let (path, text, hints) = match &self.template {
            None => (self.file.as_path(), STARTER.to_owned(), &[][..]),
            Some(template) => (template.file(), template.text()?, template.hints()),
        };
        let mut file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| {
            coded(Code::Usage, format!("{}: {error}; choose another name", path.display()))
        })?;
        file.write_all(text.as_bytes())?;
        let name = path.display();
        if out.is_json() {
            out.json(&serde_json::json!({ "ok": true, "file": path }))?;
        }
        out.say(format!("wrote {name}"));
        out.say(format!("  lakeward check -c {name}   says what is wrong with it"));
        out.say(format!("  lakeward run -c {name}     serves"));
        hints.iter().for_each(|hint| out.say(*hint));
        Ok(Code::Done)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_starter_is_a_sound_configuration() {
        let config = crate::config::Config::parse(super::STARTER, std::path::Path::new("."), |_| None)
            .expect("the starter is sound");
        assert_eq!(config.pipelines.len(), 1);
    }
}

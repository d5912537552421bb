//! `lakeward init`: a commented starter configuration.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

use crate::exit::{Code, coded};
use crate::terminal::Output;

const STARTER: &str = include_str!("starter.yaml");

/// Write a commented starter configuration.
#[derive(Debug, clap::Args)]
pub(crate) struct Init {
    /// The file to write; an existing one is never overwritten.
    #[arg(default_value = "lakeward.yaml", value_name = "FILE")]
    file: PathBuf,
}

impl Init {
    pub(crate) fn run(self, out: &Output) -> anyhow::Result<Code> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&self.file).map_err(|error| {
            coded(Code::Usage, format!("{}: {error}; choose another name", self.file.display()))
        })?;
        file.write_all(STARTER.as_bytes())?;
        let name = self.file.display();
        if out.is_json() {
            out.json(&serde_json::json!({ "ok": true, "file": self.file }))?;
        }
        out.say(format!("wrote {name}"));
        out.say(format!("  lakeward check -c {name}   says what is wrong with it"));
        out.say(format!("  lakeward run -c {name}     serves"));
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

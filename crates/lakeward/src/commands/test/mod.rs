//! `lakeward test`: records in, expected rows out, without any service.

mod cases;
mod compare;
mod run;

use std::path::PathBuf;

use serde::Serialize;

use self::cases::Cases;
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::terminal::Output;

/// Test pipelines: each case gives records and the rows that must come of
/// them. Nothing is started and nothing is delivered.
#[derive(Debug, clap::Args)]
pub(crate) struct Test {
    /// Files of cases. Default: every `*.test.yaml` here.
    files: Vec<PathBuf>,
    /// The configuration file. Default: the one that the cases name, or
    /// `lakeward.yaml` beside them.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Run only cases whose name contains this.
    #[arg(long, value_name = "TEXT", default_value = "")]
    only: String,
    /// Print the rows that come out, in the form in which a case expects them:
    /// to begin a case with.
    #[arg(long)]
    print: bool,
}

/// How a case ended.
#[derive(Debug, Serialize)]
struct Ended {
    file: String,
    name: String,
    pipeline: String,
    ok: bool,
    /// What differs from what is expected.
    differences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    got: Option<run::Got>,
}

impl Test {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let mut ended = Vec::new();
        for file in self.files()? {
            let cases = Cases::read(&file)?;
            let folder = file.parent().unwrap_or_else(|| std::path::Path::new("."));
            let config = match &self.config {
                Some(config) => config.clone(),
                None => folder.join(cases.config.as_deref().unwrap_or("lakeward.yaml".as_ref())),
            };
            let config = Config::read(&config)?;
            for case in cases.tests.iter().filter(|case| case.name.contains(&self.only)) {
                let got = run::run(&config, case).await?;
                let differences = compare::differences(&case.expect, &got);
                let one = Ended {
                    file: file.display().to_string(),
                    name: case.name.clone(),
                    pipeline: case.pipeline.clone(),
                    ok: differences.is_empty(),
                    differences,
                    got: self.print.then_some(got),
                };
                one.report(out)?;
                ended.push(one);
            }
        }
        let failed = ended.iter().filter(|one| !one.ok).count();
        let passed = ended.len() - failed;
        if out.is_json() {
            out.json(&serde_json::json!({ "ok": failed == 0, "passed": passed, "failed": failed }))?;
        }
        out.say(format!("{passed} passed, {failed} failed"));
        if ended.is_empty() {
            return Err(coded(Code::Usage, "no case has such a name"));
        }
        Ok(if failed == 0 { Code::Done } else { Code::Data })
    }

    fn files(&self) -> anyhow::Result<Vec<PathBuf>> {
        if !self.files.is_empty() {
            return Ok(self.files.clone());
        }
        let entries = std::fs::read_dir(".")?.collect::<Result<Vec<_>, _>>()?;
        let mut files: Vec<PathBuf> = entries
            .into_iter()
            .map(|entry| PathBuf::from(entry.file_name()))
            .filter(|name| name.to_string_lossy().ends_with(".test.yaml"))
            .collect();
        files.sort();
        if files.is_empty() {
            return Err(coded(Code::Usage, "there is no *.test.yaml here; see docs/testing.md"));
        }
        Ok(files)
    }
}

impl Ended {
    fn report(&self, out: &Output) -> anyhow::Result<()> {
        if out.is_json() {
            return out.json(self);
        }
        out.say(format!("{} {} ({})", if self.ok { "ok    " } else { "FAILED" }, self.name, self.pipeline));
        for difference in &self.differences {
            out.say(format!("         {difference}"));
        }
        if let Some(got) = &self.got {
            out.say(serde_yaml_ng::to_string(got)?);
        }
        Ok(())
    }
}

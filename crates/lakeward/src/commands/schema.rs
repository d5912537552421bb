//! `lakeward schema`: the schema of the configuration, and those of the
//! pipelines.

use lakeward_columnar::schema::TableSchema;

use super::target::{Inspected, TargetArguments};
use crate::config;
use crate::exit::{Code, coded};
use crate::terminal::{self, Output};

/// Print the JSON Schema of the configuration file; or the columns of a
/// pipeline's files.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Schema {
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Debug, clap::Subcommand)]
enum What {
    /// Print the columns of a pipeline's files.
    #[command(disable_version_flag = true)]
    Show {
        /// The pipeline.
        pipeline: String,
        /// Which version of them. Default: the newest.
        #[arg(long)]
        version: Option<u64>,
        #[command(flatten)]
        target: TargetArguments,
    },
    /// Print what changed in the columns of a pipeline's files.
    Diff {
        /// The pipeline.
        pipeline: String,
        /// The older version. Default: the one before the newer.
        #[arg(long)]
        from: Option<u64>,
        /// The newer version. Default: the newest.
        #[arg(long)]
        to: Option<u64>,
        #[command(flatten)]
        target: TargetArguments,
    },
}

impl Schema {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        match self.what {
            None => terminal::print(serde_json::to_string_pretty(&config::schema())?)?,
            Some(What::Show { pipeline, version, target }) => {
                let versions = versions(&target, &pipeline).await?;
                let schema = pick(&pipeline, &versions, version)?;
                if out.is_json() {
                    out.json(schema)?;
                    return Ok(Code::Done);
                }
                let mut table = terminal::table(&["column", "type"]);
                for (path, ty) in schema.describe() {
                    table.add_row([path, ty]);
                }
                out.say(format!("{pipeline}, version {} of {}", schema.version, versions.len()));
                out.say(table.to_string());
            }
            Some(What::Diff { pipeline, from, to, target }) => {
                let versions = versions(&target, &pipeline).await?;
                let to = pick(&pipeline, &versions, to)?;
                let empty = TableSchema::default();
                let from = match from {
                    Some(0) => &empty,
                    Some(from) => pick(&pipeline, &versions, Some(from))?,
                    None => versions.iter().rev().find(|older| older.version < to.version).unwrap_or(&empty),
                };
                let changes: Vec<String> =
                    TableSchema::diff(from, to).iter().map(ToString::to_string).collect();
                if out.is_json() {
                    out.json(&serde_json::json!({
                        "pipeline": pipeline, "from": from.version, "to": to.version, "changes": changes,
                    }))?;
                    return Ok(Code::Done);
                }
                out.say(format!("{pipeline}, version {} to {}", from.version, to.version));
                for change in changes {
                    out.say(change);
                }
            }
        }
        Ok(Code::Done)
    }
}

async fn versions(target: &TargetArguments, pipeline: &str) -> anyhow::Result<Vec<TableSchema>> {
    let inspected = Inspected::open(&target.config()?)?;
    // Says which pipelines there are, if there is none of this name.
    inspected.status_of(pipeline).await?;
    inspected.schema_versions(pipeline).await
}

/// The version that was asked for, or the newest.
fn pick<'a>(
    pipeline: &str,
    versions: &'a [TableSchema],
    wanted: Option<u64>,
) -> anyhow::Result<&'a TableSchema> {
    let Some(newest) = versions.last() else {
        let message = format!("pipeline {pipeline} has no columns yet: they come with its first batch");
        return Err(coded(Code::Unavailable, message));
    };
    let Some(wanted) = wanted else { return Ok(newest) };
    versions.iter().find(|schema| schema.version == wanted).ok_or_else(|| {
        let oldest = versions.first().unwrap_or(newest).version;
        let message =
            format!("pipeline {pipeline} has no version {wanted}; it has {oldest} to {}", newest.version);
        coded(Code::Usage, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_found_or_those_that_there_are_named() {
        let (old, new) = (TableSchema::default(), TableSchema::default());
        let versions = [TableSchema { version: 3, ..old }, TableSchema { version: 4, ..new }];
        assert_eq!(pick("p", &versions, None).unwrap().version, 4);
        assert_eq!(pick("p", &versions, Some(3)).unwrap().version, 3);
        assert!(pick("p", &versions, Some(1)).unwrap_err().to_string().contains("3 to 4"));
        assert!(pick("p", &[], None).unwrap_err().to_string().contains("first batch"));
    }
}

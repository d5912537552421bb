//! `lakeward schema`: the schema of the configuration, and those of the
//! pipelines.

use std::collections::BTreeMap;

use lakeward_columnar::schema::{Column, ColumnType, TableSchema};

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
            None => println!("{}", serde_json::to_string_pretty(&config::schema())?),
            Some(What::Show { pipeline, version, target }) => {
                let versions = versions(&target, &pipeline).await?;
                let schema = pick(&pipeline, &versions, version)?;
                if out.is_json() {
                    out.json(schema)?;
                    return Ok(Code::Done);
                }
                let mut table = terminal::table(&["column", "type"]);
                for (path, ty) in describe(schema) {
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
                let changes = diff(from, to);
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

/// Every leaf column with its type: structs as dotted paths, lists of structs
/// with `[]` behind the name.
fn describe(schema: &TableSchema) -> Vec<(String, String)> {
    let mut leaves = Vec::new();
    descend("", &schema.columns, &mut leaves);
    leaves
}

fn descend(parent: &str, columns: &[Column], leaves: &mut Vec<(String, String)>) {
    for Column { name, ty } in columns {
        let mut path = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        let (mut item, mut brackets) = (ty, String::new());
        while let ColumnType::List(inner) = item {
            item = inner;
            brackets.push_str("[]");
        }
        if let ColumnType::Struct(inner) = item {
            path.push_str(&brackets);
            descend(&path, inner, leaves);
        } else {
            leaves.push((path, format!("{}{brackets}", word(item))));
        }
    }
}

/// The word for a type, as the ledger has it.
fn word(ty: &ColumnType) -> String {
    match serde_json::to_value(ty) {
        Ok(serde_json::Value::String(word)) => word.replace("utf8", "string"),
        Ok(other) => other.to_string(),
        Err(_) => String::from("?"),
    }
}

/// `+ path type`, `~ path from → to` or `- path type`.
fn diff(old: &TableSchema, new: &TableSchema) -> Vec<String> {
    let (old_leaves, new_leaves) = (describe(old), describe(new));
    let before: BTreeMap<_, _> = old_leaves.iter().map(|(path, ty)| (path, ty)).collect();
    let after: BTreeMap<_, _> = new_leaves.iter().map(|(path, ty)| (path, ty)).collect();
    let mut changes = Vec::new();
    for (path, ty) in &new_leaves {
        match before.get(path) {
            None => changes.push(format!("+ {path} {ty}")),
            Some(was) if *was != ty => changes.push(format!("~ {path} {was} → {ty}")),
            Some(_) => {}
        }
    }
    let gone = old_leaves.iter().filter(|(path, _)| !after.contains_key(path));
    changes.extend(gone.map(|(path, ty)| format!("- {path} {ty}")));
    changes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_and_what_changed() {
        let schema = |columns| TableSchema { version: 1, columns: serde_json::from_value(columns).unwrap() };
        let old = schema(json!([{"name": "a", "type": "int64"}, {"name": "b", "type": "utf8"}]));
        let new = schema(json!([
            {"name": "a", "type": "float64"},
            {"name": "s", "type": {"struct": [{"name": "x", "type": {"list": "utf8"}}]}},
            {"name": "l", "type": {"list": {"struct": [{"name": "y", "type": "bool"}]}}},
        ]));
        assert_eq!(diff(&old, &new), ["~ a int64 → float64", "+ s.x string[]", "+ l[].y bool", "- b string"]);
        assert_eq!(diff(&old, &old), Vec::<String>::new());
        let versions = [TableSchema { version: 3, ..old }, TableSchema { version: 4, ..new }];
        assert_eq!(pick("p", &versions, None).unwrap().version, 4);
        assert_eq!(pick("p", &versions, Some(3)).unwrap().version, 3);
        assert!(pick("p", &versions, Some(1)).unwrap_err().to_string().contains("3 to 4"));
        assert!(pick("p", &[], None).unwrap_err().to_string().contains("first batch"));
    }
}

//! `lakeward ls`: what lies in the lake.

use std::collections::BTreeMap;

use futures::TryStreamExt;
use lakeward_connectors::destinations::lake::Lake;

use super::target::{Inspected, TargetArguments};
use crate::exit::Code;
use crate::terminal::{self, Output, right};
use crate::wiring;

/// List what lies in the lake, by folder.
#[derive(Debug, clap::Args)]
pub(crate) struct Ls {
    #[command(flatten)]
    target: TargetArguments,
    /// Only what lies below this prefix.
    #[arg(default_value = "")]
    prefix: String,
    /// List every file instead of folders.
    #[arg(short, long)]
    long: bool,
}

impl Ls {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let inspected = Inspected::open(&config)?;
        let mut lakes = BTreeMap::new();
        for spec in inspected.pipelines(&config).await? {
            let lake = wiring::lake_config(&config.firehose.buckets, &spec.destination)
                .map_err(anyhow::Error::msg)?;
            let lake = Lake::open(&lake)?;
            lakes.entry(lake.to_string()).or_insert(lake);
        }
        let (mut files, mut bytes) = (0_u64, 0_u64);
        for (name, lake) in &lakes {
            let mut table = terminal::table(if self.long {
                &["file", "bytes", "modified"][..]
            } else {
                &["folder", "files", "bytes", "newest"][..]
            });
            let mut folders: BTreeMap<String, (u64, u64, String)> = BTreeMap::new();
            let mut listing = lake.list(&self.prefix);
            while let Some(object) = listing.try_next().await? {
                files += 1;
                bytes += object.size;
                let path = object.path.as_str();
                let modified = terminal::instant(object.modified);
                if out.is_json() {
                    out.json(&serde_json::json!({ "lake": name, "path": path, "bytes": object.size, "modified": modified }))?;
                } else if self.long {
                    table.add_row([
                        comfy_table::Cell::new(path),
                        right(terminal::count(object.size)),
                        comfy_table::Cell::new(modified),
                    ]);
                } else {
                    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                    let entry = folders.entry(folder.to_string()).or_default();
                    entry.0 += 1;
                    entry.1 += object.size;
                    entry.2 = modified.max(std::mem::take(&mut entry.2));
                }
            }
            for (folder, (files, bytes, newest)) in folders {
                table.add_row([
                    comfy_table::Cell::new(folder),
                    right(terminal::count(files)),
                    right(terminal::bytes(bytes)),
                    comfy_table::Cell::new(newest),
                ]);
            }
            out.say(name);
            out.say(table.to_string());
        }
        if out.is_json() {
            out.json(&serde_json::json!({ "ok": true, "files": files, "bytes": bytes }))?;
        }
        out.say(format!("{}, {}", terminal::plural(files, "file"), terminal::bytes(bytes)));
        Ok(Code::Done)
    }
}

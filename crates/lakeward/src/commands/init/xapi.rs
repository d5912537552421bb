//! `lakeward init xapi`.
//!
//! Every expression of the mapping is written once, here, and the pipelines of
//! all tables are made of it, so that they cannot drift apart. Which statement
//! is what, and what Torus writes otherwise than the specification has it, is in
//! the contract `amplitude-xapi-adobe-warehouses.md`, sections 2.2 and 2.5.

mod tables;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use self::tables::{DECLARED, EXTENSIONS, TABLES, Table};

const TEMPLATE: &str = include_str!("templates/xapi.yaml");

/// What to do with the configuration.
pub(super) const HINTS: &[&str] = &[
    "`lakeward run` takes what is sent to http://127.0.0.1:7171/xAPI/ and new objects of the bucket.",
    "`lakeward backfill plan torus --where section_id=145 --from 2025-01-01 --to 2025-02-01` shows what",
    "a section has, `lakeward backfill apply torus …` takes it. `lakeward lambda` is the same as an AWS",
    "Lambda function. docs/xapi.md has all of it.",
];

/// Which tables are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Tables {
    /// `raw_events`: every statement, with all columns.
    Unified,
    /// A table for each kind of statement.
    Kinds,
    /// All of them.
    Both,
}

/// Where rows go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum To {
    /// Parquet files in a folder or a bucket.
    Lake,
    /// Tables of ClickHouse.
    Clickhouse,
}

/// Write a configuration for xAPI statements, above all those of OLI Torus.
#[derive(Debug, clap::Args)]
pub(super) struct Xapi {
    /// The file to write; an existing one is never overwritten.
    #[arg(default_value = "lakeward.yaml", value_name = "FILE")]
    file: PathBuf,
    /// The bucket or folder that Torus writes to.
    #[arg(long, value_name = "URL", default_value = "s3://torus-xapi-prod/")]
    url: String,
    /// Which tables to make.
    #[arg(long, value_enum, default_value_t = Tables::Both)]
    tables: Tables,
    /// Where rows go.
    #[arg(long, value_enum, default_value_t = To::Lake)]
    to: To,
}

impl Xapi {
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    /// The template with the choices filled in.
    pub(super) fn text(&self) -> String {
        let wanted = TABLES.iter().filter(|table| match self.tables {
            Tables::Unified => table.kind.is_none(),
            Tables::Kinds => table.kind.is_some(),
            Tables::Both => true,
        });
        let mut pipelines = String::new();
        for (number, table) in wanted.enumerate() {
            let first = number == 0;
            if !first {
                pipelines.push('\n');
            }
            self.pipeline(table, first, &mut pipelines);
        }
        let url = serde_json::Value::from(self.url.as_str()).to_string();
        TEMPLATE.replace("<url>", &url).replace("<pipelines>\n", &pipelines)
    }

    fn pipeline(&self, table: &Table, first: bool, out: &mut String) {
        let Table { name, about, .. } = table;
        let mut say = |text: &str| out.push_str(text);
        for line in about.lines() {
            say(&format!("  # {line}\n"));
        }
        say(&format!("  - name: {name}\n    stream: xapi\n"));
        say("    batch: { size: 128MiB, age: 60s }\n");
        say("    # `event_hash` is the hash of the statement's own text, `_raw`.\n    raw: true\n");
        say("    lineage: true\n");
        if first {
            say(
                "    schema: &statements\n      # What statements may have, whatever the first ones do have.\n      columns:\n",
            );
            columns(out);
        } else {
            say("    schema: *statements\n");
        }
        let mut say = |text: &str| out.push_str(text);
        say("    sql: |\n");
        for line in table.sql().lines() {
            say(&format!("      {line}\n"));
        }
        say("    # The same statement, sent again, processed again or backfilled, is one row.\n");
        say("    dedup: { key: [event_hash], window: 400d }\n");
        match self.to {
            To::Lake => lake(name, first, out),
            To::Clickhouse => clickhouse(table, first, out),
        }
    }
}

/// The declared columns.
fn columns(out: &mut String) {
    let mut say = |path: &str, kind: &str| {
        let path = if path.contains('"') { format!("'{path}'") } else { path.to_owned() };
        writeln!(out, "        {path}: {kind}").expect("a string takes all");
    };
    for (path, kind) in DECLARED {
        say(path, kind);
    }
    for (part, name, kind) in EXTENSIONS {
        for scheme in ["http", "https"] {
            say(&format!("{part}.extensions.\"{scheme}://oli.cmu.edu/extensions/{name}\""), kind);
        }
    }
}

/// Files and their destination.
fn lake(name: &str, first: bool, out: &mut String) {
    let day = "year=!{event:timestamp:yyyy}/month=!{event:timestamp:MM}/day=!{event:timestamp:dd}/";
    let mut say = |text: &str| out.push_str(text);
    say("    output:\n      format: parquet\n      compression: zstd\n");
    say(&format!("      path: \"{name}/{day}\"\n"));
    say(&format!(
        "      error_path: \"errors/{name}/!{{firehose:error-output-type}}/!{{timestamp:yyyy/MM/dd}}/\"\n"
    ));
    if first {
        say("    destination: &lake\n      type: lake\n      url: ./lake\n");
        say("      # Or a bucket; credentials come from the environment, a profile or a role:\n");
        say("      # url: s3://my-bucket/\n      # region: us-east-1\n");
    } else {
        say("    destination: *lake\n");
    }
}

/// A table of ClickHouse. One of all statements is sorted by their hash, as the
/// system that this replaces has it; those of a kind by what people ask for. In
/// both a statement that comes twice is one row in the end, whoever wrote it.
fn clickhouse(table: &Table, first: bool, out: &mut String) {
    let Table { name, kind, .. } = table;
    let order = match kind {
        None => "event_hash",
        Some(_) => "section_id, timestamp, user_id, event_hash",
    };
    let mut say = |text: &str| out.push_str(text);
    say(&format!(
        "    output: {{ error_path: \"{name}/!{{firehose:error-output-type}}/!{{timestamp:yyyy/MM/dd}}/\" }}\n"
    ));
    say("    destination:\n      type: clickhouse\n");
    if first {
        say("      # Anything but this machine: https, or `allow_http: true`.\n");
    }
    say(
        "      url: http://127.0.0.1:8123\n      user: default\n      password: \"${CLICKHOUSE_PASSWORD}\"\n",
    );
    say(&format!("      database: default\n      table: {name}\n"));
    if first {
        say("      # Makes the table if it is not there. docs/xapi.md has it as a statement.\n");
    }
    say("      auto_create:\n        engine: replacing_merge_tree\n");
    say(&format!("        order_by: [{order}]\n"));
    say("        partition_by: { column: timestamp, by: month }\n");
    if first {
        say("        # ttl: { column: timestamp, months: 18 }\n");
        say("      # What the table does not take, and lines that are no JSON:\n");
    }
    say("      quarantine: { url: ./quarantine }\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_choice_is_a_sound_configuration() {
        for tables in [Tables::Unified, Tables::Kinds, Tables::Both] {
            for to in [To::Lake, To::Clickhouse] {
                let url = String::from("s3://torus-xapi-prod/");
                let text = Xapi { file: PathBuf::new(), url, tables, to }.text();
                let config = crate::config::Config::parse(&text, Path::new("."), |name| {
                    (name == "CLICKHOUSE_PASSWORD").then(|| String::from("hush"))
                })
                .unwrap_or_else(|problems| panic!("{problems:#?}\n{text}"));
                assert_eq!(config.sources[0].stream(), config.xapi.stream);
                assert!(config.pipelines.iter().all(|pipeline| pipeline.stream == config.xapi.stream));
                assert!(!text.contains('<'), "something was not filled in:\n{text}");
                let count = match tables {
                    Tables::Unified => 1,
                    Tables::Kinds => 5,
                    Tables::Both => 6,
                };
                assert_eq!(config.pipelines.len(), count);
            }
        }
    }
}

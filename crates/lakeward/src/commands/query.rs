//! `lakeward query`: SQL over what pipelines have delivered.

use std::io::{self, ErrorKind, IsTerminal, Write};

use lakeward_connectors::destinations::lake::{Lake, LakeReader};
use lakeward_engine::BatchRecord;
use lakeward_model::clock::Stopwatch;
use lakeward_model::{DeliveredFile, Role, units};
use lakeward_sql::query::{Answer, Column, CommittedFile, QueryError, Rows, Session, Table};

use super::target::{Inspected, TargetArguments};
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::terminal::{self, Output, right};
use crate::wiring;

/// The widest value on a terminal, in characters.
const CELL_MAX: usize = 48;

/// Ask with SQL what pipelines have delivered. Every pipeline is a table of
/// its name: exactly the files that were committed.
#[derive(Debug, clap::Args)]
pub(crate) struct Query {
    /// The query: `SELECT count(*) FROM events`. Names with other characters
    /// than letters, digits and `_` are quoted: `"my-events"`, or written
    /// `my_events`.
    #[arg(required_unless_present = "tables")]
    sql: Option<String>,
    #[command(flatten)]
    target: TargetArguments,
    /// List the tables and their columns instead.
    #[arg(long, conflicts_with = "sql")]
    tables: bool,
    /// Print CSV instead of JSON or a table.
    #[arg(long, conflicts_with = "tables")]
    csv: bool,
    /// How many rows a terminal shows. Files and pipes get all.
    #[arg(long, default_value_t = 100, value_name = "N")]
    rows: usize,
    /// The memory that the query may take for sorting, grouping and joining.
    #[arg(long, default_value = "1GiB", value_name = "SIZE", value_parser = parse_size)]
    memory: usize,
}

fn parse_size(text: &str) -> Result<usize, String> {
    #[derive(serde::Deserialize)]
    struct Size(#[serde(with = "units::bytes")] u64);
    let size: Size = serde_json::from_value(text.into()).map_err(|error| error.to_string())?;
    usize::try_from(size.0).map_err(|error| error.to_string())
}

/// A pipeline's table, with what people want to know of it.
pub(crate) struct Listed {
    name: String,
    files: u64,
    rows: u64,
    bytes: u64,
}

impl Query {
    pub(crate) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        // The state directory is let go before the query runs: a long one must
        // not keep the service from starting.
        let tables = tables(&Inspected::open(&config)?, &config).await?;
        let mut session = Session::new(self.memory).map_err(explained)?;
        let listed = add(&mut session, tables);
        let Some(sql) = &self.sql else {
            return list(out, &mut session, &listed).await;
        };
        let clock = Stopwatch::start();
        let mut answer = session.query(sql).await.map_err(explained)?;
        let printed = if self.csv || out.is_json() || !io::stdout().is_terminal() {
            stream(&mut answer, self.csv).await
        } else {
            show(&mut answer, self.rows, clock).await
        };
        match printed {
            Ok(()) => Ok(Code::Done),
            // `lakeward query … | head`: whoever read has enough.
            Err(Stopped::Output(error)) if error.kind() == ErrorKind::BrokenPipe => Ok(Code::Done),
            Err(Stopped::Output(error)) => Err(error.into()),
            Err(Stopped::Query(error)) => Err(explained(error)),
        }
    }
}

/// Every pipeline's committed files.
pub(crate) async fn tables(inspected: &Inspected, config: &Config) -> anyhow::Result<Vec<Table>> {
    let statuses = inspected.status().await?;
    let batches = inspected.batches().await?;
    let mut tables = Vec::new();
    for spec in inspected.pipelines(config).await? {
        if spec.shape.table.is_some() {
            // Its rows are in a warehouse, which has its own SQL.
            continue;
        }
        let lake =
            wiring::lake_config(&config.firehose.buckets, &spec.destination).map_err(anyhow::Error::msg)?;
        let here = Lake::open(&lake)?.to_string();
        let mine: Vec<&BatchRecord> =
            batches.iter().filter(|batch| batch.pipeline == spec.name && batch.destination == here).collect();
        let incarnation = statuses.iter().find(|s| s.pipeline == spec.name).map(|status| status.incarnation);
        // Files of a former stream of the same name may have other columns.
        let known = mine.iter().all(|batch| Some(batch.incarnation) == incarnation);
        let versions = if known { inspected.schema_versions(&spec.name).await? } else { Vec::new() };
        let schema = versions.into_iter().next_back();
        let reader = LakeReader::open(&lake)?;
        tables.push(Table {
            name: spec.name.clone(),
            store: reader.store,
            base: reader.base,
            files: files(&mine),
            schema,
            output: spec.shape.output.clone(),
        });
    }
    if tables.is_empty() {
        return Err(coded(Code::Usage, "there is no pipeline, so there is no table"));
    }
    Ok(tables)
}

fn files(batches: &[&BatchRecord]) -> Vec<CommittedFile> {
    let files = batches.iter().flat_map(|batch| &batch.files).filter(|file| file.role == Role::Data);
    let file = |f: &DeliveredFile| CommittedFile { path: f.path.clone(), bytes: f.bytes, rows: f.rows };
    files.map(file).collect()
}

/// Makes the tables known under their names, and under names without quotes.
pub(crate) fn add(session: &mut Session, tables: Vec<Table>) -> Vec<Listed> {
    let only_one = tables.len() == 1;
    let mut listed = Vec::new();
    for table in tables {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut aliases: Vec<String> = vec![table.name.chars().map(plain).collect()];
        if only_one {
            aliases.push(String::from("lake"));
        }
        aliases.retain(|alias| *alias != table.name);
        listed.push(Listed {
            name: table.name.clone(),
            files: table.files.len() as u64,
            rows: table.files.iter().map(|file| file.rows).sum(),
            bytes: table.files.iter().map(|file| file.bytes).sum(),
        });
        session.add(table, aliases);
    }
    listed
}

/// `--tables`.
async fn list(out: &Output, session: &mut Session, listed: &[Listed]) -> anyhow::Result<Code> {
    for table in listed {
        let columns = session.columns(&table.name).await.map_err(explained)?;
        let rows = terminal::plural(table.rows, "row");
        let files = terminal::plural(table.files, "file");
        out.say(format!("{}  ({rows}, {files}, {})", table.name, terminal::bytes(table.bytes)));
        let width = columns.iter().map(|column| column.name.chars().count()).max().unwrap_or(0);
        for Column { name, holds, .. } in &columns {
            out.say(format!("  {name:width$}  {holds}"));
        }
    }
    if out.is_json() {
        out.json(&described(session, listed).await.map_err(explained)?)?;
    }
    Ok(Code::Done)
}

/// The tables and their columns, for machines.
pub(crate) async fn described(
    session: &mut Session,
    listed: &[Listed],
) -> Result<serde_json::Value, QueryError> {
    let mut all = Vec::new();
    for table in listed {
        let columns = session.columns(&table.name).await?;
        let columns: Vec<_> =
            columns.iter().map(|c| serde_json::json!({ "name": c.name, "type": c.holds })).collect();
        all.push(serde_json::json!({
            "name": table.name, "rows": table.rows, "files": table.files, "bytes": table.bytes,
            "columns": columns,
        }));
    }
    Ok(serde_json::json!({ "tables": all }))
}

/// Why an answer was not printed to its end.
enum Stopped {
    Query(QueryError),
    Output(io::Error),
}

impl From<QueryError> for Stopped {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

/// Every row as it comes: JSON lines or CSV.
async fn stream(answer: &mut Answer, csv: bool) -> Result<(), Stopped> {
    let mut text = Vec::new();
    if csv {
        answer.no_rows().write_csv(true, &mut text)?;
        io::stdout().write_all(&text)?;
    }
    while let Some(rows) = answer.next().await? {
        text.clear();
        if csv {
            rows.write_csv(false, &mut text)?;
        } else {
            rows.write_json(&mut text)?;
        }
        io::stdout().write_all(&text)?;
    }
    Ok(io::stdout().flush()?)
}

/// The first rows as a table.
async fn show(answer: &mut Answer, most: usize, clock: Stopwatch) -> Result<(), Stopped> {
    if answer.columns().iter().map(|column| column.name.as_str()).eq(["plan_type", "plan"]) {
        return explain(answer).await;
    }
    let mut shown: Vec<Vec<Option<String>>> = Vec::new();
    let mut more = false;
    while let Some(rows) = answer.next().await? {
        let room = most - shown.len();
        more = rows.len() > room;
        shown.extend(cells(&rows.first(room))?);
        if more {
            break;
        }
    }
    let columns = answer.columns();
    let fit = columns_that_fit(columns, &shown);
    let mut table = terminal::table(&[]);
    table.set_header(columns[..fit].iter().map(|column| comfy_table::Cell::new(cut(&column.name))));
    for row in &shown {
        table.add_row(columns[..fit].iter().zip(row).map(|(column, value)| match value {
            Some(value) if column.is_number => right(value),
            Some(value) => comfy_table::Cell::new(value),
            None => comfy_table::Cell::new(""),
        }));
    }
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{table}")?;
    if fit < columns.len() {
        let names: Vec<&str> = columns[fit..].iter().map(|column| column.name.as_str()).collect();
        let hidden = terminal::plural(names.len() as u64, "more column");
        writeln!(stdout, "{hidden} not shown: {}", names.join(", "))?;
    }
    let rows = terminal::plural(shown.len() as u64, "row");
    let took = terminal::seconds(clock.elapsed().as_secs_f64());
    if more {
        writeln!(stdout, "the first {rows}; --rows N shows more, --json or --csv prints all  ({took})")?;
    } else {
        writeln!(stdout, "{rows}  ({took})")?;
    }
    Ok(())
}

/// What EXPLAIN says, whole.
async fn explain(answer: &mut Answer) -> Result<(), Stopped> {
    while let Some(rows) = answer.next().await? {
        for row in rows.texts()? {
            let text: Vec<String> = row.into_iter().flatten().collect();
            writeln!(io::stdout(), "{}\n", text.join(":\n").trim_end())?;
        }
    }
    Ok(())
}

fn cells(rows: &Rows) -> Result<Vec<Vec<Option<String>>>, QueryError> {
    let cut_row = |row: Vec<Option<String>>| row.into_iter().map(|value| value.map(|v| cut(&v))).collect();
    Ok(rows.texts()?.into_iter().map(cut_row).collect())
}

/// A value in one line that is not too wide.
fn cut(value: &str) -> String {
    let mut out = String::new();
    for (at, c) in value.chars().enumerate() {
        if at == CELL_MAX {
            out.pop();
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push('⏎'),
            c if c.is_control() => out.push('·'),
            c => out.push(c),
        }
    }
    out
}

/// How many columns a terminal has room for; one at the least.
fn columns_that_fit(columns: &[Column], rows: &[Vec<Option<String>>]) -> usize {
    let Some(room) = terminal::table(&[]).width() else { return columns.len() };
    let mut left = usize::from(room).saturating_sub(1);
    for (at, column) in columns.iter().enumerate() {
        let values = rows.iter().filter_map(|row| row[at].as_ref()).map(|value| value.chars().count());
        let width = values.chain([cut(&column.name).chars().count()]).max().unwrap_or(0);
        // A space at both sides, and the line behind it.
        let Some(rest) = left.checked_sub(width + 3) else { return at.max(1) };
        left = rest;
    }
    columns.len()
}

/// The error with its exit code.
fn explained(error: QueryError) -> anyhow::Error {
    match &error {
        QueryError::Wrong(message) | QueryError::NotReadOnly(message) => coded(Code::Usage, message),
        QueryError::Memory(message) => coded(Code::Usage, format!("{message} (--memory)")),
        QueryError::Data(message) => coded(Code::Data, message),
        QueryError::Unavailable(message) => coded(Code::Unavailable, message),
        QueryError::Internal(_) => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_to_one_line() {
        let check = |value: &str, expect: &str| assert_eq!(cut(value), expect);
        check("short", "short");
        check("two\nlines\t", "two⏎lines·");
        assert_eq!(cut(&"x".repeat(CELL_MAX)), "x".repeat(CELL_MAX));
        assert_eq!(cut(&"é".repeat(100)).chars().count(), CELL_MAX);
        assert!(cut(&"é".repeat(100)).ends_with('…'));
    }

    #[test]
    fn sizes_are_read() {
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert!(parse_size("lots").is_err());
    }
}

//! What `lakeward check --connect` tries: all that a load needs, and nothing
//! that leaves a trace.

use lakeward_model::{BATCH_COLUMN, ROW_COLUMN};

use super::client::Request;
use super::inspect::{self, Found};
use super::refusal::Refusal;
use super::{ClickHouse, quote, standing};
use crate::destinations::lake::ProbeResult;

pub(super) async fn probe(of: &ClickHouse) -> Vec<ProbeResult> {
    let config = &of.config;
    let server = match inspect::server(&of.client, &config.database).await {
        Ok(server) => server,
        Err(refusal) => return vec![result("connect", Err(refusal.message))],
    };
    let may_write = if server.readonly == 0 {
        Ok(format!("ClickHouse {} answers the user {}", server.version, server.user))
    } else {
        Err(format!("the user {} can only read: give it readonly = 0 and INSERT", server.user))
    };
    let mut results = vec![result("connect", may_write)];
    let makes = config.auto_create.is_some();
    if server.databases == 0 {
        let name = quote::name(&config.database);
        let absent = format!("the database {name} is not there");
        results.push(result(
            "table",
            if makes {
                Ok(format!("{absent}; it and the table are made with the first batch"))
            } else {
                Err(format!("{absent}: CREATE DATABASE {name}"))
            },
        ));
        return results;
    }
    match inspect::table(&of.client, &config.database, &config.table).await {
        Err(refusal) => results.push(result("table", Err(refusal.message))),
        Ok(None) if makes => {
            results.push(result("table", Ok(format!("{} is made with the first batch", of.table))));
        }
        Ok(None) => {
            results.push(result(
                "table",
                Err(format!("{} is not there: create it, or set auto_create", of.table)),
            ));
        }
        Ok(Some(found)) => of_table(of, &found, &mut results).await,
    }
    results
}

async fn of_table(of: &ClickHouse, found: &Found, results: &mut Vec<ProbeResult>) {
    let config = &of.config;
    let columns = found.columns.len();
    results.push(result("table", Ok(format!("{} is a {} of {columns} columns", of.table, found.engine))));
    let findings = standing::engine(found, &of.table, config.lineage);
    results.push(result(
        "exactly-once",
        if findings.problems.is_empty() {
            let warnings = findings.warnings.join("; ");
            Ok(if warnings.is_empty() { String::from("a retry changes nothing") } else { warnings })
        } else {
            Err(findings.problems.join("; "))
        },
    ));
    if config.lineage {
        let batch = quote::name(BATCH_COLUMN);
        let row = quote::name(ROW_COLUMN);
        let alter = format!(
            "ALTER TABLE {} ADD COLUMN IF NOT EXISTS {batch} LowCardinality(String), ADD COLUMN IF NOT EXISTS {row} Int64",
            of.table
        );
        results.push(result(
            "lineage",
            match (standing::has_lineage(found), config.auto_evolve) {
                (true, _) => Ok(format!("the columns {batch} and {row} are there")),
                (false, true) => Ok(format!("the columns {batch} and {row} are added with the first batch")),
                (false, false) => Err(format!("{alter}; or set auto_evolve: true, or lineage: false")),
            },
        ));
    }
    results.push(result("insert", may_insert(of, found).await));
}

/// An insert of no rows: the server looks at the rights all the same.
async fn may_insert(of: &ClickHouse, found: &Found) -> Result<String, String> {
    let ours = |column: &&inspect::FoundColumn| matches!(column.default_kind.as_str(), "" | "DEFAULT");
    let Some(column) = found.columns.iter().find(ours) else {
        return Err(format!("{} has no column that can be loaded", of.table));
    };
    let name = quote::name(&column.name);
    let sql = format!("INSERT INTO {0} ({name}) SELECT {name} FROM {0} WHERE 0", of.table);
    match of.client.send(Request { sql: &sql, ..Request::default() }).await {
        Ok(_) => Ok(String::from("may insert and select")),
        Err(Refusal { code: Some(497), message, .. }) => {
            Err(format!("{message}: GRANT SELECT, INSERT ON {} TO {}", of.table, of.config.user))
        }
        Err(refusal) => Err(refusal.message),
    }
}

fn result(name: &'static str, seen: Result<String, String>) -> ProbeResult {
    let ok = seen.is_ok();
    ProbeResult { name, ok, message: seen.unwrap_or_else(|why| why) }
}

//! A pipeline's SQL against what its schema declares.

use lakeward_columnar::decode::{DecodeOptions, Decoder};
use lakeward_columnar::dotted;
use lakeward_columnar::schema::{RESCUED, TableSchema};
use lakeward_columnar::shape::Contract;
use lakeward_columnar::transform::Pinned;
use lakeward_model::{BatchId, Timestamp};

use super::shaping::SchemaConfig;
use crate::wiring;

/// Checks all that can be known before the first record: the text, and the
/// types of declared columns.
pub(super) fn check(sql: &str, schema: &SchemaConfig) -> Result<(), String> {
    let compiled = wiring::compile_sql(sql).map_err(|error| error.to_string())?;
    if schema.columns.is_empty() {
        return Ok(());
    }
    if schema.contract != Contract::Evolve {
        let declared: Vec<String> = schema
            .columns
            .keys()
            .filter_map(|path| dotted::split(path)?.into_iter().next())
            .chain([RESCUED.to_string()])
            .collect();
        let unknown = compiled.reads().and_then(|reads| reads.iter().find(|name| !declared.contains(name)));
        if let Some(name) = unknown {
            return Err(undeclared(sql, name, &declared, schema.contract));
        }
    }
    let options = DecodeOptions { columns: schema.columns.clone(), ..DecodeOptions::default() };
    let rows = Decoder::new(&TableSchema::default(), options).finish().rows;
    let pinned = Pinned { now: Timestamp::default(), batch: BatchId(uuid::Uuid::nil()) };
    compiled.apply(&rows, &pinned).map(drop).map_err(|error| error.to_string())
}

fn undeclared(sql: &str, name: &str, declared: &[String], contract: Contract) -> String {
    let place = sql.find(name).map_or_else(String::new, |at| {
        let line = sql[..at].matches('\n').count() + 1;
        let column = sql[..at].chars().rev().take_while(|c| *c != '\n').count() + 1;
        format!("line {line}, column {column}: ")
    });
    let near = declared.iter().map(|known| (strsim::damerau_levenshtein(known, name), known)).min();
    let hint = match near {
        Some((distance, known)) if distance <= 2 => format!("did you mean `{known}`? Or declare"),
        _ => String::from("declare"),
    };
    let contract = match contract {
        Contract::DiscardUnknown => "discard_unknown",
        _ => "freeze",
    };
    format!(
        "{place}`{name}` is none of the declared columns, and `contract: {contract}` lets no other come; {hint} it under `schema.columns`"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_columns_are_known_before_the_first_record() {
        let check = |sql: &str, contract, expect: &str| {
            let columns = ["name: string", "at: timestamp", "n: int64"].map(|text| {
                let (name, ty) = text.split_once(": ").unwrap();
                (name.to_string(), ty.parse().unwrap())
            });
            let schema = SchemaConfig { contract, columns: columns.into(), ..SchemaConfig::default() };
            match super::check(sql, &schema) {
                Ok(()) => assert_eq!(expect, "", "{sql}"),
                Err(error) => assert!(!expect.is_empty() && error.contains(expect), "{sql}: {error}"),
            }
        };
        check("SELECT upper(name) AS name, n + 1 AS m FROM input", Contract::Freeze, "");
        check("SELECT other FROM input", Contract::Evolve, "");
        check("SELECT n,\n  nam FROM input", Contract::Freeze, "line 2, column 3: `nam` is none of");
        check("SELECT nam FROM input", Contract::Freeze, "did you mean `name`?");
        check("SELECT other FROM input", Contract::DiscardUnknown, "contract: discard_unknown");
        check("SELECT name + at AS x FROM input", Contract::Evolve, "line 1");
        check("SELEC n FROM input", Contract::Evolve, "line 1");
    }
}

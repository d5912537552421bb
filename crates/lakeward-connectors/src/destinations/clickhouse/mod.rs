//! A table of ClickHouse (contract `amplitude-xapi-adobe-warehouses.md`,
//! section 3).
//!
//! A file is one insert of one block. Before anything is sent that may have
//! been sent before — by a try without an answer, or by a process that died —
//! the table is asked which rows of the batch it has, and only the others are
//! sent. The server's own memory of inserts, where it has one, is the second
//! line: it covers an earlier try that still runs. Without lineage it is the
//! only one, so a table without it is refused.

mod client;
mod config;
mod insert;
mod inspect;
mod load;
mod pace;
mod probe;
mod quote;
mod refusal;
mod standing;
mod statements;
mod types;
mod unfit;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use lakeward_model::{BATCH_COLUMN, Batch, BatchId, Column, DataFile, Failure, FailureKind, Format};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use self::client::{Client, Request};
pub use self::config::{
    AutoCreate, ClickHouseConfig, ClickHouseConfigError, PartitionBy, PartitionStep, TableEngine, Ttl,
};
use self::insert::Loading;
use self::inspect::Found;
use self::load::{Attempt, Load};
use self::pace::Pace;
use crate::destinations::lake::ProbeResult;
use crate::destinations::warehouse::{CutRows, Table};

/// How many inserts a table remembers that is made by us, or as we advise.
const WINDOW: u64 = 10_000;
/// How long it is taken for granted that nobody changed the table.
const FRESH: Duration = Duration::from_secs(30);

/// A table of ClickHouse. It prints as its address.
pub struct ClickHouse {
    config: ClickHouseConfig,
    client: Client,
    cut: CutRows,
    /// The table's name, quoted.
    table: String,
    /// One load at a time.
    state: Mutex<State>,
}

/// What is remembered between loads.
#[derive(Debug)]
struct State {
    /// The batch of the last load.
    attempt: Option<Attempt>,
    known: Option<Known>,
    pace: Pace,
    /// Whether the table took rows since the start.
    is_proven: bool,
    /// What was warned of already.
    warned: Vec<String>,
}

/// The table as it was looked at last, and how files go into it.
#[derive(Debug)]
struct Known {
    at: Instant,
    columns: Arc<[Column]>,
    format: Format,
    found: Arc<Found>,
    loading: Arc<Loading>,
}

/// Opens a table. Touches nothing: the server is asked when something is
/// loaded.
///
/// # Errors
/// The configuration cannot be used; nothing but a change of it helps.
pub fn open(config: &ClickHouseConfig, cut: CutRows) -> Result<ClickHouse, ClickHouseConfigError> {
    config.check()?;
    let state = State {
        attempt: None,
        known: None,
        pace: Pace::new(config.parts_per_minute),
        is_proven: false,
        warned: Vec::new(),
    };
    Ok(ClickHouse {
        client: Client::open(config)?,
        cut,
        table: quote::qualified(&config.database, &config.table),
        config: config.clone(),
        state: Mutex::new(state),
    })
}

impl fmt::Debug for ClickHouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClickHouse({self})")
    }
}

impl fmt::Display for ClickHouse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ClickHouseConfig { url, database, table, .. } = &self.config;
        write!(f, "{}/{database}.{table}", url.trim_end_matches('/'))
    }
}

#[async_trait::async_trait]
impl Table for ClickHouse {
    async fn load(&self, batch: &Batch, files: &[(usize, &DataFile)]) -> Result<Vec<bool>, Failure> {
        let mut state = self.state.lock().await;
        Load::new(self, &mut state, batch, files)?.run().await
    }

    async fn loaded(&self, batches: &[BatchId]) -> Result<Option<Vec<u64>>, Failure> {
        #[derive(Deserialize)]
        struct Loaded {
            batch: String,
            rows: u64,
        }
        let Some(found) = inspect::table(&self.client, &self.config.database, &self.config.table).await?
        else {
            return Err(Failure::new(FailureKind::Refused, format!("the table {} is not there", self.table)));
        };
        // Rows that were replaced are no longer counted.
        if !standing::has_lineage(&found) || found.engine.contains("Replacing") {
            return Ok(None);
        }
        let ids: Vec<String> = batches.iter().map(ToString::to_string).collect();
        let list = ids.iter().map(|id| quote::literal(id)).collect::<Vec<_>>().join(", ");
        let batch = quote::name(BATCH_COLUMN);
        let sql = format!(
            "SELECT {batch} AS batch, toUInt64(count()) AS rows FROM {} WHERE {batch} IN ({list}) GROUP BY batch \
             FORMAT JSONEachRow",
            self.table
        );
        let rows: Vec<Loaded> =
            if ids.is_empty() { Vec::new() } else { self.client.rows(&sql, consistent(&found)).await? };
        let of = |id: &String| rows.iter().find(|row| row.batch == *id).map_or(0, |row| row.rows);
        Ok(Some(ids.iter().map(of).collect()))
    }

    async fn probe(&self) -> Vec<ProbeResult> {
        probe::probe(self).await
    }
}

/// Replicas of ClickHouse Cloud answer with all that any of them stored.
fn consistent(found: &Found) -> Vec<(&'static str, String)> {
    let is_shared = found.engine.starts_with("Shared");
    if is_shared { vec![("select_sequential_consistency", String::from("1"))] } else { Vec::new() }
}

impl ClickHouse {
    /// The table, made if it may be.
    async fn found(&self, columns: &[Column]) -> Result<Found, Failure> {
        let ClickHouseConfig { database, table, .. } = &self.config;
        if let Some(found) = inspect::table(&self.client, database, table).await? {
            return Ok(found);
        }
        let refused = |message: String| Failure::new(FailureKind::Refused, message);
        let Some(create) = &self.config.auto_create else {
            let example =
                statements::create(&self.table, &AutoCreate::default(), columns).unwrap_or_default();
            return Err(refused(format!(
                "the table {} is not there: create it, or set auto_create. For these columns: {}",
                self.table,
                example.split_whitespace().collect::<Vec<_>>().join(" ")
            )));
        };
        let statement = statements::create(&self.table, create, columns).map_err(refused)?;
        if inspect::server(&self.client, database).await?.databases == 0 {
            self.run(&format!("CREATE DATABASE IF NOT EXISTS {}", quote::name(database))).await?;
        }
        self.run(&statement).await?;
        info!(table = self.table, "the table was made");
        inspect::table(&self.client, database, table).await?.ok_or_else(|| {
            Failure::new(
                FailureKind::NotDone,
                format!("the table {} was made and is not there yet", self.table),
            )
        })
    }

    /// How files of these columns go into the table, which is changed for them
    /// if it may be. Says all that stands in the way.
    async fn known(
        &self,
        state: &mut State,
        mut found: Found,
        batch: &Batch,
        format: Format,
        has_ids: bool,
    ) -> Result<(), Failure> {
        let findings = standing::engine(&found, &self.table, has_ids);
        if !findings.problems.is_empty() {
            return Err(Failure::new(FailureKind::Refused, findings.problems.join("; ")));
        }
        for warning in findings.warnings {
            if !state.warned.contains(&warning) {
                warn!(table = self.table, "{warning}");
                state.warned.push(warning);
            }
        }
        let evolves = self.config.auto_evolve;
        let mut standing = standing::columns(&found, &batch.columns, format, evolves);
        if !standing.problems.is_empty() {
            return Err(Failure::new(FailureKind::Refused, standing.problems.join("; ")));
        }
        if !standing.alters.is_empty() {
            let alter = format!("ALTER TABLE {} {}", self.table, standing.alters.join(", "));
            if !evolves {
                let message = format!(
                    "the table {} does not have all columns of the data: {alter}; or set auto_evolve: true",
                    self.table
                );
                return Err(Failure::new(FailureKind::Refused, message));
            }
            self.run(&alter).await?;
            info!(table = self.table, alter, "the table was changed");
            found = self.found(&batch.columns).await?;
            standing = standing::columns(&found, &batch.columns, format, evolves);
        }
        let loading = standing.loading.ok_or_else(|| {
            let message = format!("the table {} does not have its new columns yet", self.table);
            Failure::new(FailureKind::NotDone, message)
        })?;
        state.known = Some(Known {
            at: Instant::now(),
            columns: Arc::clone(&batch.columns),
            format,
            found: Arc::new(found),
            loading: Arc::new(loading),
        });
        Ok(())
    }

    async fn run(&self, sql: &str) -> Result<(), Failure> {
        self.client.send(Request { sql, ..Request::default() }).await?;
        Ok(())
    }
}

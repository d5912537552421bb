//! What `lakeward check --connect` tries of a table.

use super::Dialect;
use super::columns;
use super::connection::Connection;
use super::error::SqlError;
use super::names::{self, TableName};
use super::session::{Row, Session};
use crate::destinations::lake::ProbeResult;

impl Connection {
    /// Tries what deliveries need, and changes nothing.
    pub(crate) async fn probe(&self, making: &columns::Making, merges: bool) -> Vec<ProbeResult> {
        let mut results = Vec::new();
        let mut add = |name, result: Result<String, String>| {
            let ok = result.is_ok();
            results.push(ProbeResult { name, ok, message: result.unwrap_or_else(|problem| problem) });
        };
        let session = match self.session().await {
            Ok(session) => session,
            Err(failure) => {
                add("connect", Err(failure.message));
                return results;
            }
        };
        if let Some(api) = session.api()
            && let Err(error) = api.try_calls().await
        {
            add("connect", Err(error.of_the_data_api(self).message));
            return results;
        }
        let version = session.rows("SELECT version()").await.ok().and_then(|rows| {
            rows.into_iter().next()?.into_iter().next()?.map(|text| text.chars().take(60).collect::<String>())
        });
        let version = version.unwrap_or_default();
        add("connect", Ok(format!("connected to {version} as {}", self.user())));
        add("ledger", self.probe_ledger(&session).await);
        add("table", self.probe_table(&session, making, merges).await);
        results
    }

    async fn probe_ledger(&self, session: &Session) -> Result<String, String> {
        let said = |error: SqlError| error.failure(self, "").message;
        let table = &self.ledger.table;
        if self.ledger.is_there(session).await.map_err(said)? {
            let rights: &[&str] = match self.dialect() {
                Dialect::Postgres => &["SELECT", "INSERT"],
                // To lock it.
                Dialect::Redshift => &["SELECT", "INSERT", "UPDATE"],
            };
            self.may(session, table, rights).await?;
            return Ok(format!("{table} is there, and may be read and written"));
        }
        let may = self.may_create(session, table).await.map_err(said)?;
        let create = self.ledger.create();
        if may {
            Ok(format!("{table} will be made"))
        } else {
            Err(format!("run this as an owner: {create};"))
        }
    }

    async fn probe_table(
        &self,
        session: &Session,
        making: &columns::Making,
        merges: bool,
    ) -> Result<String, String> {
        let said = |error: SqlError| error.failure(self, "").message;
        let table = &self.table;
        let columns = columns::read(session, table, self.dialect()).await.map_err(said)?;
        if columns.is_empty() {
            if !making.create {
                return Err(format!("{table} is not there: create it, or set auto_create: true"));
            }
            if !self.may_create(session, table).await.map_err(said)? {
                let schema = names::identifier(&table.schema);
                let user = self.user();
                return Err(format!(
                    "{table} is not there and may not be made: CREATE SCHEMA IF NOT EXISTS {schema}; \
                     GRANT USAGE, CREATE ON SCHEMA {schema} TO {user};"
                ));
            }
            return Ok(format!("{table} will be made"));
        }
        let rights: &[&str] = if merges { &["SELECT", "INSERT", "DELETE"] } else { &["INSERT"] };
        self.may(session, table, rights).await?;
        Ok(format!("{table} has {} columns, and may be written", columns.len()))
    }

    async fn may_create(&self, session: &Session, table: &TableName) -> Result<bool, SqlError> {
        let dialect = self.dialect();
        let schema = names::literal(&table.schema, dialect);
        let query = format!(
            "SELECT has_schema_privilege(nspname, 'CREATE') FROM pg_namespace WHERE nspname = {schema}"
        );
        Ok(is_true(&session.rows(&query).await?))
    }

    async fn may(&self, session: &Session, table: &TableName, rights: &[&str]) -> Result<(), String> {
        for right in rights {
            let name = names::literal(&table.to_string(), self.dialect());
            let query = format!("SELECT has_table_privilege({name}, '{right}')");
            let rows = session.rows(&query).await.map_err(|error| error.failure(self, "").message)?;
            if !is_true(&rows) {
                let user = self.user();
                return Err(format!("GRANT {} ON {table} TO {user};", rights.join(", ")));
            }
        }
        Ok(())
    }
}

fn is_true(rows: &[Row]) -> bool {
    rows.first().and_then(|row| row.first()).is_some_and(|value| value.as_deref() == Some("t"))
}

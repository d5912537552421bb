//! A session: where statements are run one by one, over the PostgreSQL protocol
//! or by the Data API.

use std::sync::Arc;

use bytes::Bytes;

use super::data_api::DataApi;
use super::error::SqlError;
use super::wire::Wire;

/// The most rows of an answer that are kept; statements here ask for less.
pub(super) const ROWS_MAX: usize = 200_000;

/// One row of an answer, as text.
pub(crate) type Row = Vec<Option<String>>;

/// Where statements are run.
pub(crate) enum Session {
    /// An open connection. Dropping it ends it.
    Wire(Wire),
    /// The Data API, by which each statement is a transaction of its own, and
    /// several are one only by [`DataApi::transact`].
    Api(Arc<DataApi>),
}

impl Session {
    /// Whether the connection is still there, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Wire(wire) => wire.is_open(),
            Self::Api(_) => true,
        }
    }

    /// The Data API, if that is what it is.
    pub(crate) fn api(&self) -> Option<&DataApi> {
        match self {
            Self::Wire(_) => None,
            Self::Api(api) => Some(api),
        }
    }

    /// Begins a transaction, where there are any.
    pub(crate) async fn begin(&self) -> Result<(), SqlError> {
        self.end("BEGIN").await
    }

    /// Makes what was done since stay.
    pub(crate) async fn commit(&self) -> Result<(), SqlError> {
        self.end("COMMIT").await
    }

    /// Undoes it.
    pub(crate) async fn roll_back(&self) -> Result<(), SqlError> {
        self.end("ROLLBACK").await
    }

    async fn end(&self, word: &str) -> Result<(), SqlError> {
        match self {
            Self::Wire(wire) => wire.run(word).await.map(|_| ()),
            Self::Api(_) => Ok(()),
        }
    }

    /// Runs statements (by the Data API: one); how many rows the last one
    /// changed.
    pub(crate) async fn run(&self, statements: &str) -> Result<u64, SqlError> {
        match self {
            Self::Wire(wire) => wire.run(statements).await,
            Self::Api(api) => api.run(statements).await,
        }
    }

    /// Runs a query; its rows as text.
    pub(crate) async fn rows(&self, query: &str) -> Result<Vec<Row>, SqlError> {
        match self {
            Self::Wire(wire) => wire.rows(query).await,
            Self::Api(api) => api.rows(query).await,
        }
    }

    /// Runs a `COPY … FROM STDIN` with these bytes; how many rows it took.
    pub(crate) async fn copy(&self, statement: &str, body: Bytes) -> Result<u64, SqlError> {
        match self {
            Self::Wire(wire) => wire.copy(statement, body).await,
            Self::Api(_) => Err(SqlError::Unusable(String::from("the Data API takes no rows"))),
        }
    }
}

//! The PostgreSQL protocol: one connection, which is given up whenever it is not
//! known what state it is in. The server then rolls back what was not committed.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::TlsConnect;
use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::Dialect;
use super::config::{Access, Tls};
use super::error::SqlError;
use super::session::{ROWS_MAX, Row};
use super::tls::Rustls;

/// How much longer than the server's own timeout an answer is waited for.
const GRACE: Duration = Duration::from_secs(15);
/// How much of a file goes in one message.
const PART: usize = 64 << 10;

/// An open connection. Dropping it ends it.
pub(crate) struct Wire {
    client: Client,
    connection: JoinHandle<()>,
    patience: Duration,
}

impl Wire {
    /// Connects and says how the session is to behave.
    pub(crate) async fn open(access: &Access) -> Result<Self, SqlError> {
        let opened = tokio::time::timeout(access.connect_timeout, Self::connect(access)).await;
        let session = opened.map_err(|_| {
            SqlError::Lost(format!("no connection within {} s", access.connect_timeout.as_secs()))
        })??;
        session.run(&settings(access)).await?;
        Ok(session)
    }

    async fn connect(access: &Access) -> Result<Self, SqlError> {
        let mut config = Config::new();
        config.user(&access.user).dbname(&access.database).application_name("lakeward");
        if let Some(password) = &access.password {
            config.password(password.expose());
        }
        let tls = match access.tls {
            Tls::Off => None,
            Tls::Require => Some(Rustls::unverified(&access.host)),
            Tls::VerifyFull => Some(Rustls::verified(&access.host, access.ca_file.as_deref())),
        };
        let tls = tls.transpose().map_err(SqlError::Unusable)?;
        config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
        let stream = TcpStream::connect((access.host.as_str(), access.port))
            .await
            .map_err(|error| SqlError::Lost(format!("cannot connect: {error}")))?;
        // Statements are short, and each is waited for.
        let _ = stream.set_nodelay(true);
        let patience = access.statement_timeout + GRACE;
        match tls {
            Some(tls) => Self::speak(&config, stream, tls, patience).await,
            None => Self::speak(&config, stream, NoTls, patience).await,
        }
    }

    async fn speak<T>(
        config: &Config,
        stream: TcpStream,
        tls: T,
        patience: Duration,
    ) -> Result<Self, SqlError>
    where
        T: TlsConnect<TcpStream>,
        T::Stream: Send + 'static,
    {
        let (client, connection) = config.connect_raw(stream, tls).await.map_err(of_handshake)?;
        let connection = tokio::spawn(async move {
            // What went wrong is told to the statement that waits.
            let _ = connection.await;
        });
        Ok(Self { client, connection, patience })
    }

    /// Whether the connection is still there, as far as is known.
    pub(crate) fn is_open(&self) -> bool {
        !self.client.is_closed()
    }

    async fn within<T>(
        &self,
        answer: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, SqlError> {
        match tokio::time::timeout(self.patience, answer).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(SqlError::Lost(format!("no answer within {} s", self.patience.as_secs()))),
        }
    }

    /// Runs statements; how many rows the last one changed.
    pub(crate) async fn run(&self, statements: &str) -> Result<u64, SqlError> {
        let mut changed = 0;
        for message in self.within(self.client.simple_query(statements)).await? {
            if let SimpleQueryMessage::CommandComplete(rows) = message {
                changed = rows;
            }
        }
        Ok(changed)
    }

    /// Runs a query; its rows as text.
    pub(crate) async fn rows(&self, query: &str) -> Result<Vec<Row>, SqlError> {
        let mut rows = Vec::new();
        for message in self.within(self.client.simple_query(query)).await? {
            if let SimpleQueryMessage::Row(row) = message {
                if rows.len() == ROWS_MAX {
                    return Err(SqlError::Lost(format!("an answer of more than {ROWS_MAX} rows")));
                }
                rows.push((0..row.len()).map(|column| row.get(column).map(String::from)).collect());
            }
        }
        Ok(rows)
    }

    /// Runs a `COPY … FROM STDIN` with these bytes; how many rows it took.
    pub(crate) async fn copy(&self, statement: &str, body: Bytes) -> Result<u64, SqlError> {
        let mut sink = pin!(self.within(self.client.copy_in::<_, Bytes>(statement)).await?);
        let mut rest = body;
        while !rest.is_empty() {
            let part = rest.split_to(rest.len().min(PART));
            self.within(sink.feed(part)).await?;
        }
        self.within(sink.as_mut().finish()).await
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// An error of the handshake. A certificate or a server without TLS does not
/// mend itself.
fn of_handshake(error: tokio_postgres::Error) -> SqlError {
    let mut cause = std::error::Error::source(&error);
    let mut is_tls = false;
    while let Some(next) = cause {
        let inner = next.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        is_tls |= next.is::<rustls::Error>()
            || inner.is_some_and(|inner| inner.is::<rustls::Error>())
            || next.to_string().contains("server does not support TLS");
        cause = next.source();
    }
    match SqlError::from(error) {
        SqlError::Lost(what) if is_tls => SqlError::Unusable(format!("{what}; see `tls` and `ca_file`")),
        other => other,
    }
}

/// Statements at the start of a session.
fn settings(access: &Access) -> String {
    let timeout = access.statement_timeout.as_millis();
    let both = format!("SET statement_timeout = {timeout}; SET timezone = 'UTC'; SET datestyle = 'ISO, YMD'");
    match access.dialect {
        Dialect::Redshift => both,
        // A dead client must not hold its locks for hours. What COMMIT says is
        // done must be on disk.
        Dialect::Postgres => format!(
            "{both}; SET standard_conforming_strings = on; SET client_min_messages = warning; \
             SET default_transaction_isolation = 'read committed'; \
             SET idle_in_transaction_session_timeout = 300000; \
             SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 6; \
             SELECT set_config('synchronous_commit', 'on', false) \
             WHERE current_setting('synchronous_commit') = 'off'"
        ),
    }
}

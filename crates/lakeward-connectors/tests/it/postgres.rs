//! PostgreSQL's failures as the engine sees them, by a server that breaks off
//! where it is told to. What a real server does is in `tests/test_postgres.py`.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use lakeward_connectors::destinations::postgres::{self, PostgresConfig, PostgresTable};
use lakeward_connectors::destinations::warehouse::Table;
use lakeward_model::conformance::sample_batch;
use lakeward_model::{Batch, Column, ColumnType, DataFile, Failure, FailureKind, Format};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What happens at the first statement that begins so.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The connection ends before the server has done it.
    Cut(&'static str),
    /// The server says no, with this SQLSTATE.
    Error(&'static str, &'static str),
    /// The ledger has the batch.
    AlreadyThere,
    /// COPY takes one row less than it was given.
    ShortCopy,
    None,
}

/// The statements that a server was given.
type Heard = Arc<Mutex<Vec<String>>>;

async fn server(fault: Fault) -> (u16, Heard) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = Heard::default();
    let all = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.expect("a connection");
            // It ends when its client goes, or at the fault.
            let _ = converse(stream, fault, &all).await;
        }
    });
    (port, heard)
}

async fn converse(mut stream: TcpStream, fault: Fault, heard: &Heard) -> std::io::Result<()> {
    let size = stream.read_u32().await? as usize;
    stream.read_exact(&mut vec![0; size - 4]).await?;
    send(&mut stream, b'R', &0_u32.to_be_bytes()).await?;
    ready(&mut stream).await?;
    loop {
        let kind = stream.read_u8().await?;
        let size = stream.read_u32().await? as usize;
        let mut body = vec![0; size - 4];
        stream.read_exact(&mut body).await?;
        match kind {
            b'Q' => {
                let sql = String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
                heard.lock().expect("a lock").push(sql.clone());
                if !answer(&mut stream, &sql, fault).await? {
                    return Ok(());
                }
            }
            // COPY is prepared, then bound and run.
            b'P' => send(&mut stream, b'1', &[]).await?,
            b'D' => {
                send(&mut stream, b't', &[0, 0]).await?;
                send(&mut stream, b'n', &[]).await?;
            }
            b'S' => ready(&mut stream).await?,
            b'B' => send(&mut stream, b'2', &[]).await?,
            b'E' => send(&mut stream, b'G', &[0, 0, 0]).await?,
            b'c' => {
                let rows = if matches!(fault, Fault::ShortCopy) { "COPY 1\0" } else { "COPY 2\0" };
                send(&mut stream, b'C', rows.as_bytes()).await?;
            }
            b'X' => return Ok(()),
            _ => {}
        }
    }
}

async fn answer(stream: &mut TcpStream, sql: &str, fault: Fault) -> std::io::Result<bool> {
    match fault {
        Fault::Cut(start) if sql.starts_with(start) => return Ok(false),
        Fault::Error(start, code) if sql.starts_with(start) => {
            let error = format!("SERROR\0VERROR\0C{code}\0Mno\0\0");
            send(stream, b'E', error.as_bytes()).await?;
            ready(stream).await?;
            return Ok(true);
        }
        _ => {}
    }
    if sql.starts_with("SELECT 1 FROM pg_class") {
        row(stream, &["1"]).await?;
    } else if sql.starts_with("SELECT a.attname") {
        row(stream, &["n", "bigint"]).await?;
    } else if sql.starts_with("INSERT") {
        let rows = if matches!(fault, Fault::AlreadyThere) { 0 } else { 1 };
        send(stream, b'C', format!("INSERT 0 {rows}\0").as_bytes()).await?;
    } else {
        send(stream, b'C', b"OK\0").await?;
    }
    ready(stream).await?;
    Ok(true)
}

async fn row(stream: &mut TcpStream, values: &[&str]) -> std::io::Result<()> {
    let count = u16::try_from(values.len()).expect("few columns").to_be_bytes();
    let (mut names, mut data) = (count.to_vec(), count.to_vec());
    for value in values {
        names.extend_from_slice(b"c\0");
        names.extend_from_slice(&[0; 18]);
        data.extend_from_slice(&u32::try_from(value.len()).expect("a short value").to_be_bytes());
        data.extend_from_slice(value.as_bytes());
    }
    send(stream, b'T', &names).await?;
    send(stream, b'D', &data).await?;
    send(stream, b'C', b"SELECT 1\0").await
}

async fn ready(stream: &mut TcpStream) -> std::io::Result<()> {
    send(stream, b'Z', b"I").await
}

async fn send(stream: &mut TcpStream, kind: u8, body: &[u8]) -> std::io::Result<()> {
    let mut message = vec![kind];
    message.extend_from_slice(&u32::try_from(body.len() + 4).expect("a short message").to_be_bytes());
    message.extend_from_slice(body);
    stream.write_all(&message).await
}

fn table(port: u16) -> PostgresTable {
    let config = PostgresConfig {
        host: "127.0.0.1".into(),
        port,
        database: "d".into(),
        user: "u".into(),
        table: "t".into(),
        ..PostgresConfig::default()
    };
    postgres::open(&config, Arc::new(|_, _| Err(String::from("not needed")))).expect("it opens")
}

fn batch() -> Batch {
    let mut batch = sample_batch(1, 1, 4);
    batch.columns = Arc::new([Column { name: "n".into(), ty: ColumnType::Int64 }]);
    batch.files[0] = DataFile {
        format: Format::Csv,
        rows: 2,
        body: Bytes::from_static(b"1\n2\n"),
        ..batch.files[0].clone()
    };
    batch
}

async fn load(fault: Fault) -> (Result<Vec<bool>, Failure>, Vec<String>) {
    let (port, heard) = server(fault).await;
    let batch = batch();
    let loaded = table(port).load(&batch, &[(0, &batch.files[0])]).await;
    let heard = heard.lock().expect("a lock").clone();
    (loaded, heard)
}

#[tokio::test]
async fn only_a_commit_without_an_answer_is_unknown() {
    for (fault, expect) in [
        (Fault::Cut("SET statement_timeout"), FailureKind::NotDone),
        (Fault::Cut("BEGIN"), FailureKind::NotDone),
        (Fault::Cut("INSERT"), FailureKind::NotDone),
        (Fault::Cut("SELECT a.attname"), FailureKind::NotDone),
        (Fault::Cut("COMMIT"), FailureKind::Unknown),
        (Fault::Error("COMMIT", "40001"), FailureKind::NotDone),
        (Fault::Error("COMMIT", "57P01"), FailureKind::Unknown),
        (Fault::Error("INSERT", "25006"), FailureKind::NotDone),
        (Fault::Error("INSERT", "42501"), FailureKind::Refused),
        (Fault::ShortCopy, FailureKind::Refused),
    ] {
        let (loaded, heard) = load(fault).await;
        let failure = loaded.expect_err("it fails");
        assert_eq!(failure.kind, expect, "{fault:?}: {failure}");
        assert!(failure.unfit.is_empty());
        let committed = heard.iter().any(|sql| sql == "COMMIT");
        let at_commit = matches!(fault, Fault::Cut("COMMIT") | Fault::Error("COMMIT", _));
        assert_eq!(committed, at_commit, "{fault:?}: {heard:?}");
    }
}

#[tokio::test]
async fn a_batch_of_the_ledger_is_not_copied_again() {
    let (loaded, heard) = load(Fault::AlreadyThere).await;
    assert_eq!(loaded.expect("it is there"), [true]);
    assert!(!heard.iter().any(|sql| sql == "COMMIT"));
    let (loaded, heard) = load(Fault::None).await;
    assert_eq!(loaded.expect("it is loaded"), [false]);
    assert_eq!(heard.last().map(String::as_str), Some("COMMIT"));
}

#[tokio::test]
async fn nobody_at_the_other_end_is_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    drop(listener);
    let batch = batch();
    let failure = table(port).load(&batch, &[(0, &batch.files[0])]).await.expect_err("nobody");
    assert_eq!(failure.kind, FailureKind::NotDone);
}

#[tokio::test]
async fn files_that_cannot_be_copied_are_refused() {
    let mut batch = batch();
    batch.files[0].format = Format::Parquet;
    let failure = table(1).load(&batch, &[(0, &batch.files[0])]).await.expect_err("Parquet");
    assert_eq!(failure.kind, FailureKind::Refused);
}

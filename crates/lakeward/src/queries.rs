//! What answers SQL in the running service: the sessions of `lakeward query`
//! behind `/v1/query`.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{StreamExt, stream};
use lakeward_engine::Control;
use lakeward_server::{Answer, Queries, QueryFailure, QueryFormat};
use lakeward_sql::query::{ArrowStream, DEFAULT_MEMORY, QueryError, Session};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::commands::query::{Listed, add, described, tables};
use crate::commands::target::Inspected;
use crate::config::Config;
use crate::exit::{Code, code_of};

/// Threads that queries compute on.
const THREADS: usize = 2;
/// Memory of one query. The doors let two in, which together have what the
/// command has.
const MEMORY: usize = DEFAULT_MEMORY / 2;
/// Pieces of an answer that wait to be sent.
const PIECES_WAITING: usize = 2;

/// Answers queries. They compute on threads of their own: the doors and the
/// pipelines do not wait for them.
pub(crate) struct LakeQueries {
    place: Place,
    runtime: Option<Runtime>,
}

/// What is asked.
#[derive(Clone)]
struct Place {
    control: Control,
    config: Arc<Config>,
}

impl LakeQueries {
    /// # Errors
    /// The operating system gives no threads.
    pub(crate) fn new(control: Control, config: &Config) -> std::io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(THREADS).thread_name("lakeward-query").enable_all().build()?;
        let place = Place { control, config: Arc::new(config.clone()) };
        Ok(Self { place, runtime: Some(runtime) })
    }

    /// Sees `work` through on a thread of its own; what it computes in
    /// parallel is on the runtime's.
    fn spawn<T: Send + 'static, F: Future<Output = T>>(
        &self,
        work: impl FnOnce() -> F + Send + 'static,
    ) -> JoinHandle<T> {
        let runtime = self.runtime.as_ref().expect("it is taken only by drop");
        runtime.spawn_blocking(move || Handle::current().block_on(work()))
    }
}

impl Drop for LakeQueries {
    fn drop(&mut self) {
        // The last owner may be a task, which must not wait for a runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A piece of an answer, `None` behind the last one.
type Piece = Result<Option<Vec<u8>>, QueryFailure>;

impl Queries for LakeQueries {
    fn query(&self, sql: String, format: QueryFormat) -> Answer {
        let (sender, receiver) = mpsc::channel::<Piece>(PIECES_WAITING);
        let place = self.place.clone();
        self.spawn(move || async move {
            let work = async {
                let end = run(&place, &sql, format, &sender).await.map(|()| None);
                // Whoever asked may be gone.
                let _ = sender.send(end).await;
            };
            tokio::select! {
                () = work => {}
                () = sender.closed() => {}
            }
        });
        // Only the end that was said is one: a query that dies says nothing.
        let died = || QueryFailure::Internal(String::from("the query ended before its answer did"));
        stream::unfold(Some(receiver), move |receiver| async move {
            let mut receiver = receiver?;
            match receiver.recv().await {
                Some(Ok(Some(piece))) => Some((Ok(piece.into()), Some(receiver))),
                Some(Ok(None)) => None,
                Some(Err(failure)) => Some((Err(failure), None)),
                None => Some((Err(died()), None)),
            }
        })
        .boxed()
    }

    fn tables(&self) -> BoxFuture<'static, Result<serde_json::Value, QueryFailure>> {
        let place = self.place.clone();
        let asked = self.spawn(move || async move {
            let (mut session, listed) = place.session().await?;
            described(&mut session, &listed).await.map_err(of_query)
        });
        Box::pin(
            async move { asked.await.unwrap_or_else(|error| Err(QueryFailure::Internal(error.to_string()))) },
        )
    }
}

impl Place {
    /// A session that knows what is committed now.
    async fn session(&self) -> Result<(Session, Vec<Listed>), QueryFailure> {
        let here = Inspected::Here(self.control.clone());
        let tables = tables(&here, &self.config).await.map_err(|error| {
            let message = format!("{error:#}");
            match code_of(&error) {
                Code::Usage => QueryFailure::Wrong(message),
                Code::Unavailable => QueryFailure::Unavailable(message),
                _ => QueryFailure::Internal(message),
            }
        })?;
        let mut session = Session::new(MEMORY).map_err(of_query)?;
        let listed = add(&mut session, tables);
        Ok((session, listed))
    }
}

/// Runs a query and sends its rows. Whoever asked is gone if that is refused.
async fn run(
    place: &Place,
    sql: &str,
    format: QueryFormat,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), QueryFailure> {
    let (mut session, _) = place.session().await?;
    let mut answer = session.query(sql).await.map_err(of_query)?;
    let mut arrow = match format {
        QueryFormat::Arrow => Some(ArrowStream::new(answer.no_rows()).map_err(of_query)?),
        QueryFormat::Ndjson => None,
    };
    while let Some(rows) = answer.next().await.map_err(of_query)? {
        let mut piece = Vec::new();
        match &mut arrow {
            Some(stream) => piece = stream.write(&rows).map_err(of_query)?,
            None => rows.write_json(&mut piece).map_err(of_query)?,
        }
        if sender.send(Ok(Some(piece))).await.is_err() {
            return Ok(());
        }
    }
    if let Some(stream) = arrow {
        let _ = sender.send(Ok(Some(stream.finish().map_err(of_query)?))).await;
    }
    Ok(())
}

fn of_query(error: QueryError) -> QueryFailure {
    let message = error.to_string();
    match error {
        QueryError::Wrong(_) | QueryError::NotReadOnly(_) => QueryFailure::Wrong(message),
        QueryError::Memory(_) => QueryFailure::Memory(message),
        QueryError::Data(_) => QueryFailure::Data(message),
        QueryError::Unavailable(_) => QueryFailure::Unavailable(message),
        QueryError::Internal(_) => QueryFailure::Internal(message),
    }
}

//! A lake in a folder, written by the product's own build, and a store that
//! notes what is read.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use futures::stream::BoxStream;
use lakeward_columnar::build::{Input, Schemas, build};
use lakeward_columnar::schema::TableSchema;
use lakeward_columnar::shape::{Output, Shape};
use lakeward_model::{BatchId, LakePath, Offset, RecordBlock, Records, Role, Span, StreamName, Timestamp};
use lakeward_sql::query::{CommittedFile, DEFAULT_MEMORY, QueryError, Session, Table};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult,
};

/// A lake of one pipeline.
pub(crate) struct Lake {
    folder: tempfile::TempDir,
    pub(crate) shape: Shape,
    pub(crate) schema: TableSchema,
    pub(crate) files: Vec<CommittedFile>,
    records: u64,
    pub(crate) store: Arc<Noted>,
}

impl Lake {
    /// An empty one, whose pipeline writes `output` to `path`.
    pub(crate) fn new(output: Output, path: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let inner = LocalFileSystem::new_with_prefix(folder.path()).expect("a store");
        let store = Arc::new(Noted { inner, read: Mutex::default() });
        let shape = Shape { output, path: path.into(), ..Shape::default() };
        Self { folder, shape, schema: TableSchema::default(), files: Vec::new(), records: 0, store }
    }

    /// One that writes Parquet.
    pub(crate) fn parquet(path: &str) -> Self {
        Self::new(Output::default(), path)
    }

    /// Delivers a batch: NDJSON lines become files.
    pub(crate) fn deliver(&mut self, lines: &str) -> &mut Self {
        let mut records = Records::default();
        let mut data = Vec::new();
        for line in lines.lines() {
            data.extend_from_slice(line.as_bytes());
            records.ends.push(u32::try_from(data.len()).expect("a small test"));
        }
        records.data = data.into();
        let count = records.len() as u64;
        let stream = StreamName::new("events").expect("a name");
        let span = Span::new(Offset(self.records), Offset(self.records + count)).expect("some records");
        let schemas = Schemas { table: self.schema.clone(), input: None };
        let input = Input {
            batch: BatchId::derive(uuid::Uuid::nil(), &stream, "events", span),
            stream: &stream,
            pipeline: "events",
            shape: &self.shape,
            schemas: &schemas,
            planned_at: Timestamp(0),
            expected_bytes: 0,
            sql: None,
            seen: None,
            refused: &[],
        };
        let block = RecordBlock { records, first: Offset(self.records), received_at: Timestamp(0) };
        let blocks = || std::iter::once(Ok::<_, Infallible>(block.clone()));
        let built = build(&input, blocks(), &mut std::iter::empty(), blocks).expect("it builds");
        for file in built.files.iter().filter(|file| file.role == Role::Data) {
            self.put(file.path.as_str(), &file.body);
            self.commit(file.path.as_str(), file.rows);
        }
        if let Some(after) = built.schemas {
            self.schema = after.table;
        }
        self.records += count;
        self
    }

    /// Writes a file that no batch committed.
    pub(crate) fn put(&self, path: &str, body: &[u8]) {
        let place = self.place(path);
        std::fs::create_dir_all(place.parent().expect("a folder")).expect("created");
        std::fs::write(place, body).expect("written");
    }

    /// Commits a file that lies there.
    pub(crate) fn commit(&mut self, path: &str, rows: u64) {
        let bytes = std::fs::metadata(self.place(path)).expect("it is there").len();
        self.files.push(CommittedFile { path: LakePath::new(path).expect("a path"), bytes, rows });
    }

    pub(crate) fn place(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub(crate) fn table(&self, schema: Option<TableSchema>) -> Table {
        Table {
            name: "events".into(),
            store: Arc::clone(&self.store) as Arc<dyn ObjectStore>,
            base: Path::default(),
            files: self.files.clone(),
            schema,
            output: self.shape.output.clone(),
        }
    }

    /// A session with the table `events`, its columns known.
    pub(crate) fn session(&self) -> Session {
        session([self.table(Some(self.schema.clone()))])
    }

    /// The same, but the columns are to be found in the files.
    pub(crate) fn session_without_schema(&self) -> Session {
        session([self.table(None)])
    }

    /// The rows of an answer as JSON lines.
    pub(crate) async fn ask(&self, sql: &str) -> String {
        json(&mut self.session(), sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

pub(crate) fn session(tables: impl IntoIterator<Item = Table>) -> Session {
    let mut session = Session::new(DEFAULT_MEMORY).expect("a session");
    for table in tables {
        session.add(table, Vec::new());
    }
    session
}

/// The rows of an answer as JSON lines.
pub(crate) async fn json(session: &mut Session, sql: &str) -> Result<String, QueryError> {
    let mut text = Vec::new();
    let mut answer = session.query(sql).await?;
    while let Some(rows) = answer.next().await? {
        rows.write_json(&mut text)?;
    }
    Ok(String::from_utf8(text).expect("JSON is text"))
}

/// A store that notes which files are read, and how many bytes of them.
#[derive(Debug)]
pub(crate) struct Noted {
    inner: LocalFileSystem,
    read: Mutex<(BTreeSet<String>, u64, u64)>,
}

impl Noted {
    /// The files read since the last time it was asked.
    pub(crate) fn files(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.read.lock().expect("no panic").0)
    }

    /// The bytes asked for since the last time, and the requests.
    pub(crate) fn bytes(&self) -> (u64, u64) {
        let mut read = self.read.lock().expect("no panic");
        (std::mem::take(&mut read.1), std::mem::take(&mut read.2))
    }
}

impl fmt::Display for Noted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait::async_trait]
impl ObjectStore for Noted {
    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        let found = self.inner.get_opts(path, options).await;
        let mut read = self.read.lock().expect("no panic");
        read.0.insert(path.to_string());
        read.1 += found.as_ref().map_or(0, |found| found.range.end - found.range.start);
        read.2 += 1;
        found
    }

    async fn put_opts(&self, _: &Path, _: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        panic!("a query only reads");
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        panic!("a query only reads");
    }

    fn delete_stream(
        &self,
        _: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        panic!("a query only reads");
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        panic!("a query lists nothing");
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> object_store::Result<ListResult> {
        panic!("a query lists nothing");
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> object_store::Result<()> {
        panic!("a query only reads");
    }
}

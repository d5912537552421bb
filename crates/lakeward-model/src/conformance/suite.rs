//! What every destination must do.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use crate::{
    Batch, BatchId, ContentEncoding, DataFile, Destination, FailureKind, Format, LakePath, Offset, Receipt,
    Role, Span, StreamName,
};

/// Looks at what lies at a destination, past the destination itself.
#[async_trait::async_trait]
pub trait Lookup: Send + Sync {
    /// Every file, in any order.
    async fn paths(&self) -> Vec<LakePath>;

    /// A file's bytes; `None` if it is not there.
    async fn bytes(&self, path: &LakePath) -> Option<Bytes>;
}

/// A destination under test, over an empty place of its own.
#[derive(Clone)]
pub struct Subject {
    /// The destination.
    pub destination: Arc<dyn Destination>,
    /// What lies there.
    pub lookup: Arc<dyn Lookup>,
    /// Whether it may fail and lose replies. It is then called again, as the
    /// engine does, and files may be there already at what the suite sees as
    /// the first try.
    pub faulty: bool,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Subject({:?})", self.destination)
    }
}

/// Runs the suite; `make` gives a fresh [`Subject`] for each case.
///
/// # Panics
/// The destination breaks a rule of [`Destination`].
pub async fn destination_suite<F: Future<Output = Subject>>(make: impl Fn() -> F) {
    delivers_once(&make().await).await;
    completes_a_partial_batch(&make().await).await;
    takes_an_empty_batch(&make().await).await;
    takes_concurrent_deliveries(&make().await).await;
    takes_many_files(&make().await).await;
    takes_a_big_file(&make().await).await;
    keeps_odd_names_apart(&make().await).await;
}

/// A batch of `files` files of `size` bytes each; the same `number` gives the
/// same batch.
#[must_use]
pub fn sample_batch(number: u64, files: usize, size: usize) -> Batch {
    let stream = StreamName::new("conformance").expect("a valid name");
    let span = Span::new(Offset(number), Offset(number + 1)).expect("not empty");
    let id = BatchId::derive(uuid::Uuid::nil(), &stream, "suite", span);
    let file = |index: usize| {
        let path = format!("stream=suite/hour={:02}/{id}-{index}.bin", index % 24);
        sample_file(&path, number.wrapping_mul(1_000_003) + index as u64, size)
    };
    Batch { id, span, files: (0..files).map(file).collect(), columns: Arc::default() }
}

fn sample_file(path: &str, seed: u64, size: usize) -> DataFile {
    let mut state = seed | 1;
    let body: Vec<u8> = (0..size)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .collect();
    DataFile {
        path: LakePath::new(path).expect("a valid path"),
        role: if seed.is_multiple_of(5) { Role::Quarantine } else { Role::Data },
        format: Format::Verbatim,
        content_encoding: seed.is_multiple_of(2).then_some(ContentEncoding::Gzip),
        rows: 7,
        body: body.into(),
    }
}

async fn delivers_once(subject: &Subject) {
    let batch = sample_batch(1, 3, 1_000);
    let receipt = deliver(subject, &batch).await;
    assert_receipt(&receipt, &batch);
    if !subject.faulty {
        assert!(receipt.files.iter().all(|file| !file.already_there), "nothing was there: {receipt:?}");
    }
    assert_holds_exactly(subject, &[&batch]).await;
    let again = deliver(subject, &batch).await;
    assert_receipt(&again, &batch);
    assert!(again.files.iter().all(|file| file.already_there), "all was there: {again:?}");
    assert_holds_exactly(subject, &[&batch]).await;
    let next = sample_batch(2, 2, 500);
    deliver(subject, &next).await;
    assert_holds_exactly(subject, &[&batch, &next]).await;
}

async fn completes_a_partial_batch(subject: &Subject) {
    let batch = sample_batch(3, 6, 100);
    let some = Batch { files: vec![batch.files[1].clone(), batch.files[4].clone()], ..batch.clone() };
    deliver(subject, &some).await;
    let receipt = deliver(subject, &batch).await;
    assert_receipt(&receipt, &batch);
    for (index, file) in receipt.files.iter().enumerate() {
        assert!(file.already_there == matches!(index, 1 | 4) || subject.faulty, "{receipt:?}");
    }
    assert_holds_exactly(subject, &[&batch]).await;
}

async fn takes_an_empty_batch(subject: &Subject) {
    let batch = sample_batch(4, 0, 0);
    assert_eq!(deliver(subject, &batch).await, Receipt::default());
    assert_holds_exactly(subject, &[]).await;
    let empty_file = sample_batch(5, 1, 0);
    deliver(subject, &empty_file).await;
    assert_holds_exactly(subject, &[&empty_file]).await;
}

async fn takes_concurrent_deliveries(subject: &Subject) {
    let batch = Arc::new(sample_batch(6, 4, 10_000));
    let each = (0..8).map(|_| {
        let (subject, batch) = (subject.clone(), Arc::clone(&batch));
        tokio::spawn(async move { deliver(&subject, &batch).await })
    });
    let mut written = [0_usize; 4];
    for task in each.collect::<Vec<_>>() {
        let receipt = task.await.expect("it does not panic");
        assert_receipt(&receipt, &batch);
        for (count, file) in written.iter_mut().zip(&receipt.files) {
            *count += usize::from(!file.already_there);
        }
    }
    assert!(subject.faulty || written == [1; 4], "each file is written by one of them: {written:?}");
    assert_holds_exactly(subject, &[&batch]).await;
}

async fn takes_many_files(subject: &Subject) {
    let batch = sample_batch(7, 300, 64);
    assert_receipt(&deliver(subject, &batch).await, &batch);
    assert_holds_exactly(subject, &[&batch]).await;
}

async fn takes_a_big_file(subject: &Subject) {
    let batch = sample_batch(8, 1, 40 << 20);
    deliver(subject, &batch).await;
    let again = deliver(subject, &batch).await;
    assert_receipt(&again, &batch);
    assert!(again.files[0].already_there, "{again:?}");
    assert_holds_exactly(subject, &[&batch]).await;
}

/// Names that need care in a URL or a file system.
async fn keeps_odd_names_apart(subject: &Subject) {
    let names =
        ["a b+c", "a%20b+c", "a%2Bb", "k=%2E.%2Fx", "ünï/東京", "!'()*;:@&=,$#?[]~^|`{}<>\"", "-", "x.tmp"];
    let span = Span::new(Offset(9), Offset(10)).expect("not empty");
    let files =
        names.iter().zip(0..).map(|(name, seed)| sample_file(&format!("odd/{name}"), seed, 16)).collect();
    let batch = Batch { id: sample_batch(9, 0, 0).id, span, files, columns: Arc::default() };
    deliver(subject, &batch).await;
    assert_holds_exactly(subject, &[&batch]).await;
}

/// Delivers as the engine does: again, until it is done.
async fn deliver(subject: &Subject, batch: &Batch) -> Receipt {
    for _ in 0..20 {
        match subject.destination.deliver(batch).await {
            Ok(receipt) => return receipt,
            Err(failure) if subject.faulty => {
                assert!(failure.retry_after.is_none_or(|wait| wait.as_secs() < 60), "{failure}");
            }
            // Concurrent writers of one file may be told to try again.
            Err(failure) if failure.kind == FailureKind::NotDone => {}
            Err(failure) => panic!("{failure:?}"),
        }
    }
    panic!("not delivered after 20 tries");
}

fn assert_receipt(receipt: &Receipt, batch: &Batch) {
    assert_eq!(receipt.files.len(), batch.files.len(), "one entry per file");
    for (delivered, file) in receipt.files.iter().zip(&batch.files) {
        assert_eq!((&delivered.path, delivered.role, delivered.rows), (&file.path, file.role, file.rows));
        assert_eq!(delivered.bytes, file.body.len() as u64, "{}", file.path);
    }
}

async fn assert_holds_exactly(subject: &Subject, batches: &[&Batch]) {
    let mut expected: Vec<&LakePath> = batches.iter().flat_map(|b| &b.files).map(|file| &file.path).collect();
    expected.sort();
    let mut found = subject.lookup.paths().await;
    found.sort();
    assert!(found.iter().eq(expected), "nothing but the batches: {found:?}");
    for file in batches.iter().flat_map(|b| &b.files) {
        let bytes = subject.lookup.bytes(&file.path).await;
        assert!(bytes.as_ref() == Some(&file.body), "the bytes of {}", file.path);
    }
}

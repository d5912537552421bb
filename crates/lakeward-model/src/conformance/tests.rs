use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::{Destination, FailureKind};

fn subject(script: &[Fault]) -> Subject {
    let memory = MemoryDestination::default();
    let faulty = Faulty::new(memory.clone(), script.iter().copied());
    for _ in script {
        faulty.release();
    }
    Subject { destination: Arc::new(faulty), lookup: Arc::new(memory), faulty: !script.is_empty() }
}

#[tokio::test]
async fn memory_passes_the_suite() {
    destination_suite(async || {
        let memory = MemoryDestination::default();
        Subject { destination: Arc::new(memory.clone()), lookup: Arc::new(memory), faulty: false }
    })
    .await;
}

#[tokio::test]
async fn every_fault_passes_the_suite() {
    let each = [
        Fault::Reject(FailureKind::NotDone),
        Fault::Reject(FailureKind::Unknown),
        Fault::Reject(FailureKind::Refused),
        Fault::FailAfterWrite,
        Fault::Hold,
        Fault::Slow(Duration::from_millis(1)),
    ];
    for fault in each {
        destination_suite(async || subject(&[fault, fault, Fault::None, fault])).await;
    }
}

#[tokio::test]
async fn faults_do_what_they_say() {
    let batch = sample_batch(0, 2, 10);
    let faulty = Faulty::new(MemoryDestination::default(), [Fault::Reject(FailureKind::Refused)]);
    let refused = faulty.deliver(&batch).await.expect_err("rejected");
    assert_eq!((refused.kind, faulty.inner().files().len()), (FailureKind::Refused, 0));
    faulty.then(Fault::FailAfterWrite);
    let lost = faulty.deliver(&batch).await.expect_err("the reply is lost");
    assert_eq!(
        (lost.kind, faulty.inner().files().len(), faulty.inner().rows()),
        (FailureKind::Unknown, 2, 14)
    );
    let receipt = faulty.deliver(&batch).await.expect("the script is used up");
    assert!(receipt.files.iter().all(|file| file.already_there));
    assert_eq!(faulty.calls(), 3);
}

#[tokio::test]
async fn a_held_call_waits_for_its_release() {
    let faulty = Arc::new(Faulty::new(MemoryDestination::default(), [Fault::Hold]));
    let held = tokio::spawn({
        let faulty = Arc::clone(&faulty);
        async move { faulty.deliver(&sample_batch(0, 1, 1)).await.is_ok() }
    });
    while faulty.calls() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!held.is_finished() && faulty.inner().files().is_empty(), "it is held");
    faulty.release();
    assert!(held.await.expect("it does not panic"));
}

#[tokio::test]
#[should_panic(expected = "nothing but the batches")]
async fn the_suite_finds_a_destination_that_forgets() {
    #[derive(Debug)]
    struct Forgetful;
    #[async_trait::async_trait]
    impl Destination for Forgetful {
        async fn deliver(&self, batch: &crate::Batch) -> Result<crate::Receipt, crate::Failure> {
            MemoryDestination::default().deliver(batch).await
        }
    }
    destination_suite(async || Subject {
        destination: Arc::new(Forgetful),
        lookup: Arc::new(MemoryDestination::default()),
        faulty: false,
    })
    .await;
}

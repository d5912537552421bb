use std::time::Duration;

use http_body_util::BodyExt;

use super::*;

/// The body of an answer whose client reads nothing for `pause` at first.
async fn read_after(pause: Duration, pieces: Answer) -> Result<Bytes, axum::Error> {
    let places = Arc::new(Semaphore::new(1));
    let place = Arc::clone(&places).try_acquire_owned().unwrap();
    let body = rest(Bytes::from_static(b"first,"), pieces, place);
    tokio::time::sleep(pause).await;
    let awake = pause < PATIENCE;
    assert_eq!(places.available_permits(), usize::from(!awake), "who is asleep keeps no place");
    body.collect().await.map(http_body_util::Collected::to_bytes)
}

fn pieces(count: usize) -> Answer {
    stream::iter(vec![Ok(Bytes::from_static(b"more,")); count]).boxed()
}

#[tokio::test(start_paused = true)]
async fn a_client_that_went_to_sleep_never_gets_a_part_as_the_whole() {
    // One that pauses shorter than it may gets everything.
    let whole = read_after(PATIENCE - Duration::from_secs(1), pieces(5)).await.unwrap();
    assert_eq!(whole, "first,more,more,more,more,more,");
    // However long it slept, also when only the end was not sent any more.
    for pause in [PATIENCE + Duration::from_secs(1), PATIENCE * 3] {
        for count in [1, 2, 5] {
            let cut = read_after(pause, pieces(count)).await;
            assert!(cut.is_err(), "{count} pieces, {pause:?}: {cut:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_that_dies_or_fails_ends_in_an_error() {
    let bug = |_| -> Result<Bytes, QueryFailure> { unreachable!("a bug") };
    let dies = stream::iter(0..1).map(bug).boxed();
    let fails = stream::iter([Err(QueryFailure::Data("no number".into()))]).boxed();
    for answer in [dies, fails] {
        let places = Arc::new(Semaphore::new(1));
        let place = Arc::clone(&places).try_acquire_owned().unwrap();
        let mut body = rest(Bytes::from_static(b"first,"), answer, place).into_data_stream();
        assert_eq!(body.try_next().await.unwrap().unwrap(), "first,");
        body.try_next().await.unwrap_err();
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_ends_when_its_client_leaves_also_between_two_pieces() {
    let places = Arc::new(Semaphore::new(1));
    let place = Arc::clone(&places).try_acquire_owned().unwrap();
    let mut body = rest(Bytes::from_static(b"first,"), stream::pending().boxed(), place).into_data_stream();
    assert_eq!(body.try_next().await.unwrap().unwrap(), "first,");
    drop(body);
    let _place = tokio::time::timeout(PATIENCE, places.acquire()).await.unwrap().unwrap();
}

use axum::body::Body;
use futures::stream;
use http_body_util::StreamBody;
use hyper::body::Frame;

use super::*;

fn chunks(parts: &[usize]) -> Body {
    let frames: Vec<_> =
        parts.iter().map(|&n| Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![b'x'; n])))).collect();
    Body::new(StreamBody::new(stream::iter(frames)))
}

#[tokio::test]
async fn reads_up_to_the_limit_and_pays_for_it() {
    let check = async |parts: &[usize], limit: u64, memory: u64, expect: Result<usize, BodyError>| {
        let budget = Budget::new(memory);
        let before = budget.free();
        let got = read(&mut chunks(parts), limit, &budget, Duration::from_secs(5)).await;
        match (&got, &expect) {
            (Ok((bytes, _)), Ok(length)) => {
                assert_eq!(bytes.len(), *length, "{parts:?}");
                assert!(before - budget.free() >= *length as u64, "{parts:?} is not paid for");
            }
            (Err(got), Err(expect)) => assert_eq!(got, expect, "{parts:?}"),
            _ => panic!("{parts:?}: {got:?}"),
        }
        drop(got);
        assert_eq!(budget.free(), before, "{parts:?} did not give its memory back");
    };
    check(&[], 10, 1 << 20, Ok(0)).await;
    check(&[10], 10, 1 << 20, Ok(10)).await;
    check(&[11], 10, 1 << 20, Err(BodyError::TooLarge(10))).await;
    check(&[5, 5, 1], 10, 1 << 20, Err(BodyError::TooLarge(10))).await;
    check(&[5000, 1, 70_000], 1 << 20, 1 << 20, Ok(75_001)).await;
    check(&[4096, 4096], 1 << 20, 4096, Err(BodyError::Busy)).await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_drips_is_dropped() {
    let drip = stream::unfold((), |()| async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
    });
    let budget = Budget::new(1 << 20);
    let got = read(&mut Body::new(StreamBody::new(drip)), 1 << 20, &budget, Duration::from_secs(30)).await;
    assert_eq!(got.map(|_| ()), Err(BodyError::Stalled));
    assert_eq!(budget.free(), 1 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_slow_body_that_goes_on_is_read() {
    let steady = stream::unfold(0, |n| async move {
        tokio::time::sleep(Duration::from_secs(20)).await;
        (n < 5).then(|| (Ok::<_, std::io::Error>(Frame::data(Bytes::from(vec![0; 20_000]))), n + 1))
    });
    let budget = Budget::new(1 << 20);
    let got = read(&mut Body::new(StreamBody::new(steady)), 1 << 20, &budget, Duration::from_secs(30)).await;
    assert_eq!(got.unwrap().0.len(), 100_000);
}

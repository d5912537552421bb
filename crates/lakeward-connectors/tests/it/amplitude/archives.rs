//! Archives that are damaged, cut or strange: never skipped, never half taken.

use lakeward_model::FailureKind;

use super::*;
use server::{archive, gzip};

/// What is no archive, or not a whole one.
fn damages() -> Vec<Fault> {
    let empty = archive(&[part("2026-03-01T00", 0, Vec::new())]);
    let no_gzip = {
        let mut bytes = empty;
        let end = bytes.len() - 30;
        bytes.truncate(end);
        bytes
    };
    vec![
        Fault::Truncated,
        Fault::Flipped,
        Fault::Body(Vec::new()),
        Fault::Body(b"<html>Sign in</html>".to_vec()),
        Fault::Body(br#"{"error": "no"}"#.to_vec()),
        Fault::Body(gzip(&lines("2026-03-01T00", 0, 3))),
        Fault::Body(b"PK\x03\x04 and nothing more".to_vec()),
        Fault::Body(no_gzip),
    ]
}

/// System C's script went on with yesterday's archive, or stopped.
#[tokio::test]
async fn a_damaged_archive_is_fetched_again() {
    for fault in damages().into_iter().chain([Fault::Cut, Fault::Stall]) {
        let mut world = days(&[DAY]);
        world.faults.extend(vec![Some(fault.clone()); 3]);
        let setting = Setting::facing(&fault, world).await;
        let slices = setting.day(DAY).await;
        let taken = setting.take_all(&slices).await;
        assert_eq!(taken.records, expected(DAY), "{fault:?}");
        assert_eq!(setting.server.asked(), vec![window("20260301T00", "20260301T23"); 4], "{fault:?}");
        assert_eq!(setting.archives(), 1, "{:?}", setting.files());
    }
}

#[tokio::test]
async fn an_hour_that_stays_damaged_is_set_aside_and_others_are_not() {
    for fault in damages() {
        let mut world = days(&[DAY]);
        world.bad.insert(hour_of(DAY, 1), fault.clone());
        let setting = Setting::start(world).await;
        let slices = setting.day(DAY).await;
        let mut taken = Taken::default();
        for (number, slice) in slices[..4].iter().enumerate() {
            let result = taken.take(&setting.source, slice, &slices[number + 1..4]).await;
            if number == 1 {
                says(&broken(result), "is not whole, also when fetched again");
            } else {
                result.expect("others are taken");
            }
        }
        assert_eq!(taken.records, [&expected(DAY)[..5], &expected(DAY)[10..20]].concat(), "{fault:?}");
        // It gets better: a run tries it again.
        setting.server.world().bad.clear();
        taken.take(&setting.source, &slices[1], &[]).await.expect("it is whole now");
        assert_eq!(taken.records[15..], expected(DAY)[5..10]);
    }
}

#[tokio::test]
async fn a_body_that_never_ends_well_is_tried_again_later() {
    for fault in [Fault::Cut, Fault::Stall] {
        let mut world = days(&[DAY]);
        world.bad.insert(hour_of(DAY, 0), fault.clone());
        let setting = Setting::facing(&fault, world).await;
        let slices = setting.day(DAY).await;
        let failure = failed(Taken::default().take(&setting.source, &slices[0], &[]).await);
        assert_eq!(failure.kind, FailureKind::Unknown);
        says(&failure.message, "asked again later");
        assert_eq!(setting.server.asked().len(), 4);
        assert!(setting.files().is_empty(), "{:?}", setting.files());
    }
}

#[tokio::test]
async fn a_slow_body_is_waited_for() {
    let mut world = days(&[DAY]);
    world.faults.push_back(Some(Fault::Dribble));
    let setting = Setting::start(world).await;
    let taken = setting.take_all(&setting.day(DAY).await).await;
    assert_eq!(taken.records, expected(DAY));
    assert_eq!(setting.server.asked().len(), 1);
}

#[tokio::test]
async fn members_that_name_no_hour_are_asked_for_hour_by_hour() {
    let mut world = days(&[DAY]);
    for name in ["export.json.gz", "1/1_2026-03-09_0#0.json.gz"] {
        let hour = hour_of(DAY, 6);
        world.hours.insert(hour.clone(), vec![(name.into(), lines(&hour, 2, 5))]);
        let setting = Setting::start(std::mem::take(&mut world)).await;
        let slices = setting.day(DAY).await;
        let taken = setting.take_all(&slices[5..8]).await;
        let (five, six, seven) = (hour_of(DAY, 5), lines(&hour, 2, 5), hour_of(DAY, 7));
        let around = |hour: &str| [lines(hour, 2, 3), lines(hour, 10, 2)].concat();
        assert_eq!(taken.records, [around(&five), six, around(&seven)].concat());
        world = days(&[DAY]);
    }
}

/// What is damaged within a member was so when it was sent.
#[tokio::test]
async fn a_file_that_is_damaged_inside_is_fetched_three_times() {
    let hour = hour_of(DAY, 0);
    let mut cut = gzip(&lines(&hour, 0, 1_000));
    cut.truncate(cut.len() - 9);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    zip.start_file("1/1_2026-03-01_0#0.json.gz", zip::write::SimpleFileOptions::default())
        .expect("it writes");
    std::io::Write::write_all(&mut zip, &cut).expect("it writes");
    let bytes = zip.finish().expect("it writes").into_inner();

    let mut world = days(&[DAY]);
    world.bad.insert(hour, Fault::Body(bytes));
    let setting = Setting::start(world).await;
    let slices = setting.day(DAY).await;
    let mut taken = Taken::default();
    for _ in 0..2 {
        let failure = failed(taken.go_on(&setting.source, &slices[0], &slices[1..3], usize::MAX).await);
        assert_eq!(failure.kind, FailureKind::Unknown);
        says(&failure.message, "has a file that is not whole");
    }
    let result = taken.go_on(&setting.source, &slices[0], &slices[1..3], usize::MAX).await;
    says(&broken(result), "it was fetched 3 times");
    assert_eq!(setting.server.asked().len(), 3);
    // What could be read of it was read once.
    let mut distinct = taken.records.clone();
    distinct.dedup();
    assert_eq!(taken.records, distinct);
}

//! What lies in the spool folder: used after a crash, never used twice.

use super::*;

/// An hour of several chunks, in several members, and one before and behind it.
fn large() -> World {
    let mut world = days(&[DAY]);
    let hour = hour_of(DAY, 1);
    let long = |number: usize| {
        let filling = "x".repeat(1_000);
        (0..1_500).map(|line| format!(r#"{{"uuid": "{number}/{line}", "text": "{filling}"}}"#)).collect()
    };
    world.hours.insert(hour.clone(), (8..12).map(|number| part(&hour, number, long(number))).collect());
    world
}

async fn whole(setting: &Setting, slices: &[Slice]) -> Taken {
    let mut taken = Taken::default();
    taken.take(&setting.source, &slices[1], &slices[2..4]).await.expect("it is taken");
    taken
}

#[tokio::test]
async fn an_hour_is_read_on_at_every_chunk_from_the_archive_that_is_there() {
    let mut setting = Setting::start(large()).await;
    let slices = setting.day(DAY).await;
    let all = whole(&setting, &slices).await;
    assert!(all.chunks >= 4, "{}", all.chunks);
    assert_eq!(setting.server.asked().len(), 1);
    for chunks in 1..=all.chunks {
        let mut taken = Taken::default();
        let mut killed = Setting::start(large()).await;
        taken.go_on(&killed.source, &slices[1], &slices[2..4], chunks).await.expect("it is read");
        killed.restart();
        taken.go_on(&killed.source, &slices[1], &slices[2..4], usize::MAX).await.expect("it is read on");
        assert_eq!(taken.records, all.records, "{chunks}");
        assert_eq!(taken.places, all.places, "{chunks}");
        assert_eq!(killed.server.asked().len(), 1, "{chunks}");
        assert!(taken.troubles.is_empty());
    }
    // Killed behind every chunk.
    let mut taken = Taken::default();
    for _ in 0..=all.chunks {
        setting.restart();
        taken.go_on(&setting.source, &slices[1], &slices[2..4], 1).await.expect("it is read on");
    }
    assert_eq!(taken.records, all.records);
}

#[tokio::test]
async fn an_hour_is_read_on_exactly_from_an_archive_that_is_fetched_again() {
    let mut setting = Setting::start(large()).await;
    let slices = setting.day(DAY).await;
    let all = whole(&setting, &slices).await;
    for chunks in 1..=all.chunks {
        let mut taken = Taken::default();
        taken.go_on(&setting.source, &slices[1], &slices[2..4], chunks).await.expect("it is read");
        for file in setting.files() {
            std::fs::remove_file(setting.spool.path().join(file)).expect("it goes");
        }
        setting.restart();
        // Another window this time.
        taken.go_on(&setting.source, &slices[1], &[], usize::MAX).await.expect("it is read on");
        assert_eq!(taken.records, all.records, "{chunks}");
        assert!(taken.troubles.is_empty(), "{:?}", taken.troubles);
    }
}

#[tokio::test]
async fn an_hour_that_has_other_files_when_fetched_again_starts_anew_and_says_so() {
    let mut setting = Setting::start(large()).await;
    let slices = setting.day(DAY).await;
    let all = whole(&setting, &slices).await;
    let mut taken = Taken::default();
    taken.go_on(&setting.source, &slices[1], &[], 2).await.expect("it is read");
    let half = taken.records.clone();
    for file in setting.files() {
        std::fs::remove_file(setting.spool.path().join(file)).expect("it goes");
    }
    // The same events in one file.
    let hour = hour_of(DAY, 1);
    setting.server.world().hours.insert(hour.clone(), vec![part(&hour, 0, all.records.clone())]);
    setting.restart();
    taken.go_on(&setting.source, &slices[1], &[], usize::MAX).await.expect("it is read");
    assert_eq!(taken.records, [half, all.records].concat());
    assert_eq!(taken.troubles.len(), 1);
    says(&taken.troubles[0], "it is read from its start");
}

#[tokio::test]
async fn an_hour_of_which_nothing_is_left_when_fetched_again_is_set_aside() {
    let mut setting = Setting::start(large()).await;
    let slices = setting.day(DAY).await;
    let mut taken = Taken::default();
    taken.go_on(&setting.source, &slices[1], &[], 2).await.expect("it is read");
    let hours = setting.server.world().hours.clone();
    for beside in [&slices[2..2], &slices[2..4]] {
        for file in setting.files() {
            std::fs::remove_file(setting.spool.path().join(file)).expect("it goes");
        }
        setting.server.world().hours.remove(&hour_of(DAY, 1));
        setting.restart();
        let result = taken.go_on(&setting.source, &slices[1], beside, usize::MAX).await;
        says(&broken(result), "was read in part");
    }
    // A run tries it again: it is asked for, not remembered.
    setting.server.world().hours = hours;
    taken.go_on(&setting.source, &slices[1], &[], usize::MAX).await.expect("it is read on");
    assert_eq!(taken.records, whole(&setting, &slices).await.records);
}

/// System C unpacked yesterday's archive when today's could not be fetched, and
/// uploaded what failed runs had left.
#[tokio::test]
async fn nothing_stale_is_ever_read() {
    let mut setting = Setting::start(days(&[DAY])).await;
    let slices = setting.day(DAY).await;
    setting.take_all(&slices[..3]).await;
    assert_eq!(setting.archives(), 1);
    // Wanted once more from its start, an hour is what it is now.
    let hour = hour_of(DAY, 1);
    setting.server.world().hours.insert(hour.clone(), vec![part(&hour, 0, vec!["new".into()])]);
    for _ in 0..2 {
        setting.restart();
        let mut taken = Taken::default();
        taken.take(&setting.source, &slices[1], &[]).await.expect("it is taken");
        assert_eq!(taken.records, ["new"]);
        assert_eq!(setting.server.asked().last(), Some(&window("20260301T01", "20260301T01")));
    }
    // What a process that was killed was fetching goes.
    let names = setting.files();
    let project = names.iter().find_map(|name| name.split_once('_')).expect("an archive").0;
    let left = setting.spool.path().join(format!("fetching-{project}-1"));
    std::fs::write(&left, "PK").expect("it writes");
    setting.restart();
    assert!(!left.exists());
    // An archive of another project is not this one's.
    let before = setting.server.asked().len();
    setting.config.endpoint =
        setting.config.endpoint.map(|address| address.replace("127.0.0.1", "localhost"));
    setting.restart();
    Taken::default().take(&setting.source, &slices[5], &[]).await.expect("it is taken");
    assert_eq!(setting.server.asked().len(), before + 1);
}

#[tokio::test]
async fn archives_go_after_a_while() {
    let setting = Setting::with(days(&[DAY]), |config| config.window = 4).await;
    let slices = setting.day(DAY).await;
    for (number, slice) in slices.iter().enumerate() {
        Taken::default().take(&setting.source, slice, &slices[number + 1..]).await.expect("it is taken");
    }
    assert_eq!(setting.server.asked().len(), 6);
    // A little of each may not be durable yet.
    assert_eq!(setting.archives(), 6);
    setting.clock.set(instant("2026-03-09T00:00:00Z"));
    Taken::default().take(&setting.source, &slices[0], &[]).await.expect("it is taken");
    assert_eq!(setting.archives(), 1, "{:?}", setting.files());
}

#[tokio::test]
async fn a_reader_that_is_dropped_lets_go_of_its_archive() {
    let setting = Setting::start(large()).await;
    let slices = setting.day(DAY).await;
    let mut taken = Taken::default();
    taken.go_on(&setting.source, &slices[1], &[], 1).await.expect("it is read");
    let folder = setting.spool.path().canonicalize().expect("a folder");
    let open = || {
        let files = std::fs::read_dir("/proc/self/fd").expect("what is open");
        files
            .flatten()
            .filter_map(|fd| std::fs::read_link(fd.path()).ok())
            .filter(|to| to.starts_with(&folder))
            .count()
    };
    let deadline = lakeward_model::clock::Stopwatch::start();
    while open() > 0 {
        assert!(deadline.elapsed() < Duration::from_secs(10), "it is still open");
        tokio::task::yield_now().await;
    }
}

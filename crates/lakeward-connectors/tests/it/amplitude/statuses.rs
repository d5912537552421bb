//! What each status, and each silence, means.

use lakeward_model::FailureKind;

use super::*;

/// Takes the first hour of the day with this fault in the way of every request.
async fn first_hour(fault: Fault) -> (Setting, Result<(), SliceFailure>) {
    let mut world = days(&[DAY]);
    world.bad.insert(hour_of(DAY, 0), fault.clone());
    let setting = Setting::facing(&fault, world).await;
    let slices = setting.day(DAY).await;
    let result = Taken::default().take(&setting.source, &slices[0], &[]).await;
    (setting, result)
}

#[tokio::test]
async fn statuses_that_are_nobodys_hours_fault() {
    use FailureKind::{NotDone, Refused, Unknown};
    let keys = "check that api_key and secret_key";
    let plan = "whether the plan has exports";
    for (status, headers, kind, wait, text) in [
        (401, "", Refused, None, keys),
        (403, "", Refused, None, keys),
        (402, "", Refused, None, plan),
        (405, "", Refused, None, plan),
        (429, "Retry-After: 7\r\n", NotDone, Some(7), "answered 429"),
        (429, "Retry-After: Mon, 02 Mar 2026 12:00:09 GMT\r\n", NotDone, Some(9), "answered 429"),
        (429, "", NotDone, None, "answered 429"),
        (503, "Retry-After: 3\r\n", NotDone, Some(3), "answered 503"),
        (500, "", Unknown, None, "answered 500"),
        (502, "", Unknown, None, "answered 502"),
        (204, "", Unknown, None, "answered 204"),
        (504, "", Unknown, None, "preparing the export took too long"),
    ] {
        let body = "an-api-key:hush-hush Invalid API Key an-api-key YW4tYXBpLWtleTpodXNoLWh1c2g=";
        let (setting, result) = first_hour(Fault::Status(status, headers, body)).await;
        let failure = failed(result);
        let waited = failure.retry_after.map(|wait| wait.as_secs());
        assert_eq!((failure.kind, waited), (kind, wait), "{status}: {failure}");
        says(&failure.message, text);
        assert!(!format!("{failure:?}").contains("YW4tYXBp"), "{failure:?}");
        assert_eq!(setting.server.asked().len(), 1, "{status}");
        assert!(setting.files().is_empty(), "{status}: {:?}", setting.files());
    }
}

#[tokio::test]
async fn nobody_is_asked_while_the_other_side_wants_a_pause() {
    let mut world = days(&[DAY]);
    world.faults.push_back(Some(Fault::Status(429, "Retry-After: 600\r\n", "")));
    let setting = Setting::start(world).await;
    let slices = setting.day(DAY).await;
    let mut taken = Taken::default();
    failed(taken.take(&setting.source, &slices[0], &[]).await);
    setting.clock.set(instant("2026-03-02T12:09:59Z"));
    let again = failed(taken.take(&setting.source, &slices[1], &[]).await);
    assert_eq!(again.retry_after, Some(Duration::from_secs(1)));
    assert_eq!(setting.server.asked().len(), 1);
    setting.clock.set(instant("2026-03-02T12:10:00Z"));
    taken.take(&setting.source, &slices[0], &[]).await.expect("the pause is over");
    assert_eq!(setting.server.asked().len(), 2);
}

#[tokio::test]
async fn a_window_that_is_too_large_is_halved_and_that_is_remembered() {
    for fault in [Fault::Status(400, "", ""), Fault::Status(504, "", ""), Fault::Hang] {
        let mut world = days(&[DAY, "2026-03-02"]);
        world.most = Some((3, fault.clone()));
        let mut setting = Setting::facing(&fault, world).await;
        let slices = setting.day(DAY).await;
        let taken = setting.take_all(&slices[..12]).await;
        // 12 and 6 are too many, 3 are not.
        let sizes = ["11", "05", "02", "05", "08", "11"];
        let ends: Vec<String> = setting.server.asked().into_iter().map(|(_, end)| end).collect();
        assert_eq!(ends, sizes.map(|hour| format!("20260301T{hour}")), "{fault:?}");
        setting.restart();
        let rest = setting.take_all(&slices[12..]).await;
        assert_eq!([taken.records, rest.records].concat(), expected(DAY));
        assert_eq!(setting.server.asked().len(), 6 + 4, "{fault:?}");
    }
}

#[tokio::test]
async fn an_hour_that_is_too_large_is_set_aside_and_says_what_to_do() {
    let mut world = days(&[DAY]);
    world.bad.insert(hour_of(DAY, 2), Fault::Status(400, "", "too large"));
    let setting = Setting::start(world).await;
    let slices = setting.day(DAY).await;
    let mut taken = Taken::default();
    for (number, slice) in slices.iter().enumerate() {
        let result = taken.take(&setting.source, slice, &slices[number + 1..]).await;
        if number == 2 {
            says(&broken(result), "Use Amplitude's S3 export and an `objects` source");
        } else {
            result.expect("others are taken");
        }
    }
    assert_eq!(taken.records.len(), expected(DAY).len() - 5);
}

#[tokio::test]
async fn an_archive_that_is_too_large_for_the_disk_is_halved_too() {
    let mut world = World::default();
    for hour in (0..4).map(|hour| hour_of(DAY, hour)) {
        // What deflate cannot make smaller.
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            format!("{:016x}", state)
        };
        let text: Vec<String> = (0..60_000).map(|_| random()).collect();
        world.hours.insert(hour.clone(), vec![part(&hour, 0, text)]);
    }
    let limit = |config: &mut AmplitudeConfig| config.archive_max = 1 << 20;
    let setting = Setting::with(world, limit).await;
    let slices = setting.day(DAY).await;
    let taken = setting.take_all(&slices[..4]).await;
    assert_eq!(taken.records.len(), 240_000);
    assert!(setting.server.asked().len() > 4);
    let (one, all) = (part("2026-03-01T05", 0, vec!["x".into()]), Fault::Body(vec![b'P'; 2 << 20]));
    setting.server.world().hours.insert(hour_of(DAY, 5), vec![one]);
    setting.server.world().bad.insert(hour_of(DAY, 5), all);
    let result = Taken::default().take(&setting.source, &slices[5], &[]).await;
    says(&broken(result), "raise archive_max");
}

#[tokio::test]
async fn the_keys_go_nowhere_else() {
    let elsewhere = Server::start(days(&[DAY])).await;
    let location =
        format!("Location: {}/api/2/export?start=20260301T00&end=20260301T00\r\n", elsewhere.address);
    for status in [301, 302, 307, 308] {
        let (_setting, result) = first_hour(Fault::Status(status, location.clone().leak(), "")).await;
        let failure = failed(result);
        assert_eq!(failure.kind, FailureKind::Refused);
        says(&failure.message, "a redirection to");
    }
    assert!(elsewhere.asked().is_empty());
}

#[tokio::test]
async fn a_server_that_is_no_export_api_is_not_an_empty_project() {
    let (_setting, result) = first_hour(Fault::Status(404, "", "<!doctype html><h1>404</h1>")).await;
    says(&failed(result).message, "which the Export API does not");
    let (setting, result) = first_hour(Fault::Hang).await;
    let failure = failed(result);
    assert_eq!(failure.kind, FailureKind::Unknown);
    says(&failure.message, "no reply within");
    drop(setting.server);
    let away =
        Setting::with(World::default(), |config| config.endpoint = Some("http://127.0.0.1:9".into())).await;
    let slices = away.day(DAY).await;
    says(&failed(Taken::default().take(&away.source, &slices[0], &[]).await).message, "cannot be reached");
}

#[test]
fn bad_configurations_say_what_to_change() {
    let folder = tempfile::tempdir().expect("a folder");
    let check = |change: fn(&mut AmplitudeConfig), text: &str| {
        let mut config = config("http://127.0.0.1:9");
        change(&mut config);
        let error = AmplitudeSource::open(&config, folder.path()).expect_err("it cannot be used");
        says(&error.to_string(), text);
    };
    check(|c| c.api_key = Secret::new(""), "give the project's API key and secret key");
    check(|c| c.secret_key = Secret::new("a b"), "another character that no key has");
    check(|c| c.from = String::new(), "say which hour of upload is the first");
    check(|c| c.from = "01.03.2026".into(), "a day or an hour in UTC since 2012");
    check(
        |c| c.endpoint = Some("http://example.com".into()),
        "plain http to another machine would show the keys",
    );
    check(|c| c.endpoint = Some("https://analytics.amplitude.com".into()), "that is the web site's host");
    check(
        |c| c.region = Some(lakeward_connectors::sources::amplitude::AmplitudeRegion::Eu),
        "not together with region",
    );
    check(|c| c.window = 10_000, "between 1 and 8,760 hours");
    check(|c| c.parallel = 9, "between 1 and 4: Amplitude allows few requests");
    check(|c| c.archive_max = 0, "at least 1MiB");
    check(|c| c.spool = Some("/proc/nowhere".into()), "cannot be used");
}

//! Whether slices may be taken once more without doubling what is in the lake.

use std::time::Duration;

use lakeward_columnar::shape::Dedup;
use lakeward_engine::PipelineSpec;
use lakeward_model::Timestamp;
use lakeward_model::clock::{Clock, SystemClock};

use super::Sliced;
use super::api::{SliceLine, Wanted};
use super::session::Session;
use crate::config::Config;
use crate::exit::{Code, coded};

/// The oldest of what is to be taken once more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Oldest {
    taken_at: Option<Timestamp>,
    date: Option<Timestamp>,
}

impl Oldest {
    fn add(&mut self, slice: &SliceLine) {
        let Some(taken_at) = slice.taken_at else { return };
        let earlier =
            |known: Option<Timestamp>, new: Timestamp| Some(known.map_or(new, |known| known.min(new)));
        self.taken_at = earlier(self.taken_at, taken_at.0);
        if let Some(date) = slice.date {
            self.date = earlier(self.date, date.0);
        }
    }
}

/// Looks whether every pipeline would know the records that it has.
///
/// # Errors
/// One would not; the message says what to do instead.
pub(super) async fn check(
    session: &Session<'_>,
    config: &Config,
    source: &Sliced,
    wanted: &Wanted,
) -> anyhow::Result<()> {
    let mut specs = config.pipelines.iter().map(|p| p.spec()).collect::<anyhow::Result<Vec<_>>>()?;
    let made: Vec<PipelineSpec> = session.remote().get("/v1/pipelines").await?;
    let is_new = |spec: &PipelineSpec| !config.pipelines.iter().any(|known| known.name == spec.name);
    specs.extend(made.into_iter().filter(is_new));
    let ours: Vec<&PipelineSpec> = source.pipelines(&specs).collect();
    // Before the source is asked for anything.
    problems(&ours, Oldest::default(), SystemClock.now())?;
    let mut oldest = Oldest::default();
    let mut after: Option<String> = None;
    loop {
        let page = session.remote().slices(&source.name, wanted, after.as_deref()).await?;
        page.slices.iter().for_each(|slice| oldest.add(slice));
        match page.next {
            Some(next) => after = Some(next),
            None => return problems(&ours, oldest, SystemClock.now()),
        }
    }
}

fn problems(pipelines: &[&PipelineSpec], oldest: Oldest, now: Timestamp) -> anyhow::Result<()> {
    for spec in pipelines {
        let name = &spec.name;
        let Some(Dedup { window, time, .. }) = &spec.shape.dedup else {
            return Err(coded(
                Code::Usage,
                format!(
                    "the pipeline {name} would deliver every record once more: give it `dedup: {{ key: [uuid], window: 400d }}`, or replace what is there with `lakeward backfill apply {name} --replace`"
                ),
            ));
        };
        let since = if time.is_some() { oldest.date } else { oldest.taken_at };
        let Some(since) = since.or(oldest.taken_at) else { continue };
        let age = now.since(since);
        if age >= *window {
            return Err(coded(
                Code::Usage,
                format!(
                    "the pipeline {name} remembers keys for {}, but part of what is to be taken once more is {} old and would be doubled: choose a later range, or replace what is there with `lakeward backfill apply {name} --replace`",
                    days(*window),
                    days(age)
                ),
            ));
        }
    }
    Ok(())
}

fn days(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 172_800.. => format!("{} days", seconds / 86_400),
        seconds => format!("{} hours", seconds.div_ceil(3_600)),
    }
}

#[cfg(test)]
mod tests {
    use lakeward_columnar::shape::{DedupKey, Shape};
    use lakeward_engine::BatchLimits;
    use lakeward_model::StreamName;

    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn spec(dedup: Option<(u64, Option<&str>)>) -> PipelineSpec {
        let dedup = dedup.map(|(hours, time)| Dedup {
            key: DedupKey::Columns(vec!["uuid".into()]),
            window: Duration::from_secs(hours * 3_600),
            time: time.map(Into::into),
        });
        PipelineSpec {
            name: "p".into(),
            stream: StreamName::new("s").unwrap(),
            shape: Shape { dedup, ..Shape::default() },
            from_latest: false,
            batch: BatchLimits::default(),
            destination: serde_json::Value::Null,
            catalog: None,
            owner: None,
        }
    }

    #[test]
    fn only_what_is_remembered_is_taken_once_more() {
        let check = |spec: &PipelineSpec, taken: Option<i64>, date: Option<i64>, words: &str| {
            let at = |hours: Option<i64>| hours.map(|hours| Timestamp(hours * HOUR));
            let oldest = Oldest { taken_at: at(taken), date: at(date) };
            let said = problems(&[spec], oldest, Timestamp(100 * HOUR));
            match (said, words) {
                (Ok(()), "") => {}
                (Err(error), words) if !words.is_empty() => {
                    assert!(error.to_string().contains(words), "{error}");
                    assert_eq!(crate::exit::code_of(&error), Code::Usage);
                }
                (said, words) => panic!("{said:?}, not {words:?}"),
            }
        };
        check(&spec(None), None, None, "dedup: { key: [uuid]");
        let by_arrival = spec(Some((24, None)));
        check(&by_arrival, None, None, "");
        check(&by_arrival, Some(80), Some(0), "");
        check(&by_arrival, Some(70), Some(0), "is 30 hours old");
        let by_event = spec(Some((48, Some("event_time"))));
        check(&by_event, Some(80), Some(60), "");
        check(&by_event, Some(99), Some(1), "is 4 days old");
    }
}

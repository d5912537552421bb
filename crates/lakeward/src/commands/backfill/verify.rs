//! `lakeward backfill verify`: the source, counted once more, against what was
//! taken, what was settled, and the files in the lake.

use std::collections::VecDeque;
use std::time::Duration;

use comfy_table::Cell;
use lakeward_engine::{RunKind, RunRequest, RunSlice, RunSliceState, SliceState, SliceStatus};
use lakeward_model::SliceId;
use serde::Serialize;
use uuid::Uuid;

use super::arguments::{Part, PartArguments};
use super::plan::range;
use crate::audit::Audit;
use crate::commands::audit::audit_all;
use crate::config::Config;
use crate::exit::{Code, coded};
use crate::service::Signals;
use crate::sliced::Sliced;
use crate::sliced::follow::{Ending, Until, follow};
use crate::sliced::session::{Own, Session, inspect};
use crate::sliced::take::{Expected, verdict};
use crate::terminal::{self, Output, count, plural, right};

/// How long to wait for the state directory after the service has ended.
const CHANGE_OF_HANDS: Duration = Duration::from_secs(30);
/// Differences that are told one by one to people.
const DIFFERENCES_TOLD: usize = 50;

/// Count a range of the source behind a pipeline once more, and name every
/// slice of which the lake does not hold just that. Ends with 0 if all is well,
/// with 75 if something is still on its way, with 65 if something differs.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    #[command(flatten)]
    part: PartArguments,
    /// Give up when nothing has moved for so long; the next one goes on.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = crate::commands::dev::parse_time)]
    give_up_after: Duration,
}

/// A slice that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Difference {
    name: String,
    id: SliceId,
    /// Records at the source now.
    source: Option<u64>,
    /// Records that were taken.
    taken: Option<u64>,
    /// Records that the pipeline delivered, filtered, dropped as duplicates or
    /// put into quarantine.
    settled: u64,
    /// Rows of it in the lake.
    rows: u64,
    problem: String,
    /// It is on its way; another look may find it well.
    pending: bool,
}

/// The slices added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
struct Sum {
    slices: u64,
    not_ready: u64,
    source_records: u64,
    taken_records: u64,
    settled_records: u64,
    rows: u64,
    differences: u64,
    pending: u64,
    /// Of the differences: what an apply takes.
    #[serde(skip)]
    missing: u64,
    /// Of the differences: what is taken and has more records now.
    #[serde(skip)]
    grown: u64,
}

impl Verify {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let part = self.part.find()?;
        let Part { config, source, wanted, .. } = &part;
        let mut signals = Signals::listen()?;
        let mut session = Session::open(config, source, self.give_up_after, Own::Works, out).await?;
        let request =
            RunRequest { kind: RunKind::Count, wanted: wanted.clone(), again: false, replace: None };
        let run = session.remote().start_run(&source.name, &request).await?;
        let patience = self.give_up_after;
        let (run, ending) = follow(&mut session, run, Until::Taken, patience, &mut signals, out).await?;
        let (_, code) = verdict(&run, &ending, Expected::default());
        // What cannot be read now is a difference among others.
        if ending != Ending::Ended || !matches!(code, Code::Done | Code::Data) {
            let said = run.error.map(|error| error.message).or(run.last_error);
            let said = said.map(|said| format!(": {said}")).unwrap_or_default();
            session.close(config.drain_grace, &mut signals).await;
            return Err(coded(
                code,
                format!("the source could not be counted{said}; the same command goes on"),
            ));
        }
        let mut told = Vec::new();
        let sum = compare(&session, &part, run.id, &mut told, out).await?;
        session.close(config.drain_grace, &mut signals).await;
        let audit = files(config, &part.pipeline).await?;
        report(&part, &sum, &told, audit.as_ref(), out)
    }
}

/// Compares slice by slice, both lists being in the order of their names.
async fn compare(
    session: &Session<'_>,
    part: &Part,
    run: Uuid,
    told: &mut Vec<Difference>,
    out: &Output,
) -> anyhow::Result<Sum> {
    let Part { pipeline, source, wanted, .. } = part;
    let mut counted = Counted { run, page: VecDeque::new(), after: None, ended: false };
    let mut sum = Sum::default();
    let mut after: Option<String> = None;
    loop {
        let page = session.remote().slices(&source.name, wanted, after.as_deref()).await?;
        for slice in page.slices {
            let at_source = counted.of(session, &slice).await?;
            let Some(difference) = sum.add(&slice, at_source.as_ref(), pipeline) else { continue };
            if out.is_json() {
                out.json(&difference)?;
            } else if told.len() < DIFFERENCES_TOLD {
                told.push(difference);
            }
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(sum),
        }
    }
}

/// Tells what came of it, and answers how the command ends.
fn report(
    part: &Part,
    sum: &Sum,
    told: &[Difference],
    audit: Option<&Audit>,
    out: &Output,
) -> anyhow::Result<Code> {
    let Part { pipeline, source, wanted, .. } = part;
    let balanced = audit.is_none_or(|audit| audit.balanced);
    let code = match (sum.differences, sum.pending, balanced) {
        (0, 0, true) => Code::Done,
        (0, _, true) => Code::TryAgain,
        _ => Code::Data,
    };
    if out.is_json() {
        let findings = audit.map(|audit| &audit.findings);
        out.json(&serde_json::json!({
            "ok": code == Code::Done, "verified": code == Code::Done, "pipeline": pipeline,
            "source": source.name, "wanted": wanted, "sum": sum, "lake_balanced": balanced,
            "findings": findings,
        }))?;
        return Ok(code);
    }
    if !told.is_empty() {
        out.say(table(told).to_string());
    }
    let untold = (sum.differences + sum.pending).saturating_sub(told.len() as u64);
    if untold > 0 {
        out.say(format!("and {} more; --json names all", count(untold)));
    }
    out.say(format!("{} of {}, {}", plural(sum.slices, "slice"), source.name, range(wanted)));
    out.say(format!(
        "  at the source {} records, taken {}, settled {} as {}",
        count(sum.source_records),
        count(sum.taken_records),
        count(sum.settled_records),
        plural(sum.rows, "row")
    ));
    if sum.not_ready > 0 {
        out.say(format!("  {} not ready yet, and not counted", plural(sum.not_ready, "slice")));
    }
    if let Some(audit) = audit {
        out.say(format!(
            "  in the lake: {} of {} files, {} of {} rows of {}",
            count(audit.files_found),
            count(audit.files_expected),
            count(audit.rows_found),
            count(audit.rows_expected),
            pipeline
        ));
        audit
            .findings
            .iter()
            .for_each(|finding| out.say(format!("  ! {}: {}", finding.file, finding.problem)));
    }
    out.say(match code {
        Code::Done => String::from("verified: the lake holds just what the source has"),
        Code::TryAgain => format!("{} on the way; try again", plural(sum.pending, "slice")),
        _ if sum.differences == 0 => String::from("NOT verified: the lake does not hold what was delivered"),
        _ => format!(
            "NOT verified: {} not as they should be{}",
            plural(sum.differences, "slice"),
            remedy(pipeline, source, sum)
        ),
    });
    Ok(code)
}

/// What takes what is missing.
fn remedy(pipeline: &str, source: &Sliced, sum: &Sum) -> String {
    let mut said = String::new();
    if sum.missing > 0 {
        said.push_str(&format!("; `lakeward backfill apply {pipeline}` takes what is missing"));
    }
    if sum.grown > 0 {
        said.push_str(&format!(
            "; `lakeward pull {} --force` with this range takes what came later into {} taken before",
            source.name,
            plural(sum.grown, "slice")
        ));
    }
    said
}

/// Audits the pipeline's lake: its files are as they were delivered.
async fn files(config: &Config, pipeline: &str) -> anyhow::Result<Option<Audit>> {
    let inspected = inspect(config, CHANGE_OF_HANDS).await?;
    Ok(audit_all(&inspected, config, Some(pipeline)).await?.pop())
}

/// The slices of a count, read beside the list of the source's.
struct Counted {
    run: Uuid,
    page: VecDeque<RunSlice>,
    after: Option<String>,
    ended: bool,
}

impl Counted {
    /// The count of a slice, which lies behind all that were asked for before.
    async fn of(&mut self, session: &Session<'_>, slice: &SliceStatus) -> anyhow::Result<Option<RunSlice>> {
        loop {
            while let Some(first) = self.page.front() {
                if first.name > slice.name {
                    return Ok(None);
                }
                let found =
                    self.page.pop_front().filter(|first| first.name == slice.name && first.id == slice.id);
                if found.is_some() {
                    return Ok(found);
                }
            }
            if self.ended {
                return Ok(None);
            }
            let (page, next) = session.remote().run_slices(self.run, self.after.as_deref()).await?;
            self.page = page.into();
            self.ended = next.is_none();
            self.after = next;
        }
    }
}

impl Sum {
    /// Adds a slice; says how it differs, if it does.
    fn add(&mut self, slice: &SliceStatus, counted: Option<&RunSlice>, pipeline: &str) -> Option<Difference> {
        self.slices += 1;
        // The last reading is the one to compare with what the source has now.
        let (taken, pipelines) = match &slice.again {
            Some(again) => (Some(again.records), &again.pipelines),
            None => (slice.records, &slice.pipelines),
        };
        let counts = pipelines.get(pipeline).copied().unwrap_or_default();
        let others = slice.others.get(pipeline).copied().unwrap_or_default();
        let source = counted.filter(|counted| readable(counted)).map(|counted| counted.records);
        let settled = counts.records();
        let rows = counts.rows + others.rows;
        // What the last reading repeats of the others is dropped from it.
        let besides = others.delivered.saturating_sub(counts.duplicates);
        self.source_records += source.unwrap_or(0);
        self.taken_records += taken.unwrap_or(0);
        self.settled_records += settled;
        self.rows += rows;
        if slice.state == SliceState::NotReady {
            self.not_ready += 1;
            return None;
        }
        let numbers = Numbers { source, taken: taken.unwrap_or(0), settled, besides };
        let (problem, pending) = problem(slice, counted, numbers)?;
        if slice.state == SliceState::Taken && source > taken {
            self.grown += 1;
        } else if matches!(slice.state, SliceState::New | SliceState::Changed | SliceState::SetAside) {
            self.missing += 1;
        }
        if pending {
            self.pending += 1;
        } else {
            self.differences += 1;
        }
        let (name, id) = (slice.name.clone(), slice.id);
        Some(Difference { name, id, source, taken, settled, rows, problem, pending })
    }
}

fn readable(counted: &RunSlice) -> bool {
    matches!(counted.state, RunSliceState::Counted | RunSliceState::Empty | RunSliceState::Exported)
}

/// A slice in numbers of records.
#[derive(Debug, Clone, Copy)]
struct Numbers {
    /// At the source now, if it was counted.
    source: Option<u64>,
    /// Taken when it was read last.
    taken: u64,
    /// Those of them that are settled.
    settled: u64,
    /// Delivered of its other readings, and not repeated by the last one.
    besides: u64,
}

/// What is wrong with a slice, and whether it is only on its way.
fn problem(slice: &SliceStatus, counted: Option<&RunSlice>, numbers: Numbers) -> Option<(String, bool)> {
    let Numbers { source, taken, settled, besides } = numbers;
    let unread = || {
        let reason = counted.and_then(|counted| counted.reason.as_deref());
        reason.map_or_else(
            || String::from("it was not counted"),
            |reason| format!("it cannot be read now: {reason}"),
        )
    };
    Some(match slice.state {
        SliceState::NotReady => return None,
        SliceState::New => match source {
            Some(0) => return None,
            Some(records) => (format!("{} not taken yet", plural(records, "record")), false),
            None => (format!("not taken yet, and {}", unread()), false),
        },
        SliceState::Open => (String::from("it is being taken"), true),
        SliceState::Changed => (String::from("it was taken, and the source has other content since"), false),
        SliceState::SetAside => {
            (format!("set aside: {}", slice.reason.as_deref().unwrap_or("unknown")), false)
        }
        SliceState::Taken => match source {
            None => (unread(), false),
            Some(source) if source > taken => {
                (format!("{} at the source were not taken", plural(source - taken, "record")), false)
            }
            Some(source) if source < taken => (
                format!("{} taken that the source does not have now", plural(taken - source, "record")),
                false,
            ),
            Some(_) if settled < taken => {
                (format!("{} not delivered yet", plural(taken - settled, "record")), true)
            }
            Some(_) if settled > taken => {
                (format!("{} settled that were not taken", plural(settled - taken, "record")), false)
            }
            Some(_) if besides > 0 => (
                format!(
                    "{} of its other versions or earlier readings in the lake, too",
                    plural(besides, "record")
                ),
                false,
            ),
            Some(_) => return None,
        },
    })
}

fn table(all: &[Difference]) -> comfy_table::Table {
    let mut table = terminal::table(&["slice", "source", "taken", "settled", "rows", "what"]);
    for difference in all {
        let number = |n: Option<u64>| right(n.map(count).unwrap_or_default());
        table.add_row([
            Cell::new(&difference.name),
            number(difference.source),
            number(difference.taken),
            right(count(difference.settled)),
            right(count(difference.rows)),
            Cell::new(&difference.problem),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use lakeward_engine::SliceCounts;

    use super::*;

    fn slice(state: &str, records: Option<u64>, settled: u64) -> SliceStatus {
        serde_json::from_value(serde_json::json!({
            "name": "a", "id": "1", "state": state, "records": records, "reason": "cut", "captured": {},
            "pipelines": { "p": { "delivered": settled, "rows": settled }, "q": { "delivered": 7 } },
        }))
        .unwrap()
    }

    fn counted(state: RunSliceState, records: u64) -> RunSlice {
        let reason = (state == RunSliceState::Failed).then(|| String::from("no zip"));
        RunSlice { name: "a".into(), id: SliceId(1), state, records, bytes: 0, reason }
    }

    #[test]
    fn every_slice_that_differs_is_named() {
        let check = |slice: &SliceStatus, counted: Option<&RunSlice>, words: &str, pending: bool| {
            let mut sum = Sum::default();
            let found = sum.add(slice, counted, "p");
            let said = found.as_ref().map(|found| (found.problem.as_str(), found.pending));
            let expect = (!words.is_empty()).then_some((words, pending));
            assert_eq!(said, expect);
            let problems = (sum.differences, sum.pending);
            assert_eq!(
                problems,
                (u64::from(expect == Some((words, false))), u64::from(expect == Some((words, true))))
            );
        };
        let n = |records| counted(RunSliceState::Counted, records);
        check(&slice("taken", Some(5), 5), Some(&n(5)), "", false);
        check(&slice("taken", Some(0), 0), Some(&counted(RunSliceState::Empty, 0)), "", false);
        check(&slice("taken", Some(5), 5), Some(&n(7)), "2 records at the source were not taken", false);
        check(
            &slice("taken", Some(5), 5),
            Some(&n(4)),
            "1 record taken that the source does not have now",
            false,
        );
        check(&slice("taken", Some(5), 3), Some(&n(5)), "2 records not delivered yet", true);
        check(&slice("taken", Some(5), 6), Some(&n(5)), "1 record settled that were not taken", false);
        check(&slice("taken", Some(5), 5), None, "it was not counted", false);
        // A run took it once more, and dropped what was there.
        let readings = |records: u64, delivered: u64, duplicates: u64, others: u64| {
            let mut slice = slice("taken", Some(5), 5);
            slice.again = serde_json::from_value(serde_json::json!({
                "id": "2", "records": records, "taken_at": "2026-03-01T05:00:00Z",
                "pipelines": { "p": { "delivered": delivered, "duplicates": duplicates } },
            }))
            .unwrap();
            slice.others.insert("p".into(), SliceCounts { delivered: others, ..SliceCounts::default() });
            slice
        };
        check(&readings(7, 2, 5, 5), Some(&n(7)), "", false);
        check(&readings(7, 2, 5, 5), Some(&n(8)), "1 record at the source were not taken", false);
        check(&readings(7, 2, 3, 5), Some(&n(7)), "2 records not delivered yet", true);
        let twice = "5 records of its other versions or earlier readings in the lake, too";
        check(&readings(7, 7, 0, 5), Some(&n(7)), twice, false);
        let mut other = slice("taken", Some(5), 5);
        other.others.insert("p".into(), SliceCounts { delivered: 5, ..SliceCounts::default() });
        check(&other, Some(&n(5)), twice, false);
        let failed = counted(RunSliceState::Failed, 0);
        check(&slice("taken", Some(5), 5), Some(&failed), "it cannot be read now: no zip", false);
        check(&slice("new", None, 0), Some(&n(5)), "5 records not taken yet", false);
        check(&slice("new", None, 0), Some(&counted(RunSliceState::Empty, 0)), "", false);
        check(&slice("not_ready", None, 0), None, "", false);
        check(&slice("open", None, 0), Some(&n(5)), "it is being taken", true);
        check(&slice("set_aside", None, 0), Some(&failed), "set aside: cut", false);
        check(
            &slice("changed", Some(5), 5),
            Some(&n(5)),
            "it was taken, and the source has other content since",
            false,
        );
    }

    #[test]
    fn numbers_are_those_of_the_pipeline() {
        let mut sum = Sum::default();
        sum.add(&slice("taken", Some(5), 5), Some(&counted(RunSliceState::Counted, 5)), "q");
        assert_eq!((sum.settled_records, sum.rows, sum.differences), (7, 0, 1));
    }
}

//! `lakeward backfill plan`, and the dry run of `lakeward pull`.

use std::collections::BTreeMap;
use std::time::Duration;

use comfy_table::Cell;
use lakeward_engine::{Asked, SliceState, SliceStatus};
use serde::Serialize;

use super::arguments::{Part, PartArguments};
use crate::config::Config;
use crate::exit::Code;
use crate::remote::Remote;
use crate::sliced::Sliced;
use crate::sliced::instant::{day, minute};
use crate::sliced::session::{Own, Session};
use crate::terminal::{self, Output, bytes, count, plural, right};

/// How long a process that starts or ends is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// More slices than that are shown by day.
const SLICES_SHOWN: usize = 48;
/// Slices in the way that are told one by one.
const TROUBLES_TOLD: usize = 20;

/// List what a range of the source behind a pipeline holds: take and deliver
/// nothing. Without a service what an earlier process left stays as it is, too.
#[derive(Debug, clap::Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    part: PartArguments,
    /// Show every slice, however many there are.
    #[arg(short, long)]
    long: bool,
}

impl Plan {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let Part { config, pipeline, source, wanted } = self.part.find()?;
        let look = Look { wanted: &wanted, pipeline: Some(&pipeline), long: self.long };
        look.show(&config, &source, out).await
    }
}

/// What is to be shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look<'a> {
    pub(crate) wanted: &'a Asked,
    /// The pipeline whose deliveries count; otherwise those of all.
    pub(crate) pipeline: Option<&'a str>,
    pub(crate) long: bool,
}

/// Slices added up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Total {
    pub(crate) slices: u64,
    /// As far as they are known.
    pub(crate) bytes: u64,
    /// Slices whose bytes are not known before they are read.
    pub(crate) bytes_unknown: u64,
    pub(crate) new: u64,
    /// Bytes of those that a run would take, as far as they are known.
    pub(crate) new_bytes: u64,
    pub(crate) open: u64,
    pub(crate) taken: u64,
    /// Of those, how many are settled in every pipeline that is meant.
    pub(crate) delivered: u64,
    pub(crate) not_ready: u64,
    pub(crate) set_aside: u64,
    pub(crate) changed: u64,
    /// Records of slices that are taken.
    pub(crate) records: u64,
    #[serde(skip)]
    taken_bytes: u64,
    /// Records of those taken slices whose bytes are known.
    #[serde(skip)]
    sized_records: u64,
    #[serde(skip)]
    settled: u64,
    #[serde(skip)]
    rows: u64,
}

impl Total {
    pub(crate) fn add(&mut self, slice: &SliceStatus, pipeline: Option<&str>) {
        self.slices += 1;
        match slice.bytes {
            Some(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            None => self.bytes_unknown += 1,
        }
        if !matches!(slice.state, SliceState::NotReady | SliceState::Taken) {
            self.new_bytes = self.new_bytes.saturating_add(slice.bytes.unwrap_or(0));
        }
        match slice.state {
            SliceState::New => self.new += 1,
            SliceState::Open => self.open += 1,
            SliceState::NotReady => self.not_ready += 1,
            SliceState::SetAside => self.set_aside += 1,
            SliceState::Changed => self.changed += 1,
            SliceState::Taken => {
                let records = slice.records.unwrap_or(0);
                self.taken += 1;
                self.records += records;
                if let Some(bytes) = slice.bytes {
                    self.taken_bytes = self.taken_bytes.saturating_add(bytes);
                    self.sized_records += records;
                }
                let meant = |name: &str| pipeline.is_none_or(|meant| meant == name);
                let mut counts =
                    slice.pipelines.iter().filter(|(name, _)| meant(name)).map(|(_, c)| c).peekable();
                if records == 0 || counts.peek().is_some() && counts.clone().all(|c| c.records() >= records) {
                    self.delivered += 1;
                }
                for counts in counts {
                    self.settled += counts.records();
                    self.rows += counts.rows;
                }
            }
        }
    }

    /// Slices that a run would take.
    fn to_take(&self) -> u64 {
        self.new + self.open + self.changed + self.set_aside
    }

    /// Records that a run would bring, judged by those that were taken: by
    /// their bytes where the source tells these, otherwise by their number.
    pub(crate) fn estimated_records(&self, sample: &Self) -> Option<u64> {
        if self.to_take() == 0 {
            return Some(0);
        }
        let estimate = if self.bytes_unknown < self.slices && sample.taken_bytes > 0 {
            self.new_bytes as f64 * sample.sized_records as f64 / sample.taken_bytes as f64
        } else if sample.taken > 0 {
            self.to_take() as f64 * sample.records as f64 / sample.taken as f64
        } else {
            return None;
        };
        Some(estimate.round() as u64)
    }

    /// Rows that these records would become, judged by those that were settled.
    fn estimated_rows(&self, sample: &Self) -> Option<u64> {
        let records = self.estimated_records(sample)?;
        let of_each = if sample.settled == 0 { 1.0 } else { sample.rows as f64 / sample.settled as f64 };
        Some((records as f64 * of_each).round() as u64)
    }
}

/// What a listing came to.
#[derive(Debug, Default)]
struct Listed {
    dates: String,
    total: Total,
    days: BTreeMap<String, Total>,
    /// The first ones, for a table of slices.
    first: Vec<SliceStatus>,
    troubles: Vec<SliceStatus>,
}

impl Look<'_> {
    /// Asks the source, and shows what it has.
    ///
    /// # Errors
    /// The source cannot be asked; the code says whose fault that is.
    pub(crate) async fn show(&self, config: &Config, source: &Sliced, out: &Output) -> anyhow::Result<Code> {
        let session = Session::open(config, source, PATIENCE, Own::Looks, out).await?;
        let remote = session.remote();
        let mut listed = Listed::default();
        let mut after: Option<String> = None;
        let bar = out.progress(0, "listing");
        loop {
            let page = remote.slices(&source.name, self.wanted, after.as_deref()).await?;
            bar.inc_length(page.slices.len() as u64);
            bar.inc(page.slices.len() as u64);
            listed.dates = page.dates;
            for slice in page.slices {
                self.add(&mut listed, slice, out)?;
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        bar.finish_and_clear();
        let sample = match listed.total.taken {
            0 => self.sample(remote, source).await,
            _ => listed.total.clone(),
        };
        self.report(source, &listed, &sample, out)?;
        Ok(Code::Done)
    }

    fn add(&self, listed: &mut Listed, slice: SliceStatus, out: &Output) -> anyhow::Result<()> {
        listed.total.add(&slice, self.pipeline);
        let day = slice.date.map_or_else(|| String::from("no date"), day);
        listed.days.entry(day).or_default().add(&slice, self.pipeline);
        if out.is_json() {
            return out.json(&slice);
        }
        if matches!(slice.state, SliceState::SetAside | SliceState::Changed)
            && listed.troubles.len() < TROUBLES_TOLD
        {
            listed.troubles.push(slice.clone());
        }
        if self.long || listed.first.len() <= SLICES_SHOWN {
            listed.first.push(slice);
        }
        Ok(())
    }

    /// Slices of the source that were taken, whatever the range, to judge by.
    async fn sample(&self, remote: &Remote, source: &Sliced) -> Total {
        let mut total = Total::default();
        if let Ok(page) = remote.slices(&source.name, &Asked::default(), None).await {
            page.slices.iter().for_each(|slice| total.add(slice, self.pipeline));
        }
        total
    }

    fn report(&self, source: &Sliced, listed: &Listed, sample: &Total, out: &Output) -> anyhow::Result<()> {
        let Listed { dates, total, .. } = listed;
        if out.is_json() {
            return out.json(&serde_json::json!({
                "ok": true, "plan": true, "source": source.name, "pipeline": self.pipeline,
                "wanted": self.wanted, "dates": dates, "total": total,
                "estimated_records": total.estimated_records(sample),
                "estimated_rows": total.estimated_rows(sample),
            }));
        }
        if total.slices > 0 {
            let by_slice = self.long || total.slices <= SLICES_SHOWN as u64;
            let table = if by_slice { slice_table(&listed.first) } else { day_table(&listed.days) };
            out.say(table.to_string());
        }
        for line in self.words(source, listed, sample) {
            out.say(line);
        }
        Ok(())
    }

    /// The total in words, what is in the way, and what to do next.
    fn words(&self, source: &Sliced, listed: &Listed, sample: &Total) -> Vec<String> {
        let Listed { dates, total, troubles, .. } = listed;
        let mut lines = vec![format!("dates: {}, {}", range(self.wanted), dates)];
        if total.slices == 0 {
            lines.push(format!("the source {} has nothing that is meant", source.name));
            return lines;
        }
        let size = if total.bytes_unknown == total.slices {
            String::from("bytes unknown before they are read")
        } else {
            bytes(total.bytes)
        };
        lines.push(format!("{}, {size}: {}", plural(total.slices, "slice"), states(total)));
        let estimate = |n: Option<u64>, what: &str| {
            n.map_or_else(
                || format!("an unknown number of {what}s"),
                |n| format!("about {}", plural(n, what)),
            )
        };
        if total.to_take() > 0 {
            lines.push(format!(
                "a run would take {}: {}, {} (judged by what was taken so far)",
                plural(total.to_take(), "slice"),
                estimate(total.estimated_records(sample), "record"),
                estimate(total.estimated_rows(sample), "row"),
            ));
        }
        for slice in troubles {
            lines.push(match (&slice.state, &slice.reason) {
                (SliceState::Changed, _) => {
                    format!(
                        "  ! {}: it was taken, and has other content since: a run takes the new content, too",
                        slice.name
                    )
                }
                (_, reason) => {
                    format!("  ! {}: set aside: {}", slice.name, reason.as_deref().unwrap_or("unknown"))
                }
            });
        }
        let untold = (total.changed + total.set_aside).saturating_sub(troubles.len() as u64);
        if untold > 0 {
            lines.push(format!("  ! and {} more; --long shows all", count(untold)));
        }
        lines
    }
}

/// `from … to before …`.
pub(crate) fn range(wanted: &Asked) -> String {
    match (wanted.from, wanted.to) {
        (None, None) => String::from("all"),
        (Some(from), None) => format!("from {} on", minute(from)),
        (None, Some(to)) => format!("before {}", minute(to)),
        (Some(from), Some(to)) => format!("from {} to before {}", minute(from), minute(to)),
    }
}

/// How many slices are in which state, leaving out what there is not.
fn states(total: &Total) -> String {
    let undelivered = total.taken - total.delivered;
    let parts = [
        (total.new, "new"),
        (total.open, "being taken"),
        (total.delivered, "delivered"),
        (undelivered, "taken and not yet delivered"),
        (total.not_ready, "not ready yet"),
        (total.set_aside, "set aside"),
        (total.changed, "changed since they were taken"),
    ];
    let told = parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n)));
    told.collect::<Vec<_>>().join(", ")
}

/// What became of a slice, in a word for people.
pub(crate) fn word(state: SliceState) -> &'static str {
    match state {
        SliceState::New => "new",
        SliceState::NotReady => "not ready",
        SliceState::Open => "being taken",
        SliceState::Taken => "taken",
        SliceState::Changed => "changed",
        SliceState::SetAside => "set aside",
    }
}

fn slice_table(slices: &[SliceStatus]) -> comfy_table::Table {
    let head = ["slice", "date", "bytes", "state", "records", "settled", "rows"];
    let mut table = terminal::table(&head);
    for slice in slices {
        let settled: u64 = slice.pipelines.values().map(|counts| counts.records()).sum();
        let rows: u64 = slice.pipelines.values().map(|counts| counts.rows).sum();
        let taken = |n: u64| if slice.records.is_some() { count(n) } else { String::new() };
        let state = match (slice.state, slice.ready_at) {
            (SliceState::NotReady, Some(at)) => format!("ready at {}", minute(at)),
            (state, _) => word(state).to_string(),
        };
        table.add_row([
            Cell::new(&slice.name),
            Cell::new(slice.date.map(minute).unwrap_or_default()),
            right(slice.bytes.map(bytes).unwrap_or_default()),
            Cell::new(state),
            right(slice.records.map(count).unwrap_or_default()),
            right(taken(settled)),
            right(taken(rows)),
        ]);
    }
    table
}

fn day_table(days: &BTreeMap<String, Total>) -> comfy_table::Table {
    let head = [
        "day",
        "slices",
        "bytes",
        "new",
        "taken",
        "delivered",
        "not ready",
        "set aside",
        "changed",
        "records",
    ];
    let mut table = terminal::table(&head);
    for (day, total) in days {
        let size = if total.bytes_unknown == total.slices { String::new() } else { bytes(total.bytes) };
        let numbers = [
            total.new + total.open,
            total.taken,
            total.delivered,
            total.not_ready,
            total.set_aside,
            total.changed,
            total.records,
        ];
        let mut row = vec![Cell::new(day), right(count(total.slices)), right(size)];
        row.extend(numbers.map(|n| right(count(n))));
        table.add_row(row);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, state: &str, bytes: Option<u64>, records: Option<u64>, settled: u64) -> SliceStatus {
        let mut value = serde_json::json!({
            "name": name, "id": "0", "state": state, "date": "2026-03-01T05:00:00Z",
            "captured": {}, "pipelines": {},
        });
        if let Some(bytes) = bytes {
            value["bytes"] = bytes.into();
        }
        if let Some(records) = records {
            value["records"] = records.into();
            value["pipelines"] = serde_json::json!({
                "p": { "delivered": settled, "rows": settled * 2 }, "other": { "delivered": 0 },
            });
        }
        serde_json::from_value(value).unwrap()
    }

    fn all() -> Vec<SliceStatus> {
        vec![
            slice("a", "taken", Some(100), Some(10), 10),
            slice("b", "taken", Some(300), Some(30), 10),
            slice("c", "new", Some(1_000), None, 0),
            slice("d", "not_ready", None, None, 0),
            slice("e", "set_aside", Some(5), None, 0),
            slice("f", "changed", Some(200), None, 0),
        ]
    }

    #[test]
    fn a_plan_adds_up_and_estimates() {
        let mut total = Total::default();
        all().iter().for_each(|slice| total.add(slice, Some("p")));
        assert_eq!((total.slices, total.taken, total.delivered, total.new), (6, 2, 1, 1));
        assert_eq!((total.not_ready, total.set_aside, total.changed), (1, 1, 1));
        assert_eq!((total.bytes, total.bytes_unknown, total.records), (1_605, 1, 40));
        // A tenth of a record a byte, of all that would be taken; each two rows.
        assert_eq!(total.estimated_records(&total), Some(121));
        assert_eq!(total.estimated_rows(&total), Some(242));
        // What another pipeline has not delivered is not delivered for all.
        let mut of_all = Total::default();
        all().iter().for_each(|slice| of_all.add(slice, None));
        assert_eq!(of_all.delivered, 0);
        // Without bytes: by the number of slices; without a sample: not at all.
        let mut unsized_ = Total::default();
        unsized_.add(&slice("x", "new", None, None, 0), None);
        assert_eq!(unsized_.estimated_records(&total), Some(20));
        assert_eq!(unsized_.estimated_records(&Total::default()), None);
    }

    #[test]
    fn people_see_what_is_in_the_way() {
        let look = Look { wanted: &Asked::default(), pipeline: Some("p"), long: false };
        let source = Sliced { name: "s".into(), kind: "objects", stream: "st".into(), hourly: false };
        let mut listed = Listed { dates: "the time of the key".into(), ..Listed::default() };
        for slice in all() {
            look.add(&mut listed, slice, &Output::new(false)).unwrap();
        }
        let words = look.words(&source, &listed, &listed.total).join("\n");
        for expect in [
            "dates: all, the time of the key",
            "6 slices, 1.57 KiB: 1 new, 1 delivered, 1 taken and not yet delivered, 1 not ready yet, 1 set aside, 1 changed since they were taken",
            "a run would take 3 slices: about 121 records, about 242 rows",
            "! e: set aside: unknown",
            "! f: it was taken, and has other content since",
        ] {
            assert!(words.contains(expect), "{expect:?} is not in\n{words}");
        }
        let table = slice_table(&listed.first).to_string();
        assert!(table.contains("not ready") && table.contains("2026-03-01 05:00"), "{table}");
        assert!(day_table(&listed.days).to_string().contains("2026-03-01"));
        let nothing = Listed::default();
        assert!(look.words(&source, &nothing, &nothing.total).join("").contains("has nothing that is meant"));
    }
}

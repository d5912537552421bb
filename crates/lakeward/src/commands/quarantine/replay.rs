//! `lakeward quarantine replay`: records leave quarantine, each exactly once.

use std::io::IsTerminal;
use std::path::PathBuf;

use futures::TryStreamExt;
use lakeward_columnar::transform::Pinned;
use lakeward_engine::{BatchRecord, Counts, Quarantined};
use lakeward_model::Timestamp;
use lakeward_model::clock::{Clock, SystemClock};

use super::fix::{Fix, Fixed, RECORDS_AT_ONCE};
use super::send::Sender;
use super::shelf::{Lines, Shelf};
use crate::commands::target::{Inspected, TargetArguments};
use crate::exit::{Code, coded};
use crate::quarantine::{Record, one_line};
use crate::terminal::{self, Output, count, plural};
use crate::wiring;

/// Records that a dry run shows.
const SHOWN: usize = 10;
/// Failures that are told one by one.
const FAILURES_TOLD: usize = 5;

#[derive(Debug, clap::Args)]
pub(super) struct Replay {
    #[command(flatten)]
    target: TargetArguments,
    /// The pipeline.
    pipeline: String,
    /// Only records with this reason, for instance `json.syntax`; may be given
    /// several times.
    #[arg(long)]
    reason: Vec<String>,
    /// Only records that arrived at this instant or later: `2026-11-21` or
    /// `2026-11-21T14:00:00Z`; UTC where no zone is given.
    #[arg(long, value_parser = instant)]
    since: Option<Timestamp>,
    /// Only records that arrived before this instant.
    #[arg(long, value_parser = instant)]
    until: Option<Timestamp>,
    /// A file with one SELECT over the table `input` (data, reason, message,
    /// "offset", received_at, pipeline). Its column `data` is the record's new
    /// bytes; rows that it leaves out stay in quarantine.
    #[arg(long, value_name = "FILE")]
    sql: Option<PathBuf>,
    /// Change nothing; show what would be delivered.
    #[arg(long)]
    dry_run: bool,
    /// Do not ask.
    #[arg(short, long)]
    yes: bool,
    /// Do not wait until the records are delivered.
    #[arg(long)]
    no_wait: bool,
    /// Records that are queued at a time; they become one batch.
    #[arg(long, default_value_t = 10_000, value_name = "RECORDS", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    at_once: u16,
}

/// What was found on the way.
#[derive(Debug, Default, serde::Serialize)]
struct Found {
    /// Still in quarantine, and asked for.
    chosen: u64,
    /// Not in the answer of the SQL, or NULL in it.
    left_out: u64,
    /// The SQL failed on them.
    failed: u64,
    /// Their file does not say which records they are.
    unnamed: u64,
}

impl Replay {
    pub(super) async fn run(self, out: &Output) -> anyhow::Result<Code> {
        let config = self.target.config()?;
        let fix = self.sql.as_deref().map(|file| Fix::read(file, wiring::compile_sql)).transpose()?;
        let inspected = Inspected::open(&config)?;
        let shelf = Shelf::of(&inspected, &config, &self.pipeline).await?;
        let on_their_way = shelf.status.replayed - shelf.status.replays_settled;
        if on_their_way > 0 {
            out.say(format!("{} on the way out already", plural(on_their_way, "record")));
        }
        if shelf.elsewhere > 0 {
            out.say(format!("{} at a former destination, left alone", plural(shelf.elsewhere, "record")));
        }
        if !self.confirmed(out, &shelf)? {
            return Err(coded(Code::Usage, "nothing was replayed"));
        }
        let mut found = Found::default();
        let mut samples = Vec::new();
        let mut sender = Sender::new(&inspected, &self.pipeline, usize::from(self.at_once));
        let bar = out.progress(shelf.count(), "reading");
        let mut files = shelf.read(&inspected);
        while let Some(Lines { batch, held }) = files.try_next().await? {
            bar.inc(held.len() as u64);
            let still = held.into_iter().filter(|held| !held.left).map(|held| held.record);
            let chosen: Vec<Record> = still.filter(|record| self.wants(record)).collect();
            for records in chosen.chunks(RECORDS_AT_ONCE) {
                let fixed = self.fixed(fix.as_ref(), batch, records, &mut found, out)?;
                for (record, data) in records.iter().zip(fixed) {
                    let (Some(data), Some(offset)) = (data, record.offset) else { continue };
                    if self.dry_run {
                        if samples.len() < SHOWN {
                            samples.push((offset, record.data.clone(), data));
                        }
                        sender.queued += 1;
                        continue;
                    }
                    sender
                        .push(Quarantined {
                            source: batch.source(),
                            offset,
                            received_at: record.received_at,
                            data: data.into(),
                        })
                        .await?;
                }
            }
        }
        if self.dry_run {
            bar.finish_and_clear();
            self.report_dry(out, &found, sender.queued, &samples)?;
            return Ok(Code::Done);
        }
        sender.flush().await?;
        bar.finish_and_clear();
        report_queued(out, &found, &sender);
        let mut answer = serde_json::json!({
            "ok": true, "pipeline": self.pipeline, "found": found,
            "queued": sender.queued, "already": sender.already, "unknown": sender.unknown,
        });
        if matches!(inspected, Inspected::Offline(_)) {
            out.say("The service does not run; what is queued is delivered at its next start.");
        } else if !self.no_wait && sender.queued > 0 {
            let ended = sender.settled(out).await?;
            report_ended(out, &ended);
            answer["ended"] = serde_json::json!({
                "delivered": ended.delivered, "filtered": ended.filtered,
                "duplicates": ended.duplicates, "quarantined": ended.quarantined, "rows": ended.rows,
            });
        }
        if out.is_json() {
            out.json(&answer)?;
        }
        Ok(if found.unnamed > 0 { Code::Data } else { Code::Done })
    }

    /// Whether a record is one of those that were asked for.
    fn wants(&self, record: &Record) -> bool {
        let at = record.received_at;
        (self.reason.is_empty() || self.reason.contains(&record.reason))
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
    }

    /// Asks the person, if there is one.
    fn confirmed(&self, out: &Output, shelf: &Shelf) -> anyhow::Result<bool> {
        let asked = std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        if self.yes || self.dry_run || out.is_json() || !asked || shelf.status.counts.quarantined == 0 {
            return Ok(true);
        }
        let all = plural(shelf.status.counts.quarantined, "record");
        let narrowed =
            !self.reason.is_empty() || self.since.is_some() || self.until.is_some() || self.sql.is_some();
        let what = if narrowed { format!("those of {all} that were asked for") } else { all };
        eprint!("Deliver {what} from the quarantine of {}? [y/N] ", self.pipeline);
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        Ok(matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
    }

    /// The new bytes of records of one batch; `None` stays in quarantine.
    fn fixed(
        &self,
        fix: Option<&Fix>,
        batch: &BatchRecord,
        records: &[Record],
        found: &mut Found,
        out: &Output,
    ) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
        found.chosen += records.len() as u64;
        found.unnamed += records.iter().filter(|record| record.offset.is_none()).count() as u64;
        let Some(fix) = fix else {
            return Ok(records.iter().map(|record| Some(record.data.clone())).collect());
        };
        let pinned = Pinned { now: SystemClock.now(), batch: batch.batch };
        let Fixed { data, failed } = fix.apply(&self.pipeline, records, &pinned)?;
        for (index, message) in &failed {
            if found.failed < FAILURES_TOLD as u64 {
                let offset = records.get(*index).and_then(|record| record.offset);
                let offset = offset.map_or_else(|| String::from("?"), |offset| offset.to_string());
                out.say(format!("  ! the SQL fails on the record at offset {offset}: {message}"));
            }
            found.failed += 1;
        }
        let stays = data.iter().filter(|data| data.is_none()).count();
        found.left_out += stays.saturating_sub(failed.len()) as u64;
        Ok(data)
    }

    fn report_dry(
        &self,
        out: &Output,
        found: &Found,
        would: u64,
        samples: &[(lakeward_model::Offset, Vec<u8>, Vec<u8>)],
    ) -> anyhow::Result<()> {
        let text = |data: &[u8]| one_line(data, 500);
        if out.is_json() {
            let samples: Vec<_> = samples
                .iter()
                .map(|(offset, before, after)| {
                    serde_json::json!({"offset": offset, "before": text(before), "after": text(after)})
                })
                .collect();
            return out.json(&serde_json::json!({
                "ok": true, "dry_run": true, "pipeline": self.pipeline, "found": found,
                "would_queue": would, "samples": samples,
            }));
        }
        for (offset, before, after) in samples {
            out.say(format!("offset {offset}"));
            out.say(format!("  - {}", text(before)));
            if before != after {
                out.say(format!("  + {}", text(after)));
            }
        }
        report_stays(out, found);
        out.say(format!("{} would be delivered; nothing was changed", plural(would, "record")));
        Ok(())
    }
}

fn report_stays(out: &Output, found: &Found) {
    let stay = |n: u64, why: &str| {
        if n > 0 {
            out.say(format!("{} in quarantine: {why}", plural_stay(n)));
        }
    };
    stay(found.left_out, "the SQL leaves them out");
    stay(found.failed, "the SQL fails on them");
    stay(
        found.unnamed,
        "their file, in Firehose's own shape, does not say which records they are; send their bytes again with `quarantine show --raw`",
    );
}

fn plural_stay(n: u64) -> String {
    if n == 1 { String::from("1 record stays") } else { format!("{} records stay", count(n)) }
}

fn report_queued(out: &Output, found: &Found, sender: &Sender<'_>) {
    report_stays(out, found);
    if found.chosen == 0 {
        out.say("nothing is in quarantine that was asked for");
        return;
    }
    out.say(format!("{} queued", plural(sender.queued, "record")));
    if sender.already > 0 {
        out.say(format!("{} left meanwhile, by another replay", plural(sender.already, "record")));
    }
    if sender.unknown > 0 {
        out.say(format!(
            "{} unknown to the ledger; `lakeward audit` says more",
            plural(sender.unknown, "record")
        ));
    }
}

fn report_ended(out: &Output, ended: &Counts) {
    out.say(format!(
        "{} delivered, {} filtered, {} duplicates, {} in quarantine again",
        count(ended.delivered),
        count(ended.filtered),
        count(ended.duplicates),
        terminal::count(ended.quarantined),
    ));
}

/// An instant, a date and time, or a date; UTC where no zone is given.
fn instant(text: &str) -> Result<Timestamp, String> {
    let instant = text.parse::<jiff::Timestamp>().ok();
    let civil = || {
        let civil = text.parse::<jiff::civil::DateTime>().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|zoned| zoned.timestamp())
    };
    instant
        .or_else(civil)
        .map(|instant| Timestamp(instant.as_microsecond()))
        .ok_or_else(|| String::from("it is no instant; write 2026-11-21 or 2026-11-21T14:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants() {
        let check = |text: &str, expect: Option<i64>| {
            assert_eq!(instant(text).ok().map(Timestamp::micros), expect, "{text}");
        };
        check("1970-01-02", Some(86_400_000_000));
        check("1970-01-01T00:00:01", Some(1_000_000));
        check("1970-01-01T00:00:01.5Z", Some(1_500_000));
        check("1970-01-01T02:00:01+02:00", Some(1_000_000));
        check("yesterday", None);
        check("", None);
    }
}

//! Many objects in one invocation: those of a section, of a range of days, or
//! all.

use futures::StreamExt;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use lakeward_model::{SlicedSource, Timestamp, Wanted};
use serde_json::{Map, Value, json};

use super::numbers::Numbers;
use super::object::{Objects, Outcome};
use super::until::Until;

/// How many files of a dry run are named, and how many failures are told.
const NAMED: usize = 10;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bulk {
    section: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    bucket: Option<String>,
    /// What the keys begin with.
    prefix: Option<String>,
    /// The key behind which it goes on.
    after: Option<String>,
    dry_run: bool,
    /// Stores what is stored already once more.
    again: bool,
}

impl Bulk {
    /// Reads an event.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(event: &Value) -> Result<Self, String> {
        let text = |name: &str| match event.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(format!("{name} is a text")),
        };
        let flag = |name: &str| match event.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(format!("{name} is true or false")),
        };
        let day = |name: &str| -> Result<Option<Date>, String> {
            let Some(text) = text(name)? else { return Ok(None) };
            text.parse().map(Some).map_err(|_| format!("{name} is a day such as 2026-03-01"))
        };
        let midnight = |day: Date| -> Result<Timestamp, String> {
            let start = day.to_zoned(TimeZone::UTC).map_err(|error| error.to_string())?;
            Ok(Timestamp(start.timestamp().as_microsecond()))
        };
        let from = day("start_date")?.map(midnight).transpose()?;
        let last = day("end_date")?;
        let next = last.map(|last| last.tomorrow().map_err(|error| error.to_string())).transpose()?;
        let to = next.map(midnight).transpose()?;
        if from.zip(to).is_some_and(|(from, to)| from >= to) {
            return Err(String::from("end_date is before start_date"));
        }
        Ok(Self {
            section: text("section_id")?,
            from,
            to,
            bucket: text("s3_bucket")?,
            prefix: text("s3_prefix")?,
            after: text("start_after")?,
            dry_run: flag("dry_run")?,
            again: flag("force_reprocess")?,
        })
    }

    /// What it means to the source.
    fn wanted(&self, objects: &Objects) -> Result<Wanted, String> {
        let (bucket, below) = objects.bucket();
        if let Some(other) = self.bucket.as_deref().filter(|other| *other != bucket) {
            return Err(format!("s3_bucket: this function has the bucket {bucket}, not {other}"));
        }
        let prefix = match &self.prefix {
            None => String::new(),
            Some(prefix) => match prefix.strip_prefix(below) {
                Some(rest) => rest.to_owned(),
                // A part of what all keys begin with means all of them.
                None if below.starts_with(prefix.as_str()) => String::new(),
                None => return Err(format!("s3_prefix: this function has the objects below {below:?} only")),
            },
        };
        let captured = self.section.iter().map(|id| (String::from("section_id"), id.clone())).collect();
        Ok(Wanted { from: self.from, to: self.to, prefix, captured })
    }

    /// Does it; an answer for the caller.
    ///
    /// # Errors
    /// It could not be begun, or the objects cannot be listed.
    pub(super) async fn run(&self, objects: &Objects, request: &str, until: Until) -> Result<Value, String> {
        let wanted = self.wanted(objects)?;
        let below = objects.bucket().1;
        let after = match &self.after {
            None => None,
            Some(key) => {
                let name = key.strip_prefix(below);
                Some(name.ok_or_else(|| format!("start_after: no key below {below:?}"))?.to_owned())
            }
        };
        if self.again && !self.dry_run {
            objects.can_store_again()?;
        }
        let salt = self.again.then_some(request);
        if self.dry_run {
            self.look(objects, &wanted, after).await
        } else {
            take(objects, &wanted, after, salt, until).await
        }
    }

    /// Only counts.
    async fn look(
        &self,
        objects: &Objects,
        wanted: &Wanted,
        mut after: Option<String>,
    ) -> Result<Value, String> {
        let below = objects.bucket().1;
        let (mut count, mut bytes, mut files) = (0_u64, 0_u64, Vec::new());
        loop {
            let page =
                objects.source.list(wanted, after.as_deref()).await.map_err(|failure| failure.message)?;
            for slice in &page.slices {
                count += 1;
                bytes += slice.bytes.unwrap_or(0);
                if files.len() < NAMED {
                    files.push(format!("{below}{}", slice.name));
                }
            }
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        Ok(json!({
            "message": "Dry run completed", "success": true, "files_found": count, "total_files": count,
            "total_bytes": bytes, "files": files, "processing_mode": "bulk", "dry_run": true,
        }))
    }
}

/// Takes one object after the other, as long as there is time.
async fn take(
    objects: &Objects,
    wanted: &Wanted,
    mut after: Option<String>,
    salt: Option<&str>,
    until: Until,
) -> Result<Value, String> {
    let (below, mut told) = (objects.bucket().1, Told::default());
    let mut out_of_time = false;
    'all: loop {
        let page = objects.source.list(wanted, after.as_deref()).await.map_err(|failure| failure.message)?;
        let mut outcomes = futures::stream::iter(&page.slices)
            .map(|slice| async move { (slice, objects.take(slice, salt, until).await) })
            .buffered(objects.parallel);
        while let Some((slice, outcome)) = outcomes.next().await {
            if matches!(outcome, Outcome::OutOfTime) {
                out_of_time = true;
                break 'all;
            }
            told.count(format!("{below}{}", slice.name), outcome);
        }
        drop(outcomes);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(told.answer(out_of_time))
}

/// What became of the objects.
#[derive(Default)]
struct Told {
    found: u64,
    processed: u64,
    failed: u64,
    skipped: u64,
    bytes: u64,
    failures: Vec<Value>,
    numbers: Numbers,
    /// The last one that was looked at.
    last: Option<String>,
}

impl Told {
    fn count(&mut self, key: String, outcome: Outcome) {
        self.found += 1;
        match outcome {
            Outcome::Taken(taken) => {
                if taken.is_new {
                    self.processed += 1;
                } else {
                    self.skipped += 1;
                }
                self.bytes += taken.bytes;
                self.numbers.add(&taken.numbers);
            }
            Outcome::Skipped(_) => self.skipped += 1,
            Outcome::Failed(why) => {
                self.failed += 1;
                if self.failures.len() < NAMED {
                    self.failures.push(json!({ "key": key, "error": why }));
                }
            }
            Outcome::OutOfTime => {}
        }
        self.last = Some(key);
    }

    fn answer(self, out_of_time: bool) -> Value {
        let mut answer = Map::new();
        answer.insert("message".into(), "Bulk processing completed".into());
        answer.insert("success".into(), (self.failed == 0 && !out_of_time).into());
        answer.insert("processing_mode".into(), "bulk".into());
        answer.insert("total_files_found".into(), self.found.into());
        answer.insert("processed_files".into(), self.processed.into());
        answer.insert("failed_files".into(), self.failed.into());
        // What was stored by an earlier invocation.
        answer.insert("skipped_files".into(), self.skipped.into());
        answer.insert("file_size_bytes".into(), self.bytes.into());
        self.numbers.tell("total_", &mut answer);
        answer.insert("failures".into(), self.failures.into());
        answer.insert("completed".into(), (!out_of_time).into());
        if out_of_time {
            answer.insert("message".into(), "Out of time: call again with `start_after`".into());
            answer.insert("start_after".into(), self.last.into());
        }
        answer.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_whole_and_the_last_one_counts() {
        let event = json!({"mode": "bulk", "section_id": 145, "start_date": "2024-01-01", "end_date": "2024-01-01",
            "s3_prefix": "section/", "dry_run": true});
        let bulk = Bulk::read(&event).unwrap();
        assert_eq!(bulk.section.as_deref(), Some("145"));
        assert_eq!(bulk.from, Some(Timestamp(1_704_067_200_000_000)));
        assert_eq!(bulk.to, Some(Timestamp(1_704_153_600_000_000)));
        assert!(bulk.dry_run && !bulk.again);
        assert_eq!(
            Bulk::read(&json!({"mode": "bulk", "section_id": null, "start_date": ""})),
            Ok(Bulk::default())
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (event, name) in [
            (json!({"section_id": []}), "section_id"),
            (json!({"start_date": "2024-02-30"}), "start_date"),
            (json!({"end_date": "soon"}), "end_date"),
            (json!({"start_date": "2024-02-02", "end_date": "2024-02-01"}), "end_date"),
            (json!({"dry_run": "yes"}), "dry_run"),
        ] {
            assert!(Bulk::read(&event).unwrap_err().contains(name), "{event}");
        }
    }
}

//! An export: from a window's hours to the bytes of an archive, a part at a
//! time.

use std::collections::HashMap;
use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::Options;
use super::archive::{Zip, crc32};
use super::event::{self, Ids, Which};
use super::hour::Hour;
use super::plan::{HourPlan, Part, purpose, uuid};
use crate::random::Random;

/// Events of the template that big hours repeat.
const TEMPLATE_EVENTS: u64 = 512;

/// The zipped bytes of an event on average, measured on hours of 100 to 1,000
/// events.
const ZIPPED_BYTES: u64 = 370;

/// What is to be sent, and what is wrong with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Export {
    pub(super) hours: Vec<HourPlan>,
    /// One member's bytes are not those that they were.
    pub(super) corrupt: bool,
    /// No archive around the members: one gzip of all events.
    pub(super) bare_gzip: bool,
}

/// About how large the archive is.
pub(super) fn zipped_bytes(hours: &[HourPlan]) -> u64 {
    let of = |hour: &HourPlan| {
        hour.events.saturating_mul(if hour.big { super::plan::EVENT_BYTES } else { ZIPPED_BYTES })
    };
    hours.iter().map(of).fold(0, u64::saturating_add)
}

impl Export {
    /// Writes the archive.
    ///
    /// # Errors
    /// `out`'s: nobody takes it any more, or as much as was wished is written.
    pub(super) fn write(&self, options: &Options, out: impl Write) -> io::Result<()> {
        if self.bare_gzip {
            return self.write_gzip(options, out);
        }
        let members: usize = self.hours.iter().map(|hour| hour.parts.len()).sum();
        let mut zip = Zip::new(out, options.zip64);
        let mut events = Events::new(options);
        let mut member = 0;
        for (index, hour) in self.hours.iter().enumerate() {
            let mut random = Random::of(&[options.seed, purpose::ARCHIVE, hour.hour.number()]);
            if index == 0 && random.chance(33) {
                zip.directory(format!("{}/", options.project), hour.hour)?;
            }
            let deflates_even = random.chance(50);
            // Big hours are as good as not compressed.
            let level = if hour.big { Compression::none() } else { Compression::fast() };
            for part in &hour.parts {
                let name = hour.hour.member(options.project, part.number);
                let mut data = gzip(events.of(hour, *part), level)?;
                let crc = crc32(&data);
                if self.corrupt && member == members / 2 {
                    let middle = data.len() / 2;
                    data[middle] ^= 0x55;
                }
                if member.is_multiple_of(2) == deflates_even {
                    zip.deflated(name, &data, crc, hour.hour, level)?;
                } else {
                    zip.stored(name, &data, crc, hour.hour)?;
                }
                member += 1;
            }
        }
        zip.finish()?;
        Ok(())
    }

    fn write_gzip(&self, options: &Options, out: impl Write) -> io::Result<()> {
        let mut encoder = GzEncoder::new(out, Compression::fast());
        let mut events = Events::new(options);
        for hour in &self.hours {
            for part in &hour.parts {
                encoder.write_all(events.of(hour, *part))?;
            }
        }
        encoder.finish()?;
        Ok(())
    }
}

fn gzip(data: &[u8], level: Compression) -> io::Result<Vec<u8>> {
    let room = if level.level() == 0 { data.len() + data.len() / 1_000 + 64 } else { data.len() / 4 };
    let mut encoder = GzEncoder::new(Vec::with_capacity(room), level);
    encoder.write_all(data)?;
    encoder.finish()
}

/// Makes the lines of parts.
struct Events<'a> {
    options: &'a Options,
    lines: Vec<u8>,
    templates: HashMap<Hour, Template>,
}

impl<'a> Events<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, lines: Vec::new(), templates: HashMap::new() }
    }

    /// A part's lines.
    fn of(&mut self, hour: &HourPlan, part: Part) -> &[u8] {
        self.lines.clear();
        if hour.big {
            let options = self.options;
            let template =
                self.templates.entry(hour.hour).or_insert_with(|| Template::of(options, hour.hour));
            for index in part.from..part.to {
                template.event(options.seed, index, &mut self.lines);
            }
        } else {
            // The whole hour's number, so that an event is the same in an hour
            // that is still loading.
            let of = HourPlan::of(self.options, hour.hour).events;
            let Options { seed, project, .. } = *self.options;
            for index in part.from..part.to {
                event::write(Which { seed, project, hour: hour.hour, index, of }, &mut self.lines);
            }
        }
        &self.lines
    }
}

/// An hour's lines, each written again and again with other ids: events at the
/// speed of copying.
struct Template {
    hour: Hour,
    lines: Vec<(Vec<u8>, Ids)>,
}

impl Template {
    fn of(options: &Options, hour: Hour) -> Self {
        let Options { seed, project, .. } = *options;
        let line = |index| {
            let mut out = Vec::new();
            let ids = event::write(Which { seed, project, hour, index, of: TEMPLATE_EVENTS }, &mut out);
            (out, ids)
        };
        Self { hour, lines: (0..TEMPLATE_EVENTS).map(line).collect() }
    }

    fn event(&self, seed: u64, index: u64, out: &mut Vec<u8>) {
        let (line, ids) = &self.lines[(index % TEMPLATE_EVENTS) as usize];
        let begin = out.len();
        out.extend_from_slice(line);
        put(&mut out[begin + ids.uuid..], uuid(seed, self.hour, index));
        if let Some(at) = ids.insert_id {
            put(&mut out[begin + at..], event::insert_id(seed, self.hour, index));
        }
    }
}

fn put(at: &mut [u8], id: uuid::Uuid) {
    let mut text = uuid::Uuid::encode_buffer();
    let text = id.as_hyphenated().encode_lower(&mut text);
    at[..text.len()].copy_from_slice(text.as_bytes());
}

/// Counts and keeps nothing: how long an archive is.
#[derive(Debug, Default)]
pub(super) struct Length(pub(super) u64);

impl Write for Length {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.0 += data.len() as u64;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The JSON bytes of an hour: for the oracle.
pub(super) fn json_bytes(options: &Options, hour: &HourPlan) -> u64 {
    let mut events = Events::new(options);
    hour.parts.iter().map(|part| events.of(hour, *part).len() as u64).sum()
}

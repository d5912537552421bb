//! What an hour holds: how many events, in which parts. A pure function of the
//! seed and the hour.

use std::str::FromStr;

use super::Options;
use super::hour::Hour;
use crate::random::Random;

/// What draws are for, so that no two uses share a sequence.
pub(super) mod purpose {
    pub(crate) const VOLUME: u64 = 1;
    pub(crate) const PARTS: u64 = 2;
    pub(crate) const UUID: u64 = 3;
    pub(crate) const EVENT: u64 = 4;
    pub(crate) const PERSON: u64 = 5;
    pub(crate) const ARCHIVE: u64 = 6;
    pub(crate) const MISCHIEF: u64 = 7;
    pub(crate) const DAY: u64 = 8;
}

/// Events of a part at the most: about 8 MB of JSON, which is what an archive
/// in the making keeps in memory.
const PART_EVENTS_MAX: u64 = 4_000;

/// Events of an hour at the most, unless it is a big one.
const EVENTS_MAX: u64 = 10_000_000;

/// The JSON bytes of an event on average, measured; for the size of big hours.
pub(super) const EVENT_BYTES: u64 = 1_805;

/// How many events an hour has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Volume {
    /// So many in each hour.
    Fixed(u64),
    /// A number drawn for each hour, both ends included. If the low end is 0,
    /// one hour in eight is empty besides.
    Between(u64, u64),
}

impl FromStr for Volume {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no number of events such as 250, nor a range such as 0..500");
        let number = |text: &str| match text.parse::<u64>() {
            Ok(events) if events <= EVENTS_MAX => Ok(events),
            Ok(_) => Err(format!("an hour has {EVENTS_MAX} events at the most")),
            Err(_) => Err(wrong()),
        };
        let Some((low, high)) = text.split_once("..") else { return Ok(Self::Fixed(number(text)?)) };
        let (low, high) = (number(low)?, number(high)?);
        if low <= high { Ok(Self::Between(low, high)) } else { Err(wrong()) }
    }
}

/// An hour's events and how they lie in members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HourPlan {
    pub(super) hour: Hour,
    pub(super) events: u64,
    pub(super) parts: Vec<Part>,
    /// Made from a template and hardly compressed, to be quick.
    pub(super) big: bool,
}

/// Events `from..to` of an hour, in one member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) number: u64,
    pub(super) from: u64,
    pub(super) to: u64,
}

impl HourPlan {
    pub(super) fn of(options: &Options, hour: Hour) -> Self {
        if hour < options.from || hour >= options.to {
            return Self { hour, events: 0, parts: Vec::new(), big: false };
        }
        let big = options.big_hours.iter().find(|(big, _)| *big == hour);
        let events = match big {
            Some((_, bytes)) => (bytes / EVENT_BYTES).max(1),
            None => volume(options, hour),
        };
        let parts = parts(options.seed, hour, events, big.is_some());
        Self { hour, events, parts, big: big.is_some() }
    }

    /// What there is of it so far: its first `events`.
    pub(super) fn first(mut self, events: u64) -> Self {
        self.events = self.events.min(events);
        self.parts.retain(|part| part.from < self.events);
        if let Some(last) = self.parts.last_mut() {
            last.to = last.to.min(self.events);
        }
        self
    }

    /// The same events in other parts: nobody promises that two exports of an
    /// hour are split alike.
    pub(super) fn split_again(mut self, seed: u64) -> Self {
        self.parts = parts(seed, self.hour, self.events, self.big);
        self
    }

    /// The uuid of an event.
    pub(super) fn uuid(&self, seed: u64, index: u64) -> uuid::Uuid {
        uuid(seed, self.hour, index)
    }
}

/// The uuid of an hour's event, by the event's number alone.
pub(super) fn uuid(seed: u64, hour: Hour, index: u64) -> uuid::Uuid {
    let mut random = Random::of(&[seed, purpose::UUID, hour.number(), index]);
    // Version and variant as Amplitude's look: by time and node.
    let high = random.next() & !0xF000 | 0x1000;
    let low = random.next() & !(0b11 << 62) | (0b10 << 62);
    uuid::Uuid::from_u64_pair(high, low)
}

fn volume(options: &Options, hour: Hour) -> u64 {
    let mut random = Random::of(&[options.seed, purpose::VOLUME, hour.number()]);
    match options.volume {
        Volume::Fixed(events) => events,
        Volume::Between(0, _) if random.below(8) == 0 => 0,
        Volume::Between(low, high) => random.between(low, high),
    }
}

/// One to six parts, more if they would be too large; their numbers mostly
/// follow each other and sometimes leap, as real ones do.
fn parts(seed: u64, hour: Hour, events: u64, big: bool) -> Vec<Part> {
    if events == 0 {
        return Vec::new();
    }
    let mut random = Random::of(&[seed, purpose::PARTS, hour.number()]);
    let wished = if big { 1 } else { random.between(1, 6) };
    let count = wished.max(events.div_ceil(PART_EVENTS_MAX)).min(events);
    let leaps = !big && random.chance(25);
    let mut number = 0;
    let mut parts = Vec::new();
    for index in 0..count {
        if leaps {
            number += random.below(700);
        }
        // In halves of 128 bits: no product is too large.
        let at = |index: u64| (u128::from(events) * u128::from(index) / u128::from(count)) as u64;
        parts.push(Part { number, from: at(index), to: at(index + 1) });
        number += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_tile_the_hour(seed: u64, hour in 0_u64..700_000, events in 0_u64..100_000, some in 0_u64..100_000) {
            let hour = "1970-01-01".parse::<Hour>().unwrap().plus(hour);
            let plan = HourPlan { hour, events, parts: parts(seed, hour, events, false), big: false };
            for plan in [plan.clone(), plan.clone().first(some), plan.split_again(seed ^ 1)] {
                let mut next = 0;
                let mut last = None;
                for part in &plan.parts {
                    prop_assert_eq!(part.from, next);
                    prop_assert!(part.to > part.from && part.to - part.from <= PART_EVENTS_MAX);
                    prop_assert!(last.is_none_or(|last| part.number > last));
                    (next, last) = (part.to, Some(part.number));
                }
                prop_assert_eq!(next, plan.events);
            }
        }
    }

    #[test]
    fn uuids_are_those_of_all_earlier_versions() {
        let hour = "2026-03-01T05".parse().unwrap();
        let first = uuid(1, hour, 0);
        assert_eq!(first.to_string(), "29656e11-f8cf-12bf-abb1-d56aaec3d328");
        assert_eq!((first.get_version_num(), first.get_variant()), (1, uuid::Variant::RFC4122));
        let mut all: Vec<_> = (0..10_000).map(|index| uuid(1, hour, index)).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 10_000);
    }

    #[test]
    fn volumes_read() {
        assert_eq!("250".parse(), Ok(Volume::Fixed(250)));
        assert_eq!("0..500".parse(), Ok(Volume::Between(0, 500)));
        for bad in ["", "-1", "5..3", "a..b", "5..", "10000001"] {
            assert!(bad.parse::<Volume>().is_err(), "{bad}");
        }
    }
}

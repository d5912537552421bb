//! Realistic events of three kinds, drawn from a seed, and a small HTTP client
//! to post them with. `lakeward demo`, the benchmarks and the `loadgen`
//! program share it.

mod analytics;
mod evaluation;
pub mod http;
mod lesson;
mod random;
mod text;

pub use random::Random;

/// What kind of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Feature-flag evaluations as the LaunchDarkly Python hook of the
    /// reference system sends them; about 300 bytes.
    Evaluation,
    /// Lesson, payment and account events with a float of epoch seconds as
    /// their time; about 250 bytes.
    Lesson,
    /// Product-analytics events in the layout of Amplitude's export: more
    /// than 50 fields, most of them null; about 1.6 KB.
    Analytics,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 3] = [Self::Evaluation, Self::Lesson, Self::Analytics];

    /// Its name on the command line.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Evaluation => "evaluation",
            Self::Lesson => "lesson",
            Self::Analytics => "analytics",
        }
    }

    /// The mean length of a line, in bytes with its newline, to within some
    /// percent: for planning how many events fill a file.
    #[must_use]
    pub fn typical_bytes(self) -> u64 {
        match self {
            Self::Evaluation => 320,
            Self::Lesson => 250,
            Self::Analytics => 1_640,
        }
    }

    /// Lines of a day, about as many bytes as asked for; always the same ones.
    #[must_use]
    pub fn draw(self, bytes: u64) -> Vec<u8> {
        let events = bytes / self.typical_bytes();
        let times = Times { start_micros: 1_700_006_400_000_000, span_micros: 86_400_000_000, events };
        let mut text = Vec::new();
        Generator::new(self, 1, times).fill(&mut text, usize::try_from(events).unwrap_or(usize::MAX));
        text
    }

    /// The column that holds the event's time.
    #[must_use]
    pub fn time_column(self) -> &'static str {
        match self {
            Self::Evaluation => "timestamp",
            Self::Lesson => "created_at",
            Self::Analytics => "event_time",
        }
    }
}

impl std::str::FromStr for Kind {
    type Err = String;
    fn from_str(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.as_str() == name);
        found.ok_or_else(|| format!("{name:?} is none of evaluation, lesson, analytics"))
    }
}

/// The event times: they advance evenly from `start_micros` over
/// `span_micros` while `events` events are drawn, and go on at the same pace
/// after that. Most jitter by two seconds, 2.5 % come up to ten minutes late
/// and 0.5 % up to three hours, but none lies before the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// The first event's time, in microseconds since the epoch.
    pub start_micros: i64,
    /// How long the events last, in microseconds.
    pub span_micros: i64,
    /// How many events are drawn in that span; at least 1.
    pub events: u64,
}

impl Times {
    /// The time of the `index`-th event.
    fn of(self, index: u64, random: &mut Random) -> i64 {
        let elapsed = i128::from(self.span_micros) * i128::from(index) / i128::from(self.events.max(1));
        let late = match random.below(1_000) {
            0..=4 => random.below(3 * 3_600 * 1_000_000),
            5..=29 => random.below(600 * 1_000_000),
            _ => random.below(2 * 1_000_000),
        };
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX / 2);
        self.start_micros + (elapsed - late as i64).max(0)
    }
}

/// Draws events of one kind. The same arguments give the same bytes.
#[derive(Debug, Clone)]
pub struct Generator {
    kind: Kind,
    random: Random,
    /// On its own, so that events are the same with and without keys.
    keys: Random,
    times: Times,
    drawn: u64,
}

impl Generator {
    /// Starts at the first event.
    #[must_use]
    pub fn new(kind: Kind, seed: u64, times: Times) -> Self {
        Self { kind, random: Random::new(seed), keys: Random::new(!seed), times, drawn: 0 }
    }

    /// How many events were drawn so far.
    #[must_use]
    pub fn drawn(&self) -> u64 {
        self.drawn
    }

    /// Appends the next event to `out` as one line of JSON, with the newline.
    pub fn line(&mut self, out: &mut Vec<u8>) {
        let at = self.times.of(self.drawn, &mut self.random);
        match self.kind {
            Kind::Evaluation => evaluation::write(out, &mut self.random, at),
            Kind::Lesson => lesson::write(out, &mut self.random, at),
            Kind::Analytics => analytics::write(out, &mut self.random, at, self.drawn),
        }
        out.push(b'\n');
        self.drawn += 1;
    }

    /// Appends a partition key: a random uuid, as most producers send.
    pub fn partition_key(&mut self, out: &mut Vec<u8>) {
        self.keys.uuid(out);
    }

    /// Appends exactly `count` lines.
    pub fn fill(&mut self, out: &mut Vec<u8>, count: usize) {
        for _ in 0..count {
            self.line(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: i64 = 86_400_000_000;
    const TIMES: Times = Times { start_micros: 1_700_000_000_000_000, span_micros: DAY, events: 2_000 };

    fn lines(kind: Kind, seed: u64) -> Vec<u8> {
        let mut out = Vec::new();
        Generator::new(kind, seed, TIMES).fill(&mut out, 2_000);
        out
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
        for kind in Kind::ALL {
            assert!(lines(kind, 1) == lines(kind, 1));
            assert!(lines(kind, 1) != lines(kind, 2));
        }
    }

    #[test]
    fn each_event_is_one_line_of_about_the_typical_length() {
        for kind in Kind::ALL {
            let bytes = lines(kind, 7);
            let parsed = bytes.split(|&b| b == b'\n').filter(|line| !line.is_empty());
            let columns = parsed.map(|line| serde_json::from_slice::<serde_json::Value>(line).unwrap());
            assert_eq!(columns.filter(|value| value.get(kind.time_column()).is_some()).count(), 2_000);
            let mean = bytes.len() as u64 / 2_000;
            let typical = kind.typical_bytes();
            assert!(mean.abs_diff(typical) * 20 <= typical, "{kind:?}: mean {mean}, typical {typical}");
        }
    }

    #[test]
    fn times_advance_over_the_span_and_some_are_late() {
        let mut random = Random::new(3);
        let drawn: Vec<i64> = (0..2_000).map(|i| TIMES.of(i, &mut random)).collect();
        assert!(drawn.iter().all(|&t| (TIMES.start_micros..TIMES.start_micros + DAY).contains(&t)));
        assert!(drawn[1_999] > TIMES.start_micros + DAY * 7 / 8);
        let late = drawn.windows(2).filter(|w| w[1] < w[0] - 60_000_000).count();
        assert!((20..120).contains(&late), "{late} late events");
    }

    #[test]
    fn few_users_make_many_events() {
        let mut random = Random::new(5);
        let top = (0..10_000).filter(|_| random.zipf(100_000) < 100).count();
        assert!((3_000..5_500).contains(&top), "{top} of 10,000 from the first 100 of 100,000");
    }
}

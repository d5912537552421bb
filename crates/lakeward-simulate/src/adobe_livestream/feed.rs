//! Which hits there are, who reads which of them, and from where on one goes on
//! who was cut off.

use std::collections::VecDeque;
use std::time::Duration;

use lakeward_model::Timestamp;

use super::hit;

/// Where a first connection, or one with `reset`, starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// From where the last one was cut off; the first one from now on.
    Resume,
    Smallest,
    Largest,
}

/// How hits come to be, and how long they can be had.
#[derive(Debug, Clone, Copy)]
pub(super) struct Production {
    pub(super) seed: u64,
    pub(super) started: Timestamp,
    /// Hits a second; 0: all of them are there from the beginning.
    pub(super) rate: u64,
    /// How many there are in all.
    pub(super) hits: u64,
    /// How long a hit can be had.
    pub(super) backlog: Duration,
    /// How far behind what was sent one goes on who was cut off.
    pub(super) repeats: Duration,
}

impl Production {
    /// How many hits there were at an instant.
    fn until(&self, at: Timestamp) -> u64 {
        if self.rate == 0 {
            return self.hits;
        }
        let gone = u64::try_from(at.micros().saturating_sub(self.started.micros())).unwrap_or(0);
        let made = u128::from(gone) * u128::from(self.rate) / 1_000_000;
        u64::try_from(made).unwrap_or(u64::MAX).min(self.hits)
    }

    /// The oldest that can be had.
    fn oldest(&self, now: Timestamp) -> u64 {
        if self.rate == 0 {
            return 0;
        }
        let micros = i64::try_from(self.backlog.as_micros()).unwrap_or(i64::MAX);
        self.until(Timestamp(now.micros().saturating_sub(micros)))
    }

    /// When a hit was received, in seconds since 1970.
    pub(super) fn received(&self, number: u64) -> i64 {
        let after = number.checked_div(self.rate).unwrap_or(0);
        (self.started.micros() / 1_000_000).saturating_add(i64::try_from(after).unwrap_or(i64::MAX))
    }
}

/// A share of the visitors: read by one connection at a time.
#[derive(Debug, Default)]
struct Part {
    /// Where one goes on who was cut off.
    kept: u64,
    /// Up to here it was given to the connection …
    given: u64,
    /// … and, at these instants, was taken from us.
    marks: VecDeque<(Timestamp, u64)>,
}

impl Part {
    fn settle(&mut self, now: Timestamp, repeats: Duration) {
        let micros = i64::try_from(repeats.as_micros()).unwrap_or(i64::MAX);
        while let Some((at, to)) = self.marks.front()
            && at.micros().saturating_add(micros) <= now.micros()
        {
            self.kept = *to;
            self.marks.pop_front();
        }
    }

    fn go_back(&mut self) {
        self.given = self.kept;
        self.marks.clear();
    }
}

/// Why somebody may not join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Conflict {
    OtherMaxConnections(usize),
    TooMany(usize),
}

/// Everything about one Livestream.
#[derive(Debug)]
pub(super) struct Feed {
    production: Production,
    parts: Vec<Part>,
    clients: Vec<u64>,
    joined: u64,
    /// How often each hit was sent, up to 255.
    sent: Vec<u8>,
    /// Hits that nobody can have any more, and that nobody got.
    pub(super) lost: u64,
}

impl Feed {
    pub(super) fn new(production: Production) -> Self {
        Self { production, parts: Vec::new(), clients: Vec::new(), joined: 0, sent: Vec::new(), lost: 0 }
    }

    /// A connection begins: its number.
    pub(super) fn join(&mut self, parts: usize, start: Start, now: Timestamp) -> Result<u64, Conflict> {
        if !self.clients.is_empty() {
            if self.parts.len() != parts {
                return Err(Conflict::OtherMaxConnections(self.parts.len()));
            }
            if self.clients.len() >= parts {
                return Err(Conflict::TooMany(parts));
            }
        } else if self.parts.len() != parts {
            // Every share begins where the last one of before was.
            let before = self.parts.iter().map(|part| part.kept).min();
            let kept = before.unwrap_or_else(|| self.first(now));
            self.parts = (0..parts).map(|_| Part { kept, given: kept, ..Part::default() }).collect();
        }
        self.joined += 1;
        let before = self.clients.clone();
        self.clients.push(self.joined);
        self.reassign(&before, now);
        let (oldest, newest) = (self.production.oldest(now), self.production.until(now));
        for part in self.parts_of(self.joined) {
            let part = &mut self.parts[part];
            match start {
                Start::Resume => {}
                Start::Smallest => part.kept = oldest,
                Start::Largest => part.kept = newest,
            }
            part.go_back();
        }
        Ok(self.joined)
    }

    fn first(&self, now: Timestamp) -> u64 {
        if self.production.rate == 0 { 0 } else { self.production.until(now) }
    }

    /// A connection ended.
    pub(super) fn leave(&mut self, client: u64, now: Timestamp) {
        for part in self.parts_of(client) {
            self.parts[part].settle(now, self.production.repeats);
            self.parts[part].go_back();
        }
        let before = self.clients.clone();
        self.clients.retain(|other| *other != client);
        self.reassign(&before, now);
    }

    fn owner(clients: &[u64], part: usize) -> Option<u64> {
        (!clients.is_empty()).then(|| clients[part % clients.len()])
    }

    /// Whoever gets a share begins where it is safe.
    fn reassign(&mut self, before: &[u64], now: Timestamp) {
        for (index, part) in self.parts.iter_mut().enumerate() {
            if Self::owner(before, index) != Self::owner(&self.clients, index) {
                part.settle(now, self.production.repeats);
                part.go_back();
            }
        }
    }

    fn parts_of(&self, client: u64) -> Vec<usize> {
        let is_mine = |part: &usize| Self::owner(&self.clients, *part) == Some(client);
        (0..self.parts.len()).filter(is_mine).collect()
    }

    /// The next hits for a connection, at the most `most`.
    pub(super) fn take(&mut self, client: u64, most: usize, now: Timestamp) -> Vec<u64> {
        let (oldest, newest) = (self.production.oldest(now), self.production.until(now));
        let count = self.parts.len() as u64;
        let mut taken = Vec::new();
        for index in self.parts_of(client) {
            let part = &mut self.parts[index];
            part.marks.push_back((now, part.given));
            part.settle(now, self.production.repeats);
            let is_mine = |number: u64| {
                count == 1 || hit::visitor(self.production.seed, number) % count == index as u64
            };
            while part.given < newest && taken.len() < most {
                let number = part.given;
                part.given += 1;
                if !is_mine(number) {
                    continue;
                }
                if number < oldest {
                    let never = self.sent.get(number as usize).is_none_or(|times| *times == 0);
                    self.lost += u64::from(never);
                    continue;
                }
                taken.push(number);
            }
        }
        for number in &taken {
            let number = *number as usize;
            if self.sent.len() <= number {
                self.sent.resize(number + 1, 0);
            }
            self.sent[number] = self.sent[number].saturating_add(1);
        }
        taken
    }

    pub(super) fn clients(&self) -> &[u64] {
        &self.clients
    }

    /// Every hit that was ever sent, and how often.
    pub(super) fn sent(&self) -> impl Iterator<Item = (u64, u8)> {
        self.sent
            .iter()
            .enumerate()
            .filter(|(_, times)| **times > 0)
            .map(|(number, times)| (number as u64, *times))
    }

    /// How many hits there are by now.
    pub(super) fn made(&self, now: Timestamp) -> u64 {
        self.production.until(now)
    }

    /// Whether every hit from the first one that was sent has been sent.
    pub(super) fn is_all_sent(&self, now: Timestamp) -> bool {
        let made = self.made(now);
        !self.parts.is_empty() && self.parts.iter().all(|part| part.given >= made)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(seconds as i64 * 1_000_000)
    }

    fn feed(rate: u64) -> Feed {
        Feed::new(Production {
            seed: 1,
            started: at(0),
            rate,
            hits: 10_000,
            backlog: Duration::from_secs(60),
            repeats: Duration::from_secs(5),
        })
    }

    #[test]
    fn one_that_was_cut_off_goes_on_a_little_before() {
        let mut feed = feed(10);
        let one = feed.join(1, Start::Resume, at(10)).unwrap();
        assert!(feed.take(one, 1000, at(10)).is_empty());
        assert_eq!(feed.take(one, 1000, at(12)), (100..120).collect::<Vec<_>>());
        assert_eq!(feed.take(one, 1000, at(20)), (120..200).collect::<Vec<_>>());
        feed.leave(one, at(21));
        // At 20 it was known that what came at 12 had arrived, more than 5 s ago
        // at no time before 21.
        let two = feed.join(1, Start::Resume, at(30)).unwrap();
        assert_eq!(feed.take(two, 1000, at(30)), (100..300).collect::<Vec<_>>());
        feed.take(two, 0, at(31));
        feed.take(two, 0, at(40));
        feed.leave(two, at(40));
        let three = feed.join(1, Start::Resume, at(40)).unwrap();
        assert_eq!(feed.take(three, 1000, at(40)), (300..400).collect::<Vec<_>>());
        assert_eq!(feed.sent().filter(|(_, times)| *times == 2).count(), 100);
        feed.leave(three, at(41));
        // Too late: what is older than the backlog is gone.
        let four = feed.join(1, Start::Resume, at(200)).unwrap();
        assert_eq!(feed.take(four, 2000, at(200)), (1400..2000).collect::<Vec<_>>());
        assert_eq!(feed.lost, 1000);
        feed.leave(four, at(200));
        let five = feed.join(1, Start::Largest, at(200)).unwrap();
        assert!(feed.take(five, 1000, at(200)).is_empty());
        feed.leave(five, at(200));
        let six = feed.join(1, Start::Smallest, at(200)).unwrap();
        assert_eq!(feed.take(six, 1, at(200)), [1400]);
    }

    #[test]
    fn visitors_are_shared_and_too_many_are_refused() {
        let mut feed = feed(0);
        let one = feed.join(2, Start::Resume, at(0)).unwrap();
        assert_eq!(feed.join(3, Start::Resume, at(0)), Err(Conflict::OtherMaxConnections(2)));
        let two = feed.join(2, Start::Resume, at(0)).unwrap();
        assert_eq!(feed.join(2, Start::Resume, at(0)), Err(Conflict::TooMany(2)));
        let mut all = feed.take(one, 10_000, at(0));
        let other = feed.take(two, 10_000, at(0));
        assert!(all.len() > 4_000 && other.len() > 4_000);
        all.extend(other);
        all.sort_unstable();
        assert_eq!(all, (0..10_000).collect::<Vec<_>>());
        assert!(feed.is_all_sent(at(0)));
    }
}

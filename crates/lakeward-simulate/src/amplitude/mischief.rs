//! What a request gets: what the script says, or what the seed draws.

use std::collections::{BTreeSet, HashMap};

use super::hour::Hour;
use super::plan::purpose;
use super::script::{Rule, Script, What};
use crate::random::Random;

/// Windows whose tries are counted; the tries of more are not, and so get the
/// right answer.
const WINDOWS_MAX: usize = 1_000_000;

/// How likely the first, second and third try of a window goes wrong, in
/// hundredths. A fourth never does.
const WRONG: [u64; 3] = [55, 40, 25];

/// Decides, and remembers how often each window was asked for.
#[derive(Debug)]
pub(super) struct Mischief {
    seed: u64,
    kinds: BTreeSet<What>,
    script: Script,
    tries: HashMap<(Hour, Hour), u64>,
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    pub(super) what: What,
    /// How much of the events or of the body is there.
    pub(super) share: f64,
    pub(super) seconds: f64,
    /// Of the header Retry-After.
    pub(super) retry_after: Option<String>,
    /// The script says so, so it is done whatever the hours are like.
    pub(super) scripted: bool,
    /// Which try of this window it is, from 1.
    pub(super) attempt: u64,
}

impl Decision {
    fn new(what: What, attempt: u64) -> Self {
        let seconds = if what == What::Stall { 600.0 } else { 2.0 };
        let retry_after = (what == What::RateLimited).then(|| "1".to_string());
        Self { what, share: 0.5, seconds, retry_after, scripted: false, attempt }
    }
}

impl Mischief {
    pub(super) fn new(seed: u64, kinds: BTreeSet<What>, rules: Vec<Rule>) -> Self {
        Self { seed, kinds, script: Script::new(rules), tries: HashMap::new() }
    }

    /// What the next request for these hours gets, both included.
    pub(super) fn decide(&mut self, first: Hour, last: Hour) -> Decision {
        let attempt = self.count(first, last);
        if let Some(rule) = self.script.decide(first, last) {
            return self.scripted(&rule, attempt);
        }
        if let Some(what) = self.too_wide(first, last) {
            return Decision::new(what, attempt);
        }
        let wrong = usize::try_from(attempt - 1).ok().and_then(|index| WRONG.get(index)).copied();
        let numbers = [self.seed, purpose::MISCHIEF, first.number(), last.number(), attempt];
        let mut random = Random::of(&numbers);
        let known = self.tries.contains_key(&(first, last));
        let kinds: Vec<_> = self.kinds.iter().copied().filter(|what| drawn_at_once(*what)).collect();
        if kinds.is_empty() || !known || !random.chance(wrong.unwrap_or(0)) {
            return Decision::new(What::Ok, attempt);
        }
        let mut decision = Decision::new(resolved(*random.pick(&kinds), &mut random), attempt);
        decision.share = random.below(1_000) as f64 / 1_000.0;
        decision
    }

    /// What an hour whose delay is not over is like in this request: as long
    /// as nothing was wished, it is not there.
    pub(super) fn is_partly_there(&self, attempt: u64, hour: Hour) -> bool {
        let numbers = [self.seed, purpose::MISCHIEF, hour.number(), attempt];
        let both = self.kinds.contains(&What::NotFound);
        self.kinds.contains(&What::Late) && (!both || Random::of(&numbers).chance(50))
    }

    fn count(&mut self, first: Hour, last: Hour) -> u64 {
        let full = self.tries.len() >= WINDOWS_MAX;
        match self.tries.get_mut(&(first, last)) {
            Some(tries) => {
                *tries += 1;
                *tries
            }
            None if full => 1,
            None => *self.tries.entry((first, last)).or_insert(1),
        }
    }

    fn scripted(&self, rule: &Rule, attempt: u64) -> Decision {
        let mut random = Random::of(&[self.seed, purpose::MISCHIEF, attempt]);
        let mut decision = Decision::new(resolved(rule.what, &mut random), attempt);
        decision.scripted = true;
        let share = if rule.what == What::Late { rule.share } else { rule.at };
        decision.share = share.unwrap_or(decision.share);
        decision.seconds = rule.seconds.unwrap_or(decision.seconds);
        match &rule.retry_after {
            Some(none) if none.is_empty() => decision.retry_after = None,
            Some(some) => decision.retry_after = Some(some.clone()),
            None => {}
        }
        decision
    }

    /// A third of the days bear only so many hours in one request, always the
    /// same: more are too large, or take too long.
    fn too_wide(&self, first: Hour, last: Hour) -> Option<What> {
        let wide = first.until(last) + 1;
        let kinds = [What::TooLarge, What::Timeout];
        let kinds: Vec<_> = kinds.into_iter().filter(|what| self.kinds.contains(what)).collect();
        if kinds.is_empty() || wide == 1 {
            return None;
        }
        // A year's days at the most: a window has no more.
        (first.day()..=last.day()).find_map(|day| {
            let mut random = Random::of(&[self.seed, purpose::DAY, day]);
            let heavy = random.chance(33);
            let (bears, what) = (*random.pick(&[1, 2, 3, 6, 12]), *random.pick(&kinds));
            (heavy && wide > bears).then_some(what)
        })
    }
}

/// Whether it is drawn for a try; the others depend on the hours.
fn drawn_at_once(what: What) -> bool {
    !matches!(
        what,
        What::Ok | What::Late | What::NotFound | What::TooLarge | What::Unauthorized | What::Forbidden
    )
}

fn resolved(what: What, random: &mut Random) -> What {
    if what == What::WrongMagic { *random.pick(&[What::Html, What::Gzip]) } else { what }
}

#[cfg(test)]
mod tests {
    use super::super::script::{ALL, read};
    use super::*;

    fn hour(text: &str) -> Hour {
        text.parse().unwrap()
    }

    #[test]
    fn nothing_wished_nothing_wrong() {
        let mut mischief = Mischief::new(1, BTreeSet::new(), Vec::new());
        for index in 0..500 {
            let first = hour("2026-03-01").plus(index);
            assert_eq!(mischief.decide(first, first.plus(index)).what, What::Ok);
        }
    }

    #[test]
    fn every_single_hour_succeeds_at_its_fourth_try_and_all_kinds_are_seen() {
        let mut mischief = Mischief::new(1, ALL.into(), Vec::new());
        let mut seen = BTreeSet::new();
        for index in 0..744 {
            let first = hour("2026-03-01").plus(index);
            let tries: Vec<_> = (0..5).map(|_| mischief.decide(first, first).what).collect();
            assert_eq!(tries[3..], [What::Ok, What::Ok], "{first}");
            assert!(!tries.contains(&What::TooLarge), "{first}");
            seen.extend(tries);
        }
        for what in ALL {
            let by_hours = [What::Late, What::NotFound, What::TooLarge].contains(&what);
            assert!(by_hours || seen.contains(&what), "{what} was never drawn");
        }
    }

    #[test]
    fn wide_windows_fail_for_ever_where_they_fail() {
        let mut mischief = Mischief::new(1, [What::TooLarge].into(), Vec::new());
        let mut failed = 0;
        for day in 0..31 {
            let first = hour("2026-03-01").plus(day * 24);
            let answers: BTreeSet<_> = (0..6).map(|_| mischief.decide(first, first.plus(23)).what).collect();
            assert_eq!(answers.len(), 1, "{first}");
            failed += usize::from(answers.contains(&What::TooLarge));
        }
        assert!((3..25).contains(&failed), "{failed} of 31 days");
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let draw = |seed| {
            let mut mischief = Mischief::new(seed, ALL.into(), Vec::new());
            (0..300)
                .map(|index| {
                    let first = hour("2026-03-01").plus(index / 3);
                    mischief.decide(first, first.plus(index % 2))
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn a_script_comes_first() {
        let rules = read("- { requests: 1, what: rate-limited, retry_after: '9' }\n- { what: ok }").unwrap();
        let mut mischief = Mischief::new(1, ALL.into(), rules);
        let first = hour("2026-03-01");
        let decision = mischief.decide(first, first);
        assert_eq!((decision.what, decision.retry_after.as_deref()), (What::RateLimited, Some("9")));
        for _ in 0..50 {
            assert_eq!(mischief.decide(first, first.plus(23)).what, What::Ok);
        }
    }
}

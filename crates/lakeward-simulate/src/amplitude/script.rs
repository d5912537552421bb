//! Scripted misbehaviour: which request gets which answer.

use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

use super::hour::Hour;

/// Ways to misbehave. Where not said otherwise they are known of the real
/// Export API or of what stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// The right answer, whatever else would be drawn.
    Ok,
    /// An hour whose delay is not over gives a part of its events. In a
    /// script: the window's hours give their first `share`.
    Late,
    /// A 404. Drawn only for hours whose delay is not over: behind it a 404 says
    /// that there are no events.
    NotFound,
    /// 400: the export is larger than 4 GB. Drawn for windows that are wider
    /// than some days bear, every time, and never for a single hour.
    TooLarge,
    /// 504. Drawn as `too-large` is, and for first tries of any window.
    Timeout,
    /// 429 with Retry-After.
    RateLimited,
    /// 500.
    Error,
    /// 503.
    Unavailable,
    /// 401. Only in a script: nobody tries again.
    Unauthorized,
    /// 403. Only in a script: nobody tries again.
    Forbidden,
    /// A 200 whose body ends early, and ends well: the last chunk is there,
    /// the archive's end is not.
    Truncated,
    /// A 200 with the right Content-Length whose connection is cut early.
    Cut,
    /// The connection is closed without an answer.
    Hangup,
    /// `html` or `gzip`, drawn.
    WrongMagic,
    /// A 200 with a page for people.
    Html,
    /// A 200 with a gzip of the events instead of an archive.
    Gzip,
    /// An archive that is whole but for the bytes of one member.
    Corrupt,
    /// The body comes in drops, for `seconds`.
    Slow,
    /// The body stops half-way for `seconds`, then the connection is cut. Only
    /// in a script, or by name.
    Stall,
    /// The events in other parts than the last time. Not known of the real
    /// one, but not promised either. Only in a script, or by name.
    Resplit,
}

/// What `all` stands for: all from which a client comes back by itself.
pub const ALL: [What; 14] = [
    What::Late,
    What::NotFound,
    What::TooLarge,
    What::Timeout,
    What::RateLimited,
    What::Error,
    What::Unavailable,
    What::Truncated,
    What::Cut,
    What::Hangup,
    What::Html,
    What::Gzip,
    What::Corrupt,
    What::Slow,
];

impl FromStr for What {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(text.into()).map_err(|_| {
            format!(
                "{text:?} is no misbehaviour: late, not-found, too-large, timeout, rate-limited, error, unavailable, \
                 truncated, cut, hangup, wrong-magic, html, gzip, corrupt, slow, stall, resplit, all"
            )
        })
    }
}

impl std::fmt::Display for What {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = serde_json::to_value(self).unwrap_or_default();
        f.write_str(name.as_str().unwrap_or_default())
    }
}

/// One rule of a script. The first rule that fits a request decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Requests whose window holds one of these hours: `2026-03-01T05`, a day
    /// `2026-03-01`, or a range `2026-03-01T05..2026-03-02T07` with both ends.
    /// Without it: all.
    #[serde(default)]
    pub hours: Option<Hours>,
    /// Requests whose window has more hours than this.
    #[serde(default)]
    pub wider_than: u64,
    /// Which of the requests that fit, counted from 1: a number, a list, or a
    /// text `1-3`. Without it: all, for ever.
    #[serde(default)]
    pub requests: Option<Numbers>,
    /// What they get.
    pub what: What,
    /// For `late`: how much of the events is there, from 0 to 1 (default 0.5).
    #[serde(default)]
    pub share: Option<f64>,
    /// For `truncated`, `cut` and `stall`: how much of the body comes, from 0
    /// to 1 (default 0.5).
    #[serde(default)]
    pub at: Option<f64>,
    /// For `slow` (default 2) and `stall` (default 600): how long.
    #[serde(default)]
    pub seconds: Option<f64>,
    /// For `rate-limited` and `unavailable`: the value of Retry-After, seconds
    /// or a date. Default: 1 for 429, no such header for 503. An empty text:
    /// no such header.
    #[serde(default)]
    pub retry_after: Option<String>,
}

/// Some hours, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hours {
    first: Hour,
    last: Hour,
}

impl Hours {
    fn meets(self, first: Hour, last: Hour) -> bool {
        self.first <= last && first <= self.last
    }
}

impl<'de> Deserialize<'de> for Hours {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (first, last) = text.split_once("..").unwrap_or((&text, &text));
        let hour = |text: &str| text.parse::<Hour>().map_err(serde::de::Error::custom);
        let (first, mut end) = (hour(first)?, hour(last)?);
        // A day as the end means all of it.
        if !last.contains('T') {
            end = end.plus(23);
        }
        if end < first {
            return Err(serde::de::Error::custom(format!("{text:?} ends before it begins")));
        }
        Ok(Self { first, last: end })
    }
}

/// Numbers of requests, counted from 1.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Numbers {
    /// This one.
    One(u64),
    /// These.
    Some(Vec<u64>),
    /// From the first to the last: `1-3`.
    Range(String),
}

impl Numbers {
    fn bounds(text: &str) -> Option<(u64, u64)> {
        let (first, last) = text.split_once('-')?;
        Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
    }

    fn hold(&self, number: u64) -> bool {
        match self {
            Self::One(one) => *one == number,
            Self::Some(some) => some.contains(&number),
            Self::Range(text) => {
                Self::bounds(text).is_some_and(|(first, last)| (first..=last).contains(&number))
            }
        }
    }
}

/// A script's rules and how often each has fitted.
#[derive(Debug, Default)]
pub(super) struct Script {
    rules: Vec<(Rule, u64)>,
}

/// Reads a script: a list of rules as YAML or JSON.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(text: &str) -> Result<Vec<Rule>, String> {
    let rules: Vec<Rule> = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    for (index, rule) in rules.iter().enumerate() {
        let wrong = |what: &str| Err(format!("rule {}: {what}", index + 1));
        if let Some(Numbers::Range(text)) = &rule.requests
            && Numbers::bounds(text).is_none_or(|(first, last)| first == 0 || last < first)
        {
            return wrong(&format!("requests {text:?} is no range such as 1-3"));
        }
        let share = |share: Option<f64>| share.is_none_or(|share| (0.0..=1.0).contains(&share));
        if !share(rule.share) || !share(rule.at) {
            return wrong("`share` and `at` are from 0 to 1");
        }
        if !rule.seconds.is_none_or(|seconds| (0.0..=86_400.0).contains(&seconds)) {
            return wrong("`seconds` are from 0 to a day");
        }
    }
    Ok(rules)
}

impl Script {
    pub(super) fn new(rules: Vec<Rule>) -> Self {
        Self { rules: rules.into_iter().map(|rule| (rule, 0)).collect() }
    }

    /// The rule for a request. Every rule counts the requests that fit its
    /// hours, also those that an earlier rule decided.
    pub(super) fn decide(&mut self, first: Hour, last: Hour) -> Option<Rule> {
        let wide = first.until(last) + 1;
        let mut decided = None;
        for (rule, seen) in &mut self.rules {
            if !rule.hours.is_none_or(|hours| hours.meets(first, last)) || wide <= rule.wider_than {
                continue;
            }
            *seen += 1;
            if decided.is_none() && rule.requests.as_ref().is_none_or(|numbers| numbers.hold(*seen)) {
                decided = Some(rule.clone());
            }
        }
        decided
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = read(
            "- { hours: 2026-03-01T05, requests: [1, 3], what: truncated, at: 0.2 }\n\
             - { hours: 2026-03-01, requests: 1-4, what: rate-limited, retry_after: '7' }\n\
             - { wider_than: 6, what: too-large }\n",
        )
        .unwrap();
        let mut script = Script::new(rules);
        let five: Hour = "2026-03-01T05".parse().unwrap();
        let mut ask =
            |first: Hour, hours: u64| script.decide(first, first.plus(hours - 1)).map(|rule| rule.what);
        assert_eq!(ask(five, 1), Some(What::Truncated));
        assert_eq!(ask(five, 1), Some(What::RateLimited));
        assert_eq!(ask(five, 1), Some(What::Truncated));
        assert_eq!(ask(five.plus(1), 1), Some(What::RateLimited));
        assert_eq!(ask(five.plus(1), 1), None);
        assert_eq!(ask(five.plus(24), 1), None);
        assert_eq!(ask(five.plus(24), 7), Some(What::TooLarge));
    }

    #[test]
    fn mistakes_are_told() {
        let cases = [
            ("- { what: nothing }", "unknown variant"),
            ("- { what: slow, second: 5 }", "unknown field"),
            ("- { what: slow, requests: 3-1 }", "rule 1: requests"),
            ("- { what: cut, at: 2 }", "from 0 to 1"),
            ("- { what: cut, hours: 2026-03-02..2026-03-01 }", "ends before"),
            ("what: cut", "sequence"),
        ];
        for (text, part) in cases {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert_eq!(read("[{\"what\": \"wrong-magic\"}]").unwrap()[0].what, What::WrongMagic);
    }

    #[test]
    fn all_names_read_back() {
        for what in ALL {
            assert_eq!(what.to_string().parse(), Ok(what));
        }
        assert!("rubbish".parse::<What>().is_err());
    }
}

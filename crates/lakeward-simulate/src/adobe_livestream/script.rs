//! Scripted misbehaviour: which connection gets what.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// Ways to misbehave. All are known of Livestream or of what stands between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// Nothing goes wrong.
    Ok,
    /// The body ends in order, as at a maintenance.
    Disconnect,
    /// The connection is cut.
    Cut,
    /// No byte comes any more, not even an empty record.
    Silence,
    /// Bytes that are no gzip.
    Garbage,
    /// No answer: the connection is closed.
    Hangup,
    /// 401: the token was revoked.
    Revoked,
    /// 409: too many clients.
    Conflict,
    /// 500.
    Error,
    /// 503: being moved.
    Unavailable,
    /// The answer with this status. Only in a script, with `status`.
    Status,
}

/// What `all` stands for: all from which a client comes back by itself.
pub const ALL: [What; 9] = [
    What::Disconnect,
    What::Cut,
    What::Silence,
    What::Garbage,
    What::Hangup,
    What::Revoked,
    What::Conflict,
    What::Error,
    What::Unavailable,
];

impl What {
    /// Whether it happens to a stream that was opened.
    pub(super) fn is_later(self) -> bool {
        matches!(self, Self::Disconnect | Self::Cut | Self::Silence | Self::Garbage)
    }
}

impl FromStr for What {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        serde_json::from_value(text.into()).map_err(|_| {
            format!(
                "{text:?} is no misbehaviour: disconnect, cut, silence, garbage, hangup, revoked, conflict, error, \
                 unavailable, all"
            )
        })
    }
}

/// One rule of a script. The first rule that fits a request for the stream
/// decides.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests with a good token, counted from 1. Without it: all.
    #[serde(default)]
    pub requests: Vec<u64>,
    /// What they get.
    pub what: What,
    /// For what happens to an open stream: after how many records (default 100).
    #[serde(default)]
    pub after: Option<u64>,
    /// For `status`.
    #[serde(default)]
    pub status: Option<u16>,
}

/// Reads a script: a list of rules as YAML or JSON.
///
/// # Errors
/// What is wrong with it, and where.
pub fn read(text: &str) -> Result<Vec<Rule>, String> {
    let rules: Vec<Rule> = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
    for (index, rule) in rules.iter().enumerate() {
        if (rule.what == What::Status) != rule.status.is_some_and(|status| (400..600).contains(&status)) {
            return Err(format!(
                "rule {}: `status` is from 400 to 599, and goes with `what: status`",
                index + 1
            ));
        }
    }
    Ok(rules)
}

/// What a request for the stream gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) what: What,
    /// Records before it happens.
    pub(super) after: u64,
    pub(super) status: u16,
}

/// What goes wrong: first what the script says, then what the seed draws.
pub(super) fn fate(seed: u64, misbehave: &[What], script: &[Rule], request: u64, rate: u64) -> Fate {
    let fits = |rule: &&Rule| rule.requests.is_empty() || rule.requests.contains(&request);
    if let Some(rule) = script.iter().find(fits) {
        return Fate {
            what: rule.what,
            after: rule.after.unwrap_or(100),
            status: rule.status.unwrap_or(500),
        };
    }
    let mut random = Random::of(&[seed, 9, request]);
    let mut fate = Fate { what: What::Ok, after: 0, status: 500 };
    if misbehave.is_empty() {
        return fate;
    }
    fate.what = *random.pick(misbehave);
    // Up to three seconds of hits.
    fate.after = random.between(1, rate.saturating_mul(3).max(2));
    // Two in a row that get nothing are enough.
    if !fate.what.is_later() && request.is_multiple_of(3) {
        fate.what = What::Ok;
    }
    fate
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_and_draws() {
        let rules = read(
            "- { requests: [1, 3], what: cut, after: 5 }\n- { requests: [2], what: status, status: 424 }",
        )
        .unwrap();
        let what = |request| fate(1, &[], &rules, request, 10);
        assert_eq!(what(1), Fate { what: What::Cut, after: 5, status: 500 });
        assert_eq!(what(2), Fate { what: What::Status, after: 100, status: 424 });
        assert_eq!(what(4).what, What::Ok);
        for (text, part) in [
            ("- { what: nothing }", "unknown variant"),
            ("- { what: cut, at: 1 }", "unknown field"),
            ("- { what: cut, status: 500 }", "rule 1"),
            ("- { what: status, status: 200 }", "rule 1"),
        ] {
            assert!(read(text).unwrap_err().contains(part), "{text}");
        }
        let drawn: std::collections::BTreeSet<What> =
            (1..200).map(|n| fate(1, &ALL, &[], n, 10).what).collect();
        assert!(ALL.iter().all(|what| drawn.contains(what)), "{drawn:?}");
    }
}

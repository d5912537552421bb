//! Which objects are the source's, and what their names say.

use std::time::Duration;

use glob::{MatchOptions, Pattern};
use lakeward_model::{Slice, Timestamp, Wanted};

use super::config::{DateOf, ObjectsConfig, ObjectsConfigError, wrong};
use super::pattern::KeyPattern;
use super::place::Place;

/// The longest name of an object; that of S3.
const NAME_BYTES_MAX: usize = 1_024;

/// The rules for names.
#[derive(Debug, Clone)]
pub(super) struct Names {
    glob: Pattern,
    pattern: Option<KeyPattern>,
    date: DateOf,
    settle: Duration,
}

/// An object as its store lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Below the source's url.
    pub(super) name: String,
    /// Its etag without quotes, or what a folder has instead.
    pub(super) version: String,
    pub(super) bytes: u64,
    pub(super) modified: Timestamp,
}

impl Names {
    pub(super) fn of(config: &ObjectsConfig) -> Result<Self, ObjectsConfigError> {
        let glob = match Pattern::new(&config.glob) {
            Ok(_) if config.glob.is_empty() => return wrong("glob", "`**` means all"),
            Ok(_) if config.glob.starts_with('/') => {
                return wrong("glob", "relative to the url, so without a slash at its start");
            }
            Ok(_) if config.glob.contains(['{', '}']) => {
                return wrong("glob", "knows *, **, ? and [ab]; parts in braces belong into `pattern`");
            }
            Ok(glob) => glob,
            Err(error) => return wrong("glob", error.to_string()),
        };
        let pattern = config.pattern.as_deref().map(KeyPattern::parse).transpose();
        let pattern = pattern.or_else(|problem| wrong("pattern", problem))?;
        let dated = pattern.as_ref().is_some_and(KeyPattern::is_dated);
        let date = match config.date {
            Some(DateOf::Key) if !dated => {
                return wrong("date", "`key` needs a date in `pattern`: {part:time} or {year}/{month}/{day}");
            }
            Some(date) => date,
            None if dated => DateOf::Key,
            None => DateOf::Modified,
        };
        let settle = config.settle(&Place::of(config)?);
        Ok(Self { glob, pattern, date, settle })
    }

    /// Which date filters mean.
    pub(super) fn date(&self) -> DateOf {
        self.date
    }

    /// The slice that an object is, or nothing if it is none of the source's.
    pub(super) fn slice(&self, object: Object) -> Option<Slice> {
        let rules = MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: false,
        };
        let Object { name, version, bytes, modified } = object;
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !self.glob.matches_with(&name, rules) {
            return None;
        }
        let (captured, key) = match &self.pattern {
            Some(pattern) => {
                let said = pattern.read(&name)?;
                (said.captured, said.date)
            }
            None => (Vec::new(), None),
        };
        let date = match self.date {
            DateOf::Key => key,
            DateOf::Modified => Some(modified),
        };
        let settle = i64::try_from(self.settle.as_micros()).unwrap_or(i64::MAX);
        let ready_at = (settle > 0).then(|| Timestamp(modified.0.saturating_add(settle)));
        Some(Slice { name, version, date, bytes: Some(bytes), ready_at, captured })
    }

    /// How all names start that can be meant; `None` if none can.
    pub(super) fn prefix(&self, wanted: &Wanted) -> Option<String> {
        let glob = self.glob.as_str();
        let literal = glob.find(['*', '?', '[']).map_or(glob, |end| &glob[..end]);
        let said = self.pattern.as_ref().map(|pattern| pattern.prefix(&wanted.captured));
        let mut longest = literal.to_string();
        for other in [said.unwrap_or_default(), wanted.prefix.clone()] {
            if other.starts_with(&longest) {
                longest = other;
            } else if !longest.starts_with(&other) {
                return None;
            }
        }
        Some(longest)
    }

    /// What is wrong with a wish that no object can ever fulfil.
    pub(super) fn problem(&self, wanted: &Wanted) -> Option<String> {
        let known = |name: &str| self.pattern.as_ref().is_some_and(|pattern| pattern.has(name));
        let (name, _) = wanted.captured.iter().find(|(name, _)| !known(name))?;
        Some(match &self.pattern {
            Some(pattern) => format!("the names have no part `{name}`; `pattern` has {}", pattern.parts()),
            None => format!("the names have no part `{name}`: say what they have in `pattern`"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(change: impl FnOnce(&mut ObjectsConfig)) -> Names {
        let mut config = ObjectsConfig { url: "s3://b/".into(), ..ObjectsConfig::default() };
        change(&mut config);
        Names::of(&config).expect("good names")
    }

    fn object(name: &str) -> Object {
        Object { name: name.into(), version: "v".into(), bytes: 7, modified: Timestamp(5_000_000) }
    }

    #[test]
    fn which_names_are_ours() {
        let check = |glob: &str, name: &str, ours: bool| {
            let names = names(|config| config.glob = glob.into());
            assert_eq!(names.slice(object(name)).is_some(), ours, "{glob} {name}");
        };
        check("**", "a/b/c", true);
        check("**", "a", true);
        check("**/*.jsonl", "a.jsonl", true);
        check("**/*.jsonl", "a/b.jsonl", true);
        check("**/*.jsonl", "a/b.json", false);
        check("section/*/video/*.jsonl", "section/1/video/x.jsonl", true);
        check("section/*/video/*.jsonl", "section/1/2/video/x.jsonl", false);
        check("section/14[56]/**", "section/145/x/y", true);
        check("a?c", "abc", true);
        check("*", "a/b", false);
        check("**", &"x".repeat(1_025), false);
    }

    #[test]
    fn a_slice_says_when_it_is_ready_and_which_date_it_has() {
        let settled = names(|config| config.settle = Some(Duration::from_secs(2)));
        let slice = settled.slice(object("a")).expect("ours");
        assert_eq!((slice.ready_at, slice.date), (Some(Timestamp(7_000_000)), Some(Timestamp(5_000_000))));
        let dated = names(|config| config.pattern = Some("{t:time}".into()));
        let slice = dated.slice(object("1970-01-02")).expect("ours");
        assert_eq!((slice.ready_at, slice.date), (None, Some(Timestamp(86_400_000_000))));
        assert_eq!(slice.bytes, Some(7));
        let modified = names(|config| {
            config.pattern = Some("{t:time}".into());
            config.date = Some(DateOf::Modified);
        });
        assert_eq!(modified.slice(object("1970-01-02")).and_then(|s| s.date), Some(Timestamp(5_000_000)));
    }

    #[test]
    fn the_list_is_as_narrow_as_can_be() {
        let check = |glob: &str, pattern: &str, wanted: &Wanted, expect: Option<&str>| {
            let names = names(|config| {
                config.glob = glob.into();
                config.pattern = (!pattern.is_empty()).then(|| pattern.into());
            });
            assert_eq!(names.prefix(wanted).as_deref(), expect, "{glob} {pattern} {wanted:?}");
        };
        let all = Wanted::default();
        let prefix = |prefix: &str| Wanted { prefix: prefix.into(), ..Wanted::default() };
        let part = Wanted { captured: vec![("n".into(), "145".into())], ..Wanted::default() };
        check("**", "", &all, Some(""));
        check("a/b/*.gz", "", &all, Some("a/b/"));
        check("a/b.gz", "", &all, Some("a/b.gz"));
        check("a/*", "", &prefix("a/b"), Some("a/b"));
        check("a/*", "", &prefix("b"), None);
        check("s/*/x", "s/{n}/x", &part, Some("s/145/x"));
        check("s/*/x", "s/{n}/x", &prefix("s/14"), Some("s/14"));
        check("s/1[0-9]/x", "s/{n}/x", &part, Some("s/145/x"));
        assert!(names(|_| {}).problem(&part).is_some_and(|problem| problem.contains("`pattern`")));
        assert_eq!(names(|config| config.pattern = Some("{n}".into())).problem(&part), None);
    }
}

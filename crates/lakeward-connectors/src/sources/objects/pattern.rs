//! What the names of objects say: `section/{section_id:int}/{category}/…`.

use lakeward_model::{Captured, Timestamp};
use regex::Regex;

use super::times::{Field, Layout, instant};

/// The longest pattern.
const BYTES_MAX: usize = 1_024;
/// The most parts of a pattern.
const PARTS_MAX: usize = 32;
/// Names that columns of ours have, and what `!{source:file}` and
/// `!{source:stem}` mean in output paths.
const TAKEN: [&str; 6] = ["_etag", "_file", "_line", "_rescued", "file", "stem"];

/// A pattern that names fit or do not fit.
#[derive(Debug, Clone)]
pub(super) struct KeyPattern {
    regex: Regex,
    parts: Vec<Part>,
    pieces: Vec<Piece>,
    dated: bool,
}

#[derive(Debug, Clone)]
struct Part {
    name: String,
    number: bool,
    /// Its group in the expression; those of `fields` follow it.
    group: usize,
    fields: Vec<Field>,
}

/// A piece of the pattern, for finding the prefix of what is wanted.
#[derive(Debug, Clone)]
enum Piece {
    Literal(String),
    Part(String),
    Any,
}

/// What a name says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) captured: Vec<Captured>,
    pub(super) date: Option<Timestamp>,
}

impl KeyPattern {
    /// The text of an error says what to change.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > BYTES_MAX {
            return Err(format!("1 to {BYTES_MAX} bytes"));
        }
        if text.starts_with('/') {
            return Err(String::from("relative to the url, so without a slash at its start"));
        }
        let (pieces, sources) = split(text)?;
        let has_time = sources.iter().any(|source| source.kind.starts_with("time"));
        let has_year = sources.iter().any(|source| source.name == "year");
        let mut expression = String::from("^");
        let (mut parts, mut group) = (Vec::new(), 1);
        let mut sources = sources.into_iter();
        for piece in &pieces {
            match piece {
                Piece::Literal(literal) => expression.push_str(&regex::escape(literal)),
                Piece::Any => expression.push_str("[^/]*"),
                Piece::Part(name) if name == "**" => expression.push_str(".*"),
                Piece::Part(_) => {
                    let Some(source) = sources.next() else { break };
                    let (inner, fields) = source.expression(has_year && !has_time)?;
                    expression.push_str(&format!("({inner})"));
                    let number = source.kind == "int";
                    let count = fields.len();
                    parts.push(Part { name: source.name, number, group, fields });
                    group += 1 + count;
                }
            }
        }
        expression.push('$');
        let times = parts.iter().filter(|part| !part.fields.is_empty());
        if has_time && times.count() > 1 {
            return Err(String::from("one part is the object's date, not several"));
        }
        let dated = parts.iter().any(|part| !part.fields.is_empty());
        let regex = Regex::new(&expression).map_err(|error| error.to_string())?;
        Ok(Self { regex, parts, pieces, dated })
    }

    /// Whether names that fit have a date.
    pub(super) fn is_dated(&self) -> bool {
        self.dated
    }

    /// What a name says; `None` if it does not fit.
    pub(super) fn read(&self, name: &str) -> Option<Said> {
        let found = self.regex.captures(name)?;
        let mut captured = Vec::with_capacity(self.parts.len());
        let mut fields = Vec::new();
        for part in &self.parts {
            captured.push(Captured::new(&part.name, found.get(part.group)?.as_str(), part.number));
            for (at, field) in part.fields.iter().enumerate() {
                if let Some(text) = found.get(part.group + 1 + at) {
                    fields.push((*field, text.as_str()));
                }
            }
        }
        // A name with a 31st of February does not fit.
        let date = if self.dated { Some(instant(fields.into_iter())?) } else { None };
        Some(Said { captured, date })
    }

    /// How every name starts whose parts have these values.
    pub(super) fn prefix(&self, wanted: &[(String, String)]) -> String {
        let mut prefix = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Literal(literal) => prefix.push_str(literal),
                Piece::Part(name) => match wanted.iter().find(|(wanted, _)| wanted == name) {
                    Some((_, value)) => prefix.push_str(value),
                    None => break,
                },
                Piece::Any => break,
            }
        }
        prefix
    }

    /// Whether it has a part of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.name == name)
    }

    /// The names of its parts, for a message.
    pub(super) fn parts(&self) -> String {
        self.parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>().join(", ")
    }
}

/// A part as it was written.
struct Source {
    name: String,
    /// Empty, `int`, `time` or `time:…`.
    kind: String,
}

impl Source {
    fn expression(&self, date_in_parts: bool) -> Result<(String, Vec<Field>), String> {
        let of_layout = |layout: Layout| Ok((layout.expression, layout.fields));
        match self.kind.as_str() {
            "time" => of_layout(Layout::iso()),
            "int" | "" if date_in_parts => match self.name.as_str() {
                "year" => of_layout(Layout::single(Field::Year)),
                "month" => of_layout(Layout::single(Field::Month)),
                "day" => of_layout(Layout::single(Field::Day)),
                "hour" => of_layout(Layout::single(Field::Hour)),
                _ => Ok(self.plain()),
            },
            "int" | "" => Ok(self.plain()),
            kind => match kind.strip_prefix("time:") {
                Some(layout) => of_layout(Layout::parse(layout)?),
                None => Err(format!("{{{}:{kind}}}: a part is text, int, time or time:<letters>", self.name)),
            },
        }
    }

    /// As few characters as fit, so that `{a}_{b}` parts at the first `_`.
    fn plain(&self) -> (String, Vec<Field>) {
        let expression = if self.kind == "int" { "-?[0-9]+" } else { "[^/]+?" };
        (expression.into(), Vec::new())
    }
}

fn split(text: &str) -> Result<(Vec<Piece>, Vec<Source>), String> {
    let (mut pieces, mut sources): (Vec<Piece>, Vec<Source>) = (Vec::new(), Vec::new());
    let mut literal = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        rest = &rest[c.len_utf8()..];
        if c != '{' && c != '*' && c != '}' {
            literal.push(c);
            continue;
        }
        if !literal.is_empty() {
            pieces.push(Piece::Literal(std::mem::take(&mut literal)));
        }
        match c {
            '*' if rest.starts_with('*') => {
                rest = &rest[1..];
                pieces.push(Piece::Part(String::from("**")));
            }
            '*' => pieces.push(Piece::Any),
            '}' => return Err(String::from("a `}` without its `{`")),
            _ => {
                let (inside, behind) = rest.split_once('}').ok_or("a `{` without its `}`")?;
                rest = behind;
                let source = part(inside)?;
                if sources.iter().any(|other| other.name == source.name) {
                    return Err(format!("two parts are named `{}`", source.name));
                }
                pieces.push(Piece::Part(source.name.clone()));
                sources.push(source);
            }
        }
    }
    if !literal.is_empty() {
        pieces.push(Piece::Literal(literal));
    }
    if sources.len() > PARTS_MAX {
        return Err(format!("at most {PARTS_MAX} parts"));
    }
    Ok((pieces, sources))
}

fn part(inside: &str) -> Result<Source, String> {
    let (name, kind) = inside.split_once(':').unwrap_or((inside, ""));
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name.len() > 64 || !name.chars().all(fits) || name.starts_with(char::is_numeric) {
        return Err(format!("`{name}`: a part's name is letters, digits and `_`, not starting with a digit"));
    }
    if TAKEN.iter().any(|taken| name.eq_ignore_ascii_case(taken)) {
        return Err(format!("`{name}` is a name of ours ({}): name the part otherwise", TAKEN.join(", ")));
    }
    let kind = if kind == "text" { "" } else { kind };
    Ok(Source { name: name.into(), kind: kind.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TORUS: &str = "section/{section_id:int}/{category}/{timestamp:time}_{bundle_id}.jsonl";

    /// `name=value` of each part, numbers with a `#`, and the date.
    fn said(pattern: &str, name: &str) -> Option<(String, Option<String>)> {
        let said = KeyPattern::parse(pattern).expect(pattern).read(name)?;
        let part = |part: &Captured| match &part.value {
            lakeward_model::CapturedValue::Text(text) => format!("{}={text}", part.name),
            lakeward_model::CapturedValue::Number(text) => format!("{}=#{text}", part.name),
        };
        let parts: Vec<String> = said.captured.iter().map(part).collect();
        let date = said.date.map(|at| jiff::Timestamp::from_microsecond(at.0).expect("a time").to_string());
        Some((parts.join(" "), date))
    }

    #[test]
    fn what_names_say() {
        let check = |pattern: &str, name: &str, parts: &str, date: &str| {
            let date = (!date.is_empty()).then(|| date.to_string());
            assert_eq!(said(pattern, name), Some((parts.to_string(), date)), "{pattern} {name}");
        };
        check(
            TORUS,
            "section/145/video/2024-01-01T12-00-00.123456Z_ABC.jsonl",
            "section_id=#145 category=video timestamp=2024-01-01T12-00-00.123456Z bundle_id=ABC",
            "2024-01-01T12:00:00.123456Z",
        );
        check(
            TORUS,
            "section/007/a/2024-01-01_x_y.jsonl",
            "section_id=007 category=a timestamp=2024-01-01 bundle_id=x_y",
            "2024-01-01T00:00:00Z",
        );
        check(
            "{t:time}.gz",
            "2024-02-29T23:59:59+01:30.gz",
            "t=2024-02-29T23:59:59+01:30",
            "2024-02-29T22:29:59Z",
        );
        check("{t:time}.gz", "20240229T2359Z.gz", "t=20240229T2359Z", "2024-02-29T23:59:00Z");
        check("x-{t:time:yyyyMMddHH}", "x-2024030405", "t=2024030405", "2024-03-04T05:00:00Z");
        check("{t:time:yyyy/MM/dd'T'HH}/*", "2024/03/04T05/file", "t=2024/03/04T05", "2024-03-04T05:00:00Z");
        check(
            "{t:time:%Y-%m-%d_%H%M%S}.csv",
            "2024-03-04_050607.csv",
            "t=2024-03-04_050607",
            "2024-03-04T05:06:07Z",
        );
        check("log-{t:time:%s}", "log-1700000000", "t=1700000000", "2023-11-14T22:13:20Z");
        check(
            "{year}/{month}/{day}/{hour}/**",
            "2024/3/04/5/a/b",
            "year=2024 month=3 day=04 hour=5",
            "2024-03-04T05:00:00Z",
        );
        check(
            "year={year:int}/month={month:int}/{f}",
            "year=2024/month=12/f",
            "year=#2024 month=#12 f=f",
            "2024-12-01T00:00:00Z",
        );
        // Without a year, a month is a part as any other.
        check("{month}/{f}", "may/f", "month=may f=f", "");
        check("a.b/{n:int}", "a.b/-5", "n=#-5", "");
        check("**/{f}.json", "a/b/c.json", "f=c", "");
        check("{a}/x", "ä ö/x", "a=ä ö", "");
    }

    #[test]
    fn names_that_do_not_fit() {
        let check = |pattern: &str, name: &str| assert_eq!(said(pattern, name), None, "{pattern} {name}");
        check(TORUS, "section/abc/video/2024-01-01T12-00-00Z_A.jsonl");
        check(TORUS, "section/145/video/sub/2024-01-01T12-00-00Z_A.jsonl");
        check(TORUS, "section/145/video/2024-13-01T12-00-00Z_A.jsonl");
        check(TORUS, "section/145/video/2024-02-30_A.jsonl");
        check(TORUS, "section/145/video/yesterday_A.jsonl");
        check(TORUS, "section/145/video/2024-01-01T12-00-00Z_A.jsonl.tmp");
        check(TORUS, "x/section/145/video/2024-01-01T12-00-00Z_A.jsonl");
        check("a.b", "aXb");
        check("{a}/x", "/x");
        check("{year}/{month}", "2024/13");
    }

    #[test]
    fn patterns_that_cannot_be_say_why() {
        let check = |pattern: &str, expect: &str| {
            let problem = KeyPattern::parse(pattern).expect_err(pattern);
            assert!(problem.contains(expect), "{pattern}: {problem}");
        };
        check("", "bytes");
        check("/a", "slash");
        check("{a", "without its `}`");
        check("a}", "without its `{`");
        check("{}", "a part's name");
        check("{1a}", "a part's name");
        for taken in ["_etag", "_file", "_line", "_rescued", "_Rescued", "file", "stem", "Stem:int"] {
            check(&format!("x/{{{taken}}}"), "a name of ours");
        }
        check("{a}/{a}", "two parts");
        check("{a:float}", "text, int, time");
        check("{a:time}{b:time}", "one part");
        check("{a:time:HH}", "no year");
        check("{a:time:yyyy YYYY}", "`YYYY` is not known");
        check("{a:time:%Y%q}", "`%q` is not known");
        check("{a:time:%Y%Y}", "twice");
    }

    #[test]
    fn what_is_wanted_narrows_the_list() {
        let pattern = KeyPattern::parse(TORUS).expect("a pattern");
        let wanted = |parts: &[(&str, &str)]| {
            let parts: Vec<_> = parts.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
            pattern.prefix(&parts)
        };
        assert_eq!(wanted(&[]), "section/");
        assert_eq!(wanted(&[("section_id", "145")]), "section/145/");
        assert_eq!(wanted(&[("category", "video")]), "section/");
        assert_eq!(wanted(&[("category", "video"), ("section_id", "145")]), "section/145/video/");
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(pattern in "[{}a:*/time%yY_'-]{0,40}", name in ".{0,60}") {
            if let Ok(pattern) = KeyPattern::parse(&pattern) {
                let _ = pattern.read(&name);
            }
            if let Ok(pattern) = KeyPattern::parse(TORUS) {
                let _ = pattern.read(&format!("section/1/x/{name}_a.jsonl"));
            }
        }
    }
}

//! Sizes and times as people write them: `64MiB`, `10s`.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// What a size looks like, for the JSON Schema.
pub const BYTES_PATTERN: &str = r"^\s*[0-9]+\s*(B|KB|MB|GB|KiB|MiB|GiB|TiB)?\s*$";

/// What a time looks like, for the JSON Schema; the parser knows a little more.
pub const DURATION_PATTERN: &str = r"^\s*([0-9]+([.,][0-9]+)?\s*[a-zA-Zµ]+[\s,]*)+$|^PT[0-9A-Z.,]+$";

/// How a size looks in the configuration: a number of bytes, or a number with
/// a unit.
#[derive(Debug)]
pub enum BytesText {}

impl JsonSchema for BytesText {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Bytes")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Bytes: a number, or a text such as `64MiB`, `1GB`, `512KiB`.",
            "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": BYTES_PATTERN }],
        })
    }
}

/// How a time looks in the configuration.
#[derive(Debug)]
pub enum DurationText {}

impl JsonSchema for DurationText {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("Duration")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time such as `10s`, `1m 30s` or `7d`.",
            "type": "string",
            "pattern": DURATION_PATTERN,
        })
    }
}

/// `u64` bytes, read from a number or a text such as `64MiB`.
pub mod bytes {
    use serde::de::{Deserializer, Error, Visitor};
    use serde::ser::Serializer;

    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];

    pub(super) fn parse(text: &str) -> Option<u64> {
        let text = text.trim();
        let (digits, unit) = match UNITS.iter().find(|(name, _)| text.ends_with(name)) {
            Some((name, unit)) => (&text[..text.len() - name.len()], *unit),
            None => (text, 1),
        };
        digits.trim().parse::<u64>().ok()?.checked_mul(unit)
    }

    /// Writes the number of bytes.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(bytes: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(*bytes)
    }

    /// Reads a number or a text.
    ///
    /// # Errors
    /// The text is not a size.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = u64;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a size such as 64MiB")
            }
            fn visit_u64<E: Error>(self, bytes: u64) -> Result<u64, E> {
                Ok(bytes)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<u64, E> {
                parse(text).ok_or_else(|| E::custom(format!("{text:?} is not a size such as 64MiB")))
            }
        }
        deserializer.deserialize_any(Bytes)
    }
}

/// A [`std::time::Duration`], written `10s`, `1m 30s` or `7d`.
pub mod duration {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::{Serialize, Serializer};

    /// Writes the time as text.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        let signed = jiff::SignedDuration::try_from(*duration).map_err(serde::ser::Error::custom)?;
        format!("{signed:#}").serialize(serializer)
    }

    /// Reads the text.
    ///
    /// # Errors
    /// The text is not a time, or below zero.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is not a time such as 10s, 12h or 7d")))
    }

    /// Days are 24 hours and weeks 7 days; months and years are no times.
    pub(super) fn parse(text: &str) -> Option<Duration> {
        let span: jiff::Span = text.parse().ok()?;
        let signed = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).ok()?;
        Duration::try_from(signed).ok()
    }
}

/// A [`std::time::Duration`] or nothing, written as in [`duration`].
pub mod optional_duration {
    use std::time::Duration;

    use serde::de::{Deserialize, Deserializer, Error};
    use serde::ser::Serializer;

    /// Writes the time as text.
    ///
    /// # Errors
    /// The serializer's own.
    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::duration::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// Reads the text.
    ///
    /// # Errors
    /// The text is not a time, or below zero.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let parsed = super::duration::parse(&text);
        parsed
            .map(Some)
            .ok_or_else(|| D::Error::custom(format!("{text:?} is not a time such as 10s, 12h or 7d")))
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn times() {
        let check = |text: &str, seconds: Option<u64>| {
            assert_eq!(super::duration::parse(text).map(|time| time.as_secs()), seconds, "{text}");
        };
        check("10s", Some(10));
        check("1m 30s", Some(90));
        check("7d", Some(7 * 86_400));
        check("2w 1d", Some(15 * 86_400));
        check("36h", Some(36 * 3_600));
        check("PT1M", Some(60));
        check("1 month", None);
        check("-1s", None);
        check("soon", None);
    }

    #[test]
    fn sizes() {
        let check = |text: &str, expect: Option<u64>| assert_eq!(super::bytes::parse(text), expect, "{text}");
        check("64MiB", Some(64 << 20));
        check("1 GB", Some(1_000_000_000));
        check("12", Some(12));
        check("12B", Some(12));
        check("1.5MiB", None);
        check("MiB", None);
        check("-1", None);
        check("99999999999TiB", None);
    }
}

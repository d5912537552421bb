//! Instants as people and other programs read them: RFC 3339, in UTC. For
//! `#[serde(with = "instant")]` and, where one may be missing,
//! `#[serde(with = "instant::maybe")]`.

use lakeward_model::Timestamp;
use serde::{Deserialize, Deserializer, Serializer, de};

/// An instant from text: RFC 3339 with any offset.
///
/// # Errors
/// What a person should change.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let instant: Result<jiff::Timestamp, _> = text.parse();
    instant.map(|instant| Timestamp(instant.as_microsecond())).map_err(|_| {
        let text: String = text.chars().take(100).collect();
        format!("{text:?} is no instant; write one like 2026-03-01T05:00:00Z")
    })
}

pub(crate) fn serialize<S: Serializer>(instant: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(instant)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map_err(de::Error::custom)
}

/// Where an instant may be missing.
pub(crate) mod maybe {
    use super::*;

    #[allow(clippy::ref_option, reason = "serde calls it so")]
    pub(crate) fn serialize<S: Serializer>(instant: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match instant {
            Some(instant) => to.collect_str(instant),
            None => to.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Timestamp>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| parse(&text).map_err(de::Error::custom)).transpose()
    }
}

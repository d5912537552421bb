//! Events as the Export API gives them: the 55 columns of real exports, always
//! there and null when empty, on one line. A pure function of the seed, the
//! hour and the event's number.

mod line;
mod person;
mod times;

use super::hour::Hour;
use super::plan::{purpose, uuid};
use crate::random::Random;
use line::Line;
use person::Person;
use times::Times;

/// Where in a line its ids stand, for writing others over them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ids {
    /// The uuid's first byte.
    pub(super) uuid: usize,
    /// The first byte of `$insert_id`, which has the form of a uuid, if there
    /// is one.
    pub(super) insert_id: Option<usize>,
}

/// Which event.
#[derive(Debug, Clone, Copy)]
pub(super) struct Which {
    pub(super) seed: u64,
    pub(super) project: u64,
    pub(super) hour: Hour,
    /// Its number in the hour.
    pub(super) index: u64,
    /// How many events the hour has: they come evenly, so this says when.
    pub(super) of: u64,
}

/// Appends the event and a newline.
pub(super) fn write(which: Which, out: &mut Vec<u8>) -> Ids {
    let mut random = Random::of(&[which.seed, purpose::EVENT, which.hour.number(), which.index]);
    let person = Person::draw(which.seed, &mut random);
    let times = Times::draw(which, &mut random);
    let kind = random.below(KINDS.len() as u64) as usize;
    out.push(b'{');
    let mut line = Line(out);
    let insert_id = identity(&mut line, which, &person, &mut random);
    device(&mut line, &person, &times);
    happened(&mut line, kind, &person, &times, &mut random);
    places(&mut line, &person, &times, &mut random);
    let uuid = account(&mut line, which, &person, &times);
    // The comma behind the last column.
    out.pop();
    out.extend_from_slice(b"}\n");
    Ids { uuid, insert_id }
}

/// What `$insert_id` is for an event that has one.
pub(super) fn insert_id(seed: u64, hour: Hour, index: u64) -> uuid::Uuid {
    uuid(seed ^ 0x69, hour, index)
}

const KINDS: [&str; 6] = [
    "Page Viewed",
    "watch_tutorial",
    "segment.definition.permission_paywall.load",
    "[Amplitude] Element Clicked",
    "Purchase (Completed)",
    "$identify",
];

fn identity(line: &mut Line<'_>, which: Which, person: &Person, random: &mut Random) -> Option<usize> {
    let insert_id = if random.chance(92) {
        Some(line.uuid("$insert_id", insert_id(which.seed, which.hour, which.index)))
    } else {
        line.null("$insert_id");
        None
    };
    line.null("$insert_key");
    line.json("$schema", if random.chance(80) { "12" } else { "null" });
    line.null("adid");
    line.null("amplitude_attribution_ids");
    line.null("amplitude_event_type");
    line.value("amplitude_id", 300_000_000_000 + person.number);
    line.value("app", which.project);
    insert_id
}

fn device(line: &mut Line<'_>, person: &Person, times: &Times) {
    line.text("city", person.place.city);
    line.time("client_event_time", times.client_event);
    line.time("client_upload_time", times.client_upload);
    line.text("country", person.place.country);
    // Whoever was seen first under another id says so here.
    if person.number.is_multiple_of(97) {
        line.value(
            "data",
            format_args!(
                "{{\"first_event\":true,\"merged_amplitude_id\":{}}}",
                400_000_000_000 + person.number
            ),
        );
    } else {
        line.json("data", "{\"group_ids\":{\"3124\":[2357687219]},\"group_first_event\":{}}");
    }
    line.text("data_type", "event");
    line.text("device_brand", person.device.brand);
    line.text("device_carrier", person.device.carrier);
    line.text("device_family", person.device.family);
    line.uuid("device_id", person.device_id);
    line.text("device_manufacturer", person.device.maker);
    line.text("device_model", person.device.model);
    line.text("device_type", person.device.kind);
    line.text("dma", person.place.dma);
}

fn happened(line: &mut Line<'_>, kind: usize, person: &Person, times: &Times, random: &mut Random) {
    line.value("event_id", random.between(1, 5_000));
    properties(line, kind, person, random);
    line.time("event_time", times.event);
    line.text("event_type", KINDS[kind]);
    line.json("global_user_properties", "{}");
    line.json("group_properties", "{\"[Segment] Group\":{\"90f9e1\":{\"plan tier\":\"gold\"}}}");
    line.value(
        "groups",
        format_args!("{{\"[Segment] Group\":[\"90f9e1\"],\"team_id\":{}}}", person.number % 40),
    );
    line.null("idfa");
    line.value("ip_address", format_args!("\"203.0.113.{}\"", person.number % 254 + 1));
    line.json("is_attribution_event", "false");
}

/// What the event itself says: keys with dollars, spaces, brackets and dots,
/// nested values, and values whose type is not always the same.
fn properties(line: &mut Line<'_>, kind: usize, person: &Person, random: &mut Random) {
    const NAME: &str = "event_properties";
    let number = random.below(1_000_000);
    match kind {
        0 => line.value(NAME, format_args!(
            "{{\"[Amplitude] Page Path\":\"/courses/{number}\",\"[Amplitude] Page Title\":\"Kurs \\\"{}\\\" – Übersicht\",\"page.depth\":{},\"referrer\":null}}",
            number % 97, number % 12)),
        1 => line.value(NAME, format_args!(
            "{{\"video id\":\"v-{number}\",\"watched.seconds\":{}.{:02},\"speed\":{},\"captions\":[\"en\",\"pt-BR\"],\"$ref\":{{\"a.b\":{{\"c\":[1,2,{{\"d\":null}}]}}}}}}",
            number % 900, number % 100, if number.is_multiple_of(2) { "1" } else { "1.5" })),
        2 => line.value(NAME, format_args!(
            "{{\"paywall\":\"permission\",\"nonInteraction\":{},\"counter\":{},\"note\":\"tab\\there\\nnew line, snow \\u2603 and 🎉\"}}",
            number.is_multiple_of(3), 9_007_199_254_740_993_u64 + number)),
        3 => line.value(NAME, format_args!(
            "{{\"[Amplitude] Element Text\":\"Buy now\",\"[Amplitude] Element Hierarchy\":\"html > body > main > section:nth-child({}) > button.cta\",\"x\":{},\"y\":-{}}}",
            number % 9, number % 1920, number % 1080)),
        // Cents as a number, or, from an old client, as a text.
        4 if person.number.is_multiple_of(10) => line.value(NAME, format_args!(
            "{{\"order id\":\"{number:08}\",\"cart.total\":\"{}.{:02}\",\"currency\":\"CAD\"}}", number / 100, number % 100)),
        4 => line.value(NAME, format_args!(
            "{{\"order id\":\"{number:08}\",\"cart.total\":{}.{:02},\"currency\":\"CAD\",\"items\":[{{\"sku\":\"A-1\",\"qty\":{}}}]}}",
            number / 100, number % 100, number % 5 + 1)),
        _ => line.json(NAME, "{}"),
    }
}

fn places(line: &mut Line<'_>, person: &Person, times: &Times, random: &mut Random) {
    line.text("language", person.place.language);
    line.text("library", person.device.library);
    line.number("location_lat", person.place.lat);
    line.number("location_lng", person.place.lng);
    line.text("os_name", person.device.os_name);
    line.text("os_version", person.device.os_version);
    line.null("partner_id");
    line.json("paying", if person.paying { "true" } else { "null" });
    line.json("plan", "{}");
    line.text("platform", person.device.platform);
    line.time("processed_time", times.processed);
    line.text("region", person.place.region);
    line.null("sample_rate");
    line.time("server_received_time", times.received);
    line.time("server_upload_time", times.upload);
    if random.chance(12) {
        // An event outside of any session.
        line.json("session_id", "-1");
    } else {
        let begun = times.client_event.div_euclid(1_000) - random.below(1_800_000).cast_signed();
        line.value("session_id", begun);
    }
    line.null("source_id");
}

/// Who, and the last columns. Where the uuid stands.
fn account(line: &mut Line<'_>, which: Which, person: &Person, times: &Times) -> usize {
    line.text("start_version", "-");
    line.time("user_creation_time", times.upload - person.age_days * 24 * super::hour::MICROS);
    if person.known {
        line.value("user_id", format_args!("\"user-{}@example.com\"", person.number));
    } else {
        line.null("user_id");
    }
    line.value("user_properties", format_args!(
        "{{\"role\":\"{}\",\"[Experiment] new.nav\":\"{}\",\"initial_utm_source\":\"EMPTY\",\"seats\":{},\"$plan (current)\":null}}",
        person.role,
        if person.number.is_multiple_of(2) { "on" } else { "control" },
        person.number % 30));
    let uuid = line.uuid("uuid", uuid(which.seed, which.hour, which.index));
    line.text("version_name", if person.device.platform == "iOS" { "8.41.0 (2201)" } else { "-" });
    uuid
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    fn event(index: u64) -> serde_json::Map<String, serde_json::Value> {
        let mut out = Vec::new();
        let hour = "2026-03-01T05".parse().unwrap();
        let ids = write(Which { seed: 1, project: 7, hour, index, of: 2_000 }, &mut out);
        assert!(out.ends_with(b"}\n") && out.iter().filter(|b| **b == b'\n').count() == 1);
        let event: serde_json::Map<_, _> = serde_json::from_slice(&out).unwrap();
        assert_eq!(out[ids.uuid..ids.uuid + 36], *event["uuid"].as_str().unwrap().as_bytes());
        let insert_id = ids.insert_id.map(|at| String::from_utf8(out[at..at + 36].to_vec()).unwrap());
        assert_eq!(insert_id.as_deref(), event["$insert_id"].as_str());
        event
    }

    #[test]
    fn events_have_all_columns_and_their_hour() {
        let mut late = 0;
        for index in 0..2_000 {
            let event = event(index);
            assert_eq!(event.len(), 55, "{event:?}");
            let time = |name: &str| event[name].as_str().unwrap().to_string();
            assert!(time("server_upload_time").starts_with("2026-03-01 05:"), "{event:?}");
            assert_eq!(time("event_time").len(), "2020-11-24 09:59:58.880000".len());
            if time("event_time").as_str() < "2026-03-01 04" {
                late += 1;
            }
        }
        assert!((100..400).contains(&late), "{late} of 2000 events are late");
    }

    /// Whoever keeps a seed keeps its events. If this fails, what is written
    /// has changed: say so to those who use it, or better do not.
    #[test]
    fn events_are_those_of_all_earlier_versions() {
        let mut out = Vec::new();
        let hour = "2026-03-01T05".parse().unwrap();
        for index in 0..2_000 {
            write(Which { seed: 1, project: 7, hour, index, of: 2_000 }, &mut out);
        }
        let hash: String = Sha256::digest(&out).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, "412b773bf07a95184a8bb4170b8aa1e542b639e3049f4d1083311645b4a7976c");
    }
}

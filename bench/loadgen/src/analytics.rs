//! Product-analytics events in the layout of Amplitude's export API: every
//! field is always there, most are null.

use crate::random::Random;
use crate::text::{self, put, put_time};

const EVENTS: [&str; 8] = [
    "screen viewed",
    "button tapped",
    "lesson opened",
    "exercise answered",
    "search performed",
    "paywall shown",
    "notification received",
    "session ended",
];
const SCREENS: [&str; 7] =
    ["home", "course overview", "lesson player", "profile", "search", "settings", "paywall"];
/// Brand, family, model, system, its version, platform.
const DEVICES: [[&str; 6]; 5] = [
    ["Apple", "Apple iPhone", "iPhone 15", "ios", "17.4.1", "iOS"],
    ["Samsung", "Samsung Galaxy Phone", "SM-S918B", "android", "14", "Android"],
    ["Google", "Google Pixel", "Pixel 8", "android", "14", "Android"],
    ["Apple", "Apple iPad", "iPad Air", "ipados", "17.3", "iOS"],
    ["Xiaomi", "Xiaomi Phone", "2201117TG", "android", "13", "Android"],
];
const TIME: &str = "%Y-%m-%d %H:%M:%S.%6f";

/// Appends one event; `index` counts the events drawn before it.
pub(crate) fn write(out: &mut Vec<u8>, random: &mut Random, at: i64, index: u64) {
    let user = text::user(random);
    let device = DEVICES[(user % 5) as usize];
    let upload = at + 200_000 + random.below(4_000_000) as i64;
    identity(out, random, user);
    time_field(out, "client_event_time", at - 15_000);
    time_field(out, "client_upload_time", upload);
    put(
        out,
        format_args!(
            ",\"country\":\"{}\",\"data_type\":\"event\",\"device_brand\":\"{}\",\"device_carrier\":null,\
             \"device_family\":\"{}\",\"device_id\":\"",
            text::COUNTRIES[(user % 8) as usize],
            device[0],
            device[1]
        ),
    );
    Random::new(user).uuid(out);
    put(
        out,
        format_args!(
            "\",\"device_manufacturer\":null,\"device_model\":\"{}\",\"device_type\":\"{}\",\"dma\":null,\
             \"event_id\":{},",
            device[2],
            device[2],
            index % 5_000
        ),
    );
    what(out, random, at);
    place(out, random, user, device);
    time_field(out, "processed_time", upload + 2_100_000);
    out.extend_from_slice(b",\"region\":null,\"sample_rate\":null");
    time_field(out, "server_received_time", upload + 35_000);
    time_field(out, "server_upload_time", upload + 41_000);
    session(out, random, user, at);
}

fn identity(out: &mut Vec<u8>, random: &mut Random, user: u64) {
    out.extend_from_slice(b"{\"$insert_id\":\"");
    random.uuid(out);
    put(
        out,
        format_args!(
            "\",\"$insert_key\":null,\"$schema\":null,\"adid\":null,\"amplitude_attribution_ids\":null,\
             \"amplitude_event_type\":null,\"amplitude_id\":{},\"app\":412077,\"city\":\"{}\"",
            700_000_000_000 + user,
            text::CITIES[(user % 8) as usize],
        ),
    );
}

fn what(out: &mut Vec<u8>, random: &mut Random, at: i64) {
    let event = random.zipf(EVENTS.len() as u64) as usize;
    let screen = SCREENS[random.zipf(SCREENS.len() as u64) as usize];
    put(out, format_args!("\"event_properties\":{{\"screen\":\"{screen}\""));
    match event {
        1 => put(out, format_args!(",\"button\":\"continue\",\"position\":{}", random.below(6))),
        2 | 3 => put(
            out,
            format_args!(
                ",\"lesson_id\":{},\"correct\":{},\"elapsed_ms\":{}",
                random.zipf(40_000) + 1,
                random.chance(0.7),
                random.below(60_000)
            ),
        ),
        4 => put(
            out,
            format_args!(",\"query\":\"how to say {}\"", random.pick(&["hello", "naïve", "\\\"sí\\\""])),
        ),
        5 => put(out, format_args!(",\"offer\":\"spring-30\",\"price\":{}.99", random.below(90) + 9)),
        _ => {}
    }
    out.extend_from_slice(b"},\"event_time\":\"");
    put_time(out, at, TIME);
    put(
        out,
        format_args!(
            "\",\"event_type\":\"{}\",\"global_user_properties\":null,\"group_properties\":null,\"groups\":null,\
             \"idfa\":null",
            EVENTS[event]
        ),
    );
}

fn place(out: &mut Vec<u8>, random: &mut Random, user: u64, device: [&str; 6]) {
    put(
        out,
        format_args!(
            ",\"ip_address\":\"{}.{}.{}.{}\",\"is_attribution_event\":false,\"language\":\"{}\",\
             \"library\":\"amplitude-flutter/4.2.1\",\"location_lat\":null,\"location_lng\":null,\"os_name\":\"{}\",\
             \"os_version\":\"{}\",\"partner_id\":null,\"paying\":{},\"plan\":null,\"platform\":\"{}\"",
            20 + user % 180,
            user / 7 % 256,
            user / 11 % 256,
            random.below(256),
            text::LANGUAGES[(user % 6) as usize],
            device[3],
            device[4],
            if user.is_multiple_of(9) { "true" } else { "null" },
            device[5],
        ),
    );
}

fn session(out: &mut Vec<u8>, random: &mut Random, user: u64, at: i64) {
    put(
        out,
        format_args!(
            ",\"session_id\":{},\"source_id\":null,\"start_version\":null",
            (at / 1_800_000_000) * 1_800_000 + (user % 1_800_000) as i64
        ),
    );
    time_field(out, "user_creation_time", 1_640_995_200_000_000 + (user as i64) * 61_000_000);
    put(
        out,
        format_args!(
            ",\"user_id\":{},\"user_properties\":{{\"tier\":\"{}\",\"streak\":{},\"course\":\"{}\",\"experiment\":null,\
             \"initial_referrer\":\"https://www.example.com/blog/learn-in-30-days\",\"notifications\":{},\"utm_campaign\":null}}",
            if user.is_multiple_of(4) { String::from("null") } else { format!("\"user-{user}\"") },
            random.pick(&["free", "premium"]),
            random.zipf(400),
            text::LANGUAGES[(user % 6) as usize],
            user.is_multiple_of(2),
        ),
    );
    out.extend_from_slice(b",\"uuid\":\"");
    random.uuid(out);
    put(out, format_args!("\",\"version_name\":\"7.{}.0\"}}", 30 + random.zipf(12)));
}

fn time_field(out: &mut Vec<u8>, name: &str, micros: i64) {
    put(out, format_args!(",\"{name}\":\""));
    put_time(out, micros, TIME);
    out.push(b'"');
}

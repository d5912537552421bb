//! Lesson, payment and account events: one stream, three layouts.

use crate::random::Random;
use crate::text::{self, put};

const DEVICES: [&str; 4] = ["ios", "android", "web", "tablet"];
const PLANS: [&str; 4] = ["monthly", "quarterly", "yearly", "lifetime"];
const CENTS: [u64; 6] = [999, 1299, 2997, 5999, 7999, 29900];
const SIGNUPS: [&str; 4] = ["organic", "invite", "newsletter", "campaign-spring"];

/// Appends one event.
pub(crate) fn write(out: &mut Vec<u8>, random: &mut Random, at: i64) {
    let kind = random.below(100);
    let name = match kind {
        0..=44 => "lesson:started",
        45..=79 => "lesson:finished",
        80..=87 => "payment:order:created",
        88..=94 => "payment:order:completed",
        95..=98 => "account:created",
        _ => "account:removed",
    };
    let user = text::user(random);
    out.extend_from_slice(b"{\"event_uuid\": \"");
    random.uuid(out);
    put(
        out,
        format_args!(
            "\", \"event_name\": \"{name}\", \"created_at\": {}.{:06}, \"user_id\": {user}, \"device\": \"{}\", \
             \"app_version\": \"7.{}.{}\"",
            at / 1_000_000,
            at % 1_000_000,
            DEVICES[(user % 4) as usize],
            30 + random.zipf(12),
            random.below(4),
        ),
    );
    match kind {
        0..=79 => lesson(out, random, kind >= 45),
        80..=94 => {
            let cents = CENTS[random.zipf(CENTS.len() as u64) as usize];
            put(
                out,
                format_args!(
                    ", \"order_id\": {}, \"plan\": \"{}\", \"amount\": {}.{:02}, \"currency\": \"{}\"}}",
                    80_000_000 + random.below(1 << 26),
                    random.pick(&PLANS),
                    cents / 100,
                    cents % 100,
                    random.pick(&["EUR", "USD", "GBP"]),
                ),
            );
        }
        _ => put(out, format_args!(", \"signup_source\": \"{}\"}}", random.pick(&SIGNUPS))),
    }
}

fn lesson(out: &mut Vec<u8>, random: &mut Random, finished: bool) {
    put(
        out,
        format_args!(
            ", \"lesson_id\": {}, \"language\": \"{}\", \"level\": \"{}\"",
            random.zipf(40_000) + 1,
            text::LANGUAGES[random.zipf(6) as usize],
            random.pick(&["a1", "a2", "b1", "b2", "c1"]),
        ),
    );
    if finished {
        put(
            out,
            format_args!(
                ", \"duration_s\": {}.{}, \"score\": {}",
                20 + random.below(900),
                random.below(10),
                random.below(101)
            ),
        );
    }
    out.push(b'}');
}

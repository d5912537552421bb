//! The six times of an event, and how they follow from each other.

use super::Which;
use crate::amplitude::hour::MICROS;
use crate::random::Random;

/// In microseconds since the epoch.
pub(super) struct Times {
    /// When it happened, by the device's clock.
    pub(super) client_event: i64,
    /// When the device sent it, by its clock.
    pub(super) client_upload: i64,
    /// When it happened, as far as the server knows.
    pub(super) event: i64,
    pub(super) received: i64,
    /// The time that an export's window is on.
    pub(super) upload: i64,
    pub(super) processed: i64,
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 24 * MICROS;

impl Times {
    pub(super) fn draw(which: Which, random: &mut Random) -> Self {
        let upload = upload(which, random);
        let mut up_to = |limit: i64| random.below(limit.cast_unsigned()).cast_signed();
        let received = upload - 1_000 - up_to(200_000);
        let processed = upload + 300_000 + up_to(5 * SECOND);
        // Most clocks are right to some seconds, some by hours.
        let skew = match up_to(100) {
            0..88 => up_to(20 * SECOND) - 10 * SECOND,
            88..98 => up_to(4 * MICROS) - 2 * MICROS,
            _ => -up_to(3 * DAY),
        };
        let client_upload = received - 50_000 - up_to(2 * SECOND) + skew;
        // A device without a network keeps its events for hours or days.
        let waited = match up_to(100) {
            0..90 => up_to(30 * SECOND),
            90..98 => MICROS + up_to(71 * MICROS),
            _ => 3 * DAY + up_to(27 * DAY),
        };
        // Clients know milliseconds.
        let client_upload = client_upload.div_euclid(1_000) * 1_000;
        let client_event = (client_upload - waited).div_euclid(1_000) * 1_000;
        // Contract: event_time = client_event_time + (server_received_time −
        // client_upload_time), and not adjusted below a minute.
        let wrong = received - client_upload;
        let event = if wrong.abs() < 60 * SECOND { client_event } else { client_event + wrong };
        Self { client_event, client_upload, event, received, upload, processed }
    }
}

/// Events come evenly over the hour, in the order of their numbers.
fn upload(which: Which, random: &mut Random) -> i64 {
    let hour = MICROS.cast_unsigned();
    let at = |index: u64| (u128::from(hour) * u128::from(index) / u128::from(which.of.max(1))) as u64;
    let (from, to) = (at(which.index), at(which.index + 1));
    let moment = from + random.below((to - from).max(1));
    which.hour.start().micros() + moment.min(hour - 1).cast_signed()
}
